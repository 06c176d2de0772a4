package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"time"

	"coord"
	"coord/recipes"
)

const (
	workersDir  = "/workers"  // an ephemeral for each member process, its data the pid
	electionDir = "/election" // a candidate for each, its value the member's id
)

// A Registration is what Register has created.
type Registration struct {
	Worker  string // path
	Timeout time.Duration
}

// Register enters this process under /workers, and as a candidate under /election.
// What an earlier process of this member has left there is replaced: that process is
// dead, or this one could not have opened the member's directory.
func (m *member) Register(_ struct{}, r *Registration) error {
	id := m.c.Status().Member.String()
	*r = Registration{Worker: path.Join(workersDir, id)}
	_, err := recipes.Register(m.ctx, m.c, r.Worker, []byte(strconv.Itoa(os.Getpid())), coord.Raw(), recipes.TakeOver())
	if err != nil {
		return err
	}
	candidates, err := recipes.Contenders(m.ctx, m.c, electionDir, coord.Linearizable())
	if err != nil {
		return err
	}
	for _, c := range candidates {
		if string(c.Value) == id {
			if err := recipes.Break(m.ctx, m.c, c); err != nil {
				return err
			}
		}
	}
	go m.campaign(id)
	if s := m.c.Session(); s != nil {
		r.Timeout = s.Timeout()
	}
	return nil
}

// campaign is elected whenever it is this process's turn, as long as it lives.
func (m *member) campaign(id string) {
	err := recipes.RunElected(m.ctx, m.c, electionDir, func(ctx context.Context, _ *recipes.Held) error {
		select {
		case m.elected <- struct{}{}:
		case <-ctx.Done():
		}
		<-ctx.Done() // what the one worker that is elected has to do, it does until here
		return context.Cause(ctx)
	}, recipes.WithValue([]byte(id)))
	m.ended <- err
}

// Elect waits until this process is elected.
func (m *member) Elect(_ struct{}, _ *struct{}) error {
	select {
	case <-m.elected:
		return nil
	case err := <-m.ended:
		return err
	}
}

// Gone waits until the dead process of a member is no worker any more, and fails if it
// is a candidate then: all that is of one session vanishes at one zxid.
func (m *member) Gone(id coord.MemberID, _ *struct{}) error {
	if err := awaitGone(m.ctx, m.c, path.Join(workersDir, id.String())); err != nil {
		return err
	}
	candidates, err := recipes.Contenders(m.ctx, m.c, electionDir)
	if err != nil {
		return err
	}
	for _, c := range candidates {
		if string(c.Value) == id.String() {
			return fmt.Errorf("%s is a candidate still", c.Path)
		}
	}
	return nil
}

// awaitGone waits, with a watch, until the znode does not exist.
func awaitGone(ctx context.Context, c coord.Client, path string) error {
	for {
		err := watchGone(ctx, c, path)
		_, overrun := errors.AsType[*coord.OverrunError](err)
		_, compacted := errors.AsType[*coord.CompactedError](err)
		switch {
		case overrun, compacted: // look again
		case errors.Is(err, coord.ErrSuspended):
			if err := c.Sync(ctx, path); err != nil { // waits for a quorum
				return err
			}
		default:
			return err
		}
	}
}

func watchGone(ctx context.Context, c coord.Client, path string) error {
	w, err := c.Watch(ctx, path, coord.Node)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, ok, err := c.Exists(ctx, path, coord.Linearizable()); err != nil || !ok {
		return err
	}
	for ev, err := range w.Events() {
		if err != nil {
			return err
		}
		if ev.Type == coord.NodeDeleted {
			return nil
		}
	}
	return w.Err()
}
