package zkserver

import (
	"context"
	"sync"
	"time"

	"coord"
	"coord/internal/jute"
)

// A request is one that came from a client and is not answered yet.
type request struct {
	xid  int32
	op   jute.Op
	body jute.Record // nil if it has none; buffers in it are gone once it is in the backlog
	size int
	at   time.Time

	code    jute.Code    // not OK: it is refused, and nothing was begun
	write   *coord.Write // of what changes the tree
	fault   jute.Code    // of the operation faultAt of a multi, for which another stands in that fails
	faultAt int
	sync    *barrier // of a sync and a reconfig

	// What a request that is no write is answered from. Guarded by backlog.mu.
	fixed  bool
	view   *coord.View
	behind *coord.Write // view is what this write has kept
}

// A barrier is a sync or a reconfig under way: no write behind it is begun before it is
// done. The fields but done are set before that is closed.
type barrier struct {
	done chan struct{}
	err  error // ends the connection

	code   jute.Code             // why a reconfig was refused
	config *jute.GetDataResponse // the answer to a reconfig that was not
}

// ready returns a channel that is closed when a request can be answered; nil is at once.
func (r *request) ready() <-chan struct{} {
	switch {
	case r.write != nil:
		return r.write.Done()
	case r.sync != nil:
		return r.sync.done
	}
	return nil
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// A backlog holds the requests of one connection in their order. One goroutine adds, and
// another takes what is first.
type backlog struct {
	limit, bytesLimit int

	wake chan struct{} // holds 1: there is something, or nothing comes any more
	room chan struct{} // holds 1: something has gone

	mu       sync.Mutex
	all      []*request // guarded by mu
	bytes    int        // guarded by mu
	finished bool       // guarded by mu; nothing is added any more
}

func newBacklog(limit, bytesLimit int) *backlog {
	return &backlog{limit: limit, bytesLimit: bytesLimit, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// awaitRoom waits until there is room for a request of a size.
func (b *backlog) awaitRoom(ctx context.Context, size int) error {
	for {
		b.mu.Lock()
		fits := len(b.all) < b.limit && (len(b.all) == 0 || b.bytes+size <= b.bytesLimit)
		b.mu.Unlock()
		if fits {
			return nil
		}
		select {
		case <-b.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// add puts a request at the end, for which there is room.
func (b *backlog) add(r *request) {
	b.mu.Lock()
	b.all = append(b.all, r)
	b.bytes += r.size
	b.mu.Unlock()
	signal(b.wake)
}

// finish says that nothing is added any more.
func (b *backlog) finish() {
	b.mu.Lock()
	b.finished = true
	b.mu.Unlock()
	signal(b.wake)
}

// first returns the request that is to be answered next, or nil, and then whether there
// will be none any more.
func (b *backlog) first() (r *request, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) == 0 {
		return nil, b.finished
	}
	return b.all[0], false
}

// drop takes the first request out, which was answered.
func (b *backlog) drop() {
	b.mu.Lock()
	b.bytes -= b.all[0].size
	b.all[0] = nil
	b.all = b.all[1:]
	if len(b.all) == 0 {
		b.all = nil
	}
	b.mu.Unlock()
	signal(b.room)
}

func (b *backlog) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.all)
}

// idle returns the state as it is now if nothing waits, otherwise nil. No view that a
// request is fixed to later is older.
func (b *backlog) idle(now func() (*coord.View, error)) (*coord.View, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) > 0 {
		return nil, nil
	}
	return now()
}

// viewOf returns what a request that is no write, and is first, is answered from. It
// is nil if nobody has that view.
func (b *backlog) viewOf(r *request, now func() (*coord.View, error)) (*coord.View, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !r.fixed {
		v, err := now()
		if err != nil {
			return nil, err
		}
		r.fixed, r.view = true, v
	}
	if r.behind != nil {
		return r.behind.View(), nil
	}
	return r.view, nil
}

// underwayLocked returns a write before a place that is under way, or nil.
func (b *backlog) underwayLocked(before int) *coord.Write {
	for _, r := range b.all[:before] {
		if w := r.write; w != nil && !isClosed(w.Done()) {
			return w
		}
	}
	return nil
}

// fixViews fixes what the requests at the end that are no writes are answered from: the
// state behind the last write before them. It is called before another write is begun
// (C1). If wait is not nil, that has to be awaited, and fixViews called again.
//
// Where there are mounts, the writes before them may be of several groups, of which a
// write keeps but its own: all of them are awaited then.
func (b *backlog) fixViews(now func() (*coord.View, error), mounted func() bool) (wait <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := len(b.all)
	for from > 0 && b.all[from-1].write == nil && !b.all[from-1].fixed {
		from--
	}
	reads := b.all[from:]
	if len(reads) == 0 {
		return nil, nil
	}
	if mounted() {
		if w := b.underwayLocked(from); w != nil {
			return w.Done(), nil
		}
	}
	var behind *coord.Write
	if from > 0 {
		if w := b.all[from-1].write; w != nil && !isClosed(w.Done()) {
			behind = w
		}
	}
	for _, r := range reads {
		if r.sync == nil {
			continue
		}
		if behind != nil { // what the write keeps may be older than what the sync promises
			return behind.Done(), nil
		}
		if !isClosed(r.sync.done) {
			return r.sync.done, nil
		}
	}
	var v *coord.View
	if behind != nil {
		behind.KeepView()
	} else if v, err = now(); err != nil {
		return nil, err
	}
	for _, r := range reads {
		r.fixed, r.view, r.behind = true, v, behind
	}
	return nil, nil
}
