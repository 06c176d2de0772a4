//go:build unix

package raftnode_test

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/lni/vfs"

	"coord/internal/raftnode"
	"coord/internal/raftnode/peernet"
)

// Where file descriptors would run out, Open says so.
func TestTooFewFiles(t *testing.T) {
	if isChild() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 100, Max: 100}); err != nil {
			t.Skip(err)
		}
		_, err := raftnode.Open(onDisk(t, 1)[0])
		if err == nil || !strings.Contains(err.Error(), "limit of open files is 100") {
			t.Errorf("Open = %v, want an error about the limit of open files", err)
		}
		return
	}
	if out, ok := runChild(t, "run"); !ok {
		t.Errorf("failed:\n%s", out)
	}
}

// A member that cannot accept connections because its process has no file
// descriptors left waits until there are some again.
func TestOutOfFiles(t *testing.T) {
	if !isChild() {
		if out, ok := runChild(t, "run"); !ok {
			t.Errorf("failed:\n%s", out)
		}
		return
	}
	// The log is in memory, since pebble needs files as well.
	e := open(t, onDisk(t, 1, func(_ int, c *raftnode.Config) { c.FS = vfs.NewMem() }), 1)
	e.propose(0, 1, "before")
	addr, err := net.ResolveTCPAddr("tcp", e.cfgs[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(socket) }()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Skip(err)
	}
	if err := syscall.Connect(socket, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}); err != nil {
		t.Fatal(err)
	}
	e.eventually("an accept to fail", func() bool {
		for _, l := range e.hosts[0].Links() {
			if l.Peer == 0 && l.Direction == peernet.In && strings.Contains(l.LastError, "too many open files") {
				return true
			}
		}
		return false
	})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	e.propose(0, 1, "after")
	conn, err := net.Dial("tcp", e.cfgs[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// It is taken in again: what it says is answered.
	if _, err := conn.Write([]byte("\x16\x03\x01")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 1 {
		t.Errorf("Read = %d, %v, want the beginning of a refusal", n, err)
	}
}
