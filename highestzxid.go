package coord

import "sync/atomic"

// A highestZXID is the highest zxid that a member has seen in any of its groups. What it
// proposes carries it, so that the zxids of all groups are a Lamport clock.
type highestZXID struct{ z atomic.Uint64 }

func (h *highestZXID) load() ZXID { return ZXID(h.z.Load()) }

// raise takes note of a zxid.
func (h *highestZXID) raise(z ZXID) {
	for {
		seen := h.z.Load()
		if uint64(z) <= seen || h.z.CompareAndSwap(seen, uint64(z)) {
			return
		}
	}
}
