package raftdir

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lni/vfs"

	"coord/internal/replica"
)

// raftName is the subdirectory that the raft library gets for itself. The
// manifest lies outside of it, so that losing the one leaves the other.
const raftName = "raft"

// An Identity says whose directory it is to be.
type Identity struct {
	Ensemble string

	// Member may be zero for a process that does not know which member it is: it is
	// about to join for the first time, or leaves it to the directory. See [Dir.Become].
	Member    replica.MemberID
	LogShards uint64 // log databases; fixed for the life of a directory

	// Voters are the initial members of the ensemble with their addresses, as
	// of the first start of a replica. They are kept for [Dir.CheckVoters] and
	// otherwise ignored: an ensemble may have grown or moved since. A member that
	// joins names none.
	Voters map[replica.MemberID]string
}

// validate reports every problem of id.
func (id Identity) validate() error {
	var errs []error
	if id.Ensemble == "" || !utf8.ValidString(id.Ensemble) {
		errs = append(errs, fmt.Errorf("ensemble name %q: want text", id.Ensemble))
	}
	if id.LogShards == 0 {
		errs = append(errs, errors.New("log shards: want 1 or more"))
	}
	return errors.Join(errs...)
}

// A Dir is an open data directory. All methods may be called concurrently.
type Dir struct {
	fs    vfs.FS
	path  string
	fresh bool
	lock  io.Closer

	// write is held while the manifest is written, so that writers queue and
	// readers do not. It is taken before mu.
	write     sync.Mutex
	forgotten map[replica.GroupID]bool // guarded by write; what Forget was called for

	mu     sync.Mutex
	m      manifest // guarded by mu; written under write and mu
	closed bool     // guarded by mu; written under write and mu
}

// Open takes dir for the member id, creating it if it is missing, locks it
// against everybody else and checks it; see [Dir.Verify] for what that covers
// and costs. If dir came from a host of another name or from another place, it
// is adapted. fs is the disk if it is nil; in other file systems only the
// manifest is checked.
//
// Every refusal is an [*Error], unless the system failed. A refused directory
// is left as it was, save for torn leftovers of a crashed first start.
func Open(fs vfs.FS, dir string, id Identity) (_ *Dir, err error) {
	if err := id.validate(); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if fs == nil {
		fs = vfs.Default
	}
	if OnDisk(fs) {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, fmt.Errorf("open data directory: %w", err)
		}
	}
	name, err := hostname()
	if err != nil {
		return nil, fmt.Errorf("host name: %w", err)
	}
	if err := makeDir(fs, dir); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{fs: fs, path: dir, lock: lock}
	if err := d.open(id, name); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

// makeDir makes dir and its name durable, and those of the directories above it
// that were missing.
func makeDir(fs vfs.FS, dir string) error {
	parent := fs.PathDir(dir)
	if parent == dir {
		return nil // the root, or the working directory
	}
	if ok, err := exists(fs, dir); err != nil || ok {
		return err
	}
	if err := makeDir(fs, parent); err != nil {
		return err
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if parent == "." {
		return nil
	}
	return syncDir(fs, parent)
}

// open does the work of Open under the lock.
func (d *Dir) open(id Identity, hostname string) error {
	m, ok, err := readManifest(d.fs, d.path)
	if err != nil {
		return err
	}
	if !ok {
		return d.create(id, hostname)
	}
	d.m = m
	if err := d.checkIdentity(id); err != nil {
		return err
	}
	if err := makeDir(d.fs, d.NodeHostDir()); err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	if err := d.checkRaft(hostname); err != nil {
		return err
	}
	return d.update(func(m *manifest) bool {
		changed := m.Hostname != hostname || m.Member == 0 && id.Member != 0
		m.Hostname = hostname
		m.Member = cmp.Or(m.Member, id.Member)
		// No replica has started with the voters of before: they may have been a
		// mistake.
		if len(m.Initialised) == 0 && !maps.Equal(m.Voters, id.Voters) {
			m.Voters, changed = maps.Clone(id.Voters), true
		}
		return changed
	})
}

// create makes a new directory. The manifest comes first: a crash never
// leaves raft data without it, so finding that is an error.
func (d *Dir) create(id Identity, hostname string) error {
	if ok, err := exists(d.fs, d.NodeHostDir()); err != nil {
		return fmt.Errorf("open data directory: %w", err)
	} else if ok {
		names, err := d.fs.List(d.NodeHostDir())
		if err != nil {
			return fmt.Errorf("open data directory: %w", err)
		}
		if len(names) > 0 {
			e := corrupt(d.fs.PathJoin(d.path, manifestName), -1, "the manifest is missing, but %s has data (%s, …)", d.NodeHostDir(), names[0])
			e.Remedy = "restore the manifest of this directory if it was moved away, otherwise " + remedyRejoin
			return e
		}
	}
	d.fresh = true
	u, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("make directory id: %w", err)
	}
	m := manifest{
		Ensemble: id.Ensemble, Member: id.Member, ID: u.String(), LogShards: id.LogShards,
		Hostname: hostname, Voters: maps.Clone(id.Voters),
	}
	if err := d.update(func(to *manifest) bool { *to = m; return true }); err != nil {
		return err
	}
	if err := makeDir(d.fs, d.NodeHostDir()); err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	return nil
}

// checkIdentity compares the manifest with who wants to open it.
func (d *Dir) checkIdentity(id Identity) error {
	m := d.m
	switch {
	case m.Ensemble != id.Ensemble:
		return &Error{
			Kind: ErrWrongEnsemble, Path: d.path, Offset: -1,
			Detail: fmt.Sprintf("it belongs to member %d of ensemble %q, not to ensemble %q", m.Member, m.Ensemble, id.Ensemble),
			Remedy: remedyOwnDir,
		}
	case id.Member != 0 && m.Member != 0 && m.Member != id.Member:
		return d.checkMember(id.Member)
	case m.LogShards != id.LogShards:
		return &Error{
			Kind: ErrSettings, Path: d.path, Offset: -1,
			Detail: fmt.Sprintf("it was created with %d log shards, not with %d", m.LogShards, id.LogShards),
			Remedy: fmt.Sprintf("set log shards to %d again, or let the member join under a new id with an empty directory", m.LogShards),
		}
	}
	return nil
}

// checkRaft checks what is below the NodeHostDir, and adapts it to this host.
func (d *Dir) checkRaft(hostname string) error {
	if err := d.discardTornFlagFiles(); err != nil {
		return err
	}
	l, err := readLayout(d.fs, d.NodeHostDir())
	if err != nil {
		return err
	}
	if err := d.checkPresence(l); err != nil {
		return err
	}
	var c contents
	if OnDisk(d.fs) && l.data != "" {
		if c, err = d.verify(l, hostname); err != nil {
			return err
		}
		if err := d.discardSnapshots(l, c.own); err != nil {
			return err
		}
	}
	if err := d.breakSeal(); err != nil {
		return err
	}
	return d.adopt(l, hostname, c.moved)
}

// update changes the manifest durably. change returns false if there is
// nothing to change.
func (d *Dir) update(change func(*manifest) bool) error {
	d.write.Lock()
	defer d.write.Unlock()
	d.mu.Lock()
	m, closed := d.m.clone(), d.closed
	d.mu.Unlock()
	if closed {
		return fmt.Errorf("data directory %s: %w", d.path, replica.ErrClosed)
	}
	if !change(&m) {
		return nil
	}
	if err := writeManifest(d.fs, d.path, m); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.m = m
	return nil
}

// view returns the present manifest, which is never modified.
func (d *Dir) view() manifest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.m
}

// Path returns the directory, absolute on the disk.
func (d *Dir) Path() string { return d.path }

// NodeHostDir returns the subdirectory for the raft library.
func (d *Dir) NodeHostDir() string { return d.fs.PathJoin(d.path, raftName) }

// ID returns the random UUID of the directory. It was made by the first Open.
func (d *Dir) ID() string { return d.view().ID }

// Fresh tells whether this Open created the directory.
func (d *Dir) Fresh() bool { return d.fresh }

// Voters returns the initial members given at the last Open before a replica was
// started for the first time.
func (d *Dir) Voters() map[replica.MemberID]string { return maps.Clone(d.view().Voters) }

// CheckVoters returns [ErrWrongVoters] unless voters has the same member ids
// as the first start. Addresses may differ.
func (d *Dir) CheckVoters(voters map[replica.MemberID]string) error {
	was, is := slices.Sorted(maps.Keys(d.view().Voters)), slices.Sorted(maps.Keys(voters))
	if slices.Equal(was, is) {
		return nil
	}
	return &Error{
		Kind: ErrWrongVoters, Path: d.path, Offset: -1,
		Detail: fmt.Sprintf("the first start named members %d, this one names %d", was, is),
		Remedy: "start with the initial members of the first start; members are added and removed while the ensemble runs",
	}
}

// Member returns the member that the directory belongs to, or 0 if it waits for one.
func (d *Dir) Member() replica.MemberID { return d.view().Member }

// Become gives the directory to a member, durably, if it belongs to none. A process
// that joins needs the id of its directory before it knows its own: whoever gives it
// one gives the same to the same directory, however often it asks. It returns
// [ErrWrongMember] if the directory belongs to another member.
func (d *Dir) Become(member replica.MemberID) error {
	if member == 0 {
		return errors.New("a data directory cannot belong to member 0")
	}
	err := d.update(func(m *manifest) bool {
		if m.Member != 0 {
			return false
		}
		m.Member = member
		return true
	})
	if err != nil {
		return err
	}
	return d.checkMember(member)
}

// checkMember returns [ErrWrongMember] if the directory belongs to another member.
func (d *Dir) checkMember(member replica.MemberID) error {
	m := d.view()
	if m.Member == member {
		return nil
	}
	return &Error{
		Kind: ErrWrongMember, Path: d.path, Offset: -1,
		Detail: fmt.Sprintf("it belongs to member %d of ensemble %q, not to member %d", m.Member, m.Ensemble, member),
		Remedy: remedyOwnDir,
	}
}

// Initialised tells whether this member's replica of g was ever started from
// here. If it was, it must never be started as new again: raft does not
// survive a member that forgets what it promised.
func (d *Dir) Initialised(g replica.GroupID) bool { return d.view().Initialised[g] }

// MarkInitialised records durably that the replica of g was started. It is to
// be called when the raft library has made its own record of it: the mark
// says that this record must be there, and Open refuses a directory where it
// is not.
func (d *Dir) MarkInitialised(g replica.GroupID) error {
	return d.update(func(m *manifest) bool {
		delete(d.forgotten, g)
		if m.Initialised[g] {
			return false
		}
		if m.Initialised == nil {
			m.Initialised = make(map[replica.GroupID]bool)
		}
		m.Initialised[g] = true
		return true
	})
}

// Forget drops everything recorded of g, durably. It is to be called before the data of
// a replica are removed for good, or replaced by an older backup on purpose.
func (d *Dir) Forget(g replica.GroupID) error {
	return d.update(func(m *manifest) bool {
		if d.forgotten == nil {
			d.forgotten = make(map[replica.GroupID]bool)
		}
		d.forgotten[g] = true
		if !m.Initialised[g] && m.Applied[g] == 0 && !m.Removed[g] {
			return false
		}
		delete(m.Initialised, g)
		delete(m.Applied, g)
		delete(m.Removed, g)
		return true
	})
}

// Removed tells whether [Dir.MarkRemoved] was called for g.
func (d *Dir) Removed(g replica.GroupID) bool { return d.view().Removed[g] }

// MarkRemoved records durably that the member was removed from g. It never takes part
// in g again, and must not be started there.
func (d *Dir) MarkRemoved(g replica.GroupID) error {
	return d.update(func(m *manifest) bool {
		if m.Removed[g] {
			return false
		}
		if m.Removed == nil {
			m.Removed = make(map[replica.GroupID]bool)
		}
		m.Removed[g] = true
		return true
	})
}

// Applied returns a raft index that this member is known to have applied in
// g: the last one noted, zero if there is none.
func (d *Dir) Applied(g replica.GroupID) uint64 { return d.view().Applied[g] }

// NoteApplied records durably that this member has applied index in g. A
// lower index than noted before changes nothing. It costs two fsyncs of small
// files, so it is meant for every few seconds and for an orderly stop.
func (d *Dir) NoteApplied(g replica.GroupID, index uint64) error {
	return d.NoteAllApplied(map[replica.GroupID]uint64{g: index})
}

// NoteAllApplied is NoteApplied for any number of groups at the price of one. Nothing is
// noted of a group that was forgotten: who asks for that comes late, and the next Open
// would want the log.
func (d *Dir) NoteAllApplied(indexes map[replica.GroupID]uint64) error {
	return d.update(func(m *manifest) bool {
		changed := false
		for g, index := range indexes {
			if index <= m.Applied[g] || d.forgotten[g] {
				continue
			}
			if m.Applied == nil {
				m.Applied = make(map[replica.GroupID]uint64)
			}
			m.Applied[g], changed = index, true
		}
		return changed
	})
}

// CheckLog returns [ErrRolledBack] if a log of g that ends at lastIndex, in
// entries or in its snapshot, is shorter than what this member had applied.
// Open asks this itself on the disk.
func (d *Dir) CheckLog(g replica.GroupID, lastIndex uint64) error {
	mark := d.Applied(g)
	if lastIndex >= mark {
		return nil
	}
	return rolledBack(d.path, "the log of group %d ends at index %d, but this member had applied index %d: "+
		"the log was cut or restored from an older copy", g, lastIndex, mark)
}

// Free returns the bytes that may still be written to the file system of the
// directory, or errors.ErrUnsupported where that is not known.
func (d *Dir) Free() (uint64, error) {
	usage, err := d.fs.GetDiskUsage(d.path)
	switch {
	case err != nil && !OnDisk(d.fs):
		return 0, fmt.Errorf("free space: %w", errors.ErrUnsupported)
	case err != nil:
		return 0, fmt.Errorf("free space of %s: %w", d.path, err)
	}
	return usage.AvailBytes, nil
}

// Close gives the directory up. It may be called any number of times. The
// raft library must have closed it before.
func (d *Dir) Close() error {
	d.write.Lock()
	defer d.write.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.lock.Close()
}
