package zookeeper

import "syscall"

// dieWithParent has the kernel kill a child when its parent ends, however it ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
