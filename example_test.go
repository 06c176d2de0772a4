package coord_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"coord"
)

// openSingle opens an ensemble of one member in a temporary directory.
func openSingle() (c *coord.Coordinator, done func()) {
	dir, err := os.MkdirTemp("", "coord-example")
	if err != nil {
		panic(err)
	}
	c, err = coord.Open(context.Background(), coord.Config{
		Dir: dir, ElectionTimeout: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return c, func() {
		_ = c.Close()
		_ = os.RemoveAll(dir)
	}
}

func Example() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	path, stat, err := c.Create(ctx, "/config", []byte("v1"))
	fmt.Println(path, stat.Version, err)
	stat, err = c.SetData(ctx, "/config", []byte("v2"), coord.WithVersion(0))
	fmt.Println(stat.Version, err)
	_, err = c.SetData(ctx, "/config", []byte("v3"), coord.WithVersion(0))
	fmt.Println(err)
	data, _, err := c.Get(ctx, "/config")
	fmt.Println(string(data), err)
	// Output:
	// /config 0 <nil>
	// 1 <nil>
	// coord: setData /config: version or other condition does not match
	// v2 <nil>
}

func ExampleSession_Create_ephemeralSequential() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	s, err := c.NewSession(ctx, coord.SessionOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	path, _, err := s.Create(ctx, "/queue/n-", nil, coord.EphemeralSequential, coord.WithParents())
	fmt.Println(path, err)
	fmt.Println(s.Close())
	_, exists, err := c.Exists(ctx, path)
	fmt.Println(exists, err)
	// Output:
	// /queue/n-0000000000 <nil>
	// <nil>
	// false <nil>
}

func ExampleCoordinator_SetUser() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	err := c.SetUser(ctx, "billing", "correct horse battery staple")
	fmt.Println(err)
	billing := coord.ID{Scheme: "user", ID: "billing"}
	_, _, err = c.Create(ctx, "/billing", nil, coord.WithACL(coord.ACL{Perms: coord.PermAll, ID: billing}))
	fmt.Println(err)

	// A server opens a session for each of its clients, and hands on what they show.
	s, err := c.NewSession(ctx, coord.SessionOptions{External: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = s.SetData(ctx, "/billing", []byte("42"))
	fmt.Println(err)
	err = s.AddAuth(ctx, "user", []byte("billing:correct horse battery staple"))
	fmt.Println(err)
	_, err = s.SetData(ctx, "/billing", []byte("42"))
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// coord: setData /billing: not allowed by the ACL
	// <nil>
	// <nil>
}

func ExampleCoordinator_SetACLTemplate() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	// Everybody may add what is then their own, and the members' to look after.
	creator := coord.CreatorAllACL()
	err := c.SetACLTemplate(ctx, "/inbox", append(creator, coord.MembersACL()...), coord.Enforced())
	fmt.Println(err)
	_, _, err = c.Create(ctx, "/inbox", nil)
	fmt.Println(err)
	_, err = c.SetACL(ctx, "/inbox", append(coord.MembersACL(), coord.ACL{Perms: coord.PermCreate, ID: coord.ID{Scheme: "world", ID: "anyone"}}))
	fmt.Println(err)

	s, err := c.NewSession(ctx, coord.SessionOptions{External: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = s.AddAuth(ctx, "digest", []byte("ann:secret"))
	_, _, err = s.Create(ctx, "/inbox/letter", nil, coord.WithACL(coord.OpenACL()...))
	fmt.Println(err)
	list, _, err := c.ACL(ctx, "/inbox/letter")
	for _, a := range list {
		fmt.Println(a.ID.Scheme, a.Perms == coord.PermAll, err)
	}
	// Output:
	// <nil>
	// <nil>
	// <nil>
	// <nil>
	// digest true <nil>
	// ensemble true <nil>
}

func ExampleCoordinator_ChangeSettings() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	if err := c.Ready(ctx); err != nil {
		fmt.Println(err)
		return
	}
	err := c.ChangeSettings(ctx, func(s *coord.Settings) { s.MaxDataBytes = 4 })
	fmt.Println(c.Settings().MaxDataBytes, err)
	_, _, err = c.Create(ctx, "/a", []byte("12345"))
	fmt.Println(err)
	err = c.ChangeSettings(ctx, func(s *coord.Settings) { s.MaxDataBytes = 1 << 30 })
	fmt.Println(err)
	// Output:
	// 4 <nil>
	// coord: create /a: over the size limit: 5 bytes of data, the limit is 4
	// coord: changeSettings: bad arguments: MaxDataBytes 1073741824 is not between 1 and 16777216
}

func ExampleCoordinator_Multi() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	_, err := c.Multi(ctx,
		coord.CreateOp("/accounts", nil),
		coord.CreateOp("/accounts/a", []byte("10")),
		coord.CreateOp("/accounts/b", nil))
	fmt.Println(err)
	results, err := c.Multi(ctx, coord.AddOp("/accounts/a", -3), coord.AddOp("/accounts/b", 3))
	fmt.Println(results[0].Value, results[1].Value, err)
	_, err = c.Multi(ctx, coord.AddOp("/accounts/a", -3), coord.CheckOp("/accounts/c"))
	fmt.Println(err)
	// Output:
	// <nil>
	// 7 3 <nil>
	// coord: multi: operation 1: check /accounts/c: no such znode
}

func ExampleWatch() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	w, err := c.Watch(ctx, "/a", coord.Subtree)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _, _ = c.Create(ctx, "/a", nil)
	_, _, _ = c.Create(ctx, "/a/b", nil)
	_ = c.Delete(ctx, "/a/b")
	n := 0
	for ev, err := range w.Events() {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(ev.Type, ev.Path)
		if n++; n == 3 {
			break // closes the watch
		}
	}
	// Output:
	// NodeCreated /a
	// NodeCreated /a/b
	// NodeDeleted /a/b
}

func ExampleView() {
	c, done := openSingle()
	defer done()
	ctx := context.Background()

	_, _, _ = c.Create(ctx, "/a/b", []byte("1"), coord.WithParents())
	before, err := c.View(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = c.SetData(ctx, "/a/b", []byte("2"))
	for n := range before.Walk("/a") {
		fmt.Printf("%s %q\n", n.Path, n.Data)
	}
	// Output:
	// /a ""
	// /a/b "1"
}
