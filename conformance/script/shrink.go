package script

import (
	"reflect"
	"slices"
)

// Shrink returns a small script for which fails is still true: without any step, or any
// argument, that is not needed. The script given must fail.
func Shrink(s Script, fails func(Script) bool) Script {
	for smaller := true; smaller; {
		smaller = false
		for size := max(1, len(s)/2); size >= 1; size /= 2 {
			for at := 0; at+size <= len(s); {
				if t := slices.Delete(slices.Clone(s), at, at+size); fails(Portable(t)) {
					s, smaller = t, true
				} else {
					at += size
				}
			}
		}
		for i := range s {
			for _, simple := range simpler(s[i]) {
				t := slices.Clone(s)
				t[i] = simple
				if fails(Portable(t)) {
					s, smaller = t, true
					break
				}
			}
		}
	}
	return Portable(s)
}

// simpler returns steps that say less than this one.
func simpler(s Step) []Step {
	var steps []Step
	if s.More {
		t := s
		t.More = false
		steps = append(steps, t)
	}
	for i := range s.Op.Ops {
		t := s
		t.Op.Ops = slices.Delete(slices.Clone(s.Op.Ops), i, i+1)
		steps = append(steps, t)
	}
	for i, v := range args(&s.Op) {
		if v.IsZero() {
			continue
		}
		t := s
		field := args(&t.Op)[i]
		field.Set(reflect.Zero(field.Type()))
		steps = append(steps, t)
	}
	return steps
}
