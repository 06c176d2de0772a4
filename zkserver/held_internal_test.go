package zkserver

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"coord"
	"coord/internal/jute"
)

// TestC2NotificationsAreNotHeldForEver has the writer wake for a notification when a
// request has just come whose answer tells none. It is told behind the answer, and does not
// wait until something else happens.
func TestC2NotificationsAreNotHeldForEver(t *testing.T) {
	member, err := coord.Open(t.Context(), coord.Config{Dir: t.TempDir(), DefaultACL: coord.OpenACL(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	s, err := New(member, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mine, its := net.Pipe()
	defer mine.Close()
	c := s.newConn(its)
	defer c.leave()
	if c.session, err = member.NewSession(t.Context(), coord.SessionOptions{External: true, Identities: []coord.ID{}}); err != nil {
		t.Fatal(err)
	}
	c.timeout = c.session.Timeout()
	v, err := c.now()
	if err != nil {
		t.Fatal(err)
	}
	if code, err := c.watch(v, coord.Registration{Path: "/w", Type: coord.DataWatcher}); code != jute.OK || err != nil {
		t.Fatal(code, err)
	}

	if _, _, err := member.Create(t.Context(), "/w", nil); err != nil {
		t.Fatal(err)
	}
	c.backlog.add(&request{xid: jute.XidAuth, op: jute.OpAuth, at: time.Now()})
	<-c.changed() // await chooses this one
	if err := c.notifyIdle(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.runWriter() }()
	_ = mine.SetReadDeadline(time.Now().Add(time.Minute))
	for _, want := range []int32{jute.XidAuth, jute.XidNotification} {
		var length [4]byte
		if _, err := io.ReadFull(mine, length[:]); err != nil {
			t.Fatalf("waiting for %d: %v", want, err)
		}
		frame := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(mine, frame); err != nil {
			t.Fatal(err)
		}
		var h jute.ReplyHeader
		if err := jute.Unmarshal(frame, &h); err != nil || h.Xid != want {
			t.Fatalf("frame %+v, %v, want xid %d", h, err, want)
		}
	}
	c.backlog.finish()
	if err := <-done; !errors.Is(err, errReplied) {
		t.Errorf("the writer ends with %v", err)
	}
}
