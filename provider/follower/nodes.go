package follower

import (
	"context"
	"maps"
	"slices"

	"github.com/comity-im/comity/store"
)

// What follows is for several nodes on one database: each must notice what the
// others appended to the rooms of its connected clients. Hints say so within
// milliseconds; Look finds what hints missed.

const (
	// catchUpAtOnce is how many events that another node appended are read once
	// for all clients of a room; where there are more, each client reads its own.
	catchUpAtOnce = 128
	// lookAtOnce is how many rooms or clients are looked at in one query.
	lookAtOnce = 500
)

// Heard does what hints of other nodes ask for.
func (f *Follower) Heard(ctx context.Context, hints []store.Hint) error {
	for _, h := range hints {
		switch {
		case h.Client != "":
			f.notify.changed(h.Client)
		case h.Room != 0:
			if err := f.catchUp(ctx, h.Room); err != nil {
				return err
			}
		}
	}
	return nil
}

// catchUp hands the connected clients of a room what another node appended.
func (f *Follower) catchUp(ctx context.Context, room int64) error {
	f.notify.mu.Lock()
	readers, seen := len(f.notify.rooms[room]), f.notify.seen[room]
	f.notify.mu.Unlock()
	if readers == 0 {
		return nil
	}
	var events []store.Event
	more, last := false, int64(0)
	err := f.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		if seen > 0 {
			events, more, err = tx.EventsWithin(room, seen, catchUpAtOnce, readBytes)
			return err
		}
		newest, err := tx.Newest([]int64{room})
		last = newest[room]
		return err
	})
	switch {
	case err != nil:
		return err
	case seen == 0:
		f.notify.stale(room, last)
	case len(events) > 0:
		f.notify.published(room, events)
		if more {
			return f.catchUp(ctx, room)
		}
	}
	return nil
}

// Look compares what the connected clients were told with what is in the
// database.
func (f *Follower) Look(ctx context.Context) error {
	f.notify.mu.Lock()
	rooms := slices.Collect(maps.Keys(f.notify.rooms))
	clients := slices.Collect(maps.Keys(f.notify.clients))
	for id := range f.notify.seen {
		if f.notify.rooms[id] == nil {
			delete(f.notify.seen, id)
		}
	}
	f.notify.mu.Unlock()
	prints := make(map[string]store.Footprint, len(clients))
	for chunk := range slices.Chunk(clients, lookAtOnce) {
		err := f.cfg.Store.View(ctx, func(tx *store.Tx) error {
			some, err := tx.Footprints(chunk)
			maps.Copy(prints, some)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, c := range clients {
		if old, ok := f.prints[c]; !ok || old != prints[c] {
			f.notify.changed(c)
		}
	}
	f.prints = prints
	for chunk := range slices.Chunk(rooms, lookAtOnce) {
		var newest map[int64]int64
		err := f.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
			newest, err = tx.Newest(chunk)
			return err
		})
		if err != nil {
			return err
		}
		for id, last := range newest {
			f.notify.mu.Lock()
			behind := f.notify.seen[id] < last
			f.notify.mu.Unlock()
			if behind {
				if err := f.catchUp(ctx, id); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
