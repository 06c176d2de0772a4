//go:build unix

package crashtest_test

import (
	"os"
	"syscall"
)

const canFreeze = true

func freeze(p *os.Process) { _ = p.Signal(syscall.SIGSTOP) }
func thaw(p *os.Process)   { _ = p.Signal(syscall.SIGCONT) }
