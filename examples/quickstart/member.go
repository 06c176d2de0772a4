package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/signal"
	"syscall"
	"time"

	"coord"
)

const (
	memberEnv = "COORD_QUICKSTART_MEMBER" // a memberConfig makes this program a member
	service   = "Member"                  // the name of the member's methods in JSON-RPC
)

// A memberConfig is what a member process is started with.
type memberConfig struct {
	ID       coord.MemberID `json:"id"`
	Dir      string         `json:"dir"`
	Addrs    []string       `json:"addrs"`    // of all members
	Election time.Duration  `json:"election"` // nanoseconds, as Session; 0 is coord's default
	Session  time.Duration  `json:"session"`
}

// A member is what runs in a member process: a Coordinator, and the methods that
// the first process calls. Each call has a goroutine of its own.
type member struct {
	c       *coord.Coordinator
	ctx     context.Context // the life of the process
	elected chan struct{}   // is sent to when a term begins
	ended   chan error      // has room for why there are none any more
}

// runMember is the main function of a member process. It returns when its
// standard input ends, and so with the first process, however that ends.
func runMember(config string) {
	signal.Ignore(os.Interrupt, syscall.SIGHUP) // the terminal sends them to the first process too
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := serveMember(config, log); err != nil {
		log.Error("member ends", slog.Any("err", err))
		os.Exit(1)
	}
}

func serveMember(config string, log *slog.Logger) error {
	in, out := os.Stdin, os.Stdout
	os.Stdout = os.Stderr // whatever prints, it must not print into the protocol
	var cfg memberConfig
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		return fmt.Errorf("%s: %w", memberEnv, err)
	}
	ctx := context.Background()
	c, err := coord.Open(ctx, coord.Config{
		Name: "quickstart", ID: cfg.ID, Dir: cfg.Dir, InitialMembers: membersAt(cfg.Addrs),
		ElectionTimeout: cfg.Election, SessionTimeout: cfg.Session, MaxDataBytes: maxFileBytes, Logger: log,
	})
	if err != nil {
		return err
	}
	server := rpc.NewServer()
	if err := server.RegisterName(service, &member{c: c, ctx: c.Context(), elected: make(chan struct{}), ended: make(chan error, 1)}); err != nil {
		return errors.Join(err, c.Close())
	}
	server.ServeCodec(jsonrpc.NewServerCodec(stdio{in, out}))
	return c.Close()
}

// Ready waits until the member takes part in the ensemble.
func (m *member) Ready(_ struct{}, s *coord.Status) error {
	err := m.c.Ready(m.ctx)
	*s = m.c.Status()
	return err
}

// Status returns how the member stands, without waiting.
func (m *member) Status(_ struct{}, s *coord.Status) error { //nolint:unparam // net/rpc asks for an error
	*s = m.c.Status()
	return nil
}

// Sync waits until the member reflects every write that was acknowledged before
// the call.
func (m *member) Sync(_ struct{}, s *coord.Status) error {
	err := m.c.Sync(m.ctx, "/")
	*s = m.c.Status()
	return err
}

// PutArgs is a znode to write.
type PutArgs struct {
	Path  string
	Data  []byte // nil for a directory
	Again bool   // it was sent to another member, and its outcome is not known
}

// PutReply says how the znode comes to be there.
type PutReply struct {
	Found   bool // it was there already, with the same data
	Unknown bool // the outcome is not known: try again
}

// Put creates a znode and its parents. An answer without an error and without
// Unknown is the acknowledgement.
func (m *member) Put(a PutArgs, r *PutReply) error {
	_, _, err := m.c.Create(m.ctx, a.Path, a.Data, coord.WithParents())
	isDir := a.Data == nil // any write below it may have created it
	switch {
	case errors.Is(err, coord.ErrUnknownOutcome):
		r.Unknown = true
		return nil
	case !errors.Is(err, coord.ErrNodeExists), !a.Again && !isDir:
		return err
	}
	data, _, err := m.c.Get(m.ctx, a.Path, coord.Linearizable())
	if err != nil {
		return err
	}
	if !same(data, a.Data) {
		return fmt.Errorf("%s exists with other data", a.Path)
	}
	r.Found = true
	return nil
}

// same reports whether two znodes have equal data. Null and empty data differ.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
