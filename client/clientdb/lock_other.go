//go:build !unix

package clientdb

import (
	"os"
	"path/filepath"
)

// takeLock opens the lock file; where there is no flock, SQLite's own locks keep
// two processes apart.
func takeLock(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &FolderError{folder, "check that this user may write there", err}
	}
	return f, nil
}
