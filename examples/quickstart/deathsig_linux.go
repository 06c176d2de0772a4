package main

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the child when this process dies, even if the
// child can't see that its standard input has ended.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
