package clientdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/comity-im/comity/client"
)

func open(t *testing.T, folder string) *DB {
	t.Helper()
	d, err := Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestLikeMemory: whatever is done with a DB and with the store in memory, both
// hold the same, rolled back transactions and pages of a scan included.
func TestLikeMemory(t *testing.T) {
	stores := []client.Store{open(t, t.TempDir()), client.NewMemory()}
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'm', 0xfe, 0xff}), 0, 4)
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			del        bool
			key, value []byte
		}
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.Bool().Draw(rt, "delete"), key.Draw(rt, "key"), rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(rt, "value")}
		}), 0, 20).Draw(rt, "steps")
		fail := rapid.Bool().Draw(rt, "fail")
		prefix, after := key.Draw(rt, "prefix"), key.Draw(rt, "after")
		broken := errors.New("broken")
		var seen [2][]string
		for i, s := range stores {
			err := s.Update(t.Context(), func(tx client.Tx) error {
				for _, x := range steps {
					err := tx.Put(x.key, x.value)
					if x.del {
						err = tx.Delete(x.key)
					}
					if err != nil {
						return err
					}
				}
				if fail {
					return broken
				}
				return nil
			})
			if fail != errors.Is(err, broken) || !fail && err != nil {
				rt.Fatalf("update: %v", err)
			}
			err = s.View(t.Context(), func(tx client.Tx) error {
				for _, x := range steps {
					v, err := tx.Get(x.key)
					if err != nil {
						return err
					}
					seen[i] = append(seen[i], fmt.Sprintf("%x is %x %v", x.key, v, v == nil))
				}
				return tx.Scan(prefix, after, func(k, v []byte) (bool, error) {
					seen[i] = append(seen[i], fmt.Sprintf("%x: %x", k, v))
					return len(seen[i]) < 60, nil
				})
			})
			if err != nil {
				rt.Fatal(err)
			}
		}
		if !slices.Equal(seen[0], seen[1]) {
			rt.Fatalf("the file holds %q, memory %q", seen[0], seen[1])
		}
	})
}

// TestScanLong: a scan goes on beyond one page, and may read and be left.
func TestScanLong(t *testing.T) {
	d := open(t, t.TempDir())
	const n = 2*scanAtOnce + 7
	err := d.Update(t.Context(), func(tx client.Tx) error {
		for i := range n {
			if err := tx.Put(fmt.Appendf(nil, "k%05d", i), []byte{1}); err != nil {
				return err
			}
		}
		got := 0
		err := tx.Scan([]byte("k"), nil, func(k, _ []byte) (bool, error) {
			got++
			v, err := tx.Get(k)
			if len(v) != 1 {
				t.Errorf("%s holds %x", k, v)
			}
			return true, err
		})
		if got != n {
			t.Errorf("%d of %d records", got, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "device")
	if Exists(folder) {
		t.Error("there is a device before it is made")
	}
	d := open(t, folder)
	if !Exists(folder) {
		t.Error("there is no device")
	}
	for name, want := range map[string]os.FileMode{folder: 0o700, filepath.Join(folder, File): 0o600, filepath.Join(folder, "lock"): 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if info, err := os.Stat(filepath.Join(folder, File+suffix)); err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", File+suffix, info.Mode().Perm())
		}
	}
	advised := func(err error, advice string) {
		t.Helper()
		var e *FolderError
		if !errors.As(err, &e) || !strings.Contains(e.Advice, advice) {
			t.Errorf("error %v does not advise %q", err, advice)
		}
	}
	_, err := Open(t.Context(), folder)
	advised(err, "another process uses")
	if _, err := d.db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), folder)
	advised(err, "newer comity")

	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.MkdirAll(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, File), []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), bad)
	advised(err, "not an intact device")
}

// TestFull: a disk that is full loses nothing that was there, and is said.
func TestFull(t *testing.T) {
	d := open(t, t.TempDir())
	ctx := context.Background()
	if err := d.Update(ctx, func(tx client.Tx) error { return tx.Put([]byte("a"), []byte("kept")) }); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := d.db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := d.db.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
		t.Fatal(err)
	}
	err := d.Update(ctx, func(tx client.Tx) error {
		if err := tx.Put([]byte("a"), []byte("new")); err != nil {
			return err
		}
		return tx.Put([]byte("b"), make([]byte, 1<<20))
	})
	var e *FolderError
	if !errors.As(err, &e) || !strings.Contains(e.Advice, "full") {
		t.Errorf("error %v", err)
	}
	err = d.View(ctx, func(tx client.Tx) error {
		v, err := tx.Get([]byte("a"))
		if string(v) != "kept" {
			t.Errorf("a holds %q", v)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
