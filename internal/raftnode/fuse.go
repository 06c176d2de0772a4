package raftnode

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A fuse stands between the raft library and the log. The library answers a log
// that cannot be written with a panic on a goroutine of its own, which would end
// the host program. And rightly it does not try again: after a failed fsync nobody
// knows what the disk holds, and a second one may succeed without having written
// what the first has lost.
//
// When the log fails, the fuse blows: the failure is reported, and the goroutine
// that met it waits, as does each that comes after it, so that nothing that
// depends on the log goes on: no vote, no acknowledgement, no answer. Whoever is
// told closes the Host. On the way the library ends all requests and the network,
// and says so by closing its registry. Then the goroutines are let go, with the lie
// that all is well, of which nobody is left to hear.
type fuse struct {
	log    *slog.Logger
	report func(error) // called once, on a goroutine of its own; may be nil

	armed    atomic.Bool  // set when Open has succeeded: before, errors go to its caller
	starting atomic.Int32 // StartGroup calls, to whose callers errors go, too
	steps    atomic.Int32 // workers that write to the log: it is not StartGroup that meets an error

	blowing sync.Once
	blown   atomic.Bool
	letGo   chan struct{} // closed when the library has ended requests and network
	ending  sync.Once
	reports sync.WaitGroup
}

func newFuse(log *slog.Logger, report func(error)) *fuse {
	return &fuse{log: log, report: report, letGo: make(chan struct{})}
}

// errLogFailed is what a member fails with.
var errLogFailed = errors.New("the log cannot be written")

// guard makes one call that writes to the log. If the fuse is blown, also by a file of
// the log while the call was under way, it waits until nothing depends on the log.
func (f *fuse) guard(call func() error) error {
	if f.blown.Load() {
		<-f.letGo
		return nil
	}
	err := noPanic(call)
	if !f.blown.Load() {
		if err == nil || f.passes() {
			return err
		}
		f.blow(err)
	}
	<-f.letGo
	return nil
}

// passes reports whether an error met now goes to a caller who can return it.
func (f *fuse) passes() bool {
	return !f.armed.Load() || f.starting.Load() > 0 && f.steps.Load() == 0
}

// blow reports err, if it is the first.
func (f *fuse) blow(err error) {
	f.blowing.Do(func() {
		f.blown.Store(true)
		f.log.Error("log cannot be written, this member stops", slog.Any("err", err))
		if f.report != nil {
			f.reports.Go(func() { f.report(fmt.Errorf("%w: %w", errLogFailed, err)) })
		}
	})
}

// release lets the goroutines go that wait. It may be called any number of times.
func (f *fuse) release() { f.ending.Do(func() { close(f.letGo) }) }

// closePatience is how long a log that has failed may take to close.
const closePatience = 5 * time.Second

// guardClose closes the log.
func (f *fuse) guardClose(closeLog func() error) error {
	if !f.blown.Load() {
		return closeLog()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := noPanic(closeLog); err != nil {
			f.log.Warn("failed log not closed", slog.Any("err", err))
		}
	}()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		f.log.Warn("failed log not closed in time, what it holds is given up")
	}
	return nil
}

// noPanic makes a call and returns its panic as an error.
func noPanic(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError(r)
		}
	}()
	return call()
}
