package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// write appends messages with so many octets to a room.
func (h *hub) write(id int64, messages, octets int) (events []store.Event) {
	h.t.Helper()
	for range messages {
		secret := make([]byte, octets)
		rand.Read(secret)
		m, err := mimi.NewMessage(mls.MLSMessage{Version: mls.MLS10, WireFormat: mls.WireFormatPrivateMessage,
			PrivateMessage: &mls.PrivateMessage{GroupID: []byte("g"), ContentType: mls.ContentApplication, Ciphertext: secret}})
		if err != nil {
			h.t.Fatal(err)
		}
		f := mimi.FanoutMessage{Timestamp: mimi.Millis(time.Now().UnixMilli()), Message: m}
		body, err := tlspl.Marshal(&f)
		if err != nil {
			h.t.Fatal(err)
		}
		digest, err := m.Digest()
		if err != nil {
			h.t.Fatal(err)
		}
		events = append(events, store.Event{Kind: uint8(f.Kind()), AcceptedMillis: int64(f.Timestamp), Digest: digest, Source: "a.example", Body: body})
	}
	err := h.store.Update(h.t.Context(), func(tx *store.Tx) error {
		row, err := tx.RoomByID(id)
		if err != nil {
			return err
		}
		return tx.AppendEvents(id, row.Version, events)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return events
}

// A follower that was away comes back to a long backlog in many rooms. What others
// get does not wait for it, nor does what is new in another of its own rooms; what
// is under way to it is bounded in requests and in octets.
func TestBacklogHurtsNobody(t *testing.T) {
	h := newHub(t)
	const rooms, messages, large, octets = 40, 2000, 12, 300 << 10
	var back atomic.Bool
	var mu sync.Mutex
	underWay, most := 0, 0
	newAt := -1 // how much of the backlog the follower had when the new event of its other room came
	h.answer["away.example"] = func(ctx context.Context, room mimi.RoomURI, _ int) error {
		if !back.Load() {
			return &mimi.FailedError{Err: errors.New("connection refused")}
		}
		mu.Lock()
		underWay++
		most = max(most, underWay)
		mu.Unlock()
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
		}
		_, had := h.count("away.example")
		mu.Lock()
		defer mu.Unlock()
		underWay--
		if room.Name() == "own" && newAt < 0 {
			newAt = had
		}
		return nil
	}
	for i := range rooms {
		h.room(fmt.Sprint("r", i), time.Now(), messages, "away.example")
	}
	// Messages with large bodies count by their octets.
	h.write(h.room("large", time.Now(), 0, "away.example"), large, octets)
	live := h.room("live", time.Now(), 0, "other.example")
	own := h.room("own", time.Now(), 0, "away.example")
	h.run()
	h.eventually("that it is away", func() bool {
		calls, _ := h.count("away.example")
		return len(calls) > 0
	})
	back.Store(true)
	h.d.Contact("away.example")
	h.eventually("that it is back", func() bool {
		_, events := h.count("away.example")
		return events > 0
	})
	h.d.Wake("away.example", own, h.write(own, 1, 100))
	const total = rooms*messages + large + 1
	var slowest time.Duration
	sent, during := 0, 0
	for start := time.Now(); ; {
		_, caught := h.count("away.example")
		if caught >= total {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("it caught up to %d of %d", caught, total)
		}
		begun := time.Now()
		h.d.Wake("other.example", live, h.write(live, 1, 100))
		sent++
		h.eventually("a live event", func() bool {
			_, events := h.count("other.example")
			if events > sent {
				t.Fatalf("%d events were sent, %d came", sent, events)
			}
			return events == sent
		})
		slowest = max(slowest, time.Since(begun))
		if _, caught := h.count("away.example"); caught < total {
			during++
		}
	}
	t.Logf("%d live events while %d caught up, the slowest after %v; %d requests under way at most; the follower's own new event came after %d", during, total, slowest, most, newAt)
	if during == 0 {
		t.Error("no live event came through before the backlog was done")
	}
	if most > logEvents/leastShare+1 { // one more from memory
		t.Errorf("%d requests were under way to a follower that catches up", most)
	}
	if newAt < 0 || newAt > total*3/4 {
		t.Errorf("what is new in a room of its own waited for %d of %d of the backlog", newAt, total)
	}
}

// A batch that is read from the log is bounded by octets as by events.
func TestBatchesAreBounded(t *testing.T) {
	h := newHub(t)
	const octets = 300 << 10
	id := h.room("large", time.Now(), 0, "b.example")
	h.write(id, 20, octets)
	var batches []int
	h.answer["b.example"] = nil
	h.d.cfg.Observe = func(_ mimi.ProviderDomain, events int, _ time.Duration, _ error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		batches = append(batches, events)
	}
	h.run()
	h.eventually("all", func() bool {
		_, events := h.count("b.example")
		return events == 20
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range batches {
		if n > batchBytes/octets+1 {
			t.Errorf("a request has %d events of %d octets", n, octets)
		}
	}
	err := h.store.View(t.Context(), func(tx *store.Tx) error {
		list, more, err := tx.EventsWithin(id, 0, 1000, batchBytes)
		if len(list) != batchBytes/octets+1 || !more {
			t.Errorf("%d events are read at a time, more: %v", len(list), more)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Between batches of what is old there is a rest several times as long as they
// took; what is new goes without.
func TestOldBatchesRest(t *testing.T) {
	for _, age := range []time.Duration{0, time.Hour} {
		h := newHub(t)
		const took = 30 * time.Millisecond
		h.answer["b.example"] = func(context.Context, mimi.RoomURI, int) error {
			time.Sleep(took)
			return nil
		}
		h.room("r", time.Now().Add(-age), 4*batchEvents, "b.example")
		h.run()
		h.eventually("all", func() bool {
			_, events := h.count("b.example")
			return events == 4*batchEvents
		})
		calls, _ := h.count("b.example")
		least := calls[1].Sub(calls[0])
		for i := 2; i < len(calls); i++ {
			least = min(least, calls[i].Sub(calls[i-1]))
		}
		if rested := least >= (1+restTimes)*took; age > 0 && !rested || least < took {
			t.Errorf("events %v old: %v between batches at least", age, least)
		}
	}
}

// However fast the rooms that are behind grow, as long as that is less than half
// of what can be sent at all, a follower catches up; where they don't, catching up
// takes its share of the time and no more.
func TestCatchingUpEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		took := time.Duration(rapid.IntRange(1, 2000).Draw(t, "batch takes ms")) * time.Millisecond
		share := rapid.Float64Range(0, 0.45).Draw(t, "grows by, of what can be sent")
		waiting := rapid.IntRange(1, 200_000).Draw(t, "waiting")
		perSecond := share * batchEvents / took.Seconds()
		c := catchUp{}
		var now, busy time.Duration
		var grown, sent int
		last := 0
		for waiting+grown-sent >= batchEvents { // what is left then is new
			if now > time.Duration(3*waiting/batchEvents+100)*max(4*took, took+longestRest)/2 {
				t.Fatalf("after %v %d of %d that waited, and of %d that came since, are sent", now, sent, waiting, grown)
			}
			c.grew(int64(grown - last))
			last = grown
			rest := c.sent(batchEvents, took)
			sent += batchEvents
			if rest > longestRest || rest > restTimes*took {
				t.Fatalf("a rest of %v after a batch of %v", rest, took)
			}
			busy += took
			now += took + rest
			grown = int(now.Seconds() * perSecond)
		}
		if share == 0 && took < longestRest/restTimes && busy > now/(1+restTimes)+took {
			t.Fatalf("%v of %v are for catching up", busy, now)
		}
	})
}

// Followers that come back and answer nothing, however many, hold so little of what
// is read for all that another one catches up meanwhile.
func TestSlowOnesLeaveMemory(t *testing.T) {
	h := newHub(t)
	const slow, messages, octets = 200, 100, 20 << 10
	var list []string
	var asked atomic.Int64
	release := make(chan struct{})
	for i := range slow {
		d := fmt.Sprintf("slow%d.example", i)
		list = append(list, d)
		h.answer[mimi.ProviderDomain(d)] = func(ctx context.Context, _ mimi.RoomURI, _ int) error {
			asked.Add(1)
			select {
			case <-release:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	}
	h.write(h.room("r", time.Now(), 0, list...), messages, octets)
	h.run()
	t.Cleanup(func() { close(release) })
	h.eventually("that all are asked", func() bool { return asked.Load() == slow })
	id := h.room("other", time.Now(), 0, "quick.example")
	h.write(id, messages, octets)
	h.d.Wake("quick.example", id, nil)
	h.eventually("that the quick one has all", func() bool {
		_, events := h.count("quick.example")
		return events == messages
	})
	if !h.d.reads.TryAcquire(logOctets - slow*leastWindow) {
		t.Error("the slow ones hold more than a little each")
	}
}

// One that was quick and is not any more is sent little at a time, until it is
// quick again.
func TestWindow(t *testing.T) {
	c := catchUp{}
	octets := func() int {
		turn := &turn{}
		if !c.reserve(turn) {
			t.Fatal("there is no share")
		}
		defer c.release(turn)
		return c.resize(turn, 10_000)
	}
	want := leastWindow
	for range 6 {
		if got := octets(); got != want {
			t.Fatalf("%d octets, want %d", got, want)
		}
		c.sent(batchEvents, time.Millisecond)
		want = min(2*want, batchBytes)
	}
	c.sent(batchEvents, slowly/2)
	if got := octets(); got != batchBytes {
		t.Errorf("%d octets after one that was neither", got)
	}
	c.sent(batchEvents, 2*slowly)
	if got := octets(); got != leastWindow {
		t.Errorf("%d octets after a slow one", got)
	}
	// Shares of many rooms are never more than all.
	var turns []*turn
	for {
		turn := &turn{}
		if !c.reserve(turn) {
			break
		}
		c.resize(turn, 1)
		turns = append(turns, turn)
	}
	if len(turns) != logEvents/leastShare || c.taken > logEvents {
		t.Errorf("%d rooms have %d events", len(turns), c.taken)
	}
	for _, turn := range turns[1:] {
		c.release(turn)
	}
	if c.resize(turns[0], 10_000); turns[0].share != logEvents {
		t.Errorf("one that is left has %d", turns[0].share)
	}
	if c.release(turns[0]); c.taken != 0 || c.shares != 0 {
		t.Errorf("%d events and %d shares are left", c.taken, c.shares)
	}
}
