package zkserver

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// A complaint is of clients that are turned away for one kind of reason. An operator has
// to see that it happens, and strangers can have it happen as often as they like: so it is
// logged the first time, and then once in a while with how often.
type complaint struct {
	mu    sync.Mutex
	last  time.Time // when it was logged; guarded by mu
	times uint64    // since then; guarded by mu
}

// complainEvery is how long a complaint waits for the next line of the log.
const complainEvery = time.Minute

// due counts one more, and returns how many there are to be told of, none if it is too
// early.
func (c *complaint) due(now time.Time) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times++
	if !c.last.IsZero() && now.Sub(c.last) < complainEvery {
		return 0
	}
	n := c.times
	c.last, c.times = now, 0
	return n
}

// complain logs that a client was turned away, if it is time to.
func (s *Server) complain(c *complaint, remote net.Addr, err error) {
	if n := c.due(time.Now()); n > 0 {
		s.log.Warn("client turned away", slog.String("remote", remote.String()), slog.Any("err", err), slog.Uint64("times", n))
	}
}
