package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"coord"
)

const (
	workersDir  = "/workers"  // an ephemeral for each member process, its data the pid
	electionDir = "/election" // an ephemeral sequential for each, its data the member's id; the lowest is elected
)

// A Registration is what Register has created.
type Registration struct {
	Worker    string // path
	Candidate string // path
	Timeout   time.Duration
}

// Register enters this process under /workers and as a candidate under
// /election, through the Coordinator's own session. What an earlier process of
// this member has left there is replaced in the same write: that process is dead,
// or this one could not have opened the member's directory.
func (m *member) Register(_ struct{}, r *Registration) error {
	s := m.c.Session()
	if s == nil {
		return coord.ErrSessionExpired
	}
	id := []byte(m.c.Status().Member.String())
	for {
		ops, err := m.leftovers(s, id)
		if err != nil {
			return err
		}
		worker := path.Join(workersDir, string(id))
		ops = append(
			ops,
			coord.CreateOp(worker, []byte(strconv.Itoa(os.Getpid())), coord.Ephemeral, coord.WithParents()),
			coord.CreateOp(electionDir+"/n-", id, coord.EphemeralSequential, coord.WithParents()),
		)
		results, err := s.Multi(m.ctx, ops...)
		if errors.Is(err, coord.ErrNoNode) {
			continue // a leftover has expired since it was seen
		}
		if err != nil {
			return err
		}
		*r = Registration{Worker: worker, Candidate: results[len(results)-1].Path, Timeout: s.Timeout()}
		return nil
	}
}

// leftovers returns the operations that delete what an earlier process of this
// member has left.
func (m *member) leftovers(s *coord.Session, id []byte) ([]coord.Op, error) {
	var ops []coord.Op
	v, err := s.View(m.ctx, coord.Linearizable())
	if err != nil {
		return nil, err
	}
	worker := path.Join(workersDir, string(id))
	if _, stat, err := v.Get(worker); err == nil {
		ops = append(ops, coord.DeleteOp(worker, coord.WithCzxid(stat.Czxid)))
	}
	for z := range v.Walk(electionDir) {
		if z.Path != electionDir && bytes.Equal(z.Data, id) {
			ops = append(ops, coord.DeleteOp(z.Path, coord.WithCzxid(z.Stat.Czxid)))
		}
	}
	return ops, nil
}

// Elect waits until this process is elected: until its candidate is the lowest.
// Each candidate watches only the one before it, so that one wakes up when one
// goes.
func (m *member) Elect(candidate string, _ *struct{}) error {
	s := m.c.Session()
	if s == nil {
		return coord.ErrSessionExpired
	}
	ctx := s.Context() // with the session, the candidate is gone
	for {
		names, _, err := s.Children(ctx, electionDir, coord.Linearizable())
		if err != nil {
			return err
		}
		switch i := slices.Index(names, path.Base(candidate)); i {
		case -1:
			return fmt.Errorf("candidate %s is gone", candidate)
		case 0:
			return nil
		default:
			if err := awaitGone(ctx, s, path.Join(electionDir, names[i-1])); err != nil {
				return err
			}
		}
	}
}

// Gone waits until none of the znodes exists.
func (m *member) Gone(paths []string, _ *struct{}) error {
	for _, p := range paths {
		if err := awaitGone(m.ctx, m.c, p); err != nil {
			return err
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
