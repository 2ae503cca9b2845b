package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
	"github.com/comity-im/comity/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store {
		s, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "x.db"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestOpenErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	s, err := sqlite.Open(context.Background(), newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", newer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"no folder", filepath.Join(dir, "none", "x.db"), "create the folder"},
		{"not a database", garbage, "not an intact SQLite database"},
		{"newer schema", newer, "run the newer comity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := sqlite.Open(context.Background(), c.path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
			var schema *store.SchemaError
			if (c.name == "newer schema") != errors.As(err, &schema) {
				t.Errorf("error is a %T", err)
			}
		})
	}
}

func TestOnlyItsOwnerReadsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := sqlite.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		i, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if i.Mode().Perm() != 0o600 {
			t.Errorf("%s has the rights %s", filepath.Base(file), i.Mode())
		}
	}
}

func TestReopenKeepsWhatWasCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	for i := range 3 {
		s, err := sqlite.Open(context.Background(), path)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Update(context.Background(), func(tx *store.Tx) error {
			b, err := tx.CreateMeta("n", []byte("first"))
			if string(b) != "first" {
				t.Errorf("opening %d: %q", i, b)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Update(context.Background(), func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
			t.Errorf("an update after Close: %v", err)
		}
	}
}
