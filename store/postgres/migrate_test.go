package postgres

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/pgtest"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/storetest"
)

func migration(server *pgtest.Server) storetest.Migration {
	return storetest.Migration{
		Open:   func(ctx context.Context, url string) (*store.Store, error) { return Open(ctx, url, 2) },
		Driver: "pgx",
		Empty:  func(t *testing.T) string { return server.Database(t) },
		Schema: `SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns WHERE table_schema = 'public'
			UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'`,
	}
}

// TestMigrateHere is the process that is killed while it migrates.
func TestMigrateHere(t *testing.T) { migration(nil).Here(t) }

// A migration whose node was killed half-way is done again from its beginning, by
// the same node or another.
func TestKilledMigrationResumes(t *testing.T) { migration(pgtest.Start(t)).Killed(t, 4) }

// changes are the statements of all migrations, in order.
func changes(t *testing.T) (list []string) {
	t.Helper()
	files, err := filepath.Glob("../migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files { // in order
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		up, _, ok := strings.Cut(string(text), "-- +goose Down")
		if !ok {
			t.Fatalf("%s has no way down", name)
		}
		for s := range strings.SplitSeq(regexp.MustCompile(`--[^\n]*`).ReplaceAllString(dialect.Types.Replace(up), ""), ";") {
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
	}
	return list
}

// Distributed engines don't undo changes of the schema with the transaction
// around them: each counts for itself, and a node that dies half-way leaves those
// that it has made. The next start makes the rest.
func TestMigrationWithoutTransactions(t *testing.T) {
	m := migration(pgtest.Start(t))
	want, _ := m.Whole(t)
	list := changes(t)
	if len(list) < 30 {
		t.Fatalf("only %d statements were found", len(list))
	}
	done := []int{1, 2, len(list) / 4, len(list) / 2}
	for n := len(list) - 8; n <= len(list); n++ {
		done = append(done, n)
	}
	for _, n := range done {
		url := m.Empty(t)
		db, err := sql.Open("pgx", url)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list[:n] {
			if _, err := db.Exec(s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		db.Close()
		s, err := Open(t.Context(), url, 2)
		if err != nil {
			t.Fatalf("after %d of %d statements: %v", n, len(list), err)
		}
		s.Close()
		if got := m.Made(t, url); !slices.Equal(got, want) {
			t.Errorf("after %d of %d statements there is\n%q\nwant\n%q", n, len(list), got, want)
		}
	}
}
