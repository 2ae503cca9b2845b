//go:build unix

package clientdb

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// takeLock makes sure that no other process has the folder open. The lock goes
// with the process, however it ends.
func takeLock(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &FolderError{folder, "check that this user may write there", err}
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, &FolderError{Folder: folder, Advice: "another process uses this device's folder; stop that one first, or name another folder"}
	}
	return nil, &FolderError{folder, "the folder can't be locked", err}
}
