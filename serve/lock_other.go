//go:build !unix

package serve

import (
	"io"
	"os"
	"path/filepath"
)

// lockFolder is without effect where there are no locks that end with a process.
func lockFolder(dir string) (io.Closer, error) {
	return os.OpenFile(filepath.Join(dir, "comity.lock"), os.O_RDWR|os.O_CREATE, 0o600)
}
