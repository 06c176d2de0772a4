package crashtest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var damagesFlag = flag.Int("crash.damages", 20, "directories that TestDamage damages")

// The znodes of TestDamage: those that were there at an orderly stop, and all.
const (
	notedZnodes = 60
	allZnodes   = 150
)

// TestDamage flips bits of a member's files, and clears, cuts and removes them. The
// member must come up with all data, or be refused with the name of a file; it
// must not die, and not forget.
//
// What a killed member may lose is a tail of the log that looks like one that the
// crash has torn: only if the log was damaged there, and nothing that was there at
// the last orderly stop. A member that was stopped in good order loses nothing.
func TestDamage(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	for name, noted := range map[string]int{"Killed": notedZnodes, "Stopped": allZnodes} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := template(t, noted, allZnodes)
			mustBegin(t, copied(t, cfg)).wantAll(t, allZnodes)
			for i := range *damagesFlag {
				t.Run(fmt.Sprint(i), func(t *testing.T) {
					damageOnce(t, cfg, rand.New(rand.NewPCG(seed, uint64(i))), noted)
				})
			}
		})
	}
}

// damageOnce damages a copy of cfg's directory and starts the member.
func damageOnce(t *testing.T, cfg memberConfig, rng *rand.Rand, noted int) {
	t.Helper()
	cfg = copied(t, cfg)
	what := damage(t, cfg.Dir, rng)
	p, err := begin(t, cfg)
	if err != nil {
		refused, ok := errors.AsType[*openError](err)
		switch {
		case !ok:
			t.Errorf("%s: %v", what, err)
		case !strings.Contains(refused.text, cfg.Dir+string(filepath.Separator)):
			t.Errorf("%s: the error names no file: %v", what, refused)
		default:
			t.Logf("%s: %v", what, refused)
		}
		return
	}
	got, err := p.holds()
	p.kill()
	switch {
	case err != nil || got < noted:
		t.Errorf("%s: the member has %d znodes, want at least %d; %v", what, got, noted, err)
	case got < allZnodes && !strings.Contains(what, ".log"):
		t.Errorf("%s: the member has %d znodes, want %d", what, got, allZnodes)
	default:
		t.Logf("%s: %d of %d znodes", what, got, allZnodes)
	}
}

// damage does something bad to one file below dir, and says what.
func damage(tb testing.TB, dir string, rng *rand.Rand) string {
	tb.Helper()
	// Files by their kind, so that the few big ones do not get all of it.
	kinds := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		kind := filepath.Ext(path)
		if kind == "" {
			kind, _, _ = strings.Cut(d.Name(), "-")
		}
		kinds[kind] = append(kinds[kind], path)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(kinds))
	names = append(names, ".log", ".log", ".gbsnap") // what the member lives on
	of := kinds[names[rng.IntN(len(names))]]
	if len(of) == 0 {
		tb.Fatalf("no such files: %v", kinds)
	}
	path := of[rng.IntN(len(of))]
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		tb.Fatal(err)
	}
	name = fmt.Sprintf("%s (%d bytes)", name, len(data))
	at := rng.IntN(len(data))
	switch n := rng.IntN(10); {
	case n < 5:
		data[at] ^= 1 << rng.IntN(8)
		name = fmt.Sprintf("a bit of byte %d of %s flipped", at, name)
	case n < 7:
		const sector = 512
		at -= at % sector
		clear(data[at:min(at+sector, len(data))])
		name = fmt.Sprintf("the sector at %d of %s cleared", at, name)
	case n < 9:
		data = data[:at]
		name = fmt.Sprintf("%s cut to %d", name, at)
	default:
		if err := os.Remove(path); err != nil {
			tb.Fatal(err)
		}
		return name + " removed"
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// TestCutLogOfOne cuts the end of one member's log, as no crash of a process
// does, and has it meet the others again. What it lost it had acknowledged, so
// raft cannot take it back: if the leader finds out, the raft library ends the
// process on a goroutine of its own, which nobody can prevent, but the reason
// must be told. Otherwise the member must come up with all data. The others keep
// theirs in any case.
func TestCutLogOfOne(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	for i := range max(*damagesFlag/10, 1) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			e := newEnsemble(t, t.TempDir(), 3)
			for i := range e.cfgs {
				e.start(i)
			}
			e.awaitReady()
			e.proc(0).write(t, 1, allZnodes)
			victim := rng.IntN(len(e.procs))
			e.proc(victim).kill()
			logs, err := filepath.Glob(filepath.Join(e.cfgs[victim].Dir, "raft/*/*/logdb-0/*.log"))
			if err != nil || len(logs) == 0 {
				t.Fatalf("no log: %v", err)
			}
			last := slices.Max(logs)
			info, err := os.Stat(last)
			if err != nil {
				t.Fatal(err)
			}
			at := info.Size() - 1 - rng.Int64N(info.Size()/2)
			if err := os.Truncate(last, at); err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s of member %d cut from %d to %d bytes", filepath.Base(last), victim+1, info.Size(), at)
			t.Log(what, e.meetAgain(t, victim))
			e.proc(victim).kill()
			for i := range e.procs {
				if i == victim {
					continue
				}
				if got, err := e.proc(i).holds(); got != allZnodes || err != nil {
					t.Errorf("%s: member %d has %d znodes, want %d; %v", what, i+1, got, allZnodes, err)
				}
			}
		})
	}
}

// meetAgain starts the victim and says what came of it.
func (e *ensemble) meetAgain(tb testing.TB, victim int) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), readyBound)
	defer cancel()
	err := e.start(victim).awaitStart(ctx)
	refused, isRefused := errors.AsType[*openError](err)
	switch {
	case isRefused && strings.Contains(refused.text, e.cfgs[victim].Dir+string(filepath.Separator)):
		return "refused: " + refused.text
	case err != nil && strings.Contains(err.Error(), "lacks entries that it has acknowledged"):
		return "ended with the reason"
	case err != nil:
		tb.Error(err)
		return "failed"
	}
	if got, err := e.proc(victim).holds(); got != allZnodes || err != nil {
		tb.Errorf("the member has %d znodes, want %d; %v", got, allZnodes, err)
	}
	return "ready"
}
