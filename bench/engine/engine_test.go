package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test program be the child that the tool starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[len(os.Args)-1] == "-child" {
		if err := command(context.Background(), os.Args[1:]); err != nil {
			os.Stderr.WriteString("child: " + err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestTool runs the whole tool, children included, for a moment.
func TestTool(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := plan{
		settings: settings{Dir: t.TempDir(), Znodes: 50, Payload: 128, Timeout: 10 * time.Second},
		hosts:    []int{1}, callers: []int{4}, at: []string{"leader", "follower"}, ops: []string{opSet, opMix, opGet, opRead},
		duration: 50 * time.Millisecond, rounds: 2, json: true,
	}
	var out bytes.Buffer
	if err := p.execute(t.Context(), self, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	dec := json.NewDecoder(&out)
	n := 0
	for ; dec.More(); n++ {
		var s sample
		if err := dec.Decode(&s); err != nil {
			t.Fatal(err)
		}
		if s.PerSecond <= 0 || s.Errors+s.Timeouts > 0 {
			t.Errorf("%+v: nothing was done, or something failed", s)
		}
	}
	if want := 2 * 2 * 4; n != want {
		t.Errorf("%d measurements, want %d", n, want)
	}
}

// TestFollower puts every load on a follower of three members.
// runSome is run, for longer if a busy machine did nothing in that time.
func runSome(s subject, l load) (figures, error) {
	for {
		f, err := run(s, l)
		if err != nil || f.PerSecond > 0 || f.Errors+f.Timeouts > 0 || l.Duration > 5*time.Second {
			return f, err
		}
		l.Duration *= 4
	}
}

func TestFollower(t *testing.T) {
	for _, name := range []string{"coord", "bare"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := openSubject(t.Context(), settings{
				Subject: name, Hosts: 3, Dir: t.TempDir(), Znodes: 50, Payload: 128, Timeout: 10 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, op := range []string{opSet, opMix, opGet, opRead} {
				f, err := runSome(s, load{op, "follower", 4, 50 * time.Millisecond})
				if err != nil || f.PerSecond <= 0 || f.Errors+f.Timeouts > 0 {
					t.Errorf("%s = %+v, %v", op, f, err)
				}
			}
			if err := s.close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func TestIsTimeout(t *testing.T) {
	done := func(_, n int) error {
		if n == 0 {
			return context.DeadlineExceeded
		}
		return nil
	}
	if f := measure(2, 10*time.Millisecond, done); f.Timeouts != 2 || f.Errors != 0 || f.FirstError == "" {
		t.Errorf("measure = %+v, want 2 timeouts", f)
	}
}

func TestTable(t *testing.T) {
	l := load{opSet, "leader", 16, time.Second}
	samples := []sample{
		{"coord", 3, 0, l, figures{PerSecond: 3000, P50: time.Millisecond, P99: 20 * time.Millisecond}},
		{"bare", 3, 0, l, figures{PerSecond: 2000, Timeouts: 7}},
	}
	var out bytes.Buffer
	if err := printTable(&out, []string{"coord", "bare"}, samples); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| 1.50 ", "3.0k", "20.0 ms", "bare: 7 timeouts"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, out.String())
		}
	}
}
