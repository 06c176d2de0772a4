package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/recipes"
)

// TestMain lets the test program be the child that the tool starts.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-child") {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestTool measures ten contenders of each system for a moment.
func TestTool(t *testing.T) {
	t.Parallel()
	p := plan{
		load:       load{Releases: 3, Duration: 200 * time.Millisecond},
		contenders: []int{10}, subjects: subjects, rounds: 1, limit: 2 * time.Minute, dir: t.TempDir(),
	}
	rows, err := p.measureAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range subjects {
		// What is written at the edges of the measured time belongs to other grants.
		if f := rows[0][name][0]; f.Failure != "" || f.PerSecond <= 0 || f.P50 <= 0 || f.P99 < f.P50 || f.Entries < 0.5 || f.Writes < 1 || f.Watched != p.Releases {
			t.Errorf("%s = %+v", name, f)
		}
	}
	if f := rows[0][subjectCoord][0]; f.Woken != 1 {
		t.Errorf("a release wakes %v waiters, want 1", f.Woken)
	}
	var out bytes.Buffer
	if err := p.print(&out, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| 10 ", "| coord ", "| etcd ", "| etcd-inprocess "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, out.String())
		}
	}
}

// TestFailureShows has a measurement fail: the others count all the same.
func TestFailureShows(t *testing.T) {
	t.Parallel()
	p := plan{contenders: []int{10}, subjects: []string{subjectCoord, subjectEtcd}}
	rows := []row{{
		subjectCoord: {{PerSecond: 300}, {PerSecond: 500}},
		subjectEtcd:  {{Failure: "request timed out"}, {PerSecond: 250}},
	}}
	var out bytes.Buffer
	if err := p.print(&out, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| 400 ", "| 250 ", "| 2.00 ", "| 1 ", "etcd with 10 contenders failed: request timed out"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, out.String())
		}
	}
}

// TestWakingShows keeps the count of woken waiters honest: one that is woken for
// nothing asks its context again.
func TestWakingShows(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := coordtest.NewEnsemble(t, 1).Member(1)
	s := [2]*coord.Session{}
	for i := range s {
		var err error
		if s[i], err = m.NewSession(ctx, coord.SessionOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	held, err := recipes.Lock(ctx, s[0], lockPath)
	if err != nil {
		t.Fatal(err)
	}
	wait := &askedContext{Context: ctx}
	second := make(chan error, 1)
	go func() {
		h, err := recipes.Lock(wait, s[1], lockPath)
		if err == nil {
			err = h.Release(ctx)
		}
		second <- err
	}()
	c := contest{waits: []*askedContext{wait}}
	calm := func() int64 {
		t.Helper()
		asked, err := c.quiet(ctx, 30*pollPause)
		if err != nil {
			t.Fatal(err)
		}
		return asked[0]
	}
	for calm() == 0 {
		continue // it has not begun
	}
	before := wait.asked.Load()
	if err := held.SetValue(ctx, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for wait.asked.Load() == before {
		if err := pause(ctx, pollPause); err != nil {
			t.Fatal(err)
		}
	}
	if err := held.Release(ctx); err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

func TestCommandRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-contenders", "0"}, {"-contenders", "1,x"}, {"-subjects", "zookeeper"}, {"-rounds", "0"}, {"-duration", "-1s"}, {"-nonsense"},
	} {
		if err := command(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
