package sqlite_test

import (
	"path/filepath"
	"testing"

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
