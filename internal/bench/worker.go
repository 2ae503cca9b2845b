package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A command is what a load generator's process is told, one JSON object a line.
type command struct {
	Op string `json:"op"`

	URL     string            `json:"url,omitempty"` // of a provider's client listener
	CA      string            `json:"ca,omitempty"`
	Dir     string            `json:"dir,omitempty"`
	Listen  string            `json:"listen,omitempty"`
	Peers   map[string]string `json:"peers,omitempty"`
	Devices []string          `json:"devices,omitempty"` // names
	Room    mimi.RoomURI      `json:"room,omitempty"`
	Rooms   []mimi.RoomURI    `json:"rooms,omitempty"`
	Users   []mimi.UserURI    `json:"users,omitempty"`
	// KeyPackages, each a TLS vector, of the first users.
	Packages []json.RawMessage `json:"packages,omitempty"`
	Count    int               `json:"count,omitempty"`
	Size     int               `json:"size,omitempty"`
	Window   int               `json:"window,omitempty"` // messages under way on one connection
	Rate     float64           `json:"rate,omitempty"`   // a second; 0: as fast as may be
	Seconds  float64           `json:"seconds,omitempty"`
	Decrypt  bool              `json:"decrypt,omitempty"`
	Each     bool              `json:"each,omitempty"` // answer with every time
	Invite   string            `json:"invite,omitempty"`
	Profile  string            `json:"profile,omitempty"` // file for a CPU profile of the sending
}

// An answer is what it says, one JSON object a line.
type answer struct {
	Error    string            `json:"error,omitempty"`
	Users    []mimi.UserURI    `json:"users,omitempty"`
	Packages []json.RawMessage `json:"packages,omitempty"`
	N        int64             `json:"n,omitempty"`
	Refused  int64             `json:"refused,omitempty"`
	Seconds  float64           `json:"seconds,omitempty"`
	Times    Quantiles         `json:"times,omitzero"`
	Each     []time.Duration   `json:"each,omitempty"`
	Nanos    int64             `json:"nanos,omitempty"` // when it was done
	Bytes    int64             `json:"bytes,omitempty"` // of one request
	CPU      float64           `json:"cpu,omitempty"`   // seconds that sending took this process
	Address  string            `json:"address,omitempty"`
	Domain   string            `json:"domain,omitempty"`
	Why      string            `json:"why,omitempty"` // there are not as many as were asked for
}

// A worker is one process of the load generator.
type worker struct {
	url     string
	api     *clientapi.Client
	invite  string
	tls     *tls.Config
	devices map[string]*device
	foreign *foreign
	count   counter
	decrypt atomic.Bool
	loads   []load // prepared, one for each device
	idle    []*clientapi.Connection
}

// Worker does what the commands on in say and answers on out, until in ends.
func Worker(ctx context.Context, in io.Reader, out io.Writer) error {
	w := &worker{devices: map[string]*device{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	enc := json.NewEncoder(out)
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var c command
		a := new(answer)
		if err = json.Unmarshal(line, &c); err == nil {
			a, err = w.do(ctx, &c)
		}
		if err != nil {
			a = &answer{Error: err.Error()}
		}
		a.Nanos = time.Now().UnixNano()
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
}

func (w *worker) do(ctx context.Context, c *command) (*answer, error) {
	if c.Op != "idle" && c.Op != "foreign" && c.Op != "empty" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
	}
	if c.Profile != "" {
		f, err := os.Create(c.Profile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer pprof.StopCPUProfile()
	}
	switch c.Op {
	case "open":
		return w.open(c)
	case "devices":
		return w.connect(c)
	case "rooms":
		return w.rooms(ctx, c)
	case "add":
		return w.add(ctx, c)
	case "joined":
		return w.joined(ctx, c)
	case "prepare":
		return w.prepare(c)
	case "prepareForeign":
		return w.prepareForeign(ctx, c)
	case "send":
		return w.send(ctx, c)
	case "paced":
		return w.paced(ctx, c)
	case "commits":
		return w.commits(ctx, c)
	case "count":
		return w.counted(c)
	case "idle":
		return w.connections(ctx, c)
	case "foreign":
		return w.become(ctx, c)
	case "users":
		return w.users(c)
	case "federate":
		return w.federate(ctx, c)
	case "empty":
		return w.empty(c)
	case "floor":
		return w.floor(ctx, c)
	}
	return nil, fmt.Errorf("bench: there is no %q", c.Op)
}

func (w *worker) open(c *command) (*answer, error) {
	w.tls, w.invite = &tls.Config{}, c.Invite
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, err
		}
		w.tls.RootCAs = x509.NewCertPool()
		if !w.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", c.CA)
		}
	}
	if c.URL == "" {
		return &answer{}, nil
	}
	var err error
	if w.api, err = clientapi.NewClient(clientapi.ClientConfig{URL: c.URL, Roots: w.tls.RootCAs}); err != nil {
		return nil, err
	}
	w.url = c.URL
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	info, err := w.api.Info(ctx)
	if err != nil {
		return nil, err
	}
	switch info.Registration {
	case "closed":
		return nil, fmt.Errorf("%s takes no new users: set accounts.registration to \"open\", or to \"invite\" and name one with --invite", info.Domain)
	case "invite":
		if w.invite == "" {
			return nil, fmt.Errorf("%s takes new users by invitation: name one with --invite", info.Domain)
		}
	}
	return &answer{Domain: string(info.Domain)}, nil
}

// connect registers devices, each of a user of its own.
func (w *worker) connect(c *command) (*answer, error) {
	ctx := context.Background()
	a := &answer{Users: make([]mimi.UserURI, len(c.Devices))}
	errs := make([]error, len(c.Devices))
	var wg sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, 4)
	for i, name := range c.Devices {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			d, err := connect(ctx, w.api, name, w.invite, max(c.Count, 1), &w.count, &w.decrypt)
			if err != nil {
				errs[i] = err
				return
			}
			a.Users[i] = d.user
			mu.Lock()
			w.devices[name] = d
			mu.Unlock()
			go d.receive(ctx)
		})
	}
	wg.Wait()
	return a, errors.Join(errs...)
}

func (w *worker) device(name string) (*device, error) {
	d := w.devices[name]
	if d == nil {
		return nil, fmt.Errorf("bench: there is no device %s", name)
	}
	if err := d.failed.Load(); err != nil {
		return nil, fmt.Errorf("bench: %s: %w", name, *err)
	}
	return d, nil
}

// foundAtOnce is how many rooms are founded at a time.
const foundAtOnce = 16

// rooms founds rooms by the first device, until time is up.
func (w *worker) rooms(ctx context.Context, c *command) (*answer, error) {
	d, err := w.device(c.Devices[0])
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var mu sync.Mutex
	var failed error
	next := 0
	var wg sync.WaitGroup
	for range min(foundAtOnce, len(c.Rooms)) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				if failed != nil || i >= len(c.Rooms) || c.Seconds > 0 && time.Since(start).Seconds() > c.Seconds {
					mu.Unlock()
					return
				}
				next++
				mu.Unlock()
				if err := d.create(ctx, c.Rooms[i]); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return &answer{N: int64(next), Seconds: time.Since(start).Seconds()}, failed
}

// add brings users into rooms by the first device.
func (w *worker) add(ctx context.Context, c *command) (*answer, error) {
	d, err := w.device(c.Devices[0])
	if err != nil {
		return nil, err
	}
	given := map[mimi.UserURI][]mls.KeyPackage{}
	for i, raw := range c.Packages {
		var b []byte
		if err := json.Unmarshal(raw, &b); err != nil {
			return nil, err
		}
		var k mls.KeyPackage
		if err := tlspl.Unmarshal(b, &k); err != nil {
			return nil, err
		}
		given[c.Users[i]] = []mls.KeyPackage{k}
	}
	start := time.Now()
	for _, uri := range append(c.Rooms, c.Room) {
		if uri == "" {
			continue
		}
		if err := d.add(ctx, uri, c.Users, given); err != nil {
			return nil, err
		}
	}
	return &answer{Seconds: time.Since(start).Seconds()}, nil
}

// joined waits until all devices are in all rooms.
func (w *worker) joined(ctx context.Context, c *command) (*answer, error) {
	for _, name := range c.Devices {
		for _, uri := range append(c.Rooms, c.Room) {
			if uri == "" {
				continue
			}
			d, err := w.device(name)
			if err != nil {
				return nil, err
			}
			if _, err := d.room(ctx, uri); err != nil {
				return nil, err
			}
		}
	}
	return &answer{}, nil
}

func (w *worker) counted(c *command) (*answer, error) {
	// With a Count it waits for so many, for a while.
	for deadline := time.Now().Add(20 * time.Second); w.count.n.Load() < int64(c.Count) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	w.decrypt.Store(c.Decrypt || c.Each)
	a := &answer{}
	var times []time.Duration
	a.N, times = w.count.reset()
	if a.Times = quantiles(times); c.Each {
		a.Each = times
	}
	if w.foreign != nil {
		a.N += w.foreign.count.n.Swap(0)
	}
	return a, nil
}

func (w *worker) become(ctx context.Context, c *command) (*answer, error) {
	peers := map[mimi.ProviderDomain]string{}
	for d, at := range c.Peers {
		peers[mimi.ProviderDomain(d)] = at
	}
	var err error
	w.foreign, err = newForeign(ctx, c.Dir, c.CA, c.Listen, peers)
	return &answer{}, err
}

func (w *worker) users(c *command) (*answer, error) {
	packages, order, err := w.foreign.users(c.Count)
	if err != nil {
		return nil, err
	}
	a := &answer{Users: order}
	for _, u := range order {
		b, err := tlspl.Marshal(&packages[u][0])
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		a.Packages = append(a.Packages, raw)
	}
	return a, nil
}

// empty serves a handler that reads a request and answers 201: what a provider
// could do at most.
func (w *worker) empty(c *command) (*answer, error) {
	pair, err := tls.LoadX509KeyPair(c.Dir+"/"+string(foreignDomain)+".pem", c.Dir+"/"+string(foreignDomain)+"-key.pem")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusCreated)
	})}
	go server.ServeTLS(l, "", "")
	return &answer{Address: l.Addr().String()}, nil
}

// randomBytes returns n of them.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
