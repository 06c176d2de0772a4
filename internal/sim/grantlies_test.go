package sim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/internal/bubble"
	"coord/internal/invariants"
	"coord/recipes"
)

// A fable is a short story of one place that was made up, as a tale is of a tree.
type fable struct {
	*place
	said []string
	zxid coord.ZXID
	last coord.Stat // of what is guarded
	data string
}

func newFable(limit int64) *fable {
	f := &fable{zxid: 10, data: "0"}
	f.place = newPlace("/place", placeKind{limit: limit}, func(format string, args ...any) { f.said = append(f.said, fmt.Sprintf(format, args...)) })
	return f
}

// An actor holds the place as long as it says so.
type actor struct {
	*grant
	holds bool
}

// grant makes up a grant.
func (f *fable) grant(weight int64, fence coord.ZXID) *actor {
	f.zxid = max(f.zxid, fence) + 1
	a := &actor{holds: true}
	a.grant = &grant{fence: fence, weight: weight, who: fmt.Sprintf("actor %d", len(f.grants)), first: f.zxid, check: func() error {
		if !a.holds {
			return coord.ErrSessionExpired
		}
		return nil
	}}
	f.granted(a.grant)
	return a
}

// next makes up a grant behind all others.
func (f *fable) next() *actor { return f.grant(f.limit, f.zxid+1) }

// release gives a grant back.
func (f *fable) release(a *actor) {
	f.ending(a.grant)
	a.holds = false
	f.gone(a.grant)
}

// write makes up a guarded write that succeeds.
func (f *fable) write(a *actor) {
	f.zxid++
	f.last.Version++
	f.last.Mzxid = f.zxid
	f.data = fenceText(a.fence)
	f.wrote(a.grant, f.lost(a.grant), f.last, nil)
}

// plainFable is a fable in which all of it happens once.
func plainFable() *fable {
	f := newFable(2)
	a := f.next()
	f.write(a)
	_ = f.look(a.grant)
	f.release(a)
	b := f.next()
	f.write(b)
	b.holds = false // its session ends
	c, d := f.grant(1, f.zxid+1), f.grant(1, f.zxid+2)
	f.write(d)
	f.write(c) // they are no less than each other
	f.release(c)
	f.wrote(d.grant, false, coord.Stat{}, coord.ErrUnknownOutcome)
	f.last.Version++ // it has happened
	d.holds = false
	f.grant(2, f.zxid+1)
	return f
}

// TestTrueGrantsPass has the checkers of grants look at what is true.
func TestTrueGrantsPass(t *testing.T) {
	f := plainFable()
	f.finish(f.data, f.last)
	if len(f.said) > 0 {
		t.Errorf("the truth is refused: %s", strings.Join(f.said, "\n"))
	}
}

// TestLiesAboutGrantsAreFound has them look at one lie at a time.
func TestLiesAboutGrantsAreFound(t *testing.T) {
	for _, lie := range []struct {
		name, want string
		tell       func(*fable)
	}{
		{"two hold it", "exclusivity", func(f *fable) { f.next() }},
		{"more than may hold it", "exclusivity", func(f *fable) {
			f.release(f.holder())
			f.grant(1, f.zxid+1)
			f.grant(1, f.zxid+1)
			f.grant(1, f.zxid+1)
		}},
		{"one that was over holds it again", "exclusivity", func(f *fable) {
			a := f.holder()
			a.holds = false
			_ = f.look(a.grant)
			a.holds = true
			_ = f.look(a.grant)
		}},
		{"a fence comes twice", "fences", func(f *fable) {
			a := f.holder()
			f.release(a)
			f.grant(2, a.fence)
		}},
		{"a fence goes down", "fences", func(f *fable) {
			a := f.holder()
			f.release(a)
			f.grant(2, a.fence-1)
		}},
		{"a shared one has a fence below that of one alone", "fences", func(f *fable) {
			a := f.holder()
			f.release(a)
			f.grant(1, a.fence-1)
		}},
		{"who gave it back writes", "guards", func(f *fable) {
			a := f.holder()
			f.release(a)
			f.write(a)
		}},
		{"who lost it writes", "guards", func(f *fable) {
			a := f.holder()
			a.holds = false
			f.next()
			f.write(a)
		}},
		{"who lost it has written late", "guards", func(f *fable) {
			a := f.holder()
			a.holds = false
			b := f.next()
			f.write(b)
			f.last.Version++
			f.last.Mzxid = f.zxid + 1
			f.wrote(a.grant, false, f.last, nil) // nobody knew when it began
		}},
		{"who lost it has written when another was first", "guards", func(f *fable) {
			a := f.holder()
			a.holds = false
			b := f.next()
			f.last.Version++
			f.last.Mzxid = b.first + 1
			f.wrote(a.grant, false, f.last, nil)
		}},
		{"two write the same version", "guards", func(f *fable) {
			f.wrote(f.holder().grant, false, coord.Stat{Version: 1, Mzxid: 1}, nil)
		}},
		{"somebody writes without a guard", "guards", func(f *fable) { f.last.Version += 2 }},
		{"a guarded write is lost", "guards", func(f *fable) { f.last.Version -= 3 }},
		{"another fence is there at the end", "guards", func(f *fable) {
			f.write(f.holder())
			f.data = "1"
		}},
		{"an earlier version has a later zxid", "guards", func(f *fable) {
			w := f.guarded.versions[1]
			w.zxid = f.zxid + 1
			f.guarded.versions[1] = w
			f.write(f.holder())
		}},
	} {
		t.Run(lie.name, func(t *testing.T) {
			f := plainFable()
			lie.tell(f)
			if f.data == "" {
				f.data = fenceText(f.top)
			}
			f.finish(f.data, f.last)
			if !slices.ContainsFunc(f.said, func(s string) bool { return strings.HasPrefix(s, lie.want) }) {
				t.Errorf("want %s, the checkers say %q", lie.want, f.said)
			}
		})
	}
}

// holder returns who holds the place at the end of the plain fable.
func (f *fable) holder() *actor {
	g := f.grants[len(f.grants)-1]
	a := &actor{grant: g, holds: true}
	g.check = func() error {
		if !a.holds {
			return coord.ErrSessionExpired
		}
		return nil
	}
	return a
}

// TestLiesAboutMeetings tells the checkers of barriers, numbers and elections one lie
// each.
func TestLiesAboutMeetings(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		w := newWorld(t, options{seed: 1, silent: true})
		w.setupSilent(t)
		defer func() {
			for _, m := range w.members {
				w.down(m.ID, false)
			}
		}()
		p := w.process(1)
		s, err := p.c.NewSession(t.Context(), coord.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := func(what string) {
			t.Helper()
			errs := w.ledger.found()
			if what == "" && len(errs) > 0 || what != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), what)) {
				t.Errorf("want %q, found %v", what, errs)
			}
			w.ledger.violations = nil
		}

		d := newDouble(w, "/double", 2)
		a := d.begin(s, p)
		d.pass(a, [2]int64{1, 1})
		want("but at most 1 have entered")
		b := d.begin(s, p)
		d.pass(b, [2]int64{1, 1})
		d.leave(a)
		want("")
		d.left(a)
		want("where somebody else works")
		d.out(a)
		d.begin(s, p)
		c := d.begin(s, p)
		d.pass(c, [2]int64{2, 2})
		want("somebody else works in round")
		d.leave(c)
		d.leave(b)
		d.left(b)
		want("")
		for range 3 {
			d.pass(d.begin(s, p), [2]int64{3, 3})
		}
		want("3 have passed")

		g := &gate{w: w, path: "/gate"}
		begin := g.tick()
		g.set(true)
		g.pass(begin)
		want("")
		g.pass(g.tick())
		want("was set all the time")

		n := newNumbers(w)
		n.once(n.ids, 1, "id")
		n.once(n.ids, 2, "id")
		want("")
		n.once(n.ids, 1, "id")
		want("comes twice")
		n.updated = tally{sure: 3, maybe: 1}
		for data, found := range map[string]string{"2": "want 3", "3": "", "4": "", "5": "want 3"} {
			if _, err := recipes.NewValue(p.c, valuePath, coord.Raw()).Set(t.Context(), []byte(data)); err != nil {
				t.Fatal(err)
			}
			v, err := p.c.View(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n.finish(v)
			want(found)
		}
	})
}

// setupSilent starts the members.
func (w *world) setupSilent(t *testing.T) {
	t.Helper()
	for _, m := range w.members {
		w.open(m.ID)
	}
	w.net.SetWeather(calm)
	w.ready()
}

// Broken recipes, as others have been: the run of each must be found out.
var broken = []struct {
	name, want string
	get        func(ctx context.Context, n *contender, path string, do hold) error
}{
	// CURATOR-604, etcd#22082: who does not wait for all before it holds too early.
	{"a lock that does not wait long", "exclusivity", func(ctx context.Context, n *contender, path string, do hold) error {
		wait, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		h, err := recipes.Lock(wait, n.s, path)
		if errors.Is(err, context.DeadlineExceeded) {
			h, err = recipes.Lock(ctx, n.s, path+"-")
		}
		if err == nil {
			do(h, h.Check, 1)
		}
		return err
	}},
	// A holder that does not heed the end of its session.
	{"a lock that never ends", "exclusivity", func(ctx context.Context, n *contender, path string, do hold) error {
		h, err := recipes.Lock(ctx, n.s, path)
		if err == nil {
			do(h, func() error {
				if errors.Is(h.Check(), recipes.ErrReleased) {
					return recipes.ErrReleased
				}
				return nil
			}, 1)
		}
		return err
	}},
	// kazoo#732, CURATOR-18: something is left behind when a call fails.
	{"a lock that leaves a znode when it fails", "orphans", func(ctx context.Context, n *contender, path string, do hold) error {
		err := lock(ctx, n, path, do)
		if errors.Is(err, context.DeadlineExceeded) {
			_, _, _ = n.s.Create(context.Background(), path+"/note-", nil, coord.PersistentSequential, coord.WithContainers())
		}
		return err
	}},
}

// brokenRuns is how many runs a broken recipe is given until it must have been found.
// Which runs find it is not decided by their seeds alone.
const brokenRuns = 40

// TestBrokenRecipesAreFound runs recipes that are broken.
func TestBrokenRecipesAreFound(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the race detector adds nothing to this but a minute")
	}
	for _, b := range broken {
		t.Run(b.name, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				for seed := range uint64(brokenRuns) {
					c := newContest(newWorld(t, options{seed: seed, ops: 1000, silent: true}))
					for i := range c.places { // so that it takes a few runs at most
						c.places[i].kind = placeKind{name: "lock", limit: 1, ways: []way{{b.name, b.get}}}
					}
					c.run()
					for _, err := range c.w.ledger.found() {
						if strings.Contains(err.Error(), b.want) {
							return
						}
					}
				}
				t.Errorf("%d runs did not find it", brokenRuns)
			})
		})
	}
}
