package sqlite_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

// The write-ahead log starts again from its beginning while there are always
// commits, and readers.
func TestLogRestartsUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var id int64
	if err := s.Update(t.Context(), func(tx *store.Tx) (err error) {
		id, err = tx.CreateRoom(store.Room{URI: "mimi://hub.example/r/x", Hub: "hub.example"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for ctx.Err() == nil {
			s.View(ctx, func(tx *store.Tx) error {
				_, err := tx.Events(id, 0, 1)
				return err
			})
		}
	}()
	const commits, pages = 75, 400 // 117 MiB in all
	body := make([]byte, 100*4096)
	largest := int64(0)
	for i := range uint64(commits) {
		// Two pages of four are other events' again when they are dropped.
		events := make([]store.Event, pages/100)
		for j := range events {
			n := i*uint64(len(events)) + uint64(j)
			events[j] = store.Event{Kind: 1, AcceptedMillis: int64(n), Digest: sha256.Sum256(binary.BigEndian.AppendUint64(nil, n)), Body: body}
		}
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.TrimRoom(id, int64(i)*int64(len(events))-8, 1<<62, 100); err != nil {
				return err
			}
			return tx.AppendFollowed(id, events)
		}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, info.Size()/4096)
	}
	cancel()
	<-read
	if largest > commits*pages*4/5 {
		t.Errorf("the log grew to %d pages of the %d that were written", largest, commits*pages)
	}
	t.Logf("the log had %d pages at most, of %d that were written", largest, commits*pages)
}

// Who reads for long, as a backup does, makes the log grow. Afterwards its file is
// short again.
func TestLogShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write := func(n int) {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.SetMeta("x", make([]byte, 1<<20+n)) }); err != nil {
			t.Error(err)
		}
	}
	size := func() int64 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	write(0)
	if err := s.View(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Meta("x"); err != nil {
			return err
		}
		for n := range 100 {
			write(n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if size() < 100<<20 {
		t.Fatalf("the log has %d octets after 100 MiB were written past a reader", size())
	}
	for n := 0; size() > 64<<20; n++ {
		if n > 500 {
			t.Fatalf("the log has %d octets still", size())
		}
		write(n)
		time.Sleep(10 * time.Millisecond)
	}
}

// Memory can be given back while there is work.
func TestShrink(t *testing.T) {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 50 {
				uri := fmt.Sprintf("mimi://hub.example/r/%d-%d", i, j)
				if err := s.Update(t.Context(), func(tx *store.Tx) error {
					_, err := tx.CreateRoom(store.Room{URI: uri, Hub: "hub.example"})
					return err
				}); err != nil {
					t.Error(err)
				}
				if err := s.View(t.Context(), func(tx *store.Tx) error {
					_, err := tx.Room(uri)
					return err
				}); err != nil {
					t.Error(err)
				}
				if err := s.Shrink(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// The log's file is longer than the log; zeros at its end are no pages, after a
// crash neither.
func TestLogIsMadeLonger(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	zeros := func() int {
		b, err := os.ReadFile(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return len(b) - len(bytes.TrimRight(b, "\x00"))
	}
	rooms := 0
	write := func() {
		rooms++
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.CreateRoom(store.Room{URI: fmt.Sprintf("mimi://hub.example/r/%d", rooms), Hub: "hub.example", Head: make([]byte, 16<<10)})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); zeros() < 128<<10; {
		if time.Now().After(deadline) {
			t.Fatalf("after %d rooms the log's file has %d zeros at its end", rooms, zeros())
		}
		write()
		time.Sleep(time.Millisecond)
	}
	write()
	write()
	// What a crash leaves.
	crashed := filepath.Join(t.TempDir(), "a.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(crashed+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := sqlite.Open(t.Context(), crashed)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for i := range rooms {
		if err := again.View(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Room(fmt.Sprintf("mimi://hub.example/r/%d", i+1))
			return err
		}); err != nil {
			t.Fatalf("room %d of %d: %v", i+1, rooms, err)
		}
	}
}
