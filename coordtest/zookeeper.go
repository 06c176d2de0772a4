package coordtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/pprof"
	"testing"
	"time"

	"coord"
	"coord/internal/loopback"
	"coord/zkserver"
)

// ServeZooKeeper starts an ensemble of three members and returns the addresses, on the
// loopback interface, by which clients of ZooKeeper reach them: one for each member, in
// the order of their ids, as in
//
//	strings.Join(coordtest.ServeZooKeeper(t), ",") // a connect string
//
// The options are those of [NewEnsemble], with [WithZooKeeper] before them. The ensemble is
// closed and checked when the test ends, with whatever connections there still are. For
// faults use [Ensemble.ServeZooKeeper].
func ServeZooKeeper(tb testing.TB, opts ...Option) []string {
	tb.Helper()
	refuseClientsInBubble(tb)
	return NewEnsemble(tb, 3, append([]Option{WithZooKeeper()}, opts...)...).ServeZooKeeper()
}

// WithZooKeeper prepares an ensemble for [Ensemble.ServeZooKeeper]. It has znodes open to
// everybody, as those of ZooKeeper are ([coord.OpenACL] as DefaultACL, unless [WithConfig]
// sets another): otherwise they belong to the code of the members, and clients may not
// even create one. Changes are made, in their order, to the options that each member serves
// clients with. Before them these bound the connections from one address by nothing,
// since all come from this machine, and log to where the members do.
func WithZooKeeper(changes ...func(*zkserver.Options)) Option {
	return func(o *options) {
		o.openACL = true
		o.changeServing = append(o.changeServing, changes...)
	}
}

// ServeZooKeeper has each member serve clients of ZooKeeper ([zkserver.Serve]), and
// returns their addresses on the loopback interface, in the order of the members' ids.
// Make the ensemble with [WithZooKeeper]. A member that is down serves when it is
// restarted. Further calls return the same addresses. It excludes virtual time.
//
// Faults do to clients what they do with servers of ZooKeeper:
//
//   - After Kill and PowerCut connections are closed, nothing under way is answered, and the
//     port is refused until Restart, which listens on the same port again. Sessions live
//     on until they time out, and go on at other members.
//   - Stop is the same, but for requests under way: these are answered before.
//   - While a member is paused, connections to it can be opened and written to, and nobody
//     answers. Resume lets it go on with what has arrived.
//   - Isolate and the other faults of the network are between members: the connections of
//     clients stay, and who is served how is up to the member.
//
// Members are served until the test ends, and then checked for goroutines that are left,
// those of connections among them.
func (e *Ensemble) ServeZooKeeper() []string {
	e.t.Helper()
	refuseClientsInBubble(e.t)
	addrs, err := e.serveAll()
	e.must("serve clients of ZooKeeper", err)
	return addrs
}

func refuseClientsInBubble(tb testing.TB) {
	tb.Helper()
	if inBubble() {
		tb.Fatalf("coordtest: ServeZooKeeper in virtual time: time does not pass while somebody waits for a real socket; do not use VirtualTime")
	}
}

func (e *Ensemble) serveAll() ([]string, error) {
	e.acting.Lock()
	defer e.acting.Unlock()
	free, err := loopback.FreeAddrs(e.Size())
	if err != nil {
		return nil, err
	}
	var addrs []string
	for i, id := range e.ids() {
		m := e.place(id)
		if m.clientAddr == "" {
			m.clientAddr = free[i]
			e.mu.Lock()
			c, up := m.running, m.up()
			e.mu.Unlock()
			if up {
				if err := e.serve(m, c); err != nil {
					return nil, err
				}
			}
		}
		addrs = append(addrs, m.clientAddr)
	}
	return addrs, nil
}

// serving is how a member serves clients of ZooKeeper.
type serving struct {
	server *zkserver.Server
	gate   *gate
	done   chan struct{} // closed when the server does not accept any more
}

// serve begins to serve the clients of a member that has just been started, or of one
// that runs, if its ensemble serves any. The caller holds [Ensemble.acting].
func (e *Ensemble) serve(m *member, c *coord.Coordinator) error {
	if m.clientAddr == "" {
		return nil
	}
	o := zkserver.Options{MaxConnsPerAddr: -1, Logger: slog.New(e.logs.handler())}
	for _, change := range e.o.changeServing {
		change(&o)
	}
	server, err := zkserver.New(c, o)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", m.clientAddr)
	if err != nil {
		return fmt.Errorf("member %v: %w", m.id, err)
	}
	s := &serving{server: server, gate: newGate(ln), done: make(chan struct{})}
	if m.paused {
		s.gate.shut()
	}
	m.serving = s
	pprof.Do(context.Background(), pprof.Labels("coordtest", e.label), func(ctx context.Context) {
		go func() {
			defer close(s.done)
			if err := server.Serve(ctx, s.gate); !errors.Is(err, zkserver.ErrServerClosed) {
				e.trace.add("member %v: serves no clients of ZooKeeper any more: %v", m.id, err)
			}
		}()
	})
	return nil
}

// drainTime is how long a member that is stopped may take to answer what its clients have
// asked.
const drainTime = 5 * time.Second

// drain serves no more, in good order. Nil is a member that serves nobody; so it is for
// the methods below.
func (s *serving) drain() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	_ = s.server.Shutdown(ctx) // fails if time is up, and then it has closed all that was left
}

// hold has clients hear nothing, and nothing hear them, until letGo.
func (s *serving) hold() {
	if s != nil {
		s.gate.shut()
	}
}

func (s *serving) letGo() {
	if s != nil {
		s.gate.open()
	}
}

// close closes all connections and the port, and waits for the server's goroutines.
func (s *serving) close() {
	if s == nil {
		return
	}
	_ = s.server.Close() // never fails
	<-s.done
}

// stopServing has no member serve clients any more.
func (e *Ensemble) stopServing() {
	e.acting.Lock()
	defer e.acting.Unlock()
	for _, id := range e.ids() {
		m := e.place(id)
		m.serving.close()
		m.serving = nil
	}
}
