// Package clientdb keeps a device's records in one SQLite file in a folder of the
// device's own. The device's secrets are in it: folder and file are readable by
// their owner only.
package clientdb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/comity-im/comity/client"
)

//go:embed migrations/*.sql
var migrations embed.FS

// File is the name of the database in a device's folder.
const File = "device.db"

// A FolderError is a folder that can't be used as a device's; Advice says what to
// do about it.
type FolderError struct {
	Folder string
	Advice string
	Err    error // may be nil
}

func (e *FolderError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Folder, e.Advice)
	}
	return fmt.Sprintf("%s: %v: %s", e.Folder, e.Err, e.Advice)
}

func (e *FolderError) Unwrap() error { return e.Err }

// A DB is a client.Store in a folder. It is safe for concurrent use.
type DB struct {
	folder string
	lock   *os.File
	db     *sql.DB
}

var _ client.Store = (*DB)(nil)

// Exists reports whether a folder holds a device.
func Exists(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, File))
	return err == nil
}

// Open opens the device in a folder, and makes both if they are not there. Only
// one process at a time can have it open.
func Open(ctx context.Context, folder string) (*DB, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, &FolderError{folder, "name a folder that this user may write to", err}
	}
	lock, err := takeLock(folder)
	if err != nil {
		return nil, err
	}
	d := &DB{folder: folder, lock: lock}
	if err := d.open(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *DB) open(ctx context.Context) error {
	path, err := filepath.Abs(filepath.Join(d.folder, File))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return &FolderError{d.folder, "check that this user may write there", err}
	}
	f.Close()
	q := url.Values{
		// A commit returns after its fsync; what is deleted is overwritten: keys that were used up are gone.
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(ON)", "temp_store(MEMORY)"},
		"_txlock": {"immediate"},
	}
	if d.db, err = sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode()); err != nil {
		return err
	}
	d.db.SetMaxOpenConns(1)
	return d.migrate(ctx)
}

func (d *DB) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, d.db, files)
	if err != nil {
		return d.advise(err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return d.advise(err)
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; have > newest {
		return &FolderError{Folder: d.folder, Advice: fmt.Sprintf("it was written by a newer comity (its schema is version %d, this program knows %d): use that one", have, newest)}
	}
	_, err = p.Up(ctx)
	return d.advise(err)
}

// advise adds what a person can do about an error of the engine.
func (d *DB) advise(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	advice := ""
	switch e.Code() & 0xff {
	case lib.SQLITE_CANTOPEN, lib.SQLITE_PERM, lib.SQLITE_READONLY:
		advice = "check that this user may write there"
	case lib.SQLITE_FULL:
		advice = "the disk is full: free some space and start again; nothing is lost"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		advice = "another process has it open; stop that one first"
	case lib.SQLITE_NOTADB, lib.SQLITE_CORRUPT:
		advice = "it is not an intact device: move it away and log in as a new device"
	default:
		return err
	}
	return &FolderError{d.folder, advice, err}
}

// Close closes the device's folder.
func (d *DB) Close() error {
	var err error
	if d.db != nil {
		err = d.db.Close()
	}
	return errors.Join(err, d.lock.Close())
}

// View implements client.Store.
func (d *DB) View(ctx context.Context, f func(client.Tx) error) error { return d.in(ctx, f) }

// Update implements client.Store.
func (d *DB) Update(ctx context.Context, f func(client.Tx) error) error { return d.in(ctx, f) }

func (d *DB) in(ctx context.Context, f func(client.Tx) error) error {
	// A transaction is short; to end one half-way because somebody does not wait any more gains nothing.
	ctx = context.WithoutCancel(ctx)
	t, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return d.advise(err)
	}
	defer t.Rollback()
	if err := f(&tx{ctx, t}); err != nil {
		return d.advise(err)
	}
	return d.advise(t.Commit())
}

type tx struct {
	ctx context.Context
	t   *sql.Tx
}

func (t *tx) Get(key []byte) ([]byte, error) {
	var value []byte
	err := t.t.QueryRowContext(t.ctx, "SELECT value FROM records WHERE key = ?", key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil && value == nil {
		value = []byte{}
	}
	return value, err
}

func (t *tx) Put(key, value []byte) error {
	if value == nil {
		value = []byte{}
	}
	_, err := t.t.ExecContext(t.ctx, "INSERT INTO records (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
	return err
}

func (t *tx) Delete(key []byte) error {
	_, err := t.t.ExecContext(t.ctx, "DELETE FROM records WHERE key = ?", key)
	return err
}

// scanAtOnce is how many records are read at a time, so that f may read others.
const scanAtOnce = 256

func (t *tx) Scan(prefix, after []byte, f func(key, value []byte) (bool, error)) error {
	from := ">="
	low := prefix
	if string(after) >= string(prefix) && after != nil {
		from, low = ">", after
	}
	high := next(prefix)
	for {
		page, err := t.page(from, low, high)
		if err != nil {
			return err
		}
		for i := range page {
			if more, err := f(page[i][0], page[i][1]); err != nil || !more {
				return err
			}
		}
		if len(page) < scanAtOnce {
			return nil
		}
		from, low = ">", page[len(page)-1][0]
	}
}

func (t *tx) page(from string, low, high []byte) (page [][2][]byte, err error) {
	q, args := "SELECT key, value FROM records WHERE key "+from+" ?", []any{low}
	if low == nil {
		args[0] = []byte{}
	}
	if high != nil {
		q, args = q+" AND key < ?", append(args, high)
	}
	rows, err := t.t.QueryContext(t.ctx, q+fmt.Sprintf(" ORDER BY key LIMIT %d", scanAtOnce), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key, value []byte
		if err := rows.Scan(&key, &value); err != nil {
			return nil, err
		}
		if value == nil {
			value = []byte{}
		}
		page = append(page, [2][]byte{key, value})
	}
	return page, rows.Err()
}

// next is the least key greater than all that begin with a prefix; nil: there is none.
func next(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			return append(append([]byte{}, prefix[:i]...), prefix[i]+1)
		}
	}
	return nil
}
