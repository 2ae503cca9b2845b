//go:build unix

package serve

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// A data folder with SQLite is one process's, until that ends.
func TestDataFolderIsLocked(t *testing.T) {
	s := open(t)
	cfg := s.cfg
	if second, err := Open(context.Background(), cfg, s.logger); err == nil || !strings.Contains(err.Error(), "another Comity uses the data folder "+filepath.Join(cfg.dir, "data")) {
		if err == nil {
			second.close()
		}
		t.Errorf("a second process: %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(context.Background(), cfg, s.logger)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.close()
}
