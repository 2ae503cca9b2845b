package chaos

import (
	"syscall"
	"unsafe"
)

// limit makes the kernel refuse that a process writes beyond an offset of any
// file: to it that is a full disk.
func limit(pid int, octets uint64) bool { return prlimit(pid, octets) }

// unlimit takes that back.
func unlimit(pid int) { prlimit(pid, ^uint64(0)) }

func prlimit(pid int, octets uint64) bool {
	l := [2]uint64{octets, ^uint64(0)}
	_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&l)), 0, 0, 0)
	return e == 0
}
