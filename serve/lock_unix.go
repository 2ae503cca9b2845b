//go:build unix

package serve

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// lockFolder makes sure that no other process uses a data folder. The lock ends
// with the process, however that ends.
func lockFolder(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, "comity.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data folder can't be used; this user must be able to write to it: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another Comity uses the data folder %s: stop that one first, or use PostgreSQL, which several nodes may share", dir)
	} else if err != nil {
		err = fmt.Errorf("the data folder can't be locked: %w", err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
