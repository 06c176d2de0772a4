package raftnode

import (
	"fmt"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"

	"coord/internal/replica"
)

// An addressBook tells the library where members are. It takes the place of
// the library's own registries: the default one ends the process with
// "inconsistent target" when a peer shows up from another address than before,
// and the other one gossips over ports of its own.
//
// A replica's id is its member's id in every group, so the group does not
// matter here, and nothing that comes over the network can change the book.
type addressBook struct {
	// target is what the library dials a member by, made of its address.
	target func(replica.MemberID, string) string

	// pages is replaced as a whole: the library asks for each message it
	// sends, while changes are rare.
	pages atomic.Pointer[map[replica.MemberID]*page]

	// closed is called when the library has ended its requests and the network.
	// Nil does nothing.
	closed func()
}

// A page is one member's address and the names of the connections to it, made
// once because they are asked for with every message.
type page struct {
	addr   string
	target string
	keys   [connectionsPerPeer]string
}

// connectionsPerPeer is how many connections to one peer the groups share.
const connectionsPerPeer = 4

var (
	_ config.NodeRegistryFactory = (*addressBook)(nil)
	_ raftio.INodeRegistry       = (*addressBook)(nil)
)

func newAddressBook(target func(replica.MemberID, string) string, known map[replica.MemberID]string) *addressBook {
	b := &addressBook{target: target}
	b.replace(known)
	return b
}

// byAddress is the target of a member on a network where addresses are enough.
func byAddress(_ replica.MemberID, addr string) string { return addr }

func (b *addressBook) newPage(id replica.MemberID, addr string) *page {
	p := &page{addr: addr, target: b.target(id, addr)}
	for i := range p.keys {
		p.keys[i] = fmt.Sprintf("%s-%d", p.target, i)
	}
	return p
}

// replace makes addrs all that is known.
func (b *addressBook) replace(addrs map[replica.MemberID]string) {
	pages := make(map[replica.MemberID]*page, len(addrs))
	for id, addr := range addrs {
		pages[id] = b.newPage(id, addr)
	}
	b.pages.Store(&pages)
}

// addrOf returns a member's address, and whether there is such a member.
func (b *addressBook) addrOf(id replica.MemberID) (addr string, known bool) {
	p := (*b.pages.Load())[id]
	if p == nil {
		return "", false
	}
	return p.addr, true
}

// Create returns the book itself: a host has one.
func (b *addressBook) Create(string, uint64, config.TargetValidator) (raftio.INodeRegistry, error) {
	return b, nil
}

// Resolve returns the target of a member and the name of the connection that a
// group's messages to it go over. For an unknown member the library drops the
// message.
func (b *addressBook) Resolve(group, member uint64) (target, connection string, err error) {
	p := (*b.pages.Load())[replica.MemberID(member)]
	if p == nil {
		return "", "", fmt.Errorf("raftnode: no address known for member %d", member)
	}
	return p.target, p.keys[group%connectionsPerPeer], nil
}

// Add does nothing. The library calls it for the first members of a group and
// for the sender of each message that arrives; neither knows better than the
// book, and the sender may be anybody.
func (b *addressBook) Add(group, member uint64, uuid string) {}

// Remove does nothing: the member may run other groups.
func (b *addressBook) Remove(group, member uint64) {}

// RemoveShard does nothing, for the same reason.
func (b *addressBook) RemoveShard(group uint64) {}

// Close says that no message comes or goes any more. The book itself holds nothing
// but memory.
func (b *addressBook) Close() error {
	if b.closed != nil {
		b.closed()
	}
	return nil
}
