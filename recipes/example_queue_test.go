package recipes_test

import (
	"context"
	"fmt"

	"coord"
	"coord/recipes"
)

func ExampleQueue() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	type job struct{ Bill int }
	q := recipes.NewQueue(c, "/queues/bills", coord.JSON[job](), recipes.WithBound(1000), recipes.WithMaxDeliveries(5))
	fmt.Println(q.Put(ctx, job{Bill: 42}, recipes.ID("bill-42")))

	d, err := q.Take(ctx, c.Session()) // on any member
	if err != nil {
		panic(err)
	}
	fmt.Println(d.Value.Bill, d.Deliveries())
	// What shows that it was done is written together with the acknowledgement.
	fmt.Println(d.Ack(ctx, coord.CreateOp("/sent-42", nil)))
	// Output:
	// <nil>
	// 42 1
	// <nil>
}

func ExampleTopic() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	topic := recipes.NewTopic(c, "/topics/prices", coord.JSON[int]())
	for _, price := range []int{100, 101, 99} {
		if err := topic.Publish(ctx, price); err != nil {
			panic(err)
		}
	}
	for m, err := range topic.Subscribe(ctx, recipes.WithLast()) {
		if err != nil {
			panic(err)
		}
		fmt.Println(m.Value)
		if m.Value == 102 {
			break // and go on Behind m.Position later
		}
		go func() { _ = topic.Publish(ctx, m.Value+1) }()
	}
	// Output:
	// 99
	// 100
	// 101
	// 102
}

func ExampleForeignQueue() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	// As kazoo.recipe.queue.Queue(client, "/queues/jobs") sees it.
	q := recipes.NewForeignQueue(c, "/queues/jobs", recipes.KazooQueue)
	_ = q.Put(ctx, []byte("later"), recipes.KazooPriority)
	_ = q.Put(ctx, []byte("first"), 1)
	for range 2 {
		item, err := q.Take(ctx)
		fmt.Println(string(item), err)
	}
	// Output:
	// first <nil>
	// later <nil>
}
