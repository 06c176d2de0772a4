package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"coord/recipes"
)

func ExampleClaimName() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	h, err := recipes.ClaimName(ctx, c.Session(), "/names/hosts", "web-1", recipes.WithValue([]byte("10.0.0.1")))
	fmt.Println(h.Path(), err)
	_, err = recipes.ClaimName(ctx, c.Session(), "/names/hosts", "web-1")
	fmt.Println(errors.Is(err, recipes.ErrTaken))
	fmt.Println(h.Release(ctx))
	// Output:
	// /names/hosts/web-1 <nil>
	// true
	// <nil>
}

func ExampleClaimNumber() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	for range 3 { // on any members
		_, worker, err := recipes.ClaimNumber(ctx, c.Session(), "/workers", 1024)
		fmt.Println(worker, err)
	}
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 <nil>
}

func ExampleRunOnce() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	migrate := func(ctx context.Context, _ *recipes.Held) error {
		fmt.Println("migrating until the context ends:", ctx.Err() == nil)
		return nil
	}
	for range 2 { // on any members
		fmt.Println(recipes.RunOnce(ctx, c.Session(), "/migrations/7", migrate))
	}
	// Output:
	// migrating until the context ends: true
	// true <nil>
	// false <nil>
}

func ExampleRunTasks() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	var mu sync.Mutex
	var counted []string
	tasks := make(map[string]func(context.Context, *recipes.Held) error)
	for _, id := range []string{"berlin", "lagos", "lima"} {
		tasks[id] = func(context.Context, *recipes.Held) error {
			mu.Lock()
			defer mu.Unlock()
			counted = append(counted, id)
			return nil
		}
	}
	fmt.Println(recipes.RunTasks(ctx, c, "/inventory/2026", 2, tasks)) // on all members
	slices.Sort(counted)
	fmt.Println(counted)
	// Output:
	// <nil>
	// [berlin lagos lima]
}

func ExampleRunPartitions() {
	ctx, cancel := context.WithCancel(context.Background())
	c, done := open(ctx)
	defer done()

	// On all members: those that are there share the partitions out.
	var all sync.WaitGroup
	all.Add(2)
	go func() { all.Wait(); cancel() }()
	err := recipes.RunPartitions(ctx, c, "/orders/shards", []string{"even", "odd"}, func(ctx context.Context, p *recipes.Partition) error {
		fmt.Println("working on", p.Name())
		all.Done()
		<-ctx.Done() // another member is to have it, or it is lost
		return nil   // until then nobody else has it
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Unordered output:
	// working on odd
	// working on even
	// true
}
