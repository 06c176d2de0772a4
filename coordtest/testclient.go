package coordtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"coord"
)

// TestClient tests a wrapper of [coord.Client], one that counts calls for example, or
// checks something before each. wrap is given a client of an ensemble in memory and
// returns the one to test, which must do what the inner one does: every method with its
// options, contexts, results and errors, which must be the same for [errors.Is] and
// [errors.As]; arguments that the caller changes after a call, and results that it
// changes, have no effect. Paths below /testclient must get through unchanged.
func TestClient(tb testing.TB, wrap func(coord.Client) coord.Client) {
	tb.Helper()
	if wrap == nil {
		tb.Fatalf("coordtest: TestClient(nil)")
	}
	member := New(tb)
	inner, err := member.NewSession(tb.Context(), coord.SessionOptions{})
	if err != nil {
		tb.Fatalf("coordtest: %v", err)
	}
	c := wrap(inner)
	if c == nil {
		tb.Fatalf("coordtest: TestClient: wrap returned nil")
	}
	for _, part := range []struct {
		name string
		test func(ctx context.Context, c coord.Client, s *coord.Session) error
	}{
		{"writes and reads", clientReads},
		{"options of Create", clientCreates},
		{"lists", clientLists},
		{"errors", clientErrors},
		{"memory", clientMemory},
		{"Multi", clientMultis},
		{"access control lists", clientACLs},
		{"watches", clientWatches},
		{"contexts", clientContexts},
	} {
		ctx, cancel := context.WithTimeout(tb.Context(), settleTimeout)
		err := func() (err error) {
			defer recovered(&err)
			return part.test(ctx, c, inner)
		}()
		cancel()
		if err != nil {
			tb.Errorf("coordtest: client: %s: %v", part.name, err)
		}
	}
}

const clientRoot = "/testclient"

// wrong returns an error unless ok.
func wrong(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func clientReads(ctx context.Context, c coord.Client, inner *coord.Session) error {
	const path = clientRoot + "/a"
	made, stat, err := c.Create(ctx, path, []byte("1"), coord.WithParents())
	if err != nil {
		return err
	}
	set, err := c.SetData(ctx, path, []byte("2"), coord.WithVersion(stat.Version))
	if err != nil {
		return err
	}
	data, got, err := c.Get(ctx, path, coord.Linearizable())
	if err != nil {
		return err
	}
	there, ok, err := c.Exists(ctx, path)
	if err != nil {
		return err
	}
	_, isnt, err := c.Exists(ctx, clientRoot+"/none")
	if err != nil {
		return err
	}
	beneath, _, err := inner.Get(ctx, path)
	if err != nil {
		return err
	}
	v, err := c.View(ctx)
	if err != nil {
		return err
	}
	viewed, _, err := v.Get(path)
	return errors.Join(err, c.Sync(ctx, "/"),
		wrong(made == path && stat.Version == 0, "Create returns %q, %+v", made, stat),
		wrong(set.Version == 1 && got == set && there == set && ok && !isnt, "stats of SetData, Get and Exists: %+v, %+v, %+v", set, got, there),
		wrong(string(data) == "2" && string(beneath) == "2" && string(viewed) == "2", "data of Get %q, of the inner client %q, of a View %q; want 2", data, beneath, viewed))
}

func clientCreates(ctx context.Context, c coord.Client, inner *coord.Session) error {
	first, _, err := c.Create(ctx, clientRoot+"/seq/n-", nil, coord.PersistentSequential, coord.WithParents())
	if err != nil {
		return err
	}
	second, _, err := c.Create(ctx, clientRoot+"/seq/n-", nil, coord.PersistentSequential)
	if err != nil {
		return err
	}
	_, stat, err := c.Create(ctx, clientRoot+"/eph", nil, coord.Ephemeral)
	if err != nil {
		return err
	}
	mine, err := c.Ephemerals(ctx, clientRoot)
	if err != nil {
		return err
	}
	sum, _, err := c.Add(ctx, clientRoot+"/a", 5)
	return errors.Join(err,
		wrong(first < second && first != clientRoot+"/seq/n-", "sequential names: %q, %q", first, second),
		wrong(stat.EphemeralOwner == inner.ID(), "an ephemeral is of session %v, want that of the inner client, %v", stat.EphemeralOwner, inner.ID()),
		wrong(slices.Equal(mine, []string{clientRoot + "/eph"}), "Ephemerals: %q", mine),
		wrong(sum == 7, "Add of 5 to 2 returns %d", sum))
}

func clientLists(ctx context.Context, c coord.Client, _ *coord.Session) error {
	all, _, err := c.Children(ctx, clientRoot)
	if err != nil {
		return err
	}
	page, _, err := c.Children(ctx, clientRoot, coord.After("a"), coord.Limit(1))
	if err != nil {
		return err
	}
	n, err := c.AllChildrenNumber(ctx, clientRoot)
	return errors.Join(err,
		wrong(slices.Equal(all, []string{"a", "eph", "seq"}), "Children: %q, want a, eph, seq", all),
		wrong(slices.Equal(page, []string{"eph"}), "Children after a, 1 of them: %q, want eph", page),
		wrong(n == 5, "AllChildrenNumber: %d, want 5", n))
}

func clientErrors(ctx context.Context, c coord.Client, _ *coord.Session) error {
	const a, none = clientRoot + "/a", clientRoot + "/none"
	calls := map[string]struct {
		call func() error
		want error
	}{
		"Get of nothing":       {func() error { _, _, err := c.Get(ctx, none); return err }, coord.ErrNoNode},
		"Create of a second":   {func() error { _, _, err := c.Create(ctx, a, nil); return err }, coord.ErrNodeExists},
		"SetData of old":       {func() error { _, err := c.SetData(ctx, a, nil, coord.WithVersion(99)); return err }, coord.ErrBadVersion},
		"Delete of old":        {func() error { return c.Delete(ctx, a, coord.WithVersion(99)) }, coord.ErrBadVersion},
		"Delete of a parent":   {func() error { return c.Delete(ctx, clientRoot) }, coord.ErrNotEmpty},
		"Children of nothing":  {func() error { _, _, err := c.Children(ctx, none); return err }, coord.ErrNoNode},
		"a child of ephemeral": {func() error { _, _, err := c.Create(ctx, clientRoot+"/eph/x", nil); return err }, coord.ErrNoChildrenForEphemerals},
		"a bad path":           {func() error { _, _, err := c.Get(ctx, "no/slash"); return err }, coord.ErrBadArguments},
	}
	var errs []error
	for name, call := range calls {
		err := call.call()
		op, is := errors.AsType[*coord.OpError](err)
		errs = append(errs, wrong(errors.Is(err, call.want) && is && op.Err != nil, "%s: %w, want %w in an *OpError", name, err, call.want))
	}
	return errors.Join(errs...)
}

// clientMemory changes what it gave and what it got.
func clientMemory(ctx context.Context, c coord.Client, inner *coord.Session) error {
	const path = clientRoot + "/memory"
	given := []byte("data")
	if _, _, err := c.Create(ctx, path, given); err != nil {
		return err
	}
	clear(given)
	got, _, err := c.Get(ctx, path)
	if err != nil {
		return err
	}
	first := string(got)
	clear(got)
	again, _, err := c.Get(ctx, path)
	if err != nil {
		return err
	}
	if _, err := c.SetData(ctx, path, nil); err != nil {
		return err
	}
	null, _, err := inner.Get(ctx, path)
	if err != nil {
		return err
	}
	if _, err := c.SetData(ctx, path, []byte{}); err != nil {
		return err
	}
	empty, _, err := inner.Get(ctx, path)
	return errors.Join(err, c.Delete(ctx, path),
		wrong(first == "data" && string(again) == "data", "data that was given and got, with both changed afterwards: %q, %q", first, again),
		wrong(null == nil && empty != nil, "null and empty data arrive as %#v and %#v", null, empty))
}

func clientMultis(ctx context.Context, c coord.Client, _ *coord.Session) error {
	const x, y = clientRoot + "/x", clientRoot + "/y"
	results, err := c.Multi(ctx, coord.CreateOp(x, []byte("1")), coord.CheckOp(x, coord.WithVersion(0)), coord.DeleteOp(x))
	if err != nil {
		return err
	}
	_, failed := c.Multi(ctx, coord.CreateOp(y, nil), coord.DeleteOp(x))
	multi, is := errors.AsType[*coord.MultiError](failed)
	_, made, err := c.Exists(ctx, y)
	return errors.Join(err,
		wrong(len(results) == 3 && results[0].Path == x, "results of 3 operations: %+v", results),
		wrong(is && multi.Index == 1 && errors.Is(failed, coord.ErrNoNode), "a Multi whose second operation fails: %w, want a *MultiError of index 1", failed),
		wrong(!made, "a Multi that failed has made a znode"))
}

func clientACLs(ctx context.Context, c coord.Client, inner *coord.Session) error {
	const path = clientRoot + "/acl"
	list := append(coord.MembersACL(), coord.ACL{Perms: coord.PermRead, ID: coord.ID{Scheme: "digest", ID: "a:b"}})
	if _, _, err := c.Create(ctx, path, nil, coord.WithACL(list...)); err != nil {
		return err
	}
	got, _, err := c.ACL(ctx, path)
	if err != nil {
		return err
	}
	stat, err := c.SetACL(ctx, path, coord.MembersACL(), coord.WithVersion(0))
	if err != nil {
		return err
	}
	now, _, err := inner.ACL(ctx, path)
	return errors.Join(err, c.Delete(ctx, path),
		wrong(slices.Equal(got, list) && stat.Aversion == 1 && slices.Equal(now, coord.MembersACL()), "lists %v and %v, stat %+v", got, now, stat))
}

func clientWatches(ctx context.Context, c coord.Client, inner *coord.Session) error {
	const path = clientRoot + "/watched"
	w, err := c.Watch(ctx, clientRoot, coord.Subtree, coord.WithTypes(coord.NodeCreated, coord.NodeDeleted))
	if err != nil {
		return err
	}
	defer w.Close()
	set, err := c.NewWatchSet(ctx)
	if err != nil {
		return err
	}
	defer set.Close()
	if _, _, err := inner.Create(ctx, path, nil); err != nil {
		return err
	}
	if err := inner.Delete(ctx, path); err != nil {
		return err
	}
	for _, want := range []coord.EventType{coord.NodeCreated, coord.NodeDeleted} {
		select {
		case ev, open := <-w.C():
			if err := wrong(open && ev.Type == want && ev.Path == path, "event %v, want %v of %s", ev, want, path); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("no event: %w", context.Cause(ctx))
		}
	}
	return nil
}

func clientContexts(ctx context.Context, c coord.Client, inner *coord.Session) error {
	const path = clientRoot + "/late"
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, _, werr := c.Create(over, path, nil)
	_, _, rerr := c.Get(over, clientRoot, coord.Linearizable())
	_, made, err := inner.Exists(ctx, path)
	past, cancel := context.WithDeadline(ctx, time.Unix(0, 0))
	defer cancel()
	return errors.Join(err,
		wrong(errors.Is(werr, context.Canceled) && !made, "Create with a context that was cancelled: %w, done: %v", werr, made),
		wrong(errors.Is(rerr, context.Canceled), "a linearizable Get with a context that was cancelled: %w", rerr),
		wrong(errors.Is(c.Sync(past, "/"), context.DeadlineExceeded), "a Sync whose deadline is past is no error"))
}
