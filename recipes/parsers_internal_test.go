package recipes

import (
	"bytes"
	"testing"
	"time"
)

// FuzzData reads what anybody may have put into a znode of a recipe: it is either
// refused, or written again as it was.
func FuzzData(f *testing.F) {
	l := &Lease{ttl: time.Second, value: []byte("v")}
	for _, data := range [][]byte{
		nil, []byte("__REVOKE__v"), []byte("__SHARED____REVOKE__"), l.data(time.UnixMilli(1)), entry{deliveries: 3, id: "i", value: []byte("v")}.data(), []byte("0000000000 \n"),
	} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := parseNote(data); !bytes.Equal(n.data(), data) && !isNote(n.value) {
			t.Fatalf("%q is the note %+v, which is written as %q", data, n, n.data())
		}
		if e, err := parseEntry(data); err == nil {
			if again, err := parseEntry(e.data()); err != nil || again.deliveries != e.deliveries || again.id != e.id || !bytes.Equal(again.value, e.value) {
				t.Fatalf("%q is the entry %+v, which is read as %+v, %v", data, e, again, err)
			}
		}
		if since, ttl, ok := parseLease(data); ok {
			again := &Lease{ttl: ttl}
			if s, d, ok := parseLease(again.data(since)); !ok || d != ttl || !s.Equal(since) {
				t.Fatalf("%q is a lease of %v since %v, which is read as %v, %v", data, ttl, since, d, s)
			}
		}
	})
}

// FuzzNames reads the names of children that anybody may have made in a recipe's
// directory.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"lock-0000000001", "read-0000000002", "candidate-3-0000000004", "candidate-3-4-0000000005", "_c_x-lock-0000000001", "0000000000000001-0500-0000000002", "lock--000000001"} {
		f.Add(name)
	}
	families := []*family{familyLock, familyCandidate, familyPermit}
	f.Fuzz(func(t *testing.T, name string) {
		for _, fam := range families {
			if e, ok := fam.parse("/d", name); ok && (e.path != "/d/"+name || e.number < 0) {
				t.Fatalf("the %s %q is read as %+v", fam.recipe, name, e)
			}
		}
		if due, priority, ok := dueOf(name); ok && due < 0 {
			t.Fatalf("%q is due at %d with priority %d", name, due, priority)
		}
		_, _ = priorityOf(name)
		_, _ = sequenceOf(name)
	})
}
