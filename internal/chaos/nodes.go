package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/comity-im/comity/internal/cluster"
)

// takeOver is how long messages to other providers may wait for another node when
// one dies: its lease of 6 s, a look at the leases every 1.5 s, and what two busy
// cores need.
const takeOver = 15 * time.Second

// Nodes lets two nodes of the first provider die and come back, in turn, and then
// both be restarted one after the other several times, while everybody writes. It
// measures how long the room that it hosts was silent for others.
func Nodes(ctx context.Context, o Options) (*Report, error) {
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
	var nodes []*cluster.Provider
	for _, p := range w.cluster.Providers {
		if p.Domain == domains[0] {
			nodes = append(nodes, p)
		}
	}
	if len(nodes) < 2 {
		return nil, fmt.Errorf("%s has one node only: it needs a PostgreSQL", domains[0])
	}
	for _, n := range nodes {
		n.Kill()
		took, err := w.arrives(ctx)
		if err != nil {
			w.finding("with one of two nodes dead, a message did not reach another provider: %v", err)
		}
		w.Log("a node was killed; a message reached everybody elsewhere after %v", took.Round(time.Millisecond))
		if took > takeOver {
			w.finding("a dead node's deliveries took %v to become another's", took)
		}
		if err := n.Restart(ctx); err != nil {
			return nil, err
		}
	}
	// Without notifications nodes look by themselves, each second.
	deaf, hear := context.WithCancel(ctx)
	cutting := make(chan struct{})
	go func() {
		defer close(cutting)
		for deaf.Err() == nil {
			w.Database.CutListeners(deaf)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	for range 3 {
		took, err := w.arrives(ctx)
		if err != nil || took > takeOver {
			w.finding("without LISTEN a message took %v (%v)", took, err)
		}
		w.Log("without LISTEN a message reached everybody after %v", took.Round(time.Millisecond))
	}
	hear()
	<-cutting
	// Rolling restarts.
	writing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for writing.Err() == nil {
			for _, m := range w.members {
				m.send(ctx, w.rooms[0])
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for range 3 {
		for _, n := range nodes {
			begun := time.Now()
			n.Stop()
			if err := n.Restart(ctx); err != nil {
				stop()
				<-done
				return nil, err
			}
			w.count("node restarted")
			w.Log("a node was stopped and started in %v", time.Since(begun).Round(time.Millisecond))
		}
	}
	stop()
	<-done
	if err := w.heal(ctx); err != nil {
		return nil, err
	}
	w.check(ctx)
	return w.report(start), nil
}

// arrives says how long a message to the first room takes to be shown by somebody
// at each of the other providers.
func (w *world) arrives(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	from := w.core[1] // at another provider than the hub's
	from.send(ctx, w.rooms[0])
	text := fmt.Sprintf("%s-%d", from.name, from.n)
	err := w.until(ctx, 2*takeOver, func() bool {
		for _, m := range w.core {
			texts, err := m.texts(ctx, w.rooms[0])
			if err != nil || !slices.Contains(texts, text) {
				return false
			}
		}
		return true
	})
	return time.Since(begun), err
}

// report is what came of a run.
func (w *world) report(start time.Time) *Report {
	if w.wire != nil {
		w.wire.mu.Lock()
		for what, n := range map[string]int{"passed": w.wire.counts.passed, "lost": w.wire.counts.lost, "doubled": w.wire.counts.doubled,
			"spoiled": w.wire.counts.spoiled, "out of order": w.wire.counts.late} {
			w.counts["packets "+what] += n
		}
		w.wire.mu.Unlock()
	}
	r := &Report{Seed: w.Seed, Took: time.Since(start), Counts: w.counts, Findings: w.findings}
	for _, m := range w.members {
		m.seenMu.Lock()
		r.Odd = append(r.Odd, m.odd...)
		m.seenMu.Unlock()
	}
	return r
}
