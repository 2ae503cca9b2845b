package sqlite_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

// limitFiles makes the kernel refuse writes of this process beyond an offset of
// any file, as a full disk does.
func limitFiles(t *testing.T, octets uint64) (undo func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	set(syscall.Rlimit{Cur: octets, Max: was.Max})
	undo = sync.OnceFunc(func() { set(was) })
	t.Cleanup(undo)
	return undo
}

// A database that can't grow while its log can: that is told, and so is its end,
// and nothing is lost.
func TestFailedCheckpointsAreTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var mu sync.Mutex
	var last store.Checkpoint
	failures := 0
	s.ObserveCheckpoints(func(c store.Checkpoint) {
		mu.Lock()
		defer mu.Unlock()
		last = c
		if c.Err != nil {
			failures++
		}
	})
	state := func() (store.Checkpoint, int) {
		mu.Lock()
		defer mu.Unlock()
		return last, failures
	}
	var commits []store.Commit
	s.Observe(func(c store.Commit) { commits = append(commits, c) })
	var id int64
	if err := s.Update(t.Context(), func(tx *store.Tx) (err error) {
		id, err = tx.CreateRoom(store.Room{URI: "mimi://hub.example/r/x", Hub: "hub.example"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	body := make([]byte, 1<<20)
	write := func() error {
		n++
		return s.Update(t.Context(), func(tx *store.Tx) error {
			return tx.AppendFollowed(id, []store.Event{{Kind: 1, AcceptedMillis: int64(n), Digest: sha256.Sum256(binary.BigEndian.AppendUint64(nil, n)), Body: body}})
		})
	}
	taken := 0
	until := func(what string, reached func() bool) {
		t.Helper()
		for range 200 {
			if reached() {
				return
			}
			if err := write(); err != nil {
				t.Fatalf("%s: after %d events: %v", what, taken, err)
			}
			taken++
			time.Sleep(20 * time.Millisecond)
		}
		c, _ := state()
		t.Fatalf("%s: not in 200 MiB; the last checkpoint: %+v", what, c)
	}
	until("a database of 16 MiB", func() bool { info, _ := os.Stat(path); return info.Size() > 16<<20 })
	if c, n := state(); n > 0 || c.LogBytes == 0 {
		t.Fatalf("%d checkpoints failed before anything was wrong: %+v", n, c)
	}
	// The database ends at 48 MiB, before the log, which starts again now and then.
	undo := limitFiles(t, 48<<20)
	until("a checkpoint that fails", func() bool { c, _ := state(); return c.Err != nil })
	c, _ := state()
	if a := s.Advise(c.Err); !strings.Contains(a, "disk") {
		t.Errorf("advice for %v: %q", c.Err, a)
	}
	// Then the log can't grow either.
	var engine *store.EngineError
	for range 200 {
		if err = write(); err != nil {
			break
		}
		taken++
	}
	if !errors.As(err, &engine) || commits[len(commits)-1].Err == nil {
		t.Fatalf("with nothing left: %v, and the commit was told as %+v", err, commits[len(commits)-1])
	}
	undo()
	until("a checkpoint that succeeds", func() bool { c, _ := state(); return c.Err == nil })
	count := 0
	if err := s.View(t.Context(), func(tx *store.Tx) error {
		for after := int64(0); ; {
			list, err := tx.Events(id, after, 10)
			if err != nil || len(list) == 0 {
				return err
			}
			count += len(list)
			after = list[len(list)-1].Seq
		}
	}); err != nil {
		t.Fatal(err)
	}
	if count != taken {
		t.Errorf("%d events are there of %d that were taken", count, taken)
	}
}
