package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/comity-im/comity/internal/pgtest"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/postgres"
)

// BenchmarkAppend is one event a transaction, 1,000 octets, in 32 rooms at a time:
// what quiet rooms cost the database, where no batches form.
func BenchmarkAppend(b *testing.B) {
	s, err := postgres.Open(context.Background(), pgtest.Start(b).Database(b), 32)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	var rooms, digests atomic.Int64
	body := make([]byte, 1000)
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		var id int64
		if err := s.Update(ctx, func(tx *store.Tx) (err error) {
			id, err = tx.CreateRoom(store.Room{URI: fmt.Sprintf("mimi://a.example/r/%d", rooms.Add(1)), Hub: "a.example"})
			return err
		}); err != nil {
			b.Error(err)
		}
		for n := int64(1); pb.Next(); n++ {
			e := store.Event{AcceptedMillis: n, Body: body, Source: "a.example"}
			binary.BigEndian.PutUint64(e.Digest[:], uint64(digests.Add(1)))
			if err := s.Update(ctx, func(tx *store.Tx) error { return tx.AppendEvents(id, 1, []store.Event{e}) }); err != nil {
				b.Error(err)
			}
		}
	})
	n := float64(b.N)
	if size, err := s.Size(ctx); err == nil {
		b.ReportMetric(float64(size)/n, "db-B/event")
	}
	b.ReportMetric(n/b.Elapsed().Seconds(), "events/s")
}
