package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"coord"
	"coord/internal/loopback"
)

// An ensemble is three member processes and what they need to start again.
type ensemble struct {
	opts    options
	temp    string
	addrs   []string
	members []coord.Member // at addrs
	running []*process     // in the order of members; the newest of each, alive or not
}

const ensembleSize = 3

func newEnsemble(opts options, temp string) (*ensemble, error) {
	addrs, err := loopback.FreeAddrs(ensembleSize)
	if err != nil {
		return nil, err
	}
	return &ensemble{
		opts: opts, temp: temp, addrs: addrs, members: membersAt(addrs), running: make([]*process, ensembleSize),
	}, nil
}

// membersAt numbers the members from 1.
func membersAt(addrs []string) []coord.Member {
	var members []coord.Member
	for i, addr := range addrs {
		members = append(members, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	return members
}

// A process is one run of one member.
type process struct {
	id      coord.MemberID
	pid     int
	log     string
	kill    func() error // ends it with SIGKILL and waits
	client  *rpc.Client
	killed  atomic.Bool // by us
	exited  chan struct{}
	waitErr error // set before exited is closed
}

// start starts member i (from 0), again if it ran before. It does not wait until
// the member is ready.
func (e *ensemble) start(i int) error {
	id := e.members[i].ID
	p := &process{id: id, log: filepath.Join(e.temp, fmt.Sprintf("member-%v.log", id)), exited: make(chan struct{})}
	config, err := json.Marshal(memberConfig{
		ID: id, Dir: filepath.Join(e.temp, fmt.Sprintf("member-%v", id)), Addrs: e.addrs,
		Election: e.opts.election, Session: e.opts.session,
	})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), memberEnv+"="+string(config))
	endWithParent(cmd)
	if err := p.start(cmd); err != nil {
		return fmt.Errorf("start member %v: %w", id, err)
	}
	e.running[i] = p
	return nil
}

// start starts cmd and speaks JSON-RPC, a line a message, over its standard input
// and output.
func (p *process) start(cmd *exec.Cmd) (err error) {
	var files []io.Closer // what the child has of its own, or what a failed start leaves
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	files = append(files, log)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	// A pipe of our own: exec's would be closed with answers of a killed process
	// still in it.
	stdout, childStdout, err := os.Pipe()
	if err != nil {
		return err
	}
	files = append(files, childStdout)
	cmd.Stdout, cmd.Stderr = childStdout, log
	if err := cmd.Start(); err != nil {
		files = append(files, stdout)
		return err
	}
	p.pid = cmd.Process.Pid
	p.client = jsonrpc.NewClient(stdio{stdout, stdin})
	p.kill = func() error {
		p.killed.Store(true)
		err := cmd.Process.Kill()
		<-p.exited
		if errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		return err
	}
	go func() { // ends with the process, for which kill waits
		p.waitErr = cmd.Wait()
		close(p.exited)
	}()
	return nil
}

// stdio makes a connection of two pipes.
type stdio struct {
	io.ReadCloser
	io.Writer
}

// call calls a method of the member and waits for its answer, for ctx, and for
// the end of the process.
func (p *process) call(ctx context.Context, method string, args, reply any) error {
	done := make(chan *rpc.Call, 1)
	p.client.Go(service+"."+method, args, reply, done)
	select {
	case call := <-done:
		if _, answered := errors.AsType[rpc.ServerError](call.Error); call.Error == nil || answered {
			return call.Error
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// The pipe is at its end, so the process is, or will be in a moment.
	select {
	case <-p.exited:
		return &exitError{p.id, p.log, p.waitErr}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// An exitError is the error of a call that the process did not live to answer.
type exitError struct {
	id  coord.MemberID
	log string
	err error
}

// Error says how the process ended.
func (e *exitError) Error() string {
	return fmt.Sprintf("the process of member %v has ended (%v); see %s", e.id, e.err, e.log)
}

// alive returns the processes that were not killed.
func (e *ensemble) alive() []*process {
	var alive []*process
	for _, p := range e.running {
		if p != nil && !p.killed.Load() {
			alive = append(alive, p)
		}
	}
	return alive
}

// processes names the members and their process ids.
func (e *ensemble) processes() string {
	var names []string
	for _, p := range e.running {
		names = append(names, fmt.Sprintf("%v (pid %d)", p.id, p.pid))
	}
	return strings.Join(names, ", ")
}

// indexOf returns the place of the member with this id.
func (e *ensemble) indexOf(id coord.MemberID) int { return int(id) - 1 }

// each calls f for every process at once.
func each(ps []*process, f func(*process) error) error {
	errs := make(chan error, len(ps))
	for _, p := range ps {
		go func() { errs <- f(p) }() // received below
	}
	var all error
	for range ps {
		all = errors.Join(all, <-errs)
	}
	return all
}

// killAll kills every process that is left.
func (e *ensemble) killAll() error {
	return each(e.alive(), func(p *process) error { return p.kill() })
}

// leader returns what the members say once all of them name the same leader, and
// it is one of them.
func leader(ctx context.Context, ps []*process) (coord.Status, error) {
	for {
		statuses := make([]coord.Status, len(ps))
		for i, p := range ps {
			// Sync takes a round trip to a quorum, so this is no busy loop.
			if err := p.call(ctx, "Sync", struct{}{}, &statuses[i]); err != nil {
				return coord.Status{}, err
			}
		}
		first, agreed, present := statuses[0], true, false
		for i, s := range statuses {
			agreed = agreed && s.Leader == first.Leader && s.Term == first.Term
			present = present || ps[i].id == first.Leader
		}
		if agreed && present {
			return first, nil
		}
	}
}
