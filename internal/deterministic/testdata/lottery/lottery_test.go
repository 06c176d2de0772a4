// Package lottery has goroutines draw lots in all ways that Go has, and prints what came of
// it: the same in every process, if package deterministic does what it says.
package lottery

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/deterministic"
)

var seeds = flag.Uint64("seeds", 3, "how many seeds are drawn with")

func TestLottery(t *testing.T) {
	for seed := range *seeds {
		deterministic.Start(t, seed)
		synctest.Test(t, func(*testing.T) {
			l := &lottery{}
			l.run()
			events, hash := deterministic.Trace()
			fmt.Printf("seed %d: %d lots, %016x; %d events, %016x\n", seed, l.lots, l.sum, events, hash)
		})
	}
}

// A lottery keeps a sum of all lots, which depends on their order.
type lottery struct {
	mu   sync.Mutex
	lots int
	sum  uint64
}

func (l *lottery) draw(lot string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lots++
	for _, b := range []byte(lot) {
		l.sum = (l.sum ^ uint64(b)) * 0x100000001b3
	}
}

func (l *lottery) run() {
	stop := make(chan struct{})
	defer close(stop)
	deterministic.Collect(stop)
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for i := range 40 { // of which contexts end first
		child, end := context.WithCancel(ctx)
		all.Go(func() {
			defer end()
			<-child.Done()
			l.draw(fmt.Sprint("context ", i))
		})
	}
	channels := make([]chan int, 5)
	for i := range channels {
		channels[i] = make(chan int)
	}
	for i := range 30 {
		all.Go(func() { l.play(i, channels) })
	}
	time.Sleep(20 * time.Second)
	cancel()
	all.Wait()
}

// play is one goroutine that runs beside others.
func (l *lottery) play(i int, channels []chan int) {
	numbers := map[string]int{}
	for n := range 20 {
		numbers[fmt.Sprint(n)] = n
	}
	n := len(channels)
	for round := range 50 {
		time.Sleep(time.Duration(mathrand.IntN(3)) * time.Second)
		for name := range numbers {
			l.draw(name)
			break
		}
		timer := time.NewTimer(time.Second)
		select {
		case channels[i%n] <- round:
			l.draw(fmt.Sprint("sent ", i))
		case x := <-channels[(i+1)%n]:
			l.draw(fmt.Sprint("received ", x))
		case x := <-channels[(i+2)%n]:
			l.draw(fmt.Sprint("received ", x))
		case <-timer.C:
			var b [8]byte
			_, _ = rand.Read(b[:]) // never fails
			l.draw(fmt.Sprintf("%x", b))
		}
		timer.Stop()
	}
}
