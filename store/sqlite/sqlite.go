// Package sqlite opens a [store.Store] in one SQLite file: the default, with
// nothing to configure.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/comity-im/comity/store"
)

// readers is how many connections read: some more than cores, since a reader may
// wait for the disk.
const readers = 8

var dialect = store.Dialect{
	Name:  "sqlite",
	Goose: goose.DialectSQLite3,
	Types: strings.NewReplacer(
		"{{bytes}}", "BLOB",
		"{{id}}", "INTEGER PRIMARY KEY AUTOINCREMENT",
		"{{clustered}}", "WITHOUT ROWID",
		"{{add column}}", "ADD COLUMN",
	),
	Retry:        func(error) bool { return false },
	Duplicate:    duplicate,
	Advise:       advice,
	SingleWriter: true,
	Insert:       "INSERT OR FAIL",
	Gather:       1 << 14,
	Others:       "PRAGMA data_version",
	Shrink:       "PRAGMA shrink_memory",
	Readers:      readers,
	SizeQuery:    "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
}

// A FileError means that the database file can't be used; Advice says what to
// do about it.
type FileError struct {
	Path   string
	Advice string
	Err    error
}

func (e *FileError) Error() string {
	return fmt.Sprintf("sqlite: %s: %v: %s", e.Path, e.Err, e.Advice)
}

func (e *FileError) Unwrap() error { return e.Err }

// Open opens or creates the database file at path. One process at a time may
// have it open for writing.
func Open(ctx context.Context, path string) (*store.Store, error) {
	return open(ctx, path, dialect.Gather)
}

// open is Open with another number of digests that are gathered.
func open(ctx context.Context, path string, gather int) (*store.Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Dir(abs)); err != nil {
		return nil, &FileError{Path: path, Advice: "create the folder, or name another with the data setting", Err: err}
	}
	// The provider's keys are in it, so a new one is its owner's alone, as are the
	// files beside it: SQLite makes them with the same rights. An existing file is
	// not opened here: closing it would end the locks of another Store on it.
	if f, err := os.OpenFile(abs, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err == nil {
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	dsn := func(mode string) string {
		q := url.Values{}
		q.Set("mode", mode)
		// WAL with synchronous=FULL: a commit returns after its fsync. A cache of
		// more pages makes each commit slower, which looks through all of them; the
		// operating system has the others. Checkpoints: see checkpointer.
		q["_pragma"] = []string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)", "temp_store(MEMORY)", "cache_size(-8192)", "wal_autocheckpoint(0)", fmt.Sprintf("journal_size_limit(%d)", logKept)}
		q.Set("_txlock", "immediate")
		if mode == "ro" {
			q["_pragma"] = []string{"busy_timeout(10000)", "query_only(ON)", "cache_size(-2048)"}
			q.Set("_txlock", "deferred")
		}
		return "file:" + (&url.URL{Path: abs}).EscapedPath() + "?" + q.Encode()
	}
	write, err := sql.Open("sqlite", dsn("rwc"))
	if err != nil {
		return nil, advise(path, err)
	}
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil {
		write.Close()
		return nil, advise(path, err)
	}
	read, err := sql.Open("sqlite", dsn("ro"))
	if err != nil {
		write.Close()
		return nil, advise(path, err)
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	ahead, err := sql.Open("sqlite", dsn("rwc"))
	if err != nil {
		write.Close()
		read.Close()
		return nil, advise(path, err)
	}
	ahead.SetMaxOpenConns(1)
	points := newCheckpointer(ahead, abs+"-wal")
	d := dialect
	d.Gather = gather
	d.Between, d.Closing, d.Checkpoints = points.between, points.close, points.observed
	d.Backup = func(ctx context.Context, file, mark string) error { return backup(ctx, abs, file, mark) }
	s, err := store.Open(ctx, &d, read, write)
	if err != nil {
		read.Close()
		write.Close()
		ahead.Close()
		return nil, advise(path, err)
	}
	points.start()
	return s, nil
}

// backup copies the database in one reading transaction: what is written
// meanwhile is not in the copy.
func backup(ctx context.Context, path, file, mark string) error {
	// Our readers may write nothing, not even another file.
	from, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	_, err = from.ExecContext(ctx, "VACUUM INTO ?", file)
	if err = errors.Join(err, from.Close()); err != nil {
		return err
	}
	to, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?mode=rw&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	_, err = to.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", mark, []byte{1})
	return errors.Join(err, to.Close())
}

func duplicate(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || e.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// advise adds what a person can do about an error of the engine.
func advise(path string, err error) error {
	if a := advice(err); a != "" {
		return &FileError{Path: path, Advice: a, Err: err}
	}
	return err
}

// advice is what a person can do about an error of the engine; empty: nothing is
// known.
func advice(err error) string {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_CANTOPEN, lib.SQLITE_PERM, lib.SQLITE_READONLY:
		return "check that the file and its folder exist and that this user may write to them"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return "another process has it open; stop that one first"
	case lib.SQLITE_FULL:
		return "the disk is full; free some space, nothing that was acknowledged is lost"
	case lib.SQLITE_NOTADB, lib.SQLITE_CORRUPT:
		return "it is not an intact SQLite database; restore a backup, or move it away to start empty"
	case lib.SQLITE_IOERR:
		return "its disk fails, or lets no file grow: look at the system's log, and at the limits of this process (ulimit -f)"
	}
	return ""
}
