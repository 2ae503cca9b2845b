package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/comity-im/comity/store/sqlite"
)

const migrateEnv = "COMITY_TEST_MIGRATE"

// TestMigrateHere is the process that is killed while it migrates.
func TestMigrateHere(t *testing.T) {
	path := os.Getenv(migrateEnv)
	if path == "" {
		t.Skip("only a process of TestKilledMigrationResumes")
	}
	os.Stdout.WriteString("begins\n")
	if s, err := sqlite.Open(context.Background(), path); err == nil {
		s.Close()
	}
	os.Exit(0)
}

// schema is every table and index of a database, and which migrations it had.
func schema(t *testing.T, path string) (out []string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_master UNION ALL SELECT 'version ' || version_id FROM goose_db_version ORDER BY 1")
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

// A migration that was killed half-way is done again from its beginning: after
// any number of deaths the schema is that of a database that was never disturbed.
func TestKilledMigrationResumes(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole.db")
	begin := time.Now()
	s, err := sqlite.Open(ctx, whole)
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
	unfinished := 0
	for i := range 12 {
		path := filepath.Join(dir, "killed.db")
		if i%3 == 0 { // else it is killed again
			for _, suffix := range []string{"", "-wal", "-shm"} {
				os.Remove(path + suffix)
			}
		}
		cmd := exec.Command(exe, "-test.run=^TestMigrateHere$")
		cmd.Env = append(os.Environ(), migrateEnv+"="+path)
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
		if cmd.Wait() != nil {
			unfinished++
		}
		if i%3 != 2 {
			continue
		}
		s, err := sqlite.Open(ctx, path)
		if err != nil {
			t.Fatalf("after %d deaths: %v", i+1, err)
		}
		s.Close()
		got := schema(t, path)
		if len(got) != len(want) {
			t.Fatalf("the schema has %d entries, an undisturbed one %d", len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("schema: %s\nwant %s", got[i], want[i])
			}
		}
	}
	if unfinished == 0 {
		t.Skip("every process was done before it could be killed")
	}
}
