package coord

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// A snapshot is a sequence of frames, each with its own checksum:
//
//	length u32 | crc32c u32 | payload (msgpack array: kind, fields…)
//
// in the order head, members, ACLs, sessions, znodes, users, templates, tombstones, end; all
// but head and end may come in any number. docs/FORMAT.md has the fields. Every frame is checked
// before it is decoded, and the end frame, which counts everything and sums the
// checksums, before the state is used.
const (
	snapshotMagic = "coordsnp"

	frameHead     = 1
	frameMember   = 2
	frameACL      = 3
	frameSessions = 4
	frameNodes    = 5
	frameUsers    = 7
	frameTemplate = 8

	// From formatMounts on.
	frameTombstones = 20

	frameEnd = 255 // kinds rise, and there will be others

	leastSession = 28 // bytes of an element
	leastZnode   = 16
	leastUser    = 4

	frameTarget   = 256 << 10 // a frame of many elements is closed at this size, in bytes
	maxFrameBytes = maxCommandBytes + 1<<20

	snapshotBuffer = 64 << 10 // between frames and the file
)

// errStopped is returned when the host does not want the snapshot any more.
var errStopped = errors.New("stopped")

// A snapshotWriter writes the frames of one frozen state.
type snapshotWriter struct {
	w      *bufio.Writer
	enc    *encoder
	stop   <-chan struct{}
	sum    uint32 // over the checksums of all frames
	aclIDs map[*aclEntry]uint64
	counts snapshotCounts
}

type snapshotCounts struct{ members, acls, sessions, nodes, users, templates, tombstones uint64 }

// headFields and endFields return the number of fields of these frames.
func headFields(version FormatVersion) int {
	if version >= formatMounts {
		return 9
	}
	return 8
}

func endFields(version FormatVersion) int {
	if version >= formatMounts {
		return 9
	}
	return 8
}

// writeSnapshot writes s, which must be frozen. It gives up with errStopped
// soon after stop is closed.
func writeSnapshot(s *state, out io.Writer, stop <-chan struct{}) error {
	w := &snapshotWriter{w: bufio.NewWriterSize(out, snapshotBuffer), enc: newEncoder(), stop: stop, aclIDs: map[*aclEntry]uint64{}}
	if _, err := w.w.WriteString(snapshotMagic); err != nil {
		return err
	}
	w.enc.format = s.format()
	steps := []func(*state) error{w.head, w.members, w.acls, w.sessions, w.nodes, w.users, w.templates, w.tombstones, w.end}
	for _, step := range steps {
		if err := step(s); err != nil {
			return err
		}
	}
	return w.w.Flush()
}

// frame writes what is in the encoder.
func (w *snapshotWriter) frame() error {
	select {
	case <-w.stop:
		return errStopped
	default:
	}
	payload := w.enc.buf.Bytes()
	if len(payload) > maxFrameBytes {
		return fmt.Errorf("coord: snapshot: frame of %d bytes, which no member would read; the limit is %d", len(payload), maxFrameBytes)
	}
	sum := crc32.Checksum(payload, castagnoli)
	var head [8]byte
	binary.BigEndian.PutUint32(head[:4], uint32(len(payload)))
	binary.BigEndian.PutUint32(head[4:], sum)
	w.sum = crc32.Update(w.sum, castagnoli, head[4:])
	if _, err := w.w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.w.Write(payload)
	w.enc.buf.Reset()
	return err
}

func (w *snapshotWriter) head(s *state) error {
	e := w.enc
	e.array(headFields(e.format))
	e.kind(frameHead)
	e.uint(uint64(e.format))
	e.uint(uint64(s.group))
	e.string(s.ensemble)
	e.uint(uint64(s.id))
	e.uint(uint64(s.zxid))
	e.int(s.timeMS)
	if e.format < membersChange {
		e.array(2)
	} else {
		e.array(3)
	}
	e.uint(uint64(s.version))
	e.settings(&s.settings)
	if e.format >= membersChange {
		e.uint(uint64(s.configured))
	}
	if e.format >= formatMounts {
		e.mounting(s)
	}
	return w.frame()
}

func (w *snapshotWriter) members(s *state) error {
	for _, m := range s.members {
		e := w.enc
		e.array(2)
		e.kind(frameMember)
		e.memberRecord(m)
		w.counts.members++
		if err := w.frame(); err != nil {
			return err
		}
	}
	return nil
}

// acls writes the lists that znodes refer to, numbered in the order in which the
// tree meets them: what else the table holds is no part of the state.
func (w *snapshotWriter) acls(s *state) error {
	for it := range s.tree.nodes.all() {
		acl := it.node.acl
		if _, ok := w.aclIDs[acl]; ok {
			continue
		}
		w.aclIDs[acl] = w.counts.acls
		w.counts.acls++
		w.enc.array(2)
		w.enc.kind(frameACL)
		w.enc.acl(acl.list)
		if err := w.frame(); err != nil {
			return err
		}
	}
	return nil
}

func (w *snapshotWriter) sessions(s *state) error {
	list := newFrameList(w, frameSessions)
	for ses := range s.sessions.byID.all() {
		w.counts.sessions++
		if err := list.add(func(e *encoder) { e.session(ses) }); err != nil {
			return err
		}
	}
	return list.flush()
}

func (w *snapshotWriter) nodes(s *state) error {
	list := newFrameList(w, frameNodes)
	for it := range s.tree.nodes.all() {
		w.counts.nodes++
		if err := list.add(func(e *encoder) { e.znode(it.key, it.node, w.aclIDs[it.node.acl]) }); err != nil {
			return err
		}
	}
	return list.flush()
}

func (w *snapshotWriter) users(s *state) error {
	list := newFrameList(w, frameUsers)
	for u := range s.users.byName.all() {
		w.counts.users++
		if err := list.add(func(e *encoder) { e.user(u) }); err != nil {
			return err
		}
	}
	return list.flush()
}

func (w *snapshotWriter) templates(s *state) error {
	for it := range s.templates.byPath.all() {
		w.counts.templates++
		w.enc.array(2)
		w.enc.kind(frameTemplate)
		w.enc.template(it.t)
		if err := w.frame(); err != nil {
			return err
		}
	}
	return nil
}

func (w *snapshotWriter) tombstones(s *state) error {
	list := newFrameList(w, frameTombstones)
	for id := range s.sessions.tombstones.all() {
		w.counts.tombstones++
		if err := list.add(func(e *encoder) { e.uint(uint64(id)) }); err != nil {
			return err
		}
	}
	return list.flush()
}

func (w *snapshotWriter) end(*state) error {
	e := w.enc
	e.array(endFields(e.format))
	e.kind(frameEnd)
	e.uint(w.counts.members)
	e.uint(w.counts.acls)
	e.uint(w.counts.sessions)
	e.uint(w.counts.nodes)
	e.uint(w.counts.users)
	e.uint(w.counts.templates)
	if e.format >= formatMounts {
		e.uint(w.counts.tombstones)
	}
	e.uint(uint64(w.sum))
	return w.frame()
}

// A frameList gathers elements until they fill a frame: the number of elements
// comes first in the frame and is known only then.
type frameList struct {
	w        *snapshotWriter
	kind     uint8
	elements *encoder
	n        int
}

func newFrameList(w *snapshotWriter, kind uint8) *frameList {
	elements := newEncoder()
	elements.format = w.enc.format
	return &frameList{w: w, kind: kind, elements: elements}
}

func (l *frameList) add(encode func(*encoder)) error {
	encode(l.elements)
	l.n++
	if l.elements.buf.Len() < frameTarget {
		return nil
	}
	return l.flush()
}

func (l *frameList) flush() error {
	if l.n == 0 {
		return nil
	}
	e := l.w.enc
	e.array(2)
	e.kind(l.kind)
	e.array(l.n)
	e.buf.Write(l.elements.buf.Bytes())
	l.elements.buf.Reset()
	l.n = 0
	return l.w.frame()
}

func (e *encoder) memberRecord(m *memberRecord) {
	if e.format < membersChange {
		e.array(14)
	} else {
		e.array(18)
		e.string(m.clientAddr)
		e.string(m.directory)
		e.bool(m.unsettled)
		e.bool(m.passing)
	}
	e.member(m.id)
	e.string(m.addr)
	e.kind(uint8(m.role))
	e.bool(m.removed)
	e.uint(m.incarnation)
	e.uint(m.nonce)
	e.uint(m.number)
	e.uint(m.digest)
	e.uint(m.touches)
	e.uint(m.helloTouches)
	e.int(m.touchedMS)
	e.uint(m.freeBytes)
	e.bool(m.lowOnSpace)
	e.array(len(m.results))
	for i := range m.results {
		e.result(&m.results[i])
	}
}

func (d *decoder) memberRecord() *memberRecord {
	m := &memberRecord{}
	if d.format < membersChange {
		d.array(14)
	} else {
		d.array(18)
		m.clientAddr, m.directory, m.unsettled, m.passing = d.string(), d.string(), d.bool(), d.bool()
	}
	m.id, m.addr, m.role, m.removed = MemberID(d.uint()), d.string(), MemberRole(d.small(uint64(Observer))), d.bool()
	m.incarnation, m.nonce, m.number, m.digest = d.uint(), d.uint(), d.uint(), d.uint()
	m.touches, m.helloTouches, m.touchedMS, m.freeBytes, m.lowOnSpace = d.uint(), d.uint(), d.int(), d.uint(), d.bool()
	if n := d.list(maxRequests, leastResult); n > 0 {
		m.results = make([]result, n)
	}
	for i := range m.results {
		d.result(&m.results[i])
		if d.err != nil {
			break
		}
	}
	return m
}

func (e *encoder) session(s *session) {
	e.array(11)
	e.uint(uint64(s.id))
	e.int(s.timeoutMS)
	e.bytes(s.password[:])
	e.ids(s.identities)
	e.member(s.owner)
	e.uint(s.incarnation)
	e.uint(s.generation)
	e.bool(s.silent)
	e.uint(s.touched)
	e.bool(s.released)
	if s.claim == nil {
		e.null()
		return
	}
	e.array(4)
	e.member(s.claim.member)
	e.uint(s.claim.incarnation)
	e.uint(s.claim.generation)
	e.int(s.claim.timeoutMS)
}

func (d *decoder) session() *session {
	d.array(11)
	s := &session{id: SessionID(d.uint()), timeoutMS: d.int()}
	d.password(&s.password)
	s.identities = d.ids()
	s.owner = MemberID(d.uint())
	s.incarnation, s.generation, s.silent, s.touched, s.released = d.uint(), d.uint(), d.bool(), d.uint(), d.bool()
	if d.isNil() {
		d.null()
		return s
	}
	d.array(4)
	s.claim = &claim{member: MemberID(d.uint()), incarnation: d.uint(), generation: d.uint(), timeoutMS: d.int()}
	return s
}

func (e *encoder) znode(k treeKey, n *znode, acl uint64) {
	e.array(15)
	e.string(string(k))
	e.bytes(n.data)
	e.uint(acl)
	e.kind(uint8(n.kind))
	e.uint(uint64(n.owner))
	e.int(n.ttlMS)
	e.uint(uint64(n.czxid))
	e.uint(uint64(n.mzxid))
	e.uint(uint64(n.pzxid))
	e.int(n.ctimeMS)
	e.int(n.mtimeMS)
	e.int(int64(n.version))
	e.int(int64(n.aversion))
	e.int(int64(n.creates))
	e.int(int64(n.children))
}

func (d *decoder) znode(acls []*aclEntry) treeItem {
	d.array(15)
	k := treeKey(d.string())
	n := &znode{data: d.bytes()}
	if id := d.uint(); id < uint64(len(acls)) {
		n.acl = acls[id]
	} else {
		d.fail("znode %q refers to ACL %d of %d", k.path(), id, len(acls))
	}
	n.kind = CreateMode(d.small(uint64(PersistentTTL)))
	n.owner, n.ttlMS = SessionID(d.uint()), d.int()
	n.czxid, n.mzxid, n.pzxid = ZXID(d.uint()), ZXID(d.uint()), ZXID(d.uint())
	n.ctimeMS, n.mtimeMS = d.int(), d.int()
	n.version, n.aversion, n.creates, n.children = d.int32(), d.int32(), d.int32(), d.int32()
	return treeItem{k, n}
}

func (e *encoder) user(u *user) {
	e.array(3)
	e.string(u.name)
	e.string(u.hash.reveal())
	e.uint(uint64(u.since))
}

func (d *decoder) user() *user {
	d.array(3)
	return &user{name: d.string(), hash: conceal(d.string()), since: ZXID(d.uint())}
}

// A snapshotReader builds a state from frames.
type snapshotReader struct {
	r      *bufio.Reader
	stop   <-chan struct{}
	buf    bytes.Buffer
	sum    uint32
	s      *state
	acls   []*aclEntry
	counts snapshotCounts
	format FormatVersion
	family familyCheck
}

// readSnapshot reads what writeSnapshot wrote. It returns a state only if every
// checksum, count and order is right and every znode has its parent.
func readSnapshot(group GroupID, in io.Reader, stop <-chan struct{}) (*state, error) {
	r := &snapshotReader{r: bufio.NewReaderSize(in, snapshotBuffer), stop: stop, s: newState(group)}
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r.r, magic); err != nil || string(magic) != snapshotMagic {
		return nil, fmt.Errorf("coord: snapshot: %w: it does not start with %q", errMalformed, snapshotMagic)
	}
	last := uint64(0)
	for last != frameEnd {
		kind, err := r.frame(last)
		if err != nil {
			return nil, fmt.Errorf("coord: snapshot: %w", err)
		}
		last = kind
	}
	if _, err := r.r.ReadByte(); err == nil {
		return nil, fmt.Errorf("coord: snapshot: %w: bytes behind the end", errMalformed)
	} else if err != io.EOF {
		return nil, fmt.Errorf("coord: snapshot: %w", err)
	}
	return r.s, nil
}

// frame reads, checks and decodes one frame, and returns its kind.
func (r *snapshotReader) frame(last uint64) (uint64, error) {
	select {
	case <-r.stop:
		return 0, errStopped
	default:
	}
	var head [8]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, fmt.Errorf("%w: it ends before its end frame: %w", errMalformed, err)
	}
	n := int64(binary.BigEndian.Uint32(head[:4]))
	if n > maxFrameBytes {
		return 0, fmt.Errorf("%w: frame of %d bytes, the limit is %d", errMalformed, n, maxFrameBytes)
	}
	r.buf.Reset()
	// CopyN grows the buffer with what is really there, whatever was announced.
	if _, err := io.CopyN(&r.buf, r.r, n); err != nil {
		return 0, fmt.Errorf("%w: frame cut short: %w", errMalformed, err)
	}
	if got, want := crc32.Checksum(r.buf.Bytes(), castagnoli), binary.BigEndian.Uint32(head[4:]); got != want {
		return 0, fmt.Errorf("%w: frame checksum is %08x, want %08x", errMalformed, got, want)
	}
	before := r.sum
	r.sum = crc32.Update(r.sum, castagnoli, head[4:])
	d := newDecoder(r.buf.Bytes())
	d.format = r.format
	return r.decode(d, last, before)
}

func (r *snapshotReader) decode(d *decoder, last uint64, sum uint32) (uint64, error) {
	fields := d.list(maxRequests, 1)
	kind := d.uint()
	switch {
	case kind < last || last == 0 && kind != frameHead || last == frameHead && kind == frameHead:
		d.fail("frame of kind %d behind one of kind %d", kind, last)
	case kind != frameHead && kind != frameEnd && fields != 2, kind == frameEnd && fields != endFields(r.format):
		d.fail("frame of kind %d with %d fields", kind, fields)
	}
	if d.err != nil {
		return 0, d.err
	}
	switch kind {
	case frameHead:
		r.head(d, fields)
	case frameMember:
		m := d.memberRecord()
		r.s.members = r.s.members.with(m)
		r.counts.members++
	case frameACL:
		r.acls = append(r.acls, r.s.acls.intern(d.acl()))
		r.counts.acls++
	case frameSessions:
		for range d.list(maxFrameBytes, leastSession) {
			if ses := d.session(); d.err == nil {
				r.s.sessions.put(ses)
				r.counts.sessions++
			}
		}
	case frameNodes:
		for range d.list(maxFrameBytes, leastZnode) {
			if it := d.znode(r.acls); d.err == nil {
				r.node(d, it)
			}
		}
	case frameUsers:
		for range d.list(maxFrameBytes, leastUser) {
			if u := d.user(); d.err == nil {
				r.s.users.byName.put(u)
				r.counts.users++
			}
		}
	case frameTemplate:
		if t := d.template(); d.err == nil {
			r.s.putTemplate(*t)
			r.counts.templates++
		}
	case frameTombstones:
		for range d.list(maxFrameBytes, leastSessionID) {
			if id := SessionID(d.uint()); d.err == nil {
				r.s.sessions.tombstones.put(id)
				r.counts.tombstones++
			}
		}
	case frameEnd:
		r.end(d, sum)
	default:
		d.fail("frame kind %d", kind)
	}
	return kind, d.done()
}

func (r *snapshotReader) head(d *decoder, fields int) {
	d.versioned(d.uint())
	r.format = d.format
	if fields != headFields(d.format) {
		d.fail("head of version %d with %d fields", d.format, fields)
	}
	group := GroupID(d.uint())
	if d.err == nil && group != r.s.group {
		d.fail("it is of group %v, want group %v", group, r.s.group)
	}
	r.s.ensemble, r.s.id, r.s.zxid, r.s.timeMS = d.string(), EnsembleID(d.uint()), ZXID(d.uint()), d.int()
	if d.format < membersChange {
		d.array(2)
	} else {
		d.array(3)
	}
	r.s.version = FormatVersion(d.small(1 << 31))
	if r.s.version > formatVersion {
		d.newer(uint64(r.s.version))
	}
	if r.s.format() != r.format {
		d.fail("head of version %d with version %d in force", r.format, r.s.version)
	}
	r.s.setSettings(d.settings())
	if d.format >= membersChange {
		r.s.configured = ZXID(d.uint())
	}
	if r.format >= formatMounts {
		d.mounting(r.s)
	}
	r.family.tops = r.s.tree.tops
}

// node adds a znode and what is derived from it.
func (r *snapshotReader) node(d *decoder, it treeItem) {
	if err := r.family.next(&r.s.tree, it); err != nil {
		d.keep(err)
		return
	}
	r.s.tree.nodes.put(it)
	r.counts.nodes++
	if reapableKind(it.node.kind) {
		r.s.tree.reapable.put(it.key)
	}
	if it.node.kind == Ephemeral {
		r.s.sessions.own(it.node.owner, it.key)
	}
}

func (r *snapshotReader) end(d *decoder, sum uint32) {
	want := snapshotCounts{d.uint(), d.uint(), d.uint(), d.uint(), d.uint(), d.uint(), 0}
	if r.format >= formatMounts {
		want.tombstones = d.uint()
	}
	wantSum := d.uint()
	if want != r.counts || wantSum != uint64(sum) {
		d.fail("read %+v with checksum %08x, want %+v with %08x", r.counts, sum, want, wantSum)
	}
	if uint64(len(r.s.members)) != r.counts.members || uint64(r.s.sessions.byID.len()) != r.counts.sessions ||
		uint64(r.s.users.byName.len()) != r.counts.users || uint64(r.s.templates.byPath.len()) != r.counts.templates ||
		uint64(r.s.sessions.tombstones.len()) != r.counts.tombstones {
		d.fail("a member, session, user, template or tombstone is in it twice")
	}
	if met := r.family.topsMet; r.s.started() && met != len(r.s.tree.tops) || !r.s.started() && r.family.started {
		d.fail("a group has its tops from its init command on, and nothing before")
	}
	if d.err == nil {
		d.keep(r.family.finish())
	}
	if d.err == nil {
		r.s.deriveQuotas()
	}
}

// A familyCheck sees that znodes come in order, each behind its parent, and that
// parents have as many children as they say. All children of a znode come
// together, so it needs no memory.
type familyCheck struct {
	tops     []treeKey
	topsMet  int
	last     treeKey
	prefix   treeKey // of the children at hand
	count    int32
	declared int32
	started  bool
	total    int64 // children announced less children met
}

func (f *familyCheck) next(t *tree, it treeItem) error {
	if f.started && it.key <= f.last {
		return fmt.Errorf("znode %q is out of order", it.key.path())
	}
	if k, ok := keyOf(it.key.path()); !ok || k != it.key || !ValidPath(it.key.path()) {
		return fmt.Errorf("%q is not the key of a path", string(it.key))
	}
	f.last = it.key
	f.total += int64(it.node.children)
	f.started = true
	if slices.Contains(f.tops, it.key) {
		f.topsMet++
		return nil
	}
	f.total--
	if n := len(f.prefix); n > 0 && len(it.key) > n && it.key[:n] == f.prefix {
		f.count++
		return nil
	}
	if f.count != f.declared {
		return fmt.Errorf("the parent of %q has %d children, not %d", f.prefix.path(), f.count, f.declared)
	}
	up := it.key.parent()
	parent, ok := t.lookup(up)
	if !ok {
		return fmt.Errorf("znode %q has no parent", it.key.path())
	}
	f.prefix, f.count, f.declared = up.childPrefix(), 1, parent.children
	return nil
}

func (f *familyCheck) finish() error {
	if f.count != f.declared || f.total != 0 {
		return errors.New("znodes are missing")
	}
	return nil
}
