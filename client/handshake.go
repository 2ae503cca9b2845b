package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A RefusedError is a change that the hub refused.
type RefusedError struct {
	Code mimi.UpdateResponseCode
	Why  string
}

func (e *RefusedError) Error() string {
	if e.Why == "" {
		return "client: the hub refused it: " + e.Code.String()
	}
	return "client: the hub refused it: " + e.Why
}

const (
	// changeAttempts is how often a change is made anew for another epoch.
	changeAttempts = 30
	// catchUp is how long to wait for what the hub already has to come along.
	catchUp = 20 * time.Second
)

// errAgain says that a handshake lost against another one and is to be made anew.
var errAgain = errors.New("client: the room has changed in the meantime")

// A handshake is what a change asks of a room: a Commit, or proposals.
type handshake struct {
	staged   *room.Staged
	proposed *room.Proposed
}

// change makes a handshake and brings it through: if another one is faster, it
// is made anew for the new state of the room, without anybody noticing. make
// works on a copy of the room. The room's op must not be held.
func (c *Client) change(ctx context.Context, uri mimi.RoomURI, make func(*room.Room) (handshake, error)) error {
	c.mu.Lock()
	r, _, err := c.member(ctx, uri)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := r.acquire(ctx); err != nil {
		return err
	}
	defer r.release()
	return c.changeHeld(ctx, r, make)
}

func (c *Client) changeHeld(ctx context.Context, r *roomState, make func(*room.Room) (handshake, error)) error {
	for range changeAttempts {
		if err := c.resolve(ctx, r); err != nil && !errors.Is(err, errAgain) {
			return err
		}
		c.mu.Lock()
		r.prepared = nil
		c.mu.Unlock()
		if err := c.prepare(ctx, r, make); err != nil {
			return err
		}
		// The log may have overtaken it by now: then it is not pending any more,
		// and is to be made again.
		c.mu.Lock()
		p := r.prepared
		c.mu.Unlock()
		if p == nil {
			return nil // there was nothing to change
		}
		if err := c.resolveThis(ctx, r, p); !errors.Is(err, errAgain) {
			return err
		}
	}
	return fmt.Errorf("client: %d others were faster; try again", changeAttempts)
}

// prepare makes a handshake and stores it together with the state it leads to.
func (c *Client) prepare(ctx context.Context, r *roomState, make func(*room.Room) (handshake, error)) error {
	return c.believing(ctx, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, _, err := c.member(ctx, r.uri); err != nil {
			return err
		}
		var next *room.Room
		err := c.store.View(ctx, func(tx Tx) (err error) {
			next, err = c.load(tx, r)
			return err
		})
		if err != nil {
			return err
		}
		p := &pendingRecord{kind: pendingCommit, epoch: next.View().Epoch(), covered: len(next.Group().Pending())}
		h, err := make(next)
		if err != nil {
			return err
		}
		var bundle *mimi.HandshakeBundle
		var events []Event
		if h.staged != nil {
			bundle, events = h.staged.Bundle(), changes(next, h.staged)
			if err := next.Merge(h.staged); err != nil {
				return err
			}
			events = append(events, Event{Kind: EventEpoch, Epoch: next.View().Epoch()})
		} else {
			bundle, p.kind = h.proposed.Bundle, pendingPropose
		}
		return c.pend(ctx, r, p, next, bundle, events)
	})
}

// pend stores a handshake as the one that is under way. c.mu is held.
func (c *Client) pend(ctx context.Context, r *roomState, p *pendingRecord, next *room.Room, bundle *mimi.HandshakeBundle, events []Event) error {
	digest, err := bundle.ProposalOrCommit.Digest()
	if err != nil {
		return err
	}
	p.digest = digest[:]
	if p.body, err = tlspl.Marshal(&mimi.UpdateRequest{Bundle: *bundle}); err != nil {
		return err
	}
	if p.records, err = next.Flush(); err != nil {
		return err
	}
	if p.events, err = json.Marshal(events); err != nil {
		return err
	}
	_, err = c.write(ctx, func(b *batch) error {
		if r.rec.number == 0 {
			if err := c.save(b.tx, r); err != nil {
				return err
			}
		}
		r.pending, r.prepared, r.next = p, p, next
		return put(b.tx, key(keyPending, r.rec.number), p)
	}, r)
	return err
}

// resolve sends the handshake that is under way, if there is one, and takes up
// the answer. errAgain says that it lost; any other error of the hub's that it
// was refused. If the provider can't be reached it stays under way.
func (c *Client) resolve(ctx context.Context, r *roomState) error {
	c.mu.Lock()
	p := r.pending
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	return c.resolveThis(ctx, r, p)
}

// resolveThis is resolve for one handshake, whether it is still pending or not.
func (c *Client) resolveThis(ctx context.Context, r *roomState, p *pendingRecord) error {
	for failures := 0; ; failures++ {
		err := c.resolveOnce(ctx, r, p)
		var e *clientapi.Error
		if !errors.As(err, &e) || e.Code != clientapi.CodeTooMany && e.Code != clientapi.CodeFailed && e.Code != clientapi.CodeUnreachable || failures >= 3 {
			return err
		}
		wait := max(e.RetryAfter, backoff(failures))
		if err := sleep(ctx, min(wait, 10*time.Second)); err != nil {
			return err
		}
	}
}

func (c *Client) resolveOnce(ctx context.Context, r *roomState, p *pendingRecord) error {
	if p.kind == pendingCreate || p.kind == pendingAgain {
		return c.found(ctx, r, p)
	}
	q := new(mimi.UpdateRequest)
	if err := tlspl.Unmarshal(p.body, q); err != nil {
		return &CorruptError{keyPending, err}
	}
	resp, err := c.provider.Update(ctx, r.uri, q)
	if err != nil {
		if why := final(err); why != "" {
			if err := c.lose(ctx, r, p); err != nil {
				return err
			}
			if notFound(err) {
				if _, err := c.lost(ctx, r, true); err != nil {
					return err
				}
			}
			return err
		}
		return c.unless(r, p, err)
	}
	if resp.ResponseCode == mimi.UpdateSuccess {
		c.mu.Lock()
		var events []Event
		if r.pending == p {
			events, err = c.write(ctx, func(b *batch) error { return b.settle(r, resp.AcceptedTimestamp) }, r)
		}
		c.mu.Unlock()
		c.notify.tell(events...)
		return err
	}
	c.mu.Lock()
	done, epoch := r.pending != p, p.epoch
	c.mu.Unlock()
	if done { // the log has settled it already, one way or the other
		return c.settled(r, p)
	}
	if err := c.lose(ctx, r, p); err != nil {
		return err
	}
	switch {
	case p.kind == pendingJoin && resp.ResponseCode == mimi.UpdateWrongEpoch:
		return errAgain
	case resp.ResponseCode == mimi.UpdateWrongEpoch && resp.CurrentEpoch < epoch: // nothing is to be waited for
		c.mu.Lock()
		defer c.mu.Unlock()
		_, err := c.write(ctx, func(b *batch) error {
			return b.repair(r, "the hub has gone back to epoch %d, this device is in epoch %d: the hub was restored from a backup", resp.CurrentEpoch, epoch)
		}, r)
		if err != nil {
			return err
		}
		return errWait
	case resp.ResponseCode == mimi.UpdateWrongEpoch:
		return c.catchUp(ctx, r, func(g *room.Room) bool { return g.View().Epoch() > epoch && g.View().Epoch() >= resp.CurrentEpoch })
	case resp.ResponseCode == mimi.UpdateNotAllowed && resp.ErrorDescription == room.PendingDescription:
		return c.pendingElsewhere(ctx, r, p, epoch)
	}
	return &RefusedError{resp.ResponseCode, resp.ErrorDescription}
}

// unless returns nil for an error whose handshake the log has settled.
func (c *Client) unless(r *roomState, p *pendingRecord, err error) error {
	c.mu.Lock()
	done := r.pending != p
	c.mu.Unlock()
	if done {
		return c.settled(r, p)
	}
	return err
}

// settled says what became of a handshake that is not under way any more.
func (c *Client) settled(r *roomState, p *pendingRecord) error {
	if p.won {
		return nil
	}
	return errAgain
}

// lose gives up the handshake that is under way.
func (c *Client) lose(ctx context.Context, r *roomState, p *pendingRecord) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.pending != p {
		return nil
	}
	_, err := c.write(ctx, func(b *batch) error { return b.abandon(r) }, r)
	return err
}

// catchUp waits for what the hub has to arrive, and then says errAgain. If it
// does not arrive the device comes in anew.
func (c *Client) catchUp(ctx context.Context, r *roomState, there func(*room.Room) bool) error {
	wait, cancel := context.WithTimeoutCause(ctx, catchUp, errAgain)
	defer cancel()
	err := c.await(wait, func() bool {
		return r.group == nil || r.rec.standing != Joined && r.rec.standing != Leaving || there(r.group)
	})
	if err != nil && errors.Is(err, errAgain) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.running {
			return errors.New("client: the room has changed, and its events do not come in: Run is not running")
		}
		_, err := c.write(ctx, func(b *batch) error { return b.repair(r, "the hub is ahead, and what came in between does not arrive") }, r)
		if err != nil {
			return err
		}
		return errWait
	}
	if err != nil {
		return err
	}
	return errAgain
}

// pendingElsewhere handles a Commit that did not have all proposals that are
// pending at the hub (Decision 34): they are on their way.
func (c *Client) pendingElsewhere(ctx context.Context, r *roomState, p *pendingRecord, epoch mls.Epoch) error {
	c.mu.Lock()
	before := 0
	if r.group != nil {
		before = len(r.group.Group().Pending())
		if targeted(r.group) {
			c.mu.Unlock()
			return &RefusedError{mimi.UpdateNotAllowed, "this device is about to be taken out of the room"}
		}
	}
	c.mu.Unlock()
	return c.catchUp(ctx, r, func(g *room.Room) bool {
		return g.View().Epoch() > epoch || len(g.Group().Pending()) > max(before, p.covered)
	})
}

// backoff is how long to wait after so many failures in a row.
func backoff(failures int) time.Duration {
	return min(250*time.Millisecond<<min(failures, 10), time.Minute)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
