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
	// Where commits are few, fewer pages are copied together, once in calmPause:
	// a commit, here or in another process, waits behind what goes to the disk.
	calmPages = 250
	calmPause = time.Second
	// logKept is what is kept of the log's file when it starts again, if a backup or
	// a full disk let it become longer.
	logKept = 64 << 20
	// The log's file is made longer ahead of the commits that write to it, by zeros,
	// until it has logAhead or twice what the last look found, up to logLength:
	// to make a commit durable takes twice as long where the file grows with it. A
	// log shorter than logShort is left alone.
	logPage   = 24 + 4096 // a page with its header
	logShort  = 256 << 10
	logAhead  = 512 << 10
	logLength = (restartPages + checkpointPages/4) * logPage
)

// zeros are written at the end of a log.
var zeros [64 << 10]byte

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
	grow      atomic.Int64          // the writer shall make the file so much longer
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
	if n := c.grow.Swap(0); n > 0 {
		c.lengthen(n)
	}
	select {
	case c.committed <- struct{}{}:
	default:
	}
}

// lengthen adds zeros to the log's file, which are no pages to SQLite. Only
// between two commits does nobody else write there. Where it fails, commits make
// the file longer by themselves.
func (c *checkpointer) lengthen(n int64) {
	f, err := os.OpenFile(c.file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return
	}
	defer f.Close()
	for n > 0 && err == nil {
		var done int
		done, err = f.Write(zeros[:min(n, int64(len(zeros)))])
		n -= int64(done)
	}
}

// ahead returns how much longer a log's file of some size should be, that has so
// many pages, and had before.
func ahead(size, pages, before int64) int64 {
	end, more := pages*logPage, max(pages-before, 0)*logPage
	if end < logShort || end+max(more, logAhead/4) <= size {
		return 0
	}
	return max(min(end+max(2*more, logAhead), logLength)-size, 0)
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
	var before int64
	var last time.Time
	for {
		select {
		case <-c.stop:
			return
		case <-c.committed:
		}
		pages, done, err := c.pragma("NOOP")
		if n := pages - done; err == nil && (n >= checkpointPages || n >= calmPages && time.Since(last) >= calmPause) {
			pages, done, err = c.pragma("PASSIVE")
			last = time.Now()
		}
		if err == nil && pages >= restartPages && pages-done < checkpointPages {
			c.restart.Store(true)
		}
		p := store.Checkpoint{Err: err}
		if info, err := os.Stat(c.file); err == nil {
			p.LogBytes = info.Size()
			c.grow.Store(ahead(p.LogBytes, pages, before))
		}
		before = pages
		if failed := c.failed.Swap(nil); err == nil && failed != nil {
			p.Err = *failed
		}
		if f := c.observe.Load(); f != nil {
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
