//go:build !linux

package zookeeper

import "syscall"

// dieWithParent does nothing where no kernel offers it.
func dieWithParent() *syscall.SysProcAttr { return nil }
