package recipes_test

import (
	"context"
	"fmt"

	"coord"
	"coord/recipes"
)

func ExampleRegister() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	r, err := recipes.Register(ctx, c, "/hosts/host-1", "starting", coord.JSON[string]())
	if err != nil {
		panic(err)
	}
	fmt.Println(r.Update(ctx, "serving")) // the same znode
	data, _, _ := c.Get(ctx, "/hosts/host-1")
	fmt.Println(string(data))
	fmt.Println(r.Unregister(ctx))
	// Output:
	// <nil>
	// "serving"
	// <nil>
}

func ExampleMembers() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	for _, name := range []string{"red", "blue"} { // on any member
		if _, err := recipes.Join(ctx, c, "/workers", name, coord.JSON[string]()); err != nil {
			panic(err)
		}
	}
	for workers, err := range recipes.Members(ctx, c, "/workers", coord.JSON[string]()) {
		for _, w := range workers {
			fmt.Println(w.Name, w.Value, err)
		}
		break
	}
	// Output:
	// member-0000000000 red <nil>
	// member-0000000001 blue <nil>
}

func ExampleCache() {
	ctx := context.Background()
	c, done := open(ctx)
	defer done()

	type user struct{ Team string }
	users, err := recipes.NewCache(c, "/users", coord.JSON[user](),
		recipes.WithFilter[user](func(path string, _ coord.Stat) bool { return path != "/users" }),
		recipes.WithIndex("team", func(_ string, u user) []string { return []string{u.Team} }))
	if err != nil {
		panic(err)
	}
	defer users.Close()

	typed := coord.NewTyped(c, coord.JSON[user]())
	for name, team := range map[string]string{"ada": "red", "bob": "red", "eve": "blue"} {
		if _, _, err := typed.Create(ctx, "/users/"+name, user{team}, coord.WithParents()); err != nil {
			panic(err)
		}
	}
	if err := users.Synced(ctx); err != nil {
		panic(err)
	}
	red, _ := users.ByIndex("team", "red")
	for _, e := range red {
		fmt.Println(e.Path, e.Value.Team)
	}
	for d, err := range users.Changes(ctx) {
		fmt.Println(len(d.Changes), "users", err)
		break
	}
	// Output:
	// /users/ada red
	// /users/bob red
	// 3 users <nil>
}
