package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
	"github.com/comity-im/comity/tlspl"
)

// hub is a database with rooms, and a Deliverer for them whose followers are
// functions.
type hub struct {
	t     *testing.T
	store *store.Store
	d     *Deliverer

	mu     sync.Mutex
	answer map[mimi.ProviderDomain]func(ctx context.Context, room mimi.RoomURI, n int) error
	calls  map[mimi.ProviderDomain][]time.Time
	got    map[mimi.ProviderDomain]int // events
}

func (h *hub) Notify(ctx context.Context, to mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error {
	h.mu.Lock()
	answer := h.answer[to]
	h.calls[to] = append(h.calls[to], time.Now())
	n := len(h.calls[to])
	h.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, room, n); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	encoded, err := tlspl.Marshal(req)
	if err != nil {
		return err
	}
	received := new(mimi.NotifyRequest)
	if err := tlspl.Unmarshal(encoded, received); err != nil {
		return err
	}
	h.got[to] += len(received.Messages)
	return nil
}

func (h *hub) count(d mimi.ProviderDomain) (calls []time.Time, events int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls[d]), h.got[d]
}

func newHub(t *testing.T) *hub {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	h := &hub{t: t, store: s, answer: map[mimi.ProviderDomain]func(context.Context, mimi.RoomURI, int) error{},
		calls: map[mimi.ProviderDomain][]time.Time{}, got: map[mimi.ProviderDomain]int{}}
	h.d = New(Config{Store: s, Sender: h, Node: "n", Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	return h
}

// run runs the Deliverer until the test ends.
func (h *hub) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.d.Run(ctx)
	}()
	h.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// room makes a room with some followers and some messages, the first of which
// was accepted at a time.
func (h *hub) room(name string, at time.Time, messages int, followers ...string) (id int64) {
	h.t.Helper()
	err := h.store.Update(h.t.Context(), func(tx *store.Tx) (err error) {
		uri := "mimi://a.example/r/" + name
		if id, err = tx.CreateRoom(store.Room{URI: uri, Hub: "a.example", Head: []byte{0, 1}}); err != nil {
			return err
		}
		for _, f := range followers {
			if err := tx.FollowRoom(id, f, 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.append(id, name, at, messages)
	return id
}

// append adds messages to a room, the first of which was accepted at a time.
func (h *hub) append(id int64, name string, at time.Time, messages int) (list []store.Event) {
	h.t.Helper()
	err := h.store.Update(h.t.Context(), func(tx *store.Tx) error {
		for i := range messages {
			secret := make([]byte, 32)
			rand.Read(secret)
			m, err := mimi.NewMessage(mls.MLSMessage{Version: mls.MLS10, WireFormat: mls.WireFormatPrivateMessage,
				PrivateMessage: &mls.PrivateMessage{GroupID: []byte(name), ContentType: mls.ContentApplication, Ciphertext: secret}})
			if err != nil {
				return err
			}
			f := mimi.FanoutMessage{Timestamp: mimi.Millis(at.UnixMilli() + int64(i)), Message: m}
			body, err := tlspl.Marshal(&f)
			if err != nil {
				return err
			}
			digest, err := m.Digest()
			if err != nil {
				return err
			}
			list = append(list, store.Event{Kind: uint8(f.Kind()), AcceptedMillis: int64(f.Timestamp), Digest: digest, Source: "a.example", Body: body})
		}
		row, err := tx.RoomByID(id)
		if err != nil {
			return err
		}
		return tx.AppendEvents(id, row.Version, list)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

func (h *hub) eventually(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A follower that answers 429 or 503 with Retry-After is not called before that,
// whatever comes in between: new events, or a request of its own.
func TestRetryAfter(t *testing.T) {
	const after = 900 * time.Millisecond
	for _, err := range []error{
		&mimi.RefusedError{Refusal: mimi.RefusedTooMany, RetryAfter: after},
		&mimi.FailedError{Status: 503, RetryAfter: after, Err: errors.New("busy")},
	} {
		h := newHub(t)
		h.answer["b.example"] = func(_ context.Context, _ mimi.RoomURI, n int) error {
			if n == 1 {
				return err
			}
			return nil
		}
		id := h.room("r", time.Now(), 3, "b.example")
		h.run()
		for {
			calls, events := h.count("b.example")
			if events == 3 {
				if wait := calls[1].Sub(calls[0]); wait < after {
					t.Errorf("%v: called again after %v", err, wait)
				}
				break
			}
			h.d.Wake("b.example", id, nil)
			h.d.Contact("b.example")
			time.Sleep(10 * time.Millisecond)
		}
		if calls, _ := h.count("b.example"); len(calls) != 2 {
			t.Errorf("%v: %d calls", err, len(calls))
		}
	}
}

// Without Retry-After a follower that was heard of is tried at once.
func TestContactEndsTheWait(t *testing.T) {
	h := newHub(t)
	h.answer["b.example"] = func(_ context.Context, _ mimi.RoomURI, n int) error {
		if n < 6 { // by then the wait is 8 to 16 s
			return &mimi.FailedError{Err: errors.New("connection refused")}
		}
		return nil
	}
	h.room("r", time.Now(), 1, "b.example")
	h.run()
	start := time.Now()
	h.eventually("the delivery", func() bool {
		h.d.Contact("b.example")
		_, events := h.count("b.example")
		return events == 1
	})
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// An operator's retry doesn't wait, even where the follower asked for it.
func TestRetryIsAtOnce(t *testing.T) {
	h := newHub(t)
	h.answer["b.example"] = func(_ context.Context, _ mimi.RoomURI, n int) error {
		if n == 1 {
			return &mimi.FailedError{Status: 503, RetryAfter: time.Hour, Err: errors.New("busy")}
		}
		return nil
	}
	h.room("r", time.Now(), 3, "b.example")
	h.run()
	h.eventually("the first try", func() bool { return len(h.d.Status()) == 1 && h.d.Status()[0].Failures == 1 })
	h.d.Retry("b.example")
	h.eventually("the delivery", func() bool { _, events := h.count("b.example"); return events == 3 })
}

// What is given up is not delivered, not even what the hub has in memory; what
// comes after is.
func TestDrop(t *testing.T) {
	h := newHub(t)
	const rooms = roomsAtOnce + 8
	var down atomic.Bool
	var held atomic.Int32
	goOn := make(chan struct{})
	h.answer["b.example"] = func(context.Context, mimi.RoomURI, int) error {
		if down.Load() {
			held.Add(1)
			<-goOn
			return &mimi.FailedError{Err: errors.New("connection refused")}
		}
		return nil
	}
	var ids []int64
	for n := range rooms {
		ids = append(ids, h.room(fmt.Sprint(n), time.Now(), 1, "b.example"))
	}
	h.run()
	events := func(n int) func() bool {
		return func() bool { _, events := h.count("b.example"); return events >= n*rooms }
	}
	more := func() {
		for n, id := range ids {
			h.d.Wake("b.example", id, h.append(id, fmt.Sprint(n), time.Now(), 1))
		}
	}
	h.eventually("the first", events(1))
	more() // now the cursors are in memory
	h.eventually("the next", events(2))
	down.Store(true)
	more()
	h.eventually("requests under way", func() bool { return held.Load() == roomsAtOnce })
	if err := h.d.Drop(t.Context(), "b.example"); err != nil {
		t.Fatal(err)
	}
	down.Store(false)
	close(goOn)
	more()
	h.d.Contact("b.example")
	h.eventually("what came after", events(3))
	time.Sleep(300 * time.Millisecond)
	if _, n := h.count("b.example"); n != 3*rooms {
		t.Errorf("%d events were delivered, want %d: some that were given up", n, 3*rooms)
	}
}

// The wait after a failure doubles up to its bound, with jitter.
func TestBackoff(t *testing.T) {
	now := time.Now()
	h := newHub(t)
	h.d.cfg.Now = func() time.Time { return now }
	seen := map[int]map[time.Duration]bool{}
	for range 30 {
		p := h.d.peer("b.example")
		p.failures, p.retryAt = 0, time.Time{}
		for n := range 12 {
			p.retryAt = time.Time{}
			p.failed(errors.New("down"))
			wait := p.retryAt.Sub(now)
			full := min(firstRetry<<n, lastRetry)
			if wait < full/2 || wait >= full {
				t.Fatalf("after %d failures: %v, not within %v and %v", n+1, wait, full/2, full)
			}
			if seen[n] == nil {
				seen[n] = map[time.Duration]bool{}
			}
			seen[n][wait] = true
		}
	}
	for n, waits := range seen {
		if len(waits) < 15 {
			t.Errorf("after %d failures the wait is always one of %d", n+1, len(waits))
		}
	}
	// Of several rooms that fail together one counts, and the longest wish holds.
	p := h.d.peer("c.example")
	p.failed(errors.New("down"))
	p.failed(&mimi.FailedError{RetryAfter: time.Minute, Err: errors.New("busy")})
	p.failed(errors.New("down"))
	if wait := p.retryAt.Sub(now); p.failures != 1 || wait < time.Minute || wait > time.Minute+time.Minute/8+time.Second {
		t.Errorf("%d failures, wait %v", p.failures, wait)
	}
	// But nobody keeps us waiting for ever.
	p = h.d.peer("d.example")
	p.failed(&mimi.FailedError{RetryAfter: 1000 * time.Hour, Err: errors.New("go away")})
	if wait := p.retryAt.Sub(now); wait > longestWait+longestWait/8+time.Second {
		t.Errorf("a follower may keep us waiting for %v", wait)
	}
}

// One follower that does not answer and one that is dead delay nobody else, in
// many rooms that all three follow.
func TestSlowFollowerDelaysNobody(t *testing.T) {
	h := newHub(t)
	h.answer["slow.example"] = func(ctx context.Context, _ mimi.RoomURI, _ int) error {
		<-ctx.Done()
		return ctx.Err()
	}
	h.answer["dead.example"] = func(context.Context, mimi.RoomURI, int) error {
		return &mimi.FailedError{Err: errors.New("connection refused")}
	}
	const rooms, messages = 100, 3
	for i := range rooms {
		h.room(fmt.Sprint("r", i), time.Now(), messages, "slow.example", "dead.example", "quick.example")
	}
	h.run()
	h.eventually("all events at the quick one", func() bool {
		_, events := h.count("quick.example")
		return events == rooms*messages
	})
	if slow, _ := h.count("slow.example"); len(slow) == 0 || len(slow) > roomsAtOnce {
		t.Errorf("the slow one has %d requests under way", len(slow))
	}
	if dead, _ := h.count("dead.example"); len(dead) == 0 || len(dead) > 3*roomsAtOnce {
		t.Errorf("the dead one was called %d times", len(dead))
	}
	waits := map[string]int64{}
	err := h.store.View(t.Context(), func(tx *store.Tx) error {
		list, err := tx.Queues()
		for _, q := range list {
			waits[q.Domain] = q.Events
		}
		return err
	})
	if err != nil || waits["slow.example"] != rooms*messages || waits["dead.example"] != rooms*messages {
		t.Errorf("what waits: %v, %v", waits, err)
	}
}

// A room that a follower refuses is held back alone. Its events are dropped once
// they are old, or if it has no client left there.
func TestRefusedRoom(t *testing.T) {
	h := newHub(t)
	h.answer["b.example"] = func(_ context.Context, room mimi.RoomURI, _ int) error {
		if room.Name() != "good" {
			return &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: "nobody is in it"}
		}
		return nil
	}
	h.room("young", time.Now(), 1, "b.example")
	h.room("old", time.Now().Add(-2*refusedFor), 1, "b.example")
	left := h.room("left", time.Now(), 1, "b.example")
	if err := h.store.Update(t.Context(), func(tx *store.Tx) error { return tx.UnfollowRoom(left, "b.example", 1) }); err != nil {
		t.Fatal(err)
	}
	h.room("good", time.Now(), 5, "b.example")
	h.run()
	h.eventually("what the follower takes", func() bool {
		_, events := h.count("b.example")
		return events == 5
	})
	h.eventually("that only the young room waits", func() bool {
		n := 0
		if err := h.store.View(t.Context(), func(tx *store.Tx) error {
			list, err := tx.Backlog("b.example", 0, 100)
			n = len(list)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	if s := h.d.Status(); len(s) != 1 || s[0].Failures != 0 {
		t.Errorf("a refused room is taken for a failure: %+v", s)
	}
}
