package faultfs

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
)

// sectorSize is the unit in which a disk keeps or loses what was written.
const sectorSize = 512

// A Loss says what a power cut took.
type Loss struct {
	Names  int // changes of names that were undone
	Writes int // writes of which at least something was lost
	Torn   int // those of them of which something was kept
	Kept   int // changes that were not synced and survived
}

// String returns the loss in a few words.
func (l Loss) String() string {
	return fmt.Sprintf("lost %d names and %d writes (%d torn), kept %d unsynced changes", l.Names, l.Writes, l.Torn, l.Kept)
}

// Revert does to a directory what a power cut would have done when the process
// that used journal through [OnDisk] was killed: it loses in part and by the seed
// what was not synced then. Nobody may use the journal meanwhile. After it
// everything there is counts as synced, also if it is called again. An error means
// that the directory is in an unknown state.
func Revert(journal string, seed uint64) (Loss, error) {
	fs, err := OnDisk(journal)
	if err != nil {
		return Loss{}, err
	}
	loss, err := fs.PowerOn(seed)
	return loss, errors.Join(err, fs.Close())
}

// lose undoes a part of what is pending. fs.mu is held.
func (fs *FS) lose(seed uint64) (Loss, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	// Now and then a disk loses everything that it may lose, or nothing at all.
	share := []float64{0, 1, 0.5, rng.Float64()}[rng.IntN(4)]
	var loss Loss
	if err := fs.loseNames(rng, share, &loss); err != nil {
		return loss, err
	}
	if err := fs.loseWrites(rng, share, &loss); err != nil {
		return loss, err
	}
	fs.ledger.pending = nil
	fs.ledger.sweep()
	fs.ledger.done = append(fs.ledger.done, slices.Sorted(maps.Keys(fs.ledger.graves))...)
	fs.bury()
	fs.ledger.names, fs.ledger.graves = map[string]uint64{}, map[uint64]bool{}
	if err := fs.clearGraves(); err != nil {
		return loss, err
	}
	if fs.journal == nil {
		return loss, nil
	}
	return loss, fs.journal.rewrite(fs.ledger)
}

// clearGraves removes what is left of removed directories.
func (fs *FS) clearGraves() error {
	names, err := fs.base.List(fs.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != journalName {
			if err := fs.base.RemoveAll(fs.base.PathJoin(fs.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// keeps returns how many of n changes are kept, if each is with that share.
func keeps(rng *rand.Rand, share float64, n int) int {
	switch share {
	case 0:
		return 0
	case 1:
		return n
	}
	return rng.IntN(n + 1)
}

// loseNames undoes changes of names: of each directory those behind a random
// place, the newest first.
func (fs *FS) loseNames(rng *rand.Rand, share float64, loss *Loss) error {
	pending := map[string]int{}
	for _, c := range fs.ledger.pending {
		if c.Kind != kindWrite && c.Kind != kindAdopt {
			pending[parentOf(c.Path)]++
		}
	}
	kept := map[string]int{}
	for _, dir := range slices.Sorted(maps.Keys(pending)) {
		kept[dir] = keeps(rng, share, pending[dir])
		loss.Kept += kept[dir]
	}
	var undo []*change
	for _, c := range fs.ledger.pending {
		if c.Kind == kindWrite || c.Kind == kindAdopt {
			continue
		}
		if kept[parentOf(c.Path)]--; kept[parentOf(c.Path)] < 0 {
			undo = append(undo, c)
		}
	}
	for _, c := range slices.Backward(undo) {
		if err := fs.undo(c); err != nil {
			return fmt.Errorf("undo change %d of %s: %w", c.Seq, c.Path, err)
		}
		fs.ledger.unname(c)
		loss.Names++
	}
	fs.ledger.pending = slices.DeleteFunc(fs.ledger.pending, func(c *change) bool { return c.Kind != kindWrite })
	return nil
}

// undo takes one change of a name back. The last one of all may not have been
// made, if its process was killed before.
func (fs *FS) undo(c *change) error {
	switch c.Kind {
	case kindCreate:
		return errors.Join(fs.unlink(c.Path), fs.relink(c.Over, c.Path))
	case kindLink:
		return fs.unlink(c.Path)
	case kindRemove:
		return fs.relink(c.ID, c.Path)
	case kindRename:
		if st, err := fs.stat(c.From); err != nil || st != nil {
			return err
		}
		if err := fs.base.Rename(c.Path, c.From); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		return fs.relink(c.Over, c.Path)
	case kindMkdir:
		return fs.base.RemoveAll(c.Path)
	case kindAdopt, kindWrite, kindSync, kindSyncDir, kindAbort: // no name has changed
	case kindRemoveTree:
		if err := fs.base.Rename(fs.treeGrave(c.ID), c.Path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unlink takes a name of a file away. In memory only this takes one of a file that
// is still open.
func (fs *FS) unlink(path string) error { return fs.base.RemoveAll(path) }

// relink gives a file back its name, unless the directory is gone.
func (fs *FS) relink(id uint64, path string) error {
	if id == 0 {
		return nil
	}
	err := fs.base.Link(fs.grave(id), path)
	if errors.Is(err, iofs.ErrExist) || errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	return err
}

// loseWrites loses what was written to files that still have a name.
func (fs *FS) loseWrites(rng *rand.Rand, share float64, loss *Loss) error {
	writes := map[uint64][]*change{}
	for _, c := range fs.ledger.pending {
		writes[c.ID] = append(writes[c.ID], c)
	}
	for _, id := range slices.Sorted(maps.Keys(writes)) {
		if err := fs.rewriteFile(id, writes[id], rng, share, loss); err != nil {
			return fmt.Errorf("lose writes to file %d: %w", id, err)
		}
	}
	return nil
}

// rewriteFile gives a file the contents that a disk may have kept.
func (fs *FS) rewriteFile(id uint64, writes []*change, rng *rand.Rand, share float64, loss *Loss) error {
	f, err := fs.base.Open(fs.grave(id))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	data = relive(data, writes, rng, share, fs.inOrder, loss)
	if fs.onDisk {
		return os.WriteFile(fs.grave(id), data, 0o600)
	}
	return fs.overwrite(id, data)
}

// overwrite replaces the contents of a file in memory, where a file cannot be cut
// short: it is made anew, under all its names.
func (fs *FS) overwrite(id uint64, data []byte) error {
	grave := fs.grave(id)
	if err := fs.base.RemoveAll(grave); err != nil {
		return err
	}
	f, err := fs.base.Create(grave)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for path, named := range fs.ledger.names {
		if st, err := fs.stat(path); err != nil || named != id || st == nil {
			continue
		}
		if err := errors.Join(fs.base.RemoveAll(path), fs.base.Link(grave, path)); err != nil {
			return err
		}
	}
	return nil
}

// relive returns what a disk may hold of a file that has the contents data after
// writes that were not synced.
func relive(data []byte, writes []*change, rng *rand.Rand, share float64, inOrder bool, loss *Loss) []byte {
	made := make([][]byte, len(writes))
	for i, c := range slices.Backward(writes) {
		end := min(c.Off+c.Len, int64(len(data)))
		if c.Off < end {
			made[i] = slices.Clone(data[c.Off:end])
		}
		data = data[:min(c.OldSize, int64(len(data)))]
		copy(data[min(c.Off, int64(len(data))):], c.Old)
	}
	data = slices.Clip(data)
	whole, scattered := keeps(rng, share, len(writes)), share != 0 && share != 1 && rng.IntN(2) == 0 && !inOrder
	for i, c := range writes {
		kept := 0
		for from := int64(0); from < int64(len(made[i])); {
			to := min((c.Off+from)/sectorSize*sectorSize+sectorSize-c.Off, int64(len(made[i])))
			keep := i < whole
			switch {
			case scattered:
				keep = rng.Float64() < share
			case i == whole && share != 0:
				keep = rng.IntN(2) == 0
				if !keep {
					from = int64(len(made[i])) // the first so many sectors only
					continue
				}
			}
			if keep {
				data = put(data, made[i][from:to], c.Off+from)
				kept += int(to - from)
			}
			from = to
		}
		switch {
		case kept == len(made[i]):
			loss.Kept++
		case kept > 0:
			loss.Torn++
			loss.Writes++
		default:
			loss.Writes++
		}
	}
	return data
}

// put writes p into data at off, with zeros where there was nothing before.
func put(data, p []byte, off int64) []byte {
	if grows := off + int64(len(p)) - int64(len(data)); grows > 0 {
		data = append(data, make([]byte, grows)...)
	}
	copy(data[off:], p)
	return data
}
