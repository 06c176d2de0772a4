package zkserver_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/internal/jute"
)

// TestCodes asks for what is refused, and compares the code with ZooKeeper's.
func TestCodes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cl := w.connect(w.Follower(t.Context()), 30*time.Second)
		cl.must(jute.OpCreate, create("/a", ""), &jute.CreateResponse{})
		cl.must(jute.OpCreate, create("/a/b", ""), &jute.CreateResponse{})
		cl.must(jute.OpCreate, ephemeral("/e"), &jute.CreateResponse{})
		with := func(path string, flags int32, acl []jute.ACL) *jute.CreateRequest {
			return &jute.CreateRequest{Path: path, ACL: acl, Flags: flags}
		}
		ttl := func(path string, flags int32, ms int64) *jute.CreateTTLRequest {
			return &jute.CreateTTLRequest{CreateRequest: *with(path, flags, open), TTL: ms}
		}
		version := func(path string, v int32) *jute.VersionRequest { return &jute.VersionRequest{Path: path, Version: v} }
		for i, c := range []struct {
			op   jute.Op
			req  jute.Record
			want jute.Code
		}{
			{jute.OpCreate, create("/a", ""), jute.NodeExists},
			{jute.OpCreate, create("/", ""), jute.NodeExists},
			{jute.OpCreate, create("/nope/x", ""), jute.NoNode},
			{jute.OpCreate, create("/nope/", ""), jute.NoNode},
			{jute.OpCreate, create("/a/", ""), jute.BadArguments},
			{jute.OpCreate, create("a", ""), jute.BadArguments},
			{jute.OpCreate, create("/e/x", ""), jute.NoChildrenForEphemerals},
			{jute.OpCreate, with("/x", 7, open), jute.BadArguments},
			{jute.OpCreate, with("/x", -1, open), jute.BadArguments},
			{jute.OpCreate, with("/x", 256, open), jute.BadArguments},
			{jute.OpCreate, with("/x", 5, open), jute.BadArguments},
			{jute.OpCreate, with("/a", 0, nil), jute.InvalidACL},
			{jute.OpCreate, with("/nope/a", 0, []jute.ACL{}), jute.InvalidACL},
			{jute.OpCreate, with("/x", 0, []jute.ACL{{Perms: 31, Scheme: "world", ID: "bob"}}), jute.InvalidACL},
			{jute.OpCreateContainer, with("/x", 1, open), jute.BadArguments},
			{jute.OpCreateTTL, ttl("/x", 0, 5), jute.BadArguments},
			{jute.OpCreateTTL, ttl("/x", 5, 0), jute.BadArguments},
			{jute.OpCreateTTL, ttl("/x", 5, -1), jute.BadArguments},
			{jute.OpCreateTTL, ttl("/x", 5, 1<<40), jute.BadArguments},
			{jute.OpCreateTTL, ttl("/x", 5, 1<<62), jute.BadArguments},
			{jute.OpDelete, version("/a", -1), jute.NotEmpty},
			{jute.OpDelete, version("/a", 7), jute.BadVersion},
			{jute.OpDelete, version("/a/b", -2), jute.BadVersion},
			{jute.OpDelete, version("/", -1), jute.BadArguments},
			{jute.OpDelete, version("/zookeeper", 9), jute.BadArguments},
			{jute.OpDelete, version("", -1), jute.BadArguments},
			{jute.OpDelete, version("/a/", -1), jute.NoNode},
			{jute.OpDelete, version("/nope", -1), jute.NoNode},
			{jute.OpDeleteContainer, &jute.PathRequest{Path: "/a/b"}, jute.BadArguments},
			{jute.OpSetData, &jute.SetDataRequest{Path: "", Version: -1}, jute.BadArguments},
			{jute.OpSetData, &jute.SetDataRequest{Path: "/nope", Version: -1}, jute.NoNode},
			{jute.OpSetData, &jute.SetDataRequest{Path: "/a", Version: 7}, jute.BadVersion},
			{jute.OpSetACL, &jute.SetACLRequest{Path: "/nope", Version: -1}, jute.InvalidACL},
			{jute.OpSetACL, &jute.SetACLRequest{Path: "/a", ACL: open, Version: 7}, jute.BadVersion},
			{jute.OpExists, get("/nope", false), jute.NoNode},
			{jute.OpExists, get("nope", true), jute.NoNode},
			{jute.OpExists, get("/a\x00", true), jute.BadArguments},
			{jute.OpGetData, get("/a/", true), jute.NoNode},
			{jute.OpGetChildren, get("/nope", true), jute.NoNode},
			{jute.OpGetChildren2, get("//", false), jute.NoNode},
			{jute.OpGetACL, &jute.PathRequest{Path: "/nope"}, jute.NoNode},
			{jute.OpGetAllChildrenNumber, &jute.PathRequest{Path: "/nope"}, jute.NoNode},
			{jute.OpCheckWatches, &jute.WatchRequest{Path: "/a", Type: 3}, jute.NoWatcher},
			{jute.OpRemoveWatches, &jute.WatchRequest{Path: "/a", Type: 1}, jute.NoWatcher},
			{jute.OpRemoveWatches, &jute.WatchRequest{Path: "/a", Type: 6}, jute.MarshallingError},
			{jute.OpAddWatch, &jute.WatchRequest{Path: "/a", Type: 2}, jute.MarshallingError},
			{jute.OpReconfig, &jute.ReconfigRequest{}, jute.ReconfigDisabled},
			{jute.OpCreate, nil, jute.MarshallingError},                 // no body
			{jute.OpGetData, &jute.SyncRecord{}, jute.MarshallingError}, // a null path
			{jute.OpMulti, multi(jute.OpGetData, get("/a", false)), jute.MarshallingError},
			{jute.OpMulti, multi(jute.OpCreate, with("/x", 9, open)), jute.MarshallingError},
			{jute.OpMulti, multi(jute.OpCreate, with("/x", 5, open)), jute.MarshallingError},
			// Null paths, with what follows them.
			{jute.OpSetData, nullPath(-1, 0), jute.BadArguments},
			{jute.OpSetACL, nullPath(-1, 0), jute.BadArguments},
			{jute.OpRemoveWatches, nullPath(3), jute.NoWatcher},
			{jute.OpCheckWatches, nullPath(3), jute.MarshallingError},
			{jute.OpDelete, nullPath(-1), jute.MarshallingError},
			{jute.OpMulti, multi(jute.OpSetData, nullPath(-1, 0)), jute.MarshallingError},
			{jute.OpMulti, multi(jute.OpDelete, nullPath(-1)), jute.MarshallingError},
			{jute.OpMultiRead, multi(jute.OpDelete, version("/a", -1)), jute.MarshallingError},
		} {
			h := cl.call(c.op, c.req, nil)
			if h.Err != c.want || h.Zxid <= 0 {
				t.Errorf("%d: %v %+v = %v at %d, want %v", i, c.op, c.req, h.Err, h.Zxid, c.want)
			}
		}
		for _, o := range []jute.Op{jute.OpCheck, jute.OpNotification, jute.OpCreateSession, jute.OpSASL, 999} {
			cl := w.connect(w.Leader(t.Context()), 30*time.Second)
			if h := cl.call(o, version("/a", 0), nil); h.Err != jute.Unimplemented || h.Zxid != -1 {
				t.Errorf("%v = %+v", o, h)
			}
			cl.wantClosed()
		}
	})
}

func multi(o jute.Op, req jute.Record) *jute.MultiRequest {
	return &jute.MultiRequest{Ops: []jute.MultiOp{{Op: o, Request: req}}}
}

// A rawBody is a body of numbers that no record would make.
type rawBody []int32

func (r rawBody) AppendTo(b []byte) []byte {
	for _, n := range r {
		b = jute.AppendInt(b, n)
	}
	return b
}

func (r rawBody) DecodeFrom(*jute.Decoder) {}

func nullPath(rest ...int32) rawBody { return append(rawBody{-1}, rest...) }

// TestImpossibleTTLs: a negative TTL with a mode that has none ends a ZooKeeper 3.8.0 for
// good. Here it is refused, and all members go on.
func TestImpossibleTTLs(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cl := w.connect(w.Follower(t.Context()), 30*time.Second)
		for flags := range int32(5) {
			for _, ms := range []int64{-1, math.MinInt64} {
				req := &jute.CreateTTLRequest{CreateRequest: jute.CreateRequest{Path: "/x", ACL: open, Flags: flags}, TTL: ms}
				if h := cl.call(jute.OpCreateTTL, req, nil); h.Err != jute.BadArguments {
					t.Errorf("flags %d, TTL %d: %v", flags, ms, h.Err)
				}
				if h := cl.call(jute.OpMulti, multi(jute.OpCreateTTL, req), nil); h.Err != jute.MarshallingError {
					t.Errorf("flags %d, TTL %d in a multi: %v", flags, ms, h.Err)
				}
			}
		}
		for i, c := range w.Running() {
			other := w.connect(c, 30*time.Second)
			other.must(jute.OpCreate, create(fmt.Sprint("/y", i), ""), &jute.CreateResponse{})
			if exists(t, c, "/x") {
				t.Errorf("%v has what was refused", c.Status().Member)
			}
		}
	})
}

// TestAnswers asks for everything once and looks at what the answers say.
func TestAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cl := w.connect(w.Follower(t.Context()), 30*time.Second)
		var made jute.CreateResponse
		h := cl.must(jute.OpCreate, create("/a", "x"), &made)
		if made.Path != "/a" {
			t.Errorf("create = %+v", made)
		}
		var two jute.Create2Response
		h2 := cl.must(jute.OpCreate2, &jute.CreateRequest{Path: "/a/s-", ACL: open, Flags: 3}, &two)
		if two.Path != "/a/s-0000000000" || two.Stat.EphemeralOwner != cl.id || two.Stat.Czxid != h2.Zxid || h2.Zxid <= h.Zxid {
			t.Errorf("create2 = %+v at %d", two, h2.Zxid)
		}
		cl.must(jute.OpCreateContainer, &jute.CreateRequest{Path: "/a/c", ACL: open, Flags: 4}, &two)
		cl.must(jute.OpCreateTTL, &jute.CreateTTLRequest{CreateRequest: jute.CreateRequest{Path: "/a/t", ACL: open, Flags: 5}, TTL: 60000}, &two)
		if two.Path != "/a/t" || two.Stat.EphemeralOwner != 0 {
			t.Errorf("createTTL = %+v", two)
		}
		cl.must(jute.OpCreate, &jute.CreateRequest{Path: "/a/null", ACL: open, Flags: 4}, &made) // a container by the flag alone is none

		var data jute.GetDataResponse
		cl.must(jute.OpGetData, get("/a", false), &data)
		if string(data.Data) != "x" || data.Stat.Cversion != 4 || data.Stat.NumChildren != 4 || data.Stat.Czxid != h.Zxid {
			t.Errorf("getData = %+v", data)
		}
		cl.must(jute.OpGetData, get("/a/null", false), &data)
		if data.Data != nil {
			t.Errorf("null data became %q", data.Data)
		}
		cl.must(jute.OpGetData, get("", false), &data) // the root
		var stat jute.StatResponse
		h = cl.must(jute.OpSetData, &jute.SetDataRequest{Path: "/a", Data: []byte{}, Version: 0}, &stat)
		if stat.Stat.Version != 1 || stat.Stat.Mzxid != h.Zxid {
			t.Errorf("setData = %+v at %d", stat, h.Zxid)
		}
		cl.must(jute.OpGetData, get("/a", false), &data)
		if data.Data == nil || len(data.Data) != 0 {
			t.Errorf("empty data became %v", data.Data)
		}
		cl.must(jute.OpExists, get("/a", false), &stat)
		var names jute.StringsResponse
		cl.must(jute.OpGetChildren, get("/a", false), &names)
		if want := []string{"c", "null", "s-0000000000", "t"}; !reflect.DeepEqual(names.Strings, want) {
			t.Errorf("getChildren = %v", names.Strings)
		}
		var children jute.GetChildren2Response
		cl.must(jute.OpGetChildren2, get("/a", false), &children)
		if len(children.Children) != 4 || children.Stat.Version != 1 {
			t.Errorf("getChildren2 = %+v", children)
		}
		var number jute.IntResponse
		cl.must(jute.OpGetAllChildrenNumber, &jute.PathRequest{Path: "/a"}, &number)
		if number.Value != 4 {
			t.Errorf("getAllChildrenNumber = %d", number.Value)
		}
		for prefix, want := range map[string]int{"": 1, "/": 1, "/a/s": 1, "/b": 0} {
			cl.must(jute.OpGetEphemerals, &jute.PrefixRequest{Prefix: prefix}, &names)
			if len(names.Strings) != want {
				t.Errorf("getEphemerals(%q) = %v", prefix, names.Strings)
			}
		}
		path := "any thing"
		var synced jute.SyncRecord
		cl.must(jute.OpSync, &jute.SyncRecord{Path: &path}, &synced)
		if *synced.Path != path {
			t.Errorf("sync = %q", *synced.Path)
		}
		cl.must(jute.OpSync, &jute.SyncRecord{}, &synced)
		var acl jute.GetACLResponse
		cl.must(jute.OpGetACL, &jute.PathRequest{Path: "/a"}, &acl)
		if !reflect.DeepEqual(acl.ACL, open) {
			t.Errorf("getACL = %+v", acl)
		}
		cl.must(jute.OpSetACL, &jute.SetACLRequest{Path: "/a", ACL: open, Version: 0}, &stat)
		if stat.Stat.Aversion != 1 {
			t.Errorf("setACL = %+v", stat)
		}
		cl.must(jute.OpDelete, &jute.VersionRequest{Path: "/a/t", Version: 0}, nil)
		var who jute.WhoAmIResponse
		cl.must(jute.OpWhoAmI, nil, &who)
		if want := []jute.ClientInfo{{Scheme: "ip", User: "10.0.0.1"}}; !reflect.DeepEqual(who.Clients, want) {
			t.Errorf("whoAmI = %+v", who)
		}
		failed := cl.call(jute.OpDelete, &jute.VersionRequest{Path: "/nope"}, nil)
		if next := cl.must(jute.OpPing, nil, nil); failed.Err != jute.NoNode || next.Zxid != failed.Zxid {
			t.Errorf("a failed write is at %d, the next answer at %d", failed.Zxid, next.Zxid)
		}
		cl.must(jute.OpCloseSession, nil, nil)
		cl.wantClosed()
		if exists(t, w.Leader(t.Context()), "/a/s-0000000000") {
			t.Error("the ephemeral of a closed session is there")
		}
	})
}

// TestMulti has multis that succeed and fail, also by what is refused before anything is
// proposed: the first that fails counts.
func TestMulti(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cl := w.connect(w.Follower(t.Context()), 30*time.Second)
		invalid := &jute.CreateRequest{Path: "/m/x", Data: make([]byte, 1), ACL: []jute.ACL{{Perms: 1, Scheme: strings.Repeat("s", 2000), ID: "x"}}}
		ops := func(all ...any) *jute.MultiRequest {
			m := &jute.MultiRequest{}
			for i := 0; i < len(all); i += 2 {
				m.Ops = append(m.Ops, jute.MultiOp{Op: all[i].(jute.Op), Request: all[i+1].(jute.Record)})
			}
			return m
		}
		var resp jute.MultiResponse
		h := cl.must(jute.OpMulti, ops(
			jute.OpCreate, create("/m", ""), jute.OpCreate2, create("/m/a", ""),
			jute.OpCreateContainer, &jute.CreateRequest{Path: "/m/c", ACL: open, Flags: 4},
			jute.OpSetData, &jute.SetDataRequest{Path: "/m", Version: 0}, jute.OpCheck, &jute.VersionRequest{Path: "/m", Version: 1},
			jute.OpDelete, &jute.VersionRequest{Path: "/m/a", Version: -1}), &resp)
		var got []string
		for _, r := range resp.Results {
			got = append(got, r.Op.String())
		}
		if want := "create create create2 setData check delete"; strings.Join(got, " ") != want {
			t.Errorf("multi = %v", got)
		}
		if r := resp.Results[3].Response.(*jute.StatResponse); r.Stat.Mzxid != h.Zxid {
			t.Errorf("multi at %d has %+v", h.Zxid, r)
		}
		// The mode decides what is made, and how that is told.
		cl.must(jute.OpMulti, ops(
			jute.OpCreateContainer, create("/m/p", ""), jute.OpCreateContainer, &jute.CreateRequest{Path: "/m/s-", ACL: open, Flags: 3},
			jute.OpCreate, &jute.CreateRequest{Path: "/m/d", ACL: open, Flags: 4}, jute.OpCreate, create("/m/d/x", ""),
			jute.OpDelete, &jute.VersionRequest{Path: "/m/d/x", Version: -1},
			jute.OpCreateTTL, &jute.CreateTTLRequest{CreateRequest: jute.CreateRequest{Path: "/m/t", ACL: open, Flags: 5}, TTL: 1 << 30}), &resp)
		got = nil
		for _, r := range resp.Results {
			got = append(got, r.Op.String())
		}
		if want := "create create create2 create delete create2"; strings.Join(got, " ") != want {
			t.Errorf("multi = %v", got)
		}
		var stat jute.StatResponse
		cl.must(jute.OpExists, get(resp.Results[1].Response.(*jute.CreateResponse).Path, false), &stat)
		if stat.Stat.EphemeralOwner != cl.id {
			t.Errorf("an ephemeral is %+v", stat)
		}
		for range 200 { // a container that has had a child goes away
			cl.keepAlive(10 * time.Second)
			if !exists(t, w.Leader(t.Context()), "/m/d") {
				break
			}
		}
		if l := w.Leader(t.Context()); exists(t, l, "/m/d") || !exists(t, l, "/m/p") {
			t.Error("what is a container is not told by the mode")
		}
		for _, c := range []struct {
			name string
			req  *jute.MultiRequest
			want []jute.Code
		}{
			{"the second fails", ops(jute.OpCreate, create("/m/x", ""), jute.OpDelete, &jute.VersionRequest{Path: "/nope"}, jute.OpDelete, &jute.VersionRequest{Path: "/m"}), []jute.Code{0, jute.NoNode, jute.RuntimeInconsistency}},
			{"the second is refused", ops(jute.OpCreate, create("/m/x", ""), jute.OpCreate, invalid, jute.OpDelete, &jute.VersionRequest{Path: "/m"}), []jute.Code{0, jute.InvalidACL, jute.RuntimeInconsistency}},
			{"the first fails and the second is refused", ops(jute.OpCreate, create("/m", ""), jute.OpCreate, invalid), []jute.Code{jute.NodeExists, jute.RuntimeInconsistency}},
		} {
			h := cl.must(jute.OpMulti, c.req, &resp)
			var codes []jute.Code
			for i, r := range resp.Results {
				codes = append(codes, r.Err)
				if r.Op != jute.OpError {
					t.Errorf("%s: result %d is %v", c.name, i, r.Op)
				}
			}
			// What is cut off behind the one that was refused is told all the same.
			if !reflect.DeepEqual(codes, c.want) || h.Zxid == 0 {
				t.Errorf("%s: %v, want %v", c.name, codes, c.want)
			}
		}
		cl.must(jute.OpMulti, ops(), &resp)
		cl.must(jute.OpMultiRead, ops(jute.OpGetData, get("/m", true), jute.OpGetData, get("/nope", false), jute.OpGetChildren, get("/m", false)), &resp)
		if len(resp.Results) != 3 || resp.Results[1].Err != jute.NoNode || resp.Results[2].Op != jute.OpGetChildren {
			t.Errorf("multiRead = %+v", resp)
		}
	})
}

// TestC1PipelinesKeepOrder sends reads between writes without waiting: each read shows
// the writes before it and none behind it.
func TestC1PipelinesKeepOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, c := range []*coord.Coordinator{w.Leader(t.Context()), w.Follower(t.Context())} {
			cl := w.connect(c, 30*time.Second)
			const n = 200
			for i := range n {
				cl.send(jute.OpExists, get("/p", false))
				cl.send(jute.OpCreate, create("/p", ""))
				cl.send(jute.OpSetData, &jute.SetDataRequest{Path: "/p", Data: fmt.Append(nil, i), Version: 0})
				cl.send(jute.OpGetData, get("/p", false))
				cl.send(jute.OpPing, nil)
				if i%10 == 0 {
					cl.send(jute.OpSync, &jute.SyncRecord{})
					cl.send(jute.OpGetData, get("/p", false))
				}
				cl.send(jute.OpDelete, &jute.VersionRequest{Path: "/p", Version: 1})
			}
			last := int64(0)
			next := func(want jute.Code, resp jute.Record) {
				t.Helper()
				r, ok := cl.receive()
				if !ok || r.Err != want || r.Zxid < last {
					t.Fatalf("answer %+v, %v; want %v, zxid at least %d", r.ReplyHeader, ok, want, last)
				}
				last = r.Zxid
				if resp != nil && r.Err == jute.OK {
					if err := jute.Unmarshal(r.body, resp); err != nil {
						t.Fatal(err)
					}
				}
			}
			for i := range n {
				next(jute.NoNode, nil)
				next(jute.OK, nil)
				next(jute.OK, nil)
				var data jute.GetDataResponse
				next(jute.OK, &data)
				if string(data.Data) != fmt.Sprint(i) {
					t.Fatalf("read %d shows %q", i, data.Data)
				}
				next(jute.OK, nil)
				if i%10 == 0 {
					next(jute.OK, nil)
					next(jute.OK, &data)
					if string(data.Data) != fmt.Sprint(i) {
						t.Fatalf("read %d behind a sync shows %q", i, data.Data)
					}
				}
				next(jute.OK, nil)
			}
		}
	})
}
