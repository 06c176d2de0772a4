package coord

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A watchManager is ZooKeeper's, as its documentation describes it, with plain maps:
// a table for data and one for children, and in each of them the modes of every
// connection at every path.
type watchManager struct {
	data, child map[string]map[int]map[string]bool // path, connection, modes
	sent        map[int][]string
}

func (m *watchManager) add(conn int, path string, t WatcherType) {
	put := func(table map[string]map[int]map[string]bool, mode string) {
		if table[path] == nil {
			table[path] = map[int]map[string]bool{}
		}
		if table[path][conn] == nil {
			table[path][conn] = map[string]bool{}
		}
		table[path][conn][mode] = true
	}
	switch t {
	case DataWatcher:
		put(m.data, "standard")
	case ChildrenWatcher:
		put(m.child, "standard")
	case PersistentWatcher:
		put(m.data, "persistent")
		put(m.child, "persistent")
	case PersistentRecursiveWatcher:
		put(m.data, "recursive")
	case AnyWatcher: // only to remove
	}
}

func (m *watchManager) remove(conn int, path string, t WatcherType) bool {
	found := false
	take := func(table map[string]map[int]map[string]bool, mode string) {
		if modes := table[path][conn]; modes[mode] {
			found = true
			delete(modes, mode)
		}
	}
	if t == DataWatcher || t == AnyWatcher {
		take(m.data, "standard")
	}
	if t == ChildrenWatcher || t == AnyWatcher {
		take(m.child, "standard")
	}
	if t == PersistentWatcher || t == AnyWatcher {
		take(m.data, "persistent")
		take(m.child, "persistent")
	}
	if t == PersistentRecursiveWatcher || t == AnyWatcher {
		take(m.data, "recursive")
	}
	return found
}

// trigger fires one table and returns who was told.
func (m *watchManager) trigger(table map[string]map[int]map[string]bool, t EventType, path string, suppress map[int]bool) map[int]bool {
	told := map[int]bool{}
	for conn, modes := range table[path] {
		if len(modes) > 0 {
			told[conn] = true
		}
		delete(modes, "standard")
	}
	for up := path; up != "/"; {
		up = modelParent(up)
		for conn, modes := range table[up] {
			if modes["recursive"] {
				told[conn] = true
			}
		}
	}
	for conn := range told {
		if !suppress[conn] {
			m.sent[conn] = append(m.sent[conn], fmt.Sprint(t, " ", path))
		}
	}
	return told
}

func (m *watchManager) change(t EventType, path string) {
	told := m.trigger(m.data, t, path, nil)
	if t == NodeDeleted {
		m.trigger(m.child, t, path, told)
	}
	if t != NodeDataChanged && path != "/" {
		m.trigger(m.child, NodeChildrenChanged, modelParent(path), nil)
	}
}

// newLooseSet returns a set that belongs to no session's ensemble.
func newLooseSet() *WatchSet {
	s := &Session{c: &Coordinator{cfg: Config{WatchBuffer: 1 << 20}}}
	return &WatchSet{s: s, regs: map[string]*registration{}, changed: make(chan struct{}, 1)}
}

func (ws *WatchSet) texts() []string {
	var texts []string
	for _, n := range ws.queued {
		texts = append(texts, fmt.Sprint(n.typ, " ", n.path))
	}
	return texts
}

func TestRegistrationsAsZooKeeper(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/a/bb", "/d"}
	types := []WatcherType{ChildrenWatcher, DataWatcher, AnyWatcher, PersistentWatcher, PersistentRecursiveWatcher}
	for range 300 {
		table := registrations{byPath: map[string]*registration{}}
		ref := watchManager{data: map[string]map[int]map[string]bool{}, child: map[string]map[int]map[string]bool{}, sent: map[int][]string{}}
		sets := []*WatchSet{newLooseSet(), newLooseSet(), newLooseSet()}
		drop := func(r *registration) { delete(r.set.regs, r.path) }
		tell := func(r *registration, n notice) { r.set.offer(n) }
		var script []string
		for seq := range uint64(100) {
			conn, path, typ := rng.IntN(len(sets)), paths[rng.IntN(len(paths))], types[rng.IntN(len(types))]
			ws := sets[conn]
			switch r := ws.regs[path]; {
			case rng.IntN(3) == 0:
				c := change{typ: []EventType{NodeCreated, NodeDeleted, NodeDataChanged}[rng.IntN(3)], path: path, zxid: ZXID(seq), node: &znode{}}
				script = append(script, fmt.Sprint(c.typ, " ", path))
				table.trigger(&c, seq, tell, drop)
				ref.change(c.typ, path)
			case rng.IntN(4) == 0:
				script = append(script, fmt.Sprint(conn, " removes ", typ, " ", path))
				had := r != nil && r.modes&typ.modes() != 0
				if had && table.clear(r, typ.modes()) {
					drop(r)
				}
				if want := ref.remove(conn, path, typ); had != want {
					t.Fatalf("removed %t, want %t; after %v", had, want, script)
				}
			case typ != AnyWatcher:
				script = append(script, fmt.Sprint(conn, " adds ", typ, " ", path))
				if r == nil {
					r = &registration{set: ws, path: path}
					ws.regs[path] = r
				}
				table.add(r, typ.modes())
				ref.add(conn, path, typ)
			}
			for i, ws := range sets {
				if got := ws.texts(); !slices.Equal(got, ref.sent[i]) {
					t.Fatalf("connection %d was told\n%v, want\n%v; after %v", i, got, ref.sent[i], script)
				}
			}
		}
		for _, ws := range sets {
			for _, r := range ws.regs {
				table.clear(r, anyMode)
			}
		}
		if len(table.byPath) != 0 || table.recursive != 0 {
			t.Fatalf("left behind: %v, %d recursive; after %v", table.byPath, table.recursive, script)
		}
	}
}
