package jute_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"coord/internal/jute"
)

var stat = jute.Stat{Czxid: 1, Mzxid: 2, Ctime: 3, Mtime: 4, Version: 5, Cversion: 6, Aversion: 7, EphemeralOwner: 8, DataLength: 9, NumChildren: 10, Pzxid: 11}

var openACL = []jute.ACL{{Perms: 31, Scheme: "world", ID: "anyone"}}

// examples has records of all types, with null and empty fields.
var examples = []jute.Record{
	&jute.ConnectRequest{LastZxidSeen: 7, TimeoutMS: 4000, SessionID: 9, Password: make([]byte, 16), ReadOnly: true},
	&jute.ConnectRequest{TimeoutMS: 4000, Password: []byte{}, Short: true},
	&jute.ConnectResponse{TimeoutMS: 4000, SessionID: -9, Password: make([]byte, 16), ReadOnly: true},
	&jute.ConnectResponse{TimeoutMS: 4000, SessionID: 9, Short: true},
	&jute.RequestHeader{Xid: 1, Op: jute.OpCreate},
	&jute.ReplyHeader{Xid: 1, Zxid: 2, Err: jute.NoNode},
	&jute.CreateRequest{Path: "/a", Data: []byte("x"), ACL: openACL, Flags: 3},
	&jute.CreateRequest{Path: "/a"},
	&jute.CreateRequest{Path: "", Data: []byte{}, ACL: []jute.ACL{}},
	&jute.CreateTTLRequest{CreateRequest: jute.CreateRequest{Path: "/a", ACL: openACL, Flags: 5}, TTL: 1000},
	&jute.VersionRequest{Path: "/a", Version: -1},
	&jute.PathRequest{Path: "/a"},
	&jute.PrefixRequest{Prefix: "/a"},
	&jute.ReadRequest{Path: "/a", Watch: true},
	&jute.SetDataRequest{Path: "/a", Data: []byte("x"), Version: 3},
	&jute.SetACLRequest{Path: "/a", ACL: openACL, Version: 3},
	&jute.SyncRecord{Path: new("/a")},
	&jute.SyncRecord{},
	&jute.ReconfigRequest{Joining: new("server.1=a:1:2"), Leaving: nil, NewMembers: new(""), ConfigID: -1},
	&jute.WatchRequest{Path: "/a", Type: 3},
	&jute.SetWatchesRequest{RelativeZxid: 4, Data: []string{"/a", "/b"}, Exist: []string{}, Child: nil},
	&jute.SetWatches2Request{SetWatchesRequest: jute.SetWatchesRequest{RelativeZxid: 4}, Persistent: []string{"/a"}, PersistentRecursive: []string{"/"}},
	&jute.AuthRequest{Scheme: "digest", Auth: []byte("u:p")},
	&jute.SASLRecord{Token: []byte{}},
	&jute.MultiRequest{},
	&jute.MultiRequest{Ops: []jute.MultiOp{
		{Op: jute.OpCreate, Request: &jute.CreateRequest{Path: "/a", ACL: openACL}},
		{Op: jute.OpCreateTTL, Request: &jute.CreateTTLRequest{CreateRequest: jute.CreateRequest{Path: "/a"}, TTL: 5}},
		{Op: jute.OpDelete, Request: &jute.VersionRequest{Path: "/a"}},
		{Op: jute.OpGetData, Request: &jute.ReadRequest{Path: "/a"}},
	}},
	&jute.MultiResponse{Results: []jute.MultiResult{
		{Op: jute.OpCreate, Response: &jute.CreateResponse{Path: "/a"}},
		{Op: jute.OpCreate2, Response: &jute.Create2Response{Path: "/a", Stat: stat}},
		{Op: jute.OpDelete},
		{Op: jute.OpCheck},
		{Op: jute.OpSetData, Response: &jute.StatResponse{Stat: stat}},
		{Op: jute.OpGetChildren, Response: &jute.StringsResponse{Strings: []string{"a"}}},
		{Op: jute.OpError, Err: jute.BadVersion},
	}},
	&stat,
	&jute.CreateResponse{Path: "/a"},
	&jute.Create2Response{Path: "/a", Stat: stat},
	&jute.StatResponse{Stat: stat},
	&jute.GetDataResponse{Data: []byte("x"), Stat: stat},
	&jute.GetDataResponse{Data: nil, Stat: stat},
	&jute.GetACLResponse{ACL: openACL, Stat: stat},
	&jute.StringsResponse{Strings: []string{"a", ""}},
	&jute.GetChildren2Response{Children: []string{"a"}, Stat: stat},
	&jute.IntResponse{Value: 3},
	&jute.CheckWatchesRequest{WatchRequest: jute.WatchRequest{Path: "/a", Type: 3}},
	&jute.WhoAmIResponse{Clients: []jute.ClientInfo{{Scheme: "ip", User: "127.0.0.1"}}},
	&jute.WatcherEvent{Type: 1, State: jute.StateSyncConnected, Path: "/a"},
}

// empty returns a new record of the type of r.
func empty(r jute.Record) jute.Record {
	return reflect.New(reflect.TypeOf(r).Elem()).Interface().(jute.Record)
}

// TestRoundTrip encodes and decodes records of all types. Every prefix of the
// bytes is refused, but where the protocol has an optional field.
func TestRoundTrip(t *testing.T) {
	for _, r := range examples {
		b := jute.Marshal(r)
		got := empty(r)
		if err := jute.Unmarshal(b, got); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%T: %+v, %v; want %+v", r, got, err, r)
		}
		for n := range b {
			err := jute.Unmarshal(b[:n], empty(r))
			switch r.(type) {
			case *jute.ConnectRequest, *jute.ConnectResponse:
				if n == len(b)-1 {
					continue
				}
			}
			if !errors.Is(err, jute.ErrMalformed) {
				t.Errorf("%T: the first %d of %d bytes: %v", r, n, len(b), err)
			}
		}
	}
}

// TestEveryOpHasAnExample has the examples cover what the operations use.
func TestEveryOpHasAnExample(t *testing.T) {
	have := map[reflect.Type]bool{}
	for _, r := range examples {
		have[reflect.TypeOf(r)] = true
	}
	for o := jute.Op(-12); o < 120; o++ {
		for _, r := range []jute.Record{jute.NewRequest(o), jute.NewResponse(o)} {
			if r != nil && !have[reflect.TypeOf(r)] {
				t.Errorf("%v: no example of %T", o, r)
			}
		}
	}
}

// TestKnownBytes compares with frames of a ZooKeeper server and client, written
// down field by field.
func TestKnownBytes(t *testing.T) {
	for _, c := range []struct {
		r    jute.Record
		want string
	}{
		{
			&jute.ConnectRequest{TimeoutMS: 10000, Password: make([]byte, 16)},
			"00000000 0000000000000000 00002710 0000000000000000 00000010" + strings.Repeat("00", 16) + "00",
		},
		{
			&jute.CreateRequest{Path: "/a", Data: []byte("hi"), ACL: openACL, Flags: 1},
			"00000002 2f61 00000002 6869 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000001",
		},
		{&jute.GetDataResponse{Stat: jute.Stat{Pzxid: 1}}, "ffffffff" + strings.Repeat("00", 67) + "01"},
		{&jute.MultiRequest{}, "ffffffff 01 ffffffff"},
		{
			&jute.MultiResponse{Results: []jute.MultiResult{{Op: jute.OpError, Err: jute.NoNode}}},
			"ffffffff 00 ffffff9b ffffff9b ffffffff 01 ffffffff",
		},
		{&jute.WatcherEvent{Type: 3, State: 3, Path: "/a"}, "00000003 00000003 00000002 2f61"},
	} {
		want := strings.ReplaceAll(c.want, " ", "")
		if got := hex.EncodeToString(jute.Marshal(c.r)); got != want {
			t.Errorf("%T:\n got %s\nwant %s", c.r, got, want)
		}
	}
}

// TestLengthsBeforeAllocation gives lengths that are not there: decoding fails
// without making room for them.
func TestLengthsBeforeAllocation(t *testing.T) {
	huge := []byte{0x7f, 0xff, 0xff, 0xff}
	long := make([]byte, 8)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		for _, c := range []struct {
			r jute.Record
			b []byte
		}{
			{&jute.StringsResponse{}, huge},
			{&jute.PathRequest{}, huge},
			{&jute.SASLRecord{}, huge},
			{&jute.GetACLResponse{}, huge},
			{&jute.WhoAmIResponse{}, huge},
			{&jute.SetWatchesRequest{}, slices.Concat(long, huge)},
		} {
			if err := jute.Unmarshal(c.b, c.r); !errors.Is(err, jute.ErrMalformed) {
				t.Fatalf("%T: %v", c.r, err)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
}

func TestLengths(t *testing.T) {
	minusTwo := []byte{0xff, 0xff, 0xff, 0xfe}
	if err := jute.Unmarshal(minusTwo, &jute.SASLRecord{}); !errors.Is(err, jute.ErrMalformed) {
		t.Errorf("a buffer of length -2: %v", err)
	}
	var s jute.StringsResponse
	if err := jute.Unmarshal(minusTwo, &s); err != nil || s.Strings == nil || len(s.Strings) != 0 {
		t.Errorf("a vector of length -2: %v, %v; want an empty one", s, err)
	}
	null := []byte{0xff, 0xff, 0xff, 0xff}
	if err := jute.Unmarshal(null, &jute.PathRequest{}); !errors.Is(err, jute.ErrMalformed) {
		t.Errorf("a null path: %v", err)
	}
	behind := append(jute.Marshal(&jute.PathRequest{Path: "/a"}), 1, 2, 3)
	var p jute.PathRequest
	if err := jute.Unmarshal(behind, &p); err != nil || p.Path != "/a" {
		t.Errorf("bytes behind a record: %v, %v", p, err)
	}
}

func TestNames(t *testing.T) {
	if got := jute.OpGetAllChildrenNumber.String() + " " + jute.Op(999).String(); got != "getAllChildrenNumber Op(999)" {
		t.Error(got)
	}
	if got := jute.NoNode.String() + ", " + jute.Code(-99).String(); got != "no node, Code(-99)" {
		t.Error(got)
	}
}

// fuzzedTypes has an example of each type, by name, in a fixed order.
func fuzzedTypes() []jute.Record {
	byName := map[string]jute.Record{}
	for _, r := range examples {
		byName[reflect.TypeOf(r).String()] = r
	}
	names := slices.Sorted(maps.Keys(byName))
	all := make([]jute.Record, 0, len(names))
	for _, n := range names {
		all = append(all, byName[n])
	}
	return all
}

// FuzzRecords decodes anything as a record of any type. What was decoded is the same
// after it was encoded and decoded again, and encodes to the same bytes, which are no
// more than there were: no length has made anything of nothing.
func FuzzRecords(f *testing.F) {
	types := fuzzedTypes()
	for i, r := range types {
		f.Add(byte(i), jute.Marshal(r))
	}
	for _, r := range examples {
		i := slices.IndexFunc(types, func(o jute.Record) bool { return reflect.TypeOf(o) == reflect.TypeOf(r) })
		f.Add(byte(i), jute.Marshal(r))
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		r := empty(types[int(kind)%len(types)])
		if jute.Unmarshal(b, r) != nil {
			return
		}
		again := empty(r)
		first := jute.Marshal(r)
		if len(first) > len(b) {
			t.Fatalf("%T: %d bytes became %d", r, len(b), len(first))
		}
		if err := jute.Unmarshal(first, again); err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%T: %+v became %+v, %v", r, r, again, err)
		}
		if second := jute.Marshal(again); !bytes.Equal(first, second) {
			t.Fatalf("%T: %x became %x", r, first, second)
		}
	})
}
