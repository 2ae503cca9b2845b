package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// What a follower has not got while it was new is read from the logs: after an
// absence, very much. Catching up yields to everything else, at both providers: to
// a follower one batch of old events is under way at a time (or several small
// ones), and each is followed by a rest of restTimes as long as it took, so that
// whoever is busy, here or there, makes it slower. For each event that is appended
// meanwhile to a room that is behind at least outrun old ones are sent, without
// rests if need be: it gets done however much goes on.
const (
	// logEvents is how many events that were read from the logs are under way to one
	// follower. A room has a share of them, of leastShare at least, for its turn.
	logEvents  = batchEvents
	leastShare = 32
	// restAfter is how old events are that are followed by a rest, which longestRest
	// bounds.
	restAfter   = 5 * time.Second
	restTimes   = 4
	longestRest = 2 * time.Second
	outrun      = 2
	// logOctets bounds the bodies of what was read from the logs for all followers,
	// however many come back together. One follower has leastWindow of them at first,
	// twice as much after each batch that was answered within quickly, up to
	// batchBytes, and leastWindow again after one that took longer than slowly: many
	// slow ones leave enough to the others.
	logOctets   = 64 << 20
	leastWindow = 64 << 10
	quickly     = 250 * time.Millisecond
	slowly      = time.Second
)

// errLater says that a room's log can't be read yet: other rooms have all that may
// be under way to the follower.
var errLater = errors.New("delivery: other rooms are read first")

// A catchUp is how much is read from the logs for one follower. The lock of its
// peer covers it.
type catchUp struct {
	rooms  []int64 // that wait for a share
	shares int     // rooms that have one
	taken  int     // events, by those
	window int     // octets that logEvents events may have; 0: leastWindow
	owed   int64   // events to be sent without rests
}

// A turn is a room's turn to be sent what it has.
type turn struct {
	room  int64
	share int // events that it may read from the log at a time; 0: it has no share
}

// reserve gives a turn its least share, if there is as much left.
func (c *catchUp) reserve(t *turn) bool {
	if t.share == 0 && c.taken+leastShare <= logEvents {
		t.share = leastShare
		c.taken += leastShare
		c.shares++
	}
	return t.share > 0
}

// resize makes the share of a turn fit what waits in its room, as far as there is
// more, and returns how many octets that may have.
func (c *catchUp) resize(t *turn, waiting int64) int {
	want := int(max(min(waiting, batchEvents), leastShare))
	want = min(want, t.share+logEvents-c.taken)
	c.taken += want - t.share
	t.share = want
	return max(c.window, leastWindow) * want / logEvents
}

// release takes back the share of a turn.
func (c *catchUp) release(t *turn) {
	if t.share > 0 {
		c.taken -= t.share
		c.shares--
		t.share = 0
	}
}

// grew notes how many events were appended to a room that is behind.
func (c *catchUp) grew(n int64) { c.owed += outrun * n }

// sent notes that so many events were taken, which took a time, and returns how
// long to rest if they were old.
func (c *catchUp) sent(n int64, took time.Duration) time.Duration {
	switch w := max(c.window, leastWindow); {
	case took > slowly:
		c.window = leastWindow
	case took <= quickly:
		c.window = min(2*w, batchBytes)
	}
	c.owed = max(c.owed-n, 0)
	if c.owed > 0 {
		return 0
	}
	return min(restTimes*took, longestRest)
}

// fromLog reads the next batch of a room from its log when there is room for it.
// waiting is how many events wait; done must be called when the batch is not
// needed any more.
func (p *peer) fromLog(ctx context.Context, t *turn, after, waiting int64) (events []store.Event, begun time.Time, done func(), err error) {
	p.mu.Lock()
	if had := t.share > 0; !p.log.reserve(t) {
		p.mu.Unlock()
		return nil, begun, nil, errLater
	} else if !had {
		p.active-- // its place is free for what is new
		p.signal()
	}
	octets := p.log.resize(t, waiting)
	p.mu.Unlock()
	// How large it is shows when it is read.
	held := int64(2 * octets)
	if err := p.d.reads.Acquire(ctx, held); err != nil {
		return nil, begun, nil, err
	}
	done = func() { p.d.reads.Release(held) }
	begun = time.Now()
	err = p.d.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		// One more, which may belong to the last.
		events, _, err = tx.EventsWithin(t.room, after, t.share+1, octets)
		return err
	})
	if err != nil {
		done()
		return nil, begun, nil, err
	}
	// What is read beyond its octets is let go, but for one event.
	n, size := 0, 0
	for n < len(events) && (n == 0 || size+len(events[n].Body) <= octets || mimi.FanoutKind(events[n].Kind) == mimi.FanoutWelcome) {
		size += len(events[n].Body)
		n++
	}
	clear(events[n:])
	events = events[:n]
	if more := int64(size) - held; more < 0 || p.d.reads.TryAcquire(more) {
		p.d.reads.Release(max(-more, 0))
		held = int64(size)
	}
	return events, begun, done, nil
}
