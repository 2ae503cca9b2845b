package delivery

import (
	"context"
	"slices"
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
	moved map[ackKey]moved
}

type ackKey struct {
	domain string
	room   int64
}

// moved are the cursors of a follower in one room; mostly one.
type moved []store.Follower

// at is the place of the cursor that began at a position; -1: there is none.
func (m moved) at(first int64) int {
	return slices.IndexFunc(m, func(f store.Follower) bool { return f.FirstSeq == first })
}

// apply moves a cursor that was read from the database to where it is now.
func (m moved) apply(f *store.Follower) {
	if i := m.at(f.FirstSeq); i >= 0 {
		f.AckedSeq = max(f.AckedSeq, m[i].AckedSeq)
	}
}

func keyOf(f *store.Follower) ackKey { return ackKey{f.Domain, f.RoomID} }

// put notes where a cursor is now.
func (a *acks) put(f store.Follower) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.moved == nil {
		a.moved = map[ackKey]moved{}
	}
	k := keyOf(&f)
	if m := a.moved[k]; m.at(f.FirstSeq) >= 0 {
		m[m.at(f.FirstSeq)] = f
	} else {
		a.moved[k] = append(m, f)
	}
}

// of returns the cursors of a follower in a room that moved. Who reads cursors
// from the database asks before that and after it: they may be written, and
// forgotten here, while the database is read as it was.
func (a *acks) of(domain string, room int64) moved {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.moved[ackKey{domain, room}])
}

// flush writes all cursors in one transaction. They count from memory until that
// is on disk.
func (a *acks) flush(ctx context.Context, db *store.Store) error {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	list := make([]store.Follower, 0, len(a.moved))
	for _, m := range a.moved {
		list = append(list, m...)
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
		k := keyOf(&f)
		m := a.moved[k]
		if i := m.at(f.FirstSeq); i >= 0 && m[i].AckedSeq <= f.AckedSeq {
			if m = slices.Delete(m, i, i+1); len(m) == 0 {
				delete(a.moved, k)
			} else {
				a.moved[k] = m
			}
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
