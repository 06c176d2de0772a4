package zkserver_test

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"coord/internal/jute"
)

// A brokenEnd is a server's end of a connection that breaks at a moment of its handshake.
type brokenEnd struct {
	net.Conn

	onDeadline func(at time.Time) error
}

func (b *brokenEnd) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1} }

func (b *brokenEnd) SetDeadline(at time.Time) error {
	if err := b.onDeadline(at); err != nil {
		return err
	}
	return b.Conn.SetDeadline(at)
}

// dialBroken is dial to a server whose end is a brokenEnd.
func (w *world) dialBroken(ln *pipeListener, onDeadline func(time.Time) error) *client {
	mine, its := net.Pipe()
	ln.conns <- &brokenEnd{its, onDeadline}
	return newClient(w.t, mine)
}

// TestC5SessionsOfBrokenHandshakesExpire breaks a connection between the answer to its
// handshake and the first request: the session is left, as that of any other.
func TestC5SessionsOfBrokenHandshakesExpire(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		before := c.Status().Sessions
		cl := w.dialBroken(w.listeners[c.Status().Member], func(at time.Time) error {
			if at.IsZero() {
				return errors.New("the connection is broken")
			}
			return nil
		})
		if resp := cl.handshake(&jute.ConnectRequest{TimeoutMS: 5000}); resp == nil || resp.SessionID == 0 {
			t.Fatalf("the handshake is answered with %+v", resp)
		}
		cl.wantClosed()
		eventually(t, "the session to expire", func() bool { return c.Status().Sessions == before })
	})
}

// TestShutdownEndsHandshakes shuts a server down when a connection is about to begin: it
// does not wait until that client has had its time.
func TestShutdownEndsHandshakes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		id := w.Leader(t.Context()).Status().Member
		reached, goOn := make(chan struct{}), make(chan struct{})
		cl := w.dialBroken(w.listeners[id], func(time.Time) error {
			close(reached)
			<-goOn
			return nil
		})
		<-reached
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- w.servers[id].Shutdown(t.Context()) }()
		synctest.Wait()
		close(goOn)
		if err := <-done; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		if took := time.Since(began); took > 0 { // in virtual time
			t.Errorf("Shutdown waited %v for a client that says nothing", took)
		}
		cl.wantClosed()
	})
}

// TestShutdownAnswersWhatWasRead shuts a server down while a request that was read waits
// to be begun: it is answered, as any other that is under way.
func TestShutdownAnswersWhatWasRead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		// Who has failed to say who he is has to wait before he says it again.
		w.connect(c, 30*time.Second).call(jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("super:wrong")}, nil)
		cl := w.connect(c, 30*time.Second)
		cl.send(jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("super:secret")})
		synctest.Wait()
		if len(cl.frames) > 0 {
			t.Fatal("the request was answered before")
		}
		if err := w.servers[c.Status().Member].Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		cl.wantReply(jute.XidAuth, jute.OK)
		cl.wantClosed()
	})
}

var _ net.Conn = (*brokenEnd)(nil)
