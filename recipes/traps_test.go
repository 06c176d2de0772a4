package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// Traps of other libraries that no other test here is about. docs/RECIPES.md tells what
// went wrong there.

// What an earlier session of the process has left is not the next one's: who is granted
// by its own znode goes on being so when the old one vanishes.
func TestNextSessionInheritsNothing_CURATOR604_CURATOR620_CURATOR87(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		s := newSession(t, c)
		lock, leader := mustLock(t, s, "/lock"), campaignBy(t, s, "/leader")
		must(t, s.HandOver(t.Context())) // the handle has ended, the session goes on
		next := newSession(t, c)
		if _, err := recipes.TryLock(t.Context(), next, "/lock"); !errors.Is(err, recipes.ErrTaken) {
			t.Errorf("TryLock beside the old znode = %v", err)
		}
		gotLock := lockInBackground(t.Context(), next, "/lock")
		gotLeader := campaignInBackground(t.Context(), next, "/leader", 0)
		waiting(t, c, "/lock", 2)
		waiting(t, c, "/leader", 2)
		waits(t, gotLock, gotLeader)
		for i, got := range []<-chan outcome{gotLock, gotLeader} {
			h, old := granted(t, got), []*recipes.Held{lock, leader}[i]
			if h.Fence() <= old.Fence() || h.Path() == old.Path() || old.Check() == nil {
				t.Errorf("%s with fence %v behind %s with %v, which is %v", h.Path(), h.Fence(), old.Path(), old.Fence(), old.Check())
			}
			time.Sleep(time.Minute)
			must(t, h.Check())
			mustRelease(t, h)
		}
		noWatches(t, e)
	})
}

func campaignBy(t *testing.T, s *coord.Session, path string) *recipes.Held {
	t.Helper()
	h, err := recipes.Campaign(t.Context(), s, path, nil)
	must(t, err)
	return h
}

// Who has lost a lock locks again with the next session, and nothing of the old one is
// in its way.
func TestLockAgainBehindALoss_consul2371(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		fence := coord.ZXID(0)
		for range 3 {
			h := mustLock(t, newSession(t, c), "/lock")
			if h.Fence() <= fence {
				t.Errorf("fence %v behind %v", h.Fence(), fence)
			}
			fence = h.Fence()
			e.Isolate(c)
			<-h.Context().Done() // and nobody releases it
			e.Heal()
			eventually(t, "the quorum", func() bool { return c.Sync(t.Context(), "/") == nil })
		}
		mustRelease(t, mustLock(t, newSession(t, c), "/lock"))
		noWatches(t, e)
	})
}

// A process that crashes right behind its release, or in the middle of it, leaves a lock
// that comes free.
func TestCrashBehindARelease_kazoo412(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		for _, wait := range []time.Duration{0, time.Millisecond, time.Second} {
			c := e.Follower(t.Context())
			h := mustLock(t, newSession(t, c), "/lock")
			next := lockInBackground(t.Context(), newSession(t, other(e, c)), "/lock")
			waiting(t, other(e, c), "/lock", 2)
			released := inBackground(func() error { return h.Release(t.Context()) })
			time.Sleep(wait)
			e.Kill(c)
			if err := <-released; err != nil && !errors.Is(err, coord.ErrClosed) && !errors.Is(err, coord.ErrUnknownOutcome) {
				t.Errorf("Release = %v", err)
			}
			mustRelease(t, granted(t, next))
			e.Restart(c)
		}
	})
}

// To release what somebody else has deleted is done at once, and never tried again.
func TestReleaseOfWhatIsGone_CURATOR42(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Leader(t.Context())
		h := mustLock(t, newSession(t, c), "/lock")
		_, _, err := c.Create(t.Context(), "/lock/README", nil) // the directory stays
		must(t, err)
		must(t, c.Delete(t.Context(), h.Path()))
		before := c.Status().ZXID
		for range 3 {
			mustRelease(t, h)
		}
		once := c.Status().ZXID
		if once > before+1 {
			t.Errorf("three releases of what was gone cost %d writes", once-before)
		}
		time.Sleep(30 * time.Second)
		if after := c.Status().ZXID; after != once {
			t.Errorf("%d writes later on", after-once)
		}
	})
}

// A reader or writer that is not in the line any more, or whose line is empty, is told
// that it has lost its place.
func TestPlacesThatAreGone_CURATOR211_CURATOR307(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(3)
		h := mustLock(t, newSession(t, e.Member(1)), "/lock")
		reader := rlockInBackground(t.Context(), newSession(t, e.Member(2)), "/lock")
		waiting(t, c, "/lock", 2)
		writer := lockInBackground(t.Context(), newSession(t, e.Member(1)), "/lock")
		waiting(t, c, "/lock", 3)
		names, _, err := c.Children(t.Context(), "/lock")
		must(t, err)
		var ops []coord.Op
		for _, name := range names {
			ops = append(ops, coord.DeleteOp("/lock/"+name))
		}
		_, err = c.Multi(t.Context(), append(ops, coord.DeleteOp("/lock"))...)
		must(t, err)
		for _, got := range []<-chan outcome{reader, writer} {
			if o := <-got; !errors.Is(o.err, recipes.ErrLost) {
				t.Errorf("a waiter whose place is gone got %v", o.err)
			}
		}
		<-h.Context().Done()
		mustRelease(t, h)
		mustRelease(t, mustRLock(t, newSession(t, c), "/lock"))
		noWatches(t, e)
	})
}

// Whoever holds, for reading as well, can bind writes to that.
func TestGuardsOfReadersAndWriters_CURATOR607_CURATOR662(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		for i, h := range []func() *recipes.Held{
			func() *recipes.Held { return mustRLock(t, newSession(t, c), "/lock") },
			func() *recipes.Held { return mustLock(t, newSession(t, c), "/lock") },
		} {
			h := h()
			if _, there, err := c.Exists(t.Context(), h.Path()); err != nil || !there || !strings.HasPrefix(h.Path(), "/lock/") {
				t.Errorf("the path is %s: %t, %v", h.Path(), there, err)
			}
			_, err := c.Multi(t.Context(), h.Guard(), coord.CreateOp(fmt.Sprintf("/held%d", i), nil))
			must(t, err)
			mustRelease(t, h)
			if _, err := c.Multi(t.Context(), h.Guard(), coord.CreateOp(fmt.Sprintf("/released%d", i), nil)); !errors.Is(err, coord.ErrNoNode) {
				t.Errorf("a guarded write behind the release = %v", err)
			}
		}
	})
}

// Lost contact and new contact change nothing in the line: no candidate makes another
// znode, however often it happens.
func TestReconnectsChangeNoLine_CURATOR504_CURATOR644_CURATOR645_CURATOR188(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		leader := campaign(t, e.Member(1), "/leader", "")
		var next []<-chan outcome
		for i := range 3 {
			next = append(next, campaignInBackground(t.Context(), newSession(t, e.Member(i+1)), "/leader", 0))
			waiting(t, e.Member(1), "/leader", i+2)
		}
		was := children(t, e.Leader(t.Context()), "/leader")
		for i := range 9 {
			e.Isolate(e.Member(i%3 + 1))
			time.Sleep(4 * time.Second) // less than the timeout of a session
			e.Heal()
			time.Sleep(10 * time.Second)
			if now := children(t, e.Leader(t.Context()), "/leader"); now != was {
				t.Fatalf("in line are %s, and were %s", now, was)
			}
		}
		waits(t, next...)
		must(t, leader.Check())
		mustRelease(t, leader)
		for _, got := range next {
			mustRelease(t, granted(t, got))
		}
		noWatches(t, e)
	})
}

// Predecessors that vanish while others look at them leave the others where they are,
// and the next one is granted.
func TestPredecessorsVanish_CURATOR645(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const candidates = 30
		var next []<-chan outcome
		for i := range candidates {
			next = append(next, campaignInBackground(t.Context(), newSession(t, e.Member(i%3+1)), "/leader", 0))
		}
		for range candidates { // each leaves at once, whoever is looking
			var h *recipes.Held
			eventually(t, "a leader", func() bool {
				for _, got := range next {
					select {
					case o := <-got:
						must(t, o.err)
						h = o.h
						return true
					default:
					}
				}
				return false
			})
			if !strings.HasPrefix(h.Path(), "/leader/candidate-00000000") {
				t.Errorf("the leader is %s", h.Path())
			}
			mustRelease(t, h)
		}
		// Nobody has made a second znode: the sequence says so.
		last := campaign(t, e.Member(1), "/leader", "")
		if last.Path() != fmt.Sprintf("/leader/candidate-%010d", candidates) {
			t.Errorf("behind %d candidates comes %s", candidates, last.Path())
		}
		mustRelease(t, last)
	})
}

// A term that is taken away as soon as it begins, and twice, ends its function, and the
// next one begins all the same.
func TestTermsThatEndAtOnce_CURATOR54_CURATOR518(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const terms = 20
		c, admin := e.Member(1), e.Member(2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begun, returned := make(chan *recipes.Held), make(chan error)
		ended := inBackground(func() error {
			return recipes.RunElected(ctx, c, "/leader", func(ctx context.Context, h *recipes.Held) error {
				begun <- h
				<-ctx.Done()
				returned <- context.Cause(ctx)
				return nil
			})
		})
		var fence coord.ZXID
		for range terms {
			var leader recipes.Contender
			eventually(t, "a leader", func() bool {
				l, ok, err := recipes.CurrentLeader(t.Context(), admin, "/leader", coord.Linearizable())
				leader = l
				return err == nil && ok && l.Fence > fence
			})
			for range 2 {
				must(t, recipes.Break(t.Context(), admin, leader))
			}
			fence = leader.Fence
			select {
			case h := <-begun:
				if err := <-returned; h.Fence() == fence && !errors.Is(err, recipes.ErrLost) {
					t.Errorf("the term ended with %v", err)
				}
			case <-time.After(time.Second): // it was broken before it was granted
			}
		}
		last := <-begun
		must(t, last.Check())
		cancel()
		if err := <-returned; !errors.Is(err, context.Canceled) {
			t.Errorf("the last term ended with %v", err)
		}
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("RunElected = %v", err)
		}
		noWatches(t, e)
	})
}

// Who asks for the leader while leaders change gets one of them, or nobody, and no error.
func TestLeaderWhileItChanges_CURATOR358(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, cancel := context.WithCancel(t.Context())
		var ended []<-chan error
		for i := range 3 {
			s := newSession(t, e.Member(i+1))
			ended = append(ended, inBackground(func() error {
				for ctx.Err() == nil {
					h, err := recipes.Campaign(t.Context(), s, "/leader", []byte("me"))
					if err != nil {
						return err
					}
					time.Sleep(time.Millisecond) // or time would stand still
					if err := h.Release(t.Context()); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		leaders := map[coord.ZXID]bool{}
		for i := range 600 {
			l, ok, err := recipes.CurrentLeader(t.Context(), e.Member(i%3+1), "/leader")
			if err != nil || ok && string(l.Value) != "me" {
				t.Fatalf("CurrentLeader = %+v, %t, %v", l, ok, err)
			}
			leaders[l.Fence] = true
			time.Sleep(time.Duration(i%7) * time.Millisecond)
		}
		if len(leaders) < 50 {
			t.Errorf("%d leaders were seen, so this shows nothing", len(leaders))
		}
		cancel()
		for _, end := range ended {
			must(t, <-end)
		}
	})
}

// The value that was there first counts, though its version is 0.
func TestValueOfVersionZero_CURATOR329(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		_, err := newValue(e.Member(1), "/v").CompareAndSet(t.Context(), coord.Stat{}, 10)
		must(t, err)
		second := newValue(e.Member(2), "/v")
		if _, err := second.CompareAndSet(t.Context(), coord.Stat{}, 20); !errors.Is(err, coord.ErrBadVersion) {
			t.Errorf("CompareAndSet = %v", err)
		}
		if got, stat, err := second.Get(t.Context(), coord.Linearizable()); err != nil || got != 10 || stat.Version != 0 {
			t.Errorf("Get = %d, version %d, %v", got, stat.Version, err)
		}
		for now, err := range second.Watch(t.Context()) {
			if err != nil || now.Value != 10 || !now.Exists() {
				t.Errorf("told %+v, %v", now, err)
			}
			break
		}
	})
}

// A reader that is stuck holds up no other one, nor the news that contact is lost.
func TestStuckReaderHoldsUpNobody_CURATOR344(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		stuck, free := make(chan struct{}), make(chan int, 100)
		watch := func(told func(int)) <-chan error {
			return inBackground(func() error {
				for now, err := range newValue(c, "/v").Watch(ctx) {
					if err != nil {
						return err
					}
					told(now.Value)
				}
				return nil
			})
		}
		first := watch(func(int) { <-stuck })
		second := watch(func(n int) { free <- n })
		for i := 1; i <= 5; i++ {
			_, err := newValue(e.Leader(t.Context()), "/v").Set(t.Context(), i)
			must(t, err)
			for n := range free {
				if n == i {
					break
				}
			}
		}
		s := c.Session()
		e.Isolate(c)
		eventually(t, "the suspension", func() bool { return s.State() == coord.Suspended })
		<-s.Context().Done()
		e.Heal()
		close(stuck)
		cancel()
		for _, ended := range []<-chan error{first, second} {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("Watch ended with %v", err)
			}
		}
		noWatches(t, e)
	})
}

// Children that die while a cache loads, or at once, keep it neither from being loaded
// nor from the children that come next; nor does one that cannot be read.
func TestCacheOfShortLivedChildren_CURATOR476_Netflix246_Netflix5(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, _, err := e.Member(2).Create(ctx, "/a", []byte("null"))
		must(t, err)
		ended := inBackground(func() error {
			c := e.Member(2)
			for {
				for _, name := range []string{"x", "y"} {
					if _, _, err := c.Create(ctx, "/a/"+name, []byte("{"), coord.Ephemeral); err != nil {
						return err
					}
				}
				for _, name := range []string{"x", "y"} {
					if err := c.Delete(ctx, "/a/"+name); err != nil {
						return err
					}
				}
			}
		})
		kept := newCache(t, e.Member(1), "/a")
		for i := range 50 {
			k := newCache(t, e.Member(1), "/a")
			must(t, k.Synced(ctx))
			put(t, e.Member(1), fmt.Sprintf("/a/%d", i), "new")
			for _, k := range []*recipes.Cache[string]{k, kept} {
				must(t, k.Synced(ctx))
				if entry, ok := k.Get(fmt.Sprintf("/a/%d", i)); !ok || entry.Value != "new" || entry.Err != nil {
					t.Fatalf("the child numbered %d is %+v, %t", i, entry, ok)
				}
			}
			k.Close()
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, coord.ErrUnknownOutcome) {
			t.Errorf("the writer ended with %v", err)
		}
	})
}

// A cache lists what is below a path as the tree does, and what is not loaded is not
// taken for what is not there.
func TestCacheListsWhatIsThere_CURATOR479_curator1246_curator1256(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		for _, path := range []string{"/a", "/a/b", "/a/b/c", "/a/d", "/ab"} {
			put(t, c, path, "x")
		}
		k := newCache(t, c, "/a")
		if _, ok := k.Get("/a/b"); !ok && !k.Position().IsZero() {
			t.Error("it says that it is loaded, and is not")
		}
		must(t, k.Synced(t.Context()))
		if got := shown(k); got != "/a/b/c=x /a/b=x /a/d=x /a=x" || k.Len() != 4 || k.Position().IsZero() {
			t.Errorf("it shows %s, %d entries", got, k.Len())
		}
	})
}

// More children than fit into one answer of a server are children like others.
func TestCacheOfManyChildren_CURATOR690(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const children = 70_000 // above 65,536
		c := e.Leader(t.Context())
		_, _, err := c.Create(t.Context(), "/a", []byte(`""`))
		must(t, err)
		for i := 0; i < children; {
			var ops []coord.Op
			for range 1000 {
				ops = append(ops, coord.CreateOp(fmt.Sprintf("/a/%d", i), []byte(`"x"`)))
				i++
			}
			_, err := c.Multi(t.Context(), ops...)
			must(t, err)
		}
		k := newCache(t, c, "/a")
		must(t, k.Synced(t.Context()))
		put(t, c, "/a/69999", "y")
		must(t, k.Synced(t.Context()))
		if last, ok := k.Get("/a/69999"); k.Len() != children+1 || !ok || last.Value != "y" {
			t.Errorf("%d entries, the last one is %+v", k.Len(), last)
		}
	})
}

// Caches that are closed before they are loaded, behind that, twice, or not at all when
// their session ends, leave no watch.
func TestCachesLeaveNoWatches_curator1292(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		put(t, c, "/a", "x")
		for i := range 20 {
			s := newSession(t, c)
			unloaded, loaded, left := newCache(t, c, "/a"), newCache(t, c, "/a"), newCache(t, s, "/a")
			unloaded.Close()
			must(t, loaded.Synced(t.Context()))
			if i%5 == 0 {
				must(t, left.Synced(t.Context()))
			}
			for range 2 {
				loaded.Close()
			}
			must(t, s.Close())
			if err := left.Synced(t.Context()); !errors.Is(err, coord.ErrClosed) {
				t.Errorf("Synced behind the end of the session = %v", err)
			}
		}
		noWatches(t, e)
	})
}

// A lease whose process crashes right behind the grant is over when its time is: nothing
// has to be made afterwards for that. Its directory vanishes.
func TestLeaseOfACrash_curator1260_curator1264(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Follower(t.Context())
		mustTakeLease(t, c, "/leases/l", 10*time.Second)
		e.Kill(c)
		o := other(e, c)
		eventually(t, "the directories to vanish", func() bool { return children(t, o, "/leases") == "none" })
	}, reapsSoon)
}

// Each operation of a Multi is checked against the ACL, wherever it stands, and a
// forbidden one keeps all others from happening.
func TestMultiChecksEveryOperation_etcd18667_CVE202633343(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		readOnly := coord.WithACL(coord.ACL{Perms: coord.PermRead, ID: coord.ID{Scheme: "world", ID: "anyone"}})
		_, _, err := c.Create(t.Context(), "/mine", nil)
		must(t, err)
		_, _, err = c.Create(t.Context(), "/closed", nil, readOnly)
		must(t, err)
		allowed := coord.SetDataOp("/mine", []byte("x"))
		for name, forbidden := range map[string]coord.Op{
			"create":  coord.CreateOp("/closed/new", nil),
			"setData": coord.SetDataOp("/closed", []byte("x")),
			"add":     coord.AddOp("/closed", 1),
		} {
			for i, ops := range [][]coord.Op{{forbidden}, {forbidden, allowed}, {allowed, forbidden}, {allowed, forbidden, allowed}} {
				if _, err := c.Multi(t.Context(), ops...); !errors.Is(err, coord.ErrNoAuth) {
					t.Errorf("%s, %d: Multi = %v", name, i, err)
				}
			}
		}
		if data, stat, err := c.Get(t.Context(), "/mine"); err != nil || stat.Version != 0 || len(data) != 0 {
			t.Errorf("a part of it has happened: %q, version %d, %v", data, stat.Version, err)
		}
	})
}
