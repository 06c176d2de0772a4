package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// owners is who works on which partition, as those who do say.
type owners struct {
	t     *testing.T
	mu    sync.Mutex
	of    map[string]string     // guarded by mu, as is what follows
	fence map[string]coord.ZXID // the largest
	moves int
}

func watchOwners(t *testing.T) *owners {
	t.Helper()
	return &owners{t: t, of: make(map[string]string), fence: make(map[string]coord.ZXID)}
}

// begin notes an owner, which must be the only one.
func (o *owners) begin(who string, p *recipes.Partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if other := o.of[p.Name()]; other != "" {
		o.t.Errorf("%s is owned by %s and by %s", p.Name(), other, who)
	}
	if p.Fence() <= o.fence[p.Name()] {
		o.t.Errorf("fence %v of %s behind %v", p.Fence(), p.Name(), o.fence[p.Name()])
	}
	o.of[p.Name()], o.fence[p.Name()] = who, p.Fence()
	o.moves++
}

func (o *owners) end(p *recipes.Partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.of, p.Name())
}

// work is a function that heeds its context.
func (o *owners) work(who string) func(ctx context.Context, p *recipes.Partition) error {
	return func(ctx context.Context, p *recipes.Partition) error {
		o.begin(who, p)
		defer o.end(p)
		<-ctx.Done()
		return errors.New("not looked at")
	}
}

// shares returns how many partitions each owns.
func (o *owners) shares() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := make(map[string]int)
	for _, who := range o.of {
		n[who]++
	}
	return n
}

// balanced waits until all partitions are owned, by all of them, and by each as many as
// by any other, or one more.
func (o *owners) balanced(partitions int, among ...string) {
	o.t.Helper()
	eventually(o.t, fmt.Sprintf("a balance among %v", among), func() bool {
		shares, sum := o.shares(), 0
		for _, who := range among {
			if n := shares[who]; n < partitions/len(among) || n > (partitions+len(among)-1)/len(among) {
				return false
			}
			sum += shares[who]
		}
		return sum == partitions && len(shares) == min(len(among), partitions)
	})
}

func partitionNames(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint("orders-", i)
	}
	return all
}

// A member that runs the partitions.
type runner struct {
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan error
}

func (o *owners) run(c *coord.Coordinator, who string, partitions []string, opts ...recipes.PartitionOption) *runner {
	r := &runner{ended: make(chan error, 1)}
	r.ctx, r.cancel = context.WithCancel(o.t.Context())
	go func() { r.ended <- recipes.RunPartitions(r.ctx, c, "/orders/shards", partitions, o.work(who), opts...) }()
	return r
}

// stop ends a runner, which returns why.
func (r *runner) stop() error {
	r.cancel()
	return <-r.ended
}

// kazoo's SetPartitioner: members come and go, and nobody drives a state machine.
func TestRunPartitions_kazooSetPartitioner(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 16
		o := watchOwners(t)
		a := o.run(e.Member(1), "a", partitionNames(n))
		o.balanced(n, "a")
		b := o.run(e.Member(2), "b", partitionNames(n))
		o.balanced(n, "a", "b")
		moves := o.moves
		c := o.run(e.Member(3), "c", partitionNames(n))
		o.balanced(n, "a", "b", "c")
		if moved := o.moves - moves; moved > n/2 {
			t.Errorf("%d of %d partitions moved to the third member", moved, n)
		}
		d := o.run(e.Member(3), "d", partitionNames(n)) // twice in one process
		o.balanced(n, "a", "b", "c", "d")
		if err := b.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("RunPartitions = %v", err)
		}
		o.balanced(n, "a", "c", "d")
		for _, r := range []*runner{a, c, d} {
			_ = r.stop()
		}
		time.Sleep(5 * time.Minute)
		if got := children(t, e.Member(1), "/orders"); got != "none" {
			t.Errorf("the directories do not vanish: %s", got)
		}
		noWatches(t, e)
	})
}

// Through crashes, isolation and the loss of sessions, none has two owners, and all have
// one in the end.
func TestRunPartitionsThroughFaults(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 10
		o := watchOwners(t)
		runners := make(map[string]*runner)
		all := func() (who []string) {
			for _, c := range e.Running() {
				who = append(who, c.Status().Member.String())
			}
			return who
		}
		for _, c := range e.Running() {
			who := c.Status().Member.String()
			runners[who] = o.run(c, who, partitionNames(n))
		}
		o.balanced(n, all()...)
		for round := range 6 {
			c := e.Leader(t.Context())
			if round%2 == 1 {
				c = e.Follower(t.Context())
			}
			who := c.Status().Member.String()
			if round < 4 {
				e.Isolate(c) // its session expires, and is opened anew
				time.Sleep(rand.N(40 * time.Second))
				e.Heal()
				o.balanced(n, all()...)
				continue
			}
			e.Kill(c)
			if err := <-runners[who].ended; err == nil || errors.Is(err, context.Canceled) {
				t.Errorf("RunPartitions of a coordinator that was killed = %v", err)
			}
			o.balanced(n, all()...)
			runners[who] = o.run(e.Restart(c), who, partitionNames(n))
			o.balanced(n, all()...)
		}
		for _, r := range runners {
			_ = r.stop()
		}
		noWatches(t, e)
	})
}

// Members that come and go all the time, by chance, with what they own or without.
func TestRunPartitionsWithoutRest(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 12
		o := watchOwners(t)
		e.Lose(0.02, 1)
		var all sync.WaitGroup
		for i := range 6 {
			c, who := e.Member(i%3+1), fmt.Sprint("restless-", i)
			random := rand.New(rand.NewPCG(uint64(i), 1))
			all.Go(func() {
				for range 15 {
					r := o.run(c, who, partitionNames(n), recipes.WithSettleTime(time.Duration(random.Int64N(int64(2*time.Second)))))
					time.Sleep(time.Duration(random.Int64N(int64(6 * time.Second))))
					if err := r.stop(); !errors.Is(err, context.Canceled) {
						t.Errorf("RunPartitions = %v", err)
					}
					time.Sleep(time.Duration(random.Int64N(int64(3 * time.Second))))
				}
			})
		}
		all.Wait()
		e.Lose(0, 1)
		t.Logf("%d grants", o.moves)
		rest := []*runner{o.run(e.Member(1), "a", partitionNames(n)), o.run(e.Member(2), "b", partitionNames(n))}
		o.balanced(n, "a", "b")
		for _, r := range rest {
			_ = r.stop()
		}
		noWatches(t, e)
	})
}

// Nobody gets a partition before its owner has done what it has to do at the end, for
// which it still owns it.
func TestPartitionIsHandedOver(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		partitions := partitionNames(4)
		first := e.Follower(t.Context())
		handed := make(chan error, 10)
		stuck := make(chan bool)
		o := watchOwners(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- recipes.RunPartitions(ctx, first, "/orders/shards", partitions, func(ctx context.Context, p *recipes.Partition) error {
				o.begin("first", p)
				defer o.end(p)
				<-ctx.Done()
				handed <- context.Cause(ctx)
				<-stuck
				if err := p.Check(); err != nil || p.Context().Err() != nil {
					t.Errorf("Check = %v before it was released", err)
				}
				_, err := first.Multi(t.Context(), p.Guard(), coord.CreateOp("/flushed-"+p.Name(), nil))
				if err != nil {
					t.Errorf("a guarded write at the end = %v", err)
				}
				return nil
			})
		}()
		o.balanced(4, "first")
		second := o.run(e.Leader(t.Context()), "second", partitions)
		for range 2 {
			if err := <-handed; !errors.Is(err, recipes.ErrMoved) {
				t.Errorf("the context of a partition that moves ended with %v", err)
			}
		}
		time.Sleep(time.Minute)
		if shares := o.shares(); shares["first"] != 4 {
			t.Errorf("%v own, though none was handed over", shares)
		}
		close(stuck)
		o.balanced(4, "first", "second")
		if len(handed) != 0 {
			t.Error("more have moved than had to")
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("RunPartitions = %v", err)
		}
		o.balanced(4, "second")
		_ = second.stop()
		noWatches(t, e)
	})
}

// A partition whose owner is cut off ends by the clock before anybody else gets it, and
// what the lost one writes is refused.
func TestPartitionIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		partitions := partitionNames(2)
		cut := e.Follower(t.Context())
		got := make(chan *recipes.Partition, 2)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- recipes.RunPartitions(ctx, cut, "/orders/shards", partitions, func(ctx context.Context, p *recipes.Partition) error {
				got <- p
				<-ctx.Done()
				return nil
			})
		}()
		lost := map[string]*recipes.Partition{}
		for range 2 {
			p := <-got
			lost[p.Name()] = p
		}
		e.Isolate(cut)
		next := make(chan error, 1)
		checked := make(chan bool, 2)
		other := e.Leader(t.Context())
		go func() {
			next <- recipes.RunPartitions(ctx, other, "/orders/shards", partitions, func(ctx context.Context, p *recipes.Partition) error {
				before := lost[p.Name()]
				if err := before.Check(); !errors.Is(err, coord.ErrSessionExpired) || before.Context().Err() == nil {
					t.Errorf("Check of who was cut off = %v", err)
				}
				if p.Fence() <= before.Fence() {
					t.Errorf("fence %v behind %v", p.Fence(), before.Fence())
				}
				if _, err := other.Multi(ctx, before.Guard()); !errors.Is(err, coord.ErrBadVersion) {
					t.Errorf("a guarded write of who was lost = %v", err)
				}
				checked <- true
				<-ctx.Done()
				return nil
			})
		}()
		<-checked
		<-checked
		cancel()
		for _, ended := range []chan error{next, ended} {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("RunPartitions = %v", err)
			}
		}
		e.Heal()
		noWatches(t, e)
	})
}

// Who is away for less than the settle time, and nobody else, moves nothing.
func TestPartitionsSettle(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 12
		settle := recipes.WithSettleTime(20 * time.Second)
		o := watchOwners(t)
		a := o.run(e.Member(1), "a", partitionNames(n), settle)
		b := o.run(e.Member(2), "b", partitionNames(n), settle)
		c := o.run(e.Member(3), "c", partitionNames(n), settle)
		o.balanced(n, "a", "b", "c")
		moves := o.moves
		_ = c.stop()
		time.Sleep(5 * time.Second)
		c = o.run(e.Member(3), "c", partitionNames(n), settle)
		o.balanced(n, "a", "b", "c")
		time.Sleep(time.Minute)
		if moved := o.moves - moves; moved != n/3 {
			t.Errorf("%d grants for a member that had %d and came back", moved, n/3)
		}
		for _, r := range []*runner{a, b, c} {
			_ = r.stop()
		}
		noWatches(t, e)
	})
}

// When f has had enough, or panics, the partitions are free for others.
func TestRunPartitionsReturns(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		why := errors.New("enough")
		run := func(end func() error) error {
			return recipes.RunPartitions(t.Context(), e.Member(1), "/orders/shards", partitionNames(5), func(ctx context.Context, p *recipes.Partition) error {
				if p.Name() == "orders-3" {
					time.Sleep(time.Second)
					return end()
				}
				<-ctx.Done()
				return errors.New("not looked at")
			})
		}
		for _, want := range []error{why, nil} {
			if err := run(func() error { return want }); !errors.Is(err, want) {
				t.Errorf("RunPartitions = %v, want %v", err, want)
			}
			if got := children(t, e.Member(1), "/orders/shards/owners") + children(t, e.Member(1), "/orders/shards/members"); got != "" {
				t.Errorf("left behind: %s", got)
			}
		}
		if err := run(func() error { runtime.Goexit(); return nil }); err == nil {
			t.Error("RunPartitions of a function that has ended its goroutine returned nil")
		}
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "mine") || !strings.Contains(got, "TestRunPartitionsReturns") {
					t.Errorf("recover = %v", got)
				}
			}()
			_ = run(func() error { panic("mine") })
		}()
		if got := children(t, e.Member(1), "/orders/shards/owners") + children(t, e.Member(1), "/orders/shards/members"); got != "" {
			t.Errorf("left behind: %s", got)
		}
		noWatches(t, e)
	})
}

// A member goes on when somebody deletes what stands for it, or for what it owns.
func TestRunPartitionsGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 6
		o := watchOwners(t)
		a, b := o.run(e.Member(1), "a", partitionNames(n)), o.run(e.Member(2), "b", partitionNames(n))
		o.balanced(n, "a", "b")
		for _, dir := range []string{"/orders/shards/owners", "/orders/shards/members"} {
			all := strings.Fields(children(t, e.Member(3), dir))
			moves := o.moves
			for _, name := range all {
				if err := e.Member(3).Delete(t.Context(), dir+"/"+name); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "new grants", func() bool {
				o.mu.Lock()
				defer o.mu.Unlock()
				return o.moves >= moves+n
			})
			o.balanced(n, "a", "b")
		}
		_, _ = a.stop(), b.stop()
		noWatches(t, e)
	})
}

// All agree on the set, until nobody is left.
func TestPartitionsOfAnotherSet(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		o := watchOwners(t)
		a := o.run(e.Member(1), "a", partitionNames(4))
		o.balanced(4, "a")
		other := append(partitionNames(3), "invoices")
		err := recipes.RunPartitions(t.Context(), e.Member(2), "/orders/shards", other, o.work("b"))
		if !errors.Is(err, recipes.ErrOtherSet) || !strings.Contains(err.Error(), `"orders-3"`) || !strings.Contains(err.Error(), `"invoices"`) {
			t.Errorf("RunPartitions of another set = %v", err)
		}
		b := o.run(e.Member(2), "b", []string{"orders-3", "orders-1", "orders-0", "orders-2"})
		o.balanced(4, "a", "b")
		_, _ = a.stop(), b.stop()
		eventually(t, "all to have left", func() bool { // in the background; c must know of it
			left := children(t, e.Member(2), "/orders/shards/owners") + children(t, e.Member(2), "/orders/shards/members")
			return !strings.Contains(left, "-")
		})
		c := o.run(e.Member(2), "c", other)
		o.balanced(4, "c")
		_ = c.stop()
		time.Sleep(100 * time.Second) // some of the directories vanish
		d := o.run(e.Member(3), "d", partitionNames(2))
		o.balanced(2, "d")
		_ = d.stop()
		noWatches(t, e)
	})
}

// More members than partitions: who has none waits.
// A persistent znode that is called like a member gets nothing, and one that is called
// like a claim keeps that partition alone from having an owner.
func TestPartitionsAmongForeignZnodes(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c, o, partitions := e.Member(1), watchOwners(t), partitionNames(10)
		a := o.run(c, "a", partitions)
		o.balanced(10, "a")
		for _, path := range []string{"/orders/shards/members/member-0000000000", "/orders/shards/members/member-2000000000"} {
			if _, _, err := c.Create(t.Context(), path, nil); err != nil && !errors.Is(err, coord.ErrNodeExists) {
				t.Fatal(err)
			}
		}
		b := o.run(e.Member(2), "b", partitions)
		o.balanced(10, "a", "b")
		if err := b.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("RunPartitions = %v", err)
		}
		o.balanced(10, "a")
		if err := a.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("RunPartitions = %v", err)
		}
		eventually(t, "the partition to be released", func() bool { // in the background, as the context had ended
			_, _, err := c.Create(t.Context(), "/orders/shards/owners/orders-3", nil, coord.WithContainers())
			return err == nil
		})
		a = o.run(c, "a", partitions)
		o.balanced(9, "a")
		if err := c.Delete(t.Context(), "/orders/shards/owners/orders-3"); err != nil {
			t.Fatal(err)
		}
		o.balanced(10, "a")
		if err := a.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("RunPartitions = %v", err)
		}
		noWatches(t, e)
	})
}

func TestMoreMembersThanPartitions(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		o := watchOwners(t)
		var all []*runner
		for i := range 5 {
			all = append(all, o.run(e.Member(i%3+1), fmt.Sprint(i), partitionNames(2), recipes.WithSettleTime(0)))
		}
		for range all {
			eventually(t, "owners", func() bool {
				owned, by := 0, o.shares()
				for _, n := range by {
					owned += n
				}
				return owned == 2 && len(by) == min(2, len(all))
			})
			_ = all[0].stop()
			all = all[1:]
		}
		noWatches(t, e)
	})
}

// Few writes, and few that are woken.
func TestRunPartitionsCosts(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		const n = 60
		o := watchOwners(t)
		var all []*runner
		var among []string
		for i, c := range e.Running() {
			e.Converged(t.Context())
			before, moves := c.Status().ZXID, o.moves
			all, among = append(all, o.run(c, fmt.Sprint(i), partitionNames(n))), append(among, fmt.Sprint(i))
			o.balanced(n, among...)
			e.Converged(t.Context())
			writes, moved := int(c.Status().ZXID-before), o.moves-moves
			t.Logf("member %d of %d: %d partitions moved, by %d writes", i+1, e.Size(), moved, writes)
			if writes > 2*moved+5 {
				t.Errorf("member %d: %d partitions moved, by %d writes", i+1, moved, writes)
			}
		}
		for _, r := range all {
			_ = r.stop()
		}
		noWatches(t, e)
	})
}

func TestPartitionsOfBadInput(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		lock := mustLock(t, newSession(t, c), "/lock")
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		f := func(context.Context, *recipes.Partition) error { t.Error("it was called"); return nil }
		run := func(ctx context.Context, c *coord.Coordinator, path string, partitions []string, opts ...recipes.PartitionOption) error {
			return recipes.RunPartitions(ctx, c, path, partitions, f, opts...)
		}
		for what, test := range map[string]struct{ err, want error }{
			"a cancelled context":    {run(cancelled, c, "/p", partitionNames(1)), context.Canceled},
			"no coordinator":         {run(t.Context(), nil, "/p", partitionNames(1)), coord.ErrClosed},
			"a bad path":             {run(t.Context(), c, "p", partitionNames(1)), coord.ErrBadArguments},
			"no partitions":          {run(t.Context(), c, "/p", nil), coord.ErrBadArguments},
			"a partition twice":      {run(t.Context(), c, "/p", []string{"a", "b", "a"}), coord.ErrBadArguments},
			"no name":                {run(t.Context(), c, "/p", []string{""}), coord.ErrBadArguments},
			"a bad name":             {run(t.Context(), c, "/p", []string{"a/b"}), coord.ErrBadArguments},
			"a line":                 {run(t.Context(), c, "/p", []string{"a\nb"}), coord.ErrBadArguments},
			"a negative settle time": {run(t.Context(), c, "/p", partitionNames(1), recipes.WithSettleTime(-1)), coord.ErrBadArguments},
			"a lock":                 {run(t.Context(), c, "/lock", partitionNames(1)), recipes.ErrOtherRecipe},
		} {
			if !errors.Is(test.err, test.want) {
				t.Errorf("%s: %v, want %v", what, test.err, test.want)
			}
		}
		if got := children(t, c, "/p"); got != "none" {
			t.Errorf("left behind: %s", got)
		}
		o := watchOwners(t)
		r := o.run(c, "a", partitionNames(1))
		o.balanced(1, "a")
		if _, err := recipes.Lock(t.Context(), c.Session(), "/orders/shards"); !errors.Is(err, recipes.ErrOtherRecipe) {
			t.Errorf("Lock = %v", err)
		}
		_ = r.stop()
		mustRelease(t, lock)
		noWatches(t, e)
	})
}
