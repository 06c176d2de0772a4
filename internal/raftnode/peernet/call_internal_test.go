package peernet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord/internal/replica"
)

type serveFunc func(ctx context.Context, from replica.MemberID, method string, body []byte) ([]byte, error)

// serving has member 2 answer calls.
func serving(f serveFunc) option {
	return on(2, func(nd *node) { nd.cfg.Serve = f })
}

func TestCallErrors(t *testing.T) {
	f := newFabric(t, 3, serving(func(_ context.Context, _ replica.MemberID, method string, _ []byte) ([]byte, error) {
		switch method {
		case "panic":
			panic("at the disco")
		case "long":
			return make([]byte, MaxBodyBytes+1), nil
		}
		return []byte("not seen"), errors.New("no such method\n" + method)
	}))
	a := f.nodes[0]
	tests := []struct {
		name   string
		to     replica.MemberID
		method string
		body   int
		remote string // the text of a RemoteError, or "" for another error
		want   string
	}{
		{name: "error", to: 2, method: "x", remote: "no such method x"},
		{name: "panic", to: 2, method: "panic", remote: "member 2 panicked"},
		{name: "answer too long", to: 2, method: "long", remote: "longer than 4194304"},
		{name: "nobody answers", to: 3, method: "x", remote: "member 3 answers no calls"},
		{name: "no method", to: 2, want: "1 to 128 bytes"},
		{name: "long method", to: 2, method: strings.Repeat("x", 129), want: "1 to 128 bytes"},
		{name: "long body", to: 2, method: "x", body: MaxBodyBytes + 1, want: "longer than 4194304"},
		{name: "itself", to: 1, method: "x", want: "this one"},
		{name: "unknown", to: 9, method: "x", want: "no member 9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer, err := a.net.Call(t.Context(), tt.to, tt.method, make([]byte, tt.body))
			if answer != nil {
				t.Errorf("answer %q came with the error", answer)
			}
			remote, ok := errors.AsType[*RemoteError](err)
			if ok != (tt.remote != "") {
				t.Fatalf("Call = %v (%T)", err, err)
			}
			mustContain(t, "Call", err, tt.remote, tt.want)
			if ok && (remote.Peer != tt.to || remote.Method != tt.method) {
				t.Errorf("error is %+v, want member %d, method %q", remote, tt.to, tt.method)
			}
		})
	}
	if l := a.link(2, Out); l.Calls != 3 || l.Errors != 0 || l.Connections != 0 {
		t.Errorf("link is %+v, want 3 calls and no errors", l)
	}
}

// Refusals and members that are down are errors of their own.
func TestCallRefused(t *testing.T) {
	f := newFabric(t, 2, on(2, func(nd *node) {
		nd.cfg.Admit = func(Hello) error { return errors.New("not today") }
	}))
	_, err := f.nodes[0].net.Call(t.Context(), 2, "x", nil)
	refusedBy(t, err, 2, true)
	mustContain(t, "Call", err, "not today")
	f.nodes[1].stop()
	_, err = f.nodes[0].net.Call(t.Context(), 2, "x", nil)
	mustContain(t, "Call", err, "connection refused", "member 2")
}

// The deadline of the caller is that of who serves, and when the caller has
// gone, nobody works for it any more.
func TestCallEndsWithItsContext(t *testing.T) {
	inBoth(t, func(t *testing.T, opts ...option) {
		entered, left := make(chan context.Context, 1), make(chan struct{}, 1)
		f := newFabric(t, 2, append(opts, serving(func(ctx context.Context, _ replica.MemberID, _ string, _ []byte) ([]byte, error) {
			entered <- ctx
			<-ctx.Done()
			left <- struct{}{}
			return nil, ctx.Err()
		}))...)
		a, b := f.nodes[0], f.nodes[1]
		gone := errors.New("gone home")
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := make(chan error, 1)
		go func() { _, err := a.net.Call(ctx, 2, "x", nil); failed <- err }()
		<-entered
		cancel(gone)
		if err := <-failed; !errors.Is(err, gone) {
			t.Errorf("Call = %v, want the cause of its context", err)
		}
		<-left

		hour, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		go func() { _, err := a.net.Call(hour, 2, "x", nil); failed <- err }()
		served := <-entered
		if deadline, ok := served.Deadline(); !ok || time.Until(deadline) > defaultLimits.call {
			t.Errorf("the deadline of a call of an hour is %v, want at most %v from now", deadline, defaultLimits.call)
		}
		b.stop()
		if err := <-failed; err == nil {
			t.Error("the call succeeded though who served it has ended")
		}
		<-left
		b.start()

		go func() { _, err := a.net.Call(t.Context(), 2, "x", nil); failed <- err }()
		<-entered
		a.stop()
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("Call = %v, want ErrClosed", err)
		}
		<-left
	})
}

// A deadline that has nearly come is not the absence of one.
func TestShortestDeadline(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{
		0: 0, 1: time.Millisecond, -time.Hour: time.Millisecond, 1500 * time.Microsecond: time.Millisecond,
		1 << 62: (1<<32 - 1) * time.Millisecond,
	} {
		if r, err := parseRequest(appendRequest(nil, request{timeout: given, method: "x"})); r.timeout != want || err != nil {
			t.Errorf("%v arrives as %v, %v, want %v", given, r.timeout, err, want)
		}
	}
}

// A deadline travels with its call.
func TestCallDeadline(t *testing.T) {
	const timeout = 30 * time.Millisecond
	f := newFabric(t, 2, serving(func(ctx context.Context, _ replica.MemberID, _ string, _ []byte) ([]byte, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > timeout {
			t.Errorf("the deadline of who serves is %v, want at most %v from now", deadline, timeout)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err := f.nodes[0].net.Call(ctx, 2, "x", nil)
	if _, remote := errors.AsType[*RemoteError](err); !errors.Is(err, context.DeadlineExceeded) && !remote {
		t.Errorf("Call = %v, want that its deadline has come, from either end", err)
	}
}

// Calls run at the same time, up to a limit; what is above it is refused and
// the others live on.
func TestConcurrentCalls(t *testing.T) {
	var running, most atomic.Int32
	leave := make(chan struct{})
	f := newFabric(t, 2, serving(func(_ context.Context, _ replica.MemberID, _ string, body []byte) ([]byte, error) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-leave
		return body, nil
	}), on(2, func(nd *node) { nd.lim.callConns = 4 }))
	var calls sync.WaitGroup
	for i := range 4 {
		calls.Go(func() {
			want := fmt.Sprint(i)
			if got, err := f.nodes[0].net.Call(t.Context(), 2, "x", []byte(want)); string(got) != want || err != nil {
				t.Errorf("Call = %q, %v, want %q", got, err, want)
			}
		})
	}
	eventually(t, "four calls to run", func() bool { return running.Load() == 4 })
	_, err := f.nodes[0].net.Call(t.Context(), 2, "x", nil)
	refusedBy(t, err, 2, true)
	mustContain(t, "Call", err, "4 connections", "limit")
	close(leave)
	calls.Wait()
	eventually(t, "all calls to end", func() bool { return f.nodes[1].link(1, In).Connections == 0 })
	if _, err := f.nodes[0].net.Call(t.Context(), 2, "x", nil); err != nil {
		t.Error(err)
	}
}
