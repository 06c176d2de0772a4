package coord_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

// A place is a znode that an operation needs a permission on. The tree of an attempt
// is a parent, a znode below it, and a leaf below that.
type place int

const (
	onParent place = iota
	onNode
)

// A need is one demand of an operation: one of the permissions, on the place.
type need struct {
	on  place
	any coord.Perm
}

// An attempt is one try of an operation on znodes made for it.
type attempt struct {
	*testing.T
	admin        *coord.Session // may do everything
	caller       *coord.Session
	entry        coord.ID // what the ACLs name
	parent, node string
	name         string // of the znode
}

// A demand is a row of the table: an operation and what it needs.
type demand struct {
	name string // of the method or the kind of operation, and what is special
	need []need
	// do returns nil if the operation was allowed and ErrNoAuth if it was not; one that
	// is not refused but tells nothing says so by errNothing.
	do func(ctx context.Context, a *attempt) error
	op func(a *attempt) coord.Op // the same inside a Multi
}

// errNothing says that nothing was told.
var errNothing = fmt.Errorf("nothing: %w", coord.ErrNoAuth)

// The table of ZooKeeper's permissions (programmer's guide, "ZooKeeper access control
// using ACLs"), for every operation that coord has. Operations that are coord's own
// need what the operations of ZooKeeper need that would tell or do the same.
var demands = slices.Concat([]demand{
	{
		"Delete",
		[]need{{onParent, coord.PermDelete}},
		func(ctx context.Context, a *attempt) error { return a.caller.Delete(ctx, a.node) },
		func(a *attempt) coord.Op { return coord.DeleteOp(a.node) },
	},
	{"SetData", []need{{onNode, coord.PermWrite}}, func(ctx context.Context, a *attempt) error {
		_, err := a.caller.SetData(ctx, a.node, nil)
		return err
	}, func(a *attempt) coord.Op { return coord.SetDataOp(a.node, nil) }},
	{"Add", []need{{onNode, coord.PermWrite}, {onNode, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
		_, _, err := a.caller.Add(ctx, a.node, 1)
		return err
	}, func(a *attempt) coord.Op { return coord.AddOp(a.node, 1) }},
	{"SetACL", []need{{onNode, coord.PermAdmin}}, func(ctx context.Context, a *attempt) error {
		_, err := a.caller.SetACL(ctx, a.node, coord.OpenACL())
		return err
	}, func(a *attempt) coord.Op { return coord.SetACLOp(a.node, coord.OpenACL()) }},
	{"Begin", []need{{onNode, coord.PermWrite}}, func(ctx context.Context, a *attempt) error {
		w, err := a.caller.Begin(ctx, coord.SetDataOp(a.node, nil))
		if err != nil {
			return err
		}
		_, err = w.Results(ctx)
		return err
	}, nil},
	{"BeginMulti", []need{{onNode, coord.PermWrite}}, func(ctx context.Context, a *attempt) error {
		w, err := a.caller.BeginMulti(ctx, coord.SetDataOp(a.node, nil))
		if err != nil {
			return err
		}
		_, err = w.Results(ctx)
		return err
	}, nil},
	{"check", []need{{onNode, coord.PermRead}}, nil, func(a *attempt) coord.Op { return coord.CheckOp(a.node) }},
	{"checkAbsent of a znode", []need{{onNode, coord.PermRead}}, nil, func(a *attempt) coord.Op { return coord.CheckAbsentOp(a.node) }},
	{"checkAbsent of nothing", nil, nil, func(a *attempt) coord.Op { return coord.CheckAbsentOp(a.parent + "/none") }},
	{"checkChildren", []need{{onNode, coord.PermRead}}, nil, func(a *attempt) coord.Op { return coord.CheckChildrenOp(a.node, 0) }},
	{"checkFewerChildren", []need{{onNode, coord.PermRead}}, nil, func(a *attempt) coord.Op { return coord.CheckFewerChildrenOp(a.node, 1) }},
	{"Exists of nothing", nil, func(ctx context.Context, a *attempt) error {
		_, _, err := a.caller.Exists(ctx, a.parent+"/none")
		return err
	}, nil},
	{"Children", []need{{onParent, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
		_, _, err := a.caller.Children(ctx, a.parent)
		return err
	}, nil},
	{"AllChildrenNumber", []need{{onParent, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
		_, err := a.caller.AllChildrenNumber(ctx, a.parent)
		return err
	}, nil},
	{"ACL", []need{{onNode, coord.PermRead | coord.PermAdmin}}, func(ctx context.Context, a *attempt) error {
		_, _, err := a.caller.ACL(ctx, a.node)
		return err
	}, nil},
	{"Ephemerals", nil, func(ctx context.Context, a *attempt) error {
		_, err := a.caller.Ephemerals(ctx, "/")
		return err
	}, nil},
	{"Sync", nil, func(ctx context.Context, a *attempt) error { return a.caller.Sync(ctx, a.node) }, nil},
	{"View", nil, func(ctx context.Context, a *attempt) error {
		_, err := a.caller.View(ctx)
		return err
	}, nil},
	{"View.Get", []need{{onNode, coord.PermRead}}, func(_ context.Context, a *attempt) error {
		_, _, err := a.view().Get(a.node)
		return err
	}, nil},
	{"View.Children", []need{{onParent, coord.PermRead}}, func(_ context.Context, a *attempt) error {
		_, _, err := a.view().Children(a.parent)
		return err
	}, nil},
	{"View.ACL", []need{{onNode, coord.PermRead | coord.PermAdmin}}, func(_ context.Context, a *attempt) error {
		_, _, err := a.view().ACL(a.node)
		return err
	}, nil},
	{"View.AllChildrenNumber", []need{{onParent, coord.PermRead}}, func(_ context.Context, a *attempt) error {
		_, err := a.view().AllChildrenNumber(a.parent)
		return err
	}, nil},
	{"View.ChildrenAfter", []need{{onParent, coord.PermRead}}, func(_ context.Context, a *attempt) error {
		for name := range a.view().ChildrenAfter(a.parent, "") {
			return a.expect(name, a.name)
		}
		return errNothing
	}, nil},
	{"View.Walk", []need{{onNode, coord.PermRead}}, func(_ context.Context, a *attempt) error {
		for z := range a.view().Walk(a.node) {
			return a.expect(z.Path, a.node)
		}
		return errNothing
	}, nil},
	{"View.Walk from above", []need{{onParent, coord.PermRead}, {onNode, coord.PermRead}}, func(_ context.Context, a *attempt) error {
		for z := range a.view().Walk(a.parent) {
			if z.Path == a.node {
				return nil
			}
		}
		return errNothing
	}, nil},
	{"Typed.Get", []need{{onNode, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
		_, _, err := a.typed().Get(ctx, a.node)
		return err
	}, nil},
	{"Typed.Create", []need{{onParent, coord.PermCreate}}, func(ctx context.Context, a *attempt) error {
		_, _, err := a.typed().Create(ctx, a.parent+"/new", nil)
		return err
	}, nil},
	{"Typed.SetData", []need{{onNode, coord.PermWrite}}, func(ctx context.Context, a *attempt) error {
		_, err := a.typed().SetData(ctx, a.node, nil)
		return err
	}, nil},
	{"Typed.Update", []need{{onNode, coord.PermRead}, {onNode, coord.PermWrite}}, func(ctx context.Context, a *attempt) error {
		_, _, err := a.typed().Update(ctx, a.node, func(b []byte) ([]byte, error) { return b, nil })
		return err
	}, nil},
	{"Typed.Children", []need{{onParent, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
		_, _, err := a.typed().Children(ctx, a.parent)
		return err
	}, nil},
	{"Typed.Children and their values", []need{{onParent, coord.PermRead}, {onNode, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
		values, _, err := a.typed().Children(ctx, a.parent)
		if err == nil {
			err = values[0].Err
		}
		return err
	}, nil},
	{"Typed.Watch", []need{{onNode, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
		w, err := a.typed().Watch(ctx, a.node, coord.Node)
		if err != nil {
			return err
		}
		defer w.Close()
		a.change()
		for ev, err := range w.Events() {
			if err != nil {
				return nothingBy(err)
			}
			return a.expect(ev.Path, a.node)
		}
		return errNothing
	}, nil},
}, creates(), gets(), watches(), watchSets())

// creates are the rows of every mode.
func creates() (rows []demand) {
	for mode := coord.Persistent; !strings.HasPrefix(mode.String(), "CreateMode("); mode++ {
		options := func(a *attempt) []coord.CreateOption {
			list := []coord.CreateOption{mode}
			if strings.Contains(mode.String(), "TTL") {
				list = append(list, coord.WithTTL(time.Hour))
			}
			return list
		}
		rows = append(rows, create("Create "+mode.String(), "/new", options))
	}
	// The first of the parents is made below one that exists, the rest below one that the
	// caller has just made.
	mine := func(with coord.CreateOption) func(a *attempt) []coord.CreateOption {
		return func(a *attempt) []coord.CreateOption {
			return []coord.CreateOption{with, coord.WithACL(coord.ACL{Perms: coord.PermCreate, ID: a.entry})}
		}
	}
	return append(rows, create("Create with parents", "/new/a/b", mine(coord.WithParents())), create("Create with containers", "/new/a/b", mine(coord.WithContainers())))
}

func create(name, path string, options func(a *attempt) []coord.CreateOption) demand {
	return demand{name, []need{{onParent, coord.PermCreate}}, func(ctx context.Context, a *attempt) error {
		_, _, err := a.caller.Create(ctx, a.parent+path, nil, options(a)...)
		return err
	}, func(a *attempt) coord.Op { return coord.CreateOp(a.parent+path, nil, options(a)...) }}
}

// gets are the rows of the plain reads, with every option that reads have.
func gets() (rows []demand) {
	for name, option := range map[string]func(a *attempt) coord.ReadOption{
		"": nil, " linearizable": func(*attempt) coord.ReadOption { return coord.Linearizable() }, " stale": func(*attempt) coord.ReadOption { return coord.AllowStale() },
		" at least": func(a *attempt) coord.ReadOption { return coord.AtLeast(a.view().Position()) },
	} {
		options := func(a *attempt) (list []coord.ReadOption) {
			if option != nil {
				list = append(list, option(a))
			}
			return list
		}
		rows = append(rows, demand{"Get" + name, []need{{onNode, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
			_, _, err := a.caller.Get(ctx, a.node, options(a)...)
			return err
		}, nil}, demand{"Exists" + name, []need{{onNode, coord.PermRead}}, func(ctx context.Context, a *attempt) error {
			_, _, err := a.caller.Exists(ctx, a.node, options(a)...)
			return err
		}, nil})
	}
	return rows
}

// watches are the rows of watches, live, from the past, and with the state first.
func watches() (rows []demand) {
	onNodeAlone := []need{{onNode, coord.PermRead}}
	type watched struct {
		mode coord.WatchMode
		at   func(a *attempt) string
		tell func(a *attempt) string // the path of the event
		do   func(a *attempt)
		what string
		need []need
	}
	node, parent := func(a *attempt) string { return a.node }, func(a *attempt) string { return a.parent }
	for _, c := range []watched{
		{coord.Node, node, node, (*attempt).change, "change", onNodeAlone},
		{coord.Node, node, node, (*attempt).remove, "deletion", onNodeAlone},
		{coord.Node, node, node, (*attempt).renew, "deletion and creation", onNodeAlone},
		{coord.Children, parent, parent, (*attempt).remove, "deletion", []need{{onParent, coord.PermRead}}},
		{coord.Children, parent, parent, (*attempt).renew, "deletion and creation", []need{{onParent, coord.PermRead}}},
		{coord.Subtree, parent, node, (*attempt).change, "change", onNodeAlone},
		{coord.Subtree, parent, node, (*attempt).remove, "deletion", onNodeAlone},
		{coord.Subtree, parent, node, (*attempt).renew, "deletion and creation", onNodeAlone},
	} {
		for _, past := range []bool{false, true} {
			for _, data := range []bool{false, true} {
				name := fmt.Sprintf("Watch %v, %s, past %v, data %v", c.mode, c.what, past, data)
				rows = append(rows, demand{name, c.need, func(ctx context.Context, a *attempt) error {
					var options []coord.WatchOption
					if data {
						options = append(options, coord.WithData())
					}
					if past {
						options = append(options, coord.From(a.view().Position()))
						c.do(a)
					}
					w, err := a.caller.Watch(ctx, c.at(a), c.mode, options...)
					if err != nil {
						return err
					}
					defer w.Close()
					if !past {
						c.do(a)
					}
					return tellsOf(w, c.tell(a))
				}, nil})
			}
		}
	}
	for _, c := range []watched{
		{mode: coord.Node, at: node, tell: node, need: onNodeAlone},
		{mode: coord.Children, at: parent, tell: node, need: []need{{onParent, coord.PermRead}, {onNode, coord.PermRead}}},
		{mode: coord.Subtree, at: parent, tell: node, need: []need{{onParent, coord.PermRead}, {onNode, coord.PermRead}}},
	} {
		rows = append(rows, demand{fmt.Sprintf("Watch %v with the state", c.mode), c.need, func(ctx context.Context, a *attempt) error {
			w, err := a.caller.Watch(ctx, c.at(a), c.mode, coord.WithInitial(), coord.WithData())
			if err != nil {
				return err
			}
			defer w.Close()
			return tellsOf(w, c.tell(a))
		}, nil})
	}
	return rows
}

// tellsOf waits for an event of a path.
func tellsOf(w *coord.Watch, path string) error {
	for ev, err := range w.Events() {
		if err != nil {
			return nothingBy(err)
		}
		if ev.Path == path {
			return nil
		}
	}
	return errNothing
}

// nothingBy takes the end of an attempt's time for the proof that nothing is told.
func nothingBy(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errNothing
	}
	return err
}

// watchSets are the rows of ZooKeeper's watches. To register needs nothing.
func watchSets() (rows []demand) {
	onNodeAlone := []need{{onNode, coord.PermRead}}
	for _, c := range []struct {
		t    coord.WatcherType
		at   func(a *attempt) string
		do   func(a *attempt)
		what coord.EventType
		need []need
	}{
		{coord.DataWatcher, func(a *attempt) string { return a.node }, (*attempt).change, coord.NodeDataChanged, onNodeAlone},
		{coord.DataWatcher, func(a *attempt) string { return a.node }, (*attempt).remove, coord.NodeDeleted, onNodeAlone},
		{coord.ChildrenWatcher, func(a *attempt) string { return a.node }, (*attempt).remove, coord.NodeDeleted, onNodeAlone},
		{coord.ChildrenWatcher, func(a *attempt) string { return a.parent }, (*attempt).remove, coord.NodeChildrenChanged, []need{{onParent, coord.PermRead}}},
		{coord.PersistentWatcher, func(a *attempt) string { return a.node }, (*attempt).renew, coord.NodeCreated, onNodeAlone},
		{coord.PersistentWatcher, func(a *attempt) string { return a.parent }, (*attempt).renew, coord.NodeChildrenChanged, []need{{onParent, coord.PermRead}}},
		{coord.PersistentRecursiveWatcher, func(a *attempt) string { return a.parent }, (*attempt).renew, coord.NodeCreated, onNodeAlone},
		{coord.PersistentRecursiveWatcher, func(a *attempt) string { return a.parent }, (*attempt).remove, coord.NodeDeleted, onNodeAlone},
	} {
		rows = append(rows, demand{fmt.Sprintf("NewWatchSet, %v, %v", c.t, c.what), c.need, func(ctx context.Context, a *attempt) error {
			ws, err := a.caller.NewWatchSet(ctx)
			if err != nil {
				return err
			}
			defer ws.Close()
			if err := ws.Add(a.view(), coord.Registration{Path: c.at(a), Type: c.t}); err != nil {
				return err
			}
			c.do(a)
			events, err := ws.Take(a.view().ZXID())
			for _, ev := range events {
				if ev.Type == c.what {
					return err
				}
			}
			return errNothing
		}, nil})
	}
	return rows
}

func (a *attempt) view() *coord.View {
	a.Helper()
	v, err := a.caller.View(a.Context())
	a.must(err)
	return v
}

func (a *attempt) typed() *coord.Typed[[]byte] {
	return coord.NewTyped(coord.Client(a.caller), coord.Raw())
}

func (a *attempt) must(err error) {
	a.Helper()
	if err != nil {
		a.Fatal(err)
	}
}

func (a *attempt) expect(got, want string) error {
	if got != want {
		return fmt.Errorf("told of %s, want %s", got, want)
	}
	return nil
}

// change, remove and renew are what somebody else does to the znode.
func (a *attempt) change() {
	_, err := a.admin.SetData(a.Context(), a.node, []byte("2"))
	a.must(err)
}

func (a *attempt) remove() { a.must(a.admin.Delete(a.Context(), a.node)) }

func (a *attempt) renew() {
	list, _, err := a.admin.ACL(a.Context(), a.node)
	a.must(err)
	a.remove()
	_, _, err = a.admin.Create(a.Context(), a.node, []byte("3"), coord.WithACL(list...))
	a.must(err)
}

// A schemeCase is one way to be somebody: by an entry of an ACL, which the stranger's
// identities do not match.
type schemeCase struct {
	name             string
	entry            coord.ID
	caller, stranger func(t *testing.T, c *coord.Coordinator) *coord.Session
}

// user returns what opens a session for a native user, who is made if need be.
func user(credential string) func(*testing.T, *coord.Coordinator) *coord.Session {
	return func(t *testing.T, c *coord.Coordinator) *coord.Session {
		t.Helper()
		name, password, _ := strings.Cut(credential, ":")
		if err := c.SetUser(t.Context(), name, password); err != nil {
			t.Fatal(err)
		}
		return outsider(nil, "user "+credential)(t, c)
	}
}

// outsider returns what opens a session with identities, and proves more.
func outsider(ids []coord.ID, credentials ...string) func(*testing.T, *coord.Coordinator) *coord.Session {
	return func(t *testing.T, c *coord.Coordinator) *coord.Session {
		t.Helper()
		s, err := c.NewSession(t.Context(), coord.SessionOptions{External: true, Identities: ids})
		if err != nil {
			t.Fatal(err)
		}
		for _, credential := range credentials {
			scheme, credential, _ := strings.Cut(credential, " ")
			if err := s.AddAuth(t.Context(), scheme, []byte(credential)); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
}

func from(addr string) []coord.ID { return []coord.ID{coord.AddrID(netip.MustParseAddr(addr))} }

func schemeCases() []schemeCase {
	id := func(scheme, id string) coord.ID { return coord.ID{Scheme: scheme, ID: id} }
	name := func(cn string) []coord.ID { return []coord.ID{id("x509", "CN="+cn+",O=Example")} }
	return []schemeCase{
		{"world", id("world", "anyone"), outsider(nil), nil},
		{"digest", coord.DigestID("u:p"), outsider(from("10.1.2.3"), "digest v:q", "digest u:p"), outsider(nil, "digest u:q", "digest v:p", "digest U:p")},
		{"digest that a server vouches for", coord.DigestID("u:p"), outsider([]coord.ID{coord.DigestID("u:p")}), outsider([]coord.ID{id("digest", "u"), id("x509", coord.DigestID("u:p").ID)})},
		{"ip v4", id("ip", "10.1.2.3"), outsider(from("::ffff:10.1.2.3")), outsider(from("10.1.2.4"))},
		{"ip v4 network", id("ip", "10.1.2.3/16"), outsider(from("10.1.200.1")), outsider(from("10.2.2.3"))},
		{"ip v6", id("ip", "2001:db8::1"), outsider(from("2001:db8::1")), outsider(from("2001:db8::2"))},
		{"ip v6 network", id("ip", "2001:db8::/32"), outsider(from("2001:db8:1::1")), outsider(from("2001:db9::1"))},
		{"x509", name("a")[0], outsider(name("a")), outsider(name("b"))},
		{"ensemble", id("ensemble", "member"), func(t *testing.T, c *coord.Coordinator) *coord.Session {
			t.Helper()
			s, err := c.NewSession(t.Context(), coord.SessionOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}, outsider(nil)},
		{"plug-in", id("jwt", "alice"), outsider(nil, "jwt alice"), outsider(nil, "jwt bob")},
		{"user", id("user", "eve"), user("eve:p"), user("bob:p")},
		{"super", coord.ID{}, outsider(nil, "digest super:secret"), nil},
	}
}

// echo is an authenticator that believes everything.
type echo struct{}

func (echo) Authenticate(_ context.Context, credential []byte) ([]string, error) {
	return []string{string(credential)}, nil
}

// inClosedBubble runs a test on an ensemble of one in virtual time, with a user that may
// do everything and a plug-in scheme.
func inClosedBubble(t *testing.T, test func(t *testing.T, c *coord.Coordinator)) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) {
		e := coordtest.NewEnsemble(t, 1, coordtest.WithElectionTimeout(2*time.Second), coordtest.WithConfig(func(c *coord.Config) {
			c.SuperDigest = coord.DigestID("super:secret").ID
			c.Authenticators = map[string]coord.Authenticator{"jwt": echo{}}
		}))
		test(t, e.Member(1))
	})
}

// TestAccess goes through the table: for every operation and every scheme, exactly the
// permissions that are needed suffice, everything else without one of them does not,
// and nobody else gets in; also inside of a Multi.
func TestAccess(t *testing.T) {
	for _, scheme := range schemeCases() {
		t.Run(scheme.name, func(t *testing.T) {
			inClosedBubble(t, func(t *testing.T, c *coord.Coordinator) {
				admin := outsider(nil, "digest super:secret")(t, c)
				x := &accessTest{T: t, admin: admin, scheme: scheme, caller: scheme.caller(t, c)}
				if scheme.stranger != nil {
					x.stranger = scheme.stranger(t, c)
				}
				for _, d := range demands {
					if d.do != nil {
						x.row(d.name, d.need, d.do)
					}
					if d.op != nil {
						x.row(d.name+" in a multi", d.need, inMulti(d.op))
					}
				}
			})
		})
	}
}

// inMulti does an operation behind one that everybody may do. That a znode is there is
// an answer, too.
func inMulti(op func(a *attempt) coord.Op) func(context.Context, *attempt) error {
	return func(ctx context.Context, a *attempt) error {
		_, err := a.caller.Multi(ctx, coord.CheckOp("/zookeeper/config"), op(a))
		multi, ok := errors.AsType[*coord.MultiError](err)
		if ok && (multi.Index != 1 || multi.Results[0] != nil) {
			return fmt.Errorf("another operation is to blame: %w", err)
		}
		if errors.Is(err, coord.ErrNodeExists) {
			return nil
		}
		return err
	}
}

// An accessTest goes through the rows of the table for one scheme.
type accessTest struct {
	*testing.T
	admin, caller, stranger *coord.Session
	scheme                  schemeCase
	attempts                int
}

const allPlaces = onNode + 1

// row tries one row in all ways.
func (x *accessTest) row(name string, needs []need, do func(context.Context, *attempt) error) {
	x.Helper()
	if x.scheme.name == "super" {
		x.try(name, "with no permission at all", x.caller, [allPlaces]coord.Perm{}, do, true)
		return
	}
	var exactly [allPlaces]coord.Perm
	for _, n := range needs {
		exactly[n.on] |= n.any & -n.any // the lowest of those that will do
	}
	x.try(name, "with what is needed alone", x.caller, exactly, do, true)
	all := [allPlaces]coord.Perm{coord.PermAll, coord.PermAll}
	for _, n := range needs {
		for p := coord.PermRead; p <= coord.PermAdmin; p <<= 1 {
			if n.any&p == 0 {
				continue
			}
			other := exactly
			other[n.on] = exactly[n.on]&^n.any | p
			for _, m := range needs { // what other rows of the same place need
				if m.on == n.on && m.any != n.any {
					other[m.on] |= m.any
				}
			}
			x.try(name, fmt.Sprintf("with %d on place %d", p, n.on), x.caller, other, do, true)
		}
		without := all
		without[n.on] &^= n.any
		x.try(name, fmt.Sprintf("with everything but %d on place %d", n.any, n.on), x.caller, without, do, false)
	}
	if x.stranger != nil && len(needs) > 0 {
		x.try(name, "as somebody else", x.stranger, all, do, false)
	}
}

// try makes znodes on which somebody has permissions, and does it. Everybody else has
// none, whoever made them.
func (x *accessTest) try(name, how string, caller *coord.Session, perms [allPlaces]coord.Perm, do func(context.Context, *attempt) error, allowed bool) {
	x.Helper()
	x.attempts++
	a := &attempt{T: x.T, admin: x.admin, caller: caller, entry: x.scheme.entry, parent: fmt.Sprintf("/t%d", x.attempts), name: "n"}
	a.node = a.parent + "/" + a.name
	if a.entry == (coord.ID{}) {
		a.entry = coord.DigestID("nobody:knows")
	}
	for i, path := range []string{a.parent, a.node} {
		_, _, err := x.admin.Create(x.Context(), path, []byte("1"), coord.WithACL(coord.ACL{Perms: perms[i], ID: a.entry}))
		a.must(err)
	}
	ctx, cancel := context.WithTimeout(x.Context(), time.Second)
	defer cancel()
	err := do(ctx, a)
	if allowed && err != nil || !allowed && !errors.Is(err, coord.ErrNoAuth) {
		x.Errorf("%s %s: %v, want allowed: %v", name, how, err, allowed)
	}
}

// TestAccessTableIsComplete sees that every method that gets at the tree, and every
// kind of operation, is in the table.
func TestAccessTableIsComplete(t *testing.T) {
	rows := map[string]bool{}
	for _, d := range demands {
		first, _, _ := strings.Cut(d.name, " ")
		rows[strings.TrimSuffix(first, ",")] = true
	}
	row := func(name string) {
		if !rows[name] {
			t.Errorf("%s is not in the table: what does it need?", name)
		}
	}
	methods := func(of reflect.Type, prefix string, needNothing ...string) {
		for m := range of.Methods() {
			if !slices.Contains(needNothing, m.Name) {
				row(prefix + m.Name)
			}
		}
		for _, name := range needNothing {
			if _, ok := of.MethodByName(name); !ok {
				t.Errorf("%v has no method %s", of, name)
			}
		}
	}
	methods(reflect.TypeFor[coord.Client](), "", "Multi") // every row is tried in one
	own := []string{
		"AddAuth", "Close", "Context", "Format", "HandOver", "ID", "Identities", "Leave", "Multi", "Reconfigure", "SinceSignOfLife", // see TestReconfigureNeedsWrite
		"State", "States", "String", "Timeout", "Token",
	}
	methods(reflect.TypeFor[*coord.Session](), "", own...)
	ofMembers := []string{"EphemeralCount", "EphemeralsOf", "Sessions"} // see TestViewShowsSessions
	methods(reflect.TypeFor[*coord.View](), "View.", append(ofMembers, "Digest", "Ephemerals", "Format", "Position", "String", "ZXID")...)
	methods(reflect.TypeFor[*coord.Typed[int]](), "Typed.")
	for _, name := range coord.OpNames() {
		found := rows[name] || rows[strings.ToUpper(name[:1])+name[1:]]
		if !found {
			t.Errorf("the operation %s is not in the table: what does it need?", name)
		}
	}
	for _, d := range demands {
		if d.do == nil && d.op == nil {
			t.Errorf("the row %s tries nothing", d.name)
		}
	}
}

// Parents that are made on the way have the ACL of the new znode, which must let its
// maker go on below them.
func TestParentsNeedTheirOwnACL(t *testing.T) {
	inClosedBubble(t, func(t *testing.T, c *coord.Coordinator) {
		mustCreate(t, c, "/open", "", coord.WithACL(coord.OpenACL()...))
		s := outsider(nil, "digest u:p")(t, c)
		for i, list := range [][]coord.ACL{coord.ReadOnlyACL(), {{Perms: coord.PermAll &^ coord.PermCreate, ID: coord.DigestID("u:p")}}, coord.MembersACL()} {
			path := fmt.Sprintf("/open/%d/x", i)
			if _, _, err := s.Create(t.Context(), path, nil, coord.WithParents(), coord.WithACL(list...)); !errors.Is(err, coord.ErrNoAuth) {
				t.Errorf("Create below parents with %v = %v", list, err)
			}
			if _, _, err := s.Create(t.Context(), path, nil, coord.WithParents(), coord.WithACL(append(list, coord.CreatorAllACL()...)...)); err != nil {
				t.Errorf("Create below parents with %v and for the creator = %v", list, err)
			}
		}
	})
}
