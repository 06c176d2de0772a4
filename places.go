package coord

import (
	"cmp"
	"slices"
)

// places are how far something is in each of several groups, in the order of their ids.
// They are never modified, so that many can share them.
type places []groupPosition

func (p places) index(g GroupID) (int, bool) {
	return slices.BinarySearchFunc(p, g, func(a groupPosition, g GroupID) int { return cmp.Compare(a.group, g) })
}

// in returns the place in a group, if there is one.
func (p places) in(g GroupID) (at groupPosition, ok bool) {
	if i, ok := p.index(g); ok {
		return p[i], true
	}
	return groupPosition{group: g}, false
}

// with returns places of which that in at.group is at.
func (p places) with(at groupPosition) places {
	i, ok := p.index(at.group)
	if ok && p[i] == at {
		return p
	}
	if ok {
		out := slices.Clone(p)
		out[i] = at
		return out
	}
	out := make(places, 0, len(p)+1)
	return append(append(append(out, p[:i]...), at), p[i:]...)
}

// without returns places of which none is in g.
func (p places) without(g GroupID) places {
	i, ok := p.index(g)
	if !ok {
		return p
	}
	out := make(places, 0, len(p)-1)
	return append(append(out, p[:i]...), p[i+1:]...)
}

// behind returns the places behind changes, of whole writes, that follow p.
func (p places) behind(changes []change) places {
	for i := range changes {
		if i+1 == len(changes) || changes[i+1].group != changes[i].group {
			p = p.with(whole(changes[i].group, changes[i].zxid))
		}
	}
	return p
}

// latest returns the highest zxid.
func (p places) latest() (z ZXID) {
	for _, at := range p {
		z = max(z, at.zxid)
	}
	return z
}

// whole returns the place behind all changes of a zxid.
func whole(g GroupID, z ZXID) groupPosition { return groupPosition{g, z, allEvents} }

// before reports whether a change comes behind the place in its group. One of a group
// without a place does.
func (p places) before(c *change) bool {
	at, ok := p.in(c.group)
	return !ok || at.before(c.zxid, c.index)
}
