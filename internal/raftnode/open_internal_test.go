package raftnode

import (
	"errors"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/vfs"

	"coord/internal/raftnode/memnet"
	"coord/internal/replica"
)

// panics is a transport factory that ends the library's constructor.
type panics struct{ how func() }

func (p panics) Validate(string) bool { return true }

func (p panics) Create(config.NodeHostConfig, raftio.MessageHandler, raftio.ChunkHandler) raftio.ITransport {
	p.how()
	return nil
}

// Whatever way the library's constructor ends, an error with the reason comes
// back, and the next attempt finds nothing in its way.
func TestEveryPanicOfTheConstructorIsAnError(t *testing.T) {
	cfg := withDefaults(Config{
		Ensemble: "test", Member: 1, Dir: "/data", Addr: "n1",
		Members: map[replica.MemberID]string{1: "n1"},
		Net:     memnet.New(), FS: vfs.NewMem(),
	})
	cause := errors.New("a cause")
	tests := []struct {
		name string
		how  func()
		want string
	}{
		{"panicf", func() { logger.GetLogger("dragonboat").Panicf("disk %d is on fire", 7) }, "disk 7 is on fire"},
		{"error", func() { panic(cause) }, cause.Error()},
		{"text", func() { panic("swallowed") }, errSwallowed.Error()},
	}
	defer library.attach(cfg.Logger)()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nhc := cfg.nodeHostConfig(cfg.newBook(), newRoles(nil), panics{tt.how}, &logFactory{fs: cfg.FS, fuse: newFuse(cfg.Logger, nil)})
			nh, err := newNodeHost(&cfg, nhc)
			if nh != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("newNodeHost = %v, %v, want an error that says %q", nh, err, tt.want)
			}
		})
	}
	h, err := Open(cfg)
	if err != nil {
		t.Fatalf("Open after failed attempts: %v", err)
	}
	h.Close()
}

func TestMemberUUID(t *testing.T) {
	a := memberUUID("one", 1)
	if len(a) != 36 || a[14] != '8' {
		t.Errorf("memberUUID = %q, want a UUID of version 8", a)
	}
	if a != memberUUID("one", 1) {
		t.Error("memberUUID is not a function of its arguments")
	}
	for _, other := range []string{memberUUID("one", 2), memberUUID("two", 1), memberUUID("one", 11)} {
		if a == other {
			t.Errorf("two members share the UUID %s", a)
		}
	}
	if deploymentID("one") == deploymentID("two") {
		t.Error("two ensembles share a deployment id")
	}
}

// Nothing that peers say can change the book, and asking costs no memory.
func TestAddressBook(t *testing.T) {
	b := newAddressBook(byAddress, map[replica.MemberID]string{1: "n1", 2: "n2"})
	b.Add(1, 1, "evil")
	b.Add(1, 9, memberUUID("x", 9))
	b.Remove(1, 2)
	b.RemoveShard(1)
	for member, want := range map[uint64]string{1: "n1", 2: "n2"} {
		if addr, _, err := b.Resolve(1, member); addr != want || err != nil {
			t.Errorf("Resolve(1, %d) = %q, %v, want %q", member, addr, err, want)
		}
	}
	if _, _, err := b.Resolve(1, 9); err == nil {
		t.Error("Resolve of an unknown member succeeded")
	}
	b.replace(map[replica.MemberID]string{1: "moved"})
	addr, key, _ := b.Resolve(5, 1)
	if addr != "moved" || key != "moved-1" {
		t.Errorf("Resolve after replace = %q, %q, want moved, moved-1", addr, key)
	}
	if _, _, err := b.Resolve(1, 2); err == nil {
		t.Error("Resolve of a member that was left out succeeded")
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = b.Resolve(1, 1) }); n != 0 {
		t.Errorf("Resolve allocates %v times", n)
	}
}
