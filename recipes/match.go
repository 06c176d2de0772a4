package recipes

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A couple is a partition, a member, and how well they match.
type couple struct {
	score             uint64
	partition, member int
}

// match shares partitions out over members: each gets as many as any other, or one
// more. It depends on the names alone, each of which is there once, and not on their
// order. Those that match best come together first, as long as the member has room; so
// where a member comes or goes, most of the others keep what they have.
//
// All members of an ensemble must come to the same, whatever version they run: this
// never changes. Otherwise a partition may have no owner.
func match(partitions, members []string) map[string][]string {
	if len(members) == 0 {
		return nil
	}
	least, oneMore := len(partitions)/len(members), len(partitions)%len(members)
	owned := make(map[string][]string, len(members))
	taken := make([]bool, len(partitions))
	for _, c := range couples(partitions, members) {
		partition, member := partitions[c.partition], members[c.member]
		n := len(owned[member])
		if taken[c.partition] || n > least || n == least && oneMore == 0 {
			continue
		}
		if n == least {
			oneMore--
		}
		owned[member], taken[c.partition] = append(owned[member], partition), true
	}
	return owned
}

// couples returns all of them, those that match best first.
func couples(partitions, members []string) []couple {
	all := make([]couple, 0, len(partitions)*len(members))
	for p, partition := range partitions {
		for m, member := range members {
			sum := sha256.Sum256([]byte(member + "\x00" + partition))
			all = append(all, couple{binary.BigEndian.Uint64(sum[:]), p, m})
		}
	}
	slices.SortFunc(all, func(a, b couple) int {
		return cmp.Or(
			cmp.Compare(b.score, a.score),
			cmp.Compare(partitions[a.partition], partitions[b.partition]),
			cmp.Compare(members[a.member], members[b.member]))
	})
	return all
}
