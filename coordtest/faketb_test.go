package coordtest_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A fakeTB is a test that may fail without this one failing.
type fakeTB struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	said     []string
	cleanups []func()
}

// run runs a test and its cleanups, each until it ends or fails for good, and returns
// all that was said.
func (f *fakeTB) run(test func(testing.TB)) string {
	f.safely(func() { test(f) })
	for len(f.cleanups) > 0 {
		last := f.cleanups[len(f.cleanups)-1]
		f.cleanups = f.cleanups[:len(f.cleanups)-1]
		f.safely(last)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.said, "\n")
}

func (f *fakeTB) safely(do func()) {
	done := make(chan struct{})
	go func() { // a goroutine of its own, because FailNow ends it
		defer close(done)
		do()
	}()
	<-done
}

func (f *fakeTB) say(failed bool, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = f.failed || failed
	f.said = append(f.said, text)
}

func (f *fakeTB) Helper()                           {}
func (f *fakeTB) Name() string                      { return "TestOfAUser/with_a_(case)" }
func (f *fakeTB) Log(args ...any)                   { f.say(false, fmt.Sprint(args...)) }
func (f *fakeTB) Logf(format string, args ...any)   { f.say(false, fmt.Sprintf(format, args...)) }
func (f *fakeTB) Error(args ...any)                 { f.say(true, fmt.Sprint(args...)) }
func (f *fakeTB) Errorf(format string, args ...any) { f.say(true, fmt.Sprintf(format, args...)) }
func (f *fakeTB) Cleanup(do func())                 { f.cleanups = append(f.cleanups, do) }

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.say(true, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (f *fakeTB) Fatal(args ...any) {
	f.say(true, fmt.Sprint(args...))
	runtime.Goexit()
}

func (f *fakeTB) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// wantFailure runs a test that must fail and say all of want.
func wantFailure(t *testing.T, test func(testing.TB), want ...string) {
	t.Helper()
	f := &fakeTB{TB: t}
	said := f.run(test)
	missing := slices.DeleteFunc(want, func(w string) bool { return strings.Contains(said, w) })
	if !f.failed || len(missing) > 0 {
		t.Errorf("failed: %v, and did not say %q; said:\n%s", f.failed, missing, said)
	}
}

// inTest stands for the test that an example has none of.
func inTest(test func(t testing.TB)) {
	f := &exampleTB{}
	if said := f.run(func(testing.TB) { test(f) }); f.failed {
		fmt.Println("failed:", said)
	}
}

// An exampleTB is a fakeTB with nothing behind it.
type exampleTB struct{ fakeTB }

func (*exampleTB) Context() context.Context { return context.Background() }
