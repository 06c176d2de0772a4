package coord

import (
	"fmt"
	"strings"
)

// root returns the state of the root group of a script.
func (sc *script) root() *state {
	sc.t.Helper()
	if g := sc.groups[rootGroup]; g != nil {
		return g.s
	}
	sc.fatalf("the root group has not begun")
	return nil
}

// plant begins the group at hand as the root group's table says.
func (sc *script) plant() string {
	sc.t.Helper()
	seed, m, ok := sc.root().seedOf(sc.s.group)
	if !ok {
		return "no seed"
	}
	return sc.apply(&command{kind: commandInit, group: sc.s.group, member: 1, init: &initCommand{
		version: formatVersion, ensemble: "test", id: 7, timeMS: sc.clock, settings: sc.root().settings, members: m.members, seed: seed,
	}})
}

func (sc *script) mountStep(l line) *mountStep {
	sc.t.Helper()
	st := &mountStep{path: sc.path(sc.word(l, 0)), kind: map[string]mountStepKind{
		"seal": stepSeal, "flip": stepFlip, "cancel": stepCancel, "sealgroup": stepSealGroup, "takeback": stepTakeBack,
	}[l.cmd]}
	if st.kind == stepSeal {
		return st
	}
	st.group = sc.s.group
	if m := sc.root().mounts.at(st.path); m != nil && st.kind != stepSealGroup {
		st.group = m.group
	}
	st.group = GroupID(sc.int(l, "of", int64(st.group)))
	if st.kind == stepTakeBack {
		var ok bool
		if st.zxid, st.back, ok = sc.taken(st); !ok {
			sc.fatalf("group %v has nothing to take back from", st.group)
		}
	}
	return st
}

// taken returns what a step takes back, or something if its group has nothing.
func (sc *script) taken(st *mountStep) (ZXID, *mountImage, bool) {
	g := sc.groups[st.group]
	if g == nil || g.s.serves.none() {
		return 1, &mountImage{}, true
	}
	image, ok := g.s.imageAt(g.s.serves.path)
	return g.s.serves.sealed, image, ok
}

func (sc *script) decree(l line) *decree {
	sc.t.Helper()
	d := sc.root().decreeFor(sc.s, int(sc.int(l, "most", maxDecreeBytes)))
	if d == nil {
		d = &decree{from: sc.s.decrees, to: sc.s.decrees}
	}
	d.from = uint64(sc.int(l, "from", int64(d.from)))
	d.to = uint64(sc.int(l, "to", int64(d.to)))
	return d
}

func (sc *script) showMounts(b *strings.Builder, l line) {
	sc.t.Helper()
	if l.cmd == "route" {
		for _, path := range l.positional() {
			server, moving := sc.s.serverOf(sc.path(path))
			fmt.Fprintf(b, "%s group %v", path, server)
			if moving {
				b.WriteString(" moving")
			}
			fmt.Fprintln(b)
		}
		return
	}
	if p := &sc.s.serves; !p.none() {
		fmt.Fprintf(b, "serves %s, sealed %v, decrees %d\n", p.path, p.sealed, sc.s.decrees)
	}
	for m := range sc.s.mounts.all() {
		fmt.Fprintf(b, "%s group %v phase %d sealed %v members", m.path, m.group, m.phase, m.sealed)
		for _, r := range m.members {
			fmt.Fprintf(b, " %v at %s", r.id, r.addr)
		}
		fmt.Fprintln(b)
	}
}
