package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/comity-im/comity/internal/pgtest"
)

// A database that takes LISTEN counts as heard when something is heard, and no
// sooner: behind a connection pooler nothing ever is.
func TestListenIsHeard(t *testing.T) {
	server := pgtest.Start(t)
	cfg := func() *pgx.ConnConfig {
		c, err := pgx.ParseConfig(server.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	here, elsewhere := cfg(), cfg()
	listen := func(b *bus, long time.Duration) (up bool, texts []string) {
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		err := b.Listen(ctx, func() {
			up = true
			if err := (&bus{cfg: here}).Publish(ctx, "hello"); err != nil {
				t.Error(err)
			}
		}, func(text string) {
			texts = append(texts, text)
			cancel()
		})
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errDeaf) {
			t.Error(err)
		}
		return up, texts
	}
	if up, texts := listen(&bus{cfg: here, echo: here}, 20*time.Second); !up || len(texts) != 1 || texts[0] != "hello" {
		t.Errorf("up %v, heard %q", up, texts)
	}
	// What is said there is not heard here, as with a pooler that gives the
	// connection which listens to somebody else.
	if up, texts := listen(&bus{cfg: here, echo: elsewhere}, echoTime+2*time.Second); up || len(texts) > 0 {
		t.Errorf("nothing can be heard: up %v, heard %q", up, texts)
	}
}
