package sqlite

import (
	"context"
	"database/sql"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comity-im/comity/store"
)

const (
	// checkpointPages is how many pages of the write-ahead log are copied into the
	// database together, 16 MiB.
	checkpointPages = 4000
	// restartPages is from when on the log is to start again from its beginning.
	restartPages = 2 * checkpointPages
	// checkpointPause is how often the log is looked at, while there are commits.
	checkpointPause = 50 * time.Millisecond
	// logKept is what is kept of the log's file when it starts again, if a backup or
	// a full disk let it become longer.
	logKept = 64 << 20
)

// A checkpointer copies the write-ahead log into the database while the writer
// goes on, which SQLite by itself does inside of a commit: one in a few hundred
// would take ten times as long. Only a pause of the writer lets the log start from
// its beginning, though, and under load there is none: so the writer copies what
// has been written since, a few pages, between two commits.
type checkpointer struct {
	db        *sql.DB
	file      string                // the log's
	committed chan struct{}         // holds one token when there was a commit
	restart   atomic.Bool           // the writer shall copy the rest
	failed    atomic.Pointer[error] // of the writer's last try
	observe   atomic.Pointer[func(store.Checkpoint)]
	stop      chan struct{}
	wg        sync.WaitGroup
}

func newCheckpointer(db *sql.DB, file string) *checkpointer {
	return &checkpointer{db: db, file: file, committed: make(chan struct{}, 1), stop: make(chan struct{})}
}

// between is called by the writer between two commits.
func (c *checkpointer) between(exec func(query string) error) {
	if c.restart.CompareAndSwap(true, false) {
		if err := exec("PRAGMA wal_checkpoint(PASSIVE)"); err != nil { // it is tried again
			c.failed.Store(&err)
		}
	}
	select {
	case c.committed <- struct{}{}:
	default:
	}
}

func (c *checkpointer) start() { c.wg.Go(c.run) }

// observed makes f be told of each look at the log.
func (c *checkpointer) observed(f func(store.Checkpoint)) { c.observe.Store(&f) }

// close ends the checkpoints. The last connection that is closed makes one more.
func (c *checkpointer) close() {
	close(c.stop)
	c.wg.Wait()
	c.db.Close()
}

func (c *checkpointer) run() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.committed:
		}
		pages, done, err := c.pragma("NOOP")
		if err == nil && pages-done >= checkpointPages {
			pages, done, err = c.pragma("PASSIVE")
		}
		if err == nil && pages >= restartPages && pages-done < checkpointPages {
			c.restart.Store(true)
		}
		if before := c.failed.Swap(nil); err == nil && before != nil {
			err = *before
		}
		if f := c.observe.Load(); f != nil {
			p := store.Checkpoint{Err: err}
			if info, err := os.Stat(c.file); err == nil {
				p.LogBytes = info.Size()
			}
			(*f)(p)
		}
		pause.Reset(checkpointPause)
		select {
		case <-c.stop:
			return
		case <-pause.C:
		}
	}
}

// pragma makes a checkpoint of a kind and returns how many pages the log has, and
// how many of them are in the database.
func (c *checkpointer) pragma(kind string) (pages, done int64, err error) {
	var busy int64
	err = c.db.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+kind+")").Scan(&busy, &pages, &done)
	return pages, done, err
}
