//go:build unix

package mls

import (
	"syscall"
	"time"
)

// cpuTime returns the CPU time that the process has taken, on all cores.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
