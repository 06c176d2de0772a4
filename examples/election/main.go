// Command election has one replica of a service lead at a time. The first leader's
// process ends, the second one resigns, and the third one is left.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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

const path = "/election"

// A term is one in which a replica leads.
type term struct {
	replica *coord.Coordinator
	name    string
	resign  chan struct{}
}

func run(ctx context.Context, out io.Writer) (err error) {
	replicas, closeAll, err := ensemble.Open(ctx, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	terms := make(chan term)
	for i, c := range replicas {
		wg.Go(func() { campaign(ctx, term{c, fmt.Sprintf("replica %d", i+1), make(chan struct{})}, terms) })
	}

	first := <-terms
	if err := tell(ctx, out, first); err != nil {
		return err
	}
	fmt.Fprintln(out, "its process ends")
	if err := first.replica.Close(); err != nil {
		return err
	}
	second := <-terms
	if err := tell(ctx, out, second); err != nil {
		return err
	}
	fmt.Fprintln(out, "it resigns")
	close(second.resign)
	return tell(ctx, out, <-terms)
}

// campaign leads whenever a replica is elected, until it resigns or its process ends.
// A term that is lost, with a session say, is followed by another campaign.
func campaign(ctx context.Context, t term, terms chan<- term) {
	_ = recipes.RunElected(ctx, t.replica, path, func(ctx context.Context, _ *recipes.Held) error {
		select {
		case terms <- t:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// What a leader has to do, it does here, as long as ctx has not ended.
		select {
		case <-t.resign:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}, recipes.WithValue([]byte(t.name)))
}

// tell asks the ensemble who leads, and says so.
func tell(ctx context.Context, out io.Writer, t term) error {
	leader, ok, err := recipes.CurrentLeader(ctx, t.replica, path, coord.Linearizable())
	if err != nil || !ok {
		return fmt.Errorf("nobody leads: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s leads\n", leader.Value)
	return err
}
