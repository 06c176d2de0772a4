package recipes_test

import (
	"context"
	"fmt"

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
