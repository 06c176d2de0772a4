package grpcresolver_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"coord"
	"coord/coordtest"
	"coord/recipes/discovery"
	"coord/recipes/discovery/grpcresolver"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve starts a gRPC server on loopback and registers it. It returns its address.
func serve(t *testing.T, c *coord.Coordinator, id string) (string, *discovery.Registration) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	host, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	n, err := strconv.Atoi(port)
	must(t, err)
	r, err := discovery.Register(t.Context(), c, "/services", "billing", discovery.Instance{ID: id, Address: host, Port: n})
	must(t, err)
	return l.Addr().String(), r
}

func dial(t *testing.T, c coord.Client) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("coord:///billing", grpc.WithResolvers(grpcresolver.New(c, "/services")),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin":{}}]}`))
	must(t, err)
	return conn
}

// call calls whoever is next, and returns its address.
func call(t *testing.T, conn *grpc.ClientConn, opts ...grpc.CallOption) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var p peer.Peer
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, append(opts, grpc.Peer(&p))...)
	if err != nil {
		return "", err
	}
	return p.Addr.String(), nil
}

// answers calls until exactly these addresses have answered in a row of calls.
func answers(t *testing.T, conn *grpc.ClientConn, want ...string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		got := map[string]bool{}
		for range 4 * len(want) {
			addr, err := call(t, conn, grpc.WaitForReady(true))
			must(t, err)
			got[addr] = true
		}
		same := len(got) == len(want)
		for _, addr := range want {
			same = same && got[addr]
		}
		if same {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%v answer, want %v", got, want)
		default:
		}
	}
}

// A connection follows the instances: those that appear, those that are not healthy, and
// those that vanish.
func TestResolver(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3)
	conn := dial(t, e.Member(3))
	defer func() { must(t, conn.Close()) }()
	waiting := make(chan error, 1)
	go func() {
		_, err := call(t, conn, grpc.WaitForReady(true))
		waiting <- err
	}()
	a, ra := serve(t, e.Member(1), "a")
	must(t, <-waiting)
	answers(t, conn, a)
	b, rb := serve(t, e.Member(2), "b")
	answers(t, conn, a, b)
	must(t, ra.SetHealth(t.Context(), discovery.Unhealthy))
	answers(t, conn, b)
	must(t, ra.SetHealth(t.Context(), discovery.Healthy))
	answers(t, conn, a, b)
	must(t, rb.Unregister(t.Context()))
	answers(t, conn, a)
	must(t, ra.Unregister(t.Context()))
	deadline := time.After(30 * time.Second)
	for {
		if _, err := call(t, conn); status.Code(err) == codes.Unavailable {
			break
		}
		select {
		case <-deadline:
			t.Fatal("somebody answers")
		default:
		}
	}
	c, _ := serve(t, e.Member(1), "c")
	answers(t, conn, c)
}

// The crash of an instance's member, and the end of its session, move calls elsewhere.
func TestResolverAfterACrash(t *testing.T) {
	e := coordtest.NewEnsemble(t, 3, coordtest.WithConfig(func(c *coord.Config) { c.SessionTimeout = time.Second }))
	conn := dial(t, e.Member(3))
	defer func() { must(t, conn.Close()) }()
	a, _ := serve(t, e.Member(1), "a")
	b, _ := serve(t, e.Member(2), "b")
	answers(t, conn, a, b)
	e.Kill(e.Member(1))
	answers(t, conn, b)
}

// A resolver that is closed leaves nothing: the ensemble fails the test for a goroutine,
// and here for a watch.
func TestResolverLeavesNothing(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	a, _ := serve(t, c, "a")
	watches := func(want int) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for c.Status().Watches != want {
			select {
			case <-deadline:
				t.Fatalf("%d watches, want %d", c.Status().Watches, want)
			case <-time.After(time.Millisecond):
			}
		}
	}
	watches(1) // the registration's
	for range 20 {
		conn := dial(t, c)
		answers(t, conn, a)
		must(t, conn.Close())
	}
	watches(1)
}

// A target that names no service is refused; the end of the member is told.
func TestResolverErrors(t *testing.T) {
	e := coordtest.NewEnsemble(t, 1)
	c := e.Member(1)
	conn, err := grpc.NewClient("coord:///a/b", grpc.WithResolvers(grpcresolver.New(c, "/services")), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		_, err = call(t, conn)
		must(t, conn.Close())
	}
	if err == nil {
		t.Error("a target that names no service was accepted")
	}
	b := grpcresolver.New(c, "/services")
	cc := &recorder{states: make(chan resolver.State, 10), errs: make(chan error, 10)}
	target := resolver.Target{}
	target.URL.Path = "/billing"
	r, err := b.Build(target, cc, resolver.BuildOptions{})
	must(t, err)
	if got := <-cc.states; len(got.Addresses) != 0 {
		t.Errorf("addresses %v", got.Addresses)
	}
	addr, _ := serve(t, c, "a")
	got := <-cc.states
	of := got.Endpoints[0].Attributes
	if in, ok := grpcresolver.InstanceOf(of); !ok || in.ID != "a" || got.Addresses[0].Addr != addr || !of.Equal(of) {
		t.Errorf("state %v", got)
	}
	if _, ok := grpcresolver.InstanceOf(attributes.New("x", "y")); ok {
		t.Error("an instance of nothing")
	}
	r.ResolveNow(resolver.ResolveNowOptions{})
	e.Stop(c)
	for { // the session's end comes before
		select {
		case <-cc.states:
			continue
		case err := <-cc.errs:
			if err == nil {
				t.Error("ReportError(nil)")
			}
		}
		break
	}
	r.Close()
	r.Close()
}

// A recorder is a connection that keeps what it is told.
type recorder struct {
	states chan resolver.State
	errs   chan error
}

func (r *recorder) UpdateState(s resolver.State) error { r.states <- s; return nil }
func (r *recorder) ReportError(err error)              { r.errs <- err }
func (r *recorder) NewAddress([]resolver.Address)      {}
func (r *recorder) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{}
}
