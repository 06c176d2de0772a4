package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"coord"
)

// Below secretDir are registers with an ACL each, which changes again and again. Those who
// are outside of the ensemble's own processes come with identities.
const (
	secretDir = "/s"
	nSecrets  = 5
	persons   = 3 // who have names; the last one may not read secretDir itself
)

// An identity is whom a call speaks for: code of the members, somebody who has proved
// nothing, or a person, from firstPerson on.
type identity int

const (
	insider identity = iota
	stranger
	firstPerson
)

func secret(i int) string { return fmt.Sprintf("%s/%d", secretDir, i) }

// credential is what a person shows.
func (p identity) credential() string { return fmt.Sprintf("person%d:password", p-firstPerson) }

func (p identity) id() coord.ID { return coord.DigestID(p.credential()) }

// mayDo returns what an identity may do to a secret whose ACL was set so many times: the
// ACL is a function of that number, so that whoever is shown a stat knows what it was.
func mayDo(path string, aversion int32, who identity) coord.Perm {
	if who == insider {
		return coord.PermAll
	}
	if who < firstPerson {
		return 0
	}
	n, _ := strconv.Atoi(path[len(secretDir)+1:])
	dice := rand.New(rand.NewPCG(uint64(n), uint64(aversion)*persons+uint64(who)))
	return []coord.Perm{0, coord.PermRead, coord.PermWrite, coord.PermRead | coord.PermWrite}[dice.IntN(4)]
}

// aclOf returns the ACL that mayDo is about.
func aclOf(path string, aversion int32) []coord.ACL {
	list := coord.MembersACL()
	for who := firstPerson; who < firstPerson+persons; who++ {
		if p := mayDo(path, aversion, who); p != 0 {
			list = append(list, coord.ACL{Perms: p, ID: who.id()})
		}
	}
	return list
}

// mayList reports whether an identity may read secretDir itself.
func mayList(who identity) bool { return who != stranger && who != firstPerson+persons-1 }

func (w *world) setupSecrets(c *coord.Coordinator) {
	list := coord.MembersACL()
	for who := firstPerson; mayList(who); who++ {
		list = append(list, coord.ACL{Perms: coord.PermRead, ID: who.id()})
	}
	w.mustCreate(c, secretDir, nil, coord.WithACL(list...))
	for i := range nSecrets {
		w.mustCreate(c, secret(i), []byte("0"), coord.WithACL(aclOf(secret(i), 0)...))
	}
}

// A sight is one look at a secret, or a try of one.
type sight struct {
	what       fmt.Stringer
	path       string
	who        identity
	process    int
	need       coord.Perm
	begin, end uint64
	newest     bool // it must reflect all that anybody was shown
	allowed    bool
	late       bool  // it was decided after end, for all that is known
	aversion   int32 // of the znode as it was shown
	told       bool  // by a watch: aversion is that of the event
}

// A spy is a watch of secrets.
type spy struct {
	path  string
	mode  coord.WatchMode
	who   identity
	start coord.ZXID // what is behind it and could be read was to be told; never if that is not known
	told  []toldSecret
}

// A toldSecret is an event that a spy was told, or a mark of progress.
type toldSecret struct {
	zxid coord.ZXID
	path string
	tick uint64
}

func (s *spy) String() string {
	return fmt.Sprintf("a %v watch of %s by identity %d", s.mode, s.path, s.who)
}

// guard makes one call of code of the members about secrets.
func (c *client) guard() {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	defer cancel()
	path := secret(c.dice.IntN(nSecrets))
	switch n := c.dice.IntN(100); {
	case n < 25:
		c.setACL(ctx, path)
	case n < 75:
		c.setSecret(ctx, path)
	case n < 90:
		c.getSecret(ctx, path)
	default:
		c.getACL(ctx, path)
	}
}

// setACL gives a secret its next ACL.
func (c *client) setACL(ctx context.Context, path string) {
	_, stat, err := c.api.Get(ctx, path)
	if err != nil {
		return
	}
	q := c.beginCall(call{kind: setACL, path: path, version: stat.Aversion})
	stat, err = c.api.SetACL(ctx, path, aclOf(path, q.version+1), coord.WithVersion(q.version))
	if err == nil && stat.Aversion != q.version+1 {
		c.w.violate("G4: %v made version %d of the ACL", q, stat.Aversion)
	}
	c.wrote(q, stat, err)
}

func (c *client) setSecret(ctx context.Context, path string) {
	q := c.beginCall(call{kind: setRegister, path: path, version: coord.AnyVersion})
	stat, err := c.api.SetData(ctx, path, []byte(q.data()))
	c.wrote(q, stat, err)
}

func (c *client) getSecret(ctx context.Context, path string) {
	q := call{kind: getRegister, path: path}
	opts := c.reading(&q)
	before := c.w.now()
	p := c.beginCall(q)
	data, stat, err := c.api.Get(ctx, path, opts...)
	if err == nil {
		p.value, p.stat = string(data), stat
	}
	c.read(p, before, stat.Mzxid, err)
}

func (c *client) getACL(ctx context.Context, path string) {
	q := call{kind: getACL, path: path}
	opts := c.reading(&q)
	before := c.w.now()
	p := c.beginCall(q)
	list, stat, err := c.api.ACL(ctx, path, opts...)
	if err == nil {
		p.stat = stat
		if want := aclOf(path, stat.Aversion); c.who == insider && !slices.Equal(list, want) {
			c.w.violate("access: %v tells %v as version %d of the ACL, want %v", p, list, stat.Aversion, want)
		}
	}
	c.read(p, before, stat.Mzxid, err)
}

// runOutsider is one person, in one session after another.
func (w *world) runOutsider(id int) {
	if !w.joins(uint64(id)) {
		return
	}
	c := w.newClient(id)
	for !w.stopping.Load() {
		if c.p = w.any(c.dice); c.p != nil {
			c.outside()
		}
		sleep(between(c.dice, 0, 2*time.Second))
	}
}

// outside opens a session and looks at secrets through it, and through those that resume
// it, where the person has to prove anew who it is.
func (c *client) outside() {
	person := firstPerson + identity(c.id%persons)
	opts := coord.SessionOptions{External: true, Timeout: between(c.dice, 0, maxSession)}
	c.who = stranger
	if c.dice.IntN(2) == 0 {
		opts.Identities, c.who = []coord.ID{person.id()}, person
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	s, err := c.p.c.NewSession(ctx, opts)
	cancel()
	for err == nil {
		c.look(s, person)
		p := c.w.any(c.dice)
		if p == nil || c.w.stopping.Load() || c.dice.IntN(2) == 0 {
			break
		}
		ctx, cancel := context.WithTimeout(context.Background(), between(c.dice, 0, 60*time.Second))
		var next *coord.Session
		next, err = p.c.Resume(ctx, s.Token(), coord.SessionOptions{External: true})
		cancel()
		if err == nil {
			_ = s.Close() // it is over anyway
			s, c.p, c.who = next, p, stranger
		}
	}
	if s != nil {
		_ = s.Close()
	}
}

// look looks at secrets for a while, and proves at some time who it is.
func (c *client) look(s *coord.Session, person identity) {
	c.api = s
	until := c.w.now() + between(c.dice, 0, 20*time.Second)
	for c.w.now() < until && s.Context().Err() == nil && !c.w.stopping.Load() {
		if c.who == stranger && c.dice.IntN(3) == 0 {
			ctx, cancel := context.WithTimeout(context.Background(), c.patience())
			wrong := c.dice.IntN(2) == 0
			credential := person.credential()
			if wrong {
				credential += "?" // which proves somebody whom no ACL names
			}
			if err := s.AddAuth(ctx, "digest", []byte(credential)); err == nil && !wrong {
				c.who = person
			}
			cancel()
		}
		for range 1 + c.dice.IntN(8) {
			c.act(c.peek)
		}
		if c.who == person && c.dice.IntN(6) == 0 {
			one := *c
			one.dice = rand.New(rand.NewPCG(c.w.o.seed, c.dice.Uint64()))
			c.w.working.Go(one.spy)
		}
		sleep(between(c.dice, 0, 2*time.Second))
	}
}

// peek makes one call of an outsider.
func (c *client) peek() {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	defer cancel()
	path := secret(c.dice.IntN(nSecrets))
	switch n := c.dice.IntN(100); {
	case n < 55:
		c.getSecret(ctx, path)
	case n < 75:
		c.setSecret(ctx, path)
	case n < 80:
		c.getACL(ctx, path)
	case n < 85:
		c.listSecrets(ctx)
	default:
		c.peekView(ctx)
	}
}

// listSecrets lists secretDir, whose ACL does not change.
func (c *client) listSecrets(ctx context.Context) {
	names, _, err := c.api.Children(ctx, secretDir)
	switch {
	case err == nil && (!mayList(c.who) || len(names) != nSecrets):
		c.w.violate("access: identity %d has listed %s: %q", c.who, secretDir, names)
	case errors.Is(err, coord.ErrNoAuth) && mayList(c.who):
		c.w.violate("access: identity %d may not list %s: %v", c.who, secretDir, err)
	}
}

// peekView looks at all secrets in one view, in two ways.
func (c *client) peekView(ctx context.Context) {
	process, who := c.p.number, c.who
	begin := c.w.ledger.ticks.Add(1)
	v, err := c.api.View(ctx)
	if err != nil {
		return
	}
	end := c.w.ledger.ticks.Add(1)
	walked := map[string]string{}
	for z := range v.Walk(secretDir) {
		walked[z.Path] = string(z.Data)
	}
	if _, ok := walked[secretDir]; ok != mayList(who) {
		c.w.violate("access: a view of identity %d at %v shows %v", who, v.ZXID(), walked)
	}
	var all []*sight
	for i := range nSecrets {
		data, stat, err := v.Get(secret(i))
		if err != nil && !errors.Is(err, coord.ErrNoAuth) {
			c.w.violate("access: a view of identity %d at %v: %v", who, v.ZXID(), err)
		}
		if got, ok := walked[secret(i)]; ok != (err == nil && mayList(who)) || ok && got != string(data) {
			c.w.violate("access: in a view of identity %d at %v Get of %s tells %q (%v), Walk %q, %v", who, v.ZXID(), secret(i), data, err, got, ok)
		}
		all = append(all, &sight{
			what: text("a view"), path: secret(i), who: who, process: process, need: coord.PermRead, begin: begin, end: end,
			allowed: err == nil, aversion: stat.Aversion,
		})
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.sights = append(c.w.sights, all...)
}

type text string

func (t text) String() string { return string(t) }

// spy follows one watch.
func (c *client) spy() {
	s := &spy{path: secretDir, mode: coord.Subtree, who: c.who}
	if c.dice.IntN(3) == 0 {
		s.path, s.mode = secret(c.dice.IntN(nSecrets)), coord.Node
	}
	opts := []coord.WatchOption{coord.WithData(), coord.WithProgress()}
	initial := c.dice.IntN(3) == 0
	if initial {
		opts = append(opts, coord.WithInitial())
	}
	ctx, cancel := context.WithTimeout(context.Background(), between(c.dice, 0, 30*time.Second))
	defer cancel()
	opened := c.w.ledger.ticks.Add(1)
	pull := opened
	watch, err := c.api.(*coord.Session).Watch(ctx, s.path, s.mode, opts...)
	if err != nil {
		return
	}
	s.start = zxidOf(watch.Position())
	if initial {
		s.start = never
	}
	var sights []*sight
	for ev, err := range watch.Events() {
		if err != nil {
			break
		}
		now := c.w.ledger.ticks.Add(1)
		s.told = append(s.told, toldSecret{ev.ZXID, ev.Path, now})
		if ev.Initial {
			pull = opened // the state is told as it was then
		}
		if ev.Type != coord.Progress && ev.Path != secretDir {
			sights = append(sights, &sight{
				what: s, path: ev.Path, who: s.who, process: c.p.number, need: coord.PermRead, begin: pull, end: now,
				allowed: true, aversion: ev.Stat.Aversion, told: !ev.Initial,
			})
		}
		if c.dice.IntN(8) == 0 {
			sleep(between(c.dice, 0, 3*time.Second)) // a slow reader
		}
		pull = c.w.ledger.ticks.Add(1)
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.spies = append(c.w.spies, s)
	c.w.sights = append(c.w.sights, sights...)
}

// acls is what is known of the ACLs of secrets, by the number of times they were set.
type acls struct {
	tried   map[string]*climb    // that somebody has begun to set
	shown   map[string]*climb    // that somebody was shown
	process map[ofProcess]*climb // that somebody was shown by a process
}

type ofProcess struct {
	process int
	path    string
}

func climbOf[K comparable](m map[K]*climb, k K) *climb {
	if m[k] == nil {
		m[k] = &climb{}
	}
	return m[k]
}

// secrets checks that nobody was shown, told or could write what his identity did not
// allow, and that nobody was refused what it did.
func (c *checker) secrets() {
	a := &acls{map[string]*climb{}, map[string]*climb{}, map[ofProcess]*climb{}}
	sights := slices.Clone(c.sights)
	for _, q := range c.calls {
		if parent(q.path) != secretDir {
			continue
		}
		if q.kind == setACL {
			climbOf(a.tried, q.path).add(q.begin, int64(q.version)+1)
			if q.outcome == acked && !q.late {
				a.show(&sight{path: q.path, process: q.process, end: q.end, aversion: q.stat.Aversion})
			}
			continue
		}
		if s := q.sight(); s != nil {
			sights = append(sights, s)
		}
	}
	for _, s := range sights {
		if s.allowed && !s.late {
			a.show(s)
		}
	}
	a.sort()
	for _, s := range sights {
		c.sight(a, s)
	}
	for _, s := range c.spies {
		c.spied(a, s)
	}
	for i := range nSecrets {
		for _, v := range c.past.versions[secret(i)] {
			if q := c.setters[v.data]; q != nil && mayDo(q.path, v.stat.Aversion, q.who)&coord.PermWrite == 0 {
				c.violate("access: %v by identity %d has happened at %v, where version %d of the ACL does not allow it", q, q.who, v.zxid, v.stat.Aversion)
			}
		}
	}
}

// sight returns what a call about a secret has seen, or nil.
func (c *call) sight() *sight {
	s := &sight{
		what: c, path: c.path, who: c.who, process: c.process, need: coord.PermRead, begin: c.begin, end: c.end,
		newest: c.level == linearizable, allowed: c.outcome == acked, late: c.late, aversion: c.stat.Aversion,
	}
	if c.kind.writes() {
		s.need, s.newest = coord.PermWrite, true
	}
	if s.allowed && c.stat.Czxid == 0 || !s.allowed && (c.outcome != refused || c.code != coord.ErrNoAuth) {
		return nil
	}
	return s
}

func (a *acls) show(s *sight) {
	climbOf(a.shown, s.path).add(s.end, int64(s.aversion))
	climbOf(a.process, ofProcess{s.process, s.path}).add(s.end, int64(s.aversion))
}

func (a *acls) sort() {
	for _, all := range []map[string]*climb{a.tried, a.shown} {
		for _, c := range all {
			c.sort()
		}
	}
	for _, c := range a.process {
		c.sort()
	}
}

// sight checks one look.
func (c *checker) sight(a *acls, s *sight) {
	if s.who != insider {
		c.found.looks++
		if !s.allowed {
			c.found.noAuth++
		}
	}
	least := climbOf(a.process, ofProcess{s.process, s.path}).at(s.begin, 0)
	if s.newest {
		least = climbOf(a.shown, s.path).at(s.begin, 0)
	}
	most := climbOf(a.tried, s.path).at(s.end, 0)
	if s.late {
		most = climbOf(a.tried, s.path).at(math.MaxUint64, 0)
	}
	allowed := func(v int64) bool { return mayDo(s.path, int32(v), s.who)&s.need != 0 }
	if s.told {
		if !allowed(int64(s.aversion)) {
			c.violate("access: %v was told a change of %s, of which version %d of the ACL says that it may not", s.what, s.path, s.aversion)
		}
		least = max(least, int64(s.aversion))
		if !anyOf(least, most, allowed) {
			c.violate("access: %v was told a change of %s while versions %d to %d of the ACL say that it may not", s.what, s.path, least, most)
		}
		return
	}
	switch v := int64(s.aversion); {
	case s.allowed && !s.late && (v < least || v > most):
		c.violate("G5, G6: %v has shown version %d of the ACL of %s, which was %d to %d", s.what, v, s.path, least, most)
	case s.allowed && !allowed(v):
		c.violate("access: %v was allowed to identity %d, and version %d of the ACL of %s says that it may not", s.what, s.who, v, s.path)
	case !s.allowed && !anyOf(least, most, func(v int64) bool { return !allowed(v) }):
		c.violate("access: %v was refused to identity %d, though versions %d to %d of the ACL of %s allow it", s.what, s.who, least, most, s.path)
	}
}

func anyOf(least, most int64, f func(int64) bool) bool {
	for v := least; v <= most; v++ {
		if f(v) {
			return true
		}
	}
	return false
}

// spied checks that a watch was told each change that its reader was allowed to read when
// it happened, and at any time until the watch told something behind it.
func (c *checker) spied(a *acls, s *spy) {
	told, last := map[toldSecret]bool{}, coord.ZXID(0)
	for _, t := range s.told {
		told[toldSecret{zxid: t.zxid, path: t.path}] = true
		last = max(last, t.zxid)
	}
	for i := range nSecrets {
		path := secret(i)
		if s.mode == coord.Node && s.path != path {
			continue
		}
		for _, v := range c.past.versions[path] {
			if v.zxid <= s.start || v.zxid > last || told[toldSecret{zxid: v.zxid, path: path}] {
				continue
			}
			c.found.withheld++
			j := slices.IndexFunc(s.told, func(t toldSecret) bool { return t.zxid >= v.zxid })
			most := climbOf(a.tried, path).at(s.told[j].tick, 0)
			if !anyOf(int64(v.stat.Aversion), most, func(n int64) bool { return mayDo(path, int32(n), s.who)&coord.PermRead == 0 }) {
				c.violate("G12: %v was not told of %s at %v, though versions %d to %d of its ACL allow it", s, path, v.zxid, v.stat.Aversion, most)
			}
		}
	}
}
