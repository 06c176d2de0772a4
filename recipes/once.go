package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"coord"
)

const (
	onceName = "once" // of the task that RunOnce is
	doneMark = "done" // the data of a task that is done
)

// RunOnce calls f, unless a call at the same path has succeeded before. Of those that
// call it at the same time one calls its f, and the others wait: they return as soon
// as that has succeeded, and if it fails, or its session ends, one of them is next. ran
// reports whether this call's own f was called; err is nil when f has succeeded, here
// or elsewhere.
//
// f's context has the values of ctx and ends with it, or with the Held, which stands
// for the attempt. That f has succeeded is written in one Multi with the end of the
// Held: only who still holds it can, and also if ctx has ended meanwhile.
//
// Guarantee: at path, one f is recorded to have succeeded, once for ever or until
// [Forget], and none is called any more behind that. At most one attempt is Held at a
// time, by the clocks of their processes.
// Cost: two writes for who calls f. Who waits, or comes later, costs none. The end of an
// attempt wakes all that wait; if it failed, they try again one after the other, in an
// order of chance.
// Session loss: ends f's context, or the wait. What f has done counts as not done.
// Pitfall: f may be begun more than once: what an attempt has done before it failed, or
// was lost, stays done. In the tree, [Held.Guard] makes sure that nothing is written by an
// attempt that was lost; elsewhere [Held.Fence] does.
//
// It returns f's error as it is. It fails with the cause of the end of the Held if that
// has ended before f's success was recorded; with an error that satisfies errors.Is for
// [coord.ErrUnknownOutcome] if it is not known whether it is, which another call finds
// out; with the cause of ctx, or of the end of the session; with [ErrOtherRecipe] if the
// path is used for something else; and with what reads and writes fail with. If f
// panics, so does RunOnce, and the attempt has failed.
func RunOnce(ctx context.Context, s *coord.Session, path string, f func(ctx context.Context, h *Held) error) (ran bool, err error) {
	if err := present(ctx, s); err != nil {
		return false, fmt.Errorf("run once at %s: %w", path, err)
	}
	q := &taskQueue{path: path, ids: []string{onceName}}
	h, _, err := q.claim(ctx, s)
	if err != nil {
		return false, fmt.Errorf("run once at %s: %w", path, err)
	}
	if h == nil {
		return false, nil
	}
	defer func() { _ = h.Release(ctx) }() // goes on in the background
	_, err = attempt(ctx, h, f)
	return true, err
}

// RunTasks runs each of several tasks to success once, together with all that call it
// at the same path: each of them works on others, at most so many at a time as it has
// workers. It returns nil when all of its tasks have succeeded, here or elsewhere.
//
// A task is known by its id. Not all need to have the same ones: RunTasks works on
// those that it was given. A task whose attempt was lost, because the session has
// ended or somebody has deleted its znode, is free for all again; RunTasks goes on with
// the next session of c, when the functions that it has called have returned.
//
// A task that fails ends RunTasks: it ends the contexts of the others, waits for them,
// and returns the first error as it is. Members that go on take the failed task over.
// Who wants it to be tried again here does so in the function. If a task panics,
// RunTasks does, when the others have returned.
//
// Guarantee: for each id, as of [RunOnce].
// Cost: two writes for each task, and one for each time that two wanted the same
// one. Who has nothing to do waits for those that others work on, and is woken by the
// end of each. Each task leaves a znode, until [Forget].
// Session loss: ends the attempts of this member, and not RunTasks.
// Pitfall: a task may be begun more than once, as with RunOnce.
//
// It fails with [coord.ErrBadArguments] if workers is not positive, or no znode can be
// called as an id; with the cause of ctx; with why c has ended; with [ErrOtherRecipe]
// if the path is used for something else; and with what reads and writes fail with, but
// for what passes.
func RunTasks(ctx context.Context, c *coord.Coordinator, path string, workers int, tasks map[string]func(ctx context.Context, h *Held) error) error {
	if err := checkTasks(ctx, c, workers, tasks); err != nil {
		return fmt.Errorf("run tasks at %s: %w", path, err)
	}
	q := &taskQueue{path: path, ids: slices.Collect(maps.Keys(tasks))}
	rand.Shuffle(len(q.ids), func(i, j int) { q.ids[i], q.ids[j] = q.ids[j], q.ids[i] })
	for s := range c.Sessions(ctx) {
		for s.Context().Err() == nil {
			w := newCrew(ctx)
			err := q.work(ctx, w, s, workers, tasks)
			if over, err := w.wait(); over {
				return err
			}
			switch {
			case err == nil:
				return nil
			case ctx.Err() == nil && (passes(err) || s.Context().Err() != nil):
				pause(s.Context(), retryPause)
			default:
				return fmt.Errorf("run tasks at %s: %w", path, err)
			}
		}
	}
	return fmt.Errorf("run tasks at %s: %w", path, cmp.Or(context.Cause(ctx), context.Cause(c.Context())))
}

func checkTasks(ctx context.Context, c *coord.Coordinator, workers int, tasks map[string]func(context.Context, *Held) error) error {
	if err := present(ctx, c); err != nil {
		return err
	}
	if workers < 1 {
		return fmt.Errorf("%w: %d workers", coord.ErrBadArguments, workers)
	}
	for id := range tasks {
		if err := checkName("task", id); err != nil {
			return err
		}
	}
	return nil
}

// Forget has everything that [RunOnce] or [RunTasks] has done at path count as not
// done. What is being worked on goes on, and other znodes stay. It costs one write for
// each thousand tasks, and does nothing where nothing was done. It fails with
// [ErrOtherRecipe] if the path is used for something else, and with what reads and writes
// fail with, when some may be forgotten already; it may be called again then.
func Forget(ctx context.Context, c coord.Client, path string) error {
	err := present(ctx, c)
	if err == nil {
		err = forget(ctx, c, path)
		for isGone(err) { // somebody else forgets as well
			err = forget(ctx, c, path)
		}
	}
	if err != nil {
		return fmt.Errorf("forget what was done at %s: %w", path, err)
	}
	return nil
}

func forget(ctx context.Context, c coord.Client, path string) error {
	v, err := c.View(ctx, coord.Linearizable())
	if err != nil {
		return err
	}
	names, _, err := v.Children(path)
	if errors.Is(err, coord.ErrNoNode) {
		return nil
	}
	if err == nil {
		_, err = markDirectory(v, path, tasksMark)
	}
	if err != nil {
		return err
	}
	for some := range slices.Chunk(names, 1000) {
		var ops []coord.Op
		for _, name := range some {
			data, stat, err := v.Get(join(path, name))
			if err != nil {
				return err
			}
			if stat.EphemeralOwner == 0 && string(data) == doneMark {
				ops = append(ops, coord.DeleteOp(join(path, name), coord.WithCzxid(stat.Czxid)))
			}
		}
		if len(ops) == 0 {
			continue
		}
		if _, err := c.Multi(ctx, ops...); err != nil {
			return err
		}
	}
	return nil
}

// A taskQueue is the tasks of which it is not known that they are done. There is no
// znode for one that is free, an ephemeral one for one that somebody works on, and
// a persistent one for one that is done.
//
// Those that others work on are behind the rest, so that to go through the queue does
// not mean to look at all of it for each task.
type taskQueue struct {
	path string
	ids  []string
}

// work claims tasks and has them done, until none is left or the crew is over. What
// passes keeps it from claiming, and not the crew from working.
func (q *taskQueue) work(ctx context.Context, w *crew, s *coord.Session, workers int, tasks map[string]func(context.Context, *Held) error) error {
	free := make(chan struct{}, workers)
	for {
		select {
		case free <- struct{}{}:
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		case <-s.Context().Done():
			return context.Cause(s.Context())
		}
		h, id, err := q.claim(w.ctx, s)
		switch {
		case passes(err):
			<-free
			pause(w.ctx, retryPause)
			continue
		case err != nil:
			w.cancel(err)
			return err
		case h == nil:
			return nil
		}
		w.start(func() (over bool, err error) {
			lost, err := attempt(w.ctx, h, tasks[id])
			return err != nil && !lost, err
		}, func() {
			_ = h.Release(ctx) // goes on in the background
			<-free
		})
	}
}

// claim waits until one of the tasks is free, and claims it. It returns nothing when
// all are done.
func (q *taskQueue) claim(ctx context.Context, s *coord.Session) (h *Held, id string, err error) {
	l := &lookout{c: s}
	defer l.close()
	how, woken := coord.AllowStale(), false
	for {
		var ops []coord.Op
		waits, err := l.next(ctx, how, func(v *coord.View) (busy []coord.Registration, err error) {
			if id, busy, err = q.next(v); err == nil {
				ops, err = claimOps(v, q.path, tasksMark, id, nil)
			}
			return busy, err
		})
		switch {
		case err != nil:
			return nil, "", err
		case waits:
			if err := l.wait(ctx); err != nil {
				return nil, "", err
			}
			how, woken = coord.AllowStale(), true
			continue
		case id == "":
			return nil, "", nil
		case woken: // so are others
			pause(ctx, rand.N(retryPause)+time.Millisecond)
			woken = false
			continue
		}
		all, err := tryEnter(ctx, s, []string{q.path}, ops)
		if err == nil {
			return newHeld(all[0], nil), id, nil
		}
		if !overtaken(err) {
			return nil, "", err
		}
		how = coord.Linearizable()
	}
}

// next returns a task that is free, or what to wait for if others work on all that
// are left, or nothing when all are done.
func (q *taskQueue) next(v *coord.View) (free string, busy []coord.Registration, err error) {
	for range len(q.ids) {
		id := q.ids[0]
		path := join(q.path, id)
		data, stat, err := v.Get(path)
		switch {
		case errors.Is(err, coord.ErrNoNode):
			return id, nil, nil
		case err != nil:
			return "", nil, err
		case stat.EphemeralOwner != 0:
			q.ids = append(q.ids[1:], id)
			busy = append(busy, coord.Registration{Path: path, Type: coord.DataWatcher})
		case string(data) == doneMark:
			q.ids = q.ids[1:]
		default:
			return "", nil, fmt.Errorf("%w: %s is no task", ErrOtherRecipe, path)
		}
	}
	return "", busy, nil
}

// attempt has a task done that was claimed, and records that. It reports whether an
// error came of the loss of the claim, or of the record, and not of the task.
func attempt(ctx context.Context, h *Held, f func(ctx context.Context, h *Held) error) (lost bool, err error) {
	bound, unbind := h.bind(ctx)
	defer unbind()
	if err = f(bound, h); err != nil {
		return h.lost(), err
	}
	err = h.finish(ctx)
	for neverSent(err) && bound.Err() == nil {
		err = h.finish(ctx)
	}
	return err != nil && (passes(err) || h.lost()), err
}

// neverSent reports whether a write failed because nobody was there in time to take it.
func neverSent(err error) bool {
	return errors.Is(err, coord.ErrTimeout) && !errors.Is(err, coord.ErrUnknownOutcome)
}

// lost reports whether h has ended with its session or its znode, and was not released.
func (h *Held) lost() bool { return h.c.s.Context().Err() != nil || errors.Is(h.Check(), ErrLost) }

// finish puts the znode of a task that is done in the place of the one that h stands
// for. It is not given up when ctx ends: that the task was done is worth to be known.
func (h *Held) finish(ctx context.Context) error {
	_, err := h.c.s.Multi(context.WithoutCancel(ctx),
		coord.DeleteOp(h.Path(), coord.WithCzxid(h.Fence())),
		coord.CreateOp(h.Path(), []byte(doneMark)))
	if unknown, ok := errors.AsType[*coord.OutcomeError](err); ok {
		until, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(h.c.s.Context(), cancel)()
		if known := unknown.Outcome(until); known == nil || until.Err() == nil {
			err = known
		}
	}
	if err == nil {
		h.ended()
		return nil
	}
	if isGone(err) {
		err = cmp.Or(context.Cause(h.c.s.Context()), ErrLost)
	}
	return fmt.Errorf("record that %s is done: %w", h.Path(), err)
}

// ended ends h, of which there is nothing to give back any more.
func (h *Held) ended() {
	if h.releasing.CompareAndSwap(false, true) {
		h.cancel(ErrReleased)
		<-h.done
		close(h.gone)
	}
}
