package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
	"testing/fstest"
	"time"

	"strings"

	"github.com/pressly/goose/v3"
)

// SchemaVersion is the number of the newest migration that this program has.
const SchemaVersion = 3

var (
	// ErrNotFound means that no row has the key that was asked for.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict means that a row changed since the caller read it, or exists
	// already; the caller starts again from what is there now.
	ErrConflict = errors.New("store: conflict")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("store: closed")
)

// A SchemaError means that the database was written by a newer program.
type SchemaError struct {
	Have, Want int64 // schema versions: of the database, of this program
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("store: the database has schema version %d, this program knows up to %d: run the newer comity that wrote it, or restore a backup made before the upgrade", e.Have, e.Want)
}

// A Dialect is what differs between database engines.
type Dialect struct {
	Name string // "sqlite" or "postgres"
	// Goose is goose's name of the dialect.
	Goose goose.Dialect
	// Types replaces the type tokens of the migrations.
	Types *strings.Replacer
	// Rebind rewrites a query with ? placeholders for the engine.
	Rebind func(query string) string
	// ForUpdate is appended to a SELECT that locks what it reads.
	ForUpdate string
	// TxOptions is how a write transaction starts; nil means the default.
	TxOptions *sql.TxOptions
	// ViewIsolation makes all statements of a reading transaction see one state.
	ViewIsolation sql.IsolationLevel
	// Retry says whether a failed transaction may succeed when repeated.
	Retry func(error) bool
	// Duplicate says whether err is a violated uniqueness.
	Duplicate func(error) bool
	// Advise says what an operator can do about an error; empty: it has no advice.
	// May be nil.
	Advise func(error) string
	// Unsupported says whether the engine has no such function or statement; may be nil.
	Unsupported func(error) bool
	// SingleWriter makes one goroutine run all writing transactions, many of
	// them in one commit.
	SingleWriter bool
	// Between is called by the one writer after each commit, with what runs a
	// statement on its connection. May be nil.
	Between func(exec func(query string) error)
	// Insert begins a statement that inserts rows and need not be undone by itself
	// when it fails, because its transaction is: to be able to is dear in SQLite.
	// Empty: INSERT.
	Insert string
	// Gather is how many digests of new events are gathered in memory before they are
	// put into a table in order; SingleWriter only. 0: room_log has a unique index of
	// them.
	Gather int
	// Others selects a number that changes when another process, of which there
	// should be none, has written; with Gather only.
	Others string
	// Shrink is a statement by which a connection gives memory back; empty: none.
	Shrink string
	// Closing is called when the writer has ended. May be nil.
	Closing func()
	// Checkpoints makes a function be told of each checkpoint, for engines whose
	// write-ahead log is copied into the database beside the commits. May be nil.
	Checkpoints func(observe func(Checkpoint))
	// Readers is how many connections read at a time; SingleWriter only.
	Readers int
	// SizeQuery selects the database's size in bytes.
	SizeQuery string
	// ClockQuery selects the database's time in milliseconds; empty: the one
	// process that writes goes by its own.
	ClockQuery string
	// Backup writes a copy of the database that has a Meta named mark to an empty
	// file; nil: the engine has tools for that.
	Backup func(ctx context.Context, file, mark string) error
	// Bus carries hints between the nodes; nil: there is one node only.
	Bus Bus
}

// A Store is an open database. It is safe for concurrent use.
type Store struct {
	d       *Dialect
	read    *sql.DB
	write   *sql.DB
	queries sync.Map // query text → rebound text

	insertEvent, insertEvents string // one, eventsAtOnce

	digests *digests // nil: room_log has a unique index of them

	hints      *hints // nil: there is one node only
	publishing sync.WaitGroup

	updates chan *update   // SingleWriter only
	readers chan *stmtConn // SingleWriter only; nil entries are not open yet
	closing chan struct{}
	done    chan struct{}
	observe func(Commit)
	unread  func(error)
	once    sync.Once
}

// Open migrates the database forwards and returns a Store on it. read and
// write may be the same pool; Close closes both.
func Open(ctx context.Context, d *Dialect, read, write *sql.DB) (*Store, error) {
	if err := migrate(ctx, d, write); err != nil {
		return nil, err
	}
	s := &Store{d: d, read: read, write: write, closing: make(chan struct{}), done: make(chan struct{})}
	insert := cmp.Or(d.Insert, "INSERT")
	s.insertEvent, s.insertEvents = insert+insertEvent, insert+insertEventsAtOnce
	if d.Bus != nil {
		s.hints = newHints(d.Bus)
		s.publishing.Add(1)
		go s.publish()
	}
	if !d.SingleWriter {
		close(s.done)
		return s, nil
	}
	conn, err := write.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	w := &stmtConn{conn: conn, stmts: map[string]*sql.Stmt{}}
	if d.Gather > 0 {
		if err := s.openDigests(w); err != nil {
			w.close()
			return nil, err
		}
	}
	s.updates = make(chan *update, 1024)
	s.readers = make(chan *stmtConn, d.Readers)
	for range d.Readers {
		s.readers <- nil
	}
	go s.writer(w)
	return s, nil
}

// migrate brings the schema to SchemaVersion, or refuses a newer one. Each
// migration is one transaction, so one that was killed half-way is simply run
// again.
func migrate(ctx context.Context, d *Dialect, db *sql.DB) error {
	files := fstest.MapFS{}
	for _, pattern := range []string{"migrations/*.sql", "migrations/" + d.Name + "/*.sql"} {
		names, err := fs.Glob(migrations, pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := fs.ReadFile(migrations, name)
			if err != nil {
				return err
			}
			files[path.Base(name)] = &fstest.MapFile{Data: []byte(d.Types.Replace(string(text)))}
		}
	}
	p, err := goose.NewProvider(d.Goose, db, files)
	if err != nil {
		return fmt.Errorf("store: migrations: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("store: reading the schema version: %w", err)
	}
	if have > SchemaVersion {
		return &SchemaError{Have: have, Want: SchemaVersion}
	}
	for try := 0; ; try++ {
		_, err := p.Up(ctx)
		if err == nil {
			return nil
		}
		if d.SingleWriter || try >= 5 || ctx.Err() != nil {
			return fmt.Errorf("store: migrating from schema version %d: %w", have, err)
		}
		// Another node may be migrating at this moment.
		time.Sleep(200 * time.Millisecond << try)
	}
}

// A Commit is what one commit did, for metrics.
type Commit struct {
	Updates int           // that shared it
	Waiting int           // updates that wait for the next one
	Took    time.Duration // from its beginning
	Sync    time.Duration // making it durable, of that
	Err     error
}

// Observe makes f be told of every commit. Call it before the store is used.
func (s *Store) Observe(f func(Commit)) { s.observe = f }

// ObserveReads makes f be told of every error of the engine in a reading
// transaction. Call it before the store is used.
func (s *Store) ObserveReads(f func(error)) { s.unread = f }

func (s *Store) committed(c Commit) {
	if s.observe != nil {
		s.observe(c)
	}
}

// A Checkpoint is one look at the write-ahead log, and its being copied into the
// database if it was long enough.
type Checkpoint struct {
	LogBytes int64 // of the log's file
	// Err is why it could not be copied. Nothing is lost by that, but the log grows
	// until it can.
	Err error
}

// ObserveCheckpoints makes f be told of every checkpoint, one at a time.
func (s *Store) ObserveCheckpoints(f func(Checkpoint)) {
	if s.d.Checkpoints != nil {
		s.d.Checkpoints(f)
	}
}

// An EngineError is an error of the database, not of what was asked of it.
type EngineError struct {
	Engine string // its name
	Err    error
}

func (e *EngineError) Error() string { return fmt.Sprintf("store: %s: %v", e.Engine, e.Err) }

func (e *EngineError) Unwrap() error { return e.Err }

func broken(err error) bool {
	var e *EngineError
	return errors.As(err, &e)
}

// Advise says what an operator can do about an error of the database.
func (s *Store) Advise(err error) string {
	if s.d.Advise != nil {
		if a := s.d.Advise(err); a != "" {
			return a
		}
	}
	return "look at the database's disk and its log"
}

// Close waits for running updates and closes the database.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		<-s.done
		if s.d.Closing != nil {
			s.d.Closing()
		}
	})
	s.publishing.Wait()
	if s.hints != nil {
		s.hints.bus.Close()
	}
	err := s.read.Close()
	if s.write != s.read {
		err = errors.Join(err, s.write.Close())
	}
	return err
}

// Engine names the database engine: "sqlite" or "postgres".
func (s *Store) Engine() string { return s.d.Name }

// Shrink makes the connections that are not in use give back the memory that they
// cache pages in, and the writer's too.
func (s *Store) Shrink(ctx context.Context) error {
	if s.d.Shrink == "" {
		return nil
	}
	var err error
	for range cap(s.readers) {
		select {
		case c := <-s.readers:
			if c != nil {
				err = errors.Join(err, c.exec(ctx, s.d.Shrink))
			}
			s.readers <- c
		default:
		}
	}
	return errors.Join(err, s.Update(ctx, func(tx *Tx) error { return tx.w.exec(ctx, s.d.Shrink) }))
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.View(ctx, func(tx *Tx) error {
		var one int
		return tx.row("SELECT 1").Scan(&one)
	})
}

// Size is the size of the database in bytes; 0 if the engine does not say.
func (s *Store) Size(ctx context.Context) (n int64, err error) {
	err = s.View(ctx, func(tx *Tx) error { return tx.row(s.d.SizeQuery).Scan(&n) })
	if err != nil && s.d.Unsupported != nil && s.d.Unsupported(err) {
		return 0, nil
	}
	return n, err
}

// View runs f on one consistent state of the database. Where engines repeat
// transactions that collide f may run more than once.
func (s *Store) View(ctx context.Context, f func(*Tx) error) error {
	var err error
	if s.d.SingleWriter {
		err = s.viewKept(ctx, f)
	} else {
		err = s.repeated(ctx, func() error { return s.viewOnce(ctx, f) })
	}
	if s.unread != nil && broken(err) && (s.d.Unsupported == nil || !s.d.Unsupported(err)) {
		s.unread(err)
	}
	return err
}

// collisions is how often a transaction that collides with others is repeated,
// after ever longer waits of up to 64 ms: two seconds or so in all.
const collisions = 40

// repeated runs a transaction again as long as it collides with others.
func (s *Store) repeated(ctx context.Context, once func() error) error {
	for try := 0; ; try++ {
		err := once()
		if err == nil || try >= collisions || !s.d.Retry(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(2<<min(try, 5)) * time.Millisecond)): // not all at once again
		}
	}
}

func (s *Store) viewOnce(ctx context.Context, f func(*Tx) error) error {
	t, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: s.d.ViewIsolation})
	if err != nil {
		return s.fail(err)
	}
	defer t.Rollback()
	return f(&Tx{ctx: ctx, s: s, q: t})
}

// viewKept is View on one of the connections that keep their statements, so that
// none is compiled again.
func (s *Store) viewKept(ctx context.Context, f func(*Tx) error) (err error) {
	tx := &Tx{s: s}
	if s.digests != nil {
		tx.floor = s.digests.reads()
	}
	var c *stmtConn
	select {
	case c = <-s.readers:
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	healthy := false
	defer func() {
		if !healthy && c != nil {
			c.close()
			c = nil
		}
		s.readers <- c
	}()
	if c == nil {
		conn, err := s.read.Conn(ctx)
		if err != nil {
			return s.fail(err)
		}
		c = &stmtConn{conn: conn, stmts: map[string]*sql.Stmt{}}
	}
	// What is read is small: a caller that goes away is no reason to stop.
	all := context.WithoutCancel(ctx)
	if err := c.exec(all, "BEGIN"); err != nil {
		return s.fail(err)
	}
	tx.ctx, tx.w = all, c
	err = f(tx)
	healthy = c.exec(all, "ROLLBACK") == nil
	return err
}

// Update runs f in a transaction and returns once it is committed to disk. An
// error of f undoes what it wrote and is returned as it is.
func (s *Store) Update(ctx context.Context, f func(*Tx) error) error {
	if s.d.SingleWriter {
		return s.enqueue(ctx, f)
	}
	start := time.Now()
	err := s.repeated(ctx, func() error { return s.updateOnce(ctx, f) })
	if broken(err) {
		s.committed(Commit{Updates: 1, Took: time.Since(start), Err: err})
	}
	return err
}

func (s *Store) updateOnce(ctx context.Context, f func(*Tx) error) error {
	start := time.Now()
	t, err := s.write.BeginTx(ctx, s.d.TxOptions)
	if err != nil {
		return s.fail(err)
	}
	defer t.Rollback()
	if err := f(&Tx{ctx: ctx, s: s, q: t}); err != nil {
		return err
	}
	sync := time.Now()
	err = t.Commit()
	if err == nil {
		s.committed(Commit{Updates: 1, Took: time.Since(start), Sync: time.Since(sync)})
	}
	return s.fail(err)
}

func (s *Store) fail(err error) error {
	if err == nil || broken(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &EngineError{Engine: s.d.Name, Err: err}
}

func (s *Store) rebind(query string) string {
	if s.d.Rebind == nil {
		return query
	}
	if q, ok := s.queries.Load(query); ok {
		return q.(string)
	}
	q := s.d.Rebind(query)
	s.queries.Store(query, q)
	return q
}
