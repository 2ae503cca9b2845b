package sqlite_test

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
	"github.com/comity-im/comity/store/storetest"
)

var migration = storetest.Migration{
	Open: sqlite.Open, Driver: "sqlite",
	Empty:  func(t *testing.T) string { return filepath.Join(t.TempDir(), "x.db") },
	Schema: "SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_master",
}

// TestMigrateHere is the process that is killed while it migrates.
func TestMigrateHere(t *testing.T) { migration.Here(t) }

// A migration that was killed half-way is done again from its beginning: after
// any number of deaths the schema is that of a database that was never disturbed.
func TestKilledMigrationResumes(t *testing.T) { migration.Killed(t, 6) }

// downgrade takes a database back to the schema before the log's positions.
func downgrade(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile("../migrations/sqlite/00003_log.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, down, ok := strings.Cut(string(text), "-- +goose Down")
	if !ok {
		t.Fatal("the migration has no way back")
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	down = strings.NewReplacer("{{bytes}}", "BLOB", "{{clustered}}", "WITHOUT ROWID").Replace(down)
	if _, err := db.Exec("BEGIN; " + down + "; DELETE FROM goose_db_version WHERE version_id = 3; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
}

// A log of before goes on with its events, their numbers and its memory of
// repeats, also if the process that migrates it is killed.
func TestLogMigrates(t *testing.T) {
	dir := t.TempDir()
	before := filepath.Join(dir, "before.db")
	s, err := sqlite.Open(t.Context(), before)
	if err != nil {
		t.Fatal(err)
	}
	ids := []int64{logRoom(t, s, "mimi://hub.example/r/x"), logRoom(t, s, "mimi://hub.example/r/y"), logRoom(t, s, "mimi://hub.example/r/empty")}
	lengths := []uint64{6000, 900, 0}
	for i, id := range ids[:2] {
		var list []store.Event
		for n := range lengths[i] {
			e := nth(n)
			e.Body = binary.BigEndian.AppendUint64(make([]byte, 700), n)
			list = append(list, e)
		}
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			if err := tx.AppendFollowed(id, list); err != nil {
				return err
			}
			_, err := tx.TrimRoom(id, 101, 1<<60, 100)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	downgrade(t, before)
	old, err := os.ReadFile(before)
	if err != nil {
		t.Fatal(err)
	}
	halfway := 0
	took := 500 * time.Millisecond
	for i := range 4 {
		path := filepath.Join(dir, fmt.Sprint(i, ".db"))
		if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
		for range min(i, 2) { // the first is not killed
			if storetest.MigrateAndKill(t, path, took) {
				halfway++
			}
		}
		begin := time.Now()
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			took = time.Since(begin)
		}
		for i, id := range ids {
			first := min(100, lengths[i])
			if err := s.View(t.Context(), func(tx *store.Tx) error {
				list, err := tx.Events(id, 0, 10_000)
				if uint64(len(list)) != lengths[i]-first {
					t.Errorf("%d events of %d", len(list), lengths[i]-first)
				}
				for j, e := range list {
					n := first + uint64(j)
					if e.Seq != int64(n)+1 || e.Digest != nth(n).Digest || e.AcceptedMillis != int64(n)+1 || binary.BigEndian.Uint64(e.Body[700:]) != n {
						t.Fatalf("event %d has become %d", n+1, e.Seq)
					}
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			has(t, s, id, first, lengths[i])
			if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AppendFollowed(id, []store.Event{nth(lengths[i]), nth(5)}) }); err != nil {
				t.Errorf("events that the log does not have: %v", err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 5 processes were killed before they were done", halfway)
}
