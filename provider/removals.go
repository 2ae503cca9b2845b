package provider

import (
	"context"
	"errors"
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
	// removalsAtOnce bounds how many are done in one round.
	removalsAtOnce = 500
)

// wakeRemovals says that somebody is to be taken out of a room.
func (p *Provider) wakeRemovals() {
	select {
	case p.removals <- struct{}{}:
	default:
	}
}

// removalLoop takes users and clients that are gone out of the rooms that are
// hosted here, as the hub: those whose account or device is gone, and those who
// left the room that another depends on.
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

func (p *Provider) removeGone(ctx context.Context) error {
	var list []store.Removal
	err := p.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		list, err = tx.Removals(removalsAtOnce)
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range list {
		uri, user := mimi.RoomURI(r.Room), mimi.UserURI(r.User)
		if r.Client == "" {
			err = p.hub.RemoveUser(ctx, uri, user)
		} else {
			err = p.hub.RemoveClient(ctx, uri, user, mimi.ClientURI(r.Client))
		}
		var refused *mimi.RefusedError
		var policy *room.Refusal
		switch {
		case err == nil, errors.As(err, &refused) && refused.Refusal == mimi.RefusedNotFound:
		case p.cfg.Now().Sub(time.UnixMilli(r.CreatedMillis)) > removalsFor:
			p.cfg.Logger.Warn("a user who is gone stays in a room", "room", r.Room, "user", r.User, "client", r.Client, "error", err)
		case errors.As(err, &policy), errors.Is(err, room.ErrNoHub):
			// The room may let it later, when what is pending was committed.
			p.cfg.Logger.Info("a user who is gone can't be taken out of a room yet", "room", r.Room, "user", r.User, "client", r.Client, "error", err)
			continue
		default:
			return err
		}
		if err := p.cfg.Store.Update(ctx, func(tx *store.Tx) error { return tx.DropRemoval(r) }); err != nil {
			return err
		}
	}
	return nil
}
