package faultfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Die has whoever uses fs go on without knowing that the power is off: every call
// succeeds and sees what it did, and [FS.PowerOn] undoes all that was changed since, as
// though it had never been, before it loses a part of what was not synced until now. It
// is for a member that shares its process with others, which an error would end. It
// works in memory only: the journal does not tell. Calls that are slow or stuck end, and
// later ones do not wait.
func (fs *FS) Die() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.died == 0 {
		fs.died = fs.ledger.seq + 1
		close(fs.dead)
	}
}

// forgetAfterlife undoes what was done since Die. fs.mu is held.
func (fs *FS) forgetAfterlife() error {
	if fs.died == 0 {
		return nil
	}
	after := func(c *change) bool { return c.Seq >= fs.died }
	writes := map[uint64][]*change{}
	for _, c := range slices.Backward(fs.ledger.pending) {
		switch {
		case !after(c) || c.Kind == kindAdopt:
		case c.Kind == kindWrite:
			writes[c.ID] = append(writes[c.ID], c)
		default:
			if err := fs.undo(c); err != nil {
				return fmt.Errorf("undo change %d of %s: %w", c.Seq, c.Path, err)
			}
			fs.ledger.unname(c)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(writes)) {
		slices.Reverse(writes[id])
		if err := fs.rewriteFile(id, writes[id], rand.New(rand.NewPCG(0, 0)), 0, &Loss{}); err != nil {
			return fmt.Errorf("undo writes to file %d: %w", id, err)
		}
	}
	fs.ledger.pending = slices.DeleteFunc(fs.ledger.pending, after)
	fs.died, fs.dead = 0, make(chan struct{})
	return nil
}
