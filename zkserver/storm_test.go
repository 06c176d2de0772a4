package zkserver_test

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/jute"
	"coord/zkserver"
)

var (
	stormConns = flag.Int("storm", 500, "connections of TestStorm; 86400 are one in each second of a day")
	stormSeed  = flag.Uint64("storm.seed", 1, "decides what each connection of TestStorm does")
)

// attackersAtOnce is how many connections of a large storm there are at a time.
const attackersAtOnce = 200

// TestStorm throws connections at a server that do whatever a hostile client might, and
// break in every way, while one client goes on with its work: it is answered, and keeps
// its session. At the end the server has nothing left of the storm.
func TestStorm(t *testing.T) {
	s := newStorm(t)
	s.work()
	before := s.left()
	began := time.Now()
	s.blow(*stormConns)
	took := time.Since(began)
	s.clear()
	var after leftovers
	eventually(t, "everything to be as before", func() bool {
		after = s.left()
		return after.within(before)
	})
	t.Logf("%d connections in %v, seed %d\nbefore %v\nafter  %v\n%d requests of the good client were answered, five of them took %v at most",
		*stormConns, took.Round(time.Second), *stormSeed, before, after, s.asked, s.slowest.Round(time.Millisecond))
}

// A storm is a server, a client that behaves well, and what befalls them.
type storm struct {
	t    *testing.T
	c    *coord.Coordinator
	addr string
	ran  []string // the attacks, in a fixed order

	good    *client
	asked   int
	slowest time.Duration
	log     goodLog
}

// A goodLog keeps what the server logs of the good client: why it was disconnected.
type goodLog struct {
	mu   sync.Mutex
	addr string // guarded by mu
	said string // guarded by mu
}

func (l *goodLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addr != "" && strings.Contains(string(line), l.addr) {
		l.said += string(line)
	}
	return len(line), nil
}

func (l *goodLog) about(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr = addr
}

func (l *goodLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said
}

func newStorm(t *testing.T) *storm {
	t.Helper()
	// The election timeout is long enough for a busy machine, and not longer, because the
	// attackers' sessions live for two of it.
	e := coordtest.NewEnsemble(t, 1, coordtest.OnDisk(), coordtest.WithElectionTimeout(5*time.Second), coordtest.WithConfig(func(cfg *coord.Config) {
		cfg.SuperDigest = coord.DigestID("super:secret").ID
		cfg.HistoryEvents, cfg.SnapshotEntries = 1000, 1000
		cfg.Logger = slog.New(slog.DiscardHandler)
	}))
	s := &storm{t: t, c: e.Member(1), ran: slices.Sorted(maps.Keys(attacks))}
	honest := coord.WithACL(coord.ACL{Perms: coord.PermAll, ID: coord.DigestID("honest:secret")})
	for p, opt := range map[string]coord.CreateOption{
		"/pit": coord.WithACL(coord.OpenACL()...), "/big": coord.WithACL(coord.OpenACL()...), "/honest": honest,
	} {
		if _, _, err := s.c.Create(t.Context(), p, make([]byte, 60_000), opt); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		t.Fatal(err)
	}
	server, err := zkserver.New(s.c, zkserver.Options{
		HandshakeTimeout: 300 * time.Millisecond, WriteTimeout: 300 * time.Millisecond, MaxSessionTimeout: 30 * time.Second,
		MaxConnsPerAddr: 8, FourLetterWords: []string{"*"},
		Logger: slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(t.Context(), ln) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; err != nil && !errors.Is(err, zkserver.ErrServerClosed) {
			t.Errorf("Serve = %v", err)
		}
	})
	s.addr = ln.Addr().String()
	s.meetGood()
	return s
}

// meetGood connects the client that behaves well.
func (s *storm) meetGood() {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.addr) //nolint:noctx // loopback
	if err != nil {
		s.t.Fatal(err)
	}
	s.log.about(nc.LocalAddr().String())
	s.good = newClient(s.t, nc)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("of the good client the server says %v", &s.log)
		}
	})
	if resp := s.good.handshake(&jute.ConnectRequest{TimeoutMS: 30_000}); resp == nil || resp.SessionID == 0 {
		s.t.Fatalf("the good client is answered with %+v", resp)
	}
	s.good.must(jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("honest:secret")}, nil)
	s.good.must(jute.OpCreate, ephemeral("/honest/alive"), &jute.CreateResponse{})
}

// blow has n connections attack, and the good client work meanwhile.
func (s *storm) blow(n int) {
	s.t.Helper()
	var next atomic.Int64
	var attackers sync.WaitGroup
	for range min(attackersAtOnce, max(n/10, 1)) {
		attackers.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				s.attack(uint64(i))
			}
		})
	}
	over := make(chan struct{})
	go func() {
		attackers.Wait()
		close(over)
	}()
	defer attackers.Wait()
	for pace := time.NewTicker(5 * time.Millisecond); ; {
		s.work()
		select {
		case <-pace.C:
		case <-over:
			pace.Stop()
			s.work()
			return
		}
	}
}

// attack makes the attack of a number. Attackers come from very many addresses, and now and
// then too many from one; the good client has its own.
func (s *storm) attack(i uint64) {
	a := &attacker{Rand: rand.New(rand.NewPCG(*stormSeed, i))}
	dialer := net.Dialer{}
	if runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is the machine's own
		from := net.IPv4(127, byte(1+a.IntN(250)), byte(a.Uint32()), byte(1+a.IntN(250)))
		if a.IntN(8) == 0 {
			from = net.IPv4(127, 0, 1, 1)
		}
		dialer.LocalAddr = &net.TCPAddr{IP: from}
	}
	var err error
	if a.nc, err = dialer.Dial("tcp", s.addr); err != nil {
		return
	}
	a.run(attacks[s.ran[a.IntN(len(s.ran))]])
}

// work has the good client use its session once.
func (s *storm) work() {
	s.t.Helper()
	mark := fmt.Sprint(s.asked)
	began := time.Now()
	if h := s.good.call(jute.OpExists, get("/honest/x", true), nil); h.Err != jute.NoNode {
		s.t.Fatalf("the good client is told %v of what it has deleted", h.Err)
	}
	made := s.good.send(jute.OpCreate, create("/honest/x", mark))
	s.good.wantNotification(coord.NodeCreated, "/honest/x")
	s.good.wantReply(made, jute.OK)
	var data jute.GetDataResponse
	if s.good.must(jute.OpGetData, get("/honest/x", false), &data); string(data.Data) != mark {
		s.t.Fatalf("the good client has written %q and reads %q", mark, data.Data)
	}
	s.good.must(jute.OpDelete, &jute.VersionRequest{Path: "/honest/x", Version: 0}, nil)
	s.good.must(jute.OpExists, get("/honest/alive", false), &jute.StatResponse{})
	s.asked += 5
	s.slowest = max(s.slowest, time.Since(began))
}

// clear deletes what the attackers have made to stay, when their sessions have ended.
func (s *storm) clear() {
	s.t.Helper()
	eventually(s.t, "the sessions of the storm to end", func() bool {
		s.work()
		return s.c.Status().Sessions <= 2 // the member's and the good client's
	})
	super, err := s.c.NewSession(s.t.Context(), coord.SessionOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = super.Close() }()
	if err := super.AddAuth(s.t.Context(), "digest", []byte("super:secret")); err != nil { // whatever ACLs they have set
		s.t.Fatal(err)
	}
	s.clearBelow(super, "/pit")
}

func (s *storm) clearBelow(super *coord.Session, p string) {
	s.t.Helper()
	names, _, err := super.Children(s.t.Context(), p)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range names {
		s.clearBelow(super, path.Join(p, name))
		if err := super.Delete(s.t.Context(), path.Join(p, name)); err != nil && !errors.Is(err, coord.ErrNoNode) {
			s.t.Fatal(err)
		}
	}
}

// leftovers are what a server might have kept.
type leftovers struct {
	goroutines, files, sessions, watches, znodes int
	heap                                         int
}

func (s *storm) left() leftovers {
	st := s.c.Status()
	files, _ := os.ReadDir("/proc/self/fd")
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return leftovers{runtime.NumGoroutine(), len(files), st.Sessions, st.Watches, st.Znodes, int(m.HeapAlloc)}
}

// Memory and files that the log and the snapshots of a member come and go with, and tables
// that a member fills once.
const (
	heapSlack = 8 << 20
	fileSlack = 4
)

func (l leftovers) within(base leftovers) bool {
	return l.goroutines <= base.goroutines && l.files <= base.files+fileSlack && l.heap <= base.heap+heapSlack &&
		l.sessions == base.sessions && l.watches == base.watches && l.znodes == base.znodes
}

func (l leftovers) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %d sessions, %d watches, %d znodes, %.1f MB",
		l.goroutines, l.files, l.sessions, l.watches, l.znodes, float64(l.heap)/1e6)
}
