package storetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/store"
)

// repeatable is an event of which there may be others with the same first 8 octets
// of the digest: n says which of them.
func repeatable(prefix, n uint64) store.Event {
	e := store.Event{Kind: 1, Source: "b.example", Body: []byte{1}}
	binary.BigEndian.PutUint64(e.Digest[:], prefix)
	binary.BigEndian.PutUint64(e.Digest[8:], n)
	return e
}

// repeats: whatever is appended, given up, trimmed and dropped, in any order, the
// log takes an event exactly when it does not have it.
func repeats(t *testing.T, s *store.Store) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	type log struct {
		id    int64
		first int64
		last  int64
		seqs  map[[32]byte]int64 // of the events that it has
	}
	var logs []*log
	open := func() *log {
		l := &log{id: newRoom(t, s, fmt.Sprintf("r%d", r.Uint64())), first: 1, seqs: map[[32]byte]int64{}}
		logs = append(logs, l)
		return l
	}
	for range 3 {
		open()
	}
	// draw is an event of before, or perhaps another that looks like one.
	draw := func() store.Event { return repeatable(r.Uint64N(60)<<58|r.Uint64N(3), r.Uint64N(6)) }
	taken, refused, undone := 0, 0, 0
	errUndo := errors.New("given up")
	for step := range 500 {
		l := logs[r.IntN(len(logs))]
		switch n := r.IntN(100); {
		case n < 70: // append some
			var list []store.Event
			for range 1 + r.IntN(40) {
				if r.IntN(3) > 0 {
					list = append(list, repeatable(r.Uint64(), r.Uint64()))
				} else {
					list = append(list, draw())
				}
			}
			if r.IntN(2) == 0 { // none that the log has
				seen := map[[32]byte]bool{}
				list = slices.DeleteFunc(list, func(e store.Event) bool {
					_, has := l.seqs[e.Digest]
					has = has || seen[e.Digest]
					seen[e.Digest] = true
					return has
				})
			}
			want, seen := error(nil), map[[32]byte]bool{}
			for i := range list {
				list[i].AcceptedMillis = 1000 + l.last + int64(i)
				if _, has := l.seqs[list[i].Digest]; has || seen[list[i].Digest] {
					want = store.ErrConflict
				}
				seen[list[i].Digest] = true
			}
			undo := r.IntN(5) == 0
			err := s.Update(ctx, func(tx *store.Tx) error {
				if r.IntN(2) == 0 {
					if err := tx.AppendEvents(l.id, 1, list); err != nil {
						return err
					}
				} else { // two calls in one transaction
					half := len(list) / 2
					if err := tx.AppendFollowed(l.id, list[:half]); err != nil {
						return err
					}
					if err := tx.AppendFollowed(l.id, list[half:]); err != nil {
						return err
					}
				}
				if undo {
					return errUndo
				}
				return nil
			})
			if want == nil && undo {
				want = errUndo
			}
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Fatalf("step %d: %v, want %v", step, err, want)
			}
			switch {
			case err == nil:
				taken += len(list)
				for _, e := range list {
					l.last++
					l.seqs[e.Digest] = l.last
				}
			case errors.Is(err, errUndo):
				undone++
			default:
				refused++
			}
		case n < 85: // look
			e := draw()
			look := func(tx *store.Tx) error {
				seq, has := l.seqs[e.Digest]
				got, err := tx.EventByDigest(l.id, e.Digest)
				if has && (err != nil || got.Seq != seq || got.Digest != e.Digest) || !has && !errors.Is(err, store.ErrNotFound) {
					t.Fatalf("step %d: EventByDigest = %d, %v, want %d, %v", step, got.Seq, err, seq, has)
				}
				return nil
			}
			if r.IntN(2) == 0 {
				view(t, s, look)
			} else {
				update(t, s, look)
			}
		case n < 96: // trim, perhaps to take the same again and to give all of it up
			limit := 1 + r.IntN(60)
			upto := min(l.first+int64(limit)-1, l.last)
			undo := r.IntN(3) == 0
			err := s.Update(ctx, func(tx *store.Tx) error {
				if _, err := tx.TrimRoom(l.id, 1<<60, 1<<60, limit); err != nil {
					return err
				}
				if !undo {
					return nil
				}
				for d, seq := range l.seqs {
					if seq <= upto {
						e := store.Event{AcceptedMillis: 1000 + l.last, Digest: d, Body: []byte{1}}
						if err := tx.AppendFollowed(l.id, []store.Event{e}); err != nil {
							t.Errorf("step %d: an event that was trimmed is refused: %v", step, err)
						}
						break
					}
				}
				return errUndo
			})
			if undo != errors.Is(err, errUndo) || !undo && err != nil {
				t.Fatalf("step %d: trimming: %v", step, err)
			}
			if !undo {
				l.first = upto + 1
				for d, seq := range l.seqs {
					if seq <= upto {
						delete(l.seqs, d)
					}
				}
			}
		case n < 98: // drop
			update(t, s, func(tx *store.Tx) error { return tx.DropRoom(l.id) })
			logs = slices.DeleteFunc(logs, func(o *log) bool { return o == l })
			open()
		default:
			open()
		}
	}
	for _, l := range logs {
		view(t, s, func(tx *store.Tx) error {
			list, err := tx.Events(l.id, 0, 1_000_000)
			if len(list) != len(l.seqs) {
				t.Errorf("%d events are in a log that should have %d, %v", len(list), len(l.seqs), err)
			}
			for _, e := range list {
				if l.seqs[e.Digest] != e.Seq {
					t.Errorf("an event is at %d, not at %d", e.Seq, l.seqs[e.Digest])
				}
				if got, err := tx.EventByDigest(l.id, e.Digest); err != nil || got.Seq != e.Seq {
					t.Errorf("EventByDigest = %d, %v, want %d", got.Seq, err, e.Seq)
				}
			}
			return err
		})
	}
	if taken == 0 || refused == 0 || undone == 0 {
		t.Errorf("%d events were taken, %d lists refused, %d given up: the test shows nothing", taken, refused, undone)
	}
}

// repeatsAtOnce: of many who append the same events at a time each is taken once,
// and who reads meanwhile finds all that was acknowledged.
func repeatsAtOnce(t *testing.T, s *store.Store) {
	id := newRoom(t, s, "r1")
	const writers, events = 6, 200
	var acked sync.Map // digest → true
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for w := range uint64(writers) {
		writing.Go(func() {
			r := rand.New(rand.NewPCG(w, 1))
			for _, n := range r.Perm(events) {
				e := repeatable(uint64(n/2)<<50, uint64(n%2))
				err := s.Update(ctx, func(tx *store.Tx) error { return tx.AppendFollowed(id, []store.Event{e}) })
				if err != nil && !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
				acked.Store(e.Digest, true) // by one of us
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(3 * time.Millisecond): // it is the writers' turn, too
				}
				var have [][32]byte
				acked.Range(func(d, _ any) bool { have = append(have, d.([32]byte)); return len(have) < 100 })
				err := s.View(ctx, func(tx *store.Tx) error {
					for _, d := range have {
						if _, err := tx.EventByDigest(id, d); err != nil {
							return fmt.Errorf("an event that was acknowledged: %w", err)
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	view(t, s, func(tx *store.Tx) error {
		list, err := tx.Events(id, 0, 10*events)
		if len(list) != events {
			t.Errorf("%d events are in the log, not %d", len(list), events)
		}
		return err
	})
}
