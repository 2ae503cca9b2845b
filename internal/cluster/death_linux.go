package cluster

import "syscall"

// dieWithParent makes the kernel end the process when we end, however we do.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }
