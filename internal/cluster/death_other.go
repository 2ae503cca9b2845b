//go:build !linux

package cluster

import "syscall"

// dieWithParent does nothing where the kernel doesn't offer it.
func dieWithParent(*syscall.SysProcAttr) {}
