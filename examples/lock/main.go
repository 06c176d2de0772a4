// Command lock has the replicas of a service take turns: each transfers money between
// two accounts, which only one may do at a time.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

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

const transfers = 10 // of each replica

func run(ctx context.Context, out io.Writer) (err error) {
	replicas, closeAll, err := ensemble.Open(ctx, 3)
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, closeAll()) }()

	for path, sum := range map[string]string{"/accounts/ann": "100", "/accounts/ben": "0"} {
		if _, _, err := replicas[0].Create(ctx, path, []byte(sum), coord.WithParents()); err != nil {
			return err
		}
	}
	errs := make([]error, len(replicas))
	var wg sync.WaitGroup
	for i, c := range replicas {
		wg.Go(func() {
			for range transfers {
				errs[i] = firstOf(errs[i], transfer(ctx, c))
			}
		})
	}
	wg.Wait()
	v, err := replicas[2].View(ctx, coord.Linearizable())
	if err != nil {
		return err
	}
	ann, _, _ := v.Get("/accounts/ann")
	ben, _, _ := v.Get("/accounts/ben")
	fmt.Fprintf(out, "%d transfers by %d replicas: ann has %s, ben has %s\n", transfers*len(replicas), len(replicas), ann, ben)
	return firstOf(errs...)
}

// transfer moves one coin while it holds the lock.
func transfer(ctx context.Context, c *coord.Coordinator) error {
	return recipes.WithLock(ctx, c.Session(), "/locks/accounts", func(ctx context.Context, h *recipes.Held) error {
		ann, err := balance(ctx, c, "/accounts/ann")
		if err != nil {
			return err
		}
		ben, err := balance(ctx, c, "/accounts/ben")
		if err != nil {
			return err
		}
		// A process can be paused for longer than its session lives, and wake up here.
		// The guard has the ensemble refuse the write then.
		_, err = c.Multi(
			ctx, h.Guard(),
			coord.SetDataOp("/accounts/ann", strconv.AppendInt(nil, ann-1, 10)),
			coord.SetDataOp("/accounts/ben", strconv.AppendInt(nil, ben+1, 10)),
		)
		return err
	})
}

func balance(ctx context.Context, c *coord.Coordinator, path string) (int64, error) {
	data, _, err := c.Get(ctx, path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(data), 10, 64)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
