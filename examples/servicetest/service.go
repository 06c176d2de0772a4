// Package servicetest is a small service, and how it is tested with package
// coordtest. There is nothing to run but its test: go test -v ./examples/servicetest
package servicetest

import (
	"context"
	"errors"
	"time"

	"coord"
	"coord/recipes"
)

// Setup makes the counter. Every replica calls it.
func Setup(ctx context.Context, c *coord.Coordinator) error {
	_, _, err := c.Create(ctx, "/counter/value", []byte("0"), coord.WithParents())
	if errors.Is(err, coord.ErrNodeExists) {
		return nil
	}
	return err
}

// Count adds 1 to the counter every so often, on one replica at a time, until ctx ends.
// It calls counted with what became of each attempt.
func Count(ctx context.Context, c *coord.Coordinator, every time.Duration, counted func(error)) error {
	return recipes.RunElected(ctx, c, "/counter/leader", func(ctx context.Context, held *recipes.Held) error {
		for ctx.Err() == nil {
			// In one write with the condition that this replica still is the one.
			_, err := c.Multi(ctx, held.Guard(), coord.AddOp("/counter/value", 1))
			counted(err)
			select {
			case <-time.After(every):
			case <-ctx.Done():
			}
		}
		return nil
	})
}
