package crashtest_test

import (
	"fmt"
	"os/exec"
	"syscall"
)

// leash has the kernel kill the process when its parent dies, and gives it a
// host name of its own if it wants one.
func leash(cmd *exec.Cmd, cfg *memberConfig) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if cfg.Hostname != "" {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUTS
	}
}

// become makes this process what cfg asks for beside coord.
func become(cfg *memberConfig) error {
	if cfg.Hostname != "" {
		if err := syscall.Sethostname([]byte(cfg.Hostname)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
	}
	if cfg.UID != 0 {
		if err := syscall.Setuid(cfg.UID); err != nil {
			return fmt.Errorf("set user: %w", err)
		}
	}
	return nil
}

const canBecome = true
