package storetest

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

	"github.com/comity-im/comity/store"
)

// A Migration is how an engine's migrations are tested with processes that are
// killed in the middle of them.
type Migration struct {
	Open   func(ctx context.Context, target string) (*store.Store, error)
	Empty  func(t *testing.T) (target string) // a database in which nothing is
	Driver string                             // of database/sql
	Schema string                             // selects all that a migration makes, one text a row
}

// migrateEnv names the database that a child process is to migrate.
const migrateEnv = "COMITY_TEST_MIGRATE"

// Here is the test TestMigrateHere, the process that is killed.
func (m Migration) Here(t *testing.T) {
	target := os.Getenv(migrateEnv)
	if target == "" {
		t.Skip("only a process of TestKilledMigrationResumes")
	}
	os.Stdout.WriteString("begins\n")
	if s, err := m.Open(context.Background(), target); err == nil {
		s.Close()
	}
	os.Exit(0)
}

// Made returns what the migrations have made of a database, and which of them.
func (m Migration) Made(t *testing.T, target string) (out []string) {
	t.Helper()
	db, err := sql.Open(m.Driver, target)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(m.Schema + " UNION ALL SELECT 'version ' || version_id FROM goose_db_version ORDER BY 1")
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

// Whole migrates an undisturbed database and returns what that made, and how long
// it took.
func (m Migration) Whole(t *testing.T) (made []string, took time.Duration) {
	t.Helper()
	target := m.Empty(t)
	begin := time.Now()
	m.open(t, target)
	return m.Made(t, target), time.Since(begin)
}

func (m Migration) open(t *testing.T, target string) {
	t.Helper()
	s, err := m.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// Killed migrates databases by processes that are killed meanwhile, some of them
// several times: what comes of it in the end is what an undisturbed one has.
func (m Migration) Killed(t *testing.T, databases int) {
	want, took := m.Whole(t)
	halfway := 0
	for n := 0; n < databases || halfway == 0; n++ {
		if n > 10*databases {
			t.Fatalf("all of %d processes were done, or had not begun, before they could be killed", 2*n)
		}
		target := m.Empty(t)
		for range 2 {
			if MigrateAndKill(t, target, took) {
				halfway++
			}
		}
		m.open(t, target)
		if got := m.Made(t, target); !slices.Equal(got, want) {
			t.Errorf("after deaths there is\n%q\nwant\n%q", got, want)
		}
	}
	t.Logf("%d processes were killed before they were done", halfway)
}

// MigrateAndKill has a process migrate a database and kills it before it took so
// long. It says whether it was killed before it was done.
func MigrateAndKill(t *testing.T, target string, took time.Duration) bool {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestMigrateHere$")
	cmd.Env = append(os.Environ(), migrateEnv+"="+target)
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
	return cmd.Wait() != nil
}
