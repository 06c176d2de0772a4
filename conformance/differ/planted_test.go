package differ_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"coord/internal/jute"

	"coord/conformance/differ"
	"coord/conformance/script"
	"coord/conformance/subject"
)

// TestPlantedConfigurations checks that a server that differs is found, by servers that
// are told to differ.
func TestPlantedConfigurations(t *testing.T) {
	a := subject.ZooKeeper(t, 1)
	for key, value := range map[string]string{
		"extendedTypesEnabled": "false",
		"enforceQuota":         "false",
		"maxSessionTimeout":    "25000", // less than scripts ask for
		"skipACL":              "yes",
	} {
		t.Run(key, func(t *testing.T) {
			b := subject.ZooKeeper(t, 1, key, value)
			find(t, a, b)
		})
	}
}

// TestPlantedBytes checks the same by a server whose answers are changed on the way.
func TestPlantedBytes(t *testing.T) {
	a, b := subject.ZooKeeper(t, 1), subject.ZooKeeper(t, 1)
	for name, change := range map[string]func(xid int32, code jute.Code, frame []byte) []byte{
		"events are lost": func(xid int32, _ jute.Code, frame []byte) []byte {
			if xid == jute.XidNotification {
				return nil
			}
			return frame
		},
		"no access is no node": func(_ int32, code jute.Code, frame []byte) []byte {
			if code == jute.NoAuth {
				noNode := jute.NoNode
				binary.BigEndian.PutUint32(frame[12:], uint32(noNode))
			}
			return frame
		},
		"a change of children is not seen in the stat": func(xid int32, _ jute.Code, frame []byte) []byte {
			const stat = 68
			if xid > 0 && len(frame) == jute.ReplyHeaderBytes+stat {
				s := frame[len(frame)-stat:]
				copy(s[stat-8:], s[:8]) // pzxid becomes czxid
			}
			return frame
		},
		"every zxid is that of the future": func(xid int32, _ jute.Code, frame []byte) []byte {
			if xid > 1<<30 && xid%7 == 0 {
				frame[4]++
			}
			return frame
		},
	} {
		t.Run(name, func(t *testing.T) {
			changed := differ.Subject{Name: "changed", Addrs: []string{proxy(t, func() (net.Conn, error) { return net.Dial("tcp", b.Addrs[0]) }, change)}}
			find(t, a, changed)
		})
	}
}

// find fails unless random operations find a difference, which shrinks to a short script.
func find(t *testing.T, a, b differ.Subject) {
	t.Helper()
	pair, err := differ.NewPair(a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	for number := range uint64(200) {
		for _, profile := range script.Profiles(1) {
			s := script.Random(profile, 1, number, 40)
			difference, err := pair.Compare(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if difference == "" {
				continue
			}
			small := script.Shrink(s, func(s script.Script) bool {
				difference, err := pair.Compare(t.Context(), s)
				return err == nil && difference != ""
			})
			difference, err = pair.Compare(t.Context(), small)
			t.Logf("%s script %d: %v\n%s\nof\n%s", profile.Name, number, err, difference, small)
			if len(small) > 8 {
				t.Errorf("%d steps", len(small))
			}
			return
		}
	}
	t.Error("was not found")
}

// proxy passes bytes on, and changes those that a server sends.
func proxy(t *testing.T, dial func() (net.Conn, error), change func(xid int32, code jute.Code, frame []byte) []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := dial()
			if err != nil {
				_ = client.Close()
				return
			}
			stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			}()
			go func() {
				defer stop()
				passOn(client, server, change)
				_ = client.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func passOn(client io.Writer, server io.Reader, change func(xid int32, code jute.Code, frame []byte) []byte) {
	for handshaken := false; ; handshaken = true {
		var length [4]byte
		if _, err := io.ReadFull(server, length[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(server, frame); err != nil {
			return
		}
		if handshaken {
			var h jute.ReplyHeader
			h.DecodeFrom(jute.NewDecoder(frame))
			if frame = change(h.Xid, h.Err, frame); frame == nil {
				continue
			}
		}
		if _, err := client.Write(jute.AppendBuffer(nil, frame)); err != nil {
			return
		}
	}
}
