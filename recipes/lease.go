package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"coord"
)

// ErrLapsed ends a Lease whose time is over.
var ErrLapsed = errors.New("recipes: the time of the lease is over")

// minLease is the shortest lease: below it, its margin is lost in the granularity of
// the ensemble's time.
const minLease = time.Second

const (
	claimName  = "lease"      // of the znode that stands for a lease
	leaseHead  = "lease for " // what its data begin with, up to the end of the line
	leaseSince = " since "    // between the time and what it is counted from, in milliseconds since 1970
	leaseGap   = 20           // the holder gives up a 20th of the time early
)

// maxLease is the longest lease: its lifetime is the longest that a znode can have.
const maxLease = 1<<39*time.Millisecond - time.Minute

// lifetime is the time to live of a lease's znode. It is longer than the lease: the
// ensemble's time, by which znodes vanish, stands still while nobody leads, and is
// quick for a while then.
func lifetime(ttl time.Duration) time.Duration { return 2*ttl + time.Minute }

// A Lease is something that one holder has for a time, whether or not it still runs:
// it ends by the clock, and not with a session. It is for what must not be done again
// too soon, or must outlive a restart of its holder.
//
// It may be used by any number of goroutines.
type Lease struct {
	c     coord.Client
	path  string // of the claim
	czxid coord.ZXID
	ttl   time.Duration
	value []byte

	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when guardZnode has returned

	mu    sync.Mutex // a leaf
	since time.Time  // guarded by mu; what the time is counted from
	timer *time.Timer
}

// TakeLease waits until the lease at path is free, and takes it for ttl.
//
// Guarantee: of all that were granted the lease at path, at most one is valid at a
// time, if the wall clocks of the members agree within a twentieth of ttl: that much
// earlier the holder gives it up. [Lease.Guard] and [Lease.Fence] are exact, whatever
// the clocks say.
// Cost: one write, two for who has to wait, one to renew or to release. Waiting costs
// none, and the end of a lease wakes one waiter.
// Session loss: who waits stands in line anew, with the next session of c. A lease that
// is held goes on.
// Pitfall: who crashes keeps the others waiting for the rest of the time. If that is
// not wanted, a [Lock] is.
//
// It fails with [coord.ErrBadArguments] unless ttl is 1 s to 2^39 ms less a minute, and else
// as [Lock] does. A write that is not answered may leave the lease taken until it is undone in
// the background, or its time is over.
func TakeLease(ctx context.Context, c *coord.Coordinator, path string, ttl time.Duration, opts ...Option) (*Lease, error) {
	l, err := takeLease(ctx, c, path, ttl, opts, false)
	if err != nil {
		return nil, fmt.Errorf("take the lease %s: %w", path, err)
	}
	return l, nil
}

// TryLease is TakeLease for those who do not want to wait: it fails with [ErrTaken] if
// somebody else has the lease or waits for it, as this member sees it.
func TryLease(ctx context.Context, c *coord.Coordinator, path string, ttl time.Duration, opts ...Option) (*Lease, error) {
	l, err := takeLease(ctx, c, path, ttl, opts, true)
	if err != nil {
		return nil, fmt.Errorf("try to take the lease %s: %w", path, err)
	}
	return l, nil
}

func takeLease(ctx context.Context, c *coord.Coordinator, path string, ttl time.Duration, opts []Option, try bool) (*Lease, error) {
	if err := present(ctx, c); err != nil {
		return nil, err
	}
	if ttl < minLease || ttl > maxLease {
		return nil, fmt.Errorf("%w: a lease for %v, which is not in %v to %v", coord.ErrBadArguments, ttl, minLease, maxLease)
	}
	t, err := ticketOf("lease", alone, opts)
	if err != nil {
		return nil, err
	}
	l := &Lease{c: c, path: join(path, claimName), ttl: ttl, value: t.note.value, done: make(chan struct{})}
	for s := range c.Sessions(ctx) {
		for s.Context().Err() == nil {
			err = l.takeFree(ctx, s, path, t)
			if errors.Is(err, ErrTaken) && !try {
				err = l.takeInLine(ctx, s, path, t)
			}
			if err == nil && l.lasts(ctx, s) {
				l.begin()
				return l, nil
			}
			if err != nil && s.Context().Err() == nil {
				return nil, err
			}
			pause(s.Context(), retryPause)
		}
	}
	return nil, cmp.Or(context.Cause(ctx), context.Cause(c.Context()))
}

// lasts reports whether the znode of a lease that was taken lives as long as the
// lease. Otherwise it deletes it: in a moment the ensemble's time has caught up.
func (l *Lease) lasts(ctx context.Context, s *coord.Session) bool {
	since, err := l.counted(ctx, l.since)
	if err == nil && since.Equal(l.since) {
		return true
	}
	claim := &contender{s: s, path: l.path, czxid: l.czxid}
	if claim.remove(ctx) != nil {
		go claim.removeInBackground()
	}
	return false
}

// counted returns what the time of a lease is counted from that was written since a
// time: that, or what is so much earlier that the znode lives as long as the lease.
func (l *Lease) counted(ctx context.Context, since time.Time) (time.Time, error) {
	v, err := l.c.View(ctx, coord.AllowStale())
	if err != nil {
		return time.Time{}, err
	}
	_, stat, err := v.Get(l.path)
	if err != nil {
		return time.Time{}, err
	}
	if latest := time.UnixMilli(stat.Mtime).Add(lifetime(l.ttl) - l.ttl); latest.Before(since) {
		return latest, nil
	}
	return since, nil
}

// takeFree takes a lease that nobody has or waits for.
func (l *Lease) takeFree(ctx context.Context, s *coord.Session, dir string, t ticket) error {
	claimed, err := enter(ctx, s, dir, func(v *coord.View) ([]coord.Op, error) {
		if err := checkDirectory(v, dir, t.family); err != nil {
			return nil, err
		}
		line, err := lineOf(v, dir, t.family)
		if err != nil {
			return nil, err
		}
		if _, waits := line.first(); waits {
			return nil, ErrTaken
		}
		ops, free, err := l.claim(v)
		if err == nil && free.After(time.Now()) {
			err = ErrTaken
		}
		return ops, err
	})
	if err != nil {
		return err
	}
	claimed.set.Close()
	l.czxid = claimed.czxid
	return nil
}

// takeInLine stands in line for the lease. Who is first takes it as soon as it is free.
func (l *Lease) takeInLine(ctx context.Context, s *coord.Session, dir string, t ticket) error {
	c, err := enter(ctx, s, dir, t.standIn(dir))
	if err != nil {
		return err
	}
	waiter := &stander{c, t}
	if _, err = waiter.await(ctx); err == nil {
		err = l.takeFirst(ctx, waiter)
	}
	if err != nil {
		_ = waiter.leave(ctx) // goes on in the background
		return err
	}
	waiter.set.Close()
	return nil
}

// takeFirst has who is first in line wait for the lease and take it, in the same write
// that leaves the line.
func (l *Lease) takeFirst(ctx context.Context, waiter *stander) error {
	for {
		var ops []coord.Op
		var free time.Time
		err := waiter.register(ctx, func(v *coord.View) (_ []string, err error) {
			ops, free, err = l.claim(v)
			return []string{l.path}, err
		})
		if err != nil {
			return err
		}
		if free.After(time.Now()) {
			if err := waiter.newsBefore(ctx, free); err != nil {
				return err
			}
			continue
		}
		leave := coord.DeleteOp(waiter.path, coord.WithCzxid(waiter.czxid))
		results, err := waiter.s.Multi(ctx, append([]coord.Op{leave}, ops...)...)
		if err == nil {
			l.czxid = results[len(results)-1].Stat.Czxid
			return nil
		}
		if !overtaken(err) {
			undo(waiter.s, err, 1)
			return err
		}
		if err := waiter.s.Sync(ctx, l.path); err != nil {
			return err
		}
	}
}

// newsBefore is news, or returns at a time of the wall clock.
func (c *contender) newsBefore(ctx context.Context, at time.Time) error {
	until, cancel := context.WithTimeout(ctx, time.Until(at))
	defer cancel()
	err := c.news(until)
	if until.Err() != nil && ctx.Err() == nil && c.s.Context().Err() == nil {
		return nil
	}
	return err
}

// claim returns the operations that take the lease when it is free, and the time of
// the wall clock at which it is. What it is counted from is set anew.
func (l *Lease) claim(v *coord.View) ([]coord.Op, time.Time, error) {
	l.since = time.Now()
	create := coord.CreateOp(l.path, l.data(l.since), coord.PersistentTTL, coord.WithTTL(lifetime(l.ttl)), coord.WithContainers())
	data, stat, err := v.Get(l.path)
	if errors.Is(err, coord.ErrNoNode) {
		return []coord.Op{create}, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	since, ttl, ok := parseLease(data)
	if !ok {
		return nil, time.Time{}, fmt.Errorf("%w: %s is not a lease", ErrOtherRecipe, l.path)
	}
	remove := coord.DeleteOp(l.path, coord.WithCzxid(stat.Czxid), coord.WithVersion(stat.Version))
	return []coord.Op{remove, create}, since.Add(ttl), nil
}

// data returns what is written of a lease that is counted from a time. It is the
// holder's own time that counts: that of a stat is near the ensemble's, which may be
// far behind.
func (l *Lease) data(since time.Time) []byte {
	return fmt.Appendf(nil, "%s%v%s%d\n%s", leaseHead, l.ttl, leaseSince, since.UnixMilli(), l.value)
}

// parseLease is the inverse of data.
func parseLease(data []byte) (since time.Time, ttl time.Duration, ok bool) {
	head, _, _ := strings.Cut(string(data), "\n")
	text, ok := strings.CutPrefix(head, leaseHead)
	if !ok {
		return time.Time{}, 0, false
	}
	text, from, _ := strings.Cut(text, leaseSince)
	ttl, err := time.ParseDuration(text)
	ms, bad := strconv.ParseInt(from, 10, 64)
	return time.UnixMilli(ms), ttl, err == nil && bad == nil
}

// begin makes a valid lease of what was taken.
func (l *Lease) begin() {
	l.ctx, l.cancel = context.WithCancelCause(lifeOf(l.c))
	l.timer = time.AfterFunc(l.left(), l.ring)
	go l.guardZnode()
}

// ring ends l if its time is over, or waits for the rest.
func (l *Lease) ring() {
	if l.Check() == nil {
		l.timer.Reset(max(l.left(), time.Millisecond))
	}
}

// guardZnode ends l when its znode is deleted.
func (l *Lease) guardZnode() {
	defer close(l.done)
	err := lookUntil(l.ctx, l.c, coord.AllowStale(), func(v *coord.View) ([]coord.Registration, error) {
		if _, stat, err := v.Get(l.path); err != nil || stat.Czxid != l.czxid {
			return nil, ErrLost
		}
		return []coord.Registration{{Path: l.path, Type: coord.DataWatcher}}, nil
	})
	l.cancel(err)
}

// left returns how much of the time is left for the holder, by the monotonic clock and
// by the wall clock, whichever says less.
func (l *Lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return l.ttl - l.ttl/leaseGap - max(now.Sub(l.since), now.Round(0).Sub(l.since.Round(0)))
}

// look ends l if its time is over.
func (l *Lease) look() context.Context {
	if l.left() <= 0 {
		l.cancel(ErrLapsed)
	}
	return l.ctx
}

// Context ends with l: when its time is over, with the cause [ErrLapsed]; with
// [ErrReleased]; with [ErrLost] when somebody deletes its znode; and with the
// Coordinator. Err, and Done in a select, compare the clock.
func (l *Lease) Context() context.Context { return leaseContext{l} }

// Check returns nil while l is valid, by this process's clocks, and otherwise the
// cause of its end. It asks nobody.
func (l *Lease) Check() error { return context.Cause(l.look()) }

// Fence returns the czxid of the znode that stands for the lease: larger for each
// later one of the same path. Renewals keep it.
func (l *Lease) Fence() coord.ZXID { return l.czxid }

// Guard returns an operation that makes a Multi fail with [coord.ErrNoNode] or
// [coord.ErrBadVersion] if somebody else has the lease at that moment, or nobody.
func (l *Lease) Guard() coord.Op { return coord.CheckOp(l.path, coord.WithCzxid(l.czxid)) }

// Path returns the path of the znode that stands for the lease.
func (l *Lease) Path() string { return l.path }

// Renew has the time begin anew, in one write. It fails with the cause of l's end, and
// as [coord.Coordinator.SetData] does: the time that was left goes on then. With
// [coord.ErrNoNode] or [coord.ErrBadVersion] somebody else may have the lease.
func (l *Lease) Renew(ctx context.Context) error {
	err := l.Check()
	if err == nil {
		err = l.renew(ctx, time.Now())
	}
	if err == nil {
		return l.Check()
	}
	return fmt.Errorf("renew the lease %s: %w", l.path, err)
}

// renew has the time begin at since, unless it has begun later already.
func (l *Lease) renew(ctx context.Context, since time.Time) error {
	err := rewrite(ctx, l.c, l.path, l.czxid, func(n note) note {
		if written, _, ok := parseLease(n.value); !ok || written.Before(since) {
			n.value = l.data(since)
		}
		return n
	})
	if err != nil {
		return err
	}
	if since, err = l.counted(ctx, since); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if since.After(l.since) {
		l.since = since
	}
	return nil
}

// Release gives the lease back before its time is over, in one write. If the ensemble
// does not answer before ctx ends, Release returns why; l is over in any case, and the
// others wait for the rest of the time. It may be called again.
func (l *Lease) Release(ctx context.Context) error {
	l.cancel(ErrReleased)
	l.timer.Stop()
	<-l.done
	err := l.c.Delete(ctx, l.path, coord.WithCzxid(l.czxid))
	if err != nil && !isGone(err) {
		return fmt.Errorf("release the lease %s: %w", l.path, err)
	}
	return nil
}

// A leaseContext is the context of a Lease. Its methods look at the clock first.
type leaseContext struct{ l *Lease }

// Deadline implements [context.Context]. It moves, so there is none to tell.
func (c leaseContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements [context.Context].
func (c leaseContext) Done() <-chan struct{} { return c.l.look().Done() }

// Err implements [context.Context].
func (c leaseContext) Err() error { return c.l.look().Err() }

// Value implements [context.Context].
func (c leaseContext) Value(key any) any { return c.l.look().Value(key) }
