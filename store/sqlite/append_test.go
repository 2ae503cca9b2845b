package sqlite_test

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

// BenchmarkAppend measures the CPU time of an event in commits of so many, in a new
// log and one of half a million.
func BenchmarkAppend(b *testing.B) {
	used := func() float64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e3
	}
	for _, c := range []struct{ n, before int }{{8, 0}, {32, 0}, {128, 0}, {128, 500_000}} {
		n := c.n
		b.Run(fmt.Sprintf("%d/%d", n, c.before), func(b *testing.B) {
			s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "a.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var id int64
			if err := s.Update(b.Context(), func(tx *store.Tx) (err error) {
				id, err = tx.CreateRoom(store.Room{URI: "mimi://hub.example/r/x", Hub: "hub.example"})
				return err
			}); err != nil {
				b.Fatal(err)
			}
			events, body, at := make([]store.Event, n), make([]byte, 700), int64(0)
			add := func(events []store.Event) {
				for i := range events {
					at++
					events[i] = store.Event{Kind: 1, Epoch: 1, AcceptedMillis: at, Source: "hub.example", Body: body}
					rand.Read(events[i].Digest[:])
				}
				if err := s.Update(b.Context(), func(tx *store.Tx) error { return tx.AppendFollowed(id, events) }); err != nil {
					b.Fatal(err)
				}
			}
			for range c.before / 4000 {
				add(make([]store.Event, 4000))
			}
			start := used()
			for b.Loop() {
				add(events)
			}
			b.ReportMetric((used()-start)/float64(b.N*n), "cpu-µs/event")
		})
	}
}
