package storetest

import (
	"errors"
	"testing"

	"github.com/comity-im/comity/store"
)

// behind: clients that have not read everything are listed, those with most
// before them first.
func behind(t *testing.T, s *store.Store) {
	id := logOf(t, s, 5)
	update(t, s, func(tx *store.Tx) error {
		for client, read := range map[string]int64{"all": 5, "some": 3, "little": 1, "none": 0} {
			if err := errors.Join(tx.JoinRoom(client, id, 1), tx.MoveCursor(client, id, read)); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, s, func(tx *store.Tx) error {
		list, err := tx.Laggards(2)
		if err != nil || len(list) != 2 || list[0] != (store.Laggard{Client: "none", Events: 5}) || list[1] != (store.Laggard{Client: "little", Events: 4}) {
			t.Errorf("Laggards(2) = %+v, %v", list, err)
		}
		return err
	})
}

// manyEvents: any number of events is appended in order, all or none of them.
func manyEvents(t *testing.T, s *store.Store) {
	id := logOf(t, s, 0)
	total := 0
	event := func(i int) store.Event {
		return store.Event{Kind: uint8(i % 5), Epoch: uint64(i), AcceptedMillis: int64(i + 1), Digest: [32]byte{byte(i), byte(i >> 8), 1}, Source: "a", Audience: []string{"b"}, Clients: []string{"c", "d"}, Body: []byte{byte(i)}}
	}
	for _, n := range []int{1, 15, 16, 17, 33, 64} {
		events := make([]store.Event, n)
		for i := range events {
			events[i] = event(total + i)
		}
		update(t, s, func(tx *store.Tx) error { return tx.AppendEvents(id, 1, events) })
		total += n
	}
	check := func() {
		t.Helper()
		view(t, s, func(tx *store.Tx) error {
			events, err := tx.Events(id, 0, 1000)
			if err != nil || len(events) != total {
				t.Errorf("%d events of %d, %v", len(events), total, err)
			}
			for i, e := range events {
				w := event(i)
				if e.Seq != int64(i+1) || e.Kind != w.Kind || e.Epoch != w.Epoch || e.AcceptedMillis != w.AcceptedMillis || e.Digest != w.Digest || e.Source != "a" || len(e.Audience) != 1 || len(e.Clients) != 2 || e.Body[0] != byte(i) {
					t.Errorf("event %d is %+v", i, e)
				}
			}
			return err
		})
	}
	check()
	events := make([]store.Event, 40)
	for i := range events {
		events[i] = event(total + i)
	}
	events[20].Digest = event(3).Digest // is in the log
	err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AppendEvents(id, 1, events) })
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("an event that the log has among others: %v", err)
	}
	check()
}
