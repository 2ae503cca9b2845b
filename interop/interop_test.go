package interop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Environment of the test:
//
//	COMITY_INTEROP=require      a peer that can't be built is a failure, not a skip (CI)
//	COMITY_INTEROP_SEED=n       run the scripts of this seed alone, one per suite
//	COMITY_INTEROP_SCRIPTS=n    scripts per suite, 4 unless set

const (
	defaultScripts = 4
	steps          = 24
	maxPerPeer     = 6
)

type runningPeer struct {
	Peer
	capabilities Capabilities
}

// startForeign builds and starts every foreign peer that can be had here.
func startForeign(t *testing.T) []runningPeer {
	ctx := t.Context()
	if end, ok := t.Deadline(); ok { // a first build takes minutes, and the scripts need some time too
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-2*time.Minute))
		defer cancel()
	}
	var running []runningPeer
	for _, f := range Foreigns() {
		err := f.Build(ctx, os.Stderr)
		tolerable := errors.Is(err, ErrNoToolchain) || errors.Is(err, context.DeadlineExceeded)
		if tolerable && os.Getenv("COMITY_INTEROP") != "require" {
			t.Logf("without peer %s: %v", f.Name, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := f.Start(os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Errorf("%s: %v", f.Name, err)
			}
		})
		c, err := p.Capabilities()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("peer %s %s on %s", c.Name, c.Version, c.Crypto)
		running = append(running, runningPeer{p, c})
	}
	return running
}

func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("live foreign peers: not in -short")
	}
	peers := startForeign(t)
	if len(peers) == 0 {
		t.Skip("no foreign MLS peer: needs cargo or node")
	}
	comity := NewComity()
	c, err := comity.Capabilities()
	if err != nil {
		t.Fatal(err)
	}
	peers = append(peers, runningPeer{comity, c})

	scripts, seed := defaultScripts, uint64(time.Now().UnixNano())
	if text := os.Getenv("COMITY_INTEROP_SCRIPTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		scripts = n
	}
	if text := os.Getenv("COMITY_INTEROP_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		scripts, seed = 1, n
	}
	for _, suite := range []uint16{1, 2, 3} {
		t.Run(fmt.Sprintf("suite=%d", suite), func(t *testing.T) {
			var with []runningPeer
			for _, p := range peers {
				if slices.Contains(p.capabilities.Suites, suite) {
					with = append(with, p)
				}
			}
			if len(with) < 2 {
				t.Skip("no foreign peer has this suite")
			}
			epochs, messages, done := 0, 0, map[string]int{}
			for i := range scripts {
				w := newWorld(t, suite, seed+uint64(i))
				run(w, with)
				epochs, messages = epochs+w.checked, messages+w.messages
				for what, n := range w.done {
					done[what] += n
				}
			}
			t.Logf("seeds %d to %d: %d epochs in which all members agreed, %d application messages read by all",
				seed, seed+uint64(scripts)-1, epochs, messages)
			for _, what := range slices.Sorted(maps.Keys(done)) {
				t.Logf("  %s: %d", what, done[what])
			}
		})
	}
}

// run plays one script among clients of some of the peers: all of them can do less together than
// two that have the same extensions.
func run(w *world, peers []runningPeer) {
	with := peers
	if w.chance(60) { // the last is mls
		with = []runningPeer{pick(w, peers[:len(peers)-1]), peers[len(peers)-1]}
	}
	if w.chance(50) {
		w.hub = newHub(w)
	}
	for range 2 + w.rng.IntN(maxPerPeer-1) {
		for _, p := range with {
			w.newClient(p.Peer, p.capabilities)
		}
	}
	w.start()
	for range steps {
		if w.step(); w.over {
			break
		}
	}
	if !w.over && w.chance(60) { // the last thing: clients outside keep the old cipher suite
		if w.talkPending(); len(w.pending) == 0 {
			w.follow(false)
		}
	}
	for _, c := range slices.Concat(w.members, w.outside) {
		w.must(c.peer.Forget(c.name))
	}
}
