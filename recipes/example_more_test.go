package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"coord"
	"coord/recipes"
)

func ExampleBarrier() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	b := recipes.NewBarrier(c, "/barriers/migration")
	fmt.Println(b.Set(ctx))
	passed := make(chan error)
	go func() { passed <- b.Wait(ctx) }() // on any member
	fmt.Println(b.Clear(ctx))
	fmt.Println(<-passed)
	// Output:
	// <nil>
	// <nil>
	// <nil>
}

func ExampleEnter() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	var all sync.WaitGroup
	for range 3 { // on any members
		all.Go(func() {
			e, err := recipes.Enter(ctx, c.Session(), "/phases/one", 3)
			if err != nil {
				panic(err)
			}
			fmt.Println("working")
			if err := e.Leave(ctx); err != nil {
				panic(err)
			}
			fmt.Println("all have worked")
		})
	}
	all.Wait()
	// Output:
	// working
	// working
	// working
	// all have worked
	// all have worked
	// all have worked
}

func ExampleCounter() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	visits := recipes.NewCounter(c, "/counters/visits")
	fmt.Println(visits.Add(ctx, 2))
	fmt.Println(visits.Add(ctx, 3))
	fmt.Println(visits.Get(ctx))
	// Output:
	// 2 <nil>
	// 5 <nil>
	// 5 <nil>
}

func ExampleIDs() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	here, there := recipes.NewIDs(c, "/ids/orders", 100), recipes.NewIDs(c, "/ids/orders", 100)
	for _, ids := range []*recipes.IDs{here, there, here} {
		fmt.Println(ids.Next(ctx))
	}
	// Output:
	// 1 <nil>
	// 101 <nil>
	// 2 <nil>
}

func ExampleValue() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	type limits struct{ PerSecond int }
	v := recipes.NewValue(c, "/config/limits", coord.JSON[limits]())
	_, _, err := v.Update(ctx, func(l limits) (limits, error) {
		l.PerSecond += 10
		return l, nil
	})
	fmt.Println(err)
	for now, err := range v.Watch(ctx) {
		fmt.Println(now.Value, err)
		break
	}
	// Output:
	// <nil>
	// {10} <nil>
}

func ExampleTakeLease() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	// The report is made once in a day, by whoever comes first. It is not released.
	for range 3 {
		l, err := recipes.TryLease(ctx, c, "/daily/report", 24*time.Hour)
		if errors.Is(err, recipes.ErrTaken) {
			fmt.Println("was made")
			continue
		}
		fmt.Println("making it:", l.Check() == nil)
	}
	// Output:
	// making it: true
	// was made
	// was made
}
