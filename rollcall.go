package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A rollCall is what a member does before its replica starts in a directory that
// never held one: it asks every other initial member, until all have answered. It
// cannot know by itself whether the directory is new or was emptied; the others
// do, for each of them has written down the first directory that it saw of this
// member, and refuses another. All are asked, because a member that had started
// before was then known to all: see docs/adr/0011.
type rollCall struct {
	ask func(context.Context, MemberID) error // nil: that member has answered
	log *slog.Logger

	mu     sync.Mutex
	absent map[MemberID]string // guarded by mu; who has not answered, and why not
}

const (
	// askTimeout bounds one attempt to have another member answer.
	askTimeout = 5 * time.Second
	// askPause is the pause behind the first attempt. It doubles up to maxAskPause.
	askPause    = 20 * time.Millisecond
	maxAskPause = time.Second
)

// errStrange says that another member has seen this one with another directory
// before.
var errStrange = errors.New("strange directory")

// newRollCall returns nil if there is nobody to ask.
func newRollCall(others []MemberID, ask func(context.Context, MemberID) error, log *slog.Logger) *rollCall {
	if len(others) == 0 {
		return nil
	}
	r := &rollCall{ask: ask, log: log, absent: map[MemberID]string{}}
	for _, id := range others {
		r.absent[id] = "not asked yet"
	}
	return r
}

// run returns nil when all have answered, and otherwise errStrange or the reason
// why ctx ended.
func (r *rollCall) run(ctx context.Context) error {
	r.log.Info("first start: waiting until all other members have answered", slog.Any("others", r.missing()))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var asking sync.WaitGroup
	for _, id := range r.missing() {
		asking.Go(func() {
			if err := r.await(ctx, id); err != nil {
				cancel(err)
			}
		})
	}
	asking.Wait()
	return context.Cause(ctx)
}

// await asks one member until it answers.
func (r *rollCall) await(ctx context.Context, id MemberID) error {
	for wait := askPause; ; wait = min(2*wait, maxAskPause) {
		asked, cancel := context.WithTimeoutCause(ctx, askTimeout, ErrTimeout)
		err := r.ask(asked, id)
		cancel()
		switch {
		case err == nil:
			r.answered(id)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errStrange):
			return fmt.Errorf("member %v refuses this one: %w", id, err)
		}
		r.note(id, err)
		pause(ctx, wait)
	}
}

func (r *rollCall) answered(id MemberID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.absent, id)
}

// note takes down why a member has not answered, and logs it if that is new.
func (r *rollCall) note(id MemberID, err error) {
	r.mu.Lock()
	was := r.absent[id]
	r.absent[id] = err.Error()
	r.mu.Unlock()
	if was != err.Error() {
		r.log.Info("first start: a member does not answer", slog.Uint64("peer", uint64(id)), slog.Any("err", err))
	}
}

// missing returns the members that have not answered, in order.
func (r *rollCall) missing() []MemberID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.absent))
}

// waiting says for whom this member waits and why, or returns nil.
func (r *rollCall) waiting() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.absent) == 0 {
		return nil
	}
	var whom []string
	for _, id := range slices.Sorted(maps.Keys(r.absent)) {
		whom = append(whom, fmt.Sprintf("member %v (%s)", id, r.absent[id]))
	}
	return fmt.Errorf("its first start waits for an answer of %s", strings.Join(whom, ", "))
}
