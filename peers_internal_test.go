package coord

import (
	"bytes"
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"coord/internal/raftnode/peernet"
	"coord/internal/raftnode/raftdir"
	"coord/internal/replica"
)

func statusOf(st *Status) []byte { return statusIn(st, statusVersion) }

func statusIn(st *Status, version uint64) []byte {
	e := newEncoder()
	e.status(st, version)
	return e.buf.Bytes()
}

func statusRequestOf(version uint64) []byte {
	e := newEncoder()
	e.statusRequest(version)
	return e.buf.Bytes()
}

func goldenStatus() *Status {
	return &Status{
		Ensemble: "golden", EnsembleID: 0x1122334455667788, Member: 2, Role: Following, Leader: 3, Term: 4, HasQuorum: true, ZXID: 0x2a,
		Members: []MemberState{
			{ID: 1, Addr: "a:7000", SinceTouch: 1500 * time.Millisecond}, {ID: 2, Addr: "b:7000"}, {ID: 3, Addr: "c:7000", Role: Observer, SinceTouch: -1},
		},
		Groups: []GroupStatus{
			{Group: 1, Role: Following, Leader: 3, Term: 4, HasQuorum: true, ZXID: 0x2a, Lag: 20 * time.Millisecond},
			{Group: 7, Role: Looking, Term: 1<<64 - 1, ZXID: 1<<64 - 1, Lag: -1},
		},
		Lag:    20 * time.Millisecond,
		Znodes: 5, Sessions: 6, Watches: 7, MaxDataBytes: 1 << 20,
		MinSessionTimeout: 4 * time.Second, MaxSessionTimeout: 7 * 24 * time.Hour, Health: "coord: member 2: suspended",
		FormatVersion: 1, OldestFormat: 1, NewestFormat: 2,
	}
}

// Members are asked by others of their own time, of the one before, and of the next.
func TestGoldenStatus(t *testing.T) {
	want := goldenStatus()
	got, err := decodeStatus(golden(t, formatVersion, "member-status", statusOf(want)))
	if err != nil || !reflect.DeepEqual(&got, want) {
		t.Errorf("decoded\n%+v, %v, want\n%+v", got, err, want)
	}
	// Binaries that answer in version 1 know no other version of anything.
	old, err := decodeStatus(golden(t, oldestFormat, "member-status", statusIn(want, 1)))
	fromOld := *want
	fromOld.NewestFormat = 1
	fromOld.Lag, fromOld.Groups, fromOld.Members = -1, nil, slices.Clone(want.Members)
	for i := range fromOld.Members {
		fromOld.Members[i].Role, fromOld.Members[i].SinceTouch = Voter, -1
	}
	if err != nil || !reflect.DeepEqual(old, fromOld) {
		t.Errorf("decoded from version 1\n%+v, %v, want\n%+v", old, err, fromOld)
	}
	v := reflect.ValueOf(*want)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("field %s is not covered", v.Type().Field(i).Name)
		}
	}
	newer := bytes.Clone(statusOf(want))
	newer[3] = statusVersion + 1 // behind the head of a long array
	if _, err := decodeStatus(newer); !errors.Is(err, errNewerFormat) {
		t.Errorf("a newer version: %v", err)
	}
}

// TestStatusIsAnsweredAsAsked sees that members of an older and of a newer binary get
// answers that they can read.
func TestStatusIsAnsweredAsAsked(t *testing.T) {
	request := golden(t, formatVersion, "member-status-request", statusRequestOf(statusVersion))
	for _, c := range []struct {
		name string
		body []byte
		want uint64
	}{
		{"a binary that knows format version 1", nil, 1},
		{"one that asks for the first", statusRequestOf(1), 1},
		{"this binary", request, statusVersion},
		{"a newer one", append([]byte{0x92}, append(statusRequestOf(statusVersion + 1)[1:], 7)...), statusVersion},
	} {
		if got, err := decodeStatusRequest(c.body); err != nil || got != c.want {
			t.Errorf("%s is answered in version %d, %v, want %d", c.name, got, err, c.want)
		}
	}
	for _, bad := range [][]byte{statusRequestOf(0), {0x90}, {0x91, 1, 1}, {0x92, 1, 1}, {1}} {
		if v, err := decodeStatusRequest(bad); !errors.Is(err, errMalformed) {
			t.Errorf("decodeStatusRequest(%x) = %d, %v, want errMalformed", bad, v, err)
		}
	}
}

func helloOf(ids ...MemberID) []byte {
	e := newEncoder()
	e.hello(ids)
	return e.buf.Bytes()
}

func TestGoldenHelloOfMembers(t *testing.T) {
	want := []MemberID{1, 2, 300}
	if got, err := decodeHello(golden(t, oldestFormat, "member-hello", helloOf(want...))); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("decoded %v, %v", got, err)
	}
	newer := helloOf(want...)
	newer[1] = helloVersion + 1
	if _, err := decodeHello(newer); !errors.Is(err, errNewerFormat) {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzDecodeHelloOfMembers(f *testing.F) {
	f.Add(helloOf(1, 2, 300))
	f.Add(helloOf())
	f.Add([]byte{0x92, 1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := decodeHello(b)
		if err != nil {
			if !errors.Is(err, errMalformed) && !errors.Is(err, errNewerFormat) {
				t.Fatalf("decodeHello = %v, which is neither errMalformed nor errNewerFormat", err)
			}
			return
		}
		if again, err := decodeHello(helloOf(ids...)); err != nil || !reflect.DeepEqual(again, ids) {
			t.Fatalf("round trip: %v, %v; want %v", again, err, ids)
		}
	})
}

func FuzzDecodeStatus(f *testing.F) {
	b := statusOf(goldenStatus())
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(statusIn(goldenStatus(), 1))
	f.Add(statusOf(&Status{}))
	f.Add([]byte{0xdc, 0, 17, 1, 0xdb, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := decodeStatus(b)
		if err != nil {
			if !errors.Is(err, errMalformed) && !errors.Is(err, errNewerFormat) {
				t.Fatalf("decodeStatus = %v, which is neither errMalformed nor errNewerFormat", err)
			}
			return
		}
		again, err := decodeStatus(statusOf(&st))
		if err != nil || !reflect.DeepEqual(again, st) {
			t.Fatalf("round trip: %+v, %v; want %+v", again, err, st)
		}
	})
}

// What a member is told that is refused for its directory names both directories,
// what to do, and nothing of the machine that refuses; and it recognises it.
func TestStrangeDirectoryIsToldWithoutPaths(t *testing.T) {
	const first, second = "0b4e7a0e-5a87-4a5e-9d0d-0a2f6f6c8a91", "0b4e7a0e-5a87-4a5e-9d0d-0a2f6f6c8a92"
	cfg := Config{Dir: t.TempDir()}
	cfg.setDefaults()
	d, err := openDisk(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fatal(t, d.close()) })
	if err := d.pin(peernet.Hello{Member: 2, Directory: first}); err != nil {
		t.Fatal(err)
	}
	err = d.pin(peernet.Hello{Member: 2, Directory: second})
	if err == nil {
		t.Fatal("it was admitted")
	}
	text := err.Error()
	for _, want := range []string{first, second, "member 2", "new member id"} {
		if !strings.Contains(text, want) {
			t.Errorf("the reason does not name %s: %s", want, text)
		}
	}
	if !strings.HasPrefix(text, strangeReason) || strings.Contains(text, cfg.Dir) || len(text) > 1<<10 {
		t.Errorf("the reason: %s", text)
	}
	if err := d.dir.Pin(replica.MemberID(2), second); !errors.Is(err, raftdir.ErrStrangeDirectory) {
		t.Errorf("Pin = %v", err)
	}

	fatal(t, os.RemoveAll(cfg.Dir)) // so that nothing can be written down
	err = d.pin(peernet.Hello{Member: 3, Directory: first})
	if err == nil {
		t.Fatal("it was admitted")
	}
	if text := err.Error(); strings.Contains(text, cfg.Dir) || !strings.Contains(text, "member 3") || !strings.Contains(text, syscall.ENOENT.Error()) {
		t.Errorf("the reason: %s", text)
	}
}

// A fakePeerNet is a host of which only the links count.
type fakePeerNet struct {
	replica.Host
	links []peernet.Link
}

func (f fakePeerNet) Links() []peernet.Link { return f.links }

func (fakePeerNet) Call(context.Context, replica.MemberID, string, []byte) ([]byte, error) {
	return nil, nil
}

// Who has refused once and is merely down now is not said to refuse.
func TestRefusalsAreOfNow(t *testing.T) {
	c := &Coordinator{host: fakePeerNet{links: []peernet.Link{
		{Peer: 2, Direction: peernet.Out, Refusing: true, LastRefusal: "expired"},
		{Peer: 2, Direction: peernet.In, Refusing: true, LastRefusal: "incoming"},
		{Peer: 3, Direction: peernet.Out, LastRefusal: "long ago"},
		{Peer: 4, Direction: peernet.Out, Refusing: true, LastRefusal: "of a further one", Connections: 1},
	}}}
	if got, want := c.refusals(), " (refused: member 2: expired)"; got != want {
		t.Errorf("refusals = %q, want %q", got, want)
	}
}
