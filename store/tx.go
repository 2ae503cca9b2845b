package store

import (
	"context"
	"database/sql"
	"errors"
)

// A Tx is one transaction. It is valid only inside the function that it was
// given to, and not safe for concurrent use.
type Tx struct {
	ctx context.Context
	s   *Store
	q   querier   // a database/sql transaction, or
	w   *stmtConn // a connection that keeps its statements

	floor int64 // of digests, as it was when the transaction began
}

type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (tx *Tx) querier() querier {
	if tx.w != nil {
		return tx.w
	}
	return tx.q
}

// exec runs a statement and returns how many rows it touched.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	r, err := tx.querier().ExecContext(tx.ctx, tx.s.rebind(query), args...)
	if err != nil {
		if tx.s.d.Duplicate(err) {
			return 0, ErrConflict
		}
		return 0, tx.s.fail(err)
	}
	n, err := r.RowsAffected()
	return n, tx.s.fail(err)
}

// execOne is exec for a statement that must touch one row at least.
func (tx *Tx) execOne(query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// query calls scan for each row.
func (tx *Tx) query(scan func(row scanner) error, query string, args ...any) error {
	rows, err := tx.querier().QueryContext(tx.ctx, tx.s.rebind(query), args...)
	if err != nil {
		if tx.s.d.Duplicate(err) {
			return ErrConflict
		}
		return tx.s.fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return tx.s.fail(rows.Err())
}

type scanner interface{ Scan(...any) error }

// A row is the answer to a query for one row.
type row struct {
	tx    *Tx
	query string
	args  []any
}

func (tx *Tx) row(query string, args ...any) row { return row{tx, query, args} }

// Scan reads the row, or returns ErrNotFound.
func (r row) Scan(dst ...any) error {
	rows, err := r.tx.querier().QueryContext(r.tx.ctx, r.tx.s.rebind(r.query), r.args...)
	if err != nil {
		if r.tx.s.d.Duplicate(err) {
			return ErrConflict
		}
		return r.tx.s.fail(err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			if r.tx.s.d.Duplicate(err) {
				return ErrConflict
			}
			return r.tx.s.fail(err)
		}
		return ErrNotFound
	}
	return r.tx.s.fail(rows.Scan(dst...))
}

// collect reads all rows of a query.
func collect[T any](tx *Tx, scan func(scanner, *T) error, query string, args ...any) ([]T, error) {
	var list []T
	err := tx.query(func(r scanner) error {
		var v T
		if err := scan(r, &v); err != nil {
			return err
		}
		list = append(list, v)
		return nil
	}, query, args...)
	return list, err
}

// found turns ErrNotFound into ok = false.
func found(err error) (ok bool, _ error) {
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
