package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// channel is what nodes of one database listen on. LISTEN and NOTIFY are within
// one database, so that providers on one server don't hear each other.
const channel = "comity"

// unsupportedAgain is after how long an engine without LISTEN and NOTIFY is
// asked again whether it has them.
const unsupportedAgain = 10 * time.Minute

// bus is a store.Bus on LISTEN and NOTIFY. It notifies on a connection of its
// own, never in the transactions that change something: a NOTIFY makes commits
// wait for each other.
type bus struct {
	cfg  *pgx.ConnConfig
	conn *pgx.Conn // that Publish uses; nil: none
	skip time.Time // until then Publish does nothing: the engine can't
}

func (b *bus) Publish(ctx context.Context, text string) error {
	if time.Now().Before(b.skip) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if b.conn == nil {
		conn, err := pgx.ConnectConfig(ctx, b.cfg)
		if err != nil {
			return err
		}
		b.conn = conn
		// A hint need not be on disk. An engine that doesn't know the setting
		// does without.
		conn.Exec(ctx, "SET synchronous_commit = off")
	}
	_, err := b.conn.Exec(ctx, "SELECT pg_notify($1, $2)", channel, text)
	if err == nil {
		return nil
	}
	if unsupported(err) {
		b.skip = time.Now().Add(unsupportedAgain)
		err = nil
	}
	b.Close()
	return err
}

// unsupported says whether the engine has no such thing: feature_not_supported,
// undefined_function, syntax_error.
func unsupported(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "0A000" || e.Code == "42883" || e.Code == "42601")
}

// Close ends the connection that Publish uses.
func (b *bus) Close() {
	if b.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.conn.Close(ctx)
		b.conn = nil
	}
}

// probeEvery is how often a connection on which nothing is heard is asked
// whether it is still there.
const probeEvery = 10 * time.Second

func (b *bus) Listen(ctx context.Context, up func(), f func(text string)) error {
	conn, err := pgx.ConnectConfig(ctx, b.cfg)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(end)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		if unsupported(err) {
			select {
			case <-ctx.Done():
			case <-time.After(unsupportedAgain):
			}
		}
		return err
	}
	up()
	for {
		wait, cancel := context.WithTimeout(ctx, probeEvery)
		n, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			f(n.Payload)
		case ctx.Err() != nil:
			return ctx.Err()
		case wait.Err() != nil && !conn.IsClosed():
			probe, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := conn.Ping(probe)
			cancel()
			if err != nil {
				return err
			}
		default:
			return err
		}
	}
}
