package discoverytest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"coord/recipes/discovery"
	"coord/recipes/discovery/discoverytest"
)

// Those of package discovery pass.
func TestPickersOfDiscovery(t *testing.T) {
	for name, newPicker := range map[string]func() discovery.Picker{
		"RoundRobin": discovery.RoundRobin, "Random": discovery.Random, "Weighted": discovery.Weighted,
		"Sticky": func() discovery.Picker { return discovery.Sticky(discovery.Random()) },
	} {
		t.Run(name, func(t *testing.T) { discoverytest.TestPicker(t, newPicker) })
	}
}

type pickFunc func([]discovery.Instance) discovery.Instance

func (f pickFunc) Pick(healthy []discovery.Instance) discovery.Instance { return f(healthy) }

// Those that are wrong do not.
func TestWrongPickers(t *testing.T) {
	var first discovery.Instance
	for want, wrong := range map[string]pickFunc{
		"panicked":         func(healthy []discovery.Instance) discovery.Instance { return healthy[1] },
		"which is not one": func([]discovery.Instance) discovery.Instance { return discovery.Instance{} },
		"it picked {instance-": func(healthy []discovery.Instance) discovery.Instance {
			if first.ID == "" {
				first = healthy[0]
			}
			return first // also when it is gone
		},
		"modified the list": func(healthy []discovery.Instance) discovery.Instance {
			healthy[0].Weight++
			return healthy[0]
		},
	} {
		f := &failingTB{TB: t}
		f.run(func() { discoverytest.TestPicker(f, func() discovery.Picker { return wrong }) })
		if !strings.Contains(f.said, want) {
			t.Errorf("said %q, want %q", f.said, want)
		}
	}
	f := &failingTB{TB: t}
	f.run(func() { discoverytest.TestPicker(f, nil) })
	if f.said == "" {
		t.Error("no picker at all passed")
	}
}

// A failingTB is a test that may fail without the real one failing.
type failingTB struct {
	testing.TB
	said string
}

func (f *failingTB) run(test func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		test()
	}()
	<-done
}

func (f *failingTB) Helper()                           {}
func (f *failingTB) Errorf(format string, args ...any) { f.said += fmt.Sprintf(format, args...) }

func (f *failingTB) Fatalf(format string, args ...any) {
	f.said += fmt.Sprintf(format, args...)
	runtime.Goexit()
}
