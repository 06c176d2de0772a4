package coord

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"coord/internal/invariants"
)

func TestNormalizeACL(t *testing.T) {
	anyone, u, v := ID{"world", "anyone"}, ID{"digest", "u:h"}, ID{"digest", "v:h"}
	nobody := []ID{}
	caller := []ID{{"ip", "10.0.0.1"}, u, v}
	for _, c := range []struct {
		name string
		list []ACL
		ids  []ID
		want []ACL // nil: refused
	}{
		{"nil", nil, caller, nil},
		{"empty", []ACL{}, caller, nil},
		{"kept", []ACL{{PermRead, anyone}, {PermAll, u}}, nobody, []ACL{{PermRead, anyone}, {PermAll, u}}},
		{"duplicates", []ACL{{PermRead, anyone}, {PermAll, u}, {PermRead, anyone}}, nobody, []ACL{{PermRead, anyone}, {PermAll, u}}},
		{"same id, other permissions", []ACL{{PermRead, u}, {PermWrite, u}}, nobody, []ACL{{PermRead, u}, {PermWrite, u}}},
		{"any permissions", []ACL{{0, anyone}, {255, u}}, nobody, []ACL{{0, anyone}, {255, u}}},
		{"auth", []ACL{{PermRead, ID{"auth", "ignored"}}, {PermAll, anyone}}, caller, []ACL{{PermRead, u}, {PermRead, v}, {PermAll, anyone}}},
		{"auth and a duplicate", []ACL{{PermRead, v}, {PermRead, ID{"auth", ""}}}, caller, []ACL{{PermRead, v}, {PermRead, u}}},
		{"auth of the ensemble's own code", []ACL{{PermRead, ID{"auth", ""}}}, nil, []ACL{{PermRead, ID{"ensemble", "member"}}}},
		{"auth of it and a user", []ACL{{PermRead, ID{"auth", ""}}}, []ID{{"ensemble", "member"}, {"user", "eve"}}, []ACL{{PermRead, ID{"ensemble", "member"}}, {PermRead, ID{"user", "eve"}}}},
		{"auth of every proved kind", []ACL{{PermRead, ID{"auth", ""}}}, []ID{{"x509", "CN=a"}, {"jwt", "b"}, {"super", ""}}, []ACL{{PermRead, ID{"x509", "CN=a"}}, {PermRead, ID{"jwt", "b"}}}},
		{"auth without identities", []ACL{{PermRead, ID{"auth", ""}}}, nobody, nil},
		{"auth without a proved one", []ACL{{PermRead, ID{"auth", ""}}}, caller[:1], nil},
		{"auth of the one who may do everything", []ACL{{PermRead, ID{"auth", ""}}}, []ID{{"super", ""}}, nil},
		{"auth of a plug-in that is no setting, and others", []ACL{{PermRead, ID{"auth", ""}}}, []ID{{"ldap", "c"}, {"sasl", "d"}, u}, []ACL{{PermRead, u}}},
		{"auth of a plug-in that is no setting", []ACL{{PermRead, ID{"auth", ""}}}, []ID{{"ldap", "c"}}, nil},
		{"auth of a template", []ACL{{PermRead, ID{"auth", "x"}}}, []ID{{Scheme: "auth"}}, []ACL{{PermRead, ID{"auth", ""}}}},
		{"one bad entry", []ACL{{PermRead, anyone}, {PermRead, ID{"world", "bob"}}}, caller, nil},
	} {
		set := settings{schemes: []string{"jwt"}}
		got, code := set.normalizeACL(c.list, c.ids)
		if !slices.Equal(got, c.want) || (code == codeOK) != (c.want != nil) || code != codeOK && code != ErrInvalidACL {
			t.Errorf("%s: normalizeACL = %v, %v, want %v", c.name, got, code, c.want)
		}
	}
}

// TestNormalizeACLStaysInLimits expands a list that is within the limit to one that
// is not: no snapshot could hold it.
func TestNormalizeACLStaysInLimits(t *testing.T) {
	entries := func(n int, scheme string) []ACL {
		list := make([]ACL, n)
		for i := range list {
			list[i] = ACL{Perm(i), ID{scheme, "anyone"}}
		}
		return list
	}
	var ids []ID
	for i := range maxIdentities {
		ids = append(ids, ID{"digest", fmt.Sprintf("u%d:h", i)})
	}
	for _, c := range []struct {
		list []ACL
		ids  []ID
		want Code
	}{
		{entries(maxACLEntries, "world"), nil, codeOK},
		{entries(maxACLEntries+1, "world"), nil, ErrInvalidACL},
		{entries(maxACLEntries/maxIdentities, "auth"), ids, codeOK},
		{entries(maxACLEntries/maxIdentities+1, "auth"), ids, ErrInvalidACL},
		{entries(maxACLEntries, "auth"), ids, ErrInvalidACL},
	} {
		if got, code := new(settings).normalizeACL(c.list, c.ids); code != c.want || len(got) > maxACLEntries {
			t.Errorf("normalizeACL of %d entries for %d identities: %d entries, %v, want %v", len(c.list), len(c.ids), len(got), code, c.want)
		}
	}
}

func TestValidACLID(t *testing.T) {
	for _, c := range []struct {
		scheme, id string
		want       bool
	}{
		{"world", "anyone", true},
		{"world", "bob", false},
		{"world", "", false},
		{"digest", "u:h", true},
		{"digest", ":h", true},
		{"digest", "u:h:", true}, // Java drops the empty part at the end
		{"digest", "u:", false},
		{"digest", "u", false},
		{"digest", "", false},
		{"digest", ":", false},
		{"digest", "a:b:c", false},
		{"digest", "::h", false},
		{"digest", "u:" + strings.Repeat("h", maxIDBytes-2), true},
		{"digest", "u:" + strings.Repeat("h", maxIDBytes-1), false},
		{"ip", "10.0.0.1", true},
		{"ip", "10.0.0.0/0", true},
		{"ip", "10.0.0.1/32", true},
		{"ip", "10.0.0.1/33", false},
		{"ip", "10.0.0.1/-1", false},
		{"ip", "10.0.0.1/", false},
		{"ip", "10.0.0", false},
		{"ip", "2001:db8::/128", true},
		{"ip", "2001:db8::/129", false},
		{"ip", "fe80::1%eth0", false},
		{"ip", "", false},
		{"auth", "", false},
		{"super", "x", false},
		{"sasl", "x", false},
		{"", "", false},
		{"ensemble", "member", true},
		{"ensemble", "", false},
		{"ensemble", "members", false},
		{"user", "eve", true},
		{"user", "", false},
		{"user", "a:b", false},
		{"user", "a\nb", false},
		{"user", strings.Repeat("u", maxUserNameBytes+1), false},
		{"jwt", "anything at all", true},
		{"jwt", "", false},
		{"jwt2", "x", false},
		{"x509", "CN=web-1.example.org,OU=web,O=Example\\, Inc.,C=DE", true},
		{"x509", "CN=a+UID=b", true},
		{"x509", "2.5.4.3=#0c0161", true},
		{"x509", `CN=a\2Cb\ `, true},
		{"x509", "CN=", true},
		{"x509", "", false},
		{"x509", "web-1", false},
		{"x509", "=a", false},
		{"x509", "CN=a,", false},
		{"x509", "CN=a,,O=b", false},
		{"x509", "C N=a", false},
		{"x509", "2.=a", false},
		{"x509", "CN=a\\", false},
		{"x509", `CN=a\2`, false},
		{"x509", `CN="a"`, false},
		{"x509", "CN=a\x00", false},
	} {
		if got := (&settings{schemes: []string{"jwt"}}).validACLID(ID{c.scheme, c.id}); got != c.want {
			t.Errorf("validACLID(%s:%.20s) = %v, want %v", c.scheme, c.id, got, c.want)
		}
	}
}

func TestPermits(t *testing.T) {
	list := []ACL{
		{PermRead, ID{"world", "anyone"}},
		{PermWrite, ID{"digest", "u:h"}},
		{PermDelete | PermCreate, ID{"ip", "10.1.2.3/8"}},
		{PermAdmin, ID{"ip", "2001:db8::/32"}},
		{PermWrite, ID{"x509", "CN=a"}},
		{PermCreate, ID{"user", "eve"}},
		{PermCreate, ID{"user", "gone"}},
		{PermDelete, ID{"jwt", "j"}},
		{PermAll, ID{"other", "o"}}, // of a scheme that is switched off now
		{PermWrite | PermAdmin, ID{"ensemble", "member"}},
	}
	e := newACLEntry("", list)
	s := newState(rootGroup)
	s.settings.schemes = []string{"jwt"}
	s.users.byName.put(&user{name: "eve"})
	for _, c := range []struct {
		ids  []ID
		want Perm // all that are allowed
	}{
		{[]ID{}, PermRead},
		{nil, PermRead | PermWrite | PermAdmin},
		{[]ID{{"ensemble", "member"}}, PermRead | PermWrite | PermAdmin},
		{[]ID{{"ensemble", ""}, {"user", "member"}}, PermRead},
		{[]ID{{"x509", "CN=a"}}, PermRead | PermWrite},
		{[]ID{{"x509", "cn=a"}, {"x509", "CN=a "}}, PermRead},
		{[]ID{{"user", "eve"}}, PermRead | PermCreate},
		{[]ID{{"user", "gone"}}, PermRead},
		{[]ID{{"jwt", "j"}}, PermRead | PermDelete},
		{[]ID{{"other", "o"}}, PermRead},
		{[]ID{{"world", "anyone"}}, PermRead},
		{[]ID{{"digest", "u:h"}}, PermRead | PermWrite},
		{[]ID{{"digest", "u:x"}, {"sasl", "u:h"}, {"digest", "U:h"}}, PermRead},
		{[]ID{{"ip", "10.200.0.1"}}, PermRead | PermCreate | PermDelete},
		{[]ID{{"ip", "11.200.0.1"}}, PermRead},
		{[]ID{{"ip", "2001:db8:1::1"}}, PermRead | PermAdmin},
		{[]ID{{"ip", "nonsense"}, {"ip", ""}}, PermRead},
		{[]ID{{"ip", "10.0.0.1"}, {"digest", "u:h"}}, PermRead | PermWrite | PermCreate | PermDelete},
		{[]ID{{"super", ""}}, PermAll},
	} {
		for p := Perm(1); p <= PermAdmin; p <<= 1 {
			if got, want := s.permits(e, c.ids, p), c.want&p != 0; got != want {
				t.Errorf("permits(%v, %d) = %v, want %v", c.ids, p, got, want)
			}
		}
	}
	// One of several permissions is enough: getACL asks for read or admin.
	if !s.permits(e, []ID{}, PermRead|PermAdmin) || s.permits(e, []ID{}, PermWrite|PermAdmin) {
		t.Error("permits does not take a set of permissions as a choice")
	}
}

func TestRedactACL(t *testing.T) {
	list := []ACL{
		{PermAll, ID{"digest", "u:h"}},
		{PermRead, ID{"digest", ":h"}},
		{PermRead, ID{"ip", "::1"}},
		{PermRead, ID{"world", "anyone"}},
		{PermRead, ID{"user", "u"}},
		{PermRead, ID{"user", "u:h"}}, // is none, but what a client may ask for
		{PermRead, ID{"auth", "u:h"}}, // likewise
		{PermRead, ID{"auth", ""}},
	}
	want := slices.Clone(list)
	want[0].ID.ID, want[1].ID.ID, want[5].ID.ID, want[6].ID.ID = "u:x", ":x", "u:x", "x"
	if got := redactACL(list); !slices.Equal(got, want) {
		t.Errorf("redactACL = %v, want %v", got, want)
	}
	if list[0].ID.ID != "u:h" {
		t.Error("redactACL changed its argument")
	}
}

// TestACLTable sees that equal lists share an entry and different ones do not, also
// where the texts of scheme and id run together alike.
func TestACLTable(t *testing.T) {
	table := newACLTable()
	a := table.intern([]ACL{{1, ID{"a", "bc"}}})
	if b := table.intern([]ACL{{1, ID{"a", "bc"}}}); a != b {
		t.Error("equal lists have two entries")
	}
	for _, other := range [][]ACL{{{1, ID{"ab", "c"}}}, {{2, ID{"a", "bc"}}}, {{1, ID{"a", "bc"}}, {1, ID{"a", "bc"}}}} {
		if b := table.intern(other); a == b {
			t.Errorf("%v shares the entry of another list", other)
		}
	}
}

// TestACLTableForgets sees that lists which no znode has any more are let go, and
// that those in use keep the one entry that they have.
func TestACLTableForgets(t *testing.T) {
	s := newTestState()
	listOf := func(i int) []ACL {
		return []ACL{{PermAll, ID{"world", "anyone"}}, {PermRead, ID{"digest", fmt.Sprintf("u%d:h", i)}}}
	}
	const lists, kept = 20_000, 300
	create := func(path string, list []ACL) {
		results, _ := applyRequests(s, writeOf(op{kind: opCreate, path: path, acl: list}))
		if code := results[0].firstError(); code != codeOK {
			t.Fatalf("create %s: %v", path, code)
		}
	}
	for i := range kept {
		create(fmt.Sprintf("/kept%d", i), listOf(-i-1))
	}
	create("/n", listOf(0))
	most := 0
	for i := range lists {
		results, _ := applyRequests(s, writeOf(op{kind: opSetACL, path: "/n", acl: listOf(i)}))
		if code := results[0].firstError(); code != codeOK {
			t.Fatalf("setACL: %v", code)
		}
		if i%500 == 0 {
			runtime.GC()
		}
		most = max(most, s.acls.entries.len())
	}
	if limit := 4 * (kept + 500); most > limit {
		t.Errorf("the table held %d entries for %d lists in use, want at most %d", most, kept+1, limit)
	}
	for i := range kept {
		create(fmt.Sprintf("/again%d", i), listOf(-i-1))
		a, _ := s.tree.find(fmt.Sprintf("/kept%d", i))
		if b, _ := s.tree.find(fmt.Sprintf("/again%d", i)); a.acl != b.acl {
			t.Fatalf("list %d has two entries", i)
		}
	}
	image := snapshotOf(t, s.freeze())
	back, err := readSnapshot(rootGroup, bytes.NewReader(image), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshotOf(t, back.freeze()), image) {
		t.Error("what was read from a snapshot writes another one")
	}
}

// TestAMillionZnodesShareAnACL sees that equal lists are stored once, in the state and in
// what is read from a snapshot.
func TestAMillionZnodesShareAnACL(t *testing.T) {
	n := 1_000_000
	if invariants.Enabled || testing.Short() {
		n = 20_000
	}
	s := newTestState()
	list := []ACL{{PermAll, ID{"digest", "u:h"}}, {PermRead, ID{"ip", "10.0.0.0/8"}}}
	entries := func(s *state) int {
		seen := map[*aclEntry]bool{}
		for it := range s.tree.nodes.all() {
			seen[it.node.acl] = true
		}
		return len(seen)
	}
	before := entries(s)
	for done := 0; done < n; {
		var requests []request
		for range min(1000, n-done) {
			requests = append(requests, writeOf(op{kind: opCreate, path: fmt.Sprintf("/n%d", done), acl: slices.Clone(list)}))
			done++
		}
		results, _ := applyRequests(s, requests...)
		for _, r := range results {
			if code := r.firstError(); code != codeOK {
				t.Fatal(code)
			}
		}
	}
	if got := entries(s) - before; got != 1 || s.tree.nodes.len() < n {
		t.Errorf("%d znodes with one list have %d", n, got)
	}
	back, err := readBytes(snapshotOf(t, s.freeze()))
	if err != nil {
		t.Fatal(err)
	}
	if got := entries(back) - before; got != 1 {
		t.Errorf("read from a snapshot they have %d", got)
	}
}
