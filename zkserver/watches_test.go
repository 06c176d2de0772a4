package zkserver_test

import (
	"testing"
	"time"

	"coord"
	"coord/internal/jute"
)

// TestC2NotificationsComeBeforeWhatTheyAreAbout sets watches of all kinds, and looks at
// the order of what comes.
func TestC2NotificationsComeBeforeWhatTheyAreAbout(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cl := w.connect(w.Follower(t.Context()), 30*time.Second)
		cl.must(jute.OpCreate, create("/w", ""), &jute.CreateResponse{})
		cl.must(jute.OpGetData, get("/w", true), &jute.GetDataResponse{})
		cl.must(jute.OpGetChildren, get("/w", true), &jute.StringsResponse{})
		if h := cl.call(jute.OpExists, get("/w/x", true), nil); h.Err != jute.NoNode {
			t.Fatal(h.Err)
		}
		cl.must(jute.OpGetData, get("/w", true), &jute.GetDataResponse{}) // twice is once

		set := cl.send(jute.OpSetData, &jute.SetDataRequest{Path: "/w", Version: -1})
		ev := cl.wantNotification(coord.NodeDataChanged, "/w")
		if r := cl.wantReply(set, jute.OK); r.Zxid != ev.Zxid {
			t.Errorf("the notification is of %d, the write of %d", ev.Zxid, r.Zxid)
		}
		made := cl.send(jute.OpCreate, create("/w/x", ""))
		cl.wantNotification(coord.NodeCreated, "/w/x")
		cl.wantNotification(coord.NodeChildrenChanged, "/w")
		cl.wantReply(made, jute.OK)
		cl.must(jute.OpSetData, &jute.SetDataRequest{Path: "/w", Version: -1}, &jute.StatResponse{}) // nothing is left

		// What others do is told without being asked for, and before a read that shows it.
		cl.must(jute.OpGetData, get("/w", true), &jute.GetDataResponse{})
		if _, err := w.Leader(t.Context()).SetData(t.Context(), "/w", nil); err != nil {
			t.Fatal(err)
		}
		cl.wantNotification(coord.NodeDataChanged, "/w")

		// A deletion is told once, whatever is registered.
		cl.must(jute.OpGetData, get("/w/x", true), &jute.GetDataResponse{})
		cl.must(jute.OpGetChildren, get("/w/x", true), &jute.StringsResponse{})
		deleted := cl.send(jute.OpDelete, &jute.VersionRequest{Path: "/w/x", Version: -1})
		cl.wantNotification(coord.NodeDeleted, "/w/x")
		cl.wantReply(deleted, jute.OK)

		// Persistent ones stay.
		cl.must(jute.OpAddWatch, &jute.WatchRequest{Path: "/w", Type: jute.ModePersistentRecursive}, &jute.IntResponse{})
		cl.must(jute.OpAddWatch, &jute.WatchRequest{Path: "/w", Type: jute.ModePersistent}, &jute.IntResponse{})
		for range 2 {
			made := cl.send(jute.OpCreate, create("/w/y", ""))
			cl.wantNotification(coord.NodeCreated, "/w/y")
			cl.wantNotification(coord.NodeChildrenChanged, "/w")
			cl.wantReply(made, jute.OK)
			gone := cl.send(jute.OpDelete, &jute.VersionRequest{Path: "/w/y", Version: -1})
			cl.wantNotification(coord.NodeDeleted, "/w/y")
			cl.wantNotification(coord.NodeChildrenChanged, "/w")
			cl.wantReply(gone, jute.OK)
		}
		cl.must(jute.OpCheckWatches, &jute.WatchRequest{Path: "/w", Type: 5}, nil)
		cl.must(jute.OpRemoveWatches, &jute.WatchRequest{Path: "/w", Type: 3}, nil)
		if h := cl.call(jute.OpCheckWatches, &jute.WatchRequest{Path: "/w", Type: 3}, nil); h.Err != jute.NoWatcher {
			t.Errorf("a removed watch: %v", h.Err)
		}
		cl.must(jute.OpSetData, &jute.SetDataRequest{Path: "/w", Version: -1}, &jute.StatResponse{})
		cl.quiet()
	})
}

// TestWatchesOnNothing: the empty path is the root's for reads. Nothing ever happens there,
// and who watches it is told nothing, but may stop.
func TestWatchesOnNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		cl, other := w.connect(c, 30*time.Second), w.connect(c, 30*time.Second)
		other.must(jute.OpAddWatch, &jute.WatchRequest{Path: "", Type: jute.ModePersistentRecursive}, &jute.IntResponse{})
		other.must(jute.OpGetChildren, get("", true), &jute.StringsResponse{})
		other.send(jute.OpSetWatches2, &jute.SetWatches2Request{PersistentRecursive: []string{""}, Persistent: []string{""}})
		other.wantReply(jute.XidSetWatches, jute.OK)
		cl.must(jute.OpCreate, create("/x", ""), &jute.CreateResponse{})
		other.quiet()
		remove := func(typ int32) jute.Code {
			return other.call(jute.OpRemoveWatches, &jute.WatchRequest{Type: typ}, nil).Err
		}
		for i, want := range []jute.Code{jute.OK, jute.NoWatcher} {
			if got := remove(5); got != want {
				t.Errorf("removal %d of the recursive one: %v, want %v", i, got, want)
			}
		}
		for i, want := range []jute.Code{jute.OK, jute.NoWatcher} {
			if got := remove(3); got != want {
				t.Errorf("removal %d of all: %v, want %v", i, got, want)
			}
		}
	})
}

// TestWatchesNeedPermission: who may not read is told nothing.
func TestWatchesNeedPermission(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		cl := w.connect(c, 30*time.Second)
		spy := w.connect(c, 30*time.Second)
		spy.must(jute.OpAddWatch, &jute.WatchRequest{Path: "/", Type: jute.ModePersistentRecursive}, &jute.IntResponse{})
		cl.must(jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("u:p")}, nil)
		mine := []jute.ACL{{Perms: 31, Scheme: "auth"}}
		cl.must(jute.OpCreate, &jute.CreateRequest{Path: "/hidden", ACL: mine}, &jute.CreateResponse{})
		cl.must(jute.OpCreate, create("/seen", ""), &jute.CreateResponse{})
		spy.wantNotification(coord.NodeCreated, "/seen")
		spy.send(jute.OpSetWatches, &jute.SetWatchesRequest{Data: []string{"/hidden"}, Exist: []string{"/hidden"}, Child: []string{"/hidden"}})
		spy.wantReply(jute.XidSetWatches, jute.OK)
		cl.must(jute.OpSetData, &jute.SetDataRequest{Path: "/hidden", Version: -1}, &jute.StatResponse{})
		spy.quiet()
	})
}

// TestSetWatches tells a client that was away what has changed, and registers the rest.
func TestSetWatches(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.Follower(t.Context()), w.Leader(t.Context())
		cl := w.connect(a, 30*time.Second)
		for _, p := range []string{"/same", "/set", "/gone", "/kids", "/kids2"} {
			cl.must(jute.OpCreate, create(p, ""), &jute.CreateResponse{})
		}
		seen := cl.must(jute.OpPing, nil, nil).Zxid
		_ = cl.nc.Close()
		if _, err := b.SetData(t.Context(), "/set", nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Delete(t.Context(), "/gone"); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"/new", "/kids/k"} {
			if _, _, err := b.Create(t.Context(), p, nil); err != nil {
				t.Fatal(err)
			}
		}
		again := w.reconnect(b, cl)
		again.send(jute.OpSetWatches2, &jute.SetWatches2Request{
			SetWatchesRequest: jute.SetWatchesRequest{
				RelativeZxid: seen, Data: []string{"/same", "/set", "/gone", "nonsense"}, Exist: []string{"/new", "/later"}, Child: []string{"/kids", "/kids2", "/gone"},
			},
			Persistent: []string{"/same"}, PersistentRecursive: []string{"/kids"},
		})
		for _, want := range []struct {
			typ  coord.EventType
			path string
		}{
			{coord.NodeDataChanged, "/set"},
			{coord.NodeDeleted, "/gone"},
			{coord.NodeDeleted, "nonsense"},
			{coord.NodeCreated, "/new"},
			{coord.NodeChildrenChanged, "/kids"},
			{coord.NodeDeleted, "/gone"},
		} {
			if h := again.wantNotification(want.typ, want.path); h.Zxid != -1 {
				t.Errorf("%v %s has zxid %d", want.typ, want.path, h.Zxid)
			}
		}
		again.wantReply(jute.XidSetWatches, jute.OK)
		set := again.send(jute.OpSetData, &jute.SetDataRequest{Path: "/same", Version: -1})
		again.wantNotification(coord.NodeDataChanged, "/same")
		again.wantReply(set, jute.OK)
		set = again.send(jute.OpSetData, &jute.SetDataRequest{Path: "/same", Version: -1})
		again.wantNotification(coord.NodeDataChanged, "/same") // the persistent one
		again.wantReply(set, jute.OK)
		again.must(jute.OpSetData, &jute.SetDataRequest{Path: "/set", Version: -1}, &jute.StatResponse{}) // told already
		made := again.send(jute.OpCreate, create("/later", ""))
		again.wantNotification(coord.NodeCreated, "/later")
		again.wantReply(made, jute.OK)
		made = again.send(jute.OpCreate, create("/kids2/k", ""))
		again.wantNotification(coord.NodeChildrenChanged, "/kids2")
		again.wantReply(made, jute.OK)
	})
}
