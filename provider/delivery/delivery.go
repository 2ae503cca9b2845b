// Package delivery hands the events of rooms that are hosted here to their
// followers (MIMI protocol §5.5).
//
// What waits for a follower is not a queue of its own: it is what lies between
// the follower's cursor and the end of each room's log, so that accepting an
// event writes nothing for a follower, and nothing is lost with the process.
// Each room has at most one request under way to each follower, in the order of
// its log (Decision 56); many rooms go side by side.
package delivery

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// Bounds of the work for one follower.
const (
	// roomsAtOnce is how many rooms have a request under way to one follower.
	roomsAtOnce = 32
	// batchEvents and batchBytes bound one request.
	batchEvents = 256
	batchBytes  = 900 << 10
	// batchesInTurn is how many batches of a room are sent before it is the turn of
	// others that wait.
	batchesInTurn = 4
	// firstRetry and lastRetry bound the wait after a failure, which doubles in
	// between: a follower that is back hears from us within lastRetry.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 60 * time.Second
	// leaseTime is for how long a node may deliver to a follower without saying
	// that it is still there. It says so twice in that time.
	leaseTime = 6 * time.Second
	// leaseAgain is after how long a node that was not given a lease asks again.
	leaseAgain = leaseTime / 4
	// contactHints is how often the other nodes are told of a follower's contact.
	contactHints = 5 * time.Second
	// scanEvery is how often the database is asked for work that nobody told us
	// of: after a start, or from other nodes, which is scanShared where there may
	// be some.
	scanEvery  = 30 * time.Second
	scanShared = 2 * time.Second
	// A follower that says that a room is none of its, or that it can't read an
	// event, is asked again every refusedEvery: it may be half restored, or behind
	// a proxy that lost its way. It loses the events when they are older than
	// refusedFor.
	refusedEvery = 30 * time.Second
	refusedFor   = time.Hour
	// longestWait bounds the Retry-After of a follower.
	longestWait = 10 * time.Minute
)

// A Sender is how a follower is reached.
type Sender interface {
	Notify(ctx context.Context, follower mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error
}

// A Config configures a Deliverer.
type Config struct {
	Store  *store.Store
	Sender Sender
	Node   string // this process, among those that share the database
	Logger *slog.Logger
	Now    func() time.Time
	// Observe is told of every request: the follower, how many events, how long
	// it took, and the error. May be nil.
	Observe func(follower mimi.ProviderDomain, events int, took time.Duration, err error)
}

// A Deliverer delivers to all followers. Safe for concurrent use.
type Deliverer struct {
	cfg   Config
	spans spans
	acks  acks
	reads *semaphore.Weighted // octets of batches from the logs that are under way

	mu    sync.Mutex
	peers map[mimi.ProviderDomain]*peer
	ctx   context.Context // of Run
	wg    sync.WaitGroup
}

// New returns a Deliverer. It works while Run runs.
func New(cfg Config) *Deliverer {
	if cfg.Observe == nil {
		cfg.Observe = func(mimi.ProviderDomain, int, time.Duration, error) {}
	}
	return &Deliverer{cfg: cfg, peers: map[mimi.ProviderDomain]*peer{}, reads: semaphore.NewWeighted(logOctets)}
}

// Run delivers until ctx ends and all requests are done.
func (d *Deliverer) Run(ctx context.Context) {
	d.mu.Lock()
	d.ctx = ctx
	for _, p := range d.peers {
		d.start(p)
	}
	d.mu.Unlock()
	every := scanEvery
	if d.cfg.Store.Shared() {
		every = scanShared
	}
	d.wg.Go(func() { d.runAcks(ctx) })
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		d.scan(ctx)
		select {
		case <-ctx.Done():
			d.wg.Wait()
			return
		case <-t.C:
		}
	}
}

// scan wakes the workers of all followers that have cursors.
func (d *Deliverer) scan(ctx context.Context) {
	var domains []string
	err := d.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		domains, err = tx.FollowerDomains()
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			d.cfg.Logger.Error("can't read which followers there are", "error", err)
		}
		return
	}
	for _, domain := range domains {
		p := d.peer(mimi.ProviderDomain(domain))
		p.mu.Lock()
		p.scan = true
		p.mu.Unlock()
		p.signal()
	}
}

func (d *Deliverer) peer(domain mimi.ProviderDomain) *peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.peers[domain]
	if p == nil {
		p = &peer{d: d, domain: domain, wake: make(chan struct{}, 1), contact: make(chan struct{}, 1), rooms: map[int64]*task{}, refused: map[int64]time.Time{}}
		d.peers[domain] = p
		if d.ctx != nil {
			d.start(p)
		}
	}
	return p
}

func (d *Deliverer) start(p *peer) {
	ctx := d.ctx
	d.wg.Go(func() { p.run(ctx) })
}

// Wake says that a room's log has something new for a follower. events are what
// was appended, which is not changed any more, or none.
func (d *Deliverer) Wake(follower mimi.ProviderDomain, room int64, events []store.Event) {
	p := d.peer(follower)
	p.mu.Lock()
	if !plain(events) {
		p.cursors.drop(room)
	}
	if p.failures == 0 && !p.paused && p.leads.Load() {
		p.fresh.put(room, events)
	}
	p.want(room)
	p.mu.Unlock()
	p.signal()
}

// Appended says that another node appended to a room's log.
func (d *Deliverer) Appended(ctx context.Context, room int64) error {
	d.mu.Lock()
	leads := slices.ContainsFunc(slices.Collect(maps.Values(d.peers)), func(p *peer) bool { return p.leads.Load() })
	d.mu.Unlock()
	if !leads {
		return nil // who leads hears it too
	}
	var domains []string
	err := d.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		domains, err = tx.FollowersBehind(room)
		return err
	})
	for _, domain := range domains {
		d.Wake(mimi.ProviderDomain(domain), room, nil)
	}
	return err
}

// Contact says that a follower was heard of: what waits for it is tried at
// once, by whichever node leads its delivery.
func (d *Deliverer) Contact(follower mimi.ProviderDomain) {
	if p := d.heard(follower); p != nil && d.cfg.Store.Shared() {
		p.mu.Lock()
		now := time.Now()
		tell := now.Sub(p.told) > contactHints
		if tell {
			p.told = now
		}
		p.mu.Unlock()
		if tell {
			d.cfg.Store.Tell(store.Hint{Peer: string(follower)})
		}
	}
}

// Heard says that a follower was heard of at another node.
func (d *Deliverer) Heard(follower mimi.ProviderDomain) { d.heard(follower) }

func (d *Deliverer) heard(follower mimi.ProviderDomain) *peer {
	d.mu.Lock()
	p := d.peers[follower]
	d.mu.Unlock()
	if p != nil {
		select {
		case p.contact <- struct{}{}:
		default:
		}
	}
	return p
}

// Pause stops delivery to a follower, or starts it again. What waits is kept.
func (d *Deliverer) Pause(follower mimi.ProviderDomain, paused bool) {
	p := d.peer(follower)
	p.mu.Lock()
	p.paused = paused
	p.fresh.clear()
	p.cursors.clear()
	p.mu.Unlock()
	p.signal()
}

// Retry tries a follower at once, even if it asked us to wait.
func (d *Deliverer) Retry(follower mimi.ProviderDomain) {
	d.mu.Lock()
	p := d.peers[follower]
	d.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	p.asked, p.told = false, time.Time{}
	p.mu.Unlock()
	d.Contact(follower)
}

// Drop gives up what a follower has not acknowledged.
func (d *Deliverer) Drop(ctx context.Context, follower mimi.ProviderDomain) error {
	err := d.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.DropBacklog(string(follower))
		return err
	})
	p := d.peer(follower)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh.clear()
	p.cursors.clear() // they are where the database had them
	return err
}

// A Status is how delivery to a follower stands.
type Status struct {
	Follower mimi.ProviderDomain
	Failures int       // in a row
	Failure  string    // the last one, in words; empty if none since a success
	RetryAt  time.Time // when it is tried again, if there was a failure
	Paused   bool      // by the operator
}

// Status returns how delivery to all followers stands.
func (d *Deliverer) Status() []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []Status
	for _, p := range d.peers {
		p.mu.Lock()
		list = append(list, Status{Follower: p.domain, Failures: p.failures, Failure: p.failure, RetryAt: p.retryAt, Paused: p.paused})
		p.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Status) int { return compare(a.Follower, b.Follower) })
	return list
}

func compare(a, b mimi.ProviderDomain) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// A peer is the work for one follower.
type peer struct {
	d       *Deliverer
	domain  mimi.ProviderDomain
	wake    chan struct{}
	contact chan struct{}

	mu       sync.Mutex
	rooms    map[int64]*task     // rooms that may have something
	queue    []int64             // those of them that wait for their turn
	log      catchUp             // and those whose log is to be read
	refused  map[int64]time.Time // rooms that the follower refuses, until they are tried again
	fresh    fresh
	cursors  cursors
	scan     bool // ask the database for rooms
	active   int  // rooms whose turn it is, but for those with a share of log
	failures int
	failure  string
	retryAt  time.Time
	asked    bool // retryAt is the follower's wish
	paused   bool
	failedAt time.Time   // the last failure, by the steady clock
	told     time.Time   // when other nodes were told of a contact
	leads    atomic.Bool // this node has the lease
}

// A task is a room that may have something for the follower.
type task struct {
	running bool
	again   bool  // something came while it ran
	last    int64 // its newest event when its log was last read
}

func (p *peer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// want queues a room; p.mu is held.
func (p *peer) want(room int64) {
	if until, ok := p.refused[room]; ok {
		if p.d.cfg.Now().Before(until) {
			return
		}
		delete(p.refused, room)
	}
	switch t := p.rooms[room]; {
	case t == nil:
		p.rooms[room] = &task{}
		p.queue = append(p.queue, room)
	case t.running:
		t.again = true
	}
}

func (p *peer) run(ctx context.Context) {
	var wg sync.WaitGroup
	l := &lease{d: p.d, name: "deliver/" + string(p.domain)}
	defer l.release(ctx)
	defer p.d.lastAcks(ctx)
	defer wg.Wait() // what is under way is still ours
	timer := time.NewTimer(leaseTime)
	defer timer.Stop()
	for {
		p.mu.Lock()
		now := p.d.cfg.Now()
		wait := leaseTime / 3
		held := now.Before(p.retryAt)
		if held {
			wait = min(wait, p.retryAt.Sub(now))
		}
		idle := len(p.queue)+len(p.log.rooms) == 0 && !p.scan && p.active+p.log.shares == 0 || p.paused
		p.mu.Unlock()
		if !held && !idle {
			leads := l.hold(ctx)
			p.leads.Store(leads)
			if leads {
				p.dispatch(ctx, &wg)
			} else {
				p.passOn()
				wait = leaseAgain
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		case <-p.contact:
			p.mu.Lock()
			if !p.asked { // who asked us to wait, and asks something else, waits too
				p.retryAt = time.Time{}
				p.scan = p.scan || p.failures > 0
			}
			p.mu.Unlock()
		}
	}
}

// passOn forgets the rooms that wait: another node delivers them. When it ends,
// this one asks the database.
func (p *peer) passOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, room := range slices.Concat(p.queue, p.log.rooms) {
		delete(p.rooms, room)
	}
	p.queue, p.log.rooms, p.scan = nil, nil, true
	p.fresh.clear()
	p.cursors.clear()
}

// dispatch starts as many rooms as may run.
func (p *peer) dispatch(ctx context.Context, wg *sync.WaitGroup) {
	p.mu.Lock()
	scan := p.scan
	p.scan = false
	p.mu.Unlock()
	if scan {
		if err := p.backlog(ctx); err != nil && ctx.Err() == nil {
			p.d.cfg.Logger.Error("can't read what waits for a follower", "follower", string(p.domain), "error", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The lease and the backlog took their time: a room may have failed meanwhile.
	if p.d.cfg.Now().Before(p.retryAt) || p.paused {
		return
	}
	begin := func(queue *[]int64, t *turn) {
		t.room = (*queue)[0]
		*queue = (*queue)[1:]
		p.rooms[t.room].running = true
		wg.Go(func() { p.work(ctx, t) })
	}
	// First see whether it is back.
	may := func() bool { return p.failures == 0 || p.active+p.log.shares == 0 }
	for len(p.queue) > 0 && p.active < roomsAtOnce && may() {
		p.active++
		begin(&p.queue, &turn{})
	}
	for len(p.log.rooms) > 0 && may() {
		t := &turn{}
		if !p.log.reserve(t) {
			break
		}
		begin(&p.log.rooms, t)
	}
}

// backlog queues the rooms whose logs the follower is behind.
func (p *peer) backlog(ctx context.Context) error {
	for after := int64(0); ; {
		var list []store.Follower
		err := p.d.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
			list, err = tx.Backlog(string(p.domain), after, 1000)
			return err
		})
		if err != nil {
			return err
		}
		p.mu.Lock()
		for _, f := range list {
			p.want(f.RoomID)
			after = f.RoomID
		}
		p.mu.Unlock()
		if len(list) < 1000 {
			return nil
		}
	}
}

// work sends what one room has, batch by batch, until there is nothing more or
// the follower fails.
func (p *peer) work(ctx context.Context, turn *turn) {
	var err error
	var no *refusedError
	room := turn.room
	more := true
	for n := 0; more && err == nil && ctx.Err() == nil && !p.isPaused() && (n < batchesInTurn || !p.othersWait(turn)); n++ {
		begun := time.Now()
		var rest time.Duration
		if more, rest, err = p.send(ctx, turn); err == nil || errors.As(err, &no) {
			p.answered(begun)
		}
		if more && rest > 0 {
			select {
			case <-time.After(rest):
			case <-ctx.Done():
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if turn.share == 0 {
		p.active--
	}
	p.log.release(turn)
	t := p.rooms[room]
	t.running = false
	t.again = t.again || more && err == nil // at the end of those that wait
	later := errors.Is(err, errLater)
	if err != nil && !later {
		p.cursors.drop(room)
	}
	if no != nil {
		// It answers: the trouble is with this room alone.
		p.fresh.drop(room)
		p.refused[room] = p.d.cfg.Now().Add(refusedEvery)
		err, t.again = nil, false
	}
	switch {
	case later:
		p.log.rooms = append(p.log.rooms, room)
	case err != nil && ctx.Err() == nil:
		p.log.window = leastWindow
		p.failed(err)
		p.queue = append(p.queue, room)
	case err == nil && !t.again && !p.paused:
		delete(p.rooms, room)
	default:
		p.queue = append(p.queue, room)
	}
	t.again = false
	p.signal()
}

// failed notes a failure and when to try again; p.mu is held.
func (p *peer) failed(err error) {
	p.failure, p.failedAt = err.Error(), time.Now()
	now := p.d.cfg.Now()
	held := now.Before(p.retryAt) // another room has found out already
	if _, after := mimi.HTTPStatus(err); after > 0 {
		after = min(after, longestWait)
		if until := now.Add(after + rand.N(after/8+1)); until.After(p.retryAt) {
			p.retryAt = until
		}
		p.asked = true
	} else if !held {
		wait := min(firstRetry<<min(p.failures, 20), lastRetry)
		p.retryAt, p.asked = now.Add(wait/2+rand.N(wait/2)), false
	}
	if held {
		return
	}
	p.failures++
	if p.failures == 1 || p.failures%20 == 0 {
		p.d.cfg.Logger.Warn("follower can't be reached; what waits for it is kept", "follower", string(p.domain), "failures", p.failures, "error", err)
	}
}

// A part is events of a room that are to be sent next.
type part struct {
	cursor store.Follower
	room   store.Room // its ID and URI
	events []store.Event
	last   int64 // the newest event of the room, as far as is known
	more   bool  // the follower has another cursor there, which comes after
	mark   uint64
	// Of events that were read from the log: when that began, and what to call when
	// they are not needed any more.
	begun time.Time
	done  func()
}

// next returns what a room has for the follower; no events: nothing.
func (p *peer) next(ctx context.Context, turn *turn) (n part, err error) {
	roomID := turn.room
	p.mu.Lock()
	w, known := p.cursors.rooms[roomID]
	n.mark = p.cursors.dropped
	if known {
		n.cursor, n.room, n.last = w.Follower, store.Room{ID: roomID, URI: w.RoomURI}, p.fresh.last(roomID)
		n.events = p.fresh.take(roomID, n.cursor.AckedSeq, n.last, batchEvents+1)
	}
	p.mu.Unlock()
	if len(n.events) > 0 {
		return n, nil
	}
	var list []store.Waiting
	before := p.d.acks.of(string(p.domain), roomID)
	err = p.d.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		list, err = tx.Behind(string(p.domain), roomID)
		return err
	})
	if err != nil {
		return n, err
	}
	after := p.d.acks.of(string(p.domain), roomID)
	for len(list) > 0 {
		w := &list[0]
		before.apply(&w.Follower)
		if after.apply(&w.Follower); w.AckedSeq < w.LastSeq && (w.UntilSeq == 0 || w.AckedSeq < w.UntilSeq) {
			break
		}
		list = list[1:]
	}
	if len(list) == 0 {
		return n, nil
	}
	n.cursor, n.last, n.more = list[0].Follower, list[0].LastSeq, len(list) > 1
	n.room = store.Room{ID: roomID, URI: list[0].RoomURI}
	// Not past what the log had when the cursor was read: it may end since.
	p.mu.Lock()
	n.events = p.fresh.take(roomID, n.cursor.AckedSeq, n.last, batchEvents+1)
	p.mu.Unlock()
	if len(n.events) == 0 {
		n.events, n.begun, n.done, err = p.fromLog(ctx, turn, n.cursor.AckedSeq, n.last-n.cursor.AckedSeq)
		if i := slices.IndexFunc(n.events, func(e store.Event) bool { return e.Seq > n.last }); i >= 0 {
			n.events = n.events[:i]
		}
	}
	return n, err
}

// send delivers one batch of a room. more says whether to go on, and rest after
// what time.
func (p *peer) send(ctx context.Context, turn *turn) (more bool, rest time.Duration, err error) {
	roomID := turn.room
	next, err := p.next(ctx, turn)
	if next.done != nil {
		defer next.done()
	}
	if err != nil || len(next.events) == 0 {
		return false, 0, err
	}
	cursor, room, events := next.cursor, next.room, next.events
	req, n, upto, oldest := p.batch(cursor, events)
	if upto == cursor.AckedSeq {
		return false, 0, nil
	}
	if n > 0 {
		start := p.d.cfg.Now()
		traced, end := p.d.spans.start(ctx, p.domain, room, events)
		err := p.d.cfg.Sender.Notify(traced, p.domain, mimi.RoomURI(room.URI), req)
		end(err)
		p.d.cfg.Observe(p.domain, n, p.d.cfg.Now().Sub(start), err)
		if gone(err) {
			// One that has no client left in the room need not take them.
			if cursor.UntilSeq == 0 && p.d.cfg.Now().Sub(time.UnixMilli(oldest)) < refusedFor {
				p.d.cfg.Logger.Info("follower refuses events of a room; they are tried again", "follower", string(p.domain), "room", room.URI, "events", n, "error", err)
				return false, 0, &refusedError{err}
			}
			p.d.cfg.Logger.Warn("follower refuses events of a room; they are dropped", "follower", string(p.domain), "room", room.URI, "events", n, "error", err)
		} else if err != nil {
			return false, 0, err
		}
	}
	done := upto - cursor.AckedSeq
	cursor.AckedSeq = upto
	p.d.acks.put(cursor)
	p.mu.Lock()
	p.fresh.forget(roomID, upto)
	if !next.more {
		p.cursors.keep(store.Waiting{Follower: cursor, RoomURI: room.URI}, next.mark)
	}
	if next.done != nil {
		t := p.rooms[roomID]
		if t.last > 0 {
			p.log.grew(max(next.last-t.last, 0))
		}
		t.last = next.last
		rest = p.log.sent(done, time.Since(next.begun))
	}
	p.mu.Unlock()
	if n == 0 || p.d.cfg.Now().Sub(time.UnixMilli(oldest)) <= restAfter {
		rest = 0
	}
	return upto < next.last || next.more, rest, nil
}

// A refusedError is a follower's refusal of one room's events.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }

// answered notes that the follower took a request that was begun at a time: it is
// there, and the other rooms need not wait for all that the first one has. What
// was begun before the last failure says nothing.
func (p *peer) answered(begun time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if begun.Before(p.failedAt) {
		return
	}
	if p.failures > 0 {
		p.d.cfg.Logger.Info("follower is back", "follower", string(p.domain), "after_failures", p.failures)
		p.scan = true
		p.signal()
	}
	p.failures, p.failure, p.retryAt, p.asked = 0, "", time.Time{}, false
}

// othersWait says whether rooms wait for a turn like this one to end.
func (p *peer) othersWait(t *turn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return t.share == 0 && len(p.queue) > 0 || t.share > 0 && len(p.log.rooms) > 0
}

func (p *peer) isPaused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}

// gone says whether a follower will never take these events.
func gone(err error) bool {
	var refused *mimi.RefusedError
	if errors.As(err, &refused) {
		return refused.Refusal == mimi.RefusedNotFound
	}
	var malformed *mimi.MalformedError
	return errors.As(err, &malformed)
}

// batch puts together the next request: how many events it has, the last
// position that is done with when it was taken, and when the first was accepted.
func (p *peer) batch(cursor store.Follower, events []store.Event) (req *mimi.NotifyRequest, n int, upto, oldest int64) {
	upto = cursor.AckedSeq
	var encoded [][]byte
	size := 0
	for i := range events {
		e := &events[i]
		if cursor.UntilSeq > 0 && e.Seq > cursor.UntilSeq {
			break
		}
		if e.Seq < cursor.FirstSeq || len(e.Audience) > 0 && !slices.Contains(e.Audience, string(p.domain)) || len(e.Body) == 0 {
			upto = e.Seq
			continue
		}
		// A Welcome goes with the commit that it belongs to, or the follower would
		// take those whom it names for people without a client.
		if n > 0 && (size+len(e.Body) > batchBytes || n >= batchEvents) && mimi.FanoutKind(e.Kind) != mimi.FanoutWelcome {
			break
		}
		encoded = append(encoded, e.Body)
		if n == 0 {
			oldest = e.AcceptedMillis
		}
		size += len(e.Body)
		n++
		upto = e.Seq
	}
	return mimi.ForwardedNotify(encoded), n, upto, oldest
}
