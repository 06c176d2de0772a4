package sim_test

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord"
)

// A checker compares what clients were told with what has happened.
type checker struct {
	calls    []*call
	past     *past
	sessions []*session
	streams  []*stream
	held     map[coord.SessionID]bool // sessions that a handle was on to the end
	violate  func(format string, args ...any)
	suspend  time.Duration // how old a sign of life can be of which "connected" is said
	start    time.Time     // when the run began
	rested   time.Duration // when nobody had done anything for settle; 0 if it never came to that
	sights   []*sight      // of secrets, beside calls
	spies    []*spy

	found    found
	byID     map[string]*call      // see maker
	writers  map[coord.ZXID]*call  // by the zxid of their write
	creators map[creation][]*birth // of znodes that are made once, with what they were made as
	setters  map[string]*call      // by their data
}

// What was found is how often something happened that a checker has looked at: one that
// sees nothing finds nothing wrong.
type found struct {
	reaped   int // containers and znodes with a time to live
	full     int // refusals by the quota
	looks    int // of outsiders at secrets
	noAuth   int // of these, refused ones
	withheld int // events that a watch of an outsider has not told
}

func (f *found) add(o found) {
	f.reaped += o.reaped
	f.full += o.full
	f.looks += o.looks
	f.noAuth += o.noAuth
	f.withheld += o.withheld
}

func (f *found) String() string {
	return fmt.Sprintf("%d znodes reaped, %d refusals by a quota, %d looks at secrets (%d refused), %d events withheld", f.reaped, f.full, f.looks, f.noAuth, f.withheld)
}

// A creation is what a call makes at most one znode of: the data is its number.
type creation struct{ dir, data string }

// A birth is one of the znodes that were made.
type birth struct {
	path string
	version
}

// run runs every check.
func (c *checker) run() {
	if c.past.gap != 0 {
		c.violate("harness: no recorder has told of %v", c.past.gap)
	}
	c.index()
	c.effects()
	c.sequential()
	c.counters()
	c.order()
	c.freshness()
	c.views()
	c.ephemerals()
	c.generations()
	c.vanished()
	c.secrets()
	for _, s := range c.streams {
		c.past.checkStream(s, c.violate)
	}
}

// index finds the write of each call. Of a call whose outcome is not known it says
// whether there is one.
func (c *checker) index() {
	c.writers, c.creators, c.setters = map[coord.ZXID]*call{}, map[creation][]*birth{}, map[string]*call{}
	for _, q := range c.calls {
		if q.kind <= badMulti || q.kind == refreshTTL {
			c.setters[q.data()] = q
		}
	}
	for _, path := range c.past.paths {
		vs := c.past.versions[path]
		switch dir := areaOf(path); dir {
		case seqDir, ephDir, vanishDir:
			if isContainer(path) {
				continue // which many make
			}
			key := creation{dir, vs[0].data}
			c.creators[key] = append(c.creators[key], &birth{path, vs[0]})
			for _, v := range vs[1:] {
				if dir == vanishDir && !v.deleted {
					c.setBy(path, v)
				}
			}
		case regDir, pairDir, secretDir:
			for _, v := range vs[min(1, len(vs)):] {
				c.setBy(path, v)
			}
		}
	}
	for _, q := range c.calls {
		if dir := dirs[q.kind]; dir != "" {
			if births := c.creators[creation{dir, q.data()}]; len(births) > 0 {
				c.claim(births[0].zxid, q)
			}
		}
		if q.outcome == acked && q.zxid != 0 && (q.kind == addCounter || q.kind == updateCounter) {
			c.claim(q.zxid, q)
		}
	}
}

// dirs says below which znode a kind of call makes one.
var dirs = map[kind]string{createSeq: seqDir, createEphemeral: ephDir, createTTL: vanishDir, createChild: vanishDir}

// areaOf returns the directory that a znode is in, of those that clients work on.
func areaOf(path string) string {
	if inVanishDir(path) {
		return vanishDir
	}
	return parent(path)
}

// setBy finds who has set a register to a value.
func (c *checker) setBy(path string, v version) {
	data := v.data
	second := len(data) > 0 && data[0] == '-'
	if second {
		data = data[1:]
	}
	q := c.setters[data]
	if q == nil {
		c.violate("G2: %s is %q at %v, which nobody wrote", path, v.data, v.zxid)
		return
	}
	a, b := q.path, ""
	if q.kind == movePair || q.kind == badMulti {
		b = a[:len(a)-1] + "b"
	}
	if second && path != b || !second && path != a {
		c.violate("G2: %s is %q at %v, by %v", path, v.data, v.zxid, q)
	}
	if was, ok := c.writers[v.zxid]; ok && was == q && b == "" {
		c.violate("G2: %v has written twice", q)
	}
	c.claim(v.zxid, q)
}

func (c *checker) claim(z coord.ZXID, q *call) {
	if was := c.writers[z]; was != nil && was != q {
		c.violate("G4: %v and %v have both written at %v", was, q, z)
	}
	c.writers[z] = q
}

// effects checks that what was acknowledged is there, and what was refused is not.
func (c *checker) effects() {
	at := map[*call]coord.ZXID{}
	for z, q := range c.writers {
		if was, ok := at[q]; ok && was != z {
			c.violate("G2: %v has written at %v and %v", q, was, z)
		}
		at[q] = z
	}
	for _, q := range c.calls {
		if !q.kind.marks() {
			continue
		}
		z, there := at[q]
		switch {
		case q.outcome == acked && q.kind == badMulti:
			c.violate("G7: %v was acknowledged", q)
		case q.outcome == acked && !there:
			c.violate("G1: %v was acknowledged at %v and is lost", q, q.zxid)
		case q.outcome == acked && !q.late && z != q.zxid:
			c.violate("G1: %v was acknowledged at %v and has happened at %v", q, q.zxid, z)
		case q.outcome == refused && there:
			c.violate("G3: %v was refused and has happened at %v", q, z)
		case q.outcome == pending:
			c.violate("liveness: %v was never answered", q)
		}
		if there {
			c.oneWrite(q, z)
		}
	}
}

// oneWrite checks the write of a call that took effect.
func (c *checker) oneWrite(q *call, z coord.ZXID) {
	w := c.past.byZXID[z]
	if w == nil {
		return
	}
	want := 1
	if q.kind == movePair || q.kind == badMulti {
		want = 2
	}
	events := w.events
	if len(events) == 2 && q.kind == createChild && isContainer(events[0].path) && events[0].typ == coord.NodeCreated {
		events = events[1:] // it was made on the way
	}
	if len(events) != want {
		c.violate("G7: %v has %d events at %v, want %d: %+v", q, len(w.events), z, want, w.events)
		return
	}
	for _, e := range w.events {
		if e.stat.Mzxid != z {
			c.violate("G4: %s has the mzxid %v, at %v", e.path, e.stat.Mzxid, z)
		}
	}
	if q.kind == casRegister && events[0].stat.Version != q.version+1 {
		c.violate("G4: %v was for version %d and made version %d", q, q.version, events[0].stat.Version)
	}
	if q.outcome == acked && q.stat != (coord.Stat{}) && events[0].stat != q.stat {
		c.violate("G1: %v was told %+v and made %+v", q, q.stat, events[0].stat)
	}
}

// sequential checks that no sequential znode was made twice, none was lost, and that
// what was deleted is gone.
func (c *checker) sequential() {
	for key, births := range c.creators {
		if len(births) > 1 {
			slices.SortFunc(births, func(a, b *birth) int { return cmp.Compare(a.zxid, b.zxid) })
			all := make([]string, 0, len(births))
			for _, b := range births {
				all = append(all, fmt.Sprintf("%s at %v", b.path, b.zxid))
			}
			c.violate("G2: below %s the value %q was created %d times: %s", key.dir, key.data, len(births), strings.Join(all, ", "))
		}
	}
	deleted := map[string]*call{}
	for _, q := range c.calls {
		if q.kind == deleteSeq {
			deleted[q.path] = q
		}
	}
	last := version{}
	for _, path := range c.past.paths {
		if parent(path) != seqDir {
			continue
		}
		vs := c.past.versions[path]
		if vs[0].zxid <= last.zxid {
			c.violate("G2: %s was created at %v, a lower number at %v", path, vs[0].zxid, last.zxid)
		}
		last = vs[0]
		q, gone := deleted[path], vs[len(vs)-1].deleted
		switch {
		case gone && (q == nil || q.outcome == refused):
			c.violate("G1, G3: %s was deleted at %v, which nobody was told (%v)", path, vs[len(vs)-1].zxid, q)
		case !gone && q != nil && q.outcome == acked:
			c.violate("G1: %s is there, and was deleted by %v", path, q)
		case len(vs) > 2:
			c.violate("G2: %s has %d versions", path, len(vs))
		}
	}
}

// counters checks that each step was counted once.
func (c *checker) counters() {
	for i := range nCounters {
		path := counter(i)
		least, most := 0, 0
		for _, q := range c.calls {
			if q.path != path || q.kind != addCounter && q.kind != updateCounter {
				continue
			}
			switch q.outcome {
			case acked:
				least++
				most++
				if !q.late {
					c.counted(q)
				}
			case unknown:
				most++
			case pending, refused:
			}
		}
		vs := c.past.versions[path]
		n, err := strconv.Atoi(vs[len(vs)-1].data)
		if err != nil || n < least || n > most || n != len(vs)-1 {
			c.violate("G2: %s is %q after %d changes; %d to %d were made", path, vs[len(vs)-1].data, len(vs)-1, least, most)
		}
		for i, v := range vs {
			if v.data != strconv.Itoa(i) {
				c.violate("G2: %s is %q in version %d, at %v", path, v.data, i, v.zxid)
			}
		}
	}
}

func (c *checker) counted(q *call) {
	if v, _ := c.past.at(q.path, q.zxid); v.zxid != q.zxid || v.data != q.value {
		c.violate("G1: %v was told %s at %v; there it is %s, since %v", q, q.value, q.zxid, v.data, v.zxid)
	}
}

// until returns the first zxid at which what a read told is no longer true.
func (c *checker) until(q *call) coord.ZXID {
	switch {
	case q.exact:
		return q.zxid + 1
	case q.kind == getRegister:
		_, until := c.past.at(q.path, q.zxid)
		return until
	case q.kind == childrenSeq:
		all := c.past.children[seqDir]
		i, _ := slices.BinarySearch(all, q.zxid+1)
		if i < len(all) {
			return all[i]
		}
	}
	return never
}

// Floors hold what somebody must not be shown less than.
type floors struct {
	all     coord.ZXID                      // who asks for it
	process map[int]coord.ZXID              // who asks a process
	member  map[coord.MemberID]coord.ZXID   // who asks a member, through its restarts, unless stale will do
	session map[*session]map[int]coord.ZXID // who uses a handle: what that handle and older ones have shown
	atBegin map[*call]map[string]coord.ZXID // when the call began
}

// order goes through all calls in real time, and checks writes, linearizable reads
// and Syncs (G4, G6), reads of one process (G5), and of one session through all its
// handles (G19): nobody is shown less, and no write gets a lower zxid, than what was
// shown before.
func (c *checker) order() {
	type moment struct {
		tick uint64
		q    *call
	}
	var moments []moment
	for _, q := range c.calls {
		moments = append(moments, moment{q.begin, q})
		if q.end != 0 {
			moments = append(moments, moment{q.end, q})
		}
	}
	slices.SortFunc(moments, func(a, b moment) int { return cmp.Compare(a.tick, b.tick) })
	happened := map[*call]coord.ZXID{}
	for z, q := range c.writers {
		happened[q] = z
	}
	f := floors{
		process: map[int]coord.ZXID{}, member: map[coord.MemberID]coord.ZXID{},
		session: map[*session]map[int]coord.ZXID{}, atBegin: map[*call]map[string]coord.ZXID{},
	}
	for _, m := range moments {
		q := m.q
		if m.tick == q.begin {
			f.begin(q)
			if z, ok := happened[q]; ok && z <= f.all {
				c.violate("G4: %v has happened at %v, but began when %v had been shown", q, z, f.all)
			}
			continue
		}
		c.end(&f, q)
		delete(f.atBegin, q)
	}
}

func (f *floors) begin(q *call) {
	at := map[string]coord.ZXID{}
	f.atBegin[q] = at
	at["G5: the same process"] = f.process[q.process]
	if q.level != stale {
		at["G5: the same member"] = f.member[q.member]
	}
	if q.level == linearizable {
		at[anybody] = f.all
	}
	at["G5: what was asked for"] = q.floor
	if q.sess == nil {
		return
	}
	for number, z := range f.session[q.sess] {
		if number <= q.handle {
			at["G19: an older handle, or the same,"] = max(at["G19: an older handle, or the same,"], z)
		}
	}
}

const anybody = "G6: anybody"

func (c *checker) end(f *floors, q *call) {
	if q.outcome != acked || q.late {
		return
	}
	shown := q.zxid
	switch {
	case q.kind == syncAll:
		shown = f.atBegin[q][anybody]
	case !q.kind.writes():
		until := c.until(q)
		for who, z := range f.atBegin[q] {
			if until <= z {
				c.violate("%s had shown %v before %v showed %v, which was true until %v", who, z, q, q.zxid, until)
			}
		}
	}
	f.all = max(f.all, shown)
	f.process[q.process] = max(f.process[q.process], shown)
	if q.level != stale {
		f.member[q.member] = max(f.member[q.member], shown)
	}
	if q.sess != nil {
		if f.session[q.sess] == nil {
			f.session[q.sess] = map[int]coord.ZXID{}
		}
		f.session[q.sess][q.handle] = max(f.session[q.sess][q.handle], shown)
	}
}

// freshness checks that reads have shown what was there, and nothing of the future.
func (c *checker) freshness() {
	for _, q := range c.calls {
		if q.kind.writes() || q.outcome != acked || q.zxid == 0 {
			continue
		}
		if q.kind == childrenSeq {
			c.childrenOf(q)
		}
		if q.kind == getRegister {
			v, _ := c.past.at(q.path, q.zxid)
			shown := q.stat
			if parent(q.path) == secretDir {
				shown.Aversion = v.stat.Aversion // no event tells of a new ACL
			}
			if v.zxid != q.zxid || v.data != q.value || v.stat != shown {
				c.violate("G4: %v has shown %q of %v, but there it is %q of %v", q, q.value, q.zxid, v.data, v.zxid)
			}
			if by := c.writers[q.zxid]; by != nil && by.begin > q.end {
				c.violate("G4: %v has shown what %v wrote later", q, by)
			}
		}
	}
}

// childrenOf checks a listing by its numbers.
func (c *checker) childrenOf(q *call) {
	all := c.past.children[seqDir]
	i, found := slices.BinarySearch(all, q.zxid)
	if !found && len(all) > 0 && i > 0 {
		c.violate("G4: %v has shown a pzxid of %v, at which nothing was created or deleted", q, q.zxid)
		return
	}
	if want := i + 1; found && int(q.stat.Cversion) != want {
		c.violate("G4: %v has shown a cversion of %d at %v, want %d", q, q.stat.Cversion, q.zxid, want)
	}
}

// views compares views with the history.
func (c *checker) views() {
	for _, q := range c.calls {
		if q.view == nil {
			continue
		}
		for i := range nRegisters {
			c.viewed(q, register(i))
		}
		for i := range nPairs {
			a, b := pairOf(i)
			c.viewed(q, a)
			c.viewed(q, b)
		}
	}
}

func (c *checker) viewed(q *call, path string) {
	data, stat, err := q.view.Get(path)
	v, _ := c.past.at(path, q.zxid)
	if err != nil || string(data) != v.data || stat != v.stat {
		c.violate("G8: %v at %v shows %s as %q %+v (%v), want %q %+v", q, q.zxid, path, data, stat, err, v.data, v.stat)
	}
}

// ephemerals checks that those of a session vanish at one zxid, with nothing after
// it, and not before all handles have ended.
func (c *checker) ephemerals() {
	type life struct {
		ends    map[coord.ZXID]time.Duration // when ephemerals vanished
		last    coord.ZXID                   // when one was created
		present int
	}
	lives := map[coord.SessionID]*life{}
	for _, path := range c.past.paths {
		if parent(path) != ephDir {
			continue
		}
		vs := c.past.versions[path]
		owner := vs[0].stat.EphemeralOwner
		l := lives[owner]
		if l == nil {
			l = &life{ends: map[coord.ZXID]time.Duration{}}
			lives[owner] = l
		}
		l.last = max(l.last, vs[0].zxid)
		if end := vs[len(vs)-1]; end.deleted {
			l.ends[end.zxid] = end.seen
		} else {
			l.present++
		}
	}
	for _, s := range c.sessions {
		l := lives[s.id]
		if l == nil {
			continue
		}
		delete(lives, s.id)
		if len(l.ends) > 1 {
			c.violate("G9: ephemerals of session %v vanished at %d zxids: %v", s.id, len(l.ends), l.ends)
		}
		for z, seen := range l.ends {
			if l.last > z || l.present > 0 {
				c.violate("G9: session %v ended at %v, but has %d ephemerals; the last one was created at %v", s.id, z, l.present, l.last)
			}
			c.handlesEnded(s, z, seen)
			c.tooEarly(s, z, seen)
		}
		if c.held[s.id] && len(l.ends) > 0 {
			c.violate("G9: session %v is held, but its ephemerals have vanished: %v", s.id, l.ends)
		}
		if !c.held[s.id] && l.present > 0 {
			c.violate("G9: %d ephemerals of session %v are there long after it ended", l.present, s.id)
		}
	}
	for id, l := range lives {
		if l.present > 0 {
			c.violate("G9: %d ephemerals of session %v, which nobody has, are there", l.present, id)
		}
	}
}

// tooEarly checks that a session whose process has crashed lived on for its timeout:
// that is how long somebody has to resume it, whoever leads meanwhile.
func (c *checker) tooEarly(s *session, z coord.ZXID, seen time.Duration) {
	h := s.handles[len(s.handles)-1]
	if h.crashed != 0 && !h.letGo.Load() && seen < h.crashed-c.suspend+s.timeout {
		c.violate("G11: the ephemerals of %v vanished at %v (%v), though it was connected when its process crashed at %v", h, seen, z, h.crashed)
	}
}

// generations checks that nothing which older handles of a session have sent took
// effect once another had it.
func (c *checker) generations() {
	for z, q := range c.writers {
		if q.sess == nil {
			continue
		}
		for _, h := range q.sess.handles[q.handle+1:] {
			if h.since != 0 && z > h.since {
				c.violate("G16: %v, sent through handle %d of session %v, has happened at %v; another had it at %v", q, q.handle, q.sess.id, z, h.since)
			}
		}
	}
}

// handlesEnded checks that every handle had ended when the ephemerals were seen to
// vanish.
func (c *checker) handlesEnded(s *session, z coord.ZXID, seen time.Duration) {
	for _, h := range s.handles {
		if ended := time.Duration(h.ended.Load()); ended == 0 || ended > seen {
			c.violate("G10: the ephemerals of %v vanished at %v (%v), but the handle ended at %v: %v", h, seen, z, ended, h.cause)
		}
	}
}
