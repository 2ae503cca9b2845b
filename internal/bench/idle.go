package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/internal/pgserver"
)

const (
	// portsOfAddress is how many connections go from one address: there are about
	// 28,000 ports to go from.
	portsOfAddress = 20_000
	// keptFiles is how many of the files that a process may have open are not for
	// connections.
	keptFiles = 200
	// openAtOnce is how many connections are opened at a time.
	openAtOnce = 32
)

// A node is one of the hub's processes, and the load generator with its clients.
type node struct {
	*target
	load   *process
	device string
}

// idle: connections on which nothing happens.
func (r *run) idle() error {
	if r.Nodes > 1 {
		server, err := pgserver.New("") // not below Dir, which is not open to the user that it may have to run as
		if err != nil {
			return fmt.Errorf("%d nodes need a PostgreSQL: %w", r.Nodes, err)
		}
		defer server.Close()
		if r.store, err = server.Create(r.ctx, "bench"); err != nil {
			return err
		}
		defer func() {
			r.stop() // before their database
			r.store = ""
		}()
	}
	if err := r.start(0, 0); err != nil {
		return err
	}
	nodes := []node{{r.hub, r.hubLoad(), r.senders[0]}}
	for i := 2; i <= r.Nodes; i++ {
		n, err := r.node(i)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	memory := func() (sum int64) {
		for _, n := range nodes {
			collected(r.ctx, n.admin)
			sum += n.usage(r.ctx).rss
		}
		return sum
	}
	for _, n := range nodes {
		if _, err := n.load.do(command{Op: "devices", Devices: []string{n.device}, Count: 1}); err != nil {
			return err
		}
	}
	before := memory()
	var opened int64
	var seconds float64
	var why string
	for i, n := range nodes {
		count := r.Idle/len(nodes) + min(1, max(0, r.Idle%len(nodes)-i))
		a, err := n.load.do(command{Op: "idle", Devices: []string{n.device}, Count: count, Seconds: openFor})
		if err != nil {
			return err
		}
		opened, seconds = opened+a.N, seconds+a.Seconds
		if why == "" {
			why = a.Why
		}
		r.say("  %d connections are open", opened)
	}
	what, at := fmt.Sprintf("connections opened, %d", opened), ""
	if why != "" {
		what += fmt.Sprintf(" of the %d asked for: %s", r.Idle, why)
	}
	if len(nodes) > 1 {
		at = fmt.Sprintf(" at %d nodes", len(nodes))
	}
	r.add(Figure{Scenario: "idle", What: what + at, Value: float64(opened) / seconds, Unit: "connections/s"})
	time.Sleep(time.Second)
	memory()
	time.Sleep(time.Second)
	if rss := memory(); rss > 0 {
		r.add(Figure{Scenario: "idle", What: fmt.Sprintf("the hub's memory per connection, of %d", opened) + at, Value: max(0, float64(rss-before)) / 1024 / float64(opened), Unit: "KiB", Aim: "≤ 30"})
	}
	used, err := r.measured("idle", func() error {
		time.Sleep(time.Duration(r.Seconds * float64(time.Second)))
		return nil
	})
	cpu := 0.0
	for _, n := range nodes {
		cpu += used["provider "+n.domain]
	}
	if cpu > 0 {
		r.add(Figure{Scenario: "idle", What: "the hub's CPU time meanwhile" + at, Value: 100 * cpu / r.Seconds, Unit: "% of one core"})
	}
	return err
}

// node starts the hub's node i, from 2, and a load generator for it.
func (r *run) node(i int) (node, error) {
	name := fmt.Sprintf("node%d", i)
	p, err := r.hub.Node(r.ctx, name)
	if err != nil {
		return node{}, err
	}
	t := &target{Provider: p, domain: p.Domain + " " + name, admin: "http://" + p.Admin}
	r.targets = append(r.targets, t)
	w, err := r.worker(t.domain)
	if err != nil {
		return node{}, err
	}
	_, err = w.do(command{Op: "open", URL: p.ClientURL(), CA: r.cluster.CAFile})
	return node{t, w, fmt.Sprintf("n%d%s", i, r.suffix)}, err
}

// openFiles is how many files a process may have open; the Go runtime raises its
// own limit to the hard one. 0: not known.
func openFiles() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Max, 1<<30))
}

// connections opens connections of the first device that do nothing, as many as
// are asked for, or as the limit of open files and the time allow.
func (w *worker) connections(ctx context.Context, c *command) (*answer, error) {
	d, err := w.device(c.Devices[0])
	if err != nil {
		return nil, err
	}
	a := &answer{}
	count := c.Count
	if files := openFiles(); files > 0 && count > files-keptFiles {
		count = max(files-keptFiles, 1)
		a.Why = fmt.Sprintf("a process may have %d files open here", files)
	}
	start := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	slots := make(chan struct{}, openAtOnce)
	var api *clientapi.Client
	for i := range count {
		if i%portsOfAddress == 0 {
			if api, err = w.from(d.api, i/portsOfAddress); err != nil {
				return nil, err
			}
		}
		slots <- struct{}{}
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			break
		}
		if c.Seconds > 0 && time.Since(start).Seconds() > c.Seconds {
			a.Why = fmt.Sprintf("no more were opened within %.0f s", c.Seconds)
			break
		}
		api := api
		wg.Go(func() {
			defer func() { <-slots }()
			conn, err := api.Connect(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			w.idle = append(w.idle, conn)
			go func() {
				for {
					if _, err := conn.Next(ctx); err != nil {
						return
					}
				}
			}()
		})
	}
	wg.Wait()
	a.N, a.Seconds = int64(len(w.idle)), time.Since(start).Seconds()
	if failed != nil && a.N > 0 {
		a.Why, failed = failed.Error(), nil
	}
	return a, failed
}

// from is a client that connects from the n-th loopback address, so that each has
// its own ports; the client itself where the provider is on another machine.
func (w *worker) from(api *clientapi.Client, n int) (*clientapi.Client, error) {
	u, err := url.Parse(w.url)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(u.Hostname())
	if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) || n == 0 {
		return api, nil
	}
	if n > 250 {
		return nil, errors.New("bench: more connections than loopback addresses that are used")
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n+1))}}
	other, err := clientapi.NewClient(clientapi.ClientConfig{URL: w.url, Roots: w.tls.RootCAs, Dial: dialer.DialContext})
	if err != nil {
		return nil, err
	}
	return other.WithToken(api.Token()), nil
}
