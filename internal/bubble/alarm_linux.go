package bubble

import (
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"
)

// lastResort has the kernel send SIGQUIT to this process after d, of which Go's runtime
// makes a dump of all goroutines and an end, with no goroutine having to run for that: in
// a binary that preempts nobody (package deterministic) one that runs for ever is the only
// one. The function that it returns takes that back.
func lastResort(d time.Duration) (stop func()) {
	type sigevent struct {
		value          uint64
		signal, notify int32
		_              [48]byte
	}
	const monotonic = 1
	event := sigevent{signal: int32(syscall.SIGQUIT)}
	var id int32
	if _, _, errno := syscall.RawSyscall(syscall.SYS_TIMER_CREATE, monotonic, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&id))); errno != 0 {
		return func() {} // then the other alarms have to do
	}
	debug.SetTraceback("crash") // or threads that run would not be shown
	at := struct{ interval, value syscall.Timespec }{value: syscall.NsecToTimespec(int64(d))}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMER_SETTIME, uintptr(id), 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0)
	return func() {
		_, _, _ = syscall.RawSyscall(syscall.SYS_TIMER_DELETE, uintptr(id), 0, 0)
		debug.SetTraceback("single")
	}
}
