package serve

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/store"
)

// A database in trouble is said once, with what to do, and once when it is over.
func TestTroubleIsSaidOnce(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	h := &health{logger: slog.New(slog.NewTextHandler(&out, nil)), advise: func(error) string { return "free some space" }, now: func() time.Time { return now }}
	full := errors.New("no space")
	// A commit that writes nothing is taken in between.
	for _, err := range []error{nil, full, nil, full, full, nil, nil, nil, full} {
		now = now.Add(10 * time.Second)
		h.committed(store.Commit{Err: err})
		h.checkpointed(store.Checkpoint{Err: err, LogBytes: 123})
	}
	h.unread(full) // which is said already
	for line, want := range map[string]int{
		"the database fails": 2, "the database works again": 1, "can't be copied": 2, "is copied into the database again": 1,
		"free some space": 4, "log_bytes=123": 3, "no space": 4,
	} {
		if n := strings.Count(out.String(), line); n != want {
			t.Errorf("%q is said %d times, want %d", line, n, want)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 6 {
		t.Errorf("%d lines:\n%s", n, &out)
	}
}
