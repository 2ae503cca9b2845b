//go:build !linux

package chaos

// limit does nothing where a running process can't be limited.
func limit(int, uint64) bool { return false }

func unlimit(int) {}
