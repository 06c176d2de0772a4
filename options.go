package coord

import "time"

// A CreateOption is an option of [Coordinator.Create] and [CreateOp]. A
// [CreateMode] is one.
type CreateOption interface{ applyCreate(*op) }

// A SetDataOption is an option of [Coordinator.SetData] and [SetDataOp].
type SetDataOption interface{ applySetData(*op) }

// A DeleteOption is an option of [Coordinator.Delete] and [DeleteOp].
type DeleteOption interface{ applyDelete(*op) }

// A SetACLOption is an option of [Coordinator.SetACL].
type SetACLOption interface{ applySetACL(*op) }

// A CheckOption is an option of [CheckOp].
type CheckOption interface{ applyCheck(*op) }

// A ReadOption is an option of [Coordinator.Get], [Coordinator.Exists],
// [Coordinator.ACL], [Coordinator.AllChildrenNumber], [Coordinator.Ephemerals]
// and [Coordinator.View].
type ReadOption interface {
	ListOption
	applyRead(*readOptions)
}

// A ListOption is an option of [Coordinator.Children]. A [ReadOption] is one.
type ListOption interface{ applyList(*listOptions) }

// A VersionOption is what [WithVersion] returns.
type VersionOption struct{ version int32 }

// WithVersion makes a write conditional: it fails with [ErrBadVersion] unless the
// version of the data (of the ACL for SetACL) is this one. [AnyVersion] is no
// condition.
func WithVersion(version int32) VersionOption { return VersionOption{version} }

func (o VersionOption) applySetData(p *op) { p.version = o.version }
func (o VersionOption) applyDelete(p *op)  { p.version = o.version }
func (o VersionOption) applySetACL(p *op)  { p.version = o.version }
func (o VersionOption) applyCheck(p *op)   { p.version = o.version }

// A CzxidOption is what [WithCzxid] returns.
type CzxidOption struct{ czxid ZXID }

// WithCzxid makes a write conditional: it fails with [ErrBadVersion] unless the
// znode is the one that was created at this zxid, and not one created later at
// the same path. Zero is no condition.
func WithCzxid(czxid ZXID) CzxidOption { return CzxidOption{czxid} }

func (o CzxidOption) applySetData(p *op) { p.czxid = o.czxid }
func (o CzxidOption) applyDelete(p *op)  { p.czxid = o.czxid }
func (o CzxidOption) applySetACL(p *op)  { p.czxid = o.czxid }
func (o CzxidOption) applyCheck(p *op)   { p.czxid = o.czxid }

func (m CreateMode) applyCreate(p *op) { p.mode = m }

type createFunc func(*op)

func (f createFunc) applyCreate(p *op) { f(p) }

// WithParents makes missing parents as well, persistent, without data and with
// the same ACL, in the same write. Where there are templates each parent has the ACL
// that its own path gets, see [Coordinator.SetACLTemplate].
func WithParents() CreateOption { return createFunc(func(p *op) { p.parents = persistentParents }) }

// WithContainers makes missing parents as [WithParents] does, but of mode
// [Container]: they vanish some time after their last child.
func WithContainers() CreateOption {
	return createFunc(func(p *op) { p.parents = containerParents })
}

// WithTTL sets the time to live of a znode of mode [PersistentTTL] or
// [PersistentSequentialTTL]: 1 ms to 2^40-1 ms, in whole milliseconds, rounded up.
func WithTTL(ttl time.Duration) CreateOption {
	return createFunc(func(p *op) { p.ttlMS = int64((ttl + time.Millisecond - 1) / time.Millisecond) })
}

// WithACL sets the access control list of the znode. Without it, the znode gets that
// of the template for its path, see [Coordinator.SetACLTemplate], or the default of
// the ensemble, [Settings.DefaultACL]. An enforced template replaces it.
func WithACL(list ...ACL) CreateOption {
	list = append([]ACL{}, list...)
	return createFunc(func(p *op) { p.acl = list })
}

type readOptions struct {
	linearizable bool
	allowStale   bool
	atLeast      *Position
}

type listOptions struct {
	readOptions
	after string
	limit int
}

type readFunc func(*readOptions)

func (f readFunc) applyRead(o *readOptions) { f(o) }
func (f readFunc) applyList(o *listOptions) { f(&o.readOptions) }

// Linearizable makes a read reflect every write that was acknowledged, by any
// member, before the call. It costs a round trip to a quorum, which it shares
// with other reads (Ongaro §6.4).
func Linearizable() ReadOption { return readFunc(func(o *readOptions) { o.linearizable = true }) }

// AllowStale lets a read be answered while this member has no contact with a
// quorum, and before it has caught up after its start. It fails with [ErrSuspended]
// as long as the member has nothing to be stale about: before the first entry of its
// log is applied.
func AllowStale() ReadOption { return readFunc(func(o *readOptions) { o.allowStale = true }) }

type listFunc func(*listOptions)

func (f listFunc) applyList(o *listOptions) { f(o) }

// After makes a listing start behind the child of this name, whether or not it
// exists.
func After(name string) ListOption { return listFunc(func(o *listOptions) { o.after = name }) }

// Limit makes a listing end after n names. Zero means no limit.
func Limit(n int) ListOption { return listFunc(func(o *listOptions) { o.limit = n }) }

func readOptionsOf(opts []ReadOption) readOptions {
	var o readOptions
	for _, opt := range opts {
		opt.applyRead(&o)
	}
	return o
}

// A WatchOption is an option of [Coordinator.Watch].
type WatchOption interface{ applyWatch(*watchOptions) }

type watchFunc func(*watchOptions)

func (f watchFunc) applyWatch(o *watchOptions) { f(o) }

// WithInitial makes a watch tell the state first, then the changes, without a gap:
// the znode at the path (its children for [Children], it and everything below it
// for [Subtree]) as events of type NodeCreated that are marked Initial, parents
// before children. A state that was told takes the memory of what is replaced
// meanwhile until the reader is through.
func WithInitial() WatchOption { return watchFunc(func(o *watchOptions) { o.initial = true }) }

// From makes a watch start behind a Position, in the past or at present, on
// whatever member it was obtained. The watch is refused with a [*CompactedError]
// if changes behind it are no longer known here, and with [ErrInvalidPosition] if
// it is of another ensemble or of the future.
func From(p Position) WatchOption { return watchFunc(func(o *watchOptions) { o.from = &p }) }

// WithData makes events carry the data and the stat of the znode as of the event.
func WithData() WatchOption { return watchFunc(func(o *watchOptions) { o.data = true }) }

// WithTypes makes a watch tell changes of these types only, those of all calls
// together; [Progress] and what [WithInitial] tells come nevertheless. The changes of
// a watch on [Children] are all of type [NodeChildrenChanged].
func WithTypes(types ...EventType) WatchOption {
	return watchFunc(func(o *watchOptions) {
		for _, t := range types {
			if t < NodeCreated || t > NodeChildrenChanged {
				o.unknown = append(o.unknown, t)
				continue
			}
			o.types |= 1 << t
		}
	})
}

// WithProgress makes a watch tell, about once a second while the ensemble has
// writes that do not concern it, how far it is: an event of type [Progress], in
// order with the others, whose Position says up to where everything was told. It
// also comes behind the state that [WithInitial] tells.
func WithProgress() WatchOption { return watchFunc(func(o *watchOptions) { o.progress = true }) }

// AtLeast makes a read reflect everything up to a Position, on whatever member it
// was obtained. If this member is behind, the read waits for one round trip to a
// quorum; it fails with [ErrInvalidPosition] if the Position is of another
// ensemble or of the future.
func AtLeast(p Position) ReadOption { return readFunc(func(o *readOptions) { o.atLeast = &p }) }
