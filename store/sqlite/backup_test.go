package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

// A backup made while the database is written to is a state that it had, opens,
// and goes on with numbers of events and KeyPackages that nobody has seen.
func TestBackupWhileInUse(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s, err := sqlite.Open(ctx, filepath.Join(dir, "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var id int64
	append := func(s *store.Store, n int) (last int64) {
		err := s.Update(ctx, func(tx *store.Tx) error {
			events := make([]store.Event, 2) // always two: a copy with one is torn
			for i := range events {
				events[i].AcceptedMillis = int64(2*n + i + 1)
				events[i].Digest[0], events[i].Digest[1], events[i].Digest[2] = byte(i), byte(n), byte(n>>8)
			}
			if err := tx.AppendEvents(id, 1, events); err != nil {
				return err
			}
			last = events[1].Seq
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return last
	}
	err = s.Update(ctx, func(tx *store.Tx) (err error) {
		if id, err = tx.CreateRoom(store.Room{URI: "mimi://a/r/x", Hub: "a"}); err != nil {
			return err
		}
		if err := tx.JoinRoom("behind", id, 1); err != nil {
			return err
		}
		return tx.AddKeyPackage(store.KeyPackage{Ref: []byte{1}, Client: "c", Suite: 1, NotAfterSeconds: 1 << 40, Body: []byte{2}})
	})
	if err != nil {
		t.Fatal(err)
	}
	append(s, 0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
				append(s, n)
			}
		}
	})
	file := filepath.Join(dir, "backup.db")
	err = s.Backup(ctx, file)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup's mode is %v, %v", info.Mode(), err)
	}
	if err := s.Backup(ctx, file); err == nil {
		t.Error("a backup was written over another")
	}
	b, err := sqlite.Open(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i, want := range []bool{true, false} {
		if was, err := b.WasRestored(ctx, 1); err != nil || was != want {
			t.Errorf("opened the %d. time: WasRestored = %v, %v", i+1, was, err)
		}
	}
	if was, err := s.WasRestored(ctx, 1); err != nil || was {
		t.Errorf("the original is taken for restored: %v, %v", was, err)
	}
	next := append(b, 100000)
	if last := append(s, 100001); next <= last {
		t.Errorf("the next event of the restored database has number %d, which the original has used: it is at %d", next, last)
	}
	err = b.View(ctx, func(tx *store.Tx) error {
		events, err := tx.Events(id, 0, 1_000_000)
		if n := len(events) - 1; n%2 != 0 || n < 4 { // one bridges the gap
			t.Errorf("the backup has %d events, part of a transaction", n)
		}
		if n, err := tx.CountKeyPackages("c", 0); err != nil || n != 0 {
			t.Errorf("%d KeyPackages are in stock that may have been given out: %v", n, err)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
