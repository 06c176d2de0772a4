package failpoint_test

import (
	"errors"
	"slices"
	"testing"

	"coord/internal/failpoint"
)

func TestActions(t *testing.T) {
	if !failpoint.Enabled {
		t.Skip("points are not compiled in")
	}
	(*failpoint.Set)(nil).Hit(failpoint.Reply) // nothing
	s := &failpoint.Set{}
	boom := errors.New("boom")
	s.On(failpoint.Seal, failpoint.After(1, failpoint.Error(boom)))
	var got []error
	for range 3 {
		got = append(got, s.Fail(failpoint.Seal))
	}
	if !slices.Equal(got, []error{nil, boom, nil}) || s.Hits(failpoint.Seal) != 3 {
		t.Errorf("errors %v after %d hits", got, s.Hits(failpoint.Seal))
	}
	called := 0
	s.On(failpoint.Seal, failpoint.Call(func() { called++ }))
	s.Hit(failpoint.Seal)
	s.Hit(failpoint.Reply)
	s.Clear()
	s.Hit(failpoint.Seal)
	if called != 1 {
		t.Errorf("called %d times", called)
	}
}

func BenchmarkHit(b *testing.B) {
	var s failpoint.Set
	for b.Loop() {
		s.Hit(failpoint.Reply)
	}
}
