//go:build linux

package lan

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// A Weather is what befalls the packets from one host to another. The zero value is
// fine weather: each arrives, at once.
type Weather struct {
	Cut       bool          // nothing arrives, and nobody is told
	Delay     time.Duration // how long a packet is on its way
	Jitter    time.Duration // and up to how much longer, each by itself: they overtake one another
	Loss      float64       // the share that is lost, from 0 to 1
	Duplicate float64       // the share that arrives twice
	Damage    float64       // the share of TCP segments with data that arrive with a bit flipped, and a checksum that hides it
	Rate      int           // in bytes a second; 0: as fast as it goes
}

func (w Weather) validate() error {
	for _, share := range []struct {
		name string
		of   float64
	}{{"Loss", w.Loss}, {"Duplicate", w.Duplicate}, {"Damage", w.Damage}} {
		if !(share.of >= 0 && share.of <= 1) {
			return fmt.Errorf("lan: %s is %v, must be from 0 to 1", share.name, share.of)
		}
	}
	if w.Delay < 0 || w.Jitter < 0 || w.Rate < 0 {
		return fmt.Errorf("lan: a negative Delay (%v), Jitter (%v) or Rate (%d)", w.Delay, w.Jitter, w.Rate)
	}
	return nil
}

// String returns what is not fine about the weather.
func (w Weather) String() string {
	if w == (Weather{}) {
		return "fine"
	}
	if w.Cut {
		return "cut"
	}
	text := ""
	add := func(is bool, format string, args ...any) {
		if is {
			text += " " + fmt.Sprintf(format, args...)
		}
	}
	add(w.Delay > 0 || w.Jitter > 0, "delay %v+%v", w.Delay, w.Jitter)
	add(w.Loss > 0, "loss %.3f", w.Loss)
	add(w.Duplicate > 0, "duplicate %.3f", w.Duplicate)
	add(w.Damage > 0, "damage %.4f", w.Damage)
	add(w.Rate > 0, "rate %d B/s", w.Rate)
	return text[1:]
}

// A fate is what becomes of one packet: how often it arrives, how late, and whether
// damaged.
type fate struct {
	copies int
	late   time.Duration
	damage bool
}

// fateOf decides on a packet of n bytes. queued is how long those before it will
// still take at the rate.
func (w Weather) fateOf(dice *rand.Rand, n int, queued time.Duration) fate {
	f := fate{copies: 1, late: w.Delay}
	// Each choice is made each time, so that one kind of weather does not change the
	// dice of another.
	lost, twice, damaged, jitter := dice.Float64(), dice.Float64(), dice.Float64(), dice.Float64()
	if w.Cut || lost < w.Loss {
		return fate{}
	}
	if twice < w.Duplicate {
		f.copies = 2
	}
	f.damage = damaged < w.Damage
	f.late += time.Duration(jitter * float64(w.Jitter))
	if w.Rate > 0 {
		f.late += queued + transmission(n, w.Rate)
	}
	return f
}

// transmission returns how long n bytes take at a rate.
func transmission(n, rate int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(rate)
}
