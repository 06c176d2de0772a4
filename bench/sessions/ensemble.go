package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"coord"
	"coord/bench/machine"
	"coord/internal/private"
)

const (
	settleTimeout = 60 * time.Second
	callers       = 1024
	path          = "/bench"
)

// An ensemble is three members. The first one owns the sessions and never leads, so
// that killing the leader ends none of them.
type ensemble struct {
	members  []*coord.Coordinator
	configs  []coord.Config
	sessions []*coord.Session
}

func openEnsemble(ctx context.Context, p *plan) (_ *ensemble, err error) {
	e := &ensemble{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	addrs, err := machine.FreeAddrs(3)
	if err != nil {
		return nil, err
	}
	var initial []coord.Member
	for i, addr := range addrs {
		initial = append(initial, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	for i := range addrs {
		cfg := coord.Config{
			Name: "bench", ID: initial[i].ID, Dir: filepath.Join(p.dir, strconv.Itoa(i+1)),
			InitialMembers: initial, SessionTimeout: p.timeout, Logger: slog.New(slog.DiscardHandler),
		}
		m, err := coord.Open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		e.members, e.configs = append(e.members, m), append(e.configs, cfg)
	}
	ready, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, m := range e.members {
		if err := m.Ready(ready); err != nil {
			return nil, err
		}
	}
	_, _, err = e.members[0].Create(ready, path, nil)
	return e, err
}

func (e *ensemble) close() error {
	var errs []error
	for _, m := range e.members {
		errs = append(errs, private.Kill(m))
	}
	return errors.Join(errs...)
}

// leader waits for a leader that is not the first member.
func (e *ensemble) leader(ctx context.Context) (int, error) {
	for ctx.Err() == nil {
		for i, m := range e.members {
			switch st := m.Status(); {
			case st.Role != coord.Leading || !st.HasQuorum:
			case i > 0:
				return i, nil
			default:
				private.Lead(e.members[1])
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, fmt.Errorf("no leader: %w", context.Cause(ctx))
}

// changeLeader kills the leader, and returns when the first member has had a write
// acknowledged. The killed member is back then.
func (e *ensemble) changeLeader(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	i, err := e.leader(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := private.Kill(e.members[i]); err != nil {
		return 0, err
	}
	if _, err := e.members[0].SetData(ctx, path, nil); err != nil {
		return 0, err
	}
	took := time.Since(began)
	e.members[i], err = coord.Open(ctx, e.configs[i])
	if err != nil {
		return 0, err
	}
	return took, e.members[i].Ready(ctx)
}

// idleBytes returns how many bytes a second the process reads and writes, files and
// sockets together, while it has nothing to do.
func (e *ensemble) idleBytes(d time.Duration) float64 {
	time.Sleep(time.Second) // what was begun ends
	before, began := ioBytes(), time.Now()
	time.Sleep(d)
	return float64(ioBytes()-before) / time.Since(began).Seconds()
}

// ioBytes returns what the process has read and written so far, or 0 where the
// system does not tell.
func ioBytes() (sum int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	var read, written int64
	if _, err := fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", &read, &written); err != nil {
		return 0
	}
	return read + written
}

func heapBytes() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// openSessions opens n sessions at the first member.
func (e *ensemble) openSessions(ctx context.Context, n int, timeout time.Duration) (time.Duration, error) {
	e.sessions = make([]*coord.Session, n)
	began := time.Now()
	err := each(n, func(i int) (err error) {
		e.sessions[i], err = e.members[0].NewSession(ctx, coord.SessionOptions{Timeout: timeout})
		return err
	})
	return time.Since(began), err
}

// An ending is how long it took until sessions had ended, and how long a writer at
// another member waited meanwhile.
type ending struct {
	took   time.Duration
	writer latencies
}

// closeSessions closes the first n sessions.
func (e *ensemble) closeSessions(n int) (_ ending, err error) {
	stop := e.write()
	began := time.Now()
	err = each(n, func(i int) error { return e.sessions[i].Close() })
	took := time.Since(began)
	writer, errWriter := stop()
	return ending{took, writer}, errors.Join(err, errWriter)
}

// expireSessions kills the member that owns the sessions, and returns when all of
// them have ended. The time counts from when they were due.
func (e *ensemble) expireSessions(ctx context.Context, timeout time.Duration) (ending, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout+settleTimeout)
	defer cancel()
	leader, err := e.leader(ctx)
	if err != nil {
		return ending{}, err
	}
	if err := private.Kill(e.members[0]); err != nil {
		return ending{}, err
	}
	due := time.Now().Add(timeout)
	e.members, e.sessions = e.members[1:], nil
	stop := e.write()
	for e.members[leader-1].Status().Sessions > len(e.members) {
		if ctx.Err() != nil {
			return ending{}, fmt.Errorf("%d sessions are left: %w", e.members[0].Status().Sessions, context.Cause(ctx))
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(due)
	writer, err := stop()
	return ending{took, writer}, err
}

// write has one caller write at the last member until stop is called.
func (e *ensemble) write() (stop func() (latencies, error)) {
	m := e.members[len(e.members)-1]
	var (
		done  atomic.Bool
		all   sync.WaitGroup
		waits latencies
		err   error
	)
	all.Go(func() {
		for !done.Load() && err == nil {
			began := time.Now()
			_, err = m.SetData(context.Background(), path, nil)
			waits = append(waits, time.Since(began))
		}
	})
	return func() (latencies, error) {
		done.Store(true)
		all.Wait()
		return waits, err
	}
}

// each calls do for 0 to n-1, many at a time, and returns the first error.
func each(n int, do func(i int) error) error {
	var (
		next  atomic.Int64
		fault atomic.Pointer[error]
		all   sync.WaitGroup
	)
	for range min(callers, n) {
		all.Go(func() {
			for fault.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					fault.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Wait()
	if err := fault.Load(); err != nil {
		return *err
	}
	return nil
}

// latencies prints as their median and the longest.
type latencies []time.Duration

func (l latencies) String() string {
	if len(l) == 0 {
		return "nothing"
	}
	sorted := slices.Sorted(slices.Values(l))
	return fmt.Sprintf("%v (longest of %d: %v)", sorted[len(l)/2].Round(10*time.Microsecond), len(l), sorted[len(l)-1].Round(time.Millisecond))
}
