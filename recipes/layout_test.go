package recipes_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// The names that other libraries give to their contenders, up to the number of the
// sequence.
const (
	curatorMutex = "_c_6c3f2c0e-8d8e-4f39-a1b4-5d1bb0f8fd01-lock-"
	curatorWrite = "_c_6c3f2c0e-8d8e-4f39-a1b4-5d1bb0f8fd01-__WRIT__"
	curatorRead  = "_c_6c3f2c0e-8d8e-4f39-a1b4-5d1bb0f8fd01-__READ__"
	curatorLatch = "_c_6c3f2c0e-8d8e-4f39-a1b4-5d1bb0f8fd01-latch-"
	kazooWrite   = "0123456789abcdef0123456789abcdef__lock__"
	kazooRead    = "0123456789abcdef0123456789abcdef__rlock__"
	goZookeeper  = "_c_0123456789abcdef0123456789abcdef-lock-"
)

// A way is how a recipe of coord takes part in a layout.
type way struct {
	recipe string // lock, read or lead
	layout recipes.Layout
}

func (w way) ask(t *testing.T, s *coord.Session, path string) <-chan outcome {
	got := make(chan outcome, 1)
	go func() {
		var o outcome
		with := recipes.WithLayout(w.layout)
		switch w.recipe {
		case "lock":
			o.h, o.err = recipes.Lock(t.Context(), s, path, with)
		case "read":
			o.h, o.err = recipes.RLock(t.Context(), s, path, with)
		default:
			o.h, o.err = recipes.Campaign(t.Context(), s, path, []byte("me"), with)
		}
		got <- o
	}()
	return got
}

// TestLayouts has coord and another library contend in every order. The other one is
// played by znodes that are made and deleted by hand.
func TestLayouts(t *testing.T) {
	const digits, hex = `\d{10}`, `[0-9a-f]{32}`
	for _, try := range []struct {
		way     way
		names   string // of coord's znodes
		foreign string
		shares  bool // both read
	}{
		{way{"lock", recipes.CuratorLock}, "^_c_" + hex + "-lock-" + digits, curatorMutex, false},
		{way{"lock", recipes.CuratorLock}, "^_c_" + hex + "-lock-" + digits, goZookeeper, false},
		{way{"lock", recipes.Coord}, "^lock-" + digits, "lock-", false},
		{way{"lock", recipes.Coord}, "^lock-" + digits, "read-", false},
		{way{"read", recipes.Coord}, "^read-" + digits, "lock-", false},
		{way{"read", recipes.Coord}, "^read-" + digits, "read-", true},
		{way{"lock", recipes.CuratorReadWriteLock}, "^_c_" + hex + "-__WRIT__" + digits, curatorWrite, false},
		{way{"lock", recipes.CuratorReadWriteLock}, "^_c_" + hex + "-__WRIT__" + digits, curatorRead, false},
		{way{"read", recipes.CuratorReadWriteLock}, "^_c_" + hex + "-__READ__" + digits, curatorWrite, false},
		{way{"read", recipes.CuratorReadWriteLock}, "^_c_" + hex + "-__READ__" + digits, curatorRead, true},
		{way{"lead", recipes.CuratorLeaderLatch}, "^_c_" + hex + "-latch-" + digits, curatorLatch, false},
		{way{"lead", recipes.CuratorLeaderSelector}, "^_c_" + hex + "-lock-" + digits, curatorMutex, false},
		{way{"lock", recipes.KazooLock}, "^" + hex + "__lock__" + digits, kazooWrite, false},
		{way{"lock", recipes.KazooLock}, "^" + hex + "__lock__" + digits, kazooRead, false},
		{way{"read", recipes.KazooLock}, "^" + hex + "__rlock__" + digits, kazooWrite, false},
		{way{"read", recipes.KazooLock}, "^" + hex + "__rlock__" + digits, kazooRead, true},
		{way{"lead", recipes.KazooLock}, "^" + hex + "__lock__" + digits, kazooWrite, false},
		{way{"lead", recipes.Coord}, "^candidate-" + digits, "candidate-", false},
	} {
		t.Run(strings.Trim(try.way.recipe+" "+string(try.way.layout)+" and "+try.foreign, "-_"), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
				const path = "/shared"
				c, other := e.Member(1), newSession(t, e.Member(2))
				enters := func() string {
					t.Helper()
					znode, _, err := other.Create(t.Context(), path+"/"+try.foreign, []byte("10.0.0.7"), coord.EphemeralSequential, coord.WithContainers())
					if err != nil {
						t.Fatal(err)
					}
					return znode
				}
				leaves := func(znode string) {
					t.Helper()
					if err := other.Delete(t.Context(), znode); err != nil {
						t.Fatal(err)
					}
				}
				ask := func(n int) <-chan outcome {
					t.Helper()
					got := try.way.ask(t, newSession(t, c), path)
					waiting(t, c, path, n)
					return got
				}

				// The other one is first.
				first := enters()
				got := ask(2)
				if !try.shares {
					waits(t, got)
					expectHolding(t, c, path, "Hw")
					leaves(first)
				}
				h := granted(t, got)
				if name := strings.TrimPrefix(h.Path(), path+"/"); !regexp.MustCompile(try.names + "$").MatchString(name) {
					t.Errorf("the name is %s", name)
				}
				if try.way.recipe == "lead" {
					if l, ok, err := recipes.CurrentLeader(t.Context(), c, path, coord.Linearizable()); err != nil || !ok || l.Path != h.Path() || string(l.Value) != "me" {
						t.Errorf("CurrentLeader = %+v, %t, %v", l, ok, err)
					}
				}
				mustRelease(t, h)
				if try.shares {
					leaves(first)
				}

				// It comes behind, and between two.
				h = granted(t, ask(1))
				second := enters()
				got = ask(3)
				all := contenders(t, c, path)
				if len(all) != 3 || all[0].Path != h.Path() || all[1].Path != second || string(all[1].Value) != "10.0.0.7" || !all[0].Holds {
					t.Errorf("Contenders = %+v", all)
				}
				if try.shares {
					leaves(second)
					second = enters()
					mustRelease(t, granted(t, got))
				} else {
					waits(t, got)
				}
				if err := h.Check(); err != nil {
					t.Errorf("Check = %v", err)
				}
				mustRelease(t, h)
				if !try.shares {
					waits(t, got)
					leaves(second)
					mustRelease(t, granted(t, got))
				} else {
					leaves(second)
				}

				// Its session ends.
				enters()
				got = ask(2)
				if err := other.Close(); err != nil {
					t.Fatal(err)
				}
				mustRelease(t, granted(t, got))
				time.Sleep(time.Second)
				noWatches(t, e)
			})
		})
	}
}

// All at one path use one layout.
func TestOtherLayoutAtThePath(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, other := e.Member(1), newSession(t, e.Member(2))
		ways := map[string][]way{ // by who is there
			curatorWrite: {{"lock", recipes.Coord}, {"read", recipes.Coord}, {"lock", recipes.KazooLock}, {"lead", recipes.Coord}, {"lead", recipes.CuratorLeaderLatch}, {"lead", recipes.CuratorLeaderSelector}, {"lead", recipes.KazooLock}},
			curatorRead:  {{"lock", recipes.Coord}, {"lock", recipes.KazooLock}, {"lead", recipes.Coord}},
			curatorMutex: {{"lock", recipes.Coord}, {"read", recipes.Coord}, {"lock", recipes.CuratorReadWriteLock}, {"lock", recipes.KazooLock}, {"lead", recipes.Coord}, {"lead", recipes.CuratorLeaderLatch}},
			curatorLatch: {{"lock", recipes.Coord}, {"lead", recipes.Coord}, {"lead", recipes.CuratorLeaderSelector}},
			kazooWrite:   {{"lock", recipes.Coord}, {"read", recipes.CuratorReadWriteLock}, {"lead", recipes.Coord}, {"lead", recipes.CuratorLeaderLatch}},
			kazooRead:    {{"lock", recipes.Coord}, {"lead", recipes.KazooLock}},
			"candidate-": {{"lock", recipes.Coord}, {"lock", recipes.KazooLock}, {"lead", recipes.CuratorLeaderLatch}, {"lead", recipes.KazooLock}},
			"read-":      {{"lock", recipes.KazooLock}, {"lock", recipes.CuratorLock}, {"lead", recipes.CuratorLeaderSelector}},
			"lock-":      {{"lock", recipes.KazooLock}, {"lead", recipes.Coord}},
		}
		for foreign, ways := range ways {
			path := "/at-" + strings.Trim(foreign, "_-")
			if _, _, err := other.Create(t.Context(), path+"/"+foreign, nil, coord.EphemeralSequential, coord.WithContainers()); err != nil {
				t.Fatal(err)
			}
			waiting(t, c, path, 1)
			for _, way := range ways {
				if o := <-way.ask(t, newSession(t, c), path); !errors.Is(o.err, recipes.ErrOtherRecipe) {
					t.Errorf("%+v where %s is: %v", way, foreign, o.err)
				}
			}
			if got := children(t, c, path); strings.Count(got, " ") != 0 {
				t.Errorf("left behind: %s", got)
			}
		}
		// And what coord has made is the same to the others.
		for _, a := range []way{{"lock", recipes.Coord}, {"lock", recipes.CuratorReadWriteLock}, {"lock", recipes.KazooLock}} {
			h := granted(t, a.ask(t, newSession(t, c), "/one"))
			for _, b := range []way{{"lock", recipes.Coord}, {"read", recipes.CuratorReadWriteLock}, {"read", recipes.KazooLock}, {"lead", recipes.Coord}} {
				if a.layout == b.layout && b.recipe != "lead" {
					continue
				}
				if o := <-b.ask(t, newSession(t, e.Member(3)), "/one"); !errors.Is(o.err, recipes.ErrOtherRecipe) {
					t.Errorf("%+v where %+v is: %v", b, a, o.err)
				}
			}
			mustRelease(t, h)
			waiting(t, e.Member(3), "/one", 0)
		}
		noWatches(t, e)
	})
}

// What only coord's own layout has is refused in others.
func TestOptionsOfLayouts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		s := newSession(t, e.Member(1))
		for _, opts := range [][]recipes.Option{
			{recipes.WithWeight(1)},
			{recipes.WithPriority(1)},
			{recipes.WithLayout(recipes.CuratorLeaderLatch)},
			{recipes.WithLayout(recipes.CuratorLeaderSelector)},
			{recipes.WithLayout("of nobody")},
			{recipes.WithLayout(recipes.CuratorBarrier)},
			{recipes.WithLayout(recipes.KazooLock), recipes.WithWeight(2)},
			{recipes.WithValue([]byte("__SHARED__"))},
		} {
			if _, err := recipes.Lock(t.Context(), s, "/lock", opts...); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Lock = %v", err)
			}
			if _, err := recipes.RLock(t.Context(), s, "/lock", opts...); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("RLock = %v", err)
			}
			if _, err := recipes.TryLock(t.Context(), s, "/lock", opts...); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("TryLock = %v", err)
			}
			if _, err := recipes.TryRLock(t.Context(), s, "/lock", opts...); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("TryRLock = %v", err)
			}
		}
		if _, err := recipes.RLock(t.Context(), s, "/lock", recipes.WithLayout(recipes.CuratorLock)); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("RLock in a layout without readers = %v", err)
		}
		h := mustLock(t, s, "/lock")
		for _, value := range []string{"__SHARED__", "__REVOKE__", "__REVOKE__x"} {
			if err := h.SetValue(t.Context(), []byte(value)); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("SetValue(%q) = %v", value, err)
			}
		}
		mustRelease(t, h)
	})
}
