package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"coord"
)

// A story is what is told, and what its steps hand to each other.
type story struct {
	account
	opts options
	src  *source
	e    *ensemble
	load *load

	candidates map[coord.MemberID]Registration
	elections  chan election  // has room for all that can come
	worker     coord.MemberID // which is elected

	background sync.WaitGroup // the goroutines of the story; they end with their processes
}

// An election is the news that a worker was elected, or why it can't be any more.
type election struct {
	p   *process
	err error
}

// maxRegistrations bounds how often a member registers in one story.
const maxRegistrations = 4 * ensembleSize

// narrate does everything, and kills every process that is left in the end.
func narrate(ctx context.Context, opts options, temp string, out io.Writer) (err error) {
	s := &story{
		account: account{out: out, begun: time.Now()}, opts: opts,
		elections: make(chan election, maxRegistrations), candidates: map[coord.MemberID]Registration{},
	}
	dir, err := opts.sourceDir(ctx)
	if err != nil {
		return err
	}
	if s.src, err = readSource(dir); err != nil {
		return err
	}
	s.tell("read", "%v", s.src)
	if s.e, err = newEnsemble(opts, temp); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.e.killAll())
		s.background.Wait()
	}()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"start the members", s.start},
		{"register the workers", s.register},
		{"write, and kill the leader", s.writeAndKill},
		{"restart the killed member", s.restart},
		{"kill and restart all members", s.restartAll},
		{"compare", s.compare},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	s.tell("done", "nothing was lost")
	return nil
}

// within bounds a step or a part of one.
func (s *story) within(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.opts.deadline, fmt.Errorf("not within %v: %s", s.opts.deadline, what))
}

// start starts the three processes.
func (s *story) start(ctx context.Context) error {
	status, took, err := s.startAll(ctx)
	if err != nil {
		return err
	}
	s.tell("start", "members %s; ready in %s; member %v leads", s.e.processes(), seconds(took), status.Leader)
	return nil
}

// startAll starts all members and waits until they are ready and agree on who
// leads.
func (s *story) startAll(ctx context.Context) (coord.Status, time.Duration, error) {
	begun := time.Now()
	ctx, cancel := s.within(ctx, "all members ready")
	defer cancel()
	for i := range s.e.members {
		if err := s.e.start(i); err != nil {
			return coord.Status{}, 0, err
		}
	}
	if err := each(s.e.running, func(p *process) error { return p.call(ctx, "Ready", struct{}{}, new(coord.Status)) }); err != nil {
		return coord.Status{}, 0, err
	}
	status, err := leader(ctx, s.e.running)
	return status, time.Since(begun), err
}

// register registers the workers: first the process whose member leads, so that
// the worker it is will be elected, and be missed.
func (s *story) register(ctx context.Context) error {
	ctx, cancel := s.within(ctx, "a worker elected")
	defer cancel()
	status, err := leader(ctx, s.e.running)
	if err != nil {
		return err
	}
	first := s.e.indexOf(status.Leader)
	for i := range s.e.running {
		if err := s.enter(ctx, s.e.running[(first+i)%ensembleSize]); err != nil {
			return err
		}
	}
	if err := s.awaitElected(ctx); err != nil {
		return err
	}
	s.tell("register", "each as an ephemeral under %s; worker %v is elected, the first under %s", workersDir, s.worker, electionDir)
	return nil
}

// enter has a process register as a worker and waits in the background for its
// election.
func (s *story) enter(ctx context.Context, p *process) error {
	var r Registration
	if err := p.call(ctx, "Register", struct{}{}, &r); err != nil {
		return fmt.Errorf("member %v: %w", p.id, err)
	}
	s.candidates[p.id] = r
	s.background.Go(func() {
		s.elections <- election{p, p.call(context.Background(), "Elect", struct{}{}, new(struct{}))}
	})
	return nil
}

// awaitElected waits for the next election of a process that lives.
func (s *story) awaitElected(ctx context.Context) error {
	for {
		select {
		case el := <-s.elections:
			if el.p.killed.Load() {
				continue
			}
			if el.err != nil {
				return fmt.Errorf("worker %v: %w", el.p.id, el.err)
			}
			s.worker = el.p.id
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// writeAndKill writes all files, kills the leader when half of them are written,
// and waits for what follows from it.
func (s *story) writeAndKill(ctx context.Context) error {
	s.load = newLoad(s.src, s.opts.deadline)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loaded := make(chan error, 1)
	s.background.Go(func() { loaded <- s.load.run(ctx, s.e.running, s.opts.writers) })
	victim, killedAt, err := s.killLeader(ctx, loaded)
	if err != nil {
		return err
	}
	left, survivors := s.candidates[victim.id], s.e.alive()
	type news struct {
		at  time.Time
		err error
	}
	vanished := make(chan news, 1)
	expiry, cancelExpiry := s.within(ctx, "the ephemerals of the dead process gone")
	defer cancelExpiry()
	s.background.Go(func() {
		err := survivors[0].call(expiry, "Gone", victim.id, new(struct{}))
		vanished <- news{time.Now(), err}
	})
	if err := s.tellWritten(ctx, loaded, survivors, killedAt, left); err != nil {
		return err
	}
	v := <-vanished
	if v.err != nil {
		return v.err
	}
	if s.worker == victim.id {
		election, cancel := s.within(ctx, "another worker elected")
		defer cancel()
		if err := s.awaitElected(election); err != nil {
			return err
		}
	}
	s.tell("expire", "%s and its candidate under %s vanished %s after the kill; worker %v is elected",
		left.Worker, electionDir, seconds(v.at.Sub(killedAt)), s.worker)
	return nil
}

// killLeader kills the leader's process in the middle of the writing.
func (s *story) killLeader(ctx context.Context, loaded <-chan error) (*process, time.Time, error) {
	select {
	case <-s.load.half:
	case err := <-loaded:
		return nil, time.Time{}, err
	}
	ctx, cancel := s.within(ctx, "a leader to kill")
	defer cancel()
	var status coord.Status
	err := s.e.running[0].call(ctx, "Status", struct{}{}, &status) // does not wait: the writing goes on
	if err == nil && status.Leader == 0 {
		status, err = leader(ctx, s.e.running)
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	victim := s.e.running[s.e.indexOf(status.Leader)]
	done, underWay := s.load.progress(victim.id)
	at := time.Now()
	if err := victim.kill(); err != nil {
		return nil, at, err
	}
	s.tell("kill", "member %v, the leader (SIGKILL): %d of %d znodes acknowledged, %s under way there",
		victim.id, done, s.load.total, count(underWay, "write"))
	return victim, at, nil
}

// tellWritten waits for the end of the writing and for a leader among the
// survivors.
func (s *story) tellWritten(ctx context.Context, loaded <-chan error, survivors []*process, killedAt time.Time, left Registration) error {
	if err := <-loaded; err != nil {
		return err
	}
	l := s.load
	if pause := longestGap(l.times, killedAt); pause > 0 {
		s.tell("pause", "%s between two acknowledgements, at the longest", seconds(pause))
	} else {
		s.tell("pause", "none: everything was acknowledged before the kill")
	}
	end := l.times[len(l.times)-1]
	s.tell("write", "all %d znodes acknowledged, in %s; %s repeated elsewhere, %d of them found applied",
		l.total, seconds(end.Sub(l.begun)), count(l.retried, "write"), l.found)
	ctx, cancel := s.within(ctx, "a new leader")
	defer cancel()
	status, err := leader(ctx, survivors)
	if err != nil {
		return err
	}
	s.tell("leader", "member %v leads now, in term %d; the dead process's session has %v to be heard of", status.Leader, status.Term, left.Timeout)
	return nil
}

// restart starts the killed member again and waits until it has caught up.
func (s *story) restart(ctx context.Context) error {
	begun := time.Now()
	ctx, cancel := s.within(ctx, "the killed member caught up")
	defer cancel()
	i := slices.IndexFunc(s.e.running, func(p *process) bool { return p.killed.Load() })
	if err := s.e.start(i); err != nil {
		return err
	}
	p := s.e.running[i]
	var status coord.Status
	if err := p.call(ctx, "Ready", struct{}{}, &status); err != nil {
		return err
	}
	if err := p.call(ctx, "Sync", struct{}{}, &status); err != nil {
		return err
	}
	took := time.Since(begun)
	if err := s.enter(ctx, p); err != nil {
		return err
	}
	s.tell("restart", "member %v; caught up in %s, at zxid %v with %s", p.id, seconds(took), status.ZXID, count(status.Znodes, "znode"))
	return nil
}

// restartAll kills all three at once and starts them again.
func (s *story) restartAll(ctx context.Context) error {
	if err := s.e.killAll(); err != nil {
		return err
	}
	s.tell("kill", "all three members (SIGKILL)")
	status, took, err := s.startAll(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := s.within(ctx, "a worker elected")
	defer cancel()
	for _, p := range s.e.running {
		if err := s.enter(ctx, p); err != nil {
			return err
		}
	}
	if err := s.awaitElected(ctx); err != nil {
		return err
	}
	s.tell("restart", "members %s; ready in %s; member %v leads; worker %v is elected", s.e.processes(), seconds(took), status.Leader, s.worker)
	return nil
}

// compare compares every member with the disk, and the members with each other.
func (s *story) compare(ctx context.Context) error {
	ctx, cancel := s.within(ctx, "the members compared at one zxid")
	defer cancel()
	reports, err := compareAll(ctx, s.e.running, s.src.dir)
	if err != nil {
		return err
	}
	var faults []string
	for i := range reports {
		id, r := s.e.members[i].ID, &reports[i]
		lines := differences(s.load.acked, r)
		s.tell("compare", "member %v: %s, byte for byte with the disk: %s", id, count(len(r.Znodes), "znode"), count(len(lines), "difference"))
		for _, line := range lines {
			faults = append(faults, fmt.Sprintf("member %v: %s", id, line))
		}
		if r.Digest != reports[0].Digest {
			faults = append(faults, fmt.Sprintf("at zxid %v, member %v has the digest %s and member %v has %s",
				r.ZXID, id, r.Digest, s.e.members[0].ID, reports[0].Digest))
		}
	}
	if len(faults) > 0 {
		const most = 20
		text := strings.Join(faults[:min(len(faults), most)], "\n")
		return fmt.Errorf("%s:\n%s", count(len(faults), "difference"), text)
	}
	s.tell("compare", "members 1, 2, 3 have the same digest at zxid %v: %.16s…", reports[0].ZXID, reports[0].Digest)
	return nil
}
