package coordtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"coord"
	"coord/internal/private"
)

// finish heals, checks and closes the ensemble, and says how to repeat a test that has
// failed.
func (e *Ensemble) finish() {
	e.t.Helper()
	e.stopNemeses()
	e.healMembers()
	e.stopServing()
	e.check()
	e.endAll()
	e.checkGoroutines()
	e.report()
}

// endAll ends what is left of all members. Those that the test has closed itself are
// among them: they may not have come to their end.
func (e *Ensemble) endAll() {
	e.t.Helper()
	var ending sync.WaitGroup
	for _, id := range e.ids() {
		e.mu.Lock()
		c := e.place(id).running
		e.mu.Unlock()
		if c == nil {
			continue
		}
		ending.Go(func() {
			if err := private.Kill(c); err != nil {
				e.t.Errorf("coordtest: close member %v: %v", id, err)
			}
		})
	}
	ending.Wait()
}

// healMembers ends all that was done to the network, to disks, and to members that run.
func (e *Ensemble) healMembers() {
	e.t.Helper()
	if e.net != nil {
		e.net.Heal()
		e.net.Clear()
	}
	for _, id := range e.ids() {
		m := e.place(id)
		if m.disk != nil {
			m.disk.ClearFaults()
			m.disk.SetSpace(-1)
		}
		e.mu.Lock()
		c, paused := m.running, m.paused
		e.mu.Unlock()
		if paused {
			e.must("resume", e.resume(c))
		}
	}
}

// check fails the test if a member has failed, its invariants are broken, or members
// differ.
func (e *Ensemble) check() {
	e.t.Helper()
	var healthy []*coord.Coordinator
	for _, c := range e.Running() {
		id := c.Status().Member
		for _, err := range private.Violations(c) {
			e.t.Errorf("coordtest: member %v: broken invariant: %v", id, err)
		}
		if err := c.Health(); errors.Is(err, coord.ErrFailed) {
			if !e.mayFail(id) {
				e.t.Errorf("coordtest: member %v had to stop: %v", id, err)
			}
			continue
		}
		healthy = append(healthy, c)
	}
	if e.t.Failed() || len(healthy) <= e.Size()/2 {
		return // without a quorum they need not agree
	}
	e.checkDigests(healthy)
}

// checkDigests waits until all have applied the same, and fails the test if they are
// not equal then.
func (e *Ensemble) checkDigests(members []*coord.Coordinator) {
	e.t.Helper()
	e.WaitFor(context.Background(), "all members to be at one zxid, to compare their digests", func() error {
		first, others := tree{}, map[coord.ZXID]bool{}
		for _, c := range members {
			t, err := look(c)
			if errors.Is(err, coord.ErrClosed) {
				continue // by the test itself, just now
			}
			if err != nil {
				return err
			}
			if others[t.zxid] = true; first.member == 0 {
				first = t
			}
			if t.zxid == first.zxid && t.digest != first.digest {
				e.t.Errorf("coordtest: members %v and %v differ at zxid %v: their digests are %v and %v\n%s",
					first.member, t.member, t.zxid, first.digest, t.digest, e.describe())
				return nil
			}
		}
		if len(others) > 1 {
			return errors.New("they are at different ones")
		}
		return nil
	})
}

// A tree is what a member says of the state that it has applied.
type tree struct {
	member coord.MemberID
	zxid   coord.ZXID
	digest coord.Digest
}

// look is a variable for the tests of the checks.
var look = func(c *coord.Coordinator) (tree, error) {
	v, err := c.View(context.Background(), coord.Linearizable())
	if err != nil {
		return tree{}, err
	}
	return tree{c.Status().Member, v.ZXID(), v.Digest()}, nil
}

// How long checkGoroutines waits for goroutines to end that are about to, and how often
// it looks.
const (
	goroutinePatience = 10 * time.Second
	goroutineLook     = time.Millisecond // at first; then each time twice as long
)

// checkGoroutines fails the test if a goroutine of the ensemble is left.
func (e *Ensemble) checkGoroutines() {
	e.t.Helper()
	label := fmt.Sprintf("%q:%q", "coordtest", e.label)
	var left string
	for wait := goroutineLook; wait < goroutinePatience; wait *= 2 {
		if left = goroutinesWith(label); left == "" {
			return
		}
		time.Sleep(wait)
	}
	e.t.Errorf("coordtest: goroutines left behind:\n%s", left)
}

// goroutinesWith returns the stacks of the goroutines that carry a label.
func goroutinesWith(label string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return err.Error()
	}
	var left []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, label) {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// report says of a test that has failed what was done to the ensemble, and how to
// repeat it.
func (e *Ensemble) report() {
	e.t.Helper()
	if !e.t.Failed() {
		return
	}
	e.t.Logf("coordtest: what was done to this ensemble of %d:\n%v\nthe newest of its members' logs:\n%v", e.Size(), &e.trace, &e.logs)
	e.t.Logf("coordtest: the seed was %d; to repeat it: %s", e.o.seed, repeatCommand(e.t, e.o.seed))
}
