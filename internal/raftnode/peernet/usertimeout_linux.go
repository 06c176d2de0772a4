package peernet

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout has the kernel give up a connection whose peer has
// acknowledged nothing for that long (TCP_USER_TIMEOUT, tcp(7)). Without it,
// what is sent to a host that lost its power is repeated for minutes, in ever
// longer intervals, and a host that is back for a while finds nobody talking
// to it. Keep-alive does not help: it is for connections that wait for nothing.
func setUserTimeout(_, _ string, c syscall.RawConn) error {
	var err error
	ctlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(defaultLimits.progress.Milliseconds()))
	})
	if ctlErr != nil {
		return ctlErr
	}
	return err
}
