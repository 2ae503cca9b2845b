package provider

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/store"
)

const (
	// removalsEvery is how often removals that could not be done are tried again,
	// and removalsFor for how long.
	removalsEvery = 20 * time.Second
	removalsFor   = 7 * 24 * time.Hour
	// removalsAtOnce bounds how many are looked at together.
	removalsAtOnce = 500
	// noticeTime is how long another hub may take for one notice.
	noticeTime = 20 * time.Second
)

// wakeRemovals says that somebody is to be taken out of a room.
func (p *Provider) wakeRemovals() {
	select {
	case p.removals <- struct{}{}:
	default:
	}
}

// removalLoop takes users and clients that are gone out of their rooms: those
// whose account or device is gone, and those who left the room that another
// depends on. In rooms that are hosted here the hub proposes it; the hubs of
// others are told.
func (p *Provider) removalLoop(ctx context.Context) {
	t := time.NewTicker(removalsEvery)
	defer t.Stop()
	for {
		if err := p.removeGone(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Logger.Error("can't take users who are gone out of their rooms yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-p.removals:
		}
	}
}

// removeGone tries all removals that wait once. Those for other hubs go side by
// side, so that one that is down holds up its own rooms alone.
func (p *Provider) removeGone(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	abroad := map[mimi.ProviderDomain][]store.Removal{}
	for after := (store.Removal{}); ; {
		var list []store.Removal
		err := p.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
			list, err = tx.Removals(after, removalsAtOnce)
			return err
		})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		for _, r := range list {
			after = r
			if at := mimi.RoomURI(r.Room).Host(); at != p.cfg.Domain {
				abroad[at] = append(abroad[at], r)
				continue
			}
			if err := p.removed(ctx, r, p.remove(ctx, r)); err != nil {
				return err
			}
		}
	}
	for _, list := range abroad {
		wg.Go(func() {
			for _, r := range list {
				err := p.tell(ctx, r)
				if e := p.removed(ctx, r, err); e != nil && ctx.Err() == nil {
					p.cfg.Logger.Error("can't note that a hub was told", "room", r.Room, "error", e)
				}
				if waits(err) {
					return // the others of this hub wait with it
				}
			}
		})
	}
	return nil
}

// remove proposes one removal in a room that is hosted here.
func (p *Provider) remove(ctx context.Context, r store.Removal) error {
	uri, user := mimi.RoomURI(r.Room), mimi.UserURI(r.User)
	if r.Client == "" {
		return p.hub.RemoveUser(ctx, uri, user)
	}
	if back, err := p.isBack(ctx, r); err != nil || back {
		return err
	}
	return p.hub.RemoveClient(ctx, uri, user, mimi.ClientURI(r.Client))
}

// tell tells the hub of a room elsewhere. It has no client of ours to say so.
func (p *Provider) tell(ctx context.Context, r store.Removal) error {
	notice := &mimi.GoneNotice{User: mimi.UserURI(r.User)}
	if r.Client != "" {
		if back, err := p.isBack(ctx, r); err != nil || back {
			return err
		}
		notice.Clients = []mimi.ClientURI{mimi.ClientURI(r.Client)}
	}
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	uri := mimi.RoomURI(r.Room)
	return p.hubOf(uri).Gone(ctx, p.cfg.Domain, uri, notice)
}

// isBack reports whether a device of ours that was removed has logged in again
// under its old name: then it takes its old leaf's place by itself.
func (p *Provider) isBack(ctx context.Context, r store.Removal) (back bool, err error) {
	err = p.cfg.Store.View(ctx, func(tx *store.Tx) error {
		c, err := tx.Client(r.Client)
		if errors.Is(err, store.ErrNotFound) {
			return nil // another provider's
		}
		back = err == nil && c.State == store.StateActive
		return err
	})
	return back, err
}

// waits reports whether a removal is to be tried again.
func waits(err error) bool {
	var refused *mimi.RefusedError
	return err != nil && (!errors.As(err, &refused) || refused.Refusal == mimi.RefusedTooMany)
}

// removed drops a removal that is done or will never be, and says what came of
// it if it isn't.
func (p *Provider) removed(ctx context.Context, r store.Removal, err error) error {
	var refused *mimi.RefusedError
	late := p.cfg.Now().Sub(time.UnixMilli(r.CreatedMillis)) > removalsFor
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil, errors.As(err, &refused) && refused.Refusal == mimi.RefusedNotFound:
	case !waits(err), late:
		p.cfg.Logger.Warn("a user who is gone stays in a room", "room", r.Room, "user", r.User, "client", r.Client, "error", err)
	default:
		// The room may let it later, when what is pending was committed, or the hub
		// is back.
		var policy *room.Refusal
		if mimi.RoomURI(r.Room).Host() == p.cfg.Domain && !errors.As(err, &policy) && !errors.Is(err, room.ErrNoHub) {
			return err
		}
		p.cfg.Logger.Info("a user who is gone can't be taken out of a room yet", "room", r.Room, "user", r.User, "client", r.Client, "error", err)
		return nil
	}
	return p.cfg.Store.Update(ctx, func(tx *store.Tx) error { return tx.DropRemoval(r) })
}
