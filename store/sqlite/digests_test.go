package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
	"github.com/comity-im/comity/store/storetest"
)

// The suite once more, with rounds of few digests.
func TestStoreGathering(t *testing.T) {
	for _, gather := range []int{1, 50} {
		t.Run(strconv.Itoa(gather), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) *store.Store {
				s, err := sqlite.OpenGathering(context.Background(), filepath.Join(t.TempDir(), "x.db"), gather)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// nth is the nth event of a log.
func nth(n uint64) store.Event {
	e := store.Event{Kind: 1, AcceptedMillis: int64(n + 1), Source: "hub.example", Body: make([]byte, 100)}
	binary.BigEndian.PutUint64(e.Digest[:], n*0x9e3779b97f4a7c15) // spread, and none twice
	return e
}

func logRoom(t *testing.T, s *store.Store, uri string) (id int64) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx *store.Tx) (err error) {
		id, err = tx.CreateRoom(store.Room{URI: uri, Hub: "hub.example"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

// has checks that a log takes none of the events from first up to, but not with, end.
func has(t *testing.T, s *store.Store, id int64, first, end uint64) {
	t.Helper()
	for n := first; n < end; n++ {
		err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AppendFollowed(id, []store.Event{nth(n)}) })
		if !errors.Is(err, store.ErrConflict) {
			t.Fatalf("event %d of the %d to %d that the log has was appended again: %v", n, first, end, err)
		}
	}
}

// rows counts the rows of a table.
func rows(t *testing.T, path, table string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Repeats are recognised before, while and after their digests are moved, by the
// process that gathered them and by the next.
func TestRepeatsAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	var id int64
	end := uint64(0)
	for opened := range 12 {
		s, err := sqlite.OpenGathering(t.Context(), path, 200)
		if err != nil {
			t.Fatal(err)
		}
		if opened == 0 {
			id = logRoom(t, s, "mimi://hub.example/r/x")
		}
		has(t, s, id, 0, end)
		for range 37 {
			var list []store.Event
			for range 3 {
				list = append(list, nth(end))
				end++
			}
			if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AppendFollowed(id, list) }); err != nil {
				t.Fatal(err)
			}
		}
		has(t, s, id, 0, end)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := rows(t, path, "log_digests"); n < int(end)/2 || n > int(end) {
		t.Errorf("log_digests has %d rows for %d events", n, end)
	}
}

// What another process has written is noticed, though there should be none.
func TestRepeatsOfAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a, err := sqlite.OpenGathering(t.Context(), path, 50)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	id := logRoom(t, a, "mimi://hub.example/r/x")
	b, err := sqlite.OpenGathering(t.Context(), path, 50)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for n := uint64(0); n < 300; n += 2 {
		for i, s := range []*store.Store{a, b} {
			if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AppendFollowed(id, []store.Event{nth(n + uint64(i))}) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	has(t, a, id, 0, 300)
	has(t, b, id, 0, 300)
}

// Digests of events that were trimmed go, too, and trimmed events may come again.
func TestTrimmedDigestsGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s, err := sqlite.OpenGathering(t.Context(), path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id, brief := logRoom(t, s, "mimi://hub.example/r/x"), logRoom(t, s, "mimi://hub.example/r/brief")
	update := func(f func(tx *store.Tx) error) {
		t.Helper()
		if err := s.Update(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	const keep = 2000
	for n := uint64(0); n < 20_000; n += 100 {
		var list []store.Event
		for i := range uint64(100) {
			list = append(list, nth(n+i))
		}
		update(func(tx *store.Tx) error {
			// Those of the second room go before their digests are moved.
			if err := errors.Join(tx.AppendFollowed(brief, slices.Clone(list[:2])), tx.AppendFollowed(id, list)); err != nil {
				return err
			}
			if n < keep {
				return nil
			}
			_, err := tx.TrimRoom(id, int64(n-keep), 1<<60, 1000)
			return err
		})
		update(func(tx *store.Tx) error {
			_, err := tx.TrimRoom(brief, 1<<60, 1<<60, 1000)
			return err
		})
		if n%5000 == 0 {
			if n := rows(t, path, "log_digests"); n > 2*keep {
				t.Fatalf("log_digests has %d rows for %d events", n, keep)
			}
		}
	}
	has(t, s, id, 20_000-keep, 20_000)
	if n := rows(t, path, "log_digests"); n > keep*3/2 || n < keep/2 {
		t.Errorf("log_digests has %d rows for %d events", n, keep)
	}
	update(func(tx *store.Tx) error {
		e := nth(5)
		return tx.AppendFollowed(id, []store.Event{e})
	})
	update(func(tx *store.Tx) error { return errors.Join(tx.DropRoom(id), tx.DropRoom(brief)) })
	for range 3 { // what was gathered of them does not come back
		other := logRoom(t, s, fmt.Sprint("mimi://hub.example/r/", rand.Uint64()))
		for n := range uint64(20) {
			var list []store.Event
			for i := range uint64(10) {
				list = append(list, nth(10*n+i))
			}
			update(func(tx *store.Tx) error { return tx.AppendFollowed(other, list) })
		}
		update(func(tx *store.Tx) error { return tx.DropRoom(other) })
	}
	if n := rows(t, path, "log_digests"); n != 0 {
		t.Errorf("log_digests has %d rows of rooms that are gone", n)
	}
}

const appendEnv = "COMITY_TEST_APPEND"

// TestAppendHere is the process that is killed while it appends.
func TestAppendHere(t *testing.T) {
	path := os.Getenv(appendEnv)
	if path == "" {
		t.Skip("only a process of TestRepeatsAfterKill")
	}
	s, err := sqlite.OpenGathering(t.Context(), path, 64)
	if err != nil {
		t.Fatal(err)
	}
	var room store.Room
	if err := s.View(t.Context(), func(tx *store.Tx) (err error) {
		room, err = tx.Room("mimi://hub.example/r/x")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for n := uint64(room.LastSeq); ; {
		list := make([]store.Event, 1+rand.N(20))
		for i := range list {
			list[i] = nth(n)
			n++
		}
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AppendFollowed(room.ID, list) }); err != nil {
			t.Fatal(err)
		}
		fmt.Println("acknowledged", n)
	}
}

// A process that is killed at any moment has lost no event that it acknowledged,
// and the next one recognises them all, and only those.
func TestRepeatsAfterKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	id := logRoom(t, s, "mimi://hub.example/r/x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		cmd := exec.Command(exe, "-test.run=^TestAppendHere$")
		cmd.Env = append(os.Environ(), appendEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked, after := uint64(0), 20+rand.N(80)
		for in := bufio.NewScanner(out); in.Scan(); {
			n, ok := strings.CutPrefix(in.Text(), "acknowledged ")
			if !ok {
				t.Fatalf("the process says %q", in.Text())
			}
			if acked, err = strconv.ParseUint(n, 10, 64); err != nil {
				t.Fatal(err)
			}
			if after--; after == 0 {
				time.AfterFunc(rand.N(3*time.Millisecond), func() { cmd.Process.Kill() })
			}
		}
		cmd.Wait()
		s, err := sqlite.OpenGathering(t.Context(), path, 64)
		if err != nil {
			t.Fatal(err)
		}
		var last uint64
		if err := s.View(t.Context(), func(tx *store.Tx) error {
			r, err := tx.RoomByID(id)
			last = uint64(r.LastSeq)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if last < acked || acked == 0 {
			t.Fatalf("%d events are in the log, %d were acknowledged", last, acked)
		}
		has(t, s, id, 0, last)
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AppendFollowed(id, []store.Event{nth(last)}) }); err != nil {
			t.Fatalf("an event that the log does not have: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
