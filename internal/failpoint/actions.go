package failpoint

import (
	"os"
	"sync/atomic"
	"time"
)

// Kill ends the process as SIGKILL does: nothing is closed, nothing is written.
func Kill(Point) error {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		return err
	}
	select {} // until the signal comes
}

// Error fails the step with err.
func Error(err error) Action { return func(Point) error { return err } }

// Sleep holds the step for d; inside a bubble in virtual time.
func Sleep(d time.Duration) Action {
	return func(Point) error {
		time.Sleep(d)
		return nil
	}
}

// Call calls f and goes on.
func Call(f func()) Action {
	return func(Point) error {
		f()
		return nil
	}
}

// After spares the point n times and has a happen once then.
func After(n int, a Action) Action {
	var hits atomic.Int64
	return func(p Point) error {
		if hits.Add(1) == int64(n)+1 {
			return a(p)
		}
		return nil
	}
}
