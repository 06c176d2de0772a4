package coord

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"coord/internal/raftnode/peernet"
	"coord/internal/replica"
)

// What members call of each other. Only members are let in to call, so all of it
// may be told.
const (
	methodHello  = "hello"  // asked with the ids of the caller's initial members, of a first start
	methodStatus = "status" // asked with the highest version the caller knows, or nothing for 1; the answer is a Status
	methodQuiet  = "quiet"  // asked with a group and a time; proposes nothing there meanwhile
	// methodMembers is asked with the caller's address; the answer is a contactList.
	methodMembers = "members"
)

// A peerNet is a host that can reach other members beside the log. Those of
// simulations cannot.
type peerNet interface {
	Call(ctx context.Context, to replica.MemberID, method string, body []byte) ([]byte, error)
	Links() []peernet.Link
}

// A Link is what went over the connections between this member and another one, in
// one direction, since this member was opened.
type Link struct {
	// Peer is the other member. 0 stands for all those who came in and did not show
	// that they are members.
	Peer MemberID

	// Incoming says that the other one dialed: what is counted came from there. It is
	// otherwise what this member sent.
	Incoming bool

	Connections int    // open now
	Handshakes  uint64 // that let the connection be used
	Refused     uint64 // handshakes that one of the two refused
	Errors      uint64 // handshakes and connections that broke

	Bytes   uint64 // on the wire, within TLS
	Batches uint64 // of raft's messages
	Chunks  uint64 // of snapshots
	Calls   uint64 // such as [Coordinator.MemberStatus]
	Dropped uint64 // messages of raft that their sender had no right to send

	LastRefusal string // the reason, empty if there was none
	LastError   string // empty if there was none
}

// Links returns the links of this member, by peer, for metrics. There is one for
// each direction once it was used, and none in an ensemble that lives in memory.
func (c *Coordinator) Links() []Link {
	h, ok := c.host.(peerNet)
	if !ok {
		return nil
	}
	var links []Link
	for _, l := range h.Links() {
		links = append(links, Link{
			Peer: MemberID(l.Peer), Incoming: l.Direction == peernet.In,
			Connections: l.Connections, Handshakes: l.Handshakes, Refused: l.Refused, Errors: l.Errors,
			Bytes: l.Bytes, Batches: l.Batches, Chunks: l.Chunks, Calls: l.Calls, Dropped: l.Dropped,
			LastRefusal: l.LastRefusal, LastError: l.LastError,
		})
	}
	return links
}

// refusals tells why members cannot be reached that refuse this one, or that this
// one refuses: " (member 2: …)", or "".
func (c *Coordinator) refusals() string {
	h, ok := c.host.(peerNet)
	if !ok {
		return ""
	}
	var told []string
	for _, l := range h.Links() {
		if l.Direction == peernet.Out && l.Connections == 0 && l.Refusing {
			told = append(told, fmt.Sprintf("member %v: %s", l.Peer, l.LastRefusal))
		}
	}
	if told == nil {
		return ""
	}
	return " (refused: " + strings.Join(told, "; ") + ")"
}

// MemberStatus asks a member how it stands and returns what it says of itself. The
// member need not have a quorum, nor have caught up; this one neither. It waits no
// longer than ctx and [Config.OperationTimeout].
//
// The error says what is wrong: nobody answers, one of the two refuses the other,
// no such member is known. It satisfies errors.Is for [ErrTimeout] or the cause of
// ctx if there was no answer in time, and for [ErrClosed] and [ErrFailed].
func (c *Coordinator) MemberStatus(ctx context.Context, id MemberID) (Status, error) {
	if id == c.cfg.ID {
		return c.Status(), nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	e := newEncoder()
	e.statusRequest(statusVersion)
	answer, err := c.call(ctx, id, methodStatus, e.buf.Bytes())
	var st Status
	if err == nil {
		st, err = decodeStatus(answer)
	}
	if err == nil && st.Member != id {
		err = fmt.Errorf("%w: member %v answered", errMalformed, st.Member)
	}
	if err != nil {
		return Status{}, &OpError{Op: "memberStatus", Err: err, Detail: "of member " + id.String()}
	}
	return st, nil
}

// call asks another member.
func (c *Coordinator) call(ctx context.Context, id MemberID, method string, body []byte) ([]byte, error) {
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	h, ok := c.host.(peerNet)
	if !ok {
		return nil, ErrUnimplemented
	}
	answer, err := h.Call(ctx, replica.MemberID(id), method, body)
	if errors.Is(err, replica.ErrClosed) && c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	return answer, err
}

// hello has another member answer. It has then written down the directory of this
// one, durably, and has the same initial members, of which a majority decides.
// errStrange means that it knows another directory.
func (c *Coordinator) hello(ctx context.Context, id MemberID) error {
	e := newEncoder()
	e.hello(c.disk.initialMembers())
	_, err := c.call(ctx, id, methodHello, e.buf.Bytes())
	if refused, ok := errors.AsType[*peernet.RefusedError](err); ok && refused.ByPeer {
		if why, strange := strings.CutPrefix(refused.Reason, strangeReason); strange {
			return fmt.Errorf("%w: %s", errStrange, why)
		}
	}
	return err
}

// answerHello compares the caller's initial members with those of this member.
func (c *Coordinator) answerHello(body []byte) error {
	theirs, err := decodeHello(body)
	if err != nil {
		return err
	}
	if ours := c.disk.initialMembers(); !slices.Equal(ours, theirs) {
		return fmt.Errorf("its InitialMembers are %v, those of member %v are %v: all members must start with the same", theirs, c.cfg.ID, ours)
	}
	return nil
}

// serve answers another member. The host calls it as soon as it listens, which is
// before it is known here.
func (c *Coordinator) serve(ctx context.Context, from replica.MemberID, method string, body []byte) ([]byte, error) {
	switch method {
	case methodHello:
		return nil, c.answerHello(body)
	case methodStatus:
		select {
		case <-c.hosted:
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		version, err := decodeStatusRequest(body)
		if err != nil {
			return nil, err
		}
		st := c.Status()
		e := newEncoder()
		e.status(&st, version)
		return e.buf.Bytes(), nil
	case methodQuiet:
		return c.answerQuiet(ctx, body)
	}
	if method == methodMembers {
		return c.answerMembers(MemberID(from), body)
	}
	return nil, fmt.Errorf("this version of coord has no method %q", method)
}

// The versions of what members tell each other.
const (
	helloVersion  = 1
	statusVersion = 2 // from it on it tells format versions, roles and touches of members, groups and lag, and who asks says what it reads
)

// The numbers of fields of each version, from 1 on.
var (
	helloFields  = []int{2}
	statusFields = []int{17, 22}
)

// The least numbers of bytes of a member and of a group in a status, and the most
// groups that are read of one.
const (
	leastPeer     = 3
	leastGroup    = 8
	maxToldGroups = 1 << 16
)

// hello writes the ids of initial members.
func (e *encoder) hello(initial []MemberID) {
	e.array(2)
	e.uint(helloVersion)
	e.array(len(initial))
	for _, id := range initial {
		e.member(id)
	}
}

// decodeHello reads what encoder.hello has written.
func decodeHello(b []byte) ([]MemberID, error) {
	d := newDecoder(b)
	d.record("hello", helloFields...)
	initial := make([]MemberID, d.list(maxMembers, 1))
	for i := range initial {
		initial[i] = MemberID(d.uint())
	}
	return initial, d.done()
}

// record reads the head of a record and its version, which may be at most the last
// one given, and must have as many fields as that version has.
func (d *decoder) record(what string, fields ...int) uint64 {
	n := d.list(maxRequests, 1)
	version := d.uint()
	if d.err == nil && version > uint64(len(fields)) {
		d.err = fmt.Errorf("%w: %s of version %d, this binary knows %d", errNewerFormat, what, version, len(fields))
	}
	if d.err == nil && (version == 0 || n != fields[version-1]) {
		d.fail("%s of version %d with %d fields", what, version, n)
	}
	return version
}

// statusRequest writes which version of the answer the caller reads. Binaries of
// version 1 ask with nothing, and do not look at what they are asked with.
func (e *encoder) statusRequest(version uint64) {
	e.array(1)
	e.uint(version)
}

// decodeStatusRequest returns the version in which to answer: the highest that both know.
func decodeStatusRequest(b []byte) (uint64, error) {
	if len(b) == 0 {
		return 1, nil
	}
	d := newDecoder(b)
	n := d.list(maxRequests, 1)
	version := d.uint()
	if d.err == nil && version >= statusVersion {
		return statusVersion, nil // a later one may have other fields behind
	}
	if n != 1 || version == 0 {
		d.fail("request for a status of version %d with %d fields", version, n)
	}
	return version, d.done()
}

func (e *encoder) status(st *Status, version uint64) {
	e.array(statusFields[version-1])
	e.uint(version)
	e.string(st.Ensemble)
	e.uint(uint64(st.EnsembleID))
	e.member(st.Member)
	e.kind(uint8(st.Role))
	e.member(st.Leader)
	e.uint(st.Term)
	e.bool(st.HasQuorum)
	e.uint(uint64(st.ZXID))
	e.array(len(st.Members))
	for i := range st.Members {
		e.memberState(&st.Members[i], version)
	}
	for _, n := range []int{st.Znodes, st.Sessions, st.Watches, st.MaxDataBytes} {
		e.int(int64(n))
	}
	e.uint(uint64(st.MinSessionTimeout.Milliseconds()))
	e.uint(uint64(st.MaxSessionTimeout.Milliseconds()))
	e.string(st.Health)
	if version < 2 {
		return
	}
	for _, v := range []FormatVersion{st.FormatVersion, st.OldestFormat, st.NewestFormat} {
		e.uint(uint64(v))
	}
	e.int(int64(st.Lag))
	e.array(len(st.Groups))
	for i := range st.Groups {
		e.groupStatus(&st.Groups[i])
	}
}

func (e *encoder) memberState(m *MemberState, version uint64) {
	if version == 1 {
		e.array(2)
		e.member(m.ID)
		e.string(m.Addr)
		return
	}
	e.array(4)
	e.member(m.ID)
	e.string(m.Addr)
	e.kind(uint8(m.Role))
	e.int(int64(m.SinceTouch))
}

func (e *encoder) groupStatus(g *GroupStatus) {
	e.array(7)
	e.uint(uint64(g.Group))
	e.kind(uint8(g.Role))
	e.member(g.Leader)
	e.uint(g.Term)
	e.bool(g.HasQuorum)
	e.uint(uint64(g.ZXID))
	e.int(int64(g.Lag))
}

// decodeStatus reads what encoder.status has written. What version 1 does not tell is
// negative, and there are no groups.
func decodeStatus(b []byte) (Status, error) {
	d := newDecoder(b)
	version := d.record("status", statusFields...)
	st := Status{
		Ensemble: d.string(), EnsembleID: EnsembleID(d.uint()), Member: MemberID(d.uint()), Role: Role(d.small(uint64(Observing))),
		Leader: MemberID(d.uint()), Term: d.uint(), HasQuorum: d.bool(), ZXID: ZXID(d.uint()), Lag: -1,
	}
	for range d.list(maxMembers, leastPeer) {
		st.Members = append(st.Members, d.memberState(version))
	}
	for _, p := range []*int{&st.Znodes, &st.Sessions, &st.Watches, &st.MaxDataBytes} {
		*p = int(d.int())
	}
	for _, p := range []*time.Duration{&st.MinSessionTimeout, &st.MaxSessionTimeout} {
		*p = time.Duration(d.small(uint64(maxSessionTimeout.Milliseconds()))) * time.Millisecond
	}
	st.Health = d.string()
	if version < 2 { // the format had no other version then
		st.OldestFormat, st.NewestFormat = 1, 1
		if st.EnsembleID != 0 {
			st.FormatVersion = 1
		}
		return st, d.done()
	}
	for _, p := range []*FormatVersion{&st.FormatVersion, &st.OldestFormat, &st.NewestFormat} {
		*p = FormatVersion(d.small(1 << 31))
	}
	st.Lag = time.Duration(d.int())
	for range d.list(maxToldGroups, leastGroup) {
		st.Groups = append(st.Groups, d.groupStatus())
	}
	return st, d.done()
}

func (d *decoder) memberState(version uint64) MemberState {
	if version == 1 {
		d.array(2)
		return MemberState{ID: MemberID(d.uint()), Addr: d.string(), SinceTouch: -1}
	}
	d.array(4)
	return MemberState{ID: MemberID(d.uint()), Addr: d.string(), Role: MemberRole(d.small(uint64(Observer))), SinceTouch: time.Duration(d.int())}
}

func (d *decoder) groupStatus() GroupStatus {
	d.array(7)
	return GroupStatus{
		Group: GroupID(d.uint()), Role: Role(d.small(uint64(Observing))), Leader: MemberID(d.uint()), Term: d.uint(),
		HasQuorum: d.bool(), ZXID: ZXID(d.uint()), Lag: time.Duration(d.int()),
	}
}
