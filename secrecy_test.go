package coord_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
	"coord/internal/invariants"
)

// What may be revealed to whom, as in ZooKeeper:
//
//   - the data of a znode, and that it changed: to whoever may read it;
//   - its stat: also to whoever changes it, and with its ACL to whoever may set that;
//   - its path: also to whoever may read its parent, which lists it, or something below
//     it, whose path has it inside;
//   - that there is something at a path, or nothing: to whoever asks for that path;
//   - the number of znodes below one: to whoever may read that one.
//
// A read is judged by the state that it is of; a View that is kept shows what its
// reader was allowed to read when it was taken. An event is told to those who were
// allowed to read the znode at the event and are when they are told, with the identities
// that they have by then. (Of what happened to the children of a znode the ACL of that
// znode decides.) A znode that is gone is judged by the ACL that it had last.
//
// TestSecrecy has readers of all kinds do everything that can tell them something,
// while the tree and its ACLs change at random, and compares what they are told with
// what a model says they may be told: no more, and no less. All names and data are
// unique, so that one that turns up in an error is seen.
func TestSecrecy(t *testing.T) {
	const steps = 400
	seeds := 12
	if invariants.Enabled { // the race detector takes 2 s for each
		seeds = 4
	}
	told, denied := 0, 0
	first := uint64(time.Now().UnixNano()) // outside of bubbles: another run is another test
	for i := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed %d", first+i), func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				x := newSecrecy(t, first+i)
				for x.step = range steps {
					x.do()
				}
				for _, w := range x.watches {
					w.drain(-1)
				}
				told, denied = told+x.told, denied+x.denied
			})
		})
	}
	if told < seeds*steps/8 || denied < seeds*steps {
		t.Errorf("only %d events were told and %d reads refused", told, denied)
	}
}

// A secrecy is one run of the test.
type secrecy struct {
	*testing.T
	e       *coordtest.Ensemble
	c       *coord.Coordinator
	r       *rand.Rand
	admin   *coord.Session
	readers []*secretReader
	watches []*secretWatch
	sets    []*secretSet
	views   []secretView

	nodes  map[string]*secretNode
	gone   map[string][]coord.ACL // the last ACL of what was deleted
	paths  []string               // all that there ever were
	events []secretEvent          // all that there ever were

	step, names, values, told, denied int
}

// A secretNode is what the model knows of a znode. It is replaced, not changed.
type secretNode struct {
	acl  []coord.ACL
	data string
}

// A secretEvent is what the model knows of an event.
type secretEvent struct {
	typ    coord.EventType
	path   string
	node   *secretNode
	parent []coord.ACL
}

// A secretReader is somebody outside.
type secretReader struct {
	s    *coord.Session
	ids  []coord.ID
	more []string // credentials that it may show yet
}

// newSecrecy makes an ensemble with a few readers: one of each kind, so that ACLs can be
// for some and not for others.
func newSecrecy(t *testing.T, seed uint64) *secrecy {
	t.Helper()
	e := coordtest.NewEnsemble(t, 1, coordtest.WithElectionTimeout(2*time.Second), coordtest.WithConfig(func(c *coord.Config) {
		c.SuperDigest = coord.DigestID("super:secret").ID
		c.Authenticators = map[string]coord.Authenticator{"jwt": echo{}}
		c.WatchBuffer = 8
	}))
	x := &secrecy{T: t, e: e, r: rand.New(rand.NewPCG(seed, 0)), nodes: map[string]*secretNode{}, gone: map[string][]coord.ACL{}}
	x.paths = []string{"/"}
	x.readers = []*secretReader{
		{ids: []coord.ID{}, more: []string{"digest b:b", "jwt j"}},
		{ids: []coord.ID{coord.DigestID("a:a")}, more: []string{"jwt j", "digest b:b"}},
		{ids: []coord.ID{{Scheme: "ip", ID: "10.0.0.1"}, coord.DigestID("b:b")}},
		{ids: []coord.ID{{Scheme: "x509", ID: "CN=c"}}, more: []string{"digest a:a"}},
	}
	x.connect(e.Member(1))
	x.nodes["/"] = &secretNode{acl: coord.OpenACL()}
	_, err := x.admin.SetACL(t.Context(), "/", coord.OpenACL())
	x.must(err)
	t.Cleanup(func() {
		for _, w := range x.watches {
			w.close()
		}
	})
	return x
}

// connect opens all sessions.
func (x *secrecy) connect(c *coord.Coordinator) {
	x.c = c
	x.admin = outsider(nil, "digest super:secret")(x.T, c)
	for _, reader := range x.readers {
		reader.s = outsider(reader.ids)(x.T, c)
	}
}

// list returns a random ACL. What it grants beside reading is for those who may read as
// often as for those who may not.
func (x *secrecy) list() []coord.ACL {
	ids := []coord.ID{
		{Scheme: "world", ID: "anyone"},
		{Scheme: "world", ID: "anyone"},
		coord.DigestID("a:a"), coord.DigestID("b:b"),
		{Scheme: "ip", ID: "10.0.0.0/8"},
		{Scheme: "x509", ID: "CN=c"},
		{Scheme: "jwt", ID: "j"},
		{Scheme: "ensemble", ID: "member"},
	}
	list := []coord.ACL{{Perms: x.perms(), ID: ids[x.r.IntN(len(ids))]}}
	if second := ids[x.r.IntN(len(ids))]; second != list[0].ID && x.r.IntN(2) == 0 {
		list = append(list, coord.ACL{Perms: x.perms(), ID: second})
	}
	return list
}

func (x *secrecy) perms() coord.Perm {
	return coord.PermRead*coord.Perm(min(x.r.IntN(4), 1)) | []coord.Perm{0, 0, 0, coord.PermWrite, coord.PermAdmin, coord.PermCreate | coord.PermDelete}[x.r.IntN(6)]
}

// allows is the model of permission.
func (r *secretReader) allows(list []coord.ACL, want coord.Perm) bool {
	return slices.ContainsFunc(list, func(a coord.ACL) bool {
		return a.Perms&want != 0 && (a.ID.Scheme == "world" || a.ID.Scheme != "ensemble" && slices.ContainsFunc(r.ids, func(id coord.ID) bool {
			return id == a.ID || id.Scheme == "ip" && a.ID.ID == "10.0.0.0/8"
		}))
	})
}

// tells is the model of what an event needs.
func (x *secrecy) tells(r *secretReader, path string, then []coord.ACL) bool {
	now, gone := x.gone[path]
	if n := x.nodes[path]; n != nil {
		now, gone = n.acl, true
	}
	return r.allows(then, coord.PermRead) && (!gone || r.allows(now, coord.PermRead))
}

func (x *secrecy) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatalf("step %d: %v", x.step, err)
	}
}

// do takes one step.
func (x *secrecy) do() {
	switch n := x.r.IntN(100); {
	case n < 40:
		x.write()
	case n < 60:
		x.read(x.reader())
	case n < 68:
		x.meddle(x.reader())
	case n < 74:
		x.openWatch()
	case n < 84 && len(x.watches) > 0:
		x.watches[x.r.IntN(len(x.watches))].drain(x.r.IntN(6) - 1)
	case n < 88:
		x.openSet()
	case n < 92 && len(x.sets) > 0:
		x.sets[x.r.IntN(len(x.sets))].take()
	case n < 94:
		r := x.reader()
		v, err := r.s.View(x.Context())
		x.must(err)
		x.views = append(x.views, secretView{v, &secretReader{ids: slices.Clone(r.ids)}, maps.Clone(x.nodes)})
	case n < 98 && len(x.views) > 0:
		x.views[x.r.IntN(len(x.views))].look(x)
	case n < 99:
		x.addAuth(x.reader())
	case x.r.IntN(3) == 0:
		x.restart()
	}
}

// addAuth has a reader show another credential, while its watches are open.
func (x *secrecy) addAuth(r *secretReader) {
	if len(r.more) == 0 {
		return
	}
	scheme, credential, _ := strings.Cut(r.more[0], " ")
	r.more = r.more[1:]
	x.must(r.s.AddAuth(x.Context(), scheme, []byte(credential)))
	r.ids = r.s.Identities()
}

// restart has the member begin anew: watches go on from where they were.
func (x *secrecy) restart() {
	for _, w := range x.watches {
		w.close()
	}
	for _, s := range slices.Clone(x.sets) {
		s.take()
		s.ws.Close()
	}
	x.sets = nil
	x.e.Kill(x.c)
	c := x.e.Restart(x.c)
	x.must(c.Ready(x.Context()))
	x.connect(c)
	for _, w := range x.watches {
		w.open(x.reader())
	}
}

// path returns one that is or was, or one that never was.
func (x *secrecy) path() string {
	if x.r.IntN(8) == 0 {
		return x.child(x.paths[x.r.IntN(len(x.paths))])
	}
	return x.paths[x.r.IntN(len(x.paths))]
}

func (x *secrecy) child(parent string) string {
	x.names++
	return strings.TrimSuffix(parent, "/") + fmt.Sprintf("/n%d_", x.names)
}

func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return "/"
}

// value returns data that was never before.
func (x *secrecy) value() string {
	x.values++
	return fmt.Sprintf("d%d_", x.values)
}

// A secretChange is what an operation does to the model.
type secretChange struct {
	op    coord.Op
	apply func()
}

// change returns a random operation that the admin may do, or nothing.
func (x *secrecy) change() (c secretChange, ok bool) {
	path := x.path()
	n := x.nodes[path]
	switch {
	case n == nil:
		if x.nodes[parentOf(path)] == nil {
			return c, false
		}
		return x.createOf(path), true
	case path == "/" || x.r.IntN(3) == 0:
		return x.createOf(x.child(path)), true
	case x.r.IntN(2) == 0:
		return x.setOf(path), true
	case x.hasChildren(path):
		return c, false
	}
	return x.deleteOf(path), true
}

func (x *secrecy) hasChildren(path string) bool {
	for other := range x.nodes {
		if other != "/" && parentOf(other) == path {
			return true
		}
	}
	return false
}

func (x *secrecy) createOf(path string) secretChange {
	n := &secretNode{x.list(), x.value()}
	return secretChange{coord.CreateOp(path, []byte(n.data), coord.WithACL(n.acl...)), func() { x.created(path, n) }}
}

func (x *secrecy) created(path string, n *secretNode) {
	x.nodes[path] = n
	delete(x.gone, path)
	if !slices.Contains(x.paths, path) {
		x.paths = append(x.paths, path)
	}
	x.events = append(x.events, secretEvent{coord.NodeCreated, path, n, x.nodes[parentOf(path)].acl})
}

func (x *secrecy) setOf(path string) secretChange {
	data := x.value()
	return secretChange{coord.SetDataOp(path, []byte(data)), func() { x.changed(path, data) }}
}

func (x *secrecy) changed(path, data string) {
	n := &secretNode{x.nodes[path].acl, data}
	x.nodes[path] = n
	x.events = append(x.events, secretEvent{coord.NodeDataChanged, path, n, nil})
}

func (x *secrecy) deleteOf(path string) secretChange {
	return secretChange{coord.DeleteOp(path), func() { x.deleted(path) }}
}

func (x *secrecy) deleted(path string) {
	n := x.nodes[path]
	delete(x.nodes, path)
	x.gone[path] = n.acl
	x.events = append(x.events, secretEvent{coord.NodeDeleted, path, n, x.nodes[parentOf(path)].acl})
}

// write has the admin change something: an ACL, or other things, several at once.
func (x *secrecy) write() {
	if path := x.path(); x.r.IntN(3) == 0 && x.nodes[path] != nil {
		list := x.list()
		_, err := x.admin.SetACL(x.Context(), path, list)
		x.must(err)
		x.nodes[path] = &secretNode{list, x.nodes[path].data}
		return
	}
	var ops []coord.Op
	for range 1 + x.r.IntN(3) {
		if c, ok := x.change(); ok {
			c.apply() // the next one builds on it
			ops = append(ops, c.op)
		}
	}
	if len(ops) > 0 {
		_, err := x.admin.Multi(x.Context(), ops...)
		x.must(err)
	}
}

var secretToken = regexp.MustCompile(`[nd]\d+_`)

// checkError sees that an error has the code that it must have, and tells no name and
// no data that the reader did not put into the request.
func (x *secrecy) checkError(what string, err error, want coord.Code, request ...string) {
	x.Helper()
	if want == 0 && err == nil {
		return
	}
	if !errors.Is(err, want) {
		x.Errorf("step %d: %s = %v, want %v", x.step, what, err, want)
	}
	if errors.Is(err, coord.ErrNoAuth) {
		x.denied++
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%v %+v %#v", err, err, err)} {
		for _, token := range secretToken.FindAllString(text, -1) {
			if !strings.Contains(strings.Join(request, " "), token) {
				x.Errorf("step %d: %s: the error tells %s: %s", x.step, what, token, text)
			}
		}
	}
}

// need returns what an operation on a znode that needs a permission is answered.
func (x *secrecy) need(r *secretReader, path string, want coord.Perm) coord.Code {
	n := x.nodes[path]
	switch {
	case n == nil:
		return coord.ErrNoNode
	case !r.allows(n.acl, want):
		return coord.ErrNoAuth
	}
	return 0
}

// children returns the names below a path, in order.
func childrenIn(nodes map[string]*secretNode, path string) []string {
	names := []string{}
	if path == "/" {
		names = append(names, "zookeeper")
	}
	for other := range nodes {
		if other != "/" && parentOf(other) == path {
			names = append(names, other[strings.LastIndexByte(other, '/')+1:])
		}
	}
	slices.Sort(names)
	return names
}

// read has a reader read something.
func (x *secrecy) read(r *secretReader) {
	path, ctx := x.path(), x.Context()
	code := x.need(r, path, coord.PermRead)
	data, stat, err := r.s.Get(ctx, path)
	x.checkError("Get", err, code, path)
	if err != nil && (data != nil || stat != coord.Stat{}) || err == nil && string(data) != x.nodes[path].data {
		x.Errorf("step %d: Get(%s) = %q, %+v, %v", x.step, path, data, stat, err)
	}
	stat, ok, err := r.s.Exists(ctx, path)
	want := code
	if want == coord.ErrNoNode {
		want = 0
	}
	x.checkError("Exists", err, want, path)
	if ok != (code == 0) || !ok && stat != (coord.Stat{}) {
		x.Errorf("step %d: Exists(%s) = %+v, %v, %v", x.step, path, stat, ok, err)
	}
	names, _, err := r.s.Children(ctx, path)
	x.checkError("Children", err, code, path)
	if err == nil && !slices.Equal(names, childrenIn(x.nodes, path)) || err != nil && names != nil {
		x.Errorf("step %d: Children(%s) = %q, %v, want %q", x.step, path, names, err, childrenIn(x.nodes, path))
	}
	n, err := r.s.AllChildrenNumber(ctx, path)
	x.checkError("AllChildrenNumber", err, code, path)
	if err != nil && n != 0 {
		x.Errorf("step %d: AllChildrenNumber(%s) = %d, %v", x.step, path, n, err)
	}
	list, stat, err := r.s.ACL(ctx, path)
	x.checkError("ACL", err, x.need(r, path, coord.PermRead|coord.PermAdmin), path)
	if err != nil && (list != nil || stat != coord.Stat{}) {
		x.Errorf("step %d: ACL(%s) = %v, %+v, %v", x.step, path, list, stat, err)
	}
	if err == nil && !r.allows(x.nodes[path].acl, coord.PermAdmin) && slices.ContainsFunc(list, func(a coord.ACL) bool { return a.ID.Scheme == "digest" && len(a.ID.ID) > 3 }) {
		x.Errorf("step %d: ACL(%s) shows a hash", x.step, path)
	}
	values, _, err := coord.NewTyped(coord.Client(r.s), coord.Raw()).Children(ctx, path)
	x.checkError("Typed.Children", err, code, path)
	for _, v := range values {
		x.checkError("Typed.Children", v.Err, x.valueCode(r, v.Path), v.Path)
		if v.Err != nil && (v.Value != nil || v.Stat != coord.Stat{}) {
			x.Errorf("step %d: Typed.Children(%s) = %+v", x.step, path, v)
		}
	}
	v, err := r.s.View(ctx)
	x.must(err)
	secretView{v, r, x.nodes}.look(x)
	if own, err := r.s.Ephemerals(ctx, ""); err != nil || len(own) > 0 {
		x.Errorf("step %d: Ephemerals = %q, %v", x.step, own, err)
	}
}

func (x *secrecy) valueCode(r *secretReader, path string) coord.Code {
	if strings.HasPrefix(path, "/zookeeper") {
		return coord.ErrNoAuth
	}
	return x.need(r, path, coord.PermRead)
}

// meddle has a reader try to change something, or to learn by conditions.
func (x *secrecy) meddle(r *secretReader) {
	path, ctx := x.path(), x.Context()
	parent := x.nodes[parentOf(path)]
	switch x.r.IntN(6) {
	case 0:
		data := x.value()
		stat, err := r.s.SetData(ctx, path, []byte(data))
		code := x.need(r, path, coord.PermWrite)
		x.checkError("SetData", err, code, path, data)
		if err == nil {
			x.changed(path, data)
		} else if stat != (coord.Stat{}) {
			x.Errorf("step %d: SetData(%s) = %+v, %v", x.step, path, stat, err)
		}
	case 1:
		if path == "/" || x.nodes[path] == nil || x.hasChildren(path) || parent == nil {
			return
		}
		code := coord.Code(0)
		if !r.allows(parent.acl, coord.PermDelete) {
			code = coord.ErrNoAuth
		}
		err := r.s.Delete(ctx, path)
		x.checkError("Delete", err, code, path)
		if err == nil {
			x.deleted(path)
		}
	case 2:
		if x.nodes[path] == nil {
			return
		}
		child := x.child(path)
		n := &secretNode{x.list(), x.value()}
		_, stat, err := r.s.Create(ctx, child, []byte(n.data), coord.WithACL(n.acl...))
		x.checkError("Create", err, x.need(r, path, coord.PermCreate), child, n.data)
		if err == nil {
			x.created(child, n)
		} else if stat != (coord.Stat{}) {
			x.Errorf("step %d: Create(%s) = %+v, %v", x.step, child, stat, err)
		}
	default:
		x.probe(r, path)
	}
}

// probe asks with conditions that a reader could guess the stat with.
func (x *secrecy) probe(r *secretReader, path string) {
	code := x.need(r, path, coord.PermRead)
	probes := []coord.Op{
		coord.CheckOp(path, coord.WithVersion(1000)), coord.CheckOp(path, coord.WithCzxid(1)), coord.CheckChildrenOp(path, 1000), coord.CheckFewerChildrenOp(path, -1),
	}
	i := x.r.IntN(len(probes))
	if code == 0 {
		code = coord.ErrBadVersion
	}
	results, err := r.s.Multi(x.Context(), coord.CheckOp("/zookeeper/config"), probes[i], coord.CheckOp(path))
	x.checkError(fmt.Sprintf("probe %d", i), err, code, path)
	multi, ok := errors.AsType[*coord.MultiError](err)
	if !ok || multi.Index != 1 || results != nil || multi.Results[0] != nil || !errors.Is(multi.Results[2], coord.ErrRuntimeInconsistency) {
		x.Errorf("step %d: probe %d of %s = %v, %v", x.step, i, path, results, err)
	}
	for _, err := range multi.Results[1:] {
		x.checkError("probe", err, err.(coord.Code), path) //nolint:forcetypeassert,errorlint // all of them are
	}
}

// A secretView is a view that a reader has kept, and what the model was.
type secretView struct {
	v     *coord.View
	r     *secretReader // as it was
	nodes map[string]*secretNode
}

// look reads from a view.
func (v secretView) look(x *secrecy) {
	var want, got []string
	for _, path := range x.paths {
		n := v.nodes[path]
		code := coord.ErrNoNode
		switch {
		case n != nil && v.r.allows(n.acl, coord.PermRead):
			code = 0
		case n != nil:
			code = coord.ErrNoAuth
		}
		data, stat, err := v.v.Get(path)
		x.checkError("View.Get", err, code, path)
		names, _, err := v.v.Children(path)
		x.checkError("View.Children", err, code, path)
		after := slices.Collect(v.v.ChildrenAfter(path, ""))
		if code != 0 {
			if data != nil || stat != (coord.Stat{}) || names != nil || len(after) > 0 {
				x.Errorf("step %d: the view shows %q, %+v, %q, %q of %s", x.step, data, stat, names, after, path)
			}
			continue
		}
		if all := childrenIn(v.nodes, path); string(data) != n.data || !slices.Equal(names, all) || !slices.Equal(after, all) {
			x.Errorf("step %d: the view shows %q, %q, %q of %s, want %q, %q", x.step, data, names, after, path, n.data, all)
		}
		if v.r.allows(v.nodes["/"].acl, coord.PermRead) {
			want = append(want, path+" "+n.data)
		}
	}
	for z := range v.v.Walk("/") {
		if !strings.HasPrefix(z.Path, "/zookeeper") {
			got = append(got, z.Path+" "+string(z.Data))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		x.Errorf("step %d: Walk shows %q, want %q", x.step, got, want)
	}
}

// A secretWatch is a watch and how far its reader was told.
type secretWatch struct {
	x     *secrecy
	r     *secretReader
	path  string
	mode  coord.WatchMode
	data  bool
	w     *coord.Watch
	next  func() (coord.Event, error, bool)
	stop  func()
	at    coord.Position
	index int // of the first of the events that it was not told
	first map[string]*secretNode
}

func (x *secrecy) openWatch() {
	w := &secretWatch{
		x: x, r: x.reader(), path: x.path(), mode: coord.WatchMode(1 + x.r.IntN(3)), data: x.r.IntN(2) == 0, index: len(x.events),
	}
	if x.r.IntN(2) == 0 {
		w.path = "/"
	}
	initial := x.r.IntN(3) == 0
	options := w.options()
	if initial {
		options = append(options, coord.WithInitial())
		w.first = maps.Clone(x.nodes)
	} else {
		w.at = x.position()
	}
	var err error
	w.w, err = w.r.s.Watch(x.Context(), w.path, w.mode, options...)
	x.must(err)
	w.next, w.stop = iter.Pull2(w.w.Events())
	x.watches = append(x.watches, w)
}

func (w *secretWatch) options() []coord.WatchOption {
	options := []coord.WatchOption{coord.WithProgress()}
	if w.data {
		options = append(options, coord.WithData())
	}
	return options
}

func (w *secretWatch) close() {
	w.stop()
	w.w.Close()
}

// open opens the watch again from where it was, for its reader or another.
func (w *secretWatch) open(r *secretReader) {
	if w.first != nil { // it was not told the state, and has no place to go on from
		w.first, w.index = nil, len(w.x.events)
		w.at = w.x.position()
	}
	w.r = r
	var err error
	w.w, err = r.s.Watch(w.x.Context(), w.path, w.mode, append(w.options(), coord.From(w.at))...)
	w.x.must(err)
	w.next, w.stop = iter.Pull2(w.w.Events())
}

func (x *secrecy) position() coord.Position {
	v, err := x.admin.View(x.Context())
	x.must(err)
	return v.Position()
}

func (x *secrecy) reader() *secretReader { return x.readers[x.r.IntN(len(x.readers))] }

// drain reads up to most events, all if that is negative, and compares them with what
// is to be told now.
func (w *secretWatch) drain(most int) {
	x := w.x
	x.Helper()
	if w.first != nil {
		most = -1
	}
	initial, want := w.initial(), w.expected()
	// A write that concerns nobody has the watch say how far it is.
	stat, err := x.admin.SetData(x.Context(), "/zookeeper", nil)
	x.must(err)
	var state, got []string
	for most < 0 || len(got) < most {
		ev, err, ok := w.next()
		if overrun, is := errors.AsType[*coord.OverrunError](err); is {
			if tokens := secretToken.FindAllString(fmt.Sprintf("%v %+v", err, err), -1); tokens != nil {
				x.Errorf("step %d: an overrun tells %q", x.step, tokens)
			}
			w.close()
			w.first, w.at = nil, overrun.Position
			w.open(w.r)
			continue
		}
		if err != nil || !ok {
			x.Fatalf("step %d: behind %q: %v", x.step, got, err)
		}
		if !ev.Position.IsZero() {
			w.at = ev.Position
		}
		switch {
		case below(ev.Path, "/zookeeper"):
			continue // its configuration is everybody's
		case ev.Type == coord.Progress && ev.ZXID < stat.Mzxid:
			continue
		case ev.Initial:
			state = append(state, textOf(ev, w.data))
			continue
		case ev.Type != coord.Progress:
			got = append(got, textOf(ev, w.data))
			continue
		}
		most = len(got) // it was told everything
		w.index = len(x.events)
	}
	x.told += len(got) + len(state)
	if w.index < len(x.events) && most <= len(want) {
		want = want[:most]
	}
	var texts []string
	for _, e := range want {
		texts = append(texts, e.text)
	}
	slices.Sort(state)
	if !slices.Equal(state, initial) || !slices.Equal(got, texts) {
		x.Fatalf("step %d: a watch on %s, %v, as %v was told\n%q and %q, want\n%q and %q", x.step, w.path, w.mode, w.r.ids, state, got, initial, texts)
	}
	if w.index < len(x.events) && len(want) > 0 {
		w.index = want[len(want)-1].index + 1
	}
	w.first = nil
	if x.r.IntN(4) == 0 {
		w.close()
		w.open(x.reader())
	}
}

// textOf returns what a watch tells, without places.
func textOf(ev coord.Event, data bool) string {
	text := fmt.Sprintf("%v %s", ev.Type, ev.Path)
	if data && ev.Type != coord.NodeChildrenChanged {
		text += " " + string(ev.Data)
	}
	return text
}

// An expectation is an event that must be told.
type expectation struct {
	text  string
	index int // of the event
}

func below(path, root string) bool {
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
}

// initial returns what is to be told of the state when the watch was opened, sorted.
func (w *secretWatch) initial() (texts []string) {
	root := w.first[w.path]
	if root == nil || !w.r.allows(root.acl, coord.PermRead) {
		return nil
	}
	for path, n := range w.first {
		in := path == w.path
		switch w.mode {
		case coord.Children:
			in = path != "/" && parentOf(path) == w.path
		case coord.Subtree:
			in = below(path, w.path)
		case coord.Node:
		}
		if in && w.x.tells(w.r, path, n.acl) {
			texts = append(texts, textOf(coord.Event{Type: coord.NodeCreated, Path: path, Data: []byte(n.data)}, w.data))
		}
	}
	slices.Sort(texts)
	return texts
}

// expected returns what the reader is to be told of what happened since.
func (w *secretWatch) expected() (all []expectation) {
	for i := w.index; i < len(w.x.events); i++ {
		e := w.x.events[i]
		ev, then := coord.Event{Type: e.typ, Path: e.path, Data: []byte(e.node.data)}, e.node.acl
		in := e.path == w.path
		switch w.mode {
		case coord.Children:
			in = e.typ != coord.NodeDataChanged && e.path != "/" && parentOf(e.path) == w.path
			ev, then = coord.Event{Type: coord.NodeChildrenChanged, Path: w.path}, e.parent
		case coord.Subtree:
			in = below(e.path, w.path)
		case coord.Node:
		}
		if in && w.x.tells(w.r, ev.Path, then) {
			all = append(all, expectation{textOf(ev, w.data), i})
		}
	}
	return all
}

// A secretSet is a set with one registration that lasts.
type secretSet struct {
	x     *secrecy
	r     *secretReader
	ws    *coord.WatchSet
	reg   coord.Registration
	index int // of the first of the events that it was not told
}

func (x *secrecy) openSet() {
	s := &secretSet{x: x, r: x.reader(), index: len(x.events)}
	s.reg = coord.Registration{Path: x.path(), Type: []coord.WatcherType{coord.PersistentWatcher, coord.PersistentRecursiveWatcher}[x.r.IntN(2)]}
	var err error
	s.ws, err = s.r.s.NewWatchSet(x.Context())
	x.must(err)
	v, err := s.r.s.View(x.Context())
	x.must(err)
	x.must(s.ws.Add(v, s.reg))
	x.sets = append(x.sets, s)
}

// take takes everything and compares it. A set that is overrun is told less, and ends.
func (s *secretSet) take() {
	x := s.x
	x.Helper()
	var want, got []string
	for ; s.index < len(x.events); s.index++ {
		e := x.events[s.index]
		in, parent := e.path == s.reg.Path, e.path != "/" && parentOf(e.path) == s.reg.Path && e.typ != coord.NodeDataChanged
		if s.reg.Type == coord.PersistentRecursiveWatcher {
			in, parent = below(e.path, s.reg.Path), false
		}
		if in && x.tells(s.r, e.path, e.node.acl) {
			want = append(want, textOf(coord.Event{Type: e.typ, Path: e.path}, false))
		}
		if parent && x.tells(s.r, s.reg.Path, e.parent) {
			want = append(want, textOf(coord.Event{Type: coord.NodeChildrenChanged, Path: s.reg.Path}, false))
		}
	}
	events, err := s.ws.Take(1 << 62)
	for _, ev := range events {
		got = append(got, textOf(ev, false))
	}
	if err == nil && s.ws.Err() != nil {
		_, err = s.ws.Take(1 << 62)
	}
	if err != nil {
		x.sets = slices.DeleteFunc(x.sets, func(other *secretSet) bool { return other == s })
		if tokens := secretToken.FindAllString(fmt.Sprintf("%v %+v", err, err), -1); tokens != nil {
			x.Errorf("step %d: the end of a set tells %q", x.step, tokens)
		}
		want = want[:min(len(got), len(want))]
	}
	if !slices.Equal(got, want) {
		x.Fatalf("step %d: a set with %v for %s as %v was told %q, want %q (%v)", x.step, s.reg.Type, s.reg.Path, s.r.ids, got, want, err)
	}
	x.told += len(got)
}
