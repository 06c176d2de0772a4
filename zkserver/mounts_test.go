package zkserver_test

import (
	"fmt"
	"testing"
	"time"

	"coord"
	"coord/internal/jute"
)

// TestClientsSeeOneTree has a client use a tree with a mount that comes and goes: its
// one-shot and lasting watches stay, on whatever side they were set, its notifications
// come before what they are about, and it is told no zxid that it could not show elsewhere.
func TestClientsSeeOneTree(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cl := w.connect(w.Follower(t.Context()), 30*time.Second)
		leader := w.Leader(t.Context())
		cl.must(jute.OpCreate, create("/q", "moved"), &jute.CreateResponse{})
		cl.must(jute.OpGetData, get("/q", true), &jute.GetDataResponse{})
		cl.must(jute.OpGetChildren, get("/q", true), &jute.StringsResponse{})
		if h := cl.call(jute.OpExists, get("/q/x", true), nil); h.Err != jute.NoNode {
			t.Fatal(h.Err)
		}
		cl.must(jute.OpAddWatch, &jute.WatchRequest{Path: "/", Type: jute.ModePersistentRecursive}, &jute.IntResponse{})
		if err := leader.Mount(t.Context(), "/q"); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/zookeeper/quota/q"} { // the mount's place for quotas
			cl.wantNotification(coord.NodeCreated, path)
		}
		// What was registered before the move is told behind it.
		made := cl.send(jute.OpCreate, create("/q/x", ""))
		cl.wantNotification(coord.NodeCreated, "/q/x")
		cl.wantNotification(coord.NodeChildrenChanged, "/q")
		cl.wantReply(made, jute.OK)
		set := cl.send(jute.OpSetData, &jute.SetDataRequest{Path: "/q", Version: -1})
		cl.wantNotification(coord.NodeDataChanged, "/q")
		cl.wantReply(set, jute.OK)

		// Requests that are sent without waiting take effect in order.
		var xids []int32
		for i := range 5 {
			xids = append(xids,
				cl.send(jute.OpSetData, &jute.SetDataRequest{Path: "/q/x", Data: fmt.Append(nil, i), Version: -1}),
				cl.send(jute.OpCreate, create(fmt.Sprintf("/beside%d", i), "")),
				cl.send(jute.OpGetData, get("/q/x", false)))
		}
		// Each notification comes before the answer to what it is of; what is on the other
		// side of the mount may be told sooner.
		told := 0
		for i, xid := range xids {
			r, ok := cl.receive()
			for ; ok && r.Xid == jute.XidNotification; r, ok = cl.receive() {
				told++
			}
			if !ok || r.Xid != xid || r.Err != jute.OK {
				t.Fatalf("frame %+v, %v; want the answer to %d", r.ReplyHeader, ok, xid)
			}
			if writes := i/3*2 + min(i%3+1, 2); told < writes {
				t.Errorf("%d notifications before the answer to write %d", told, writes)
			}
			var got jute.GetDataResponse
			if i%3 == 2 {
				if err := jute.Unmarshal(r.body, &got); err != nil || string(got.Data) != fmt.Sprint(i/3) {
					t.Errorf("read %d got %q, %v", i/3, got.Data, err)
				}
			}
		}
		if told != 10 {
			t.Errorf("%d notifications of 10 writes", told)
		}

		// A multi cannot span the mount, and its point cannot go.
		if h := cl.call(jute.OpDelete, &jute.VersionRequest{Path: "/q", Version: -1}, nil); h.Err != jute.NotEmpty {
			t.Errorf("delete of a mount point: %v", h.Err)
		}

		// Another server shows the client what it has seen, also of a group where little happens.
		for _, path := range []string{"/q/x", "/beside0"} {
			cl.must(jute.OpGetData, get(path, false), &jute.GetDataResponse{})
		}
		back := w.reconnect(leader, cl)
		back.must(jute.OpGetData, get("/q/x", false), &jute.GetDataResponse{})
		back.must(jute.OpDelete, &jute.VersionRequest{Path: "/q/x", Version: -1}, nil)
		back.must(jute.OpGetData, get("/q", true), &jute.GetDataResponse{})
		if err := leader.Unmount(t.Context(), "/q"); err != nil {
			t.Fatal(err)
		}
		set = back.send(jute.OpSetData, &jute.SetDataRequest{Path: "/q", Version: -1})
		back.wantNotification(coord.NodeDataChanged, "/q")
		back.wantReply(set, jute.OK)
	})
}

// TestReconnectsUnderWrites has clients that write to two groups leave one server for
// another again and again: what a client has seen, it sees everywhere.
func TestReconnectsUnderWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		for _, path := range []string{"/a", "/b"} {
			if _, _, err := c.Create(t.Context(), path, nil, coord.WithACL(coord.OpenACL()...)); err != nil {
				t.Fatal(err)
			}
			if err := c.Mount(t.Context(), path); err != nil {
				t.Fatal(err)
			}
		}
		all := w.Running()
		cl := w.connect(all[0], 30*time.Second)
		cl.must(jute.OpCreate, ephemeral("/a/e"), &jute.CreateResponse{})
		seen := map[string]int32{}
		for i := range 12 {
			for _, path := range []string{"/a", "/b", "/a"} {
				var st jute.StatResponse
				cl.must(jute.OpSetData, &jute.SetDataRequest{Path: path, Version: -1}, &st)
				seen[path] = st.Stat.Version
			}
			cl = w.reconnect(all[(i+1)%len(all)], cl)
			for path, version := range seen {
				var got jute.GetDataResponse
				cl.must(jute.OpGetData, get(path, false), &got)
				if got.Stat.Version < version {
					t.Errorf("round %d: %s is at version %d, the client has seen %d", i, path, got.Stat.Version, version)
				}
			}
			cl.must(jute.OpGetData, get("/a/e", false), &jute.GetDataResponse{})
		}
	})
}
