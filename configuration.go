package coord

import (
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
)

// The configuration is who the members of the ensemble are to be: their records in
// the state of the root group, of which the znode /zookeeper/config tells. It says what
// is wanted. What counts is the membership of each group's raft, which the leader of
// the group brings in line with it, one step at a time (reconciler.go). A record is
// unsettled from a change until that is done in every group.
//
// What must stay true: an id is never used for another member, so that raft never
// takes one for the other; and there is a voter. Of members that were removed a record
// stays, of the newest for ever and of others as long as anything depends on it.

// anyConfiguration is a change that may follow any configuration.
const anyConfiguration = ZXID(math.MaxUint64)

// A reconfiguration changes who the members are, all of it or nothing.
type reconfiguration struct {
	follows ZXID // the configuration that it changes, or anyConfiguration
	force   bool // even if those who vote then cannot make up a quorum now
	changes []memberChange
}

// A memberChange is about one member. One that there is not yet is added.
type memberChange struct {
	id         MemberID
	remove     bool
	role       MemberRole
	addr       string // empty leaves it
	clientAddr string // empty leaves it
}

// A joining is what a process says that is to be a member and has never run as one.
type joining struct {
	id         MemberID // as it was added; 0 asks for one of an observer
	directory  string   // the UUID of its directory
	addr       string
	clientAddr string
}

// reconfigured returns the members as rc wants them, or why that is refused, in the
// order in which ZooKeeper asks.
func (s *state) reconfigured(rc *reconfiguration) (memberTable, Code, string) {
	if m := s.changing(); m != nil && s.concernsVoters(rc) && !s.cancels(rc) {
		return nil, ErrReconfigInProgress, fmt.Sprintf("member %v is still being %s", m.id, m.becoming())
	}
	if rc.follows != anyConfiguration && rc.follows != s.configured {
		return nil, ErrBadVersion, fmt.Sprintf("the configuration is that of zxid %v, not of %v", s.configured, rc.follows)
	}
	members := s.members
	for i := range rc.changes {
		m, why := s.changed(members, &rc.changes[i])
		if why != "" {
			return nil, ErrBadArguments, why
		}
		members = members.with(m)
	}
	if why := members.fault(); why != "" {
		return nil, ErrBadArguments, why
	}
	if why := s.quorumFault(members); why != "" && !rc.force {
		return nil, ErrNewConfigNoQuorum, why
	}
	return members, codeOK, ""
}

// changed returns the record of one member as c wants it, or why that cannot be. It is
// unsettled if the change concerns raft.
func (s *state) changed(members memberTable, c *memberChange) (*memberRecord, string) {
	was := members.get(c.id)
	switch {
	case c.id == 0:
		return nil, "member 0 cannot be"
	case was == nil && c.remove:
		return nil, fmt.Sprintf("there is no member %v", c.id)
	case was == nil && c.id.given():
		return nil, fmt.Sprintf("member %v cannot be added: ids from %v on are given by the ensemble", c.id, MemberID(firstGivenID))
	case was == nil && members.usedUp(c.id):
		return nil, fmt.Sprintf("member %v may be one that was removed long ago: ids are never used again, take a greater one", c.id)
	case was == nil && c.addr == "":
		return nil, fmt.Sprintf("member %v is to be added and has no address", c.id)
	case !validMemberAddr(c.addr) || !validMemberAddr(c.clientAddr):
		return nil, fmt.Sprintf("an address of member %v, %.100q and %.100q, has other characters than an address, or more than %d", c.id, c.addr, c.clientAddr, maxMemberAddr)
	case was == nil:
		return &memberRecord{
			id: c.id, role: c.role, addr: c.addr, clientAddr: c.clientAddr, unsettled: true, touchedMS: s.timeMS,
		}, ""
	case was.removed:
		return nil, fmt.Sprintf("member %v was removed: ids are never used again", c.id)
	}
	m := *was
	switch {
	case c.remove:
		m.removed, m.unsettled = true, true
	case was.role == Voter && c.role != Voter:
		return nil, fmt.Sprintf("member %v votes: it can only be removed, and come back as an observer under a new id", c.id)
	default:
		m.unsettled = m.unsettled || was.role != c.role
		m.passing = m.passing && c.role == Observer
		m.role = c.role
		if c.addr != "" {
			m.addr = c.addr
		}
		if c.clientAddr != "" {
			m.clientAddr = c.clientAddr
		}
	}
	return &m, ""
}

// changing returns a member of which it is not settled whether it votes, or nil.
// Observers come and go beside that.
func (s *state) changing() *memberRecord {
	for _, m := range s.members {
		if m.unsettled && m.role == Voter {
			return m
		}
	}
	return nil
}

// concernsVoters reports whether rc changes anything about who votes.
func (s *state) concernsVoters(rc *reconfiguration) bool {
	for _, c := range rc.changes {
		if m := s.members.get(c.id); m != nil && m.role == Voter || !c.remove && c.role == Voter {
			return true
		}
	}
	return false
}

// becoming says what an unsettled member is about to be.
func (m *memberRecord) becoming() string {
	if m.removed {
		return "removed"
	}
	return "added"
}

// cancels reports whether rc does nothing but remove members that are being added.
func (s *state) cancels(rc *reconfiguration) bool {
	for _, c := range rc.changes {
		if m := s.members.get(c.id); !c.remove || m == nil || m.removed || !m.unsettled {
			return false
		}
	}
	return len(rc.changes) > 0
}

// fault says what is wrong with a table that is to be, or nothing.
func (t memberTable) fault() string {
	addrs := map[string]MemberID{}
	for _, m := range t {
		if m.removed {
			continue
		}
		if other, taken := addrs[m.addr]; taken {
			return fmt.Sprintf("members %v and %v have the same address, %q", other, m.id, m.addr)
		}
		addrs[m.addr] = m.id
	}
	if lone, ok := addrs[""]; ok && len(addrs) > 1 {
		return fmt.Sprintf("member %v has no address at which others could reach it: open it with one to listen on", lone)
	}
	if t.voters() == 0 {
		return "no member would vote: the last voter cannot be removed"
	}
	if len(t) > maxMembers {
		return fmt.Sprintf("%d members with those that were removed lately, the limit is %d", len(t), maxMembers)
	}
	return ""
}

// voters returns how many members are to vote.
func (t memberTable) voters() int {
	n := 0
	for _, m := range t {
		if m.role == Voter && !m.removed {
			n++
		}
	}
	return n
}

// quorumFault says that too few of those who vote, and go on to, were heard of lately.
// Those who are only about to vote do not count: they are not let before they have
// caught up.
func (s *state) quorumFault(to memberTable) string {
	voters, alive := 0, 0
	for _, m := range to {
		was := s.members.get(m.id)
		if m.removed || m.role != Voter || was == nil || was.role != Voter || was.unsettled {
			continue
		}
		voters++
		if s.heardOf(m) {
			alive++
		}
	}
	if 2*alive > voters {
		return ""
	}
	return fmt.Sprintf("of the %d voters that would be left, only %d were heard of lately", voters, alive)
}

// heardOf reports whether a member has touched lately, in group time. A touch comes
// several times in the least timeout that a session can have.
func (s *state) heardOf(m *memberRecord) bool {
	return m.touches > 0 && s.timeMS-m.touchedMS <= s.settings.minSessionTimeoutMS
}

// reconfigure changes the configuration.
func (x *execution) reconfigure() result {
	k, n := x.s.configNode()
	members, code, _ := x.s.reconfigured(x.r.reconfiguration)
	switch {
	case code != codeOK:
		return x.refused(code)
	case x.r.identities != nil && !x.permits(n.acl, PermWrite):
		return x.refused(ErrNoAuth)
	}
	x.configure(k, n, members)
	return result{zxid: x.s.zxid}
}

// join enters the directory of a member that was added and runs now for the first time,
// or makes an observer of whoever asks for an id. The same directory is answered the
// same, so that whoever asks twice is one member. The answer is the id.
func (x *execution) join() result {
	j := x.r.joining
	m, code, _ := x.s.joined(j)
	if x.r.identities != nil {
		code = ErrNoAuth
	}
	if code != codeOK {
		return x.refused(code)
	}
	if x.s.members.get(m.id) != m {
		k, n := x.s.configNode()
		x.configure(k, n, x.s.vacated(m).with(m))
	}
	return result{zxid: x.s.zxid, ops: []opResult{{value: int64(m.id)}}}
}

// joined returns the record of a member that joins, or why it cannot.
func (s *state) joined(j *joining) (*memberRecord, Code, string) {
	refuse := func(format string, args ...any) (*memberRecord, Code, string) {
		return nil, ErrBadArguments, fmt.Sprintf(format, args...)
	}
	was := s.members.ofDirectory(j.directory)
	switch {
	case was != nil && j.id != 0 && was.id != j.id:
		return refuse("its directory is that of member %v, not of member %v", was.id, j.id)
	case was != nil && was.removed:
		return refuse("member %v was removed: ids are never used again", was.id)
	case was != nil && was.addr == j.addr && was.clientAddr == j.clientAddr:
		return was, codeOK, ""
	case was == nil && j.id != 0:
		was = s.members.get(j.id)
	}
	var m memberRecord
	switch {
	case j.directory == "" || j.addr == "" || !validMemberAddr(j.directory) || !validMemberAddr(j.addr) || !validMemberAddr(j.clientAddr):
		return refuse("its directory %.100q or its addresses %.100q and %.100q are none", j.directory, j.addr, j.clientAddr)
	case was != nil:
		m = *was
	case j.id != 0:
		return refuse("there is no member %v: it has to be added first", j.id)
	default:
		m = memberRecord{id: s.members.nextID(), role: Observer, unsettled: true, passing: true, touchedMS: s.timeMS}
	}
	switch {
	case m.removed:
		return refuse("member %v was removed: ids are never used again", m.id)
	case m.directory == "" && m.incarnation > 0 || m.directory != "" && m.directory != j.directory:
		return refuse("member %v has another directory", m.id)
	}
	m.directory, m.addr = j.directory, j.addr
	if j.clientAddr != "" {
		m.clientAddr = j.clientAddr
	}
	if was := s.passingAt(&m); was != nil && s.timeMS-was.touchedMS <= s.settings.minSessionTimeoutMS {
		return nil, ErrReconfigInProgress, fmt.Sprintf("member %v, which joined with the same address %q, was heard of lately", was.id, was.addr)
	}
	if why := s.vacated(&m).with(&m).fault(); why != "" {
		return refuse("%s", why)
	}
	return &m, codeOK, ""
}

// passingAt returns another member that came by itself, at the address of m, or nil.
func (s *state) passingAt(m *memberRecord) *memberRecord {
	for _, was := range s.members {
		if was.id != m.id && was.addr == m.addr && was.passing && !was.removed {
			return was
		}
	}
	return nil
}

// vacated returns the members without the one that came by itself at the address at which
// m joins now. Its process has ended without a word and its directory is lost, as where a
// container is started again: nobody would be served by waiting out its grace.
func (s *state) vacated(m *memberRecord) memberTable {
	was := s.passingAt(m)
	if was == nil {
		return s.members
	}
	gone := *was
	gone.removed, gone.unsettled = true, true
	return s.members.with(&gone)
}

// maxMemberAddr limits the addresses of a member, in bytes.
const maxMemberAddr = 512

// validMemberAddr reports whether an address can stand in the text of the configuration.
// What it means is for the members to find out.
func validMemberAddr(addr string) bool {
	return len(addr) <= maxMemberAddr && strings.IndexFunc(addr, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' || r == ',' }) < 0
}

// ofDirectory returns the member that has joined with a directory, or nil.
func (t memberTable) ofDirectory(directory string) *memberRecord {
	for _, m := range t {
		if m.directory == directory && directory != "" {
			return m
		}
	}
	return nil
}

// nextID returns an id that was never given.
func (t memberTable) nextID() MemberID {
	if len(t) == 0 {
		return firstGivenID
	}
	return max(firstGivenID, t[len(t)-1].id+1)
}

// settle takes note that every group's raft is what a configuration says. Nothing of
// it is told: the configuration stays what it is.
func (x *execution) settle() result {
	if x.r.identities != nil {
		return x.refused(ErrNoAuth)
	}
	if x.r.settled != x.s.configured {
		return x.refused(ErrBadVersion)
	}
	for _, m := range x.s.members {
		if m.unsettled {
			n := *m
			n.unsettled = false
			x.s.members = x.s.members.with(&n)
		}
	}
	x.eff.members = true
	return result{zxid: x.s.zxid}
}

// configNode returns the znode that tells the configuration. It cannot be deleted.
func (s *state) configNode() (treeKey, *znode) {
	k, _ := keyOf(pathConfig)
	n, ok := s.tree.lookup(k)
	if !ok {
		panic("coord: T1: there is no " + pathConfig)
	}
	return k, n
}

// configure puts other members into force, under the zxid at hand, and tells it.
func (x *execution) configure(k treeKey, n *znode, members memberTable) {
	x.s.members, x.s.configured = x.s.remembered(members), x.s.zxid
	x.s.decree()
	x.tellConfiguration(k, n)
	x.eff.members = true
}

// tellConfiguration writes the configuration in force to its znode.
func (x *execution) tellConfiguration(k treeKey, n *znode) {
	m := *n
	m.data = []byte(x.s.members.text(x.s.configured))
	m.version = -1 // as in ZooKeeper: no setData has this condition
	m.mzxid, m.mtimeMS = x.s.zxid, x.nowMS()
	x.s.tree.replace(k, &m)
	x.publish(NodeDataChanged, pathConfig, &m, nil)
}

// text returns what /zookeeper/config says: ZooKeeper's lines, of which its clients
// read the part behind the semicolon, and the zxid of the last change. Members of coord
// talk through one port each; the second is made up, because readers refuse two that are
// equal.
func (t memberTable) text(configured ZXID) string {
	var b strings.Builder
	for _, m := range t {
		if m.removed {
			continue
		}
		host, port, err := net.SplitHostPort(m.addr)
		if err != nil {
			continue // it is alone, and nobody can reach it
		}
		second, err := strconv.ParseUint(port, 10, 16)
		if second++; err != nil || second > 65535 {
			second = 1
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		role := "participant"
		if m.role == Observer {
			role = "observer"
		}
		fmt.Fprintf(&b, "server.%d=%s:%s:%d:%s", m.id, host, port, second, role)
		if m.clientAddr != "" {
			b.WriteString(";" + m.clientAddr)
		}
		b.WriteByte('\n')
	}
	b.WriteString("version=" + strconv.FormatUint(uint64(configured), 16))
	return b.String()
}
