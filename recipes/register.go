package recipes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"coord"
)

// A RegisterOption is an option of [Register].
type RegisterOption func(*registerOptions)

type registerOptions struct {
	sequential bool
	takeOver   bool
	acl        []coord.ACL
	layout     Layout
	lasting    bool // directories stay
}

// Sequential makes the path of a registration a prefix, which each incarnation gets a
// number of its own appended to.
func Sequential() RegisterOption { return func(o *registerOptions) { o.sequential = true } }

// TakeOver has a registration begin by replacing, in one write, an ephemeral znode of
// another session at its path: at once, where it would wait for that session to end.
// It is for paths that name this process, so that what is there was left by an earlier
// life of it. If that is still alive, its registration ends with [ErrTaken].
func TakeOver() RegisterOption { return func(o *registerOptions) { o.takeOver = true } }

// RegisterACL sets the access control list of the znode. The process must be allowed
// to read it.
func RegisterACL(list ...coord.ACL) RegisterOption {
	return func(o *registerOptions) { o.acl = list }
}

// JoinLayout has [Join] make a member as those of another library are: with
// [KazooParty], one of a kazoo Party, whose other members list what the znode holds as
// its identifier, for which the codec is to be [coord.Raw]. Directories stay, because
// kazoo fails when one vanishes. [Members] lists the members of a Party as any others, as
// long as nothing else is ephemeral there.
func JoinLayout(l Layout) RegisterOption { return func(o *registerOptions) { o.layout = l } }

// A Registration is an ephemeral znode that this process wants to be there. What is
// wanted is kept in one place, and brought about again in each session of the
// Coordinator, until the Registration ends: when it is unregistered, when somebody else
// has got the path, or when its Coordinator ends. Nothing that happens later revives it.
//
// Everything may be called concurrently.
type Registration[T any] struct {
	p     *presence
	codec coord.Codec[T]
	turn  chan struct{} // holds 1: one Update at a time
}

// An Incarnation is one of the znodes that stand, one after the other, for a
// Registration.
type Incarnation struct {
	Path string
	// Generation is the czxid of the znode: larger for each later incarnation, and the
	// fence for what is done in its name.
	Generation coord.ZXID
	Session    coord.SessionID
}

// Register keeps an ephemeral znode that holds value at path, in the own session of c
// and in each that follows it. It returns when the znode is there. Missing parents are
// made as containers, also when they have vanished meanwhile.
//
// Guarantee: there is at most one incarnation at a time that [Registration.Registered]
// tells of, and none begins after [Registration.Unregister] was called. Whatever is at
// path, only a znode that this Registration has made is changed or deleted, unless
// [TakeOver] says otherwise. An incarnation that its own session's end has left behind
// is replaced in one write.
// Cost: one write for each incarnation, one for each Update, and one to unregister.
// Session loss: the znode ends with its session, and the next session makes another
// one, with another generation. So it does if somebody deletes it.
// Pitfall: between two incarnations the znode is missing, or there and nobody's. What
// must not be done by two at a time is for [Lock].
//
// A path that is taken: an ephemeral znode of another session may have been left by an
// earlier life of this process. It is waited for, for twice the timeout of the session,
// before Register fails with [ErrTaken]. Any other znode there makes it fail so at once,
// and ends a Registration that has lost the path to it.
//
// Register fails with the cause of ctx, with that of the end of c, with what reads and
// writes are refused with, and with [ErrOtherRecipe] if the znode would contend in
// another recipe. Nothing is left behind then, or not for longer than its session.
// While this member has no contact with a quorum it waits.
func Register[T any](ctx context.Context, c *coord.Coordinator, path string, value T, codec coord.Codec[T], opts ...RegisterOption) (*Registration[T], error) {
	r, err := register(ctx, c, path, value, codec, opts)
	if err != nil {
		return nil, fmt.Errorf("register %s: %w", path, err)
	}
	return r, nil
}

func register[T any](ctx context.Context, c *coord.Coordinator, path string, value T, codec coord.Codec[T], opts []RegisterOption) (*Registration[T], error) {
	if err := present(ctx, c); err != nil {
		return nil, err
	}
	if codec == nil {
		return nil, fmt.Errorf("%w: no codec", coord.ErrBadArguments)
	}
	var o registerOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.layout != Coord {
		return nil, fmt.Errorf("%w: no layout %q", coord.ErrBadArguments, o.layout)
	}
	if err := checkRegistration(path, o); err != nil {
		return nil, err
	}
	data, err := codec.Encode(value)
	if err != nil {
		return nil, err
	}
	p := newPresence(c, path, data, o)
	go p.run()
	if _, err := p.await(ctx, p.presentLocked); err != nil {
		p.cancel(err)
		return nil, err
	}
	return &Registration[T]{p: p, codec: codec, turn: make(chan struct{}, 1)}, nil
}

// checkRegistration fails if nothing, or nothing good, can be registered at a path.
func checkRegistration(path string, o registerOptions) error {
	whole := path
	if o.sequential {
		whole += "0000000000"
	}
	if !coord.ValidPath(whole) || whole == "/" {
		return fmt.Errorf("%w: %q is no path to register at", coord.ErrBadArguments, path)
	}
	name := whole[strings.LastIndexByte(whole, '/')+1:]
	for _, f := range families {
		if _, ok := f.parse("/", name); ok {
			return fmt.Errorf("%w: a znode %s would contend in the recipe %q", ErrOtherRecipe, name, f.recipe)
		}
	}
	return nil
}

// Registered waits until the znode is there, and returns what stands for r now. It
// fails with the cause of r's end, and with that of ctx, together with what has kept
// the znode from being there.
func (r *Registration[T]) Registered(ctx context.Context) (Incarnation, error) {
	now, err := r.p.await(ctx, r.p.presentLocked)
	if err != nil {
		return Incarnation{}, fmt.Errorf("registration of %s: %w", r.p.path, err)
	}
	return now, nil
}

// Err returns what keeps the znode from being there, or from being watched, at the
// moment: nil if all is well, and the cause of r's end behind it. It asks nobody.
func (r *Registration[T]) Err() error {
	if err := context.Cause(r.p.ctx); err != nil {
		return err
	}
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.p.err
}

// Context ends with r. Its cause is [ErrReleased], [ErrTaken], or that of the end of the
// Coordinator. It does not end with a session.
func (r *Registration[T]) Context() context.Context { return r.p.ctx }

// Update replaces what the znode holds, by a change of its data: the incarnation stays
// the same. It returns when the znode holds the value. Until it does, also after an
// error of ctx, it is what this and the next incarnations are to hold, unless another
// Update replaces it. Updates are made one after the other; one whose ctx ends while it
// waits for another changes nothing.
//
// It fails with the cause of ctx, with that of r's end, and with what the ensemble
// refuses the value with; r goes on with the one it had then.
func (r *Registration[T]) Update(ctx context.Context, value T) error {
	if err := r.update(ctx, value); err != nil {
		return fmt.Errorf("update registration of %s: %w", r.p.path, err)
	}
	return nil
}

func (r *Registration[T]) update(ctx context.Context, value T) error {
	data, err := r.codec.Encode(value)
	if err != nil {
		return err
	}
	select {
	case r.turn <- struct{}{}: // also if ctx has ended, see discovery
	default:
		select {
		case r.turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.p.ctx.Done():
			return context.Cause(r.p.ctx)
		}
	}
	defer func() { <-r.turn }()
	n := r.p.wish(data)
	_, err = r.p.await(ctx, func() (bool, error) {
		if r.p.refused == n {
			return false, r.p.refusal
		}
		return r.p.held >= n, nil
	})
	return err
}

// Unregister ends r and deletes its znode. It returns when that is gone; if ctx ends
// before, the reason why, and goes on in the background until the znode is deleted or
// its session has ended. r is over in any case. It may be called any number of times.
func (r *Registration[T]) Unregister(ctx context.Context) error {
	r.p.cancel(ErrReleased)
	select {
	case <-r.p.done:
		return nil
	default:
	}
	select {
	case <-r.p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unregister %s: %w", r.p.path, context.Cause(ctx))
	}
}

// Why a presence looks at the tree again at once: it has written, or what it has seen
// may be old.
var (
	errAgain  = errors.New("recipes: look again")
	errBehind = fmt.Errorf("%w: the state has changed", errAgain)
)

// A presence is a Registration without its type. One goroutine, run, does everything.
type presence struct {
	c    *coord.Coordinator
	path string // as it was asked for
	o    registerOptions

	ctx    context.Context // ends when nothing is wanted any more
	cancel context.CancelCauseFunc
	wake   chan struct{} // holds 1: something else is wanted
	done   chan struct{} // closed when run has returned

	mu      sync.Mutex
	want    []byte         // guarded by mu; what the znode is to hold
	wanted  uint64         // guarded by mu; the number of want, from 1
	now     Incarnation    // guarded by mu; the last one that was made
	session *coord.Session // guarded by mu; of now; nil when that is gone
	held    uint64         // guarded by mu; the number of what a znode held last
	refused uint64         // guarded by mu; the number of what was refused last
	refusal error          // guarded by mu; why
	err     error          // guarded by mu; what is in the way
	news    chan struct{}  // guarded by mu; closed when any of these changes

	good []byte            // owned by run: what a znode held last
	ever bool              // owned by run: there was an incarnation
	past []coord.SessionID // owned by run: that ended before it was known whether a znode was made
}

func newPresence(c *coord.Coordinator, path string, data []byte, o registerOptions) *presence {
	p := &presence{
		c: c, path: path, o: o, want: data, wanted: 1,
		wake: make(chan struct{}, 1), done: make(chan struct{}), news: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// wish replaces what is wanted, and returns its number.
func (p *presence) wish(data []byte) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.want = data
	p.wanted++
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return p.wanted
}

// tell changes what others are told.
func (p *presence) tell(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.news)
	p.news = make(chan struct{})
}

// await waits until a condition holds, which is asked under mu, and returns the
// present incarnation.
func (p *presence) await(ctx context.Context, holdsLocked func() (bool, error)) (Incarnation, error) {
	for {
		p.mu.Lock()
		holds, err := holdsLocked()
		now, trouble, news := p.now, p.err, p.news
		p.mu.Unlock()
		if ended := context.Cause(p.ctx); ended != nil {
			return Incarnation{}, ended
		}
		if holds || err != nil {
			return now, err
		}
		select {
		case <-news:
		case <-p.ctx.Done():
		case <-ctx.Done():
			if trouble != nil {
				return Incarnation{}, fmt.Errorf("%w: %w", context.Cause(ctx), trouble)
			}
			return Incarnation{}, context.Cause(ctx)
		}
	}
}

// presentLocked reports whether there is an incarnation, by the clock of its session.
func (p *presence) presentLocked() (bool, error) {
	return p.session != nil && p.session.Context().Err() == nil, nil
}
