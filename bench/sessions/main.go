// Command sessions measures what a great many sessions cost: an ensemble of three
// members in one process, on the real disk and over loopback, first without and
// then with them.
//
//	go run ./sessions -h
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"coord/bench/machine"
)

// A plan is what the command line asks for.
type plan struct {
	sessions int
	timeout  time.Duration
	idle     time.Duration
	closes   int
	rounds   int
	dir      string
}

func main() { machine.Main("sessions", command) }

func command(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("sessions", flag.ContinueOnError)
	var p plan
	fs.IntVar(&p.sessions, "sessions", 1_000_000, "sessions to open")
	fs.DurationVar(&p.timeout, "timeout", 20*time.Second, "of each session")
	fs.DurationVar(&p.idle, "idle", 10*time.Second, "how long to measure while nobody does anything")
	fs.IntVar(&p.closes, "closes", 200_000, "sessions to close one by one")
	fs.IntVar(&p.rounds, "rounds", 3, "changes of leader to measure, each without and with the sessions")
	fs.StringVar(&p.dir, "dir", "", "where to make the temporary directory; default: the system's")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if p.sessions < 1 || p.closes < 1 || p.closes >= p.sessions || p.rounds < 1 {
		return fmt.Errorf("%d sessions, %d to close, %d rounds: must be positive, and fewer closes than sessions", p.sessions, p.closes, p.rounds)
	}
	dir, err := os.MkdirTemp(p.dir, "coord-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.dir = dir
	if err := machine.Describe(out, dir); err != nil {
		return err
	}
	return p.execute(ctx, out)
}

// execute measures. Everything is printed as soon as it is known.
func (p *plan) execute(ctx context.Context, out io.Writer) (err error) {
	e, err := openEnsemble(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }

	before, err := p.changesOfLeader(ctx, e)
	if err != nil {
		return err
	}
	say("change of leader, without sessions: %v until a write is acknowledged", before)
	quiet := e.idleBytes(p.idle)
	say("idle, without sessions: %.0f bytes/s read and written by the process", quiet)

	heap := heapBytes()
	took, err := e.openSessions(ctx, p.sessions, p.timeout)
	if err != nil {
		return err
	}
	say("opened %d sessions in %v: %.0f/s, %d bytes of heap each, for three members and the handles",
		p.sessions, took.Round(time.Millisecond), float64(p.sessions)/took.Seconds(), (heapBytes()-heap)/p.sessions)

	busy := e.idleBytes(p.idle)
	say("idle, with them: %.0f bytes/s; %.2f of that without", busy, busy/quiet)
	after, err := p.changesOfLeader(ctx, e)
	if err != nil {
		return err
	}
	say("change of leader, with them: %v until a write is acknowledged", after)
	if got := e.members[0].Status().Sessions; got < p.sessions {
		return fmt.Errorf("%d sessions are left of %d", got, p.sessions)
	}

	closing, err := e.closeSessions(p.closes)
	if err != nil {
		return err
	}
	say("closed %d sessions one by one in %v: %.0f/s; a writer beside waited %v", p.closes, closing.took.Round(time.Millisecond),
		float64(p.closes)/closing.took.Seconds(), closing.writer)
	expiring, err := e.expireSessions(ctx, p.timeout)
	if err != nil {
		return err
	}
	say("the member that owned the other %d died: all ended %v after their timeout of %v; a writer beside waited %v",
		p.sessions-p.closes, expiring.took.Round(time.Millisecond), p.timeout, expiring.writer)
	return nil
}

// changesOfLeader kills the leader, again and again.
func (p *plan) changesOfLeader(ctx context.Context, e *ensemble) (latencies, error) {
	var took latencies
	for range p.rounds {
		d, err := e.changeLeader(ctx)
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	return took, nil
}
