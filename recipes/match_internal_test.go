package recipes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func numbered(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(prefix, i)
	}
	return all
}

// ownersOf returns who owns each partition, and fails unless all are owned, as many by
// each as by any other, or one more.
func ownersOf(t *testing.T, partitions, members []string) map[string]string {
	t.Helper()
	owners := make(map[string]string)
	for member, owned := range match(partitions, members) {
		for _, partition := range owned {
			if owners[partition] != "" {
				t.Fatalf("%s is owned twice", partition)
			}
			owners[partition] = member
		}
	}
	if len(owners) != len(partitions) {
		t.Fatalf("%d of %d partitions are owned by %d members", len(owners), len(partitions), len(members))
	}
	count := make(map[string]int)
	for _, member := range owners {
		count[member]++
	}
	for _, member := range members {
		if n := count[member]; n < len(partitions)/len(members) || n > (len(partitions)+len(members)-1)/len(members) {
			t.Fatalf("%s has %d of %d partitions among %d members", member, n, len(partitions), len(members))
		}
	}
	return owners
}

func TestMatchIsBalanced(t *testing.T) {
	for _, partitions := range []int{1, 2, 7, 64, 100, 1000} {
		for members := 1; members <= 20; members++ {
			ownersOf(t, numbered("p", partitions), numbered("m", members))
		}
	}
	if got := match(numbered("p", 3), nil); len(got) != 0 {
		t.Errorf("match with nobody = %v", got)
	}
}

func TestMatchDoesNotDependOnOrder(t *testing.T) {
	partitions, members := numbered("p", 100), numbered("m", 7)
	want := ownersOf(t, partitions, members)
	for range 20 {
		rand.Shuffle(len(partitions), func(i, j int) { partitions[i], partitions[j] = partitions[j], partitions[i] })
		rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		for partition, owner := range ownersOf(t, partitions, members) {
			if want[partition] != owner {
				t.Fatalf("%s is owned by %s and by %s", partition, owner, want[partition])
			}
		}
	}
}

// What is matched never changes: members of other versions would not agree.
func TestMatchIsPinned(t *testing.T) {
	got := match(numbered("p", 8), numbered("m", 3))
	for _, owned := range got {
		slices.Sort(owned)
	}
	if want := "map[m0:[p1 p3 p5] m1:[p0 p4] m2:[p2 p6 p7]]"; fmt.Sprint(got) != want {
		t.Errorf("match = %v, want %v", got, want)
	}
}

// A member that comes or goes moves its own share, and little more.
func TestMatchMovesFew(t *testing.T) {
	for _, n := range []struct{ partitions, members int }{{64, 2}, {64, 3}, {256, 5}, {1000, 10}, {1024, 20}} {
		moved, necessary := 0, 0
		const rounds = 20
		for round := range rounds {
			partitions, members := numbered(fmt.Sprint("p", round, "-"), n.partitions), numbered("m", n.members+1)
			with, without := ownersOf(t, partitions, members), ownersOf(t, partitions, members[:n.members])
			for partition, owner := range with {
				if owner != without[partition] {
					moved++
				}
			}
			necessary += n.partitions / (n.members + 1)
		}
		t.Logf("%d partitions, %d members and one more: %d move, %d have to", n.partitions, n.members, moved/rounds, necessary/rounds)
		if moved > 2*necessary {
			t.Errorf("%d partitions, %d members: %d move, %d have to", n.partitions, n.members, moved, necessary)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []struct{ partitions, members int }{{64, 3}, {1000, 10}, {10000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", n.partitions, n.members), func(b *testing.B) {
			partitions, members := numbered("p", n.partitions), numbered("m", n.members)
			for b.Loop() {
				match(partitions, members)
			}
		})
	}
}
