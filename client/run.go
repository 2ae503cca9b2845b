package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
)

const (
	// lookEvery is how often the stock of KeyPackages, the list of rooms and what
	// has expired are looked at while connected.
	lookEvery = 10 * time.Minute
	// repairsInARow is how often a device comes into a room anew without
	// understanding anything in between, before it gives up.
	repairsInARow = 5
	// sayAfter is after how many failures in a row a device says that it can't come into a room at present.
	sayAfter = 5
)

// Run keeps the device connected and does what is to be done by itself, until
// ctx ends; then it returns nil. It returns an error if the session is over or
// the store fails. Only one Run at a time.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("client: Run is running already")
	}
	c.running = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = false
		c.touch()
		c.mu.Unlock()
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.work(ctx); err != nil {
			cancel(err)
		}
	})
	err := c.stayConnected(ctx)
	cancel(err)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// stayConnected connects again and again.
func (c *Client) stayConnected(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; failures++ {
		started := c.cfg.Now()
		err := c.connected(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var refused *clientapi.Error
		var store *storeError
		switch {
		case errors.As(err, &store):
			return store.error
		case errors.As(err, &refused) && refused.Code == clientapi.CodeUnauthorized:
			return fmt.Errorf("client: the provider has ended this device's session; log in again: %w", err)
		}
		c.notify.tell(Event{Kind: EventOffline, Text: err.Error(), Time: c.cfg.Now()})
		if c.cfg.Now().Sub(started) > time.Minute {
			failures = 0
		}
		wait := backoff(failures)
		if refused != nil {
			wait = max(wait, refused.RetryAfter)
		}
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
	return nil
}

// A storeError is an error of the device's own store: nothing goes on then.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

// connected is one connection, from its begin to its end.
func (c *Client) connected(ctx context.Context) error {
	conn, err := c.provider.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	c.mu.Lock()
	c.conn, c.info, c.caught, c.looked = conn, nil, false, false
	for _, r := range c.rooms {
		r.retryAt, r.failures = time.Time{}, 0
		if r.rec.standing == Joined && r.rec.why == whyEnded && r.commitAt.IsZero() {
			r.commitAt = c.cfg.Now().Add(c.foundDelay(r.group))
		}
	}
	c.touch()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.conn, c.caught = nil, false
		c.touch()
		c.mu.Unlock()
	}()
	c.notify.tell(Event{Kind: EventOnline, Time: c.cfg.Now()})
	wg.Go(func() { c.look(ctx) })
	for {
		list, err := conn.Next(ctx)
		if err != nil {
			return err
		}
		if err := c.receive(ctx, list); err != nil {
			var unknown *unknownIssuersError
			if ctx.Err() != nil || errors.As(err, &unknown) {
				return err
			}
			return &storeError{err}
		}
		if err := c.acknowledge(ctx, conn, list); err != nil {
			return err
		}
	}
}

// acknowledge tells the provider what is stored here.
func (c *Client) acknowledge(ctx context.Context, conn Connection, list []clientapi.Event) error {
	last := map[mimi.RoomURI]int64{}
	for i := range list {
		if !list[i].Invited {
			last[list[i].Room] = max(last[list[i].Room], list[i].Seq)
		}
	}
	for _, room := range slices.Sorted(maps.Keys(last)) {
		if err := conn.Ack(ctx, room, last[room]); err != nil {
			return err
		}
	}
	return nil
}

// look does what is due now and then: it learns of rooms, refills the stock, and
// deletes what has expired.
func (c *Client) look(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		err := errors.Join(c.lookAtRooms(ctx), c.Refill(ctx), c.Sweep(ctx), c.removeLost(ctx), c.renewLeaves(ctx))
		c.mu.Lock()
		c.looked = true
		c.touch()
		c.mu.Unlock()
		wait := lookEvery
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			c.cfg.Logger.Warn("looking after the device", "error", err)
			wait = backoff(failures)
			failures++
		} else {
			failures = 0
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-c.used:
		}
		t.Stop()
	}
}

// lookAtRooms compares what the provider knows of this device's rooms with what
// is here.
func (c *Client) lookAtRooms(ctx context.Context) error {
	c.mu.Lock()
	unheard := map[*roomState]bool{} // rooms that this device was in before it asked, and that the provider did not name
	for _, r := range c.rooms {
		if r.rec.standing == Joined && r.rec.repair == "" && r.pending == nil {
			unheard[r] = true
		}
	}
	c.mu.Unlock()
	list, err := c.provider.Rooms(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	events, err := c.write(ctx, func(b *batch) error {
		for i := range list {
			r := c.room(list[i].Room)
			read, newest := uint64(max(0, list[i].Read)), uint64(max(0, list[i].Newest))
			if list[i].Joined {
				c.newest[r.uri] = newest
				delete(unheard, r)
			}
			// Until it has acknowledged something, what brings it in, such as a
			// Welcome, is still on its way.
			acked := list[i].Joined && list[i].Read >= list[i].First
			r.reads = acked && r.rec.standing.out()
			switch {
			case r.rec.standing == 0 && list[i].Joined && !acked:
			case r.rec.standing == 0:
				r.rec.standing = Outside
				b.touch(r)
				if acked {
					// It was in, and its state is lost; what it had read does not come again.
					r.rec.repair, r.rec.cursor = "this device's state of the room was lost", read
				}
			case acked && (r.rec.standing == Joined || r.rec.standing == Leaving) && read > r.rec.cursor:
				r.rec.cursor = read
				if err := b.repair(r, "this device's state is older than what it has read: it was restored from a backup, or there is a copy of it"); err != nil {
					return err
				}
			}
		}
		return nil
	})
	c.caught = err == nil
	c.touch()
	c.mu.Unlock()
	c.notify.tell(events...)
	if err != nil {
		return err
	}
	return c.seek(ctx, unheard)
}

// Synced waits until everything that the provider had for this device when it
// connected is here, the stock of KeyPackages is filled up, and the rooms that
// the device is to come into have been tried. It needs Run.
func (c *Client) Synced(ctx context.Context) error {
	return c.await(ctx, func() bool {
		if !c.caught || !c.looked {
			return false
		}
		for _, r := range c.rooms {
			if (r.rec.standing == 0 || r.rec.standing == Joined || r.rec.standing == Outside) && r.rec.repair == "" && r.rec.cursor < c.newest[r.uri] {
				return false
			}
			if c.wantsIn(r) && r.failures == 0 {
				return false
			}
		}
		return true
	})
}

// Idle waits until there is nothing left to do: everything sent, committed, and
// settled. It needs Run.
func (c *Client) Idle(ctx context.Context) error {
	return c.await(ctx, func() bool {
		if !c.caught {
			return false
		}
		for _, r := range c.rooms {
			if r.busy || r.failures == 0 && (c.wantsIn(r) || r.pending != nil || !r.commitAt.IsZero() || !r.leaveAt.IsZero() || r.outbox > 0 && r.rec.standing == Joined) {
				return false
			}
		}
		return true
	})
}

// wantsIn reports whether the device is to come into a room. c.mu is held.
func (c *Client) wantsIn(r *roomState) bool {
	if r.rec.standing == Outside && r.rec.repair == "" {
		return r.pending == nil && r.rec.cursor >= c.newest[r.uri] // a Welcome may be on its way
	}
	return r.rec.repair != "" && (r.rec.standing == Joined || r.rec.standing == Leaving || r.rec.standing == Outside)
}

// work does what the rooms need, each by itself: a slow hub delays nobody else.
func (c *Client) work(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, 1)
	for {
		next := c.dispatch(ctx, &wg, failed)
		var timer <-chan time.Time
		if !next.IsZero() {
			t := time.NewTimer(max(0, next.Sub(c.cfg.Now())) + time.Millisecond)
			defer t.Stop()
			timer = t.C
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-c.wake:
		case <-timer:
		}
	}
}

// dispatch starts what is due, and says when something will be next.
func (c *Client) dispatch(ctx context.Context, wg *sync.WaitGroup, failed chan<- error) (next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil || !c.caught {
		return next // what comes when connected wakes
	}
	now := c.cfg.Now()
	for _, r := range c.rooms {
		at := c.due(r)
		switch {
		case at == nil || r.busy:
		case at.After(now):
			if next.IsZero() || at.Before(next) {
				next = *at
			}
		default:
			r.busy = true
			wg.Go(func() {
				err := c.tend(ctx, r)
				c.mu.Lock()
				r.busy = false
				switch {
				case err == nil:
					r.failures, r.retryAt = 0, time.Time{}
				case errors.Is(err, errWait):
					r.retryAt = c.cfg.Now().Add(time.Second)
				default:
					c.cfg.Logger.Info("looking after a room", "room", string(r.uri), "error", err)
					r.retryAt = c.cfg.Now().Add(backoff(r.failures))
					r.failures++
				}
				c.touch()
				c.mu.Unlock()
				var corrupt *CorruptError
				if errors.As(err, &corrupt) {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
	return next
}

// due says when a room needs something; nil: nothing.
func (c *Client) due(r *roomState) *time.Time {
	at := r.retryAt
	switch {
	case r.pending != nil, c.wantsIn(r), r.suspect != "", r.reads:
	case r.rec.standing == Joined && !r.commitAt.IsZero():
		if r.commitAt.After(at) {
			at = r.commitAt
		}
	case r.rec.standing == Leaving && !r.leaveAt.IsZero():
		if r.leaveAt.After(at) {
			at = r.leaveAt
		}
	case r.rec.standing == Joined && r.outbox > 0:
	case r.rec.standing == Joined && !r.reportAt.IsZero():
		if r.reportAt.After(at) {
			at = r.reportAt
		}
	default:
		return nil
	}
	return &at
}

// tend does what a room needs.
func (c *Client) tend(ctx context.Context, r *roomState) error {
	if err := r.acquire(ctx); err != nil {
		return err
	}
	defer r.release()
	c.mu.Lock()
	caughtUp := r.rec.cursor >= c.newest[r.uri] || r.rec.standing != Joined && r.rec.standing != Leaving
	pending, wants, suspect, reads := r.pending != nil, c.wantsIn(r), r.suspect != "", r.reads
	commits := r.rec.standing == Joined && !r.commitAt.IsZero() && !r.commitAt.After(c.cfg.Now())
	leaves := r.rec.standing == Leaving && !r.leaveAt.IsZero() && !r.leaveAt.After(c.cfg.Now())
	reports := r.rec.standing == Joined && !r.reportAt.IsZero() && !r.reportAt.After(c.cfg.Now())
	c.mu.Unlock()
	switch {
	case pending && !caughtUp:
		return errWait // the log may settle it
	case pending:
		return c.again(ctx, r, c.resolve(ctx, r))
	case wants:
		return c.comeIn(ctx, r)
	case suspect:
		return c.suspicious(ctx, r)
	case reads:
		return c.sayOut(ctx, r)
	case commits:
		return c.commitPending(ctx, r)
	case leaves:
		return c.leaveAgain(ctx, r)
	}
	for reports {
		var err error
		if reports, err = c.report(ctx, r); err != nil {
			return err
		}
	}
	for {
		more, err := c.sendNext(ctx, r)
		if err != nil || !more {
			return err
		}
	}
}

// again handles the end of a handshake that nobody waits for.
func (c *Client) again(ctx context.Context, r *roomState, err error) error {
	var refused *RefusedError
	switch {
	case errors.Is(err, errAgain):
		return nil
	case errors.As(err, &refused), final(err) != "":
		return c.complain(ctx, r, err)
	}
	return err
}

func (c *Client) complain(ctx context.Context, r *roomState, why error) error {
	c.mu.Lock()
	events, err := c.write(ctx, func(b *batch) error { return b.problem(r, "%v", why) }, r)
	c.mu.Unlock()
	c.notify.tell(events...)
	return err
}

// comeIn brings the device into a room that it is to be in.
func (c *Client) comeIn(ctx context.Context, r *roomState) error {
	c.mu.Lock()
	done, repairing, leaving := r.repairs, r.rec.repair != "", r.rec.standing == Leaving
	c.mu.Unlock()
	if done >= repairsInARow && repairing {
		return c.bar(ctx, r, "this device came in "+fmt.Sprint(repairsInARow)+" times and could not follow the room")
	}
	err := c.join(ctx, r, nil, "")
	var denied *JoinError
	var refused *RefusedError
	var other *strangeError
	switch {
	case errors.As(err, &other):
		return c.keepOut(ctx, r, other)
	case err == nil:
		c.mu.Lock()
		r.repairs++
		c.mu.Unlock()
		return nil
	case errors.As(err, &refused) && refused.Why == room.ErrClosed.Error():
		return err // another group is being made
	case errors.As(err, &denied) && !repairing && c.unknown(r):
		return c.decline(ctx, r)
	case errors.As(err, &denied) && leaving:
		c.mu.Lock()
		events, err := c.write(ctx, func(b *batch) error { return b.leave(r, Left, "left", mimi.Millis(c.cfg.Now().UnixMilli())) }, r)
		c.mu.Unlock()
		c.notify.tell(events...)
		return err
	case errors.As(err, &denied), errors.As(err, &refused), room.Denied(err) != nil, final(err) != "":
		return c.bar(ctx, r, err.Error())
	}
	c.mu.Lock()
	stuck := r.failures == sayAfter
	c.mu.Unlock()
	if stuck && ctx.Err() == nil && !errors.Is(err, errWait) {
		if err := c.complain(ctx, r, fmt.Errorf("this device can't come in at present, and goes on trying: %w", err)); err != nil {
			return err
		}
	}
	return err
}

// unknown reports whether the device was never in a room, nor has it seen
// anything of it.
func (c *Client) unknown(r *roomState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.group == nil && r.rec.cursor == 0
}

// decline gives up, without a word, coming into a room that the device was told
// of by mistake: its provider can't always know who is listed (Decision 59).
func (c *Client) decline(ctx context.Context, r *roomState) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.write(ctx, func(b *batch) error {
		r.rec.standing, r.rec.why = Left, "not let in"
		r.repairs = 0
		b.touch(r)
		return nil
	}, r)
	return err
}

// bar gives up coming into a room.
func (c *Client) bar(ctx context.Context, r *roomState, why string) error {
	c.mu.Lock()
	events, err := c.write(ctx, func(b *batch) error {
		if err := drop(b.tx, key(keyGroup, r.rec.number)); err != nil {
			return err
		}
		r.group, r.rec.standing, r.rec.why, r.rec.repair, r.repairs = nil, Barred, why, "", 0
		return b.raise(r, Event{Kind: EventOut, Text: why})
	}, r)
	c.mu.Unlock()
	c.notify.tell(events...)
	return err
}

// commitPending commits what others proposed.
func (c *Client) commitPending(ctx context.Context, r *roomState) error {
	c.mu.Lock()
	g, err := c.held(ctx, r)
	ended := err == nil && g != nil && g.Ended() != nil
	if ended {
		r.commitAt = c.cfg.Now().Add(10 * time.Second) // if it comes to nothing
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if ended {
		return c.foundNext(ctx, r)
	}
	err = c.changeHeld(ctx, r, func(g *room.Room) (handshake, error) {
		if len(g.Group().Pending()) == 0 || targeted(g) {
			return handshake{}, errNothing
		}
		s, err := g.Commit(c.rand, 0)
		return handshake{staged: s}, err
	})
	c.mu.Lock()
	if r.group == nil || len(r.group.Group().Pending()) == 0 || targeted(r.group) {
		r.commitAt = time.Time{}
	} else if err != nil {
		r.commitAt = c.cfg.Now().Add(10 * time.Second)
	}
	c.mu.Unlock()
	if errors.Is(err, errNothing) {
		return nil
	}
	return c.again(ctx, r, err)
}

// leaveAgain proposes to leave once more: the room went on without the device's
// SelfRemove, which is void with its epoch, or the device had to come in anew.
func (c *Client) leaveAgain(ctx context.Context, r *roomState) error {
	err := c.changeHeld(ctx, r, func(g *room.Room) (handshake, error) {
		if r.rec.standing != Leaving || departing(g) {
			return handshake{}, errNothing
		}
		p, err := g.Leave(c.rand)
		return handshake{proposed: p}, err
	})
	c.mu.Lock()
	var refused *RefusedError
	switch r.leaveAt = (time.Time{}); {
	case err == nil || errors.Is(err, errNothing):
	case errors.As(err, &refused):
		r.leaveAt = c.cfg.Now().Add(lookEvery)
	default:
		r.leaveAt = c.cfg.Now().Add(10 * time.Second)
	}
	c.mu.Unlock()
	if errors.Is(err, errNothing) {
		return nil
	}
	return c.again(ctx, r, err)
}

// errNothing says that there is nothing to commit any more.
var errNothing = errors.New("client: nothing is pending")

// Online reports whether the device is connected to its provider.
func (c *Client) Online() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}
