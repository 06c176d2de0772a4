// Command queue has three replicas of a service share work. One of them goes while it
// has an item in hand: another one gets it, and no bill is sent twice.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"coord"
	"coord/examples/internal/ensemble"
	"coord/recipes"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	bills = 30
	sent  = "/sent" // one znode for each bill that was sent
)

// A Job is an item of the queue.
type Job struct {
	Bill int `json:"bill"`
}

func run(ctx context.Context, out io.Writer) (err error) {
	replicas, closeAll, err := ensemble.Open(ctx, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, _, err := replicas[0].Create(ctx, sent, nil); err != nil {
		return err
	}

	queueOf := func(c *coord.Coordinator) *recipes.Queue[Job] {
		return recipes.NewQueue(c, "/queues/bills", coord.JSON[Job](), recipes.WithBound(1000), recipes.WithMaxDeliveries(3))
	}
	for i := range bills {
		if err := queueOf(replicas[0]).Put(ctx, Job{i}, recipes.ID(fmt.Sprint("bill-", i))); err != nil {
			return err
		}
	}
	err = queueOf(replicas[1]).Put(ctx, Job{7}, recipes.ID("bill-7"))
	fmt.Fprintln(out, "bill 7 once more:", errors.Is(err, recipes.ErrSameID))

	// The first taker goes without a word, and its session with it.
	s, err := replicas[2].NewSession(ctx, coord.SessionOptions{Timeout: 2 * time.Second})
	if err != nil {
		return err
	}
	lost, err := queueOf(replicas[2]).Take(ctx, s)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "bill %d is in the hands of one that goes\n", lost.Value.Bill)
	if err := s.Close(); err != nil {
		return err
	}

	var wg sync.WaitGroup
	for _, c := range replicas {
		wg.Go(func() { work(ctx, out, c, queueOf(c)) })
	}
	err = awaitSent(ctx, replicas[0])
	cancel()
	wg.Wait()
	return errors.Join(err, tell(context.WithoutCancel(ctx), out, replicas[1], queueOf(replicas[1])))
}

// work sends bills until ctx ends.
func work(ctx context.Context, out io.Writer, c *coord.Coordinator, q *recipes.Queue[Job]) {
	for {
		d, err := q.Take(ctx, c.Session())
		if err != nil {
			if ctx.Err() == nil {
				fmt.Fprintln(out, err)
			}
			return
		}
		if d.Deliveries() > 1 {
			fmt.Fprintf(out, "bill %d comes for the %dnd time\n", d.Value.Bill, d.Deliveries())
		}
		// What says that it was sent is written together with the acknowledgement, and
		// so exactly once. If this fails, the item is not lost either: it comes again.
		note := coord.CreateOp(fmt.Sprintf("%s/%d", sent, d.Value.Bill), nil)
		if err := d.Ack(ctx, note); err != nil && ctx.Err() == nil {
			fmt.Fprintln(out, err)
		}
	}
}

// awaitSent waits until all bills were sent.
func awaitSent(ctx context.Context, c *coord.Coordinator) error {
	w, err := c.Watch(ctx, sent, coord.Subtree, coord.WithInitial())
	if err != nil {
		return err
	}
	defer w.Close()
	n := 0
	for ev, err := range w.Events() {
		if err != nil {
			return err
		}
		if ev.Type == coord.NodeCreated && ev.Path != sent {
			n++
		}
		if n == bills {
			return nil
		}
	}
	return w.Err()
}

// tell says what is left.
func tell(ctx context.Context, out io.Writer, c *coord.Coordinator, q *recipes.Queue[Job]) error {
	n, err := c.AllChildrenNumber(ctx, sent, coord.Linearizable())
	if err != nil {
		return err
	}
	left, err := q.Len(ctx, coord.Linearizable())
	fmt.Fprintf(out, "%d bills were sent, %d are in the queue\n", n, left)
	return err
}
