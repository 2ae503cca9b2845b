package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
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
	echo *pgx.ConnConfig // where Listen says what it must hear: the same, but in tests
	conn *pgx.Conn       // that Publish uses; nil: none
	skip time.Time       // until then Publish does nothing: the engine can't
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

const (
	// probeEvery is how often a connection on which nothing is heard is asked
	// whether it still hears.
	probeEvery = 10 * time.Second
	// echoTime is how long that may take.
	echoTime = 5 * time.Second
	// deafAgain is after how long a database that takes LISTEN but lets nothing be
	// heard, as behind a connection pooler, is tried again.
	deafAgain = time.Minute
	echo      = "echo/" // begins what only its sender waits for
)

var errDeaf = errors.New("postgres: LISTEN is taken, but nothing is heard: is there a connection pooler in between?")

// Listen calls up when it has heard what it said itself on another connection:
// that LISTEN is taken says little.
func (b *bus) Listen(ctx context.Context, up func(), f func(text string)) error {
	conn, err := pgx.ConnectConfig(ctx, b.cfg)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		if unsupported(err) {
			select {
			case <-ctx.Done():
			case <-time.After(unsupportedAgain):
			}
		}
		return err
	}
	other, err := pgx.ConnectConfig(ctx, b.echo)
	if err != nil {
		return err
	}
	defer hangUp(ctx, other)
	other.Exec(ctx, "SET synchronous_commit = off")
	own := echo + rand.Text()
	heard, waits := false, false
	for {
		long := probeEvery
		if !heard {
			long = 0
		}
		if waits {
			long = echoTime
		}
		wait, cancel := context.WithTimeout(ctx, long)
		var n *pgconn.Notification
		if err = context.DeadlineExceeded; long > 0 {
			n, err = conn.WaitForNotification(wait)
		}
		cancel()
		switch {
		case err == nil && n.Payload == own:
			waits = false
			if !heard {
				heard = true
				up()
			}
		case err == nil && strings.HasPrefix(n.Payload, echo):
		case err == nil:
			f(n.Payload)
		case ctx.Err() != nil:
			return ctx.Err()
		case wait.Err() == nil || conn.IsClosed():
			return err
		case waits:
			if !heard {
				select {
				case <-ctx.Done():
				case <-time.After(deafAgain):
				}
			}
			return errDeaf
		default:
			say, cancel := context.WithTimeout(ctx, echoTime)
			_, err := other.Exec(say, "SELECT pg_notify($1, $2)", channel, own)
			cancel()
			if err != nil {
				return err
			}
			waits = true
		}
	}
}

// hangUp closes a connection in any case.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	conn.Close(end)
}
