package recipes

// A Layout is what the znodes of a recipe are called, so that those who use other
// libraries on the same tree contend for the same. docs/LAYOUTS.md tells what they are,
// and by which rules the other libraries decide.
//
// All that contend at one path must use one layout: what has the names of another one
// at a path is refused with [ErrOtherRecipe], if it is seen. Other libraries do not
// refuse what they do not know: there must be nothing else in a directory.
type Layout string

// Layouts. Those of other libraries have nothing that coord's own recipes have beyond
// theirs: no [Held.Downgrade] and no [WithPriority]. Their order does not go on behind
// 2^31 contenders in one directory, where coord refuses to take part, with
// [coord.ErrOverflow].
const (
	// Coord is the default, and for coord alone.
	Coord Layout = ""
	// CuratorLock is that of Curator's InterProcessMutex and of go-zookeeper's Lock. It
	// has no [RLock].
	CuratorLock Layout = "Curator InterProcessMutex"
	// CuratorReadWriteLock is that of Curator's InterProcessReadWriteLock.
	CuratorReadWriteLock Layout = "Curator InterProcessReadWriteLock"
	// CuratorLeaderLatch is that of Curator's LeaderLatch, for elections.
	CuratorLeaderLatch Layout = "Curator LeaderLatch"
	// CuratorLeaderSelector is that of Curator's LeaderSelector, for elections.
	CuratorLeaderSelector Layout = "Curator LeaderSelector"
	// KazooLock is that of kazoo's Lock, ReadLock, WriteLock and Election. Directories
	// stay, because kazoo fails when one vanishes.
	KazooLock Layout = "kazoo Lock"
	// CuratorBarrier is that of Curator's DistributedBarrier and of kazoo's Barrier: it is
	// set while there is any znode at the path.
	CuratorBarrier Layout = "Curator DistributedBarrier"
	// CuratorSimpleQueue is that of Curator's SimpleDistributedQueue, see
	// [NewForeignQueue].
	CuratorSimpleQueue Layout = "Curator SimpleDistributedQueue"
	// KazooQueue is that of kazoo's Queue, see [NewForeignQueue].
	KazooQueue Layout = "kazoo Queue"
	// KazooParty is that of kazoo's Party, for [Join]; see [JoinLayout].
	KazooParty Layout = "kazoo Party"
)

// WithLayout has a lock, an election or a barrier be one with those of another library.
func WithLayout(l Layout) Option { return func(o *options) { o.layout = l } }
