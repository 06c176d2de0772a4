package recipes

// A Layout is what the znodes of a recipe are called, so that those who use other
// libraries on the same tree contend for the same.
//
// All that contend at one path must use one layout: what has the names of another one
// at a path is refused with [ErrOtherRecipe], if it is seen. docs/LAYOUTS.md says which
// versions of the libraries this was tried with.
type Layout string

// Layouts. Each is for the recipe of that name, and has nothing that coord's own
// recipe has beyond it: no [Held.Downgrade] and no [WithPriority].
const (
	// Coord is the default. Of [Lock] it is also that of Curator's InterProcessMutex
	// and of the Lock of go-zookeeper; these take a reader, [RLock], for one that
	// holds alone.
	Coord Layout = ""
	// CuratorReadWriteLock is that of Curator's InterProcessReadWriteLock.
	CuratorReadWriteLock Layout = "Curator InterProcessReadWriteLock"
	// CuratorLeaderLatch is that of Curator's LeaderLatch.
	CuratorLeaderLatch Layout = "Curator LeaderLatch"
	// CuratorLeaderSelector is that of Curator's LeaderSelector.
	CuratorLeaderSelector Layout = "Curator LeaderSelector"
	// KazooLock is that of kazoo's Lock, ReadLock, WriteLock and Election.
	KazooLock Layout = "kazoo Lock"
)

// WithLayout has a lock or an election be one with those of another library.
func WithLayout(l Layout) Option { return func(o *options) { o.layout = l } }
