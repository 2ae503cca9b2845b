package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/pgtest"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/postgres"
)

func open(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), url, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// listener gathers what a node hears.
type listener struct {
	mu    sync.Mutex
	hints []store.Hint
	all   int
	more  chan struct{}
}

func listen(t *testing.T, s *store.Store) *listener {
	l := &listener{more: make(chan struct{}, 1)}
	signal := func() {
		select {
		case l.more <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Listen(ctx, func(list []store.Hint) {
			l.mu.Lock()
			l.hints = append(l.hints, list...)
			l.mu.Unlock()
			signal()
		}, func() {
			l.mu.Lock()
			l.all++
			l.mu.Unlock()
			signal()
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l
}

func (l *listener) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		done := ok()
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("waited in vain for %s; heard %v", what, l.hints)
		}
	}
}

// Hints reach the other nodes, all of them, but not the node that gives them;
// after a crash of the database a node is told to look at everything, and hears
// again.
func TestHints(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	a, b := open(t, url), open(t, url)
	la, lb := listen(t, a), listen(t, b)
	la.wait(t, "the start", func() bool { return la.all == 1 })
	lb.wait(t, "the start", func() bool { return lb.all == 1 })
	if !a.Hearing() || !a.Shared() {
		t.Error("a node says that it hears nobody")
	}
	var want []store.Hint
	for i := range 500 {
		want = append(want, store.Hint{Room: int64(i + 1)}, store.Hint{Client: fmt.Sprintf("mimi://a.example/d/%s/%d", strings.Repeat("x", 30), i)})
	}
	want = append(want, store.Hint{Peer: "b.example"})
	a.Tell(want...)
	lb.wait(t, "all hints", func() bool { return len(lb.hints) == len(want) })
	seen := map[store.Hint]bool{}
	for _, h := range lb.hints {
		seen[h] = true
	}
	for _, h := range want {
		if !seen[h] {
			t.Errorf("%v was not heard", h)
		}
	}
	if len(la.hints) != 0 {
		t.Errorf("a node heard its own hints: %v", la.hints)
	}
	server.Kill(syscall.SIGKILL)
	if err := server.Restart(); err != nil {
		t.Skipf("the server is not this test's own: %v", err)
	}
	lb.wait(t, "being told to look at everything", func() bool { return lb.all == 2 })
	lb.mu.Lock()
	lb.hints = nil
	lb.mu.Unlock()
	for range 20 { // the first may be lost with its connection
		a.Tell(store.Hint{Room: 7})
		time.Sleep(200 * time.Millisecond)
		lb.mu.Lock()
		n := len(lb.hints)
		lb.mu.Unlock()
		if n > 0 {
			return
		}
	}
	t.Error("no hint was heard after the database came back")
}

// More hints than a node keeps become one: look at everything.
func TestHintsOverflow(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	a, b := open(t, url), open(t, url)
	lb := listen(t, b)
	lb.wait(t, "the start", func() bool { return lb.all == 1 })
	list := make([]store.Hint, 20000)
	for i := range list {
		list[i].Room = int64(i + 1)
	}
	a.Tell(list...)
	lb.wait(t, "being told to look at everything", func() bool { return lb.all >= 2 })
}

// All statements of a view see one state, whatever other nodes commit between
// them.
func TestViewSeesOneState(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	a, b := open(t, url), open(t, url)
	ctx := context.Background()
	set := func(s *store.Store, v string) error {
		return s.Update(ctx, func(tx *store.Tx) error { return tx.SetMeta("x", []byte(v)) })
	}
	if err := set(a, "old"); err != nil {
		t.Fatal(err)
	}
	err := a.View(ctx, func(tx *store.Tx) error {
		if _, err := tx.Meta("x"); err != nil {
			return err
		}
		if err := set(b, "new"); err != nil {
			return err
		}
		v, err := tx.Meta("x")
		if string(v) != "old" {
			t.Errorf("the second statement sees %q", v)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Nodes agree on the time of leases though their clocks differ.
func TestClockIsTheDatabases(t *testing.T) {
	s := open(t, pgtest.Start(t).Database(t))
	err := s.View(context.Background(), func(tx *store.Tx) error {
		now, err := tx.Clock(42)
		if d := time.Since(time.UnixMilli(now)); d < -time.Minute || d > time.Minute {
			t.Errorf("Clock is %v off", d)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
