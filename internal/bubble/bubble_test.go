package bubble_test

import (
	"sync"
	"testing"
	"time"

	"coord/internal/bubble"
)

// Without the way around, this crashes the race detector in its first second.
func TestTimersUnderTheRaceDetector(t *testing.T) {
	for range 20 {
		bubble.Run(t, func(*testing.T) {
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() { lookAtDueTimers(time.Duration(i%3) * time.Millisecond) })
			}
			wg.Wait()
		})
	}
}

func lookAtDueTimers(d time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for range 100 {
		timer.Reset(d)
		time.Sleep(d)
		select {
		case <-timer.C:
		default:
		}
		time.AfterFunc(0, func() {})
	}
}
