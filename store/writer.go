package store

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
	"time"
)

// maxBatch bounds how many updates share one commit, and so how long the first
// of them waits for the last.
const maxBatch = 512

// An update is one function waiting for the writer.
type update struct {
	ctx  context.Context
	f    func(*Tx) error
	err  error
	done chan struct{}
}

func (s *Store) enqueue(ctx context.Context, f func(*Tx) error) error {
	u := &update{ctx: ctx, f: f, done: make(chan struct{})}
	select {
	case s.updates <- u:
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// Once enqueued the answer is awaited even if ctx ends: the caller must
	// learn whether its writes are on disk.
	select {
	case <-u.done:
		return u.err
	case <-s.done:
	}
	select {
	case <-u.done:
		return u.err
	default:
		return ErrClosed
	}
}

// writer runs the updates, all that wait at a time in one transaction.
func (s *Store) writer(w *stmtConn) {
	defer close(s.done)
	defer w.conn.Close()
	var batch []*update
	for {
		batch = batch[:0]
		select {
		case u := <-s.updates:
			batch = append(batch, u)
		case <-s.closing:
			select {
			case u := <-s.updates:
				batch = append(batch, u)
			default:
				if s.digests != nil {
					s.settle(w)
				}
				return
			}
		}
	more:
		for len(batch) < maxBatch {
			select {
			case u := <-s.updates:
				batch = append(batch, u)
			default:
				break more
			}
		}
		s.commit(w, batch)
		if s.d.Between != nil {
			s.d.Between(func(query string) error { return w.exec(context.Background(), query) })
		}
	}
}

// commit runs a batch in one transaction and answers its updates.
func (s *Store) commit(w *stmtConn, batch []*update) {
	ctx := context.Background()
	start := time.Now()
	answer := func(err error) {
		for _, u := range batch {
			if u.err == nil {
				u.err = err
			}
			close(u.done)
		}
	}
	undone := func(err error) {
		s.committed(Commit{Updates: len(batch), Waiting: len(s.updates), Took: time.Since(start), Err: err})
	}
	if err := w.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		undone(err)
		answer(s.fail(err))
		return
	}
	committed := false
	tx := &Tx{ctx: ctx, s: s, w: w}
	if s.digests != nil {
		defer func() { s.digests.ended(committed) }()
		if err := s.digests.begin(tx); err != nil {
			w.exec(ctx, "ROLLBACK")
			undone(err)
			answer(s.fail(err))
			return
		}
		tx.floor = s.digests.floor
	}
	for _, u := range batch {
		if u.err = u.ctx.Err(); u.err != nil {
			continue
		}
		if len(batch) == 1 {
			// No savepoint is needed: nobody else's writes are at stake.
			if u.err = run(u.f, tx); u.err != nil {
				w.exec(ctx, "ROLLBACK")
				if broken(u.err) {
					undone(u.err)
				}
				answer(nil)
				return
			}
			continue
		}
		if err := w.exec(ctx, "SAVEPOINT u"); err != nil {
			u.err = s.fail(err)
			continue
		}
		if u.err = run(u.f, tx); u.err != nil {
			if err := w.exec(ctx, "ROLLBACK TO u"); err != nil {
				w.exec(ctx, "ROLLBACK")
				undone(err)
				answer(s.fail(err))
				return
			}
		}
		if err := w.exec(ctx, "RELEASE u"); err != nil {
			w.exec(ctx, "ROLLBACK")
			undone(err)
			answer(s.fail(err))
			return
		}
	}
	var err error
	if s.digests != nil {
		err = s.digests.move(tx)
	}
	sync := time.Now()
	if err == nil {
		err = w.exec(ctx, "COMMIT")
	}
	committed = err == nil
	s.committed(Commit{Updates: len(batch), Waiting: len(s.updates), Took: time.Since(start), Sync: time.Since(sync), Err: err})
	if err != nil {
		w.exec(ctx, "ROLLBACK")
	}
	answer(s.fail(err))
}

// run calls f and turns a panic into an error, so that one caller's fault
// doesn't end the updates that share its commit.
func run(f func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("store: an update panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return f(tx)
}

// stmtConn is a connection with its prepared statements. One goroutine at a time
// uses it.
type stmtConn struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func (w *stmtConn) close() {
	for _, st := range w.stmts {
		st.Close()
	}
	w.conn.Close()
}

func (w *stmtConn) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := w.stmts[query]; ok {
		return st, nil
	}
	st, err := w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = st
	return st, nil
}

func (w *stmtConn) exec(ctx context.Context, query string) error {
	st, err := w.prepare(ctx, query)
	if err != nil {
		return err
	}
	_, err = st.ExecContext(ctx)
	return err
}

func (w *stmtConn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := w.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

func (w *stmtConn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := w.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}
