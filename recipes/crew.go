package recipes

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// errCrewIsOver ends the contexts of a crew of which one has had enough.
var errCrewIsOver = errors.New("recipes: another function of the same call has ended it")

// errGoexit is what a function ended with that called [runtime.Goexit].
var errGoexit = errors.New("recipes: the function has ended its goroutine")

// A crew is goroutines that work for one call, which waits for them. The first one
// that has had enough, or panics, ends the context of all.
type crew struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	all    sync.WaitGroup

	first    sync.Once
	over     bool // written by first, as is what follows
	err      error
	panicked error
}

func newCrew(ctx context.Context) *crew {
	w := &crew{}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	return w
}

// start has f work. It reports whether it has had enough, and then the error that the
// call returns. after follows in any case, when the others have been told: what it gives
// back is not for them, and may take its time.
func (w *crew) start(f func() (over bool, err error), after func()) {
	w.all.Go(func() {
		defer after()
		w.run(f)
	})
}

func (w *crew) run(f func() (over bool, err error)) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			w.end(nil, &panicError{value, debug.Stack()})
		} else {
			w.end(errGoexit, nil)
		}
	}()
	over, err := f()
	returned = true
	if over {
		w.end(err, nil)
	}
}

func (w *crew) end(err, panicked error) {
	w.first.Do(func() { w.over, w.err, w.panicked = true, err, panicked })
	w.cancel(errCrewIsOver)
}

// wait waits until nobody works any more. It panics if one of them has.
func (w *crew) wait() (over bool, err error) {
	w.all.Wait()
	w.cancel(errCrewIsOver)
	if w.panicked != nil {
		panic(w.panicked)
	}
	return w.over, w.err
}

// A panicError is what a function has panicked with, in a goroutine of its own. Who
// waits for it panics with that.
type panicError struct {
	value any
	stack []byte
}

// Error tells where the panic comes from.
func (e *panicError) Error() string { return fmt.Sprintf("%v\n\n%s", e.value, e.stack) }

// Unwrap returns the value of the panic, if it is an error.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}
