package coord

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"coord/internal/failpoint"
	"coord/internal/raftnode"
	"coord/internal/raftnode/memnet"
	"coord/internal/raftnode/peernet"
	"coord/internal/raftnode/raftdir"
	"coord/internal/replica"
)

// A disk is a member's directory: locked, and checked before the raft library
// opens it, because that library answers most faults of a directory with a panic
// or with an empty log.
type disk struct {
	dir    *raftdir.Dir
	memory *raftnode.Memory

	configured map[MemberID]string // the addresses of members that the configuration names
	throwaway  string              // the directory that ends with this member, or ""

	noted map[GroupID]uint64 // the log indexes that were last written down; owned by runDisk
}

func openDisk(cfg *Config) (*disk, error) {
	if err := raftdir.CheckWorkingDirectory(); err != nil {
		return nil, err
	}
	d := &disk{memory: cfg.memory, noted: map[GroupID]uint64{}}
	if d.memory == nil {
		d.memory = &raftnode.Memory{}
	}
	d.configured = map[MemberID]string{}
	for _, m := range cfg.InitialMembers {
		d.configured[m.ID] = m.Addr
	}
	var err error
	if cfg.throwsAway() {
		if cfg.Dir, err = os.MkdirTemp("", "coord-observer-"); err != nil {
			return nil, err
		}
		d.throwaway = cfg.Dir
	}
	var voters map[replica.MemberID]string
	if len(cfg.Join) == 0 {
		voters = voterAddrs(cfg)
	}
	d.dir, err = raftdir.Open(d.memory.FS, cfg.Dir, raftdir.Identity{
		Ensemble: cfg.Name, Member: replica.MemberID(cfg.ID), LogShards: cfg.LogShards, Voters: voters,
	})
	if err != nil {
		return nil, errors.Join(err, d.discard())
	}
	cfg.InitialMembers = firstMembers(cfg.InitialMembers, d.dir.Voters())
	if cfg.memory == nil && len(cfg.InitialMembers) == 0 && cfg.Addr == "" {
		d.memory.Net = memnet.New() // nobody to talk to: no port is opened
	}
	return d, nil
}

// firstMembers returns the members that the directory was created with, whatever
// the configuration lists now: the others cannot be reached without. The
// addresses are those of the configuration as far as it has them, because a
// member may have moved.
func firstMembers(now []Member, voters map[replica.MemberID]string) []Member {
	if len(voters) <= 1 {
		return now
	}
	addrs := maps.Clone(voters)
	for _, m := range now {
		if _, ok := addrs[replica.MemberID(m.ID)]; ok {
			addrs[replica.MemberID(m.ID)] = m.Addr
		}
	}
	var first []Member
	for _, id := range slices.Sorted(maps.Keys(addrs)) {
		first = append(first, Member{ID: MemberID(id), Addr: addrs[id]})
	}
	return first
}

// voterAddrs returns the initial members' addresses. A member that has none, being
// alone, is reached under a name of its own.
func voterAddrs(cfg *Config) map[replica.MemberID]string {
	addrs := map[replica.MemberID]string{}
	for _, m := range cfg.members() {
		if m.Addr == "" {
			m.Addr = "alone"
		}
		addrs[replica.MemberID(m.ID)] = m.Addr
	}
	return addrs
}

// openHost opens the host of c. Other members can reach serve before it returns.
func (d *disk) openHost(c *Coordinator) (replica.Host, error) {
	cfg := &c.cfg
	t := cfg.timing()
	addrs := voterAddrs(cfg)
	if len(cfg.Join) > 0 {
		clear(addrs)
		for id, m := range d.known().members {
			addrs[replica.MemberID(id)] = m.addr
		}
		addrs[replica.MemberID(cfg.ID)] = cfg.Addr
	}
	open := d.memory.Open
	if open == nil {
		open = func(c raftnode.Config) (replica.Host, error) { return raftnode.Open(c) }
	}
	host, err := open(raftnode.Config{
		Ensemble: cfg.Name, Member: replica.MemberID(cfg.ID), Dir: d.dir.NodeHostDir(),
		Addr: addrs[replica.MemberID(cfg.ID)], Listen: cfg.Listen, Members: addrs,
		Tick: t.tick, ElectionTicks: t.electionTicks, HeartbeatTicks: t.heartbeatTicks,
		SnapshotEntries: cfg.SnapshotEntries, CompactionOverhead: max(cfg.SnapshotEntries/10, 1),
		LogShards: cfg.LogShards, Initialised: d.dir.Initialised, MarkInitialised: d.dir.MarkInitialised, Forget: d.dir.Forget,
		Removed: d.dir.Removed, MarkRemoved: d.dir.MarkRemoved,
		Logger: c.log, OnRole: c.setRole, Net: d.memory.Net, FS: d.memory.FS,
		OnRemoved: c.onRemoved,
		Directory: d.dir.ID(), TLS: cfg.TLS, Admit: c.admit, Refused: c.auditPeer, Serve: c.serve,
		Unknown: c.unknown, Strangers: c.serveStranger,
		Failpoints: d.memory.Failpoints, OnFailure: c.root.fail,
	})
	if err != nil {
		return nil, err
	}
	return host, nil
}

// admit lets a member in that has shown who it is, if it comes with the directory
// that it has joined with, or, as one of the first members, was first seen with.
func (c *Coordinator) admit(h peernet.Hello) error {
	if has := c.contacts.directoryOf(MemberID(h.Member)); has != "" && has != h.Directory {
		return fmt.Errorf("%smember %d has joined with the directory %s, this one is %s", strangeReason, h.Member, has, h.Directory)
	}
	return c.disk.pin(h)
}

// pin writes down the first directory that a member is seen with, and refuses others.
// What the member is told names no path of this machine.
func (d *disk) pin(h peernet.Hello) error {
	err := d.dir.Pin(h.Member, h.Directory)
	if strange, ok := errors.AsType[*raftdir.Error](err); ok && errors.Is(err, raftdir.ErrStrangeDirectory) {
		return fmt.Errorf("%s%s (%s)", strangeReason, strange.Detail, strange.Remedy)
	}
	if err == nil {
		return nil
	}
	why := "a fault of its disk"
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		why = errno.Error()
	}
	return fmt.Errorf("the directory of member %d cannot be written down: %s", h.Member, why)
}

// firstStart returns what is to be done before this member's replica of g is
// started, or nil: it has lived here before, or nobody else is there to know more.
// Those that live in memory are not asked, for nobody empties their directories.
func (d *disk) firstStart(c *Coordinator, g GroupID) *rollCall {
	if d.memory.Net != nil || d.memory.Open != nil || len(c.cfg.Join) > 0 || d.dir.Initialised(replica.GroupID(g)) {
		return nil
	}
	var others []MemberID
	for _, m := range c.cfg.InitialMembers {
		if m.ID != c.cfg.ID {
			others = append(others, m.ID)
		}
	}
	return newRollCall(others, c.hello, c.log)
}

// initialMembers returns the members that the ensemble is to start with, as far as
// this directory knows, in order.
func (d *disk) initialMembers() []MemberID {
	var ids []MemberID
	for _, id := range slices.Sorted(maps.Keys(d.dir.Voters())) {
		ids = append(ids, MemberID(id))
	}
	return ids
}

// startGroup starts this member's replica of a group.
func (d *disk) startGroup(host replica.Host, g GroupID, m *machine, first replica.First) error {
	err := host.StartGroup(replica.GroupID(g), m, first)
	if errors.Is(err, replica.ErrRemoved) {
		return fmt.Errorf("%w: %w: ids are never used again, so join under a new one, with an empty directory", ErrNotMember, err)
	}
	return err
}

// note writes down how far the logs were applied, so that a log that ends earlier is
// recognised as cut or restored from an older copy.
func (d *disk) note(groups []*group) error {
	indexes := map[replica.GroupID]uint64{}
	for _, g := range groups {
		if index := g.pub.Load().index; index > d.noted[g.id] {
			indexes[replica.GroupID(g.id)] = index
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	if err := d.memory.Failpoints.Fail(failpoint.AppliedNote); err != nil {
		return err
	}
	for g, index := range indexes {
		d.noted[GroupID(g)] = index
	}
	maps.DeleteFunc(d.noted, func(id GroupID, _ uint64) bool {
		return !slices.ContainsFunc(groups, func(g *group) bool { return g.id == id })
	})
	return d.dir.NoteAllApplied(indexes)
}

// seal writes down how everything was left in good order, once the host is closed,
// so that the next start recognises the least damage.
func (d *disk) seal(groups []*group) error {
	if err := d.note(groups); err != nil {
		return err
	}
	if err := d.memory.Failpoints.Fail(failpoint.Seal); err != nil {
		return err
	}
	return d.dir.Seal()
}

func (d *disk) close() error { return errors.Join(d.dir.Close(), d.discard()) }

// discard removes the directory if it is to end with this member.
func (d *disk) discard() error {
	if d.throwaway == "" {
		return nil
	}
	return os.RemoveAll(d.throwaway)
}

// noteEvery is how often the log index is written down, and the free space looked
// at.
const noteEvery = 5 * time.Second

// runDisk watches over the directory: it reports free space to the ensemble,
// which refuses growth while a voter has too little, and stops this member before
// the disk is full, because the raft library does not survive that.
func (c *Coordinator) runDisk() {
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	for {
		c.checkSpace()
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
		if err := c.disk.note(c.groups()); err != nil {
			c.log.Warn("log index not written down", slog.Any("err", err))
		}
	}
}

func (c *Coordinator) checkSpace() {
	free, err := c.disk.dir.Free()
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			c.log.Warn("free space is not known", slog.Any("err", err))
		}
		return
	}
	least := c.cfg.MinFreeBytes
	if free < least/4 {
		c.root.fail(fmt.Errorf("%s has %d bytes free, a member needs %d to go on", c.cfg.Dir, free, least/4))
		return
	}
	for _, g := range c.groups() {
		g.proposer.reportDisk(diskReport{freeBytes: free, low: free < least})
	}
}
