package peernet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
	"go.uber.org/goleak"

	"coord/internal/loopback"
	"coord/internal/replica"
)

// patience bounds every wait for a condition. Nothing waits for all of it
// unless it fails.
const patience = 30 * time.Second

// TestMain checks that the tests leave no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fabric is some members on the loopback interface.
type fabric struct {
	tb    testing.TB
	nodes []*node // of members 1, 2, …

	mu    sync.Mutex
	addrs map[replica.MemberID]string // guarded by mu
}

// A node is one member. What it receives is kept.
type node struct {
	f   *fabric
	cfg Config
	net *Net
	tr  raftio.ITransport

	mu      sync.Mutex
	batches []raftpb.MessageBatch           // guarded by mu
	chunks  []raftpb.Chunk                  // guarded by mu
	onBatch func(raftpb.MessageBatch)       // if not nil, called with each
	onChunk func(raftpb.Chunk) bool         // if not nil, decides
	listen  func(net.Listener) net.Listener // if not nil, wraps the listener
	lim     limits
}

// An option changes a member before it starts.
type option func(i int, nd *node)

// newFabric starts members 1 to n. It stops them when the test ends.
func newFabric(tb testing.TB, n int, opts ...option) *fabric {
	tb.Helper()
	f := &fabric{tb: tb, addrs: make(map[replica.MemberID]string)}
	for i, addr := range freePorts(tb, n) {
		id := replica.MemberID(i + 1)
		f.addrs[id] = addr
		nd := &node{f: f, lim: defaultLimits, cfg: Config{
			Ensemble:  "test",
			Member:    id,
			Directory: directoryOf(id),
			Addr:      addr,
			AddrOf:    f.addrOf,
			Logger:    debugLogger(tb),
		}}
		for _, o := range opts {
			o(i, nd)
		}
		f.nodes = append(f.nodes, nd)
	}
	tb.Cleanup(f.stop)
	for _, nd := range f.nodes {
		nd.start()
	}
	return f
}

func (f *fabric) addrOf(id replica.MemberID) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	addr, ok := f.addrs[id]
	return addr, ok
}

func (f *fabric) setAddr(id replica.MemberID, addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addrs[id] = addr
}

func (f *fabric) stop() {
	for _, nd := range f.nodes {
		nd.stop()
	}
}

func (nd *node) start() {
	nd.f.tb.Helper()
	n, err := New(nd.cfg)
	if err != nil {
		nd.f.tb.Fatal(err)
	}
	n.lim = nd.lim
	if wrap := nd.listen; wrap != nil {
		plain := n.listen
		n.listen = func(ctx context.Context, addr string) (net.Listener, error) {
			l, err := plain(ctx, addr)
			if err != nil {
				return nil, err
			}
			return wrap(l), nil
		}
	}
	nd.net = n
	nd.tr = n.Create(config.NodeHostConfig{}, nd.handleBatch, nd.handleChunk)
	if err := nd.tr.Start(); err != nil {
		nd.f.tb.Fatal(err)
	}
}

func (nd *node) stop() {
	if err := nd.tr.Close(); err != nil {
		nd.f.tb.Errorf("Close: %v", err)
	}
}

func (nd *node) handleBatch(b raftpb.MessageBatch) {
	nd.mu.Lock()
	nd.batches = append(nd.batches, b)
	f := nd.onBatch
	nd.mu.Unlock()
	if f != nil {
		f(b)
	}
}

func (nd *node) handleChunk(c raftpb.Chunk) bool {
	nd.mu.Lock()
	nd.chunks = append(nd.chunks, c)
	f := nd.onChunk
	nd.mu.Unlock()
	return f == nil || f(c)
}

// received returns how many messages have arrived.
func (nd *node) received() (n int) {
	nd.mu.Lock()
	defer nd.mu.Unlock()
	for _, b := range nd.batches {
		n += len(b.Requests)
	}
	return n
}

func (nd *node) id() replica.MemberID { return nd.cfg.Member }

func (nd *node) target() string {
	addr, _ := nd.f.addrOf(nd.id())
	return Target(nd.id(), addr)
}

// connect connects nd to another member for raft.
func (nd *node) connect(to *node) (raftio.IConnection, error) {
	return nd.tr.GetConnection(nd.f.tb.Context(), to.target())
}

func (nd *node) mustConnect(to *node) raftio.IConnection {
	nd.f.tb.Helper()
	c, err := nd.connect(to)
	if err != nil {
		nd.f.tb.Fatalf("member %d cannot connect to %d: %v", nd.id(), to.id(), err)
	}
	nd.f.tb.Cleanup(c.Close)
	return c
}

func (nd *node) mustSnapshot(to *node) raftio.ISnapshotConnection {
	nd.f.tb.Helper()
	c, err := nd.tr.GetSnapshotConnection(nd.f.tb.Context(), to.target())
	if err != nil {
		nd.f.tb.Fatalf("member %d cannot connect to %d: %v", nd.id(), to.id(), err)
	}
	nd.f.tb.Cleanup(c.Close)
	return c
}

// link returns the counters of one link.
func (nd *node) link(peer replica.MemberID, dir Direction) Link {
	for _, l := range nd.net.Links() {
		if l.Peer == peer && l.Direction == dir {
			return l
		}
	}
	return Link{Peer: peer, Direction: dir}
}

// batch returns a batch of one message with a payload.
func batch(from, to *node, payload []byte) raftpb.MessageBatch {
	return raftpb.MessageBatch{
		DeploymentId: 7,
		BinVer:       raftio.TransportBinVersion,
		Requests: []raftpb.Message{{
			Type: raftpb.Replicate, ShardID: 1, From: uint64(from.id()), To: uint64(to.id()),
			Entries: []raftpb.Entry{{Index: 1, Term: 1, Cmd: payload}},
		}},
	}
}

// chunk returns chunk i of n.
func chunk(from, to *node, i, n uint64, data []byte) raftpb.Chunk {
	return raftpb.Chunk{
		ShardID: 1, ReplicaID: uint64(to.id()), From: uint64(from.id()), ChunkId: i, ChunkCount: n,
		ChunkSize: uint64(len(data)), Data: data, Index: 10, Term: 2, Filepath: "/some/where/snapshot.gbsnap",
		BinVer: raftio.TransportBinVersion, DeploymentId: 7,
	}
}

func directoryOf(id replica.MemberID) string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", uint64(id))
}

func freePorts(tb testing.TB, n int) []string {
	tb.Helper()
	addrs, err := loopback.FreeAddrs(n)
	if err != nil {
		tb.Fatal(err)
	}
	return addrs
}

// eventually polls a condition that nobody announces.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-timeout.C:
			tb.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

func mustContain(tb testing.TB, what string, err error, words ...string) {
	tb.Helper()
	if err == nil {
		tb.Errorf("%s succeeded, want an error", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("%s: %v\nwhich does not mention %q", what, err, w)
		}
	}
}

// refusedBy checks who refused whom.
func refusedBy(tb testing.TB, err error, peer replica.MemberID, byPeer bool) {
	tb.Helper()
	r, ok := errors.AsType[*RefusedError](err)
	if !ok || r.Peer != peer || r.ByPeer != byPeer {
		tb.Errorf("%v (%T), want a RefusedError with peer %d, by the peer: %t", err, err, peer, byPeer)
	}
}

// debugLogger returns a logger that writes to the test's output when the
// environment asks for it.
func debugLogger(tb testing.TB) *slog.Logger {
	tb.Helper()
	if os.Getenv("PEERNET_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// An authority signs certificates.
type authority struct {
	tb   testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	a := &authority{tb: tb, key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue returns a certificate for the given hosts, which change may alter.
func (a *authority) issue(change func(*x509.Certificate), hosts ...string) tls.Certificate {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.tb.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// config returns a TLS configuration for a member on the loopback interface.
func (a *authority) config() *tls.Config {
	return &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.issue(nil, "127.0.0.1")}}
}

// secured gives each member a certificate of a.
func (a *authority) secured(_ int, nd *node) { nd.cfg.TLS = a.config() }
