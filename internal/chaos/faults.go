package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/comity-im/comity/internal/cluster"
)

func itoa(i int) string { return strconv.Itoa(i) }

// A fault breaks something and mends it again.
type fault struct {
	name string
	do   func(ctx context.Context, w *world, r *rand.Rand)
}

// pause waits; faults are mended by heal if the run ends meanwhile.
func pause(ctx context.Context, least, most time.Duration, r *rand.Rand) {
	select {
	case <-ctx.Done():
	case <-time.After(least + time.Duration(r.Int64N(int64(most-least)))):
	}
}

// down ends a process in some way and starts it again after a while.
func down(ctx context.Context, w *world, p *cluster.Provider, r *rand.Rand, end func()) {
	end()
	pause(ctx, 0, 2*time.Second, r)
	if err := p.Start(ctx); err != nil {
		w.finding("%s does not start: %v", p.Domain, err)
		return
	}
	if r.IntN(4) == 0 { // killed while it starts
		pause(ctx, 0, 300*time.Millisecond, r)
		p.Kill()
		if err := p.Start(ctx); err != nil {
			w.finding("%s does not start: %v", p.Domain, err)
			return
		}
	}
	if err := p.Ready(context.WithoutCancel(ctx)); err != nil && ctx.Err() == nil {
		w.finding("%v", err)
	}
}

// on makes a fault of one process at random.
func on(f func(ctx context.Context, w *world, p *cluster.Provider, r *rand.Rand)) func(context.Context, *world, *rand.Rand) {
	return func(ctx context.Context, w *world, r *rand.Rand) {
		f(ctx, w, w.cluster.Providers[r.IntN(len(w.cluster.Providers))], r)
	}
}

// between makes a fault of the network from one provider to another, or from the
// clients to one, with a mood for a while.
func between(m mood) func(context.Context, *world, *rand.Rand) {
	return func(ctx context.Context, w *world, r *rand.Rand) {
		p := w.network(r)
		p.set(m)
		if m.refuse {
			p.reset()
		}
		pause(ctx, time.Second, 4*time.Second, r)
		p.set(mood{})
		if m.hole || m.mute {
			p.reset() // a middlebox that forgot; else nobody hears for minutes
		}
	}
}

// network is one way through the network: mostly from a provider to another.
func (w *world) network(r *rand.Rand) *proxy {
	from, to := r.IntN(3), r.IntN(3)
	if from == to {
		return w.doors[domains[from]]
	}
	return w.links[[2]string{domains[from], domains[to]}]
}

// processFaults is how many of the faults, the first ones, have to do with
// processes.
const processFaults = 10

var faults = []fault{
	{"kill -9 of a provider's process", on(func(ctx context.Context, w *world, p *cluster.Provider, r *rand.Rand) { down(ctx, w, p, r, p.Kill) })},
	{"SIGTERM and restart of a provider's process", on(func(ctx context.Context, w *world, p *cluster.Provider, r *rand.Rand) { down(ctx, w, p, r, p.Stop) })},
	{"SIGSTOP of a provider's process", on(func(ctx context.Context, w *world, p *cluster.Provider, r *rand.Rand) {
		pr := p.Process()
		if pr == nil {
			return
		}
		pr.Signal(syscall.SIGSTOP)
		pause(ctx, time.Second, 9*time.Second, r) // longer than a lease, at times
		pr.Signal(syscall.SIGCONT)
	})},
	{"kill -9 of all nodes of the hub", func(ctx context.Context, w *world, r *rand.Rand) {
		var wg sync.WaitGroup
		for _, p := range w.cluster.Providers {
			if p.Domain == domains[0] {
				seed := r.Uint64()
				wg.Go(func() { down(ctx, w, p, rand.New(rand.NewPCG(seed, 2)), p.Kill) })
			}
		}
		wg.Wait()
	}},
	{"kill -9 of PostgreSQL", func(ctx context.Context, w *world, r *rand.Rand) {
		if w.Database == nil {
			return
		}
		w.Database.Kill(syscall.SIGKILL)
		pause(ctx, 0, 2*time.Second, r)
		if err := w.Database.Restart(); err != nil {
			w.finding("PostgreSQL does not start: %v", err)
		}
	}},
	{"full disk of a provider's process", on(func(ctx context.Context, w *world, p *cluster.Provider, r *rand.Rand) {
		pr := p.Process()
		if pr == nil || !limit(pr.Pid, 4096) {
			return
		}
		pause(ctx, time.Second, 4*time.Second, r)
		unlimit(pr.Pid)
	})},
	{"full disk of PostgreSQL", func(ctx context.Context, w *world, r *rand.Rand) {
		if w.Database == nil {
			return
		}
		pids := w.Database.Processes()
		for _, pid := range pids {
			limit(pid, 4096)
		}
		pause(ctx, time.Second, 4*time.Second, r)
		for _, pid := range append(pids, w.Database.Processes()...) {
			unlimit(pid)
		}
		// It may have given up, as it must when its log can't be written.
		if err := w.Database.Restart(); err != nil {
			w.finding("PostgreSQL does not start after its disk was full: %v", err)
		}
	}},
	{"no LISTEN: nodes poll", func(ctx context.Context, w *world, r *rand.Rand) {
		if w.Database == nil {
			return
		}
		for until := time.Now().Add(time.Second + time.Duration(r.Int64N(int64(4*time.Second)))); time.Now().Before(until) && ctx.Err() == nil; {
			w.Database.CutListeners(ctx)
			pause(ctx, 50*time.Millisecond, 100*time.Millisecond, r)
		}
	}},
	{"slow disk of a provider's process", on(func(ctx context.Context, w *world, p *cluster.Provider, r *rand.Rand) {
		w.disk(p, 20*time.Millisecond+time.Duration(r.Int64N(int64(400*time.Millisecond))))
		pause(ctx, time.Second, 5*time.Second, r)
		w.disk(p, 0)
	})},
	{"clock jump of a provider's process", on(func(ctx context.Context, w *world, p *cluster.Provider, r *rand.Rand) {
		w.clock(p, time.Duration(r.Int64N(int64(40*time.Second)))-20*time.Second)
		pause(ctx, time.Second, 5*time.Second, r)
		if r.IntN(2) == 0 {
			w.clock(p, 0)
		}
	})},
	{"partition: connections refused", between(mood{refuse: true})},
	{"partition: everything swallowed", between(mood{hole: true})},
	{"answers swallowed: requests are repeated", between(mood{mute: true})},
	{"delay", between(mood{delay: 150 * time.Millisecond})},
	{"loss: a tenth of the pieces comes late, as when TCP repeats them", between(mood{loss: 10})},
	{"reordering: connections overtake each other", between(mood{reorder: 400 * time.Millisecond})},
	{"packets between providers: some lost, twice, spoiled, out of order", func(ctx context.Context, w *world, r *rand.Rand) {
		w.rain(weather{lose: 5 + r.IntN(40), double: 10, spoil: 40, late: 5})
		pause(ctx, time.Second, 5*time.Second, r)
		w.rain(weather{})
	}},
	{"connections cut in the middle of records", between(mood{cut: 10})},
	{"all connections reset", func(_ context.Context, w *world, r *rand.Rand) { w.network(r).reset() }},
}

// faults breaks things, mostly one after the other and sometimes two at a time.
func (w *world) faults(ctx context.Context, r *rand.Rand) {
	list := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return len(w.Faults) > 0 && !slices.Contains(w.Faults, f.name) || w.Database == nil && (strings.Contains(f.name, "PostgreSQL") || strings.Contains(f.name, "LISTEN")) ||
			w.wire == nil && strings.HasPrefix(f.name, "packets")
	})
	var lanes sync.WaitGroup
	defer lanes.Wait()
	// A process is in one lane's hands only: what ends processes is in the first.
	for lane := range 2 {
		seed := r.Uint64()
		lanes.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(lane)))
			var own []fault
			for i, f := range list {
				if process := slices.IndexFunc(faults, func(g fault) bool { return g.name == f.name }) < processFaults; process == (lane == 0) {
					own = append(own, list[i])
				}
			}
			for len(own) > 0 {
				pause(ctx, 200*time.Millisecond, 2*time.Second, r)
				f := own[r.IntN(len(own))]
				if ctx.Err() != nil {
					return
				}
				w.Log("%s: %s", time.Now().Format("15:04:05.000"), f.name)
				w.count("fault: " + f.name)
				f.do(ctx, w, r)
			}
		})
	}
}

// rain changes what happens to packets, if there is a wire.
func (w *world) rain(x weather) {
	if w.wire != nil {
		w.wire.set(x)
	}
}

// clock moves the clock of a process.
func (w *world) clock(p *cluster.Provider, by time.Duration) { w.tell(p, ".clock", by) }

// disk makes each commit of a process take longer.
func (w *world) disk(p *cluster.Provider, by time.Duration) { w.tell(p, ".disk", by) }

// tell writes a file that the process reads once in a while, as Provide does.
func (w *world) tell(p *cluster.Provider, suffix string, by time.Duration) {
	if err := os.WriteFile(p.Config+suffix, []byte(by.String()), 0o600); err != nil {
		w.finding("%v", err)
	}
}
