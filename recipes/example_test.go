package recipes_test

import (
	"context"
	"fmt"
	"os"

	"coord"
	"coord/recipes"
)

// open opens an ensemble of this process alone.
func open(ctx context.Context) (*coord.Coordinator, func()) {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	c, err := coord.Open(ctx, coord.Config{Dir: dir})
	if err != nil {
		panic(err)
	}
	if err := c.Ready(ctx); err != nil {
		panic(err)
	}
	return c, func() { _ = c.Close(); _ = os.RemoveAll(dir) }
}

func ExampleWithLock() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	err := recipes.WithLock(ctx, c.Session(), "/locks/billing", func(ctx context.Context, h *recipes.Held) error {
		// In the tree, the guard makes sure that nothing is written after the lock
		// was lost; elsewhere the fence does.
		_, err := c.Multi(ctx, h.Guard(), coord.CreateOp("/bill", []byte("42")))
		return err
	})
	data, _, _ := c.Get(ctx, "/bill")
	fmt.Println(err, string(data))
	// Output: <nil> 42
}

func ExampleRunElected() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	err := recipes.RunElected(ctx, c, "/leader", func(ctx context.Context, _ *recipes.Held) error {
		fmt.Println("leading until the context ends:", ctx.Err() == nil)
		return nil // resigns
	}, recipes.WithValue([]byte("host-1")))
	fmt.Println(err)
	// Output:
	// leading until the context ends: true
	// <nil>
}
