package powertest_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"coord"
	"coord/internal/bubble"
	"coord/internal/faultfs"
	"coord/internal/private"
)

// TestFailedSyncEndsTheMember: after a failed fsync nobody knows what the log holds,
// and a later one proves nothing. The member says so and stops, the others go on,
// the process lives, and what the member had acknowledged is there when it is back.
func TestFailedSyncEndsTheMember(t *testing.T) {
	seed := seedOf(t)
	for _, fault := range []faultfs.Fault{
		{Ops: faultfs.Sync, Path: "*.log", Count: 1},
		{Ops: faultfs.Write, Path: "*.log", Count: 1},
		{Ops: faultfs.Write, Path: "*.log", Err: syscall.ENOSPC},
	} {
		bubble.Run(t, func(t *testing.T) {
			p := newPlant(t, seed, nil)
			defer p.shut()
			if err := p.openAll(); err != nil {
				t.Fatal(err)
			}
			finish := p.write()
			time.Sleep(time.Second)
			bad := p.members[0]
			bad.fs.Inject(fault)
			c := p.member(0)
			select {
			case <-c.Context().Done():
			case <-time.After(time.Minute):
				t.Fatal("the member goes on with a log that it cannot write")
			}
			want := fault.Err
			if want == nil {
				want = syscall.EIO
			}
			if err := context.Cause(c.Context()); !errors.Is(err, coord.ErrFailed) || !errors.Is(err, want) {
				t.Errorf("cause %v, want ErrFailed and %v", err, want)
			}
			time.Sleep(2 * time.Second) // the others elect a leader, if it was this one
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, _, err := p.member(1).Create(ctx, "/without-it", nil); err != nil {
				t.Errorf("the others do not go on: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			finish()
			bad.fs.ClearFaults()
			bad.fs.PowerOff() // what the failed sync has not written is gone
			if _, err := bad.fs.PowerOn(0); err != nil {
				t.Fatal(err)
			}
			err := p.open(0)
			if err == nil {
				err = p.ready()
			}
			if err == nil {
				err = p.verify()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFailedSnapshotCostsOnlyTheSnapshot: whatever goes wrong with its files.
func TestFailedSnapshotCostsOnlyTheSnapshot(t *testing.T) {
	notRaced(t)
	seed := seedOf(t)
	for name, fault := range map[string]faultfs.Fault{
		"create": {Ops: faultfs.Create, Path: "*.generating/*"},
		"mkdir":  {Ops: faultfs.Mkdir, Path: "*.generating"},
		"write":  {Ops: faultfs.Write, Path: "*.generating/*.gbsnap"},
		"full":   {Ops: faultfs.Write, Path: "*.generating/*", Err: syscall.ENOSPC},
		"sync":   {Ops: faultfs.Sync, Path: "*.generating/*"},
		"rename": {Ops: faultfs.Rename, Path: "snapshot-*-*/snapshot-*"},
		"remove": {Ops: faultfs.Remove, Path: "snapshot-*-*/snapshot-*"},
		"names":  {Ops: faultfs.SyncDir, Path: "snapshot-*-*"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				p := newPlant(t, seed, nil)
				defer p.shut()
				if err := p.openAll(); err != nil {
					t.Fatal(err)
				}
				p.members[0].fs.Inject(fault)
				finish := p.write()
				for range 4 {
					time.Sleep(time.Second)
					_ = private.Snapshot(p.member(0)) // most of them fail
				}
				finish()
				if err := p.verify(); err != nil {
					t.Error(err)
				}
				p.members[0].fs.ClearFaults()
				p.members[0].fs.PowerOff()
				err := p.end([]int{0})
				if err == nil {
					err = p.ready()
				}
				if err == nil {
					err = p.verify()
				}
				if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestFullDiskRefusesGrowth: while a voter is short of space nobody may add to the
// tree, but everybody may remove from it, and when there is space again all is well.
func TestFullDiskRefusesGrowth(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		p := newPlant(t, 1, nil)
		defer p.shut()
		if err := p.openAll(); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		c, full := p.member(1), p.members[0].fs
		if _, _, err := c.Create(ctx, "/a", nil); err != nil {
			t.Fatal(err)
		}
		full.SetSpace(200 << 20) // MinFreeBytes is 256 MiB, a quarter of it the end
		time.Sleep(10 * time.Second)
		if _, _, err := c.Create(ctx, "/b", nil); !errors.Is(err, coord.ErrNoSpace) {
			t.Errorf("create with a full disk: %v, want ErrNoSpace", err)
		}
		if err := c.Delete(ctx, "/a"); err != nil {
			t.Errorf("delete with a full disk: %v", err)
		}
		full.SetSpace(1 << 30)
		time.Sleep(10 * time.Second)
		if _, _, err := c.Create(ctx, "/b", nil); err != nil {
			t.Errorf("create when there is space again: %v", err)
		}
		full.SetSpace(1 << 20)
		select {
		case <-p.member(0).Context().Done():
		case <-time.After(time.Minute):
			t.Error("a member goes on with a disk on which the log has no room")
		}
		if _, _, err := c.Create(ctx, "/c", nil); err != nil && !errors.Is(err, coord.ErrNoSpace) {
			t.Errorf("the others: %v", err)
		}
	})
}
