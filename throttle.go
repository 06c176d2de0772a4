package coord

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// A throttle slows down callers whose credentials are not accepted, so that nobody
// tries many passwords on one member. Who is slowed is the one who calls and never
// the user who is called: anybody could lock that user out.
//
// Attempts of one caller are made one after the other. After n failures the next
// attempt waits until 100 ms times 2^(n-1), at most 10 s, have passed since the last.
// A success has those forgotten that concerned the same account, but no others: who
// has a password of his own does not get to try those of others with it. 10 minutes
// without a failure have all forgotten.
type throttle struct {
	mu      sync.Mutex
	callers map[string]*caller // guarded by mu; those with an attempt or a failure
}

const (
	firstDelay  = 100 * time.Millisecond
	mostDelay   = 10 * time.Second
	forgetAfter = 10 * time.Minute

	// mostCallers bounds the failures that are remembered. When there are more, all
	// are forgotten: whoever calls from so many addresses is slowed by what a password
	// costs alone.
	mostCallers = 1 << 14

	// mostAccounts bounds the accounts for which a caller's failures are told apart. No
	// success has those forgotten that concern more.
	mostAccounts = 16
)

// A caller is one who was not accepted, or of whom an attempt is under way.
type caller struct {
	turn     chan struct{} // holds 1: whoever fills it makes an attempt
	attempts int           // guarded by throttle.mu; under way or waiting
	failures int           // guarded by throttle.mu
	failed   time.Time     // guarded by throttle.mu; the last of them

	// accounts has the failures that concern an account, by its hash. Guarded by
	// throttle.mu.
	accounts map[[sha256.Size]byte]int
}

// attempt calls try, which is about an account, when it is this caller's turn. An error
// of try that satisfies errors.Is for ErrAuthFailed is a failure, nil is a success, and
// any other decides nothing.
func (t *throttle) attempt(ctx context.Context, key, account string, try func() error) error {
	c := t.enter(key)
	defer t.leave(key, c)
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	pause(ctx, t.delay(c))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := try()
	t.learn(c, account, err)
	return err
}

func (t *throttle) enter(key string) *caller {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.callers[key]
	if c == nil {
		if len(t.callers) >= mostCallers {
			t.callers = nil // attempts under way end as they are
		}
		if t.callers == nil {
			t.callers = map[string]*caller{}
		}
		c = &caller{turn: make(chan struct{}, 1)}
		t.callers[key] = c
	}
	c.attempts++
	return c
}

func (t *throttle) leave(key string, c *caller) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.attempts--
	if c.attempts == 0 && c.failures == 0 && t.callers[key] == c {
		delete(t.callers, key)
	}
}

// delay returns how long the next attempt has to wait.
func (t *throttle) delay(c *caller) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := time.Since(c.failed)
	if c.failures == 0 || since > forgetAfter {
		c.failures, c.accounts = 0, nil
		return 0
	}
	return min(firstDelay<<min(c.failures-1, 10), mostDelay) - since
}

// learn takes note of how an attempt ended.
func (t *throttle) learn(c *caller, account string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	about := sha256.Sum256([]byte(account))
	switch {
	case err == nil:
		c.failures -= c.accounts[about]
		delete(c.accounts, about)
	case errors.Is(err, ErrAuthFailed):
		c.failures++
		c.failed = time.Now()
		if c.accounts == nil {
			c.accounts = map[[sha256.Size]byte]int{}
		}
		if _, known := c.accounts[about]; known || len(c.accounts) < mostAccounts {
			c.accounts[about]++
		}
	}
}
