package coord

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// mountedStates returns a root group with /m mounted and /s sealed, and the group of /m.
func mountedStates(tb testing.TB) (root, of *state) {
	tb.Helper()
	root = newTestState()
	step := func(st mountStep) request { //nolint:gocritic // it is kept
		return request{kind: requestMountStep, step: &st}
	}
	results, _ := applyRequests(root,
		writeOf(op{kind: opCreate, path: "/m", data: []byte("m")}),
		writeOf(op{kind: opCreate, path: "/s", data: []byte("s")}),
		step(mountStep{kind: stepSeal, path: "/m"}),
		step(mountStep{kind: stepSeal, path: "/s"}))
	for _, res := range results {
		if code := res.firstError(); code != codeOK {
			tb.Fatal(code)
		}
	}
	seed, m, ok := root.seedOf(2)
	if !ok {
		tb.Fatal("no seed")
	}
	of = newState(2)
	of.apply(&command{kind: commandInit, group: 2, member: 1, init: &initCommand{
		version: formatVersion, timeMS: 1000, settings: root.settings, members: m.members, seed: seed,
	}}, 0)
	of.apply(&command{kind: commandHello, group: 2, member: 1, hello: &helloCommand{nonce: 1}}, 0)
	if results, _ := applyRequests(root, step(mountStep{kind: stepFlip, path: "/m", group: 2})); results[0].code != codeOK {
		tb.Fatal(results[0].code)
	}
	return root, of
}

// TestMountViolations breaks each invariant of mounts by hand.
func TestMountViolations(t *testing.T) {
	placed := func(path string, change func(*znode)) func(*state) {
		return func(s *state) {
			k, _ := keyOf(path)
			n, ok := s.tree.lookup(k)
			if !ok {
				t.Fatalf("no znode %s", path)
			}
			m := *n
			change(&m)
			s.tree.replace(k, &m)
		}
	}
	entry := func(path string, change func(*mount)) func(*state) {
		return func(s *state) {
			m := *s.mounts.at(path)
			s.mounts.drop(&m)
			change(&m)
			s.mounts.put(&m)
		}
	}
	for _, c := range []struct {
		name  string
		of    bool // the group of the mount
		want  string
		spoil func(*state)
	}{
		{"a mount of the ensemble's own", false, "MT1", entry("/m", func(m *mount) { m.path = pathConfig })},
		{"a mount inside another", false, "MT1", entry("/s", func(m *mount) { m.path = "/m/s" })},
		{"the root group as a mount's", false, "MT2", entry("/m", func(m *mount) { m.group = rootGroup })},
		{"a group not given out", false, "MT2", entry("/m", func(m *mount) { m.group = 4 })},
		{"one group for two mounts", false, "MT2", entry("/m", func(m *mount) { m.group = 3 })},
		{"no phase", false, "MT2", entry("/m", func(m *mount) { m.phase = 0 })},
		{"a mount of nothing", false, "MT3", entry("/m", func(m *mount) { m.path = "/none" })},
		{"a container as mount point", false, "MT3", placed("/s", func(n *znode) { n.kind = Container })},
		{"data where the group has it", false, "MT3", placed("/m", func(n *znode) { n.data = []byte("m") })},
		{"data at the place of quotas", false, "MT3", placed("/zookeeper/quota/m", func(n *znode) { n.data = []byte("m") })},
		{"a seal of the future", false, "MT4", entry("/s", func(m *mount) { m.sealed = 1 << 40 })},
		{"mounts of a mount's group", true, "MT5", func(s *state) { s.mounts.given = 1 }},
		{"another mount point", true, "MT5", func(s *state) { s.serves.path = "/other" }},
		{"no mount point", true, "MT1", func(s *state) { s.serves.path = pathSystem }},
		{"a group sealed in the future", true, "MT4", func(s *state) { s.serves.sealed = 1 << 40 }},
		{"a sealed group with znodes", true, "MT5", func(s *state) {
			applyRequests(s, writeOf(op{kind: opCreate, path: "/m/a"}))
			s.serves.sealed = s.zxid
		}},
		{"a znode from elsewhere", true, "T1", func(s *state) { s.tree.nodes.put(treeItem{"\x00other", &znode{acl: s.defaultACL}}) }},
		{"no place of quotas", true, "T1", func(s *state) { s.tree.nodes.remove(treeItem{key: s.tree.tops[1]}) }},
		{"a tombstone of a session", true, "S8", func(s *state) {
			applyRequests(s, request{kind: requestEnter, session: 1, generation: 1, timeoutMS: 5000})
			s.sessions.tombstones.put(1)
		}},
		{"a tombstone in the root group", false, "S8", func(s *state) { s.sessions.tombstones.put(1) }},
	} {
		s, of := mountedStates(t)
		if c.of {
			s = of
		}
		if err := s.firstViolation(); err != nil {
			t.Fatalf("before it is broken: %v", err)
		}
		c.spoil(s)
		named := false
		for err := range s.violations() {
			named = named || strings.HasPrefix(err.Error(), c.want+":")
		}
		if !named {
			t.Errorf("%s: %s is not reported, but %v", c.name, c.want, s.firstViolation())
		}
	}
}

// FuzzServerOf sees that every path, be it malformed, has one server, and that the group
// of a mount says what the root group's table says.
func FuzzServerOf(f *testing.F) {
	for _, path := range []string{
		"", "/", "//", "m", "/m", "/m/", "/m//a", "/m/a", "/ma", "/zookeeper/quota", "/zookeeper/quota/", "/zookeeper/quota/m",
		"/zookeeper/quota/m/zookeeper_limits", "/zookeeper/quota/ma", "/zookeeper/quotas/m", "/zookeeper/m", "/s/x", "/m\x00", "zookeeper/quota/m",
	} {
		f.Add(path)
	}
	root, of := mountedStates(f)
	f.Fuzz(func(t *testing.T, path string) {
		server, moving := root.serverOf(path)
		below := func(top string) bool { return path == top || strings.HasPrefix(path, top+"/") }
		mounted, sealed := below("/m") || below("/zookeeper/quota/m"), below("/s") || below("/zookeeper/quota/s")
		if (server == 2) != mounted || moving != sealed || server != 2 && server != rootGroup {
			t.Fatalf("the root group says that %q is of group %v, moving %v", path, server, moving)
		}
		if theirs, _ := of.serverOf(path); (theirs == 2) != mounted {
			t.Fatalf("the group of the mount says that %q is of group %v", path, theirs)
		}
		for kind := range opNames {
			o := op{kind: kind, path: path, version: AnyVersion}
			if code := of.misplaced(&o); code == codeOK && root.misplaced(&o) == codeOK {
				t.Fatalf("%v %q is of both groups", kind, path)
			} else if at, _ := root.serverOf(o.place()); at == 2 && code != codeOK {
				t.Fatalf("%v %q is of the mount, which says %v", kind, path, code)
			}
		}
	})
}

// TestDecreesAreCopied adopts random decrees in parts of random size, and sees that the
// copy becomes what the root group has, and that no part counts before the last.
func TestDecreesAreCopied(t *testing.T) {
	root, of := mountedStates(t)
	r := rand.New(rand.NewPCG(testSeed(t), 4))
	largest := 0
	for range 200 {
		var requests []request
		for range r.IntN(20) {
			name := fmt.Sprint("u", r.IntN(12))
			switch r.IntN(4) {
			case 0:
				requests = append(requests, request{kind: requestSetUser, user: &user{name: name, hash: conceal(fmt.Sprint("hash", r.IntN(3)))}})
			case 1:
				requests = append(requests, request{kind: requestRemoveUser, user: &user{name: name}})
			case 2:
				list := [][]ACL{nil, OpenACL(), ReadOnlyACL(), {{PermAll, ID{schemeAuth, ""}}}}[r.IntN(4)]
				requests = append(requests, request{kind: requestSetTemplate, template: &template{path: "/" + name, list: list, enforced: r.IntN(2) == 0}})
			case 3:
				to := root.settings
				to.maxEphemerals = int64(r.IntN(3))
				requests = append(requests, request{kind: requestSettings, change: &settingsChange{from: root.settings, to: to}})
			}
		}
		applyRequests(root, requests...)
		parts := 0
		for d := root.decreeFor(of, r.IntN(500)); d != nil; d = root.decreeFor(of, 1+r.IntN(500)) {
			before := of.decrees
			if results, _ := applyRequests(of, request{kind: requestAdopt, decree: d}); results[0].code != codeOK {
				t.Fatalf("adopt %+v = %v", d, results[0].code)
			}
			if of.decrees != before && of.decrees != root.decreed() {
				t.Fatalf("the copy is as of %d, the root group at %d", of.decrees, root.decreed())
			}
			if parts++; parts > 1000 {
				t.Fatal("it never ends")
			}
		}
		largest = max(largest, parts)
		sameDecrees(t, root, of)
	}
	if largest < 3 {
		t.Errorf("at most %d parts: too few to show anything", largest)
	}
}

func sameDecrees(t *testing.T, root, of *state) {
	t.Helper()
	users := func(s *state) []user {
		var out []user
		for u := range s.users.byName.all() {
			out = append(out, *u)
		}
		return out
	}
	templates := func(s *state) map[string]string {
		out := map[string]string{}
		for it := range s.templates.byPath.all() {
			out[it.path] = fmt.Sprint(it.t.list, it.t.enforced, it.t.acl == nil)
		}
		return out
	}
	if !slices.Equal(users(of), users(root)) || !maps.Equal(templates(of), templates(root)) || !of.settings.equal(&root.settings) {
		t.Fatalf("copied\n%v\n%v\n%+v, want\n%v\n%v\n%+v", users(of), templates(of), of.settings, users(root), templates(root), root.settings)
	}
}

// TestDecreesHaveRoomForOne adopts a template that is larger than there is room.
func TestDecreesHaveRoomForOne(t *testing.T) {
	root, of := mountedStates(t)
	large := slices.Repeat([]ACL{{PermRead, ID{schemeX509, "CN=" + strings.Repeat("x", 1000)}}}, maxACLEntries)
	for i := range large {
		large[i].ID.ID += fmt.Sprint(i)
	}
	set := func(path string) request {
		return request{kind: requestSetTemplate, template: &template{path: path, list: large}}
	}
	for _, path := range []string{"/a", "/b"} {
		if results, _ := applyRequests(root, set(path)); results[0].code != codeOK {
			t.Fatal(results[0].code)
		}
	}
	for parts := 1; ; parts++ {
		d := root.decreeFor(of, maxDecreeBytes)
		if d == nil {
			t.Fatalf("%d parts, want 2", parts-1)
		}
		e := newEncoder()
		e.decree(d)
		if got := e.buf.Len(); got > 3*maxDecreeBytes {
			t.Errorf("a decree of %d bytes, want at most one template more than %d", got, maxDecreeBytes)
		}
		applyRequests(of, request{kind: requestAdopt, decree: d})
		if of.decrees == root.decreed() {
			if parts != 2 {
				t.Errorf("%d parts, want 2", parts)
			}
			break
		}
	}
	sameDecrees(t, root, of)
}

// TestOldVersionHasNoMounts sees that nothing of mounts gets into a group in which
// version 1 is in force: its snapshots have no place for it.
func TestOldVersionHasNoMounts(t *testing.T) {
	s := goldenState(oldestFormat)
	m := s.members.get(1)
	if s.decrees != 0 {
		t.Errorf("%d decrees are counted, and snapshots of version %d cannot say so", s.decrees, s.version)
	}
	for _, r := range []request{
		{kind: requestMountStep, step: &mountStep{kind: stepSeal, path: "/p"}},
		{kind: requestAdopt, decree: &decree{}},
		{kind: requestEnter, session: 1, generation: 1},
		{kind: requestForget},
	} {
		number := s.members.get(1).number + 1
		s.apply(&command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{
			incarnation: m.incarnation, number: number, requests: []request{r},
		}}, number)
		if res := s.members.get(1).results[0]; res.code != ErrUnimplemented {
			t.Errorf("request of kind %d = %v, want ErrUnimplemented", r.kind, res.code)
		}
	}
	if !s.mounts.none() || s.decrees != 0 {
		t.Error("they left a trace")
	}
}

// TestSessionClosedIn sees that a state which is behind calls no session closed.
func TestSessionClosedIn(t *testing.T) {
	root := newTestState()
	before := root.freeze()
	results, _ := applyRequests(root, request{kind: requestOpenSession, timeoutMS: 5000})
	id := results[0].session
	open := root.freeze()
	applyRequests(root, request{kind: requestCloseSession, session: id, generation: firstGeneration})
	for name, c := range map[string]struct {
		s    *state
		want bool
	}{"before it was opened": {before, false}, "while it is open": {open, false}, "when it is closed": {root, true}} {
		if got := id.closedIn(c.s); got != c.want {
			t.Errorf("%s: closedIn = %v, want %v", name, got, c.want)
		}
	}
}

// TestDecodeMounts reads what nobody writes.
func TestDecodeMounts(t *testing.T) {
	step := func(st mountStep) *command { //nolint:gocritic // it is kept
		return &command{kind: commandBatch, group: 1, member: 1, batch: &batchCommand{
			incarnation: 1, number: 1, requests: []request{{kind: requestMountStep, step: &st}},
		}}
	}
	seed := func(path string) *command {
		return &command{kind: commandInit, group: 2, member: 1, init: &initCommand{version: formatVersion, seed: &mountSeed{path: path}}}
	}
	for name, c := range map[string]struct {
		cmd *command
		ok  bool
	}{
		"the first step":             {step(mountStep{kind: stepSeal}), true},
		"the last step":              {step(mountStep{kind: stepTakeBack, back: &mountImage{}}), true},
		"no step":                    {step(mountStep{}), false},
		"a step that is not known":   {step(mountStep{kind: stepTakeBack + 1}), false},
		"nothing to take back":       {step(mountStep{kind: stepTakeBack}), false},
		"a flip that brings a znode": {step(mountStep{kind: stepFlip, back: &mountImage{}}), false},
		"a seed":                     {seed("/a/b"), true},
		"a seed of the root":         {seed("/"), false},
		"a seed without a path":      {seed(""), false},
		"a seed in /zookeeper":       {seed("/zookeeper/x"), false},
	} {
		e := newEncoder()
		e.command(c.cmd, formatVersion)
		if _, err := decodeCommand(e.buf.Bytes()); (err == nil) != c.ok || err != nil && !errors.Is(err, errMalformed) {
			t.Errorf("%s: decodeCommand = %v, want success %v", name, err, c.ok)
		}
	}
}

// TestSnapshotOfMountIsWhole takes each znode and tombstone out of the snapshot of a
// mount's group, and reads the snapshot as another group's.
func TestSnapshotOfMountIsWhole(t *testing.T) {
	_, s := mountedStates(t)
	applyRequests(s,
		writeOf(op{kind: opCreate, path: "/m/a"}), writeOf(op{kind: opCreate, path: "/m/a/b"}),
		writeOf(op{kind: opCreate, path: "/zookeeper/quota/m/a"}))
	image := snapshotOf(t, s.freeze())
	if _, err := readSnapshot(2, bytes.NewReader(image), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := readSnapshot(rootGroup, bytes.NewReader(image), nil); !errors.Is(err, errMalformed) {
		t.Errorf("readSnapshot as the root group = %v, want errMalformed", err)
	}
	for _, path := range []string{"/m", "/m/a", "/m/a/b", "/zookeeper/quota/m", "/zookeeper/quota/m/a"} {
		cut := s.freeze()
		k, _ := keyOf(path)
		cut.tree.nodes.remove(treeItem{key: k})
		if _, err := readSnapshot(2, bytes.NewReader(snapshotOf(t, cut)), nil); !errors.Is(err, errMalformed) {
			t.Errorf("readSnapshot without %s = %v, want errMalformed", path, err)
		}
	}
	more := s.freeze()
	more.tree.nodes.put(treeItem{"", &znode{acl: s.defaultACL}})
	if _, err := readSnapshot(2, bytes.NewReader(snapshotOf(t, more)), nil); !errors.Is(err, errMalformed) {
		t.Errorf("readSnapshot with a root = %v, want errMalformed", err)
	}
}

// TestGroupsFollowTheRootGroup has the group of a mount follow a root group that has got a
// later version and decrees since, and then one that is behind.
func TestGroupsFollowTheRootGroup(t *testing.T) {
	root, of := mountedStates(t)
	behind := root.freeze()
	behind.version--
	applyRequests(root, request{kind: requestSetUser, user: &user{name: "eve", hash: conceal("hash")}})
	of.version-- // which no binary does that has mounts; there is no later version yet
	for i, want := range []requestKind{requestActivate, requestAdopt} {
		r, due := toFollow(root, of)
		if !due || r.kind != want {
			t.Fatalf("request %d to follow is of kind %d, due %v, want %d", i+1, r.kind, due, want)
		}
		if results, _ := applyRequests(of, r); results[0].code != codeOK {
			t.Fatalf("request %d = %v", i+1, results[0].code)
		}
	}
	sameDecrees(t, root, of)
	for _, s := range []*state{root, behind} {
		if r, due := toFollow(s, of); due {
			t.Errorf("a request of kind %d is due in a group that is up to date", r.kind)
		}
	}
}

// TestStepsThatAreDue names the step that is due in each state of a mount and of its
// group.
func TestStepsThatAreDue(t *testing.T) {
	root, of := mountedStates(t)
	upToDate := of.freeze()
	applyRequests(upToDate, request{kind: requestAdopt, decree: root.decreeFor(of, maxDecreeBytes)})
	sealed := upToDate.freeze()
	if results, _ := applyRequests(sealed, request{kind: requestMountStep, step: &mountStep{kind: stepSealGroup, path: "/m", group: 2}}); results[0].code != codeOK {
		t.Fatal(results[0].code)
	}
	served := root.mounts.at("/m")
	waiting := *served
	waiting.phase = mountSealed
	for name, c := range map[string]struct {
		m    *mount
		of   *state
		want mountStepKind
	}{
		"not up to date": {&waiting, of, 0}, "up to date": {&waiting, upToDate, stepFlip},
		"served": {served, upToDate, 0}, "sealed": {served, sealed, stepTakeBack},
	} {
		st := nextStep(root, c.m, c.of)
		if st == nil && c.want != 0 || st != nil && (st.kind != c.want || st.path != "/m" || st.group != 2) {
			t.Errorf("%s: the step %+v is due, want %d", name, st, c.want)
			continue
		}
		if c.want == stepTakeBack && (st.zxid != sealed.serves.sealed || st.back == nil || string(st.back.node.data) != "m") {
			t.Errorf("%s: what is taken back is %+v", name, st)
		}
	}
}
