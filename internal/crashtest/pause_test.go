package crashtest_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coord"
)

// TestPausedHolder stops a member's process for longer than the timeout of its
// session. When it goes on, the first answer of the session's context is that it
// has ended, and a write that is guarded by the session's ephemeral does nothing.
// The others see the ephemeral vanish, but not before the holder's own deadline.
func TestPausedHolder(t *testing.T) {
	if !canFreeze {
		t.Skip("processes cannot be stopped here")
	}
	t.Parallel()
	const timeout = 6 * time.Second
	procs := launchThree(t)
	holder, other := procs[0], procs[1]
	for _, w := range []struct {
		p *process
		r request
	}{
		{other, request{Op: opCreate, Path: "/guarded", Data: "untouched"}},
		{holder, request{Op: opSession, Path: "lock", Timeout: timeout}},
		{holder, request{Op: opCreate, Path: "/lock", Mode: coord.Ephemeral, Session: "lock"}},
	} {
		if _, err := w.p.call(w.r); err != nil {
			t.Fatal(err)
		}
	}
	asked := request{Op: opPause, Path: "/lock", Data: "/guarded", Session: "lock"}
	answer, _ := holder.send(&asked)
	if a, err := holder.call(request{Op: opState, Session: "lock"}); err != nil || a.State != coord.Connected {
		t.Fatalf("before the pause: %v, %v", a.State, err)
	}

	select {
	case <-holder.paused:
	case <-holder.exited:
		t.Fatal(holder.exitError())
	}
	before := time.Now()
	freeze(holder.cmd.Process)
	after := time.Now()
	var vanished time.Time
	poll(t, timeout+expiryBound, "the ephemeral to vanish", func() bool {
		a, err := other.call(request{Op: opChildren, Path: "/"})
		vanished = time.Now()
		return err == nil && !strings.Contains(fmt.Sprint(a.Children), "lock")
	})
	// The deadline is at most the timeout, less a twentieth, behind a touch that was
	// begun before the process was stopped.
	if deadline := after.Add(timeout - timeout/20); vanished.Before(deadline) {
		t.Errorf("the ephemeral vanished %v before the latest deadline of its holder", deadline.Sub(vanished))
	}
	t.Logf("the ephemeral vanished %v after its holder was stopped", vanished.Sub(before))
	if left := timeout + time.Second - time.Since(before); left > 0 {
		<-time.After(left)
	}
	thaw(holder.cmd.Process)

	a, ok := <-answer
	if !ok || a.Outcome != acked || len(a.Guarded) != 2 {
		t.Fatalf("the holder answered %+v", a)
	}
	if a.Error != context.Canceled.Error() || a.State != coord.Expired {
		t.Errorf("the first answer of the context was %q, the session is %v", a.Error, a.State)
	}
	if !strings.Contains(a.Guarded[0], "session expired") || strings.Contains(a.Guarded[0], "outcome unknown") {
		t.Errorf("the guarded write through the session came to %q", a.Guarded[0])
	}
	if !strings.Contains(a.Guarded[1], "no such znode") {
		t.Errorf("the guarded write past the session came to %q", a.Guarded[1])
	}
	if a, err := other.call(request{Op: opGet, Path: "/guarded"}); err != nil || a.Data != "untouched" {
		t.Errorf("what was guarded holds %q, %v", a.Data, err)
	}
}

// launchThree starts an ensemble without a ledger and without anybody who looks
// after it.
func launchThree(tb testing.TB) []*process {
	tb.Helper()
	dir := tb.TempDir()
	var members []coord.Member
	for i, addr := range freeAddrs(tb, 3) {
		members = append(members, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	var procs []*process
	for _, m := range members {
		cfg := memberConfig{
			Name: "pause", ID: m.ID, Dir: filepath.Join(dir, m.ID.String()), Members: members,
			ElectionTimeout: electionTimeout, SessionTimeout: sessionTimeout, OperationTimeout: 10 * time.Second,
		}
		procs = append(procs, launch(tb, int(m.ID), &cfg, filepath.Join(dir, m.ID.String()+".log"), nil))
	}
	ctx, cancel := context.WithTimeout(tb.Context(), readyBound)
	defer cancel()
	for _, p := range procs {
		if err := p.awaitStart(ctx); err != nil {
			tb.Fatal(err)
		}
	}
	return procs
}
