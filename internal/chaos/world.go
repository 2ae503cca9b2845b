package chaos

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/internal/cluster"
	"github.com/comity-im/comity/internal/pgserver"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
)

// Options say what to break, and for how long.
type Options struct {
	Dir     string
	Command []string // starts a provider; its config file's name is appended
	Seed    uint64
	Time    time.Duration // of faults
	Log     func(format string, args ...any)
	// Store is the PostgreSQL of the first provider, which then has two nodes;
	// empty: SQLite and one node. Database kills and restarts its server.
	Store    string
	Database *pgserver.Server
	Faults   []string // only those; empty: all
}

// The providers: the hub of the first room, on PostgreSQL if there is one, the hub
// of the second, and one that only follows.
var domains = []string{"a.example", "b.example", "c.example"}

// A world is one run.
type world struct {
	Options
	dir     string
	logs    io.Writer
	cluster *cluster.Cluster
	links   map[[2]string]*proxy // from one provider to another
	doors   map[string]*proxy    // to a provider, from its clients
	wire    *wire                // between the proxies and providers; nil: there can be none here
	members []*member
	rooms   []mimi.RoomURI
	core    []*member // in all rooms, all the time
	churn   []*member // who come and go
	torn    bool      // a provider was restored: histories differ

	mu       sync.Mutex
	counts   map[string]int
	findings []string
	lines    map[string]int // findings by their format
}

// newWorld is a world that has not begun yet.
func newWorld(o Options, logs io.Writer) *world {
	return &world{Options: o, dir: o.Dir, logs: logs, links: map[[2]string]*proxy{}, doors: map[string]*proxy{}, counts: map[string]int{}, lines: map[string]int{}}
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

func (w *world) finding(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// One loss often is hundreds of lines: the first ones say enough.
	if w.lines[format]++; w.lines[format] <= 8 {
		w.findings = append(w.findings, fmt.Sprintf(format, args...))
	} else if w.lines[format] == 9 {
		w.findings = append(w.findings, "and more like it")
	}
}

// A Report is what a run did and found.
type Report struct {
	Seed     uint64
	Took     time.Duration
	Counts   map[string]int // faults, operations and checks
	Findings []string       // what must not be; empty if all is well
	Odd      []string       // repairs and problems that devices told of
}

func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %v\n", r.Seed, r.Took.Round(time.Second))
	for _, k := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, "  %6d  %s\n", r.Counts[k], k)
	}
	for _, s := range r.Odd {
		fmt.Fprintf(&b, "  odd: %s\n", s)
	}
	for _, s := range r.Findings {
		fmt.Fprintf(&b, "  FINDING: %s\n", s)
	}
	return b.String()
}

// Run breaks things for a while, lets everything heal, and checks.
func Run(ctx context.Context, o Options) (*Report, error) {
	logs, err := os.Create(filepath.Join(o.Dir, "devices.log"))
	if err != nil {
		return nil, err
	}
	defer logs.Close()
	w := newWorld(o, logs)
	start := time.Now()
	defer w.stop()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	w.Log("%v: everything is up", time.Since(start).Round(time.Millisecond))
	w.play(ctx)
	w.Log("%v: healing", time.Since(start).Round(time.Millisecond))
	if err := w.heal(ctx); err != nil {
		return nil, err
	}
	w.check(ctx)
	return w.report(start), nil
}

func (w *world) start(ctx context.Context) (err error) {
	if w.wire, err = newWire(w.Seed); err != nil {
		w.Log("skipped: faults of single packets: %v", err)
	}
	err = nil
	own := map[string]string{}
	if w.Store != "" {
		own[domains[0]] = fmt.Sprintf("store = %q", w.Store)
	}
	w.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: w.Dir, Domains: domains, Command: w.Command, Own: own, Tables: "[limits]\npeer_per_second = 10000.0\npeer_burst = 10000\nkeys_per_requester = 100000\n",
		Via: func(from, to, address string) string {
			over, err2 := w.over(address)
			if err2 != nil {
				err = err2
				return address
			}
			p, err2 := newProxy(w.Seed, over)
			if err2 != nil {
				err = err2
				return address
			}
			w.links[[2]string{from, to}] = p
			return p.addr()
		},
	})
	if err != nil {
		return err
	}
	for _, p := range w.cluster.Providers {
		d, err := newProxy(w.Seed, p.Clients)
		if err != nil {
			return err
		}
		w.doors[p.Domain] = d
	}
	if w.Store != "" {
		n, err := w.cluster.Provider(domains[0]).Node(ctx, "node2")
		if err != nil {
			return err
		}
		w.doors[domains[0]].add(n.Clients)
		for to, p := range w.links {
			if to[1] == domains[0] {
				over, err := w.over(n.Federation)
				if err != nil {
					return err
				}
				p.add(over)
			}
		}
	}
	for i, name := range []string{"alice", "bob", "cathy", "ann", "ben"} {
		domain := domains[i%len(domains)]
		_, port, _ := strings.Cut(w.doors[domain].addr(), ":")
		m, err := w.member(ctx, name, domain, "https://localhost:"+port)
		if err != nil {
			return err
		}
		w.members = append(w.members, m)
	}
	w.core, w.churn = w.members[:3], w.members[3:]
	for i, founder := range w.core[:2] {
		room, err := founder.client.CreateRoom(ctx, client.NewRoom{Name: fmt.Sprintf("room%d", i), Preset: policy.Cooperative})
		if err != nil {
			return err
		}
		w.rooms = append(w.rooms, room)
		for _, m := range w.members {
			if m == founder {
				continue
			}
			if err := founder.client.Add(ctx, room, m.user, ""); err != nil {
				return err
			}
		}
		for _, m := range w.members {
			if err := w.until(ctx, 30*time.Second, func() bool {
				r, err := m.client.Room(ctx, room)
				return err == nil && r.Standing == client.Joined
			}); err != nil {
				return fmt.Errorf("%s does not come into %s: %w", m.name, room, err)
			}
		}
	}
	return nil
}

// over is an address as it is reached over the wire, if there is one.
func (w *world) over(address string) (string, error) {
	if w.wire == nil {
		return address, nil
	}
	return w.wire.forward(address)
}

func (w *world) stop() {
	for _, m := range w.members {
		m.stop()
		m.db.Close()
	}
	if w.cluster != nil {
		w.cluster.Stop()
	}
	for _, p := range w.links {
		p.close()
	}
	for _, p := range w.doors {
		p.close()
	}
	if w.wire != nil {
		w.wire.close()
	}
}

// until waits until something holds.
func (w *world) until(ctx context.Context, patience time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// play lets devices work and things break for the time of the run.
func (w *world) play(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.Time)
	defer cancel()
	var wg sync.WaitGroup
	for i, m := range w.members {
		r := rand.New(rand.NewPCG(w.Seed, uint64(100+i)))
		wg.Go(func() { w.live(ctx, m, r) })
	}
	w.faults(ctx, rand.New(rand.NewPCG(w.Seed, 1)))
	<-ctx.Done()
	wg.Wait()
}

// operationTime is how long a device waits for one of its own changes.
const operationTime = 10 * time.Second

// live is what one device does: it mostly writes.
func (w *world) live(ctx context.Context, m *member, r *rand.Rand) {
	outer := context.WithoutCancel(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(20+r.IntN(180)) * time.Millisecond):
		}
		room := w.rooms[r.IntN(len(w.rooms))]
		what, crash, late := r.IntN(100), r.IntN(150) == 0, r.IntN(2) == 0
		other := w.churn[r.IntN(len(w.churn))]
		writes := 1 + r.IntN(12)
		if err := m.revive(outer); err != nil {
			w.finding("%v", err)
			return
		}
		if crash {
			m.store.crashAfter(writes, late)
		}
		short, cancel := context.WithTimeout(outer, operationTime)
		switch {
		case what < 90:
			m.send(short, room)
		case what < 93:
			w.did("key update", m, room, m.client.Commit(short, room))
		case slices.Contains(w.churn, m) && what < 99:
		case slices.Contains(w.churn, m):
			w.did("leave", m, room, m.client.Leave(short, room))
		case what < 94:
			w.did("remove", m, room, m.client.Remove(short, room, other.user))
		default:
			w.did("add", m, room, m.client.Add(short, room, other.user, ""))
		}
		cancel()
	}
}

// did counts what came of an operation.
func (w *world) did(what string, m *member, room mimi.RoomURI, err error) {
	w.count(what + ": " + kind(err))
	if err != nil {
		fmt.Fprintf(w.logs, "%s %s %s in %s: %v\n", time.Now().Format("15:04:05.000"), m.name, what, room, err)
	}
}

// healTime is how long everything may take to settle once nothing is broken any
// more. The longest wait between two tries is a minute.
const healTime = 150 * time.Second

// heal ends all faults and waits until nobody has anything left to do.
func (w *world) heal(ctx context.Context) error {
	w.rain(weather{})
	for _, p := range w.links {
		p.set(mood{})
	}
	for _, p := range w.doors {
		p.set(mood{})
	}
	for _, p := range w.cluster.Providers {
		w.clock(p, 0)
		w.disk(p, 0)
		if pr := p.Process(); p.Up() {
			pr.Signal(syscall.SIGCONT)
			unlimit(pr.Pid)
			continue
		}
		p.Kill() // if it ended by itself
		if err := p.Restart(ctx); err != nil {
			return err
		}
	}
	for _, m := range w.members {
		m.store.crashAfter(-1, false)
		if err := m.revive(ctx); err != nil {
			return err
		}
	}
	var why string
	err := w.until(ctx, healTime, func() bool {
		why = w.unsettled(ctx)
		return why == ""
	})
	if err != nil && ctx.Err() == nil {
		w.finding("not settled %v after the last fault: %s", healTime, why)
		return nil
	}
	return err
}

// unsettled says who is not done yet.
func (w *world) unsettled(ctx context.Context) string {
	for _, room := range w.rooms {
		var first client.Room
		for i, m := range w.members {
			r, err := m.client.Room(ctx, room)
			if err != nil {
				return fmt.Sprintf("%s: %v", m.name, err)
			}
			if i == 0 {
				first = r
			}
			switch {
			case r.Standing == client.Joined && (r.Outbox > 0 || r.Pending > 0 || r.Repair != ""):
				return fmt.Sprintf("%s in %s: %d messages to send, %d proposals pending, repair %q", m.name, room, r.Outbox, r.Pending, r.Repair)
			case r.Standing == client.Joined && r.Authenticator != first.Authenticator:
				return fmt.Sprintf("%s is in epoch %d of %s, %s in epoch %d", m.name, r.Epoch, room, w.members[0].name, first.Epoch)
			case r.Standing == client.Leaving:
				return fmt.Sprintf("%s is still leaving %s", m.name, room)
			case r.Standing != client.Joined && (w.torn || i < len(w.core)):
				return fmt.Sprintf("%s is out of %s: %s %s", m.name, room, r.Standing, r.Why)
			}
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		for _, m := range w.members {
			if err := m.client.Idle(short); err != nil {
				cancel()
				return fmt.Sprintf("%s is busy", m.name)
			}
		}
		cancel()
		if why := w.differ(ctx, room); why != "" && !w.torn {
			return why
		}
	}
	return ""
}

// differ says which devices don't show the same newest message yet.
func (w *world) differ(ctx context.Context, room mimi.RoomURI) string {
	last := ""
	for i, m := range w.core {
		texts, err := m.texts(ctx, room)
		if err != nil {
			return err.Error()
		}
		end := fmt.Sprint(len(texts))
		if len(texts) > 0 {
			end += texts[len(texts)-1]
		}
		if i > 0 && end != last {
			return fmt.Sprintf("%s shows another end of %s than %s", m.name, room, w.core[i-1].name)
		}
		last = end
	}
	return ""
}
