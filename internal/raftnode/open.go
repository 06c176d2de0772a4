package raftnode

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
)

// The ways in which Open fails that a caller may want to tell apart.
var (
	// ErrDirLocked says that another process, or another Host of this one,
	// uses Config.Dir.
	ErrDirLocked = errors.New("directory is in use")

	// ErrDirMismatch says that Config.Dir was made with another value of a
	// setting that is fixed for its life, or belongs to somebody else.
	ErrDirMismatch = errors.New("directory does not fit the configuration")

	// ErrAddressInUse says that nobody can listen on Config.Listen.
	ErrAddressInUse = errors.New("cannot listen")
)

// errSwallowed stands for a panic that the library recovered from and kept to
// itself. Those of its Panicf are not among them, see panicfError; what is
// left are panics with a bare text, about its small files.
var errSwallowed = errors.New("the raft library gave up without giving a reason, as it does when one of its files is damaged")

// newNodeHost looks for what the library would panic about in a goroutine of
// its own, calls its constructor, and turns everything it can end
// with into an error: it returns errors, panics with some, panics with text,
// and swallows panics so that it returns neither a host nor an error.
func newNodeHost(cfg *Config, nhc config.NodeHostConfig) (nh *dragonboat.NodeHost, err error) {
	defer func() {
		if r := recover(); r != nil {
			nh, err = nil, openError(cfg, panicError(r))
		}
	}()
	if cfg.Net == nil {
		if err := checkFileLimit(); err != nil {
			return nil, err
		}
		if err := checkListen(cfg.Listen); err != nil {
			return nil, err
		}
	}
	nh, err = dragonboat.NewNodeHost(nhc)
	if err != nil {
		return nil, openError(cfg, err)
	}
	if nh == nil {
		return nil, openError(cfg, errSwallowed)
	}
	return nh, nil
}

// panicError returns a recovered panic of the library as an error.
func panicError(r any) error {
	if err, ok := r.(error); ok {
		return err
	}
	return fmt.Errorf("%v", r)
}

// openError explains an error of the library's constructor. Its sentinels are
// in one of its internal packages, so their texts have to do; a test pins them.
func openError(cfg *Config, err error) error {
	text := err.Error()
	is := func(s string) bool { return strings.Contains(text, s) }
	mismatch := func(why string) error {
		return fmt.Errorf("raftnode: open %s: %w: %s (%w)", cfg.Dir, ErrDirMismatch, why, err)
	}
	switch {
	case is("failed to lock data directory"):
		return fmt.Errorf("raftnode: open %s: %w: another process is using it (%w)", cfg.Dir, ErrDirLocked, err)
	case is("hard setting changed"), is("hard.go settings changed"):
		return mismatch(fmt.Sprintf("it was made with another Config.LogShards than %d", cfg.LogShards))
	case is("hostname changed"):
		return mismatch("it was made on a machine with another host name")
	case is("deployment ID changed"):
		return mismatch(fmt.Sprintf("it belongs to another ensemble than %q", cfg.Ensemble))
	case is("NodeHostID changed"):
		return mismatch(fmt.Sprintf("it belongs to another member than %d", cfg.Member))
	case is("logdb type changed"):
		return mismatch("it was made by another log database")
	case is("address already in use"):
		return fmt.Errorf("raftnode: %w on %s: %w", ErrAddressInUse, cfg.Listen, err)
	}
	return fmt.Errorf("raftnode: open %s: %w", cfg.Dir, err)
}

// checkListen finds out whether the address can be listened on. The library
// would, too, but only after it has opened the log, and with less to say.
func checkListen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("raftnode: %w on %s: %w", ErrAddressInUse, addr, err)
	}
	return l.Close()
}
