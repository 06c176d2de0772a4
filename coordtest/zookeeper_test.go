package coordtest_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/jute"
	"coord/zkserver"
)

// A zkClient speaks ZooKeeper's protocol, one request after the other.
type zkClient struct {
	tb       testing.TB
	nc       net.Conn
	id       int64
	password []byte
	xid      int32
}

// patience bounds what would wait for ever in a test that fails.
const patience = 30 * time.Second

// dialZooKeeper opens a session at an address, or takes that of another client there.
func dialZooKeeper(tb testing.TB, addr string, old *zkClient) *zkClient {
	tb.Helper()
	cl, err := tryZooKeeper(tb, addr, old)
	if err != nil {
		tb.Fatal(err)
	}
	return cl
}

// resumeZooKeeper takes a client's session to another address, when there is a leader
// again.
func resumeZooKeeper(e *coordtest.Ensemble, addr string, old *zkClient) *zkClient {
	old.tb.Helper()
	var again *zkClient
	e.WaitFor(context.Background(), "the session to go on at "+addr, func() (err error) {
		again, err = tryZooKeeper(old.tb, addr, old)
		return err
	})
	return again
}

func tryZooKeeper(tb testing.TB, addr string, old *zkClient) (*zkClient, error) {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { _ = nc.Close() })
	cl := &zkClient{tb: tb, nc: nc}
	// A timeout that no busy machine gets to: a member answers only while it has heard of
	// the others within a third of it.
	req := jute.ConnectRequest{TimeoutMS: 60_000, Password: make([]byte, jute.PasswordBytes)}
	if old != nil {
		req.SessionID, req.Password = old.id, old.password
	}
	var resp jute.ConnectResponse
	if err := cl.send(&req); err != nil {
		return nil, err
	}
	if err := cl.receive(&resp); err != nil {
		return nil, err
	}
	if resp.SessionID == 0 || old != nil && resp.SessionID != old.id {
		return nil, fmt.Errorf("connected to %s as session %#x", addr, resp.SessionID)
	}
	cl.id, cl.password = resp.SessionID, resp.Password
	return cl, nil
}

func (cl *zkClient) send(rs ...jute.Record) error {
	b := make([]byte, 4)
	for _, r := range rs {
		b = r.AppendTo(b)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err := cl.nc.Write(b)
	return err
}

func (cl *zkClient) receive(r jute.Record) error {
	return cl.receiveBy(time.Now().Add(patience), r)
}

func (cl *zkClient) receiveBy(deadline time.Time, r jute.Record) error {
	_ = cl.nc.SetReadDeadline(deadline)
	var head [4]byte
	if _, err := io.ReadFull(cl.nc, head[:]); err != nil {
		return err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(cl.nc, b); err != nil {
		return err
	}
	d := jute.NewDecoder(b)
	r.DecodeFrom(d)
	return d.Err()
}

// ask sends a request, and returns the code of the answer.
func (cl *zkClient) ask(op jute.Op, req ...jute.Record) (jute.Code, error) {
	cl.xid++
	if err := cl.send(append([]jute.Record{&jute.RequestHeader{Xid: cl.xid, Op: op}}, req...)...); err != nil {
		return 0, err
	}
	var h jute.ReplyHeader
	if err := cl.receive(&h); err != nil {
		return 0, err
	}
	if h.Xid != cl.xid {
		return 0, fmt.Errorf("an answer to request %d, want %d", h.Xid, cl.xid)
	}
	return h.Err, nil
}

// must asks, and fails the test if the code is another.
func (cl *zkClient) must(want jute.Code, op jute.Op, req jute.Record) {
	cl.tb.Helper()
	if code, err := cl.ask(op, req); err != nil || code != want {
		cl.tb.Fatalf("%v: code %d, %v, want %d", op, code, err, want)
	}
}

func createRequest(path string, flags int32) *jute.CreateRequest {
	return &jute.CreateRequest{Path: path, Flags: flags, ACL: []jute.ACL{{Perms: 31, Scheme: "world", ID: "anyone"}}}
}

const ephemeral = 1

// wantClosed fails the test if a connection is not closed.
func (cl *zkClient) wantClosed() {
	cl.tb.Helper()
	var h jute.ReplyHeader
	if err := cl.receive(&h); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		cl.tb.Errorf("the connection is open: %+v, %v", h, err)
	}
}

func wantRefused(t *testing.T, addr string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err == nil {
		_ = nc.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s: %v, want %v", addr, err, syscall.ECONNREFUSED)
	}
}

// Clients reach every member, and what one writes others read.
func TestServeZooKeeper(t *testing.T) {
	addrs := coordtest.ServeZooKeeper(t)
	if len(addrs) != 3 {
		t.Fatalf("addresses %q, want 3", addrs)
	}
	first := dialZooKeeper(t, addrs[0], nil)
	first.must(0, jute.OpCreate, createRequest("/a", 0))
	for _, addr := range addrs[1:] {
		cl := dialZooKeeper(t, addr, nil)
		cl.must(0, jute.OpSync, &jute.ReadRequest{Path: "/a"})
		cl.must(0, jute.OpExists, &jute.ReadRequest{Path: "/a"})
	}
}

// A client goes on with its session at another member, however its own one ends, and back
// when that is there again, at the address that it had.
func TestServeZooKeeperSessionsOutliveMembers(t *testing.T) {
	ends := map[string]func(e *coordtest.Ensemble, c *coord.Coordinator){
		"kill":              (*coordtest.Ensemble).Kill,
		"power cut":         (*coordtest.Ensemble).PowerCut,
		"stop":              (*coordtest.Ensemble).Stop,
		"kill while paused": func(e *coordtest.Ensemble, c *coord.Coordinator) { e.Pause(c); e.Kill(c) },
		"close":             func(_ *coordtest.Ensemble, c *coord.Coordinator) { _ = c.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := coordtest.NewEnsemble(t, 3, coordtest.WithZooKeeper())
			addrs := e.ServeZooKeeper()
			cl := dialZooKeeper(t, addrs[0], nil)
			cl.must(0, jute.OpCreate, createRequest("/e", ephemeral))
			old := e.Member(1)
			end(e, old)
			cl.wantClosed()
			if name == "close" { // by the test itself, whose sessions end with it: nothing more is promised
				e.Restart(old)
				return
			}
			wantRefused(t, addrs[0])
			cl = resumeZooKeeper(e, addrs[1], cl)
			cl.must(0, jute.OpExists, &jute.ReadRequest{Path: "/e"})
			if err := e.Restart(old).Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			cl = resumeZooKeeper(e, addrs[0], cl)
			cl.must(0, jute.OpDelete, &jute.VersionRequest{Path: "/e", Version: -1})
			cl.must(-101, jute.OpExists, &jute.ReadRequest{Path: "/e"})
		})
	}
}

// A member that is paused accepts connections and says nothing, until it is resumed.
func TestServeZooKeeperPaused(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.WithZooKeeper())
	addrs := e.ServeZooKeeper()
	cl := dialZooKeeper(t, addrs[2], nil)
	fresh := &zkClient{tb: t}
	e.Pause(e.Member(3))
	var err error
	if fresh.nc, err = net.Dial("tcp", addrs[2]); err != nil {
		t.Fatal(err)
	}
	defer fresh.nc.Close()
	if err := fresh.send(&jute.ConnectRequest{TimeoutMS: 10_000, Password: make([]byte, jute.PasswordBytes)}); err != nil {
		t.Fatal(err)
	}
	if err := cl.send(&jute.RequestHeader{Xid: 7, Op: jute.OpCreate}, createRequest("/p", 0)); err != nil {
		t.Fatal(err)
	}
	if err := cl.send(&jute.RequestHeader{Xid: jute.XidPing, Op: jute.OpPing}); err != nil {
		t.Fatal(err)
	}
	// A frame that is too long is refused without asking the member for anything.
	wrong, err := net.Dial("tcp", addrs[2])
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	_, _ = io.WriteString(wrong, "\x7f\xff\xff\xff")
	_ = wrong.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if said, err := io.ReadAll(wrong); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a paused member says %q, %v", said, err)
	}
	var h jute.ReplyHeader
	if err := cl.receiveBy(time.Now().Add(50*time.Millisecond), &h); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a paused member says %+v, %v", h, err)
	}
	e.Resume(e.Member(3))
	if err := cl.receive(&h); err != nil || h.Xid != 7 || h.Err != 0 {
		t.Errorf("a resumed member says %+v, %v", h, err)
	}
	var resp jute.ConnectResponse
	if err := fresh.receive(&resp); err != nil || resp.SessionID == 0 {
		t.Errorf("a resumed member says %+v, %v", resp, err)
	}
}

// The client of a member that is cut off is let go, and is served elsewhere.
func TestServeZooKeeperIsolated(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.WithZooKeeper())
	addrs := e.ServeZooKeeper()
	cl := dialZooKeeper(t, addrs[0], nil)
	cl.must(0, jute.OpCreate, createRequest("/e", ephemeral))
	e.Isolate(e.Member(1))
	e.WaitFor(t.Context(), "the member to let its client go", func() error {
		cl.xid = jute.XidPing - 1
		if _, err := cl.ask(jute.OpPing); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("it answers with %w", err)
		}
		return nil
	})
	resumeZooKeeper(e, addrs[1], cl).must(0, jute.OpExists, &jute.ReadRequest{Path: "/e"})
}

// Every member that runs serves, also when a nemesis starts it again.
func TestServeZooKeeperUnderFaults(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.WithZooKeeper())
	addrs := e.ServeZooKeeper()
	faults := e.StartFaults(coordtest.Faults{
		Kinds: []coordtest.Fault{coordtest.Kills, coordtest.PowerCuts, coordtest.Pauses, coordtest.Stops},
		Every: 10 * time.Millisecond, Lasting: 30 * time.Millisecond,
	})
	var created []string
	for i := 0; len(created) < 20; i++ {
		cl, err := tryZooKeeper(t, addrs[i%3], nil)
		if err != nil {
			continue
		}
		path := fmt.Sprint("/n", i)
		if code, err := cl.ask(jute.OpCreate, createRequest(path, 0)); err == nil && code == 0 {
			created = append(created, path)
		}
		_ = cl.nc.Close()
	}
	faults.Stop()
	for _, addr := range addrs {
		cl := dialZooKeeper(t, addr, nil)
		cl.must(0, jute.OpSync, &jute.ReadRequest{Path: "/"})
		for _, path := range created {
			cl.must(0, jute.OpExists, &jute.ReadRequest{Path: path})
		}
	}
}

// The options are those of the ensemble, and of its servers.
func TestServeZooKeeperOptions(t *testing.T) {
	addrs := coordtest.ServeZooKeeper(t,
		coordtest.WithConfig(func(c *coord.Config) { c.DefaultACL = coord.MembersACL() }),
		coordtest.WithZooKeeper(func(o *zkserver.Options) { o.FourLetterWords = []string{"ruok"} }))
	if said := fourLetters(addrs[0], "ruok"); said != "imok" {
		t.Errorf("ruok says %q", said)
	}
	const noAuth = -102
	dialZooKeeper(t, addrs[0], nil).must(noAuth, jute.OpCreate, createRequest("/a", 0))
}

// fourLetters returns what a server says to one of ZooKeeper's four-letter words.
func fourLetters(addr, word string) string {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(nc, word)
	said, err := io.ReadAll(nc)
	if err != nil {
		return err.Error()
	}
	return string(said)
}

// A member that was down when clients were first served has an address, too; and further
// calls return the same ones.
func TestServeZooKeeperWhileDown(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.WithZooKeeper())
	old := e.Member(2)
	e.Kill(old)
	addrs := e.ServeZooKeeper()
	wantRefused(t, addrs[1])
	if err := e.Restart(old).Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	dialZooKeeper(t, addrs[1], nil)
	if again := e.ServeZooKeeper(); strings.Join(again, ",") != strings.Join(addrs, ",") {
		t.Errorf("addresses %q, then %q", addrs, again)
	}
}

func TestServeZooKeeperWrong(t *testing.T) {
	wantFailure(t, func(tb testing.TB) {
		coordtest.ServeZooKeeper(tb, coordtest.WithZooKeeper(nil))
	}, "WithZooKeeper(nil)")
	wantFailure(t, func(tb testing.TB) {
		coordtest.ServeZooKeeper(tb, coordtest.WithZooKeeper(func(o *zkserver.Options) { o.MaxFrame = -1 }))
	}, "MaxFrame -1")
	coordtest.VirtualTime(t, func(t *testing.T) {
		wantFailure(t, func(tb testing.TB) { coordtest.ServeZooKeeper(tb) }, "ServeZooKeeper in virtual time")
		wantFailure(t, func(tb testing.TB) { coordtest.NewEnsemble(tb, 1).ServeZooKeeper() }, "ServeZooKeeper in virtual time")
	})
}

// Connections that a test leaves open are closed with the ensemble, and leave nothing
// behind.
func TestServeZooKeeperEndsWithTheTest(t *testing.T) {
	var addrs []string
	var cl *zkClient
	f := &fakeTB{TB: t}
	said := f.run(func(tb testing.TB) {
		addrs = coordtest.ServeZooKeeper(tb)
		cl = dialZooKeeper(t, addrs[0], nil) // which is closed later than the ensemble
	})
	if f.failed {
		t.Error(said)
	}
	cl.wantClosed()
	for _, addr := range addrs {
		wantRefused(t, addr)
	}
}
