package recipes

import (
	"testing"

	"coord/coordtest"
	"coord/internal/bubble"
)

// A process takes part twice. One of the two goes and comes back while the other one
// does not look: the members are called the same, but that other one has another name
// among them. If it did not act on that, both would want the same partitions, and
// nobody the rest (found by the simulator, seed 20016).
func TestPartitionsOfAnotherName(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 3)
		ctx, s := t.Context(), e.Member(1).Session()
		p := &partitioner{path: "/p", names: []string{"a", "b", "c", "d"}, data: []byte(partitionsHead + "a\nb\nc\nd"), key: "1"}
		takePart := func() *share {
			me, err := enter(ctx, s, p.path, p.admit)
			if err != nil {
				t.Fatal(err)
			}
			sh := newShare(ctx, p, me)
			if err := sh.lookout.renew(ctx); err != nil {
				t.Fatal(err)
			}
			return sh
		}
		plan := func(sh *share) {
			v, err := s.View(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := sh.plan(v); err != nil {
				t.Fatal(err)
			}
		}
		first, second := takePart(), takePart()
		second.act = true
		plan(second)
		if second.settling != nil || len(second.mine) != 2 {
			t.Fatalf("it wants %q", second.mine)
		}
		wanted := second.mine
		if err := first.me.leave(ctx); err != nil {
			t.Fatal(err)
		}
		again := takePart()
		plan(second)
		if second.settling == nil {
			t.Fatal("it does not act on its other name")
		}
		second.settling.Stop()
		for _, sh := range []*share{second, again} {
			sh.act = true
			plan(sh)
		}
		if second.mine[0] == again.mine[0] || second.mine[0] == wanted[0] {
			t.Errorf("the one that stayed wants %q, before %q, the other one %q", second.mine, wanted, again.mine)
		}
		for _, sh := range []*share{first, second, again} {
			sh.lookout.close()
			sh.crew.cancel(nil)
		}
	})
}
