package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"coord/internal/raftnode/peernet"
	"coord/internal/raftnode/raftdir"
	"coord/internal/replica"
)

// A contact is one member and where it is.
type contact struct {
	addr      string
	directory string // that it has joined with; empty if it is one of the first members
}

// A contactList says whom a member deals with: who the members of one configuration
// are, and whose time is over.
type contactList struct {
	configured ZXID
	members    map[MemberID]contact
	removed    map[MemberID]bool
}

// contacts returns whom the members of a state deal with. Who was added and has not
// joined is nobody yet: others must know its directory before they hear it. Who is being
// removed is heard until raft does without it, for its vote may be needed until then.
func (s *state) contacts() contactList {
	l := contactList{configured: s.configured, members: map[MemberID]contact{}, removed: map[MemberID]bool{}}
	for _, m := range s.members {
		switch {
		case m.removed && !m.unsettled:
			l.removed[m.id] = true
		case m.removed || m.directory != "" || m.incarnation > 0 || !m.unsettled:
			l.members[m.id] = contact{m.addr, m.directory}
		}
	}
	return l
}

// A contactBook is the list that is in use. It comes from the directory at first, then
// from the state of the root group, or from another member that knows a later
// configuration: whoever was away while all others moved would not find them otherwise.
type contactBook struct {
	mu   sync.Mutex // a leaf
	list contactList
}

func (b *contactBook) current() contactList {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.list
}

// set puts l in use, which is not modified any more.
func (b *contactBook) set(l contactList) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = l
}

// directoryOf returns the directory that a member has joined with, or "".
func (b *contactBook) directoryOf(id MemberID) string { return b.current().members[id].directory }

// Beginnings of reasons by which a member that is refused knows why.
const (
	// strangeReason is for one that comes with another directory than before.
	strangeReason = "strange directory: "
	// removedReason is for one that was removed.
	removedReason = "removed: "
)

// unknown gives the reason to refuse who is no member any more, or "". The state says so
// of those whose records are gone: it knows, and a list may not, who is only about to join.
func (c *Coordinator) unknown(id replica.MemberID) string {
	members := c.root.state().members
	forgotten := members.get(MemberID(id)) == nil && members.usedUp(MemberID(id))
	if !forgotten && !c.contacts.current().removed[MemberID(id)] {
		return ""
	}
	return fmt.Sprintf("%smember %d was removed from the ensemble; ids are never used again, so its machine has to join under a new one, with an empty directory", removedReason, id)
}

// known returns whom this member's directory and configuration know. An address of the
// configuration counts if it was changed since the directory was made.
func (d *disk) known() contactList {
	l := contactList{members: map[MemberID]contact{}, removed: map[MemberID]bool{}}
	for id, addr := range d.dir.Voters() {
		l.members[MemberID(id)] = contact{addr: addr}
	}
	if noted := d.dir.Members(); len(noted) > 0 {
		clear(l.members)
		for id, m := range noted {
			l.members[MemberID(id)] = contact{m.Addr, m.Directory}
		}
	}
	d.correct(l)
	return l
}

// correct puts the addresses into l that the configuration has changed, as far as l
// does not know better.
func (d *disk) correct(l contactList) {
	first := d.dir.Voters()
	for id, addr := range d.configured {
		was, ok := l.members[id]
		if ok && was.addr == first[replica.MemberID(id)] {
			was.addr = addr
			l.members[id] = was
		}
	}
}

// useContacts has this member deal with those in l, which was corrected, from now on and
// after a restart.
func (c *Coordinator) useContacts(l contactList) {
	c.contacts.set(l)
	addrs, noted := map[replica.MemberID]string{}, map[replica.MemberID]raftdir.Member{}
	for id, m := range l.members {
		if m.addr == "" {
			continue // it is alone
		}
		addrs[replica.MemberID(id)] = m.addr
		noted[replica.MemberID(id)] = raftdir.Member{Addr: m.addr, Directory: m.directory}
	}
	if len(addrs) == 0 {
		return
	}
	if err := c.host.SetMembers(addrs); err != nil {
		c.log.Warn("addresses of members not used", slog.Any("err", err))
	}
	if l.configured == 0 {
		return // they are those of the first start, which the directory has
	}
	if err := c.disk.dir.NoteMembers(noted); err != nil {
		c.log.Warn("addresses of members not written down", slog.Any("err", err))
	}
}

// askEvery is how often a member that finds no quorum asks others where everybody is.
const askEvery = time.Second

// runContacts keeps this member's contacts as the ensemble has them.
func (c *Coordinator) runContacts() {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		changed := c.root.membersChange()
		if c.root.hasJoined() {
			c.follow(c.root.state())
		}
		select {
		case <-changed:
			continue
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
		if c.root.suspended() && c.roll.waiting() == nil {
			c.askOthers()
		}
	}
}

// follow uses what a state of the root group says, unless it is used already or another
// member has told of a later configuration.
func (c *Coordinator) follow(s *state) {
	c.learning.Lock()
	defer c.learning.Unlock()
	l, now := s.contacts(), c.contacts.current()
	c.disk.correct(l)
	if l.configured >= now.configured && !l.equal(now) {
		c.useContacts(l)
	}
}

func (l contactList) equal(other contactList) bool {
	return l.configured == other.configured && maps.Equal(l.members, other.members) && maps.Equal(l.removed, other.removed)
}

// askOthers asks the members that this one knows who the members are, and tells them
// where this one is. It ends this member if it was removed.
func (c *Coordinator) askOthers() {
	h, ok := c.host.(peerNet)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
	defer cancel()
	e := newEncoder()
	e.string(c.cfg.advertised())
	var asking sync.WaitGroup
	defer asking.Wait()
	for id := range c.contacts.current().members {
		if id == c.cfg.ID {
			continue
		}
		asking.Go(func() {
			answer, err := h.Call(ctx, replica.MemberID(id), methodMembers, e.buf.Bytes())
			if refused, ok := errors.AsType[*peernet.RefusedError](err); ok && refused.ByPeer && strings.HasPrefix(refused.Reason, removedReason) {
				c.removed(strings.TrimPrefix(refused.Reason, removedReason))
				return
			}
			if err != nil {
				return
			}
			if l, err := decodeContacts(answer); err != nil {
				c.log.Warn("answer about members cannot be read", slog.Uint64("peer", uint64(id)), slog.Any("err", err))
			} else {
				c.learn(l)
			}
		})
	}
}

// learn uses what another member knows, if it is later than what this one does.
func (c *Coordinator) learn(l contactList) {
	c.learning.Lock()
	defer c.learning.Unlock()
	if l.configured <= c.contacts.current().configured {
		return
	}
	if l.removed[c.cfg.ID] {
		c.removed(fmt.Sprintf("member %v was removed from the ensemble", c.cfg.ID))
		return
	}
	c.disk.correct(l)
	c.log.Info("another member knows a later configuration", slog.String("zxid", l.configured.String()), slog.Int("members", len(l.members)))
	c.useContacts(l)
}

// removed ends this member because the ensemble has removed it.
func (c *Coordinator) removed(why string) {
	c.root.fail(fmt.Errorf("%w: %s", ErrNotMember, why))
}

// onRemoved is called by the host when the log of a group says that this member is no
// part of it any more. The root group is the last that lets a member go.
func (c *Coordinator) onRemoved(g replica.GroupID) {
	if GroupID(g) != rootGroup {
		return
	}
	c.removed(fmt.Sprintf("member %v was removed from the ensemble", c.cfg.ID))
}

// answerMembers tells another member who the members are, and takes note of where that
// one is, if it has moved. While the member is heard of where it was, the caller is a copy
// of its directory, which must not get what is meant for the original.
func (c *Coordinator) answerMembers(from MemberID, body []byte) ([]byte, error) {
	d := newDecoder(body)
	addr := d.string()
	if err := d.done(); err != nil {
		return nil, err
	}
	if s := c.root.state(); c.root.hasJoined() && !c.root.suspended() && addr != "" {
		if m := s.members.get(from); m != nil && !m.removed && m.addr != addr && !s.heardOf(m) {
			c.root.spawn(func() { c.move(m, addr) })
		}
	}
	e := newEncoder()
	e.contacts(c.contacts.current())
	return e.buf.Bytes(), nil
}

// move has the ensemble know another address of a member, which has shown that it is
// that member.
func (c *Coordinator) move(m *memberRecord, addr string) {
	rc := Reconfiguration{Members: []Member{{ID: m.id, Role: m.role, Addr: addr}}}
	if _, err := c.Reconfigure(c.root.ctx, rc); err != nil && c.ctx.Err() == nil {
		c.log.Warn("new address of a member not taken", slog.Uint64("peer", uint64(m.id)), slog.String("addr", addr), slog.Any("err", err))
	}
}

// contactsVersion is that of lists of contacts between members.
const contactsVersion = 1

func (e *encoder) contacts(l contactList) {
	e.array(4)
	e.uint(contactsVersion)
	e.uint(uint64(l.configured))
	e.array(len(l.members))
	for _, id := range slices.Sorted(maps.Keys(l.members)) {
		e.array(3)
		e.member(id)
		e.string(l.members[id].addr)
		e.string(l.members[id].directory)
	}
	e.array(len(l.removed))
	for _, id := range slices.Sorted(maps.Keys(l.removed)) {
		e.member(id)
	}
}

// contacts reads what encoder.contacts has written.
func (d *decoder) contacts() contactList {
	d.record("contacts", 4)
	l := contactList{configured: ZXID(d.uint()), members: map[MemberID]contact{}, removed: map[MemberID]bool{}}
	for range d.list(maxMembers, leastPeer) {
		d.array(3)
		l.members[MemberID(d.uint())] = contact{d.string(), d.string()}
	}
	for range d.list(maxMembers, 1) {
		l.removed[MemberID(d.uint())] = true
	}
	return l
}

func decodeContacts(b []byte) (contactList, error) {
	d := newDecoder(b)
	l := d.contacts()
	return l, d.done()
}
