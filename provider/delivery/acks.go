package delivery

import (
	"context"
	"sync"
	"time"

	"github.com/comity-im/comity/store"
)

// ackEvery is how often the cursors of followers are written. Events whose
// acknowledgement was not written yet when a node died are sent again, and the
// follower knows them.
const ackEvery = 200 * time.Millisecond

// acks are the cursors that moved since they were last written.
type acks struct {
	flushing sync.Mutex // one flush at a time

	mu    sync.Mutex
	moved map[ackKey]store.Follower
}

type ackKey struct {
	domain      string
	room, first int64
}

func keyOf(f *store.Follower) ackKey { return ackKey{f.Domain, f.RoomID, f.FirstSeq} }

// put notes where a cursor is now.
func (a *acks) put(f store.Follower) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.moved == nil {
		a.moved = map[ackKey]store.Follower{}
	}
	a.moved[keyOf(&f)] = f
}

// apply moves a cursor that was read from the database to where it is now.
func (a *acks) apply(f *store.Follower) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m, ok := a.moved[keyOf(f)]; ok {
		f.AckedSeq = max(f.AckedSeq, m.AckedSeq)
	}
}

// flush writes all cursors in one transaction. They count from memory until that
// is on disk.
func (a *acks) flush(ctx context.Context, db *store.Store) error {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	list := make([]store.Follower, 0, len(a.moved))
	for _, f := range a.moved {
		list = append(list, f)
	}
	a.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	err := db.Update(ctx, func(tx *store.Tx) error {
		for _, f := range list {
			if err := tx.Ack(f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range list {
		if k := keyOf(&f); a.moved[k].AckedSeq <= f.AckedSeq {
			delete(a.moved, k)
		}
	}
	return nil
}

// runAcks writes cursors until ctx ends.
func (d *Deliverer) runAcks(ctx context.Context) {
	t := time.NewTicker(ackEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := d.acks.flush(ctx, d.cfg.Store); err != nil && ctx.Err() == nil {
				d.cfg.Logger.Warn("cursors of followers not written yet", "error", err)
			}
		}
	}
}

// lastAcks writes the cursors when the node ends.
func (d *Deliverer) lastAcks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.acks.flush(ctx, d.cfg.Store); err != nil {
		d.cfg.Logger.Warn("cursors of followers not written; they will get some events again", "error", err)
	}
}
