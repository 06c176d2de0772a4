package coordtest

import (
	"slices"
	"testing"
	"time"

	"coord"
	"coord/zkserver"
)

// An Option changes how an ensemble is made.
type Option func(*options)

type options struct {
	onDisk    bool
	onSockets bool
	seed      uint64
	seeded    bool
	change    []func(*coord.Config)

	openACL       bool // as DefaultACL
	changeServing []func(*zkserver.Options)
}

// OnDisk keeps logs and snapshots on the disk, in a temporary directory of the test,
// in the log database of a real member. Otherwise they are in memory. It excludes
// virtual time, [Ensemble.PowerCut] and the faults of disks.
func OnDisk() Option { return func(o *options) { o.onDisk = true } }

// OnSockets has members talk over TCP connections on the loopback interface, in
// plaintext or by the TLS of [WithConfig], as real members do. Otherwise their network
// is in memory. It excludes virtual time, [Ensemble.Pause], [Ensemble.PowerCut] and the
// faults of the network. With OnDisk beside it everything of coord runs as it does in
// production, but for the distance between members.
func OnSockets() Option { return func(o *options) { o.onSockets = true } }

// WithConfig changes the configuration of every member before it is opened, also
// before it is opened again. Name, ID, Dir, InitialMembers and Listen are the
// ensemble's own and must stay empty. Several are called in their order.
func WithConfig(change func(*coord.Config)) Option {
	return func(o *options) { o.change = append(o.change, change) }
}

// WithElectionTimeout sets [coord.Config.ElectionTimeout], which is a second otherwise: a
// busy machine does not take that for a silence. In virtual time, where long ones cost
// nothing, it is coord's own default.
func WithElectionTimeout(d time.Duration) Option {
	return WithConfig(func(c *coord.Config) { c.ElectionTimeout = d })
}

// WithSeed decides by what dice are thrown: which messages are lost and how long others
// take, what a power cut leaves of unsynced writes, what a [Nemesis] does and when. Without it the
// environment variable COORDTEST_SEED decides, or else chance. A test that fails
// prints its seed. The seed does not decide which of two goroutines runs first: a
// repeated run is much like the first one, and not the same.
func WithSeed(seed uint64) Option {
	return func(o *options) { o.seed, o.seeded = seed, true }
}

// newOptions returns what opts say, or fails the test if they contradict each other.
func newOptions(tb testing.TB, opts []Option) options {
	tb.Helper()
	var o options
	for i, opt := range opts {
		if opt == nil {
			tb.Fatalf("coordtest: option %d is nil", i+1)
		}
		opt(&o)
	}
	if slices.ContainsFunc(o.changeServing, func(change func(*zkserver.Options)) bool { return change == nil }) {
		tb.Fatalf("coordtest: WithZooKeeper(nil)")
	}
	if inBubble() {
		if o.onDisk {
			tb.Fatalf("coordtest: OnDisk in virtual time: a real disk takes real time; leave it out, or do not use VirtualTime")
		}
		if o.onSockets {
			tb.Fatalf("coordtest: OnSockets in virtual time: time does not pass while somebody waits for a real socket; leave it out, or do not use VirtualTime")
		}
	}
	if !o.seeded {
		o.seed = chooseSeed(tb)
	}
	return o
}
