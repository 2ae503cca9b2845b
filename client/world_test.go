package client_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/provider"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

// world is some providers in this process, which reach each other directly, and
// the devices of their users.
type world struct {
	t         *testing.T
	ctx       context.Context
	providers map[mimi.ProviderDomain]*provider.Provider
	stores    map[mimi.ProviderDomain]*store.Store

	ahead   atomic.Int64 // how far the clocks are ahead, in nanoseconds
	mu      sync.Mutex
	devices []*device
	ends    map[mimi.ProviderDomain]func() // stop a provider
	down    map[mimi.ProviderDomain]bool   // can't be reached by other providers
	// forge is what a hub makes of events on their way to a follower; nil: nothing.
	forge  func(to mimi.ProviderDomain, list []mimi.FanoutMessage) []mimi.FanoutMessage
	adjust func(*provider.Config) // settings; nil: the defaults
	bend   func(of mimi.ProviderDomain, answer any)
	tap    func(to mimi.ProviderDomain, req *mimi.NotifyRequest) // is shown what hubs send; may be nil
}

// Peer is a provider as another one reaches it.
func (w *world) Peer(d mimi.ProviderDomain) mimi.Hub { return &peer{w.provider(d), w, d} }

func (w *world) Issuers(_ context.Context, d mimi.ProviderDomain) ([]*x509.Certificate, error) {
	p := w.provider(d)
	if p == nil {
		return nil, fmt.Errorf("there is no %s", d)
	}
	doc, err := p.IssuersDocument()
	if err != nil {
		return nil, err
	}
	return identity.ParseIssuers(doc, d)
}

func (w *world) GatewayKeys(context.Context, mimi.ProviderDomain) ([]byte, error) {
	return nil, errors.New("there is no gateway in this world")
}

func (w *world) Relay(context.Context, mimi.ProviderDomain, []byte) ([]byte, error) {
	return nil, errors.New("there is no gateway in this world")
}

// newWorld starts a provider for each domain.
func newWorld(t *testing.T, domains ...mimi.ProviderDomain) *world {
	return newWorldWith(t, nil, domains...)
}

// newWorldWith is newWorld with changed settings.
func newWorldWith(t *testing.T, adjust func(*provider.Config), domains ...mimi.ProviderDomain) *world {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	w := &world{t: t, ctx: ctx, providers: map[mimi.ProviderDomain]*provider.Provider{}, stores: map[mimi.ProviderDomain]*store.Store{},
		down: map[mimi.ProviderDomain]bool{}}
	logger := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w.ends, w.adjust = map[mimi.ProviderDomain]func(){}, adjust
	for _, d := range domains {
		s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "provider.db"))
		if err != nil {
			t.Fatal(err)
		}
		w.run(d, s, logger)
	}
	t.Cleanup(func() {
		cancel()
		for _, end := range w.ends {
			end()
		}
	})
	return w
}

// run runs a provider on a database.
func (w *world) run(d mimi.ProviderDomain, s *store.Store, logger *slog.Logger) {
	w.t.Helper()
	cfg := provider.Config{Domain: d, Store: s, Peers: w, Now: w.now, Logger: logger.With("provider", d)}
	if w.adjust != nil {
		w.adjust(&cfg)
	}
	p, err := provider.New(w.ctx, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.providers[d], w.stores[d] = p, s
	w.ends[d] = func() {
		cancel()
		<-done
		s.Close()
	}
}

// now is the time by everybody's clock.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// provider is the one that runs for a domain now.
func (w *world) provider(d mimi.ProviderDomain) *provider.Provider {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.providers[d]
}

// restore lets a provider go on with a backup of its database.
func (w *world) restore(d mimi.ProviderDomain, backup string) {
	w.t.Helper()
	for _, dev := range w.devices {
		if dev.User().Host() == d {
			dev.link.setCut(true)
		}
	}
	w.ends[d]()
	s, err := sqlite.Open(w.ctx, backup)
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(d, s, slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn})))
	for _, dev := range w.devices {
		if dev.User().Host() == d {
			dev.link.mu.Lock()
			dev.link.svc = w.provider(d).Clients()
			dev.link.mu.Unlock()
			dev.link.setCut(false)
		}
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	defer func() { recover() }() // a line after the test's end is lost
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// device is a device of a user, running.
type device struct {
	*client.Client
	w     *world
	name  string
	store client.Store
	link  *link
	stop  func()
	delay func() time.Duration      // before it commits; nil: as the room says
	clock atomic.Pointer[time.Time] // where its clock stands still; nil: it goes

	mu     sync.Mutex
	events []client.Event
	more   chan struct{}
}

// device registers a user's first device, or logs in with another one, and runs
// it. name is such as alice@a.example/phone.
func (w *world) device(name string) *device {
	w.t.Helper()
	return w.deviceIn(name, client.NewMemory())
}

func (w *world) deviceIn(name string, store client.Store) *device {
	w.t.Helper()
	user, rest, _ := strings.Cut(name, "@")
	domain, dev, _ := strings.Cut(rest, "/")
	svc := w.providers[mimi.ProviderDomain(domain)].Clients()
	login := clientapi.Login{User: user, Password: "correct horse", Device: dev}
	s, err := svc.Register(w.ctx, login)
	var e *clientapi.Error
	if errors.As(err, &e) && e.Code == clientapi.CodeConflict {
		s, err = svc.Login(w.ctx, login)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if err := client.SaveSession(w.ctx, store, client.Session{Session: s}); err != nil {
		w.t.Fatal(err)
	}
	d := &device{w: w, name: name, store: store, more: make(chan struct{}), delay: soon}
	d.link = &link{svc: svc, dev: clientapi.Device{User: s.User, Client: s.Client}, insert: make(chan clientapi.Event)}
	d.start()
	w.mu.Lock()
	w.devices = append(w.devices, d)
	w.mu.Unlock()
	return d
}

func soon() time.Duration { return rand.N(30 * time.Millisecond) }

// start runs the device and waits until it is in step.
func (d *device) start() {
	d.w.t.Helper()
	d.launch()
	if err := d.Synced(d.w.ctx); err != nil {
		d.w.t.Fatal(d.name, err)
	}
}

// now is the time by the device's clock.
func (d *device) now() time.Time {
	if at := d.clock.Load(); at != nil {
		return *at
	}
	return d.w.now()
}

func (d *device) launch() {
	d.w.t.Helper()
	c, err := client.Open(d.w.ctx, client.Config{
		Store: d.store, Provider: d.link, Notify: d.note, Now: d.now,
		CommitDelay: d.delay,
		Logger:      slog.New(slog.NewTextHandler(testWriter{d.w.t}, nil)).With("device", d.name),
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	d.Client = c
	ctx, cancel := context.WithCancel(d.w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil && d.w.ctx.Err() == nil {
			d.w.t.Logf("%s stopped: %v", d.name, err)
		}
	}()
	d.stop = func() {
		cancel()
		<-done
	}
	d.w.t.Cleanup(d.stop)
}

func (d *device) note(e client.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.w.t.Logf("%s: %s", d.name, e.Line())
	d.events = append(d.events, e)
	close(d.more)
	d.more = make(chan struct{})
}

// wait waits for an event.
func (d *device) wait(what string, ok func(*client.Event) bool) client.Event {
	d.w.t.Helper()
	for {
		d.mu.Lock()
		i := slices.IndexFunc(d.events, func(e client.Event) bool { return ok(&e) })
		more := d.more
		if i >= 0 {
			e := d.events[i]
			d.mu.Unlock()
			return e
		}
		d.mu.Unlock()
		select {
		case <-more:
		case <-time.After(40 * time.Second):
			d.w.t.Fatalf("%s waits in vain for %s", d.name, what)
		}
	}
}

func (d *device) waitKind(kind client.EventKind) client.Event {
	d.w.t.Helper()
	return d.wait(string(kind), func(e *client.Event) bool { return e.Kind == kind })
}

func (d *device) waitText(text string) client.Event {
	d.w.t.Helper()
	return d.wait(fmt.Sprintf("%q", text), func(e *client.Event) bool { return e.Kind == client.EventMessage && e.Message.Text == text })
}

// waitRoom waits until a room is as it should be.
func (d *device) waitRoom(uri mimi.RoomURI, what string, ok func(client.Room) bool) client.Room {
	d.w.t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		r, err := d.Room(d.w.ctx, uri)
		if err == nil && ok(r) {
			return r
		}
		if time.Now().After(deadline) {
			d.w.t.Fatalf("%s waits in vain for %s; the room is %+v (%v)", d.name, what, r, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// say sends a message and waits for the hub to accept it.
func (d *device) say(uri mimi.RoomURI, text string) {
	d.w.t.Helper()
	id, err := d.Send(d.w.ctx, uri, text)
	if err == nil {
		err = d.Sent(d.w.ctx, uri, id)
	}
	if err != nil {
		d.w.t.Fatalf("%s says %q: %v", d.name, text, err)
	}
}

func (d *device) texts(uri mimi.RoomURI) []string {
	d.w.t.Helper()
	items, err := d.History(d.w.ctx, uri, client.HistoryOptions{Peek: true})
	if err != nil {
		d.w.t.Fatal(err)
	}
	var out []string
	for _, i := range items {
		out = append(out, i.Message.Text)
	}
	return out
}

// link is a device's session at a provider in this process. It can be cut, and
// lose answers.
type link struct {
	svc clientapi.Service
	dev clientapi.Device

	mu     sync.Mutex
	cut    bool
	before func(operation string)                  // is called before the provider is asked
	lose   func(operation string) bool             // the provider does it, the answer is lost
	tamper func(clientapi.Event) []clientapi.Event // what becomes of an event on its way; nil: nothing
	insert chan clientapi.Event                    // events that the provider did not send
	conns  map[*localConnection]bool
}

var errCut = clientapi.Errorf(clientapi.CodeUnreachable, "the line is cut")

func (l *link) begin(op string) error {
	l.mu.Lock()
	cut, before := l.cut, l.before
	l.mu.Unlock()
	if before != nil {
		before(op)
	}
	if cut {
		return fmt.Errorf("%s: %w", op, errCut)
	}
	return nil
}

func call[T any](l *link, op string, f func() (T, error)) (T, error) {
	var none T
	if err := l.begin(op); err != nil {
		return none, err
	}
	v, err := f()
	l.mu.Lock()
	lose := l.lose
	l.mu.Unlock()
	if lose != nil && lose(op) {
		return none, errCut
	}
	return v, err
}

// setCut cuts the line, with the connections over it, or mends it.
func (l *link) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for c := range l.conns {
			c.cancel()
		}
	}
}

func (l *link) Info(ctx context.Context) (clientapi.Info, error) {
	return call(l, "info", func() (clientapi.Info, error) { return l.svc.Info(ctx) })
}
func (l *link) Devices(ctx context.Context) ([]clientapi.DeviceInfo, error) {
	return l.svc.Devices(ctx, l.dev)
}
func (l *link) RemoveDevice(ctx context.Context, c mimi.ClientURI) error {
	return l.svc.RemoveDevice(ctx, l.dev, c)
}
func (l *link) CheckPassword(ctx context.Context, password string) error {
	return l.svc.CheckPassword(ctx, l.dev, password)
}
func (l *link) DeleteAccount(ctx context.Context, password string) error {
	return l.svc.DeleteAccount(ctx, l.dev, password)
}
func (l *link) Certify(ctx context.Context, r *identity.CertificateRequest) (*mls.Credential, error) {
	return l.svc.Certify(ctx, l.dev, r)
}
func (l *link) Issuers(ctx context.Context, d mimi.ProviderDomain) (clientapi.Issuers, error) {
	return call(l, "issuers", func() (clientapi.Issuers, error) { return l.svc.Issuers(ctx, l.dev, d) })
}
func (l *link) Stock(ctx context.Context) (clientapi.Stock, error) {
	return call(l, "stock", func() (clientapi.Stock, error) { return l.svc.Stock(ctx, l.dev) })
}
func (l *link) AddKeyPackages(ctx context.Context, list []mls.KeyPackage) (clientapi.Stock, error) {
	return l.svc.AddKeyPackages(ctx, l.dev, list)
}
func (l *link) CreateRoom(ctx context.Context, room mimi.RoomURI, r *clientapi.CreateRoomRequest) (*clientapi.CreateRoomResponse, error) {
	return call(l, "createRoom", func() (*clientapi.CreateRoomResponse, error) { return l.svc.CreateRoom(ctx, l.dev, room, r) })
}
func (l *link) Rooms(ctx context.Context) ([]clientapi.RoomInfo, error) {
	return call(l, "rooms", func() ([]clientapi.RoomInfo, error) { return l.svc.Rooms(ctx, l.dev) })
}
func (l *link) LeaveRoom(ctx context.Context, room mimi.RoomURI, read int64) error {
	_, err := call(l, "leaveRoom", func() (struct{}, error) { return struct{}{}, l.svc.LeaveRoom(ctx, l.dev, room, read) })
	return err
}
func (l *link) KeyMaterial(ctx context.Context, u mimi.UserURI, r *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	return call(l, "keyMaterial", func() (*mimi.KeyMaterialResponse, error) { return l.svc.KeyMaterial(ctx, l.dev, u, r) })
}
func (l *link) Update(ctx context.Context, room mimi.RoomURI, r *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	return call(l, "update", func() (*mimi.UpdateRoomResponse, error) { return l.svc.Update(ctx, l.dev, room, r) })
}
func (l *link) SubmitMessage(ctx context.Context, room mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	return call(l, "submitMessage", func() (*mimi.SubmitMessageResponse, error) { return l.svc.SubmitMessage(ctx, l.dev, room, r) })
}
func (l *link) GroupInfo(ctx context.Context, room mimi.RoomURI, r *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	return call(l, "groupInfo", func() (*mimi.GroupInfoResponse, error) { return l.svc.GroupInfo(ctx, l.dev, room, r) })
}
func (l *link) ReportAbuse(ctx context.Context, room mimi.RoomURI, r *mimi.AbuseReport) error {
	return l.svc.ReportAbuse(ctx, l.dev, room, r)
}
func (l *link) IdentifierQuery(ctx context.Context, d mimi.ProviderDomain, r *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	return l.svc.IdentifierQuery(ctx, l.dev, d, r)
}
func (l *link) Consents(ctx context.Context) ([]clientapi.Consent, error) {
	return l.svc.Consents(ctx, l.dev)
}
func (l *link) ReportConsent(ctx context.Context, r clientapi.ConsentReport) error {
	return l.svc.ReportConsent(ctx, l.dev, r)
}
func (l *link) ChangeConsent(ctx context.Context, c clientapi.ConsentChange) error {
	return l.svc.ChangeConsent(ctx, l.dev, c)
}
func (l *link) Profile(ctx context.Context) ([]clientapi.ProfileField, error) {
	return l.svc.Profile(ctx, l.dev)
}
func (l *link) SetProfileField(ctx context.Context, f clientapi.ProfileField) error {
	return l.svc.SetProfileField(ctx, l.dev, f)
}
func (l *link) DropProfileField(ctx context.Context, source uint8, name string) error {
	return l.svc.DropProfileField(ctx, l.dev, source, name)
}
func (l *link) JoinCodes(ctx context.Context, room mimi.RoomURI) ([]clientapi.JoinCode, error) {
	return l.svc.JoinCodes(ctx, l.dev, room)
}
func (l *link) CreateJoinCode(ctx context.Context, room mimi.RoomURI, c clientapi.JoinCode) (clientapi.JoinCode, error) {
	return l.svc.CreateJoinCode(ctx, l.dev, room, c)
}
func (l *link) RevokeJoinCode(ctx context.Context, room mimi.RoomURI, code string) error {
	return l.svc.RevokeJoinCode(ctx, l.dev, room, code)
}
func (l *link) UploadAsset(ctx context.Context, kind string, size int64, body io.Reader) (clientapi.Asset, error) {
	return l.svc.UploadAsset(ctx, l.dev, kind, size, body)
}
func (l *link) DownloadAsset(ctx context.Context, room mimi.RoomURI, url string, part clientapi.Range) (io.ReadCloser, error) {
	return l.svc.DownloadAsset(ctx, l.dev, room, url, part)
}

func (l *link) GatewayKeys(ctx context.Context, hub mimi.ProviderDomain) ([]byte, error) {
	return l.svc.GatewayKeys(ctx, l.dev, hub)
}
func (l *link) Relay(ctx context.Context, hub mimi.ProviderDomain, message []byte) ([]byte, error) {
	return l.svc.Relay(ctx, l.dev, hub, message)
}

type localConnection struct {
	l      *link
	sub    clientapi.Subscription
	ctx    context.Context
	cancel context.CancelFunc
	next   chan arrival
}

// arrival is what Subscription.Next gave.
type arrival struct {
	list []clientapi.Event
	err  error
}

func (l *link) Connect(ctx context.Context) (client.Connection, error) {
	if err := l.begin("connect"); err != nil {
		return nil, err
	}
	sub, err := l.svc.Subscribe(ctx, l.dev)
	if err != nil {
		return nil, err
	}
	c := &localConnection{l: l, sub: sub}
	c.ctx, c.cancel = context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[*localConnection]bool{}
	}
	l.conns[c] = true
	return c, nil
}

func (c *localConnection) Next(context.Context) ([]clientapi.Event, error) {
	if c.next == nil {
		c.next = make(chan arrival)
		go func() {
			for {
				list, err := c.sub.Next(c.ctx)
				select {
				case c.next <- arrival{list, err}:
				case <-c.ctx.Done():
					return
				}
				if err != nil {
					return
				}
			}
		}()
	}
	select {
	case e := <-c.l.insert:
		return []clientapi.Event{e}, nil
	case n := <-c.next:
		if c.ctx.Err() != nil {
			return nil, errCut
		}
		c.l.mu.Lock()
		tamper := c.l.tamper
		c.l.mu.Unlock()
		if tamper == nil || n.err != nil {
			return n.list, n.err
		}
		var out []clientapi.Event
		for _, e := range n.list {
			out = append(out, tamper(e)...)
		}
		return out, nil
	case <-c.ctx.Done():
		return nil, errCut
	}
}
func (c *localConnection) Ack(ctx context.Context, room mimi.RoomURI, seq int64) error {
	return c.sub.Ack(ctx, room, seq)
}
func (c *localConnection) Submit(ctx context.Context, room mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	return c.l.SubmitMessage(ctx, room, r)
}
func (c *localConnection) Close() error {
	c.cancel()
	c.sub.Close()
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	delete(c.l.conns, c)
	return nil
}
