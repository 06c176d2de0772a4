package recipes_test

import (
	"context"
	"fmt"

	"coord/recipes"
)

func ExampleRLock() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	writer, err := recipes.Lock(ctx, c.Session(), "/locks/catalogue")
	fmt.Println(err)
	_, err = recipes.TryRLock(ctx, c.Session(), "/locks/catalogue")
	fmt.Println(err)
	fmt.Println(writer.Downgrade(ctx)) // has written, and goes on reading
	reader, err := recipes.RLock(ctx, c.Session(), "/locks/catalogue")
	fmt.Println(err)
	fmt.Println(reader.Release(ctx), writer.Release(ctx))
	// Output:
	// <nil>
	// try to lock /locks/catalogue for reading: recipes: taken
	// <nil>
	// <nil>
	// <nil> <nil>
}

func ExampleAcquire() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	const permits = 3 // all say the same
	small, err := recipes.Acquire(ctx, c.Session(), "/limits/imports", permits)
	fmt.Println(err)
	big, err := recipes.Acquire(ctx, c.Session(), "/limits/imports", permits, recipes.WithWeight(2))
	fmt.Println(err)
	_, err = recipes.TryAcquire(ctx, c.Session(), "/limits/imports", permits)
	fmt.Println(err)
	fmt.Println(small.Release(ctx), big.Release(ctx))
	// Output:
	// <nil>
	// <nil>
	// try to acquire a permit of /limits/imports: recipes: taken
	// <nil> <nil>
}

func ExampleLockAll() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	h, err := recipes.LockAll(ctx, c.Session(), []string{"/accounts/a/lock", "/accounts/b/lock"})
	if err != nil {
		panic(err)
	}
	fmt.Println(len(h.Held()), h.Check())
	// What is written under the guards is written with both locks, or not at all.
	_, err = c.Multi(ctx, h.Guards()...)
	fmt.Println(err)
	fmt.Println(h.Release(ctx))
	_, err = c.Multi(ctx, h.Guards()...)
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// <nil>
	// <nil>
	// coord: multi: operation 0: check /accounts/a/lock/lock-0000000000: no such znode
}

func ExampleContenders() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	h, err := recipes.Lock(ctx, c.Session(), "/locks/nightly", recipes.WithValue([]byte("host-1")))
	if err != nil {
		panic(err)
	}
	all, err := recipes.Contenders(ctx, c, "/locks/nightly")
	for _, who := range all {
		fmt.Printf("%s holds: %t\n", who.Value, who.Holds)
		fmt.Println(recipes.RequestRelease(ctx, c, who))
	}
	fmt.Println(err)
	<-h.ReleaseRequested() // on the holder's member
	fmt.Println(h.Release(ctx))
	// Output:
	// host-1 holds: true
	// <nil>
	// <nil>
	// <nil>
}

func ExampleBreak() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	h, err := recipes.Lock(ctx, c.Session(), "/locks/nightly")
	if err != nil {
		panic(err)
	}
	all, err := recipes.Contenders(ctx, c, "/locks/nightly")
	if err != nil {
		panic(err)
	}
	fmt.Println(recipes.Break(ctx, c, all[0]))
	<-h.Context().Done()
	fmt.Println(h.Check())
	next, err := recipes.Lock(ctx, c.Session(), "/locks/nightly")
	fmt.Println(next.Fence() > h.Fence(), err)
	// Output:
	// <nil>
	// recipes: deleted by somebody else
	// true <nil>
}

func ExampleWithPriority() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	leader, err := recipes.Campaign(ctx, c.Session(), "/leader", []byte("first"))
	if err != nil {
		panic(err)
	}
	elected := make(chan string)
	for n, name := range []string{"spare", "preferred"} { // on other members
		go func() {
			h, err := recipes.Campaign(ctx, c.Session(), "/leader", []byte(name), recipes.WithPriority(n))
			if err != nil {
				panic(err)
			}
			elected <- name
			_ = h.Release(ctx)
		}()
	}
	for all := 0; all < 3; { // until both wait
		who, err := recipes.Contenders(ctx, c, "/leader")
		if err != nil {
			panic(err)
		}
		all = len(who)
	}
	fmt.Println(leader.Release(ctx)) // nobody was driven out
	fmt.Println(<-elected)
	fmt.Println(<-elected)
	// Output:
	// <nil>
	// preferred
	// spare
}
