package faultfs

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// An Op is a set of kinds of calls.
type Op uint32

// The kinds of calls.
const (
	Read Op = 1 << iota
	Write
	Sync    // of a file
	SyncDir // of a directory
	Create
	Open
	Remove // also of a whole tree
	Rename
	Link
	Mkdir
	List
	Stat

	Changes = Write | Sync | SyncDir | Create | Remove | Rename | Link | Mkdir
	All     = Changes | Read | Open | List | Stat
)

// ErrPowerOff is what every change meets while the power is off, and every call
// on a file that was opened before.
var ErrPowerOff = errors.New("faultfs: the power is off")

// A Fault is what happens to some calls. A call waits first, for Delay and for
// Stuck, and then fails with Err or reads a flipped bit. A Fault that names none
// of them fails with EIO. All waits end with the fault, with the power, and with
// [FS.Die].
type Fault struct {
	// Ops are the kinds of calls; none means all changes.
	Ops Op

	// Path is a pattern as of path/filepath.Match. It is held against the last
	// element of the path, or if it has a separator against as many last elements
	// as it has. Empty matches all.
	Path string

	After int // so many calls that match are spared first
	Count int // so many are met; 0 means all

	// Share of the calls that are met otherwise, from 0 to 1, by the dice of Seed;
	// 0 means all.
	Share float64
	Seed  uint64

	Err   error           // what the call fails with; it is not made then
	Delay time.Duration   // how long the call waits; inside a bubble in virtual time
	Stuck <-chan struct{} // the call waits until it is closed
	Flip  bool            // a call of Read returns one bit that is wrong
	Lie   bool            // a call of Sync or SyncDir does nothing and succeeds, as if it had been forgotten
}

// An armed fault is one that was injected.
type armed struct {
	Fault
	rng *rand.Rand
	met int // calls that match, until now

	removed chan struct{} // closed when it is
}

// Inject has a fault happen from now on, until the returned function is called.
// If several faults meet one call, their delays add up and the first error counts.
func (fs *FS) Inject(f Fault) (remove func()) {
	if f.Ops == 0 {
		f.Ops = Changes
	}
	if f.Err == nil && f.Delay == 0 && f.Stuck == nil && !f.Flip && !f.Lie {
		f.Err = syscall.EIO
	}
	if f.Flip {
		f.Ops &= Read
	}
	a := &armed{Fault: f, rng: rand.New(rand.NewPCG(f.Seed, 0)), removed: make(chan struct{})}
	fs.faultMu.Lock()
	defer fs.faultMu.Unlock()
	fs.faults = append(fs.faults, a)
	return func() { fs.disarm(func(b *armed) bool { return a == b }) }
}

// ClearFaults removes all faults.
func (fs *FS) ClearFaults() { fs.disarm(func(*armed) bool { return true }) }

func (fs *FS) disarm(which func(*armed) bool) {
	fs.faultMu.Lock()
	defer fs.faultMu.Unlock()
	fs.faults = slices.DeleteFunc(fs.faults, func(a *armed) bool {
		if which(a) {
			close(a.removed)
			return true
		}
		return false
	})
}

// matches reports whether the fault is about such calls.
func (a *armed) matches(op Op, path string) bool {
	if a.Ops&op == 0 {
		return false
	}
	if a.Path == "" {
		return true
	}
	const sep = string(filepath.Separator)
	n := strings.Count(a.Path, sep) + 1
	parts := strings.Split(path, sep)
	ok, err := filepath.Match(a.Path, strings.Join(parts[max(0, len(parts)-n):], sep))
	return ok && err == nil
}

// strikes reports whether the fault meets this call, which matches.
func (a *armed) strikes() bool {
	a.met++
	if a.met <= a.After || (a.Count > 0 && a.met > a.After+a.Count) {
		return false
	}
	return a.Share == 0 || a.rng.Float64() < a.Share
}

// A verdict is what faults make of one call.
type verdict struct {
	err   error
	waits []*armed // faults with a Delay, or a Stuck
	flip  *rand.Rand
	lie   bool
}

func (fs *FS) judge(op Op, path string) verdict {
	fs.faultMu.Lock()
	defer fs.faultMu.Unlock()
	var v verdict
	for _, a := range fs.faults {
		if !a.matches(op, path) || !a.strikes() {
			continue
		}
		if a.Delay > 0 || a.Stuck != nil {
			v.waits = append(v.waits, a)
		}
		if v.err == nil {
			v.err = a.Err
		}
		v.lie = v.lie || a.Lie
		if a.Flip {
			v.flip = rand.New(rand.NewPCG(a.rng.Uint64(), 0))
		}
	}
	return v
}

// enter is called at the beginning of every call, without a lock.
func (fs *FS) enter(op Op, path string) (verdict, error) {
	v := fs.judge(op, path)
	off, dead := fs.signals(op)
	for _, a := range v.waits {
		a.wait(off, dead)
	}
	if op&Changes != 0 && isClosed(off) {
		return v, ErrPowerOff
	}
	return v, v.err
}

// wait is what a call does that the fault meets, before anything else.
func (a *armed) wait(off, dead <-chan struct{}) {
	var over <-chan time.Time // of the delay; without one it never is
	stuck := a.Stuck
	if a.Delay > 0 {
		timer := time.NewTimer(a.Delay)
		defer timer.Stop()
		over, stuck = timer.C, nil
	}
	for over != nil || stuck != nil {
		select {
		case <-over:
			over, stuck = nil, a.Stuck
		case <-stuck:
			stuck = nil
		case <-a.removed:
			return
		case <-off:
			return
		case <-dead:
			return
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// flipBit makes one bit of what was read wrong.
func flipBit(rng *rand.Rand, p []byte) {
	if rng != nil && len(p) > 0 {
		p[rng.IntN(len(p))] ^= 1 << rng.IntN(8)
	}
}
