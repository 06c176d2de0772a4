package raftdir

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lni/vfs"

	"coord/internal/replica"
)

const (
	oneID   = "0b4e7a0e-5a87-4a5e-9d0d-0a2f6f6c8a91"
	otherID = "0b4e7a0e-5a87-4a5e-9d0d-0a2f6f6c8a92"
)

func TestPin(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs vfs.FS, dir string) {
		d, err := Open(fs, dir, self)
		must(t, err)
		must(t, d.Pin(2, oneID))
		must(t, d.Pin(2, oneID))
		must(t, d.Pin(3, otherID))
		wantKind(t, d.Pin(2, otherID), ErrStrangeDirectory, "member 2", oneID, otherID, "new member id")
		must(t, d.Pin(1, d.ID()))
		wantKind(t, d.Pin(1, oneID), ErrStrangeDirectory, "member 1", d.ID(), oneID)
		must(t, d.Close())
		if err := d.Pin(4, oneID); !errors.Is(err, replica.ErrClosed) {
			t.Errorf("Pin after Close = %v", err)
		}
		d, err = Open(fs, dir, self)
		must(t, err)
		defer d.Close()
		must(t, d.Pin(2, oneID))
		wantKind(t, d.Pin(2, otherID), ErrStrangeDirectory, oneID, otherID)
		wantKind(t, d.Pin(3, oneID), ErrStrangeDirectory, otherID, oneID)
		for _, bad := range []struct {
			member replica.MemberID
			id     string
		}{{0, oneID}, {5, ""}, {5, "x"}, {5, "{" + oneID + "}"}, {5, "0B4E7A0E-5A87-4A5E-9D0D-0A2F6F6C8A91"}} {
			if err := d.Pin(bad.member, bad.id); err == nil || errors.Is(err, ErrStrangeDirectory) {
				t.Errorf("Pin(%d, %q) = %v", bad.member, bad.id, err)
			}
		}
	})
}

// TestPinIsDurable loses power right after Pin has returned, and at every write
// on its way.
func TestPinIsDurable(t *testing.T) {
	mem := vfs.NewStrictMem()
	d, err := Open(mem, "/m", self)
	must(t, err)
	must(t, d.Pin(2, oneID))
	mem.SetIgnoreSyncs(true) // what is not on the disk by now is lost
	must(t, d.Close())
	mem.ResetToSyncedState()
	mem.SetIgnoreSyncs(false)
	d, err = Open(mem, "/m", self)
	must(t, err)
	wantKind(t, d.Pin(2, otherID), ErrStrangeDirectory, oneID)
	must(t, d.Close())

	for n := range int32(40) {
		mem := vfs.NewStrictMem()
		d, err := Open(vfs.Wrap(mem, vfs.OnIndex(n, vfs.OpWrite)), "/m", self)
		if err != nil {
			continue
		}
		err = d.Pin(2, oneID)
		must(t, d.Close())
		d, oerr := Open(mem, "/m", self)
		must(t, oerr)
		if again := d.Pin(2, otherID); err == nil && !errors.Is(again, ErrStrangeDirectory) {
			t.Errorf("fault %d: Pin = nil, and after it %v for another directory", n, again)
		}
		must(t, d.Close())
	}
}

// TestConcurrentPins lets many come as the same members at once: one directory of
// each wins, for all of them.
func TestConcurrentPins(t *testing.T) {
	d, err := Open(vfs.NewStrictMem(), "/m", self)
	must(t, err)
	defer d.Close()
	const members, rivals = 3, 8
	var wg sync.WaitGroup
	var winners [members]atomic.Int32
	for i := range rivals {
		for m := range members {
			wg.Go(func() {
				err := d.Pin(replica.MemberID(m+2), fmt.Sprintf("0b4e7a0e-5a87-4a5e-9d0d-0a2f6f6c8a9%d", i))
				switch {
				case err == nil:
					winners[m].Add(1)
				case !errors.Is(err, ErrStrangeDirectory):
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for m := range winners {
		if n := winners[m].Load(); n != 1 {
			t.Errorf("member %d: %d directories were admitted", m+2, n)
		}
	}
}
