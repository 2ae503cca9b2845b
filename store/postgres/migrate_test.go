package postgres_test

import (
	"bufio"
	"context"
	"database/sql"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/pgtest"
	"github.com/comity-im/comity/store/postgres"
)

const migrateEnv = "COMITY_TEST_MIGRATE"

// TestMigrateHere is the process that is killed while it migrates.
func TestMigrateHere(t *testing.T) {
	url := os.Getenv(migrateEnv)
	if url == "" {
		t.Skip("only a process of TestKilledMigrationResumes")
	}
	os.Stdout.WriteString("begins\n")
	if s, err := postgres.Open(context.Background(), url, 2); err == nil {
		s.Close()
	}
	os.Exit(0)
}

// schema is every column and index of a database, and which migrations it had.
func schema(t *testing.T, url string) (out []string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns WHERE table_schema = 'public'
		UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL SELECT 'version ' || version_id FROM goose_db_version ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// A migration whose node was killed half-way is done again from its beginning, by
// the same node or another.
func TestKilledMigrationResumes(t *testing.T) {
	server := pgtest.Start(t)
	whole := server.Database(t)
	begin := time.Now()
	s, err := postgres.Open(context.Background(), whole, 2)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	s.Close()
	want := schema(t, whole)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		url := server.Database(t)
		for range 2 {
			cmd := exec.Command(exe, "-test.run=^TestMigrateHere$")
			cmd.Env = append(os.Environ(), migrateEnv+"="+url)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			bufio.NewReader(out).ReadString('\n')
			time.Sleep(rand.N(took))
			cmd.Process.Kill()
			cmd.Wait()
		}
		s, err := postgres.Open(context.Background(), url, 2)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := schema(t, url); !slices.Equal(got, want) {
			t.Errorf("schema after deaths:\n%q\nwant\n%q", got, want)
		}
	}
}
