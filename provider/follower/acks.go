package follower

import (
	"context"
	"sync"
	"time"

	"github.com/comity-im/comity/store"
)

// ackEvery is how often cursors are written. A client whose last
// acknowledgements were lost gets those events again and knows them.
const ackEvery = time.Second

// acks gathers the cursors that moved since they were last written.
type acks struct {
	mu    sync.Mutex
	moved map[ackKey]int64
}

type ackKey struct {
	client string
	room   int64
}

func (a *acks) put(client string, room, seq int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := (ackKey{client, room}); a.moved[k] < seq {
		a.moved[k] = seq
	}
}

// flush writes the cursors in one transaction; what could not be written is
// kept for the next time.
func (a *acks) flush(ctx context.Context, db *store.Store) error {
	a.mu.Lock()
	moved := a.moved
	a.moved = map[ackKey]int64{}
	a.mu.Unlock()
	if len(moved) == 0 {
		return nil
	}
	err := db.Update(ctx, func(tx *store.Tx) error {
		for k, seq := range moved {
			if err := tx.MoveCursor(k.client, k.room, seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for k, seq := range moved {
			a.put(k.client, k.room, seq)
		}
	}
	return err
}
