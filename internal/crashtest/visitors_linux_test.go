package crashtest_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"coord"
	"coord/internal/crashtest/lan"
)

// visitorGrace is how long a visitor may be silent before the ensemble removes it.
const visitorGrace = 5 * time.Second

// A visitor is a host on which processes come and go that are no members: each joins without
// an id, as an observer with a directory that it throws away. What it shows must be what
// the members have, and in fine weather it writes.
type visitor struct {
	name string
	host *lan.Host
	p    *process // nil: nobody is here

	cert, key string // files; empty without TLS
}

// haveVisitors makes places for visitors.
func (x *chaos) haveVisitors(n int) {
	x.t.Helper()
	for i := range n {
		v := x.newPlace(fmt.Sprint("visitor-", i+1))
		x.visitors = append(x.visitors, &v)
	}
}

func (x *chaos) newPlace(name string) visitor {
	x.t.Helper()
	host, err := x.lan.Join()
	if err != nil {
		x.t.Fatal(err)
	}
	v := visitor{name: name, host: host}
	if x.authority != nil {
		if v.cert, v.key, err = x.authority.Issue(v.name, host.Addr().AsSlice()); err != nil {
			x.t.Fatal(err)
		}
	}
	return v
}

// oneVisitor has one come where nobody is, or the one that is there go.
func (x *chaos) oneVisitor() {
	v := x.visitors[x.rng.IntN(len(x.visitors))]
	switch {
	case v.p == nil:
		x.invite(v)
	case x.rng.IntN(2) == 0:
		x.count("visitor that was killed")
		x.seeOff(v)
	default:
		x.count("visitor that left")
		v.p.ending.Store(true)
		_, _ = v.p.call(request{Op: opClose}) // which may wait for an ensemble that is not there
		x.seeOff(v)
	}
}

// invite starts a process that joins, whatever befalls the ensemble.
func (x *chaos) invite(v *visitor) {
	cfg := x.joining(v, 0)
	x.open(v, &cfg)
	v.p.removed.Store(true) // at any time, if it is silent for long enough
}

// joining describes a process that joins at a place, as the member of an id or as none.
func (x *chaos) joining(v *visitor, id coord.MemberID) memberConfig {
	cfg := x.cfgs[0]
	cfg.ID, cfg.Dir, cfg.Journal, cfg.Members = id, "", "", nil
	cfg.Listen = fmt.Sprintf("%v:%d", v.host.Addr(), 7000+id)
	cfg.Cert, cfg.Key = v.cert, v.key
	cfg.command = func(program string) *exec.Cmd { return v.host.Command(x.t.Context(), program) }
	return cfg
}

// open starts a process at a place, which may ask every member that there is now.
func (x *chaos) open(v *visitor, cfg *memberConfig) {
	cfg.Join = nil
	for i := range x.cfgs {
		cfg.Join = append(cfg.Join, x.addr(i, x.cfgs[i].ID))
	}
	x.mu.Lock()
	x.starts++
	n := x.starts
	x.mu.Unlock()
	x.l.note(map[string]any{"start": n, "visitor": v.name, "at": x.l.now()})
	p := launch(x.t, n, cfg, filepath.Join(x.dir, v.name+".log"), x.event)
	x.wg.Go(func() { x.look(p) })
	v.p = p
}

// look compares what a visitor shows with what others have shown at the same position. A
// process may end by our hand, or because it gave up joining.
func (x *chaos) look(p *process) {
	defer func() {
		<-p.exited
		if !p.ending.Load() {
			x.l.violate("%w", p.exitError())
		}
	}()
	select {
	case <-p.ready:
		x.count("visitor or lodger that was served")
	case <-p.exited:
		return
	}
	for {
		a, err := p.call(request{Op: opView})
		if err != nil {
			return
		}
		x.l.saw(fmt.Sprint("visitor ", p.n), &a)
		x.count("state that a visitor or lodger has shown")
		select {
		case <-time.After(100 * time.Millisecond):
		case <-p.exited:
			return
		}
	}
}

// seeOff ends what runs on a visitor's host.
func (x *chaos) seeOff(v *visitor) {
	v.p.kill()
	v.p = nil
}

// awaitVisitors is called in fine weather: each visitor is served and writes, or was removed
// because it had been silent, or has given up joining. It returns how many are there.
func (x *chaos) awaitVisitors() (visiting int) {
	x.t.Helper()
	for _, v := range x.visitors {
		if v.p == nil {
			continue
		}
		gone := false
		poll(x.t, readyBound, v.name+" to write, or to be gone", func() bool {
			select {
			case <-v.p.exited:
				x.count("visitor that gave up joining")
				gone = true
			case <-v.p.failed:
				x.count("visitor that found itself removed")
				gone = true
			case <-v.p.ready:
				return v.writes()
			default:
			}
			return gone
		})
		if gone {
			x.seeOff(v)
		} else {
			visiting++
		}
	}
	return visiting
}

func (v *visitor) writes() bool {
	_, err := v.p.call(request{Op: opSetData, Path: tickDir, Data: v.name, Timeout: 5 * time.Second})
	return err == nil
}

// dismissVisitors ends all visitors, and waits until the ensemble has forgotten them.
func (x *chaos) dismissVisitors() {
	x.t.Helper()
	for _, v := range x.visitors {
		if v.p != nil {
			x.seeOff(v)
		}
	}
	if x.visitors == nil {
		return
	}
	poll(x.t, readyBound, "the visitors to be forgotten", func() bool {
		a, err := x.proc(0).call(request{Op: opMembers})
		return err == nil && len(a.Members) == len(x.cfgs)
	})
}
