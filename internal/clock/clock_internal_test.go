package clock

import (
	"context"
	"sync"
	"testing"
	"time"

	"coord/internal/bubble"
)

func TestElapsed(t *testing.T) {
	steps := []struct {
		what             string
		mono, wall, susp time.Duration // what each clock moves by
		want             time.Duration // what Elapsed moves by
	}{
		{"time passes", time.Second, time.Second, 0, time.Second},
		{"the machine was suspended", time.Millisecond, time.Hour, time.Hour - time.Millisecond, time.Hour},
		{"suspended, and only the system says so", time.Second, time.Second, time.Minute, time.Minute + time.Second},
		{"suspended, and only the wall clock says so", time.Second, time.Minute, 0, time.Minute},
		{"set forward", 0, time.Hour, 0, time.Hour},
		{"set back", time.Second, -2 * time.Hour, 0, time.Second},
		{"runs on after that", time.Second, time.Second, 0, time.Second},
		{"suspended after that", time.Second, time.Minute, 0, time.Minute},
		{"slewed back", time.Second, 995 * time.Millisecond, 0, time.Second},
		{"and forth", time.Second, 1005 * time.Millisecond, 0, time.Second},
		{"a short leap", 10 * time.Microsecond, 3 * time.Millisecond, 0, 3 * time.Millisecond},
		{"nothing", 0, 0, 0, 0},
	}
	var mono, wall, susp time.Duration
	c := newClock(
		func() (time.Duration, time.Duration) { return mono, wall },
		func() (time.Duration, time.Duration) { return susp - time.Hour, susp - time.Hour }) // what it starts at means nothing
	last := c.Elapsed()
	for _, s := range steps {
		mono += s.mono
		wall += s.wall
		susp += s.susp
		now := c.Elapsed()
		if got := now - last; got != s.want {
			t.Errorf("%s: it moved by %v, want %v", s.what, got, s.want)
		}
		last = now
	}
}

func TestNeverGoesBack(t *testing.T) {
	c := New()
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for range 4 {
		wg.Go(func() {
			for last := c.Elapsed(); ctx.Err() == nil; {
				now := c.Elapsed()
				if now < last {
					t.Errorf("%v behind %v", now, last)
				}
				last = now
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			c.Skip(time.Microsecond)
		}
	})
	wg.Wait()
}

// A thread loses its processor between the readings of the two clocks, once each way:
// what is seen only once has not happened.
func TestTornReading(t *testing.T) {
	for _, torn := range []time.Duration{time.Minute, -time.Minute} {
		var mono, once time.Duration
		c := newClock(func() (time.Duration, time.Duration) {
			gap := once
			once = 0
			return mono, mono + gap
		}, func() (time.Duration, time.Duration) { return 0, 0 })
		for range 3 {
			mono += time.Second
			once = torn
			if got := c.Elapsed(); got != mono {
				t.Errorf("%v after %v, and a reading torn by %v", got, mono, torn)
			}
			if got := c.Elapsed(); got != mono {
				t.Errorf("%v after %v, behind a reading torn by %v", got, mono, torn)
			}
		}
	}
}

// Errors of single readings must not add up. What has passed is measured on both sides,
// so a busy machine makes no difference; the clock may be ahead by what somebody sets
// that of the wall forward meanwhile.
func TestKeepsPace(t *testing.T) {
	early := time.Now()
	c := New()
	late := time.Now()
	for time.Since(late) < 200*time.Millisecond {
		c.Elapsed()
	}
	least := time.Since(late)
	got := c.Elapsed()
	if most := time.Since(early); got < least || got > most+5*time.Millisecond {
		t.Errorf("%v, between %v and %v have passed", got, least, most)
	}
}

func TestInBubble(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		c := New()
		time.Sleep(time.Hour)
		if got := c.Elapsed(); got != time.Hour {
			t.Errorf("%v after an hour", got)
		}
		c.Skip(time.Minute)
		if got := c.Elapsed(); got != time.Hour+time.Minute {
			t.Errorf("%v after an hour and a skip of a minute", got)
		}
	})
}

func BenchmarkElapsed(b *testing.B) {
	c := New()
	for b.Loop() {
		c.Elapsed()
	}
}

func BenchmarkTimeSince(b *testing.B) {
	start := time.Now()
	for b.Loop() {
		_ = time.Since(start)
	}
}

func BenchmarkSuspended(b *testing.B) {
	for b.Loop() {
		suspended()
	}
}

// A frozen clock is not read; the time goes on.
func TestFreeze(t *testing.T) {
	bubble.Run(t, func(*testing.T) {
		c := New()
		c.Thaw() // nothing to do
		c.Freeze()
		c.Freeze()
		read := make(chan time.Duration)
		go func() { read <- c.Elapsed() }()
		time.Sleep(time.Hour)
		select {
		case d := <-read:
			t.Errorf("a frozen clock says %v", d)
		default:
		}
		c.Thaw()
		if d := <-read; d < time.Hour {
			t.Errorf("after an hour the clock says %v", d)
		}
	})
}
