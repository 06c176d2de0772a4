package coord

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs the scripts of testdata/core. -rewrite writes what the core
// does into them; review the diff line by line.
//
// Each line is a command of the little language below. It becomes an entry of the
// log, which is encoded, decoded and applied. What is printed is the zxid, the
// code, the path, the fields of the stat that are not zero, and the events. After
// every entry the script also checks, silently, that no invariant is broken, that
// a frozen copy taken before it did not change and, at the end, that a snapshot
// and a replay of the log reach the same state.
//
//	init [members=1,2] [observers=3] [ms=1000] [SETTINGS], each of which is
//	  max-data=N timeouts=MIN,MAX ttl=off default-acl=A super=DIGEST schemes=A,B quotas=advisory max-ephemerals=N
//	hello [member=1] expected=0 nonce=7 [addr=a:1]
//	clock MS                  the proposers' clock from now on
//	REQUEST [member=1]        one batch with one request
//	batch [member=1] [number=N] [incarnation=N] [observed=0x5] [touch-args]
//	  REQUEST                 a line each
//	touch [member=1] [mark=MS gap=MS] [free=N] [low] [silent=0x2,0x3] [awake=0x2/GENERATION]
//	counter PATH N            sets a parent's creation counter by hand
//	wrap PATH [version=N] [aversion=N]   sets versions by hand
//	get PATH, acl PATH [as=IDS], tree, quotas, sessions, members, users, templates, inforce (the settings), state,
//	ephemerals SESSION [prefix=P]
//	snapshot                  writes and reads one
//	violations
//
// A REQUEST is an operation, or one of
//
//	open [timeout=MS] [as=IDS]
//	close SESSION [yield]
//	release SESSION
//	resume SESSION [timeout=MS] [password=N]   N is not 0 for a wrong one
//	withdraw SESSION CLAIM
//	expire SESSION[/GENERATION/TOUCHED]…    what is left out is as in the state
//	setuser NAME data=HASH [as=IDS], removeuser NAME [as=IDS]   as=member if it is left out
//	template PATH A [enforced] [as=IDS]   likewise; A is none to remove it
//	settings [SETTINGS] [from-SETTINGS] [as=IDS]   likewise; what is left out is as in the state
//	reap PATH[/CZXID/MZXID/CVERSION]…       with colons: /a:0x2:0x2:0
//	multi                                   with an operation in each line below
//
// and an operation one of
//
//	create PATH [DATA] [mode=M] [acl=A] [ttl=MS] [parents|containers]
//	set PATH DATA [version=N] [czxid=Z]
//	delete | check PATH [version=N] [czxid=Z]
//	absent PATH
//	children | fewer PATH N [version=N] [czxid=Z]
//	add PATH N [version=N]
//	setacl PATH A [version=N]
//
// A script has as many groups as it names: [group=N] behind any command is which one it
// is for, 1 if it is left out. Of mounts are
//
//	seal | flip | cancel PATH [of=N]       steps in the root group; N is the mount's own group if it is left out
//	sealgroup PATH group=N [of=M]          M is N if it is left out
//	takeback PATH [of=N]                   with what the mount's group has
//	plant group=N                          init with what the root group says
//	adopt group=N [from=N] [to=N] [most=N] what the root group has decreed
//	enter SESSION group=N [timeout=MS] [generation=N]
//	forget SESSION… group=N
//	mounts, route PATH…
//
// with [session=0x2] [generation=N] [as=scheme:id,…] each; the generation is the
// session's own if it is left out. DATA is data=text,
// data=null, data=empty or data=*N (N bytes). A path that datadriven could not
// read is a Go string in quotes.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "core"), func(t *testing.T, path string) {
		sc := &script{t: t, clock: 1000, replayable: true, groups: map[GroupID]*scriptGroup{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			sc.t = t
			sc.pos = d.Pos
			sc.choose(line{d.Cmd, d.CmdArgs})
			return sc.run(line{d.Cmd, d.CmdArgs}, d.Input)
		})
		sc.t = t
		for _, g := range slices.Sorted(maps.Keys(sc.groups)) {
			if sc.scriptGroup = sc.groups[g]; sc.s.started() {
				sc.finish()
			}
		}
	})
}

// A script is one run of a file of testdata/core.
type script struct {
	t          *testing.T
	pos        string
	clock      int64
	replayable bool // no state was set by hand

	groups map[GroupID]*scriptGroup
	*scriptGroup
}

// A scriptGroup is one group of a script.
type scriptGroup struct {
	s   *state
	log [][]byte
}

// choose makes the group that a line names the one at hand.
func (sc *script) choose(l line) {
	sc.t.Helper()
	g := GroupID(sc.int(l, "group", int64(rootGroup)))
	if sc.groups[g] == nil {
		sc.groups[g] = &scriptGroup{s: newState(g)}
	}
	sc.scriptGroup = sc.groups[g]
}

// A line is one parsed line of a script.
type line struct {
	cmd  string
	args []datadriven.CmdArg
}

func (l line) arg(key string) (string, bool) {
	for _, a := range l.args {
		if a.Key == key && len(a.Vals) == 1 {
			return a.Vals[0], true
		}
	}
	return "", false
}

func (l line) flag(key string) bool {
	return slices.ContainsFunc(l.args, func(a datadriven.CmdArg) bool { return a.Key == key && len(a.Vals) == 0 })
}

// positional returns the arguments before the first that has a value.
func (l line) positional() []string {
	var out []string
	for _, a := range l.args {
		if len(a.Vals) > 0 {
			break
		}
		out = append(out, a.Key)
	}
	return out
}

func (sc *script) fatalf(format string, args ...any) {
	sc.t.Helper()
	sc.t.Fatalf("%s: %s", sc.pos, fmt.Sprintf(format, args...))
}

func (sc *script) number(s string) int64 {
	sc.t.Helper()
	if strings.HasPrefix(s, "0x") {
		n, err := strconv.ParseUint(s[2:], 16, 64)
		if err != nil {
			sc.fatalf("%q: %v", s, err)
		}
		return int64(n)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		sc.fatalf("%q: %v", s, err)
	}
	return n
}

func (sc *script) int(l line, key string, otherwise int64) int64 {
	sc.t.Helper()
	if v, ok := l.arg(key); ok {
		return sc.number(v)
	}
	return otherwise
}

func (sc *script) path(s string) string {
	sc.t.Helper()
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	p, err := strconv.Unquote(s)
	if err != nil {
		sc.fatalf("path %s: %v", s, err)
	}
	return p
}

func (sc *script) word(l line, i int) string {
	sc.t.Helper()
	words := l.positional()
	if i >= len(words) {
		sc.fatalf("%s needs %d words", l.cmd, i+1)
	}
	return words[i]
}

func (sc *script) run(l line, input string) string {
	sc.t.Helper()
	switch l.cmd {
	case "init":
		return sc.apply(&command{kind: commandInit, group: sc.s.group, member: 1, init: sc.init(l)})
	case "hello":
		return sc.hello(l)
	case "plant":
		return sc.plant()
	case "clock":
		sc.clock = sc.number(sc.word(l, 0))
		return ""
	case "batch", "touch":
		return sc.batch(l, input)
	case "counter", "wrap":
		return sc.byHand(l)
	case "get", "acl", "tree", "quotas", "sessions", "members", "users", "templates", "inforce", "state", "ephemerals", "mounts", "route":
		return sc.show(l)
	case "snapshot":
		return sc.snapshot()
	case "violations":
		if err := sc.s.firstViolation(); err != nil {
			return err.Error()
		}
		return "none"
	}
	b := sc.newBatch(l)
	b.requests = []request{sc.request(l, input)}
	return sc.apply(&command{kind: commandBatch, group: sc.s.group, member: sc.member(l), batch: b})
}

func (sc *script) member(l line) MemberID { return MemberID(sc.int(l, "member", 1)) }

func (sc *script) init(l line) *initCommand {
	in := &initCommand{
		version: formatVersion, ensemble: "test", id: 7, timeMS: sc.int(l, "ms", 1000),
		settings: sc.settings(l, ""),
	}
	voters, ok := l.arg("members")
	if !ok {
		voters = "1"
	}
	for s := range strings.SplitSeq(voters, ",") {
		in.members = append(in.members, memberRecord{id: MemberID(sc.number(s)), addr: s + ":1"})
	}
	if observers, ok := l.arg("observers"); ok {
		for s := range strings.SplitSeq(observers, ",") {
			in.members = append(in.members, memberRecord{id: MemberID(sc.number(s)), addr: s + ":1", role: Observer})
		}
	}
	return in
}

// settings returns those of the state, or those that scripts start with, with the
// changes of arguments whose keys have a prefix.
func (sc *script) settings(l line, prefix string) settings {
	set := sc.s.settings
	if !sc.s.started() {
		set = settings{maxDataBytes: 1 << 20, minSessionTimeoutMS: 1000, maxSessionTimeoutMS: 60_000, ttlNodes: true, defaultACL: OpenACL(), enforceQuotas: true}
	}
	set.maxDataBytes = sc.int(l, prefix+"max-data", set.maxDataBytes)
	if v, ok := l.arg(prefix + "timeouts"); ok {
		low, high, _ := strings.Cut(v, ",")
		set.minSessionTimeoutMS, set.maxSessionTimeoutMS = sc.number(low), sc.number(high)
	}
	if v, ok := l.arg(prefix + "default-acl"); ok {
		set.defaultACL = sc.acl(v)
	}
	if v, ok := l.arg(prefix + "ttl"); ok {
		set.ttlNodes = v != "off"
	}
	if v, ok := l.arg(prefix + "quotas"); ok {
		set.enforceQuotas = v != "advisory"
	}
	set.maxEphemerals = sc.int(l, prefix+"max-ephemerals", set.maxEphemerals)
	if v, ok := l.arg(prefix + "super"); ok {
		set.superDigest = v
	}
	if v, ok := l.arg(prefix + "schemes"); ok {
		set.schemes = strings.Split(v, ",")
	}
	return set
}

func (sc *script) hello(l line) string {
	addr, ok := l.arg("addr")
	if !ok {
		addr = fmt.Sprintf("%v:1", sc.member(l))
	}
	return sc.apply(&command{kind: commandHello, group: sc.s.group, member: sc.member(l), hello: &helloCommand{
		expected: uint64(sc.int(l, "expected", 0)), nonce: uint64(sc.int(l, "nonce", 0)), addr: addr,
	}})
}

// newBatch returns a batch with the next number, unless l says otherwise.
func (sc *script) newBatch(l line) *batchCommand {
	b := &batchCommand{requests: []request{}}
	if m := sc.s.members.get(sc.member(l)); m != nil {
		b.incarnation, b.number = m.incarnation, m.number+1
	}
	b.incarnation = uint64(sc.int(l, "incarnation", int64(b.incarnation)))
	b.number = uint64(sc.int(l, "number", int64(b.number)))
	b.observed = ZXID(sc.int(l, "observed", 0))
	return b
}

func (sc *script) batch(l line, input string) string {
	b := sc.newBatch(l)
	if l.cmd == "touch" || l.flag("touch") {
		t := &touch{
			markMS: sc.int(l, "mark", 0), gapMS: sc.int(l, "gap", 0),
			freeBytes: uint64(sc.int(l, "free", 0)), lowOnSpace: l.flag("low"),
		}
		for key, silent := range map[string]bool{"silent": true, "awake": false} { // one of them in each script line
			v, ok := l.arg(key)
			if !ok {
				continue
			}
			for s := range strings.SplitSeq(v, ",") {
				id, generation, given := strings.Cut(s, "/")
				c := silence{session: SessionID(sc.number(id)), silent: silent}
				if c.generation = sc.generation(c.session); given {
					c.generation = uint64(sc.number(generation))
				}
				t.silences = append(t.silences, c)
			}
		}
		b.touch = t
	}
	lines := strings.Split(input, "\n")
	for i := 0; i < len(lines) && input != ""; i++ {
		r := sc.parse(lines[i])
		var below []string // of a multi: indented
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") {
			i++
			below = append(below, lines[i])
		}
		b.requests = append(b.requests, sc.request(r, strings.Join(below, "\n")))
	}
	return sc.apply(&command{kind: commandBatch, group: sc.s.group, member: sc.member(l), batch: b})
}

func (sc *script) parse(text string) line {
	cmd, args, err := datadriven.ParseLine(text)
	if err != nil {
		sc.fatalf("%v", err)
	}
	return line{cmd, args}
}

func (sc *script) request(l line, input string) request {
	sc.t.Helper()
	r := request{
		kind: requestWrite, session: SessionID(sc.int(l, "session", 0)), identities: sc.ids(l), timeMS: sc.clock,
	}
	if r.session != 0 {
		r.generation = uint64(sc.int(l, "generation", int64(sc.generation(r.session))))
	}
	if _, as := l.arg("as"); !as && scriptGovern[l.cmd] {
		r.identities = nil
	}
	switch l.cmd {
	case "open":
		r.kind, r.timeoutMS, r.password = requestOpenSession, sc.int(l, "timeout", 10_000), [16]byte{1, 2, 3}
	case "close", "release":
		r.kind, r.session, r.yield = requestCloseSession, SessionID(sc.number(sc.word(l, 0))), l.flag("yield")
		r.generation = uint64(sc.int(l, "generation", int64(sc.generation(r.session))))
		if l.cmd == "release" {
			r.kind = requestRelease
		}
	case "resume":
		r.kind, r.session = requestResume, SessionID(sc.number(sc.word(l, 0)))
		r.timeoutMS, r.password = sc.int(l, "timeout", 0), [16]byte{1, 2, 3}
		r.password[15] = byte(sc.int(l, "password", 0))
	case "withdraw":
		r.kind, r.session, r.claim = requestWithdraw, SessionID(sc.number(sc.word(l, 0))), uint64(sc.number(sc.word(l, 1)))
	case "expire":
		r.kind = requestExpire
		for _, w := range l.positional() {
			r.expiries = append(r.expiries, sc.expiry(w))
		}
	case "reap":
		r.kind = requestReap
		for _, w := range l.positional() {
			r.reaps = append(r.reaps, sc.reap(w))
		}
	case "setuser":
		r.kind, r.user = requestSetUser, &user{name: sc.path(sc.word(l, 0)), hash: conceal(string(sc.data(l)))}
	case "removeuser":
		r.kind, r.user = requestRemoveUser, &user{name: sc.path(sc.word(l, 0))}
	case "template":
		r.kind, r.template = requestSetTemplate, &template{path: sc.path(sc.word(l, 0)), list: sc.acl(sc.word(l, 1)), enforced: l.flag("enforced")}
	case "settings":
		r.kind, r.change = requestSettings, &settingsChange{from: sc.settings(l, "from-"), to: sc.settings(l, "")}
	case "multi":
		r.kind, r.ops = requestMulti, []op{}
		for s := range strings.SplitSeq(input, "\n") {
			if s != "" {
				r.ops = append(r.ops, sc.op(sc.parse(s)))
			}
		}
	case "seal", "flip", "cancel", "sealgroup", "takeback":
		r.kind, r.step = requestMountStep, sc.mountStep(l)
	case "adopt":
		r.kind, r.decree = requestAdopt, sc.decree(l)
	case "enter":
		r.kind, r.session, r.timeoutMS = requestEnter, SessionID(sc.number(sc.word(l, 0))), sc.int(l, "timeout", 10_000)
		r.generation = uint64(sc.int(l, "generation", firstGeneration))
	case "forget":
		r.kind = requestForget
		for _, w := range l.positional() {
			r.forgotten = append(r.forgotten, SessionID(sc.number(w)))
		}
	default:
		r.ops = []op{sc.op(l)}
	}
	return r
}

// scriptGovern are the requests that are made by code of the members, unless a script says
// otherwise.
var scriptGovern = map[string]bool{
	"setuser": true, "removeuser": true, "template": true, "settings": true, "open": true, "resume": true,
	"seal": true, "flip": true, "cancel": true, "sealgroup": true, "takeback": true, "adopt": true, "enter": true, "forget": true,
}

// generation returns that of a session, or the first if there is none.
func (sc *script) generation(id SessionID) uint64 {
	if ses, ok := sc.s.sessions.get(id); ok {
		return ses.generation
	}
	return firstGeneration
}

func (sc *script) expiry(word string) expiry {
	parts := strings.Split(word, "/")
	e := expiry{session: SessionID(sc.number(parts[0]))}
	if ses, ok := sc.s.sessions.get(e.session); ok {
		e.generation, e.touched = ses.generation, ses.lastTouch(sc.s.members.get(ses.owner))
	}
	if len(parts) == 3 {
		e.generation, e.touched = uint64(sc.number(parts[1])), uint64(sc.number(parts[2]))
	}
	return e
}

func (sc *script) reap(word string) reap {
	parts := strings.Split(word, ":")
	c := reap{path: parts[0]}
	if n, ok := sc.s.tree.find(c.path); ok {
		c.czxid, c.mzxid, c.cversion = n.czxid, n.mzxid, n.stat().Cversion
	}
	if len(parts) == 4 {
		c.czxid, c.mzxid, c.cversion = ZXID(sc.number(parts[1])), ZXID(sc.number(parts[2])), int32(sc.number(parts[3]))
	}
	return c
}

func (sc *script) op(l line) op {
	sc.t.Helper()
	o := op{path: sc.path(sc.word(l, 0)), version: int32(sc.int(l, "version", -1)), czxid: ZXID(sc.int(l, "czxid", 0))}
	switch l.cmd {
	case "create":
		o.kind, o.data, o.mode, o.ttlMS = opCreate, sc.data(l), sc.mode(l), sc.int(l, "ttl", 0)
		if l.flag("parents") {
			o.parents = persistentParents
		} else if l.flag("containers") {
			o.parents = containerParents
		}
		if v, ok := l.arg("acl"); ok {
			o.acl = sc.acl(v)
		}
	case "set":
		o.kind, o.data = opSetData, sc.data(l)
	case "delete":
		o.kind = opDelete
	case "check":
		o.kind = opCheck
	case "absent":
		o.kind = opCheckAbsent
	case "children":
		o.kind, o.count = opCheckChildren, int32(sc.number(sc.word(l, 1)))
	case "fewer":
		o.kind, o.count = opCheckFewerChildren, int32(sc.number(sc.word(l, 1)))
	case "add":
		o.kind, o.delta = opAdd, sc.number(sc.word(l, 1))
	case "setacl":
		o.kind, o.acl = opSetACL, sc.acl(sc.word(l, 1))
	default:
		sc.fatalf("unknown command %q", l.cmd)
	}
	return o
}

func (sc *script) data(l line) []byte {
	v, ok := l.arg("data")
	switch {
	case !ok, v == "null":
		return nil
	case v == "empty":
		return []byte{}
	case strings.HasPrefix(v, "*"):
		return bytes.Repeat([]byte("x"), int(sc.number(v[1:])))
	}
	return []byte(v)
}

var scriptModes = map[string]CreateMode{
	"ephemeral": Ephemeral, "sequential": PersistentSequential, "ephemeral-sequential": EphemeralSequential,
	"container": Container, "ttl": PersistentTTL, "ttl-sequential": PersistentSequentialTTL,
}

func (sc *script) mode(l line) CreateMode {
	v, ok := l.arg("mode")
	if !ok {
		return Persistent
	}
	if m, ok := scriptModes[v]; ok {
		return m
	}
	return CreateMode(sc.number(v))
}

// ids reads the caller's identities: scheme:id, separated by commas. The
// ensemble's own code is "member"; a caller who says nothing, or "none", has none.
func (sc *script) ids(l line) []ID {
	v, ok := l.arg("as")
	switch {
	case !ok:
		return []ID{}
	case v == "member":
		return nil
	case v == "none":
		return []ID{}
	}
	var ids []ID
	for s := range strings.SplitSeq(v, ",") {
		scheme, id, _ := strings.Cut(s, ":")
		ids = append(ids, ID{scheme, id})
	}
	return ids
}

const permLetters = "rwcda"

// acl reads perms:scheme:id, separated by commas; null and none are the lists
// that are not there and that are empty.
func (sc *script) acl(v string) []ACL {
	switch v {
	case "null":
		return nil
	case "none":
		return []ACL{}
	case "open":
		return OpenACL()
	}
	var list []ACL
	for s := range strings.SplitSeq(v, ",") {
		perms, id, _ := strings.Cut(s, ":")
		scheme, id, _ := strings.Cut(id, ":")
		a := ACL{ID: ID{scheme, id}}
		for _, c := range perms {
			if c != '-' {
				a.Perms |= 1 << strings.IndexRune(permLetters, c)
			}
		}
		list = append(list, a)
	}
	return list
}

func aclText(list []ACL) string {
	parts := make([]string, len(list))
	for i, a := range list {
		perms := ""
		for j, c := range permLetters {
			if a.Perms&(1<<j) != 0 {
				perms += string(c)
			}
		}
		parts[i] = fmt.Sprintf("%s:%s:%s", perms, a.ID.Scheme, a.ID.ID)
	}
	return strings.Join(parts, ",")
}

// apply takes cmd through its encoding into the state and prints what happened.
func (sc *script) apply(cmd *command) string {
	sc.t.Helper()
	e := newEncoder()
	e.command(cmd, formatVersion)
	entry := bytes.Clone(e.buf.Bytes())
	decoded, err := decodeCommand(entry)
	if err != nil {
		sc.fatalf("decodeCommand of what was encoded: %v", err)
	}
	e = newEncoder()
	e.command(decoded, formatVersion)
	if !bytes.Equal(e.buf.Bytes(), entry) {
		sc.fatalf("encoding what was decoded gives\n%x, want\n%x", e.buf.Bytes(), entry)
	}
	sc.log = append(sc.log, entry)
	before := sc.s.freeze()
	image := snapshotOf(sc.t, before)
	eff := sc.s.apply(decoded, digestOf(entry))
	if !bytes.Equal(snapshotOf(sc.t, before), image) {
		sc.fatalf("the frozen copy changed")
	}
	if err := sc.s.firstViolation(); err != nil {
		sc.fatalf("%v", err)
	}
	if bytes.Equal(snapshotOf(sc.t, sc.s.freeze()), image) {
		return "nothing changed"
	}
	var out strings.Builder
	switch cmd.kind {
	case commandInit:
		fmt.Fprintln(&out, "ok")
	case commandHello:
		fmt.Fprintf(&out, "incarnation %d\n", sc.s.members.get(cmd.member).incarnation)
	case commandBatch:
		sc.printBatch(&out, decoded, &eff)
	}
	return out.String()
}

func (sc *script) printBatch(out *strings.Builder, cmd *command, eff *effects) {
	results := sc.s.members.get(cmd.member).results
	if eff.panic != "" {
		fmt.Fprintf(out, "panic: %s\n", eff.panic)
	}
	if eff.touched {
		fmt.Fprintf(out, "touch %d, group time %d\n", sc.s.members.get(cmd.member).touches, sc.s.timeMS)
	}
	for i := range results {
		printResult(out, &cmd.batch.requests[i], &results[i])
	}
	for _, id := range eff.ended {
		fmt.Fprintf(out, "  ended %v\n", id)
	}
	for _, id := range eff.moved {
		fmt.Fprintf(out, "  moved %v\n", id)
	}
	for _, id := range eff.silenced {
		fmt.Fprintf(out, "  silenced %v\n", id)
	}
	for _, q := range eff.exceeded {
		fmt.Fprintf(out, "  exceeded %s %s of %s\n", shown(q.path), q.usage.text(), q.limits.text())
	}
	for _, ev := range eff.told() {
		if len(results) == 1 && ev.ZXID == results[0].zxid {
			fmt.Fprintf(out, "  %v %s\n", ev.Type, shown(ev.Path))
		} else {
			fmt.Fprintf(out, "  %v %s at %v\n", ev.Type, shown(ev.Path), ev.ZXID)
		}
	}
}

func printResult(out *strings.Builder, r *request, res *result) {
	fmt.Fprintf(out, "zxid %v", res.zxid)
	switch {
	case res.code != codeOK:
		fmt.Fprintf(out, " %s\n", codeName(res.code))
		return
	case r.kind == requestResume && res.session == 0:
		out.WriteString(" claimed\n")
		return
	case r.kind == requestOpenSession, r.kind == requestResume, r.kind == requestEnter:
		fmt.Fprintf(out, " session %#x timeout %d\n", uint64(res.session), res.timeoutMS)
		return
	case r.kind == requestMulti:
		if out.WriteString("\n"); len(res.ops) == 0 {
			out.WriteString("  no operations\n")
		}
		for i := range res.ops {
			out.WriteString("  -" + opResultText(&res.ops[i]) + "\n")
		}
		return
	case len(res.ops) == 1:
		out.WriteString(opResultText(&res.ops[0]))
	}
	out.WriteString("\n")
}

func opResultText(r *opResult) string {
	s := " " + codeName(r.code)
	if r.path != "" {
		s += " " + shown(r.path)
	}
	if r.value != 0 {
		s += fmt.Sprintf(" value=%d", r.value)
	}
	return s + statText(&r.stat)
}

// statText returns the fields that are not zero.
func statText(s *Stat) string {
	var b strings.Builder
	field := func(name string, v any, zero bool) {
		if !zero {
			fmt.Fprintf(&b, " %s=%v", name, v)
		}
	}
	field("czxid", s.Czxid, s.Czxid == 0)
	field("mzxid", s.Mzxid, s.Mzxid == 0)
	field("pzxid", s.Pzxid, s.Pzxid == 0)
	field("ctime", s.Ctime, s.Ctime == 0)
	field("mtime", s.Mtime, s.Mtime == 0)
	field("version", s.Version, s.Version == 0)
	field("cversion", s.Cversion, s.Cversion == 0)
	field("aversion", s.Aversion, s.Aversion == 0)
	field("owner", fmt.Sprintf("%#x", uint64(s.EphemeralOwner)), s.EphemeralOwner == 0)
	field("length", s.DataLength, s.DataLength == 0)
	field("children", s.NumChildren, s.NumChildren == 0)
	return b.String()
}

var codeNames = map[Code]string{
	codeOK: "ok", ErrSystemError: "SystemError", ErrRuntimeInconsistency: "RuntimeInconsistency",
	ErrUnimplemented: "Unimplemented", ErrBadArguments: "BadArguments", ErrNoNode: "NoNode", ErrNoAuth: "NoAuth",
	ErrBadVersion: "BadVersion", ErrNoChildrenForEphemerals: "NoChildrenForEphemerals", ErrNodeExists: "NodeExists",
	ErrNotEmpty: "NotEmpty", ErrSessionExpired: "SessionExpired", ErrInvalidACL: "InvalidACL",
	ErrSessionMoved: "SessionMoved", ErrTooLarge: "TooLarge", ErrNotANumber: "NotANumber", ErrOverflow: "Overflow",
	ErrNoSpace: "NoSpace", ErrAuthFailed: "AuthFailed", ErrNoUser: "NoUser", ErrQuotaExceeded: "QuotaExceeded", ErrLimitExceeded: "LimitExceeded",
	ErrWrongGroup: "WrongGroup", ErrMounted: "Mounted", codeSealed: "Sealed",
}

func codeName(c Code) string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return strconv.Itoa(int(c))
}

// byHand changes what no command can change in a reasonable time.
func (sc *script) byHand(l line) string {
	k, _ := keyOf(sc.word(l, 0))
	old, ok := sc.s.tree.lookup(k)
	if !ok {
		sc.fatalf("no such znode")
	}
	n := *old
	if l.cmd == "counter" {
		n.creates = int32(sc.number(sc.word(l, 1)))
	} else {
		n.version = int32(sc.int(l, "version", int64(n.version)))
		n.aversion = int32(sc.int(l, "aversion", int64(n.aversion)))
	}
	sc.s.tree.replace(k, &n)
	sc.replayable = false
	return "ok"
}

func (sc *script) show(l line) string {
	var b strings.Builder
	switch l.cmd {
	case "get":
		n, ok := sc.s.tree.find(sc.path(sc.word(l, 0)))
		if !ok {
			return "no such znode"
		}
		stat := n.stat()
		fmt.Fprintf(&b, "%s%s\n", dataText(n.data), statText(&stat))
	case "acl":
		n, ok := sc.s.tree.find(sc.path(sc.word(l, 0)))
		if !ok {
			return "no such znode"
		}
		list := n.acl.list
		if _, as := l.arg("as"); as && !sc.s.permits(n.acl, sc.ids(l), PermAdmin) {
			list = redactACL(list)
		}
		fmt.Fprintln(&b, aclText(list))
	case "tree":
		for it := range sc.s.tree.nodes.all() {
			fmt.Fprintf(&b, "%s %v %s", shown(it.key.path()), it.node.kind, dataText(it.node.data))
			if it.node.ttlMS != 0 {
				fmt.Fprintf(&b, " ttl=%d", it.node.ttlMS)
			}
			fmt.Fprintln(&b)
		}
	case "quotas":
		for it := range sc.s.quotas.byPath.all() {
			fmt.Fprintf(&b, "%s %s of %s\n", shown(it.path), it.quota.usage.text(), it.quota.limits.text())
		}
	case "sessions":
		for ses := range sc.s.sessions.byID.all() {
			fmt.Fprintf(&b, "%#x timeout=%d member=%v/%d generation=%d touched=%d", uint64(ses.id), ses.timeoutMS, ses.owner,
				ses.incarnation, ses.generation, ses.lastTouch(sc.s.members.get(ses.owner)))
			if ses.silent {
				b.WriteString(" silent")
			}
			if ses.released {
				b.WriteString(" released")
			}
			if c := ses.claim; c != nil {
				fmt.Fprintf(&b, " claimed by %v/%d for %#x timeout=%d", c.member, c.incarnation, c.generation, c.timeoutMS)
			}
			fmt.Fprintln(&b)
		}
	case "members":
		for _, m := range sc.s.members {
			fmt.Fprintf(&b, "%v %v %s incarnation=%d nonce=%d number=%d touches=%d at %d free=%d low=%v\n", m.id, m.role, m.addr,
				m.incarnation, m.nonce, m.number, m.touches, m.touchedMS, m.freeBytes, m.lowOnSpace)
		}
	case "users":
		for u := range sc.s.users.byName.all() {
			fmt.Fprintf(&b, "%s since %v\n", shown(u.name), u.since)
		}
	case "templates":
		for it := range sc.s.templates.byPath.all() {
			fmt.Fprintf(&b, "%s %s", shown(it.path), aclText(it.t.list))
			if it.t.enforced {
				b.WriteString(" enforced")
			}
			b.WriteString("\n")
		}
	case "inforce":
		set := &sc.s.settings
		fmt.Fprintf(&b, "max-data=%d timeouts=%d,%d ttl=%v default-acl=%s super=%s schemes=%s quotas=%v max-ephemerals=%d\n", set.maxDataBytes,
			set.minSessionTimeoutMS, set.maxSessionTimeoutMS, set.ttlNodes, aclText(set.defaultACL), set.superDigest, strings.Join(set.schemes, ","), set.enforceQuotas, set.maxEphemerals)
	case "state":
		fmt.Fprintf(&b, "zxid %v time %d znodes %d sessions %d\n", sc.s.zxid, sc.s.timeMS, sc.s.tree.nodes.len(), sc.s.sessions.byID.len())
	case "mounts", "route":
		sc.showMounts(&b, l)
	case "ephemerals":
		prefix, _ := l.arg("prefix")
		for _, p := range sc.s.ephemerals(SessionID(sc.number(sc.word(l, 0))), prefix) {
			fmt.Fprintln(&b, p)
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

// shown returns path as a Go string in quotes if a reader could not tell it.
func shown(path string) string {
	if q := strconv.QuoteToASCII(path); q != `"`+path+`"` || strings.Contains(path, " ") {
		return q
	}
	return path
}

func dataText(data []byte) string {
	switch {
	case data == nil:
		return "null"
	case len(data) > 40:
		return fmt.Sprintf("%d bytes", len(data))
	}
	return strconv.Quote(string(data))
}

// snapshot takes the state through a snapshot and goes on with what comes out.
func (sc *script) snapshot() string {
	sc.t.Helper()
	image := snapshotOf(sc.t, sc.s.freeze())
	s, err := readSnapshot(sc.s.group, bytes.NewReader(image), nil)
	if err != nil {
		sc.fatalf("readSnapshot: %v", err)
	}
	if again := snapshotOf(sc.t, s.freeze()); !bytes.Equal(again, image) {
		sc.fatalf("a second snapshot differs from the first")
	}
	if got, want := s.digest(), sc.s.digest(); got != want {
		sc.fatalf("digest %v after the snapshot, want %v", got, want)
	}
	sc.s = s
	return "same state"
}

// finish checks at the end of a script what must hold whatever it did.
func (sc *script) finish() {
	sc.t.Helper()
	sc.snapshot()
	if !sc.replayable {
		return
	}
	s := newState(sc.s.group)
	for _, entry := range sc.log {
		cmd, err := decodeCommand(entry)
		if err != nil {
			sc.t.Fatalf("decodeCommand: %v", err)
		}
		s.apply(cmd, digestOf(entry))
	}
	if !bytes.Equal(snapshotOf(sc.t, s.freeze()), snapshotOf(sc.t, sc.s.freeze())) {
		sc.t.Fatal("a replay of the log gives another state")
	}
}

func snapshotOf(tb testing.TB, s *state) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := writeSnapshot(s, &b, nil); err != nil {
		tb.Fatalf("writeSnapshot: %v", err)
	}
	return b.Bytes()
}

// newTestState returns a state after init and the hello of member 1.
func newTestState() *state {
	s := newState(rootGroup)
	s.apply(&command{kind: commandInit, group: rootGroup, member: 1, init: &initCommand{
		version: formatVersion, ensemble: "test", timeMS: 1000,
		settings: settings{maxDataBytes: 1 << 20, minSessionTimeoutMS: 1000, maxSessionTimeoutMS: 60_000, ttlNodes: true},
		members:  []memberRecord{{id: 1, addr: "1:1"}},
	}}, 0)
	s.apply(&command{kind: commandHello, group: rootGroup, member: 1, hello: &helloCommand{nonce: 1, addr: "1:1"}}, 0)
	return s
}

// applyRequests applies one batch of member 1.
func applyRequests(s *state, requests ...request) ([]result, effects) {
	m := s.members.get(1)
	cmd := &command{kind: commandBatch, group: s.group, member: 1, batch: &batchCommand{
		incarnation: m.incarnation, number: m.number + 1, requests: requests,
	}}
	eff := s.apply(cmd, m.number+1)
	return s.members.get(1).results, eff
}

func writeOf(o op) request {
	if o.version == 0 {
		o.version = AnyVersion
	}
	return request{kind: requestWrite, timeMS: 1000, ops: []op{o}}
}

// TestPanicInApplyIsRecorded breaks an invariant by hand, so that a close panics
// half-way, and sees that the batch is answered, that nothing else of it remains
// and that the next one works.
func TestPanicInApplyIsRecorded(t *testing.T) {
	s := newTestState()
	applyRequests(s, request{kind: requestOpenSession, timeoutMS: 5000})
	id := s.members.get(1).results[0].session
	owned := func(path string) request {
		r := writeOf(op{kind: opCreate, path: path, mode: Ephemeral})
		r.session, r.generation = id, 1
		return r
	}
	applyRequests(s, owned("/a"), owned("/b"))
	k, _ := keyOf("/b")
	s.tree.nodes.remove(treeItem{key: k}) // S2 and T4 are broken now

	before, zxid := s.digest(), s.zxid
	results, eff := applyRequests(s,
		writeOf(op{kind: opCreate, path: "/before"}),
		request{kind: requestCloseSession, session: id, generation: 1},
		writeOf(op{kind: opCreate, path: "/after"}))
	if !strings.Contains(eff.panic, "S2") || len(eff.changes) != 0 || len(eff.ended) != 0 {
		t.Errorf("effects %+v, want the panic of S2 and nothing else", eff)
	}
	for i, r := range results {
		if want := zxid + ZXID(i) + 1; r.code != ErrSystemError || r.zxid != want || len(r.ops) != 0 {
			t.Errorf("result %d = %+v, want ErrSystemError at %v", i, r, want)
		}
	}
	if len(results) != 3 || s.zxid != zxid+3 {
		t.Errorf("%d results and zxid %v, want 3 and %v", len(results), s.zxid, zxid+3)
	}
	s.zxid = zxid
	if got := s.digest(); got != before {
		t.Error("the batch left a trace in the tree or the sessions")
	}
	s.zxid += 3
	if results, eff := applyRequests(s, writeOf(op{kind: opCreate, path: "/next"})); eff.panic != "" || results[0].firstError() != codeOK {
		t.Errorf("next batch: %+v, panic %q", results, eff.panic)
	}
}

// TestGroupTimeStaysInRange starts a group with a clock that is out of its mind.
func TestGroupTimeStaysInRange(t *testing.T) {
	for _, ms := range []int64{math.MinInt64, -1, 0, math.MaxInt64} {
		s := newState(rootGroup)
		s.apply(&command{kind: commandInit, group: rootGroup, member: 1, init: &initCommand{
			version: formatVersion, timeMS: ms, members: []memberRecord{{id: 1}},
		}}, 0)
		s.apply(&command{kind: commandHello, group: rootGroup, member: 1, hello: &helloCommand{}}, 0)
		for n := range uint64(3) {
			last := s.timeMS
			s.apply(&command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{
				incarnation: 1, number: n + 1, touch: &touch{markMS: math.MaxInt64, gapMS: math.MaxInt64},
			}}, n)
			if s.timeMS < last || s.timeMS > last+maxTimeStepMS || s.timeMS < 0 {
				t.Errorf("started at %d: group time moved from %d to %d", ms, last, s.timeMS)
			}
		}
	}
}

// TestSnapshotIsNotWritten sees that a snapshot which nobody wants stops.
func TestSnapshotIsNotWritten(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	if err := writeSnapshot(newTestState().freeze(), &bytes.Buffer{}, stop); !errors.Is(err, errStopped) {
		t.Errorf("writeSnapshot = %v, want errStopped", err)
	}
	image := snapshotOf(t, newTestState().freeze())
	if _, err := readSnapshot(rootGroup, bytes.NewReader(image), stop); !errors.Is(err, errStopped) {
		t.Errorf("readSnapshot = %v, want errStopped", err)
	}
}
