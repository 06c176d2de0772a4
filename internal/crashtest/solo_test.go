package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// soloConfig describes an ensemble of one member, which opens no port.
func soloConfig(dir string) memberConfig {
	return memberConfig{
		Name: "solo", ID: 1, Dir: dir, ElectionTimeout: 100 * time.Millisecond,
		SessionTimeout: time.Second, OperationTimeout: 10 * time.Second, SnapshotEntries: 40,
	}
}

// begin starts a process beside dir and waits until it is ready. The error is
// what Open said, an *openError, or how the process ended.
func begin(tb testing.TB, cfg memberConfig) (*process, error) {
	tb.Helper()
	p := launch(tb, 0, &cfg, filepath.Join(tb.TempDir(), "log"), nil)
	ctx, cancel := context.WithTimeout(tb.Context(), readyBound)
	defer cancel()
	if err := p.awaitStart(ctx); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func mustBegin(tb testing.TB, cfg memberConfig) *process {
	tb.Helper()
	p, err := begin(tb, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// refusal starts a process that must be refused, and returns what Open said.
func refusal(tb testing.TB, cfg memberConfig) string {
	tb.Helper()
	p, err := begin(tb, cfg)
	if err == nil {
		p.kill()
		tb.Fatal("Open = nil, want an error")
	}
	refused, ok := errors.AsType[*openError](err)
	if !ok {
		tb.Fatal(err)
	}
	tb.Log(refused)
	return refused.text
}

// end closes a process in good order.
func (p *process) end(tb testing.TB) {
	tb.Helper()
	p.ending.Store(true)
	if _, err := p.call(request{Op: opClose}); err != nil {
		tb.Fatal(err)
	}
	<-p.exited
}

// write creates the znodes first to last, one after the other.
func (p *process) write(tb testing.TB, first, last int) {
	tb.Helper()
	for i := first; i <= last; i++ {
		if _, err := p.call(request{Op: opCreate, Path: fmt.Sprintf("/z-%06d", i), Data: fmt.Sprint(i)}); err != nil {
			tb.Fatal(err)
		}
	}
}

// holds returns up to which znode the member has all, or an error if one is
// missing in between, or is not as it was written.
func (p *process) holds() (int, error) {
	a, err := p.call(request{Op: opDump})
	if err != nil {
		return 0, err
	}
	have := map[string]string{}
	for _, n := range a.Nodes {
		have[n.Path] = n.Data
	}
	last := 0
	for have[fmt.Sprintf("/z-%06d", last+1)] == fmt.Sprint(last+1) {
		last++
		delete(have, fmt.Sprintf("/z-%06d", last))
	}
	for path, data := range have {
		if len(path) > 3 && path[:3] == "/z-" {
			return last, fmt.Errorf("%s with data %q is there, but nothing behind %d", path, data, last)
		}
	}
	return last, nil
}

// wantAll checks that the member has every znode up to last, and ends it.
func (p *process) wantAll(tb testing.TB, last int) {
	tb.Helper()
	if got, err := p.holds(); err != nil || got != last {
		tb.Errorf("the member has %d znodes, want %d; %v", got, last, err)
	}
	p.end(tb)
}

// template makes a directory whose member was closed in good order with noted
// znodes and killed with all of them.
func template(tb testing.TB, noted, all int) memberConfig {
	tb.Helper()
	cfg := soloConfig(filepath.Join(tb.TempDir(), "member"))
	p := mustBegin(tb, cfg)
	p.write(tb, 1, noted)
	p.end(tb)
	if all > noted {
		p = mustBegin(tb, cfg)
		p.write(tb, noted+1, all)
		p.kill()
	}
	return cfg
}

// copied returns cfg for a copy of its directory.
func copied(tb testing.TB, cfg memberConfig) memberConfig {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "member")
	if err := os.CopyFS(to, os.DirFS(cfg.Dir)); err != nil {
		tb.Fatal(err)
	}
	cfg.Dir = to
	return cfg
}
