package coord

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"
)

// A model says what the core must answer. It is written from the specification,
// with plain maps and no thought of speed, and shares nothing with the core but the
// types of requests and results.
type model struct {
	nodes    map[string]*modelNode
	sessions map[SessionID]*modelSession
	members  map[MemberID]*modelMember
	users    map[string]ZXID // since when each has its password
	rules    map[string]ACLTemplate
	zxid     ZXID
	timeMS   int64
	maxData  int
	ttl      bool
	format   FormatVersion

	enforce       bool // hard quotas
	maxEphemerals int  // of a session

	events []told      // of the batch at hand
	ended  []SessionID // of the batch at hand
	moved  []SessionID // of the batch at hand: got another owner or claim
}

type modelNode struct {
	data     []byte
	isNull   bool
	acl      []ACL
	owner    SessionID
	isEphem  bool
	reapable bool
	ttlMS    int64
	stat     Stat // but for the fields that follow
	creates  int32
	children map[string]bool
}

type modelSession struct {
	timeoutMS   int64
	password    [16]byte
	member      MemberID
	incarnation uint64
	generation  uint64
	silent      bool
	released    bool
	token       uint64 // what an expiry must name
	identities  []ID
	claims      []modelClaim
}

// A modelClaim is one wish to have a session. The model keeps them all; the last
// one counts.
type modelClaim struct {
	member                  MemberID
	incarnation, generation uint64
	timeoutMS               int64
	withdrawn               bool
}

type modelMember struct {
	observer            bool
	incarnation, number uint64
	touches             uint64
	touchedMS           int64
	low                 bool
}

func newModel(timeMS int64, maxData int, members map[MemberID]*modelMember) *model {
	m := &model{
		nodes: map[string]*modelNode{}, sessions: map[SessionID]*modelSession{}, members: members, users: map[string]ZXID{}, rules: map[string]ACLTemplate{},
		timeMS: timeMS, maxData: maxData, ttl: true, format: oldestFormat, enforce: true, maxEphemerals: 3,
	}
	world := func(p Perm) []ACL { return []ACL{{p, ID{"world", "anyone"}}} }
	for path, perms := range map[string]Perm{"/": 31, "/zookeeper": 31, "/zookeeper/quota": 31, "/zookeeper/config": 1} {
		m.nodes[path] = &modelNode{acl: world(perms), children: map[string]bool{}, data: []byte{}}
	}
	m.nodes["/"].children["zookeeper"] = true
	m.nodes["/zookeeper"].children["quota"] = true
	m.nodes["/zookeeper"].children["config"] = true
	m.nodes["/zookeeper/config"].stat.Aversion = -1
	return m
}

// copyNodes returns the nodes with memory of their own.
func (m *model) copyNodes() map[string]*modelNode {
	c := make(map[string]*modelNode, len(m.nodes))
	for p, n := range m.nodes {
		d := *n
		d.children = maps.Clone(n.children)
		c[p] = &d
	}
	return c
}

func (n *modelNode) visible() Stat {
	s := n.stat
	s.NumChildren = int32(len(n.children))
	s.Cversion = n.creates + (n.creates - s.NumChildren)
	s.DataLength = int32(len(n.data))
	if n.isEphem {
		s.EphemeralOwner = n.owner
	}
	return s
}

func modelParent(path string) string {
	p := path[:strings.LastIndex(path, "/")]
	if p == "" {
		return "/"
	}
	return p
}

// modelPathOK applies ZooKeeper's ten rules to the UTF-16 units of path.
func modelPathOK(path string) bool {
	units := utf16.Encode([]rune(path)) // what is not UTF-8 becomes U+FFFD
	if len(units) == 0 || units[0] != '/' || len(path) > 4096 {
		return false
	}
	if len(units) == 1 {
		return true
	}
	if units[len(units)-1] == '/' {
		return false
	}
	component := ""
	for _, u := range append(units[1:], '/') {
		switch {
		case u == '/':
			if component == "" || component == "." || component == ".." {
				return false
			}
			component = ""
			continue
		case u == 0, u >= 1 && u <= 0x1f, u >= 0x7f && u <= 0x9f, u >= 0xd800 && u <= 0xf8ff, u >= 0xfff0:
			return false
		case u == '.':
			component += "."
		default:
			component += "x"
		}
	}
	return true
}

// modelIDs are the identities of a caller: without a list it is code of a member.
func modelIDs(ids []ID) []ID {
	if ids == nil {
		return []ID{{"ensemble", "member"}}
	}
	return ids
}

func modelAllows(acl []ACL, ids []ID, want Perm) bool {
	ids = modelIDs(ids)
	for _, id := range ids {
		if id.Scheme == "super" {
			return true
		}
	}
	for _, a := range acl {
		if a.Perms&want == 0 {
			continue
		}
		if a.ID.Scheme == "world" || slices.Contains(ids, a.ID) {
			return true
		}
	}
	return false
}

// modelACL knows the lists that the generator makes: world, digest and auth.
func modelACL(list []ACL, ids []ID) ([]ACL, bool) {
	if len(list) == 0 {
		return nil, false
	}
	var out []ACL
	for _, a := range list {
		var add []ACL
		switch a.ID.Scheme {
		case "auth":
			for _, id := range modelIDs(ids) {
				if id.Scheme != "ip" && id.Scheme != "super" {
					add = append(add, ACL{a.Perms, id})
				}
			}
			if len(add) == 0 {
				return nil, false
			}
		case "world":
			if a.ID.ID != "anyone" {
				return nil, false
			}
			add = []ACL{a}
		default:
			add = []ACL{a}
		}
		for _, b := range add {
			if !slices.Contains(out, b) {
				out = append(out, b)
			}
		}
	}
	return out, true
}

func (m *model) spaceLow() bool {
	for _, x := range m.members {
		if x.low && !x.observer && m.timeMS-x.touchedMS <= 30_000 {
			return true
		}
	}
	return false
}

// batch returns the results of a batch and whether it was taken at all.
func (m *model) batch(id MemberID, b *batchCommand) ([]result, bool) {
	m.events, m.ended, m.moved = nil, nil, nil
	x := m.members[id]
	if x == nil || x.incarnation == 0 || b.incarnation != x.incarnation || b.number != x.number+1 {
		return nil, false
	}
	x.number = b.number
	if b.observed > m.zxid {
		if b.observed-m.zxid > 1<<41 {
			out := make([]result, len(b.requests))
			for i := range out {
				out[i] = result{code: -8, zxid: m.zxid}
			}
			return out, true
		}
		m.zxid = b.observed
	}
	if b.touch != nil {
		m.touch(id, x, b.touch)
	}
	out := make([]result, len(b.requests))
	for i := range b.requests {
		out[i] = m.request(id, &b.requests[i])
	}
	return out, true
}

func (m *model) touch(id MemberID, x *modelMember, t *touch) {
	if t.gapMS > 0 && t.markMS > m.timeMS {
		to := t.markMS
		for _, bound := range []int64{2 * t.gapMS, 60_000} {
			to = min(to, m.timeMS+bound)
		}
		m.timeMS = to
	}
	x.touches++
	x.touchedMS, x.low = m.timeMS, t.lowOnSpace
	for _, c := range t.silences {
		if s := m.sessions[c.session]; s != nil && s.member == id && s.incarnation == x.incarnation && s.generation == c.generation &&
			!s.released && s.silent != c.silent {
			s.silent, s.token = c.silent, x.touches
		}
	}
	for _, s := range m.sessions {
		if s.member == id && s.incarnation == x.incarnation && !s.silent {
			s.token = x.touches
		}
	}
}

func (m *model) hello(id MemberID, h *helloCommand) bool {
	x := m.members[id]
	if x == nil || x.incarnation != h.expected {
		return false
	}
	x.incarnation++
	x.number = 0
	for _, s := range m.sessions { // the number may move; it must not fall
		if s.member == id && !s.silent {
			s.token = x.touches
		}
	}
	return true
}

// speaksFor returns r with the identities that ACLs may name: those of users who are
// gone or have another password now are none.
func (m *model) speaksFor(r *request) *request {
	if r.identities == nil {
		return r
	}
	c := *r
	c.identities = []ID{}
	for _, id := range r.identities {
		if id.Scheme == "user" {
			parts := strings.Split(id.ID, ":")
			since, exists := m.users[parts[0]]
			if !exists || len(parts) > 1 && fmt.Sprintf("%#x", uint64(since)) != parts[1] {
				continue
			}
			id.ID = parts[0]
		}
		c.identities = append(c.identities, id)
	}
	return &c
}

func (m *model) request(id MemberID, r *request) result {
	switch r.kind {
	case requestWrite:
		m.zxid++
		return result{zxid: m.zxid, ops: []opResult{m.op(m.speaksFor(r), &r.ops[0])}}
	case requestMulti:
		m.zxid++
		return result{zxid: m.zxid, ops: m.multi(m.speaksFor(r))}
	case requestSetUser, requestRemoveUser:
		m.zxid++
		return result{zxid: m.zxid, code: m.user(r)}
	case requestSetTemplate:
		m.zxid++
		return result{zxid: m.zxid, code: m.setRule(r)}
	case requestSettings: // of which the generator changes two
		switch from, to := r.change.from, r.change.to; {
		case r.identities != nil:
			return result{zxid: m.zxid, code: -102}
		case int(from.maxDataBytes) != m.maxData || from.ttlNodes != m.ttl:
			return result{zxid: m.zxid, code: -103}
		case to.maxDataBytes < 1:
			return result{zxid: m.zxid, code: -8}
		default:
			m.maxData, m.ttl = int(to.maxDataBytes), to.ttlNodes
		}
	case requestActivate:
		m.zxid++
		if r.identities != nil {
			return result{zxid: m.zxid, code: -102}
		}
		if m.format < 2 && r.version >= 2 {
			m.tellMembers(r)
		}
		m.format = max(m.format, r.version)
	case requestOpenSession:
		m.zxid++
		timeout := min(max(r.timeoutMS, 1000), 60_000)
		x := m.members[id]
		m.sessions[SessionID(m.zxid)] = &modelSession{
			timeoutMS: timeout, password: r.password, member: id, incarnation: x.incarnation, generation: 1, token: x.touches, identities: r.identities,
		}
		return result{zxid: m.zxid, session: SessionID(m.zxid), timeoutMS: timeout}
	case requestCloseSession:
		m.zxid++
		if c := m.session(r); c != 0 {
			return result{zxid: m.zxid, code: c}
		}
		if r.session != 0 && (!r.yield || !m.grant(r.session)) { // a member's own request has no session to close
			m.end(r.session)
		}
	case requestExpire:
		for _, e := range r.expiries {
			if s := m.sessions[e.session]; s != nil && e.generation == s.generation && e.touched == s.token {
				m.zxid++
				if !m.grant(e.session) {
					m.end(e.session)
				}
			}
		}
	case requestResume:
		m.zxid++
		return m.resume(id, r)
	case requestRelease:
		m.zxid++
		if c := m.session(r); c != 0 {
			return result{zxid: m.zxid, code: c}
		}
		if s := m.sessions[r.session]; s != nil && !s.released && !m.grant(r.session) {
			s.released, s.silent = true, true
		}
	case requestWithdraw:
		m.zxid++
		if s := m.sessions[r.session]; s != nil && len(s.claims) > 0 {
			if c := &s.claims[len(s.claims)-1]; c.generation == r.claim && !c.withdrawn {
				c.withdrawn = true
				m.moved = append(m.moved, r.session)
			}
		}
	case requestReconfigure, requestJoin, requestSettle: // the generator asks for none, see TestConfiguration
	case requestReap:
		for _, c := range r.reaps {
			if n := m.nodes[c.path]; n != nil && n.reapable && len(n.children) == 0 && n.stat.Czxid == c.czxid &&
				n.stat.Mzxid == c.mzxid && n.visible().Cversion == c.cversion {
				m.zxid++
				m.drop(c.path)
			}
		}
	case requestMountStep, requestAdopt, requestEnter, requestForget:
		panic("the generator draws none")
	}
	return result{zxid: m.zxid}
}

func (m *model) user(r *request) Code {
	_, exists := m.users[r.user.name]
	switch {
	case r.identities != nil:
		return -102
	case r.kind == requestRemoveUser && !exists:
		return -1005
	case r.kind == requestRemoveUser:
		delete(m.users, r.user.name)
		return 0
	case !exists && m.spaceLow():
		return -1003
	}
	m.users[r.user.name] = m.zxid
	return 0
}

func (m *model) resume(id MemberID, r *request) result {
	s, x := m.sessions[r.session], m.members[id]
	if s == nil {
		return result{zxid: m.zxid, code: -112}
	}
	if s.password != r.password || (s.identities == nil) != (r.identities == nil) {
		return result{zxid: m.zxid, code: -115}
	}
	for _, id := range s.identities {
		if id.Scheme == "x509" && !slices.Contains(r.identities, id) {
			return result{zxid: m.zxid, code: -115}
		}
	}
	timeout := min(max(r.timeoutMS, 1000), 60_000)
	if r.timeoutMS == 0 || s.identities == nil { // who comes from outside may make it shorter
		timeout = max(timeout, s.timeoutMS)
	}
	s.claims = append(s.claims, modelClaim{
		member: id, incarnation: x.incarnation, generation: uint64(m.zxid), timeoutMS: timeout,
	})
	dead := m.members[s.member].incarnation > s.incarnation
	mine := s.member == id && s.incarnation == x.incarnation
	if (dead || mine || s.released || s.identities != nil) && m.grant(r.session) {
		return result{zxid: m.zxid, session: r.session, timeoutMS: s.timeoutMS}
	}
	m.moved = append(m.moved, r.session)
	return result{zxid: m.zxid}
}

// grant gives a session to whoever claimed it last, if that process still runs.
func (m *model) grant(id SessionID) bool {
	s := m.sessions[id]
	if s == nil || len(s.claims) == 0 {
		return false
	}
	c := s.claims[len(s.claims)-1]
	x := m.members[c.member]
	if c.withdrawn || x.incarnation != c.incarnation {
		return false
	}
	*s = modelSession{
		timeoutMS: c.timeoutMS, password: s.password, identities: s.identities,
		member: c.member, incarnation: c.incarnation, generation: c.generation, token: x.touches,
	}
	m.moved = append(m.moved, id)
	return true
}

func (m *model) end(id SessionID) {
	var paths []string
	for p, n := range m.nodes {
		if n.isEphem && n.owner == id {
			paths = append(paths, p)
		}
	}
	sort.Strings(paths)
	for _, p := range paths {
		m.drop(p)
	}
	delete(m.sessions, id)
	m.ended = append(m.ended, id)
}

func (m *model) drop(path string) {
	parent := m.nodes[modelParent(path)]
	delete(parent.children, path[strings.LastIndex(path, "/")+1:])
	parent.stat.Pzxid = max(parent.stat.Pzxid, m.zxid)
	delete(m.nodes, path)
	m.showUsage()
	m.events = append(m.events, told{NodeDeleted, path, m.zxid})
}

func (m *model) session(r *request) Code {
	if r.session == 0 {
		return 0
	}
	if m.sessions[r.session] == nil {
		return -112
	}
	if r.generation != m.sessions[r.session].generation {
		return -118
	}
	return 0
}

func (m *model) multi(r *request) []opResult {
	saved, events := m.copyNodes(), len(m.events)
	out := make([]opResult, len(r.ops))
	failed := -1
	for i := range r.ops {
		if out[i] = m.op(r, &r.ops[i]); out[i].code != 0 {
			failed = i
			break
		}
	}
	if failed < 0 {
		return out
	}
	m.nodes, m.events = saved, m.events[:events]
	for i := range out {
		switch {
		case i < failed:
			out[i] = opResult{}
		case i > failed:
			out[i] = opResult{code: -2}
		}
	}
	return out
}

func (m *model) op(r *request, o *op) opResult {
	if c := m.beforeAll(r, o); c != 0 {
		return opResult{code: c}
	}
	switch o.kind {
	case opCreate:
		return m.create(r, o)
	case opDelete:
		return opResult{code: m.delete(r, o)}
	case opSetACL:
		return m.setACL(r, o)
	case opSetData, opCheck, opCheckAbsent, opCheckChildren, opCheckFewerChildren, opAdd:
	}
	if !modelPathOK(o.path) {
		return opResult{code: -8}
	}
	n := m.nodes[o.path]
	if n == nil {
		if o.kind == opCheckAbsent {
			return opResult{}
		}
		return opResult{code: -101}
	}
	needs := map[opKind]Perm{opSetData: 2, opAdd: 2, opCheck: 1, opCheckAbsent: 1, opCheckChildren: 1, opCheckFewerChildren: 1}[o.kind]
	fits := (o.version == -1 || o.version == n.stat.Version) && (o.czxid == 0 || o.czxid == n.stat.Czxid)
	switch {
	case !modelAllows(n.acl, r.identities, needs), o.kind == opAdd && !modelAllows(n.acl, r.identities, 1):
		return opResult{code: -102}
	case o.kind == opCheckAbsent:
		return opResult{code: -110}
	case o.kind == opSetData && len(o.data) > len(n.data) && m.spaceLow():
		return opResult{code: -1003}
	}
	if o.kind == opSetData {
		if q := m.overQuota(o.path, 0, int64(len(o.data)-len(n.data))); q != "" {
			return opResult{code: -125, path: q}
		}
	}
	switch {
	case !fits, o.kind == opCheckChildren && int(o.count) != len(n.children),
		o.kind == opCheckFewerChildren && len(n.children) >= int(o.count):
		return opResult{code: -103}
	case o.kind == opSetData:
		m.set(r, n, o.path, o.data)
	case o.kind == opAdd:
		return m.add(r, n, o)
	}
	return opResult{stat: n.visible()}
}

func (m *model) beforeAll(r *request, o *op) Code {
	if o.kind == opCreate {
		isTTL := o.mode == 5 || o.mode == 6
		switch {
		case o.mode > 6:
			return -8
		case isTTL && !m.ttl:
			return -6
		case isTTL && (o.ttlMS < 1 || o.ttlMS > 1099511627775), !isTTL && o.ttlMS != 0:
			return -8
		}
	}
	if len(o.data) > m.maxData {
		return -1000
	}
	if c := m.session(r); c != 0 {
		return c
	}
	if badLimits(o) {
		return -8
	}
	if o.kind == opCreate && (o.mode == 1 || o.mode == 3) && r.session == 0 {
		return -112
	}
	return 0
}

func (m *model) set(r *request, n *modelNode, path string, data []byte) {
	n.data, n.isNull = data, data == nil
	if of, name := modelQuotaPath(path); name == "zookeeper_stats" {
		n.data, n.isNull = m.usageText(of), false
	}
	m.showUsage()
	if n.stat.Version++; n.stat.Version == -1 {
		n.stat.Version = 0
	}
	n.stat.Mzxid, n.stat.Mtime = m.zxid, m.clock(r)
	m.events = append(m.events, told{NodeDataChanged, path, m.zxid})
}

// tellMembers writes who the members are: those that have never run have no address.
func (m *model) tellMembers(r *request) {
	var text string
	for _, id := range slices.Sorted(maps.Keys(m.members)) {
		role := "participant"
		if m.members[id].observer {
			role = "observer"
		}
		if m.members[id].incarnation > 0 {
			text += fmt.Sprintf("server.%d=x:1:2:%s\n", id, role)
		}
	}
	n := m.nodes["/zookeeper/config"]
	m.set(r, n, "/zookeeper/config", []byte(text+"version=0"))
	n.stat.Version = -1
}

func (m *model) clock(r *request) int64 {
	switch {
	case r.timeMS < m.timeMS:
		return m.timeMS
	case r.timeMS > m.timeMS+5000:
		return m.timeMS + 5000
	}
	return r.timeMS
}

func (m *model) add(r *request, n *modelNode, o *op) opResult {
	old := int64(0)
	if len(n.data) > 0 {
		v, err := strconv.ParseInt(string(n.data), 10, 64)
		if err != nil {
			return opResult{code: -1001}
		}
		old = v
	}
	sum := float64(old) + float64(o.delta) // far from the edges, which the scripts walk along
	if math.Abs(sum) > 1e18 {
		return opResult{code: -1002}
	}
	text := fmt.Append(nil, old+o.delta)
	if q := m.overQuota(o.path, 0, int64(len(text)-len(n.data))); q != "" {
		return opResult{code: -125, path: q}
	}
	m.set(r, n, o.path, text)
	return opResult{stat: n.visible(), value: old + o.delta}
}

func (m *model) setACL(r *request, o *op) opResult {
	if !modelPathOK(o.path) {
		return opResult{code: -8}
	}
	acl, ok := modelACL(o.acl, r.identities)
	if !ok {
		return opResult{code: -114}
	}
	n := m.nodes[o.path]
	switch {
	case n == nil:
		return opResult{code: -101}
	case !modelAllows(n.acl, r.identities, 16):
		return opResult{code: -102}
	case o.version != -1 && o.version != n.stat.Aversion, o.czxid != 0 && o.czxid != n.stat.Czxid:
		return opResult{code: -103}
	}
	n.acl = acl
	if n.stat.Aversion++; n.stat.Aversion == -1 {
		n.stat.Aversion = 0
	}
	return opResult{stat: n.visible()}
}

func (m *model) delete(r *request, o *op) Code {
	switch o.path {
	case "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config":
		return -8
	}
	if !strings.Contains(o.path, "/") || strings.Contains(o.path, "\x00") {
		return -8
	}
	parent := m.nodes[modelParent(o.path)]
	if parent == nil {
		return -101
	}
	if !modelAllows(parent.acl, r.identities, 8) {
		return -102
	}
	n := m.nodes[o.path]
	switch {
	case n == nil:
		return -101
	case o.version != -1 && o.version != n.stat.Version, o.czxid != 0 && o.czxid != n.stat.Czxid:
		return -103
	case len(n.children) > 0:
		return -111
	}
	m.drop(o.path)
	return 0
}

// create makes a znode and what is missing above it, or nothing.
func (m *model) create(r *request, o *op) opResult {
	saved, events := m.copyNodes(), len(m.events)
	res := m.createAll(r, o)
	if res.code != 0 {
		m.nodes, m.events = saved, m.events[:events]
	}
	return res
}

func (m *model) createAll(r *request, o *op) opResult {
	if !strings.Contains(o.path, "/") || strings.Contains(o.path, "\x00") {
		return opResult{code: -8}
	}
	if _, ok := modelACL(o.acl, r.identities); !ok && o.acl != nil {
		return opResult{code: -114}
	}
	sequential := o.mode == 2 || o.mode == 3 || o.mode == 6
	from := o.path
	if sequential {
		from = modelParent(o.path)
	}
	acl, ok := m.newACL(r, o, from)
	if !ok {
		return opResult{code: -114}
	}
	if o.parents != 0 {
		if res := m.createParents(r, o, sequential); res.code != 0 {
			return res
		}
	}
	up := modelParent(o.path)
	parent := m.nodes[up]
	if parent == nil {
		return opResult{code: -101}
	}
	path := o.path
	if sequential {
		path = fmt.Sprintf("%s%010d", path, parent.creates)
	}
	if c := m.mayCreate(r, parent, path); c != 0 {
		return opResult{code: c}
	}
	if q := m.overQuota(path, 1, int64(len(o.data))); q != "" {
		return opResult{code: -125, path: q}
	}
	if m.tooManyEphemerals(r, o) {
		return opResult{code: -1006}
	}
	n := m.put(r, path, o.data, acl)
	n.isEphem = o.mode == 1 || o.mode == 3
	n.reapable = o.mode >= 4
	n.ttlMS = o.ttlMS
	if n.isEphem {
		n.owner = r.session
	}
	return opResult{path: path, stat: n.visible()}
}

// newACL returns what a znode gets that o makes, if the search for its template begins
// at path.
func (m *model) newACL(r *request, o *op, path string) ([]ACL, bool) {
	longest := ""
	for above := range m.rules {
		covers := above == "/" || path == above || strings.HasPrefix(path, above+"/")
		if covers && len(above) > len(longest) {
			longest = above
		}
	}
	rule, found := m.rules[longest]
	switch {
	case found && (rule.Enforced || o.acl == nil):
		return modelACL(rule.ACL, r.identities)
	case o.acl == nil:
		return []ACL{{31, ID{"world", "anyone"}}}, true
	}
	return modelACL(o.acl, r.identities)
}

func (m *model) setRule(r *request) Code {
	t := r.template
	bad := slices.ContainsFunc(t.list, func(a ACL) bool { return a.ID.Scheme == "world" && a.ID.ID != "anyone" })
	switch {
	case r.identities != nil:
		return -102
	case !modelPathOK(t.path):
		return -8
	case len(t.list) == 0:
		delete(m.rules, t.path)
		return 0
	case bad:
		return -114
	case m.spaceLow():
		return -1003
	}
	m.rules[t.path] = ACLTemplate{t.path, t.list, t.enforced}
	return 0
}

func (m *model) mayCreate(r *request, parent *modelNode, path string) Code {
	switch {
	case !modelAllows(parent.acl, r.identities, 4):
		return -102
	case !modelPathOK(path):
		return -8
	case m.nodes[path] != nil:
		return -110
	case parent.isEphem:
		return -108
	case m.spaceLow():
		return -1003
	}
	return 0
}

// createParents makes what is missing above o.path, or says why it must not.
func (m *model) createParents(r *request, o *op, sequential bool) opResult {
	whole := o.path
	if sequential {
		whole += "0"
	}
	if !modelPathOK(whole) {
		return opResult{code: -8}
	}
	var missing []string
	up := modelParent(whole)
	for m.nodes[up] == nil {
		missing = append(missing, up)
		up = modelParent(up)
	}
	if len(missing) == 0 {
		return opResult{}
	}
	last := missing[len(missing)-1]
	if c := m.mayCreate(r, m.nodes[up], last); c != 0 {
		return opResult{code: c}
	}
	acls := map[string][]ACL{}
	for _, p := range slices.Backward(missing) {
		acl, ok := m.newACL(r, o, p)
		switch {
		case !ok:
			return opResult{code: -114}
		case !modelAllows(acl, r.identities, 4):
			return opResult{code: -102}
		}
		acls[p] = acl
	}
	for _, p := range slices.Backward(missing) {
		if q := m.overQuota(p, 1, 0); q != "" {
			return opResult{code: -125, path: q}
		}
		m.put(r, p, nil, acls[p]).reapable = o.parents == containerParents
	}
	return opResult{}
}

func (m *model) put(r *request, path string, data []byte, acl []ACL) *modelNode {
	parent := m.nodes[modelParent(path)]
	parent.children[path[strings.LastIndex(path, "/")+1:]] = true
	parent.creates++
	parent.stat.Pzxid = m.zxid
	now := m.clock(r)
	n := &modelNode{data: data, isNull: data == nil, acl: acl, children: map[string]bool{}}
	n.stat = Stat{Czxid: m.zxid, Mzxid: m.zxid, Pzxid: m.zxid, Ctime: now, Mtime: now}
	m.nodes[path] = n
	if of, name := modelQuotaPath(path); name == "zookeeper_stats" {
		n.data, n.isNull = m.usageText(of), false
	}
	m.showUsage()
	m.events = append(m.events, told{NodeCreated, path, m.zxid})
	return n
}

// difference compares everything that clients can see with the core's state.
func (m *model) difference(s *state) string {
	if m.format != s.version {
		return fmt.Sprintf("version %d is in force, want %d", s.version, m.format)
	}
	if m.zxid != s.zxid || m.timeMS != s.timeMS {
		return fmt.Sprintf("zxid %v and time %d, want %v and %d", s.zxid, s.timeMS, m.zxid, m.timeMS)
	}
	if s.tree.nodes.len() != len(m.nodes) || s.sessions.byID.len() != len(m.sessions) {
		return fmt.Sprintf("%d znodes and %d sessions, want %d and %d", s.tree.nodes.len(), s.sessions.byID.len(), len(m.nodes), len(m.sessions))
	}
	owned := map[SessionID][]string{}
	for path, want := range m.nodes {
		got, ok := s.tree.find(path)
		if !ok {
			return "no znode " + path
		}
		if got.stat() != want.visible() {
			return fmt.Sprintf("%s has %+v, want %+v", path, got.stat(), want.visible())
		}
		if !bytes.Equal(got.data, want.data) || (got.data == nil) != want.isNull {
			return fmt.Sprintf("%s has data %q, want %q", path, got.data, want.data)
		}
		if !slices.Equal(got.acl.list, want.acl) || got.ttlMS != want.ttlMS {
			return fmt.Sprintf("%s has ACL %v and TTL %d, want %v and %d", path, got.acl.list, got.ttlMS, want.acl, want.ttlMS)
		}
		k, _ := keyOf(path)
		var names []string
		for name := range s.tree.childrenAfter(k, "") {
			names = append(names, name)
		}
		if wanted := slices.Sorted(maps.Keys(want.children)); !slices.Equal(names, wanted) {
			return fmt.Sprintf("%s has children %q, want %q", path, names, wanted)
		}
		if want.isEphem {
			owned[want.owner] = append(owned[want.owner], path)
		}
	}
	for id, want := range m.sessions {
		got, ok := s.sessions.get(id)
		if !ok || got.timeoutMS != want.timeoutMS || got.silent != want.silent || got.generation != want.generation ||
			got.released != want.released || got.owner != want.member || got.incarnation != want.incarnation || got.lastTouch(s.members.get(got.owner)) != want.token {
			return fmt.Sprintf("session %v is %+v, want %+v", id, got, want)
		}
		slices.Sort(owned[id])
		if paths := s.ephemerals(id, ""); !slices.Equal(paths, owned[id]) {
			return fmt.Sprintf("session %v owns %q, want %q", id, paths, owned[id])
		}
	}
	users := map[string]ZXID{}
	for u := range s.users.byName.all() {
		users[u.name] = u.since
	}
	if !maps.Equal(users, m.users) {
		return fmt.Sprintf("users %v, want %v", users, m.users)
	}
	if s.templates.byPath.len() != len(m.rules) {
		return fmt.Sprintf("%d templates, want %d", s.templates.byPath.len(), len(m.rules))
	}
	return m.subtrees(s)
}

// subtrees compares the number of descendants of every znode.
func (m *model) subtrees(s *state) string {
	for path := range m.nodes {
		want := 0
		for other := range m.nodes {
			if other != path && strings.HasPrefix(other, strings.TrimSuffix(path, "/")+"/") {
				want++
			}
		}
		k, _ := keyOf(path)
		if got := s.tree.countDescendants(k); got != want {
			return fmt.Sprintf("%s has %d descendants, want %d", path, got, want)
		}
	}
	return ""
}
