package coord

import (
	"errors"
	"hash/crc32"

	"coord/internal/invariants"
)

// errNewerFormat says that a command or snapshot was written by a newer binary.
var errNewerFormat = errors.New("format version is newer than this binary")

// errMalformed says that bytes are not what this binary writes.
var errMalformed = errors.New("malformed")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digestOf returns what tells two commands of the same number apart.
func digestOf(b []byte) uint64 {
	return uint64(crc32.Checksum(b, castagnoli))<<32 | uint64(uint32(len(b)))
}

// The least number of bytes that an element of each list takes: one for its own
// head and one for each field, and so on inside the fields.
const (
	leastMember   = 4
	leastRequest  = 7
	leastOp       = 6
	leastSilence  = 4
	leastExpiry   = 4
	leastReap     = 5
	leastID       = 3
	leastACL      = 4
	leastResult   = 6
	leastOpResult = 16
)

// command writes c in a version that has all that is in it.
func (e *encoder) command(c *command, version FormatVersion) {
	e.format = version
	e.array(5)
	e.uint(uint64(version))
	e.kind(uint8(c.kind))
	e.uint(uint64(c.group))
	e.member(c.member)
	switch c.kind {
	case commandInit:
		e.init(c.init)
	case commandHello:
		e.array(3)
		e.uint(c.hello.expected)
		e.uint(c.hello.nonce)
		e.string(c.hello.addr)
	case commandBatch:
		e.batch(c.batch)
	}
}

// decodeCommand reads one entry of the log. Everything it returns has its own
// memory. A command of a newer format satisfies errors.Is for errNewerFormat.
func decodeCommand(b []byte) (*command, error) {
	d := newDecoder(b)
	if len(b) > maxCommandBytes {
		d.fail("%d bytes, the limit is %d", len(b), maxCommandBytes)
	}
	n := d.list(maxRequests, 1)
	d.versioned(d.uint())
	if n != 5 {
		d.fail("command of version %d with %d fields", d.format, n)
	}
	c := &command{kind: commandKind(d.small(255)), group: GroupID(d.uint()), member: MemberID(d.uint())}
	switch c.kind {
	case commandInit:
		c.init = d.init()
	case commandHello:
		d.array(3)
		c.hello = &helloCommand{expected: d.uint(), nonce: d.uint(), addr: d.string()}
	case commandBatch:
		c.batch = d.batch()
	default:
		d.fail("command kind %d", c.kind)
	}
	return c, d.done()
}

func (e *encoder) init(c *initCommand) {
	e.array(initFields(c.version))
	e.uint(uint64(c.version))
	e.string(c.ensemble)
	e.uint(uint64(c.id))
	e.int(c.timeMS)
	e.settings(&c.settings)
	e.initialMembers(c.members)
	if c.version >= formatMounts {
		e.seed(c.seed)
	}
}

// initFields returns the number of fields of an init command.
func initFields(version FormatVersion) int {
	if version >= formatMounts {
		return 7
	}
	return 6
}

// initialMembers writes the members that a group starts with.
func (e *encoder) initialMembers(members []memberRecord) {
	e.array(len(members))
	for i := range members {
		m := &members[i]
		if e.format < membersChange {
			e.array(3)
		} else {
			e.array(4)
			e.string(m.clientAddr)
		}
		e.member(m.id)
		e.string(m.addr)
		e.kind(uint8(m.role))
	}
}

func (d *decoder) initialMembers() []memberRecord {
	members := make([]memberRecord, d.list(maxMembers, leastMember))
	for i := range members {
		m := &members[i]
		if d.format < membersChange {
			d.array(3)
		} else {
			d.array(4)
			m.clientAddr = d.string()
		}
		m.id, m.addr, m.role = MemberID(d.uint()), d.string(), MemberRole(d.small(uint64(Observer)))
		if m.id == 0 {
			d.fail("member id 0")
		}
	}
	return members
}

func (d *decoder) init() *initCommand {
	fields := d.list(initFields(formatVersion), 1)
	c := &initCommand{
		version: FormatVersion(d.small(1 << 31)), ensemble: d.string(), id: EnsembleID(d.uint()), timeMS: d.int(), settings: d.settings(),
	}
	switch {
	case c.version > formatVersion:
		d.newer(uint64(c.version))
	case c.version != d.format:
		d.fail("initial version %d in a command of version %d", c.version, d.format)
	}
	c.members = d.initialMembers()
	if d.err == nil && fields != initFields(c.version) {
		d.fail("init command of version %d with %d fields", c.version, fields)
	}
	if c.version >= formatMounts {
		c.seed = d.seed()
	}
	return c
}

func (e *encoder) settings(s *settings) {
	e.array(9)
	e.int(s.maxDataBytes)
	e.int(s.minSessionTimeoutMS)
	e.int(s.maxSessionTimeoutMS)
	e.bool(s.ttlNodes)
	e.bool(s.enforceQuotas)
	e.int(s.maxEphemerals)
	e.acl(s.defaultACL)
	e.string(s.superDigest)
	e.array(len(s.schemes))
	for _, scheme := range s.schemes {
		e.string(scheme)
	}
}

func (d *decoder) settings() settings {
	d.array(9)
	s := settings{
		maxDataBytes: d.int(), minSessionTimeoutMS: d.int(), maxSessionTimeoutMS: d.int(), ttlNodes: d.bool(),
		enforceQuotas: d.bool(), maxEphemerals: d.int(),
		defaultACL: d.acl(), superDigest: d.string(),
	}
	s.schemes = make([]string, d.list(maxSchemes, 1))
	for i := range s.schemes {
		s.schemes[i] = d.string()
	}
	return s
}

func (d *decoder) settingsChange() *settingsChange {
	d.array(2)
	return &settingsChange{from: d.settings(), to: d.settings()}
}

func (e *encoder) batch(b *batchCommand) {
	e.array(5)
	e.uint(b.incarnation)
	e.uint(b.number)
	e.uint(uint64(b.observed))
	if b.touch == nil {
		e.null()
	} else {
		e.touch(b.touch)
	}
	e.array(len(b.requests))
	for i := range b.requests {
		e.request(&b.requests[i])
	}
}

func (d *decoder) batch() *batchCommand {
	d.array(5)
	b := &batchCommand{incarnation: d.uint(), number: d.uint(), observed: ZXID(d.uint())}
	if d.isNil() {
		d.null()
	} else {
		b.touch = d.touch()
	}
	b.requests = make([]request, d.list(maxRequests, leastRequest))
	single := make([]op, len(b.requests)) // most requests have one: all in one allocation
	for i := range b.requests {
		d.request(&b.requests[i], single[i:i+1:i+1])
		if d.err != nil {
			break
		}
	}
	return b
}

func (e *encoder) touch(t *touch) {
	e.array(5)
	e.int(t.markMS)
	e.int(t.gapMS)
	e.uint(t.freeBytes)
	e.bool(t.lowOnSpace)
	e.array(len(t.silences))
	for _, s := range t.silences {
		e.array(3)
		e.uint(uint64(s.session))
		e.uint(s.generation)
		e.bool(s.silent)
	}
}

func (d *decoder) touch() *touch {
	d.array(5)
	t := &touch{markMS: d.int(), gapMS: d.int(), freeBytes: d.uint(), lowOnSpace: d.bool()}
	if n := d.list(maxSilences, leastSilence); n > 0 {
		t.silences = make([]silence, n)
	}
	for i := range t.silences {
		d.array(3)
		t.silences[i] = silence{SessionID(d.uint()), d.uint(), d.bool()}
	}
	return t
}

func (e *encoder) request(r *request) {
	invariants.Assert(r.needs() <= e.format, "request of kind %d in version %d, which has it not", r.kind, e.format)
	e.array(6)
	e.kind(uint8(r.kind))
	e.uint(uint64(r.session))
	e.uint(r.generation)
	e.ids(r.identities)
	e.int(r.timeMS)
	switch r.kind {
	case requestWrite:
		e.op(&r.ops[0])
	case requestMulti:
		e.array(len(r.ops))
		for i := range r.ops {
			e.op(&r.ops[i])
		}
	case requestOpenSession, requestResume:
		e.array(2)
		e.int(r.timeoutMS)
		e.bytes(r.password[:])
	case requestCloseSession:
		e.bool(r.yield)
	case requestRelease:
		e.null()
	case requestWithdraw:
		e.uint(r.claim)
	case requestExpire:
		e.expiries(r.expiries)
	case requestReap:
		e.reaps(r.reaps)
	case requestSetUser, requestRemoveUser, requestSetTemplate, requestSettings, requestReconfigure, requestJoin, requestSettle, requestActivate,
		requestMountStep, requestAdopt, requestEnter, requestForget:
		e.governing(r)
	}
}

// governing writes what is in a request that concerns the ensemble as a whole.
func (e *encoder) governing(r *request) {
	switch r.kind { //nolint:exhaustive // request has the others
	case requestSetUser:
		e.array(2)
		e.string(r.user.name)
		e.string(r.user.hash.reveal())
	case requestRemoveUser:
		e.string(r.user.name)
	case requestSetTemplate:
		e.template(r.template)
	case requestSettings:
		e.array(2)
		e.settings(&r.change.from)
		e.settings(&r.change.to)
	case requestActivate:
		e.uint(uint64(r.version))
	case requestReconfigure:
		e.reconfiguration(r.reconfiguration)
	case requestJoin:
		e.joining(r.joining)
	case requestSettle:
		e.uint(uint64(r.settled))
	case requestMountStep:
		e.mountStep(r.step)
	case requestAdopt:
		e.decree(r.decree)
	case requestEnter:
		e.int(r.timeoutMS)
	case requestForget:
		e.sessionIDs(r.forgotten)
	}
}

// activation reads the version to activate. It is in the first command of that version, so
// that who does not know it stops here.
func (d *decoder) activation() FormatVersion {
	v := FormatVersion(d.uint())
	if v > d.format {
		d.fail("version %d to activate in a command of version %d", v, d.format)
	}
	return v
}

// ops reads the operations of a multi.
func (d *decoder) ops() []op {
	ops := make([]op, d.list(maxOpsPerMulti, leastOp))
	for i := range ops {
		d.op(&ops[i])
		if d.err != nil {
			break
		}
	}
	return ops
}

// request reads a request. single is the place for the operation of one that has
// just one.
func (d *decoder) request(r *request, single []op) {
	d.array(6)
	r.kind = requestKind(d.small(255))
	if since := r.kind.since(); since > d.format {
		d.fail("request kind %d in version %d", r.kind, d.format)
	}
	r.session = SessionID(d.uint())
	r.generation = d.uint()
	r.identities = d.ids()
	r.timeMS = d.int()
	switch r.kind {
	case requestWrite:
		r.ops = single
		d.op(&r.ops[0])
	case requestMulti:
		r.ops = d.ops()
	case requestOpenSession, requestResume:
		d.array(2)
		r.timeoutMS = d.int()
		d.password(&r.password)
	case requestCloseSession:
		r.yield = d.bool()
	case requestRelease:
		d.null()
	case requestWithdraw:
		r.claim = d.uint()
	case requestExpire:
		r.expiries = d.expiries()
	case requestReap:
		r.reaps = d.reaps()
	case requestSetUser, requestRemoveUser, requestSetTemplate, requestSettings, requestReconfigure, requestJoin, requestSettle, requestActivate,
		requestMountStep, requestAdopt, requestEnter, requestForget:
		d.governing(r)
	default:
		d.fail("request kind %d", r.kind)
	}
}

// governing reads what encoder.governing has written.
func (d *decoder) governing(r *request) {
	switch r.kind { //nolint:exhaustive // request has the others
	case requestSetUser:
		d.array(2)
		r.user = &user{name: d.string(), hash: conceal(d.string())}
	case requestRemoveUser:
		r.user = &user{name: d.string()}
	case requestSetTemplate:
		r.template = d.template()
	case requestSettings:
		r.change = d.settingsChange()
	case requestReconfigure:
		r.reconfiguration = d.reconfiguration()
	case requestJoin:
		r.joining = d.joining()
	case requestSettle:
		r.settled = ZXID(d.uint())
	case requestActivate:
		r.version = d.activation()
	case requestMountStep:
		r.step = d.mountStep()
	case requestAdopt:
		r.decree = d.decree()
	case requestEnter:
		r.timeoutMS = d.int()
	case requestForget:
		r.forgotten = d.sessionIDs(maxExpiries)
	}
}

func (e *encoder) expiries(list []expiry) {
	e.array(len(list))
	for _, x := range list {
		e.array(3)
		e.uint(uint64(x.session))
		e.uint(x.generation)
		e.uint(x.touched)
	}
}

func (d *decoder) expiries() []expiry {
	list := make([]expiry, d.list(maxExpiries, leastExpiry))
	for i := range list {
		d.array(3)
		list[i] = expiry{SessionID(d.uint()), d.uint(), d.uint()}
	}
	return list
}

func (e *encoder) reaps(list []reap) {
	e.array(len(list))
	for _, x := range list {
		e.array(4)
		e.string(x.path)
		e.uint(uint64(x.czxid))
		e.uint(uint64(x.mzxid))
		e.int(int64(x.cversion))
	}
}

func (d *decoder) reaps() []reap {
	list := make([]reap, d.list(maxExpiries, leastReap))
	for i := range list {
		d.array(4)
		list[i] = reap{d.string(), ZXID(d.uint()), ZXID(d.uint()), d.int32()}
	}
	return list
}

func (e *encoder) template(t *template) {
	e.array(3)
	e.string(t.path)
	e.acl(t.list)
	e.bool(t.enforced)
}

func (d *decoder) template() *template {
	d.array(3)
	return &template{path: d.string(), list: d.acl(), enforced: d.bool()}
}

func (d *decoder) password(p *[16]byte) {
	if b := d.bytes(); len(b) == len(p) {
		copy(p[:], b)
	} else {
		d.fail("password of %d bytes", len(b))
	}
}

func (e *encoder) ids(ids []ID) {
	if ids == nil {
		e.null()
		return
	}
	e.array(len(ids))
	for _, id := range ids {
		e.array(2)
		e.string(id.Scheme)
		e.string(id.ID)
	}
}

func (d *decoder) ids() []ID {
	n := d.arrayLen(maxIdentities, leastID)
	if n < 0 || d.err != nil {
		return nil
	}
	ids := make([]ID, n)
	for i := range ids {
		d.array(2)
		ids[i] = ID{d.string(), d.string()}
	}
	return ids
}

func (e *encoder) op(o *op) {
	e.array(5)
	e.kind(uint8(o.kind))
	e.string(o.path)
	e.int(int64(o.version))
	e.uint(uint64(o.czxid))
	switch o.kind {
	case opCreate:
		e.array(5)
		e.bytes(o.data)
		e.kind(uint8(o.mode))
		e.int(o.ttlMS)
		e.acl(o.acl)
		e.kind(uint8(o.parents))
	case opSetData:
		e.bytes(o.data)
	case opSetACL:
		e.acl(o.acl)
	case opAdd:
		e.int(o.delta)
	case opCheckChildren, opCheckFewerChildren:
		e.int(int64(o.count))
	case opDelete, opCheck, opCheckAbsent:
		e.null()
	}
}

func (d *decoder) op(o *op) {
	d.array(5)
	o.kind = opKind(d.small(255))
	if since := o.kind.since(); since > d.format {
		d.fail("operation kind %d in version %d", o.kind, d.format)
	}
	o.path = d.string()
	o.version = d.int32()
	o.czxid = ZXID(d.uint())
	switch o.kind {
	case opCreate:
		d.array(5)
		o.data = d.bytes()
		o.mode = CreateMode(d.small(255))
		o.ttlMS = d.int()
		o.acl = d.acl()
		o.parents = parentsMode(d.small(uint64(containerParents)))
	case opSetData:
		o.data = d.bytes()
	case opSetACL:
		o.acl = d.acl()
	case opAdd:
		o.delta = d.int()
	case opCheckChildren, opCheckFewerChildren:
		o.count = d.int32()
	case opDelete, opCheck, opCheckAbsent:
		d.null()
	default:
		d.fail("operation kind %d", o.kind)
	}
}

func (e *encoder) acl(list []ACL) {
	if list == nil {
		e.null()
		return
	}
	e.array(len(list))
	for _, a := range list {
		e.array(3)
		e.uint(uint64(a.Perms))
		e.string(a.ID.Scheme)
		e.string(a.ID.ID)
	}
}

func (d *decoder) acl() []ACL {
	n := d.arrayLen(maxACLEntries, leastACL)
	if n < 0 || d.err != nil {
		return nil
	}
	list := make([]ACL, n)
	for i := range list {
		d.array(3)
		list[i] = ACL{Perm(d.small(1<<32 - 1)), ID{d.string(), d.string()}}
	}
	return list
}

func (e *encoder) result(r *result) {
	e.array(5)
	e.int(int64(r.code))
	e.uint(uint64(r.zxid))
	e.uint(uint64(r.session))
	e.int(r.timeoutMS)
	e.array(len(r.ops))
	for i := range r.ops {
		o := &r.ops[i]
		e.array(4)
		e.int(int64(o.code))
		e.string(o.path)
		e.int(o.value)
		e.stat(&o.stat)
	}
}

func (d *decoder) result(r *result) {
	d.array(5)
	r.code = Code(d.int32())
	r.zxid = ZXID(d.uint())
	r.session = SessionID(d.uint())
	r.timeoutMS = d.int()
	if n := d.list(maxOpsPerMulti, leastOpResult); n > 0 {
		r.ops = make([]opResult, n)
	}
	for i := range r.ops {
		o := &r.ops[i]
		d.array(4)
		o.code = Code(d.int32())
		o.path = d.string()
		o.value = d.int()
		d.stat(&o.stat)
	}
}

func (e *encoder) stat(s *Stat) {
	e.array(11)
	e.uint(uint64(s.Czxid))
	e.uint(uint64(s.Mzxid))
	e.uint(uint64(s.Pzxid))
	e.int(s.Ctime)
	e.int(s.Mtime)
	e.int(int64(s.Version))
	e.int(int64(s.Cversion))
	e.int(int64(s.Aversion))
	e.uint(uint64(s.EphemeralOwner))
	e.int(int64(s.DataLength))
	e.int(int64(s.NumChildren))
}

func (d *decoder) stat(s *Stat) {
	d.array(11)
	*s = Stat{
		Czxid: ZXID(d.uint()), Mzxid: ZXID(d.uint()), Pzxid: ZXID(d.uint()),
		Ctime: d.int(), Mtime: d.int(),
		Version: d.int32(), Cversion: d.int32(), Aversion: d.int32(),
		EphemeralOwner: SessionID(d.uint()), DataLength: d.int32(), NumChildren: d.int32(),
	}
}
