package coord

import "testing"

// adoptAll has a mount's group adopt what the root group has decreed, and returns how
// many commands it took.
func adoptAll(t *testing.T, root, of *state) int {
	t.Helper()
	n := 0
	for d := root.decreeFor(of, maxDecreeBytes); d != nil; d = root.decreeFor(of, maxDecreeBytes) {
		results, _ := applyRequests(of, request{kind: requestAdopt, decree: d})
		if results[0].code != codeOK {
			t.Fatal(results[0].code)
		}
		if err := of.firstViolation(); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestMembersAreDecreed has a mount's group take over who the members are, and keep what
// it counts itself.
func TestMembersAreDecreed(t *testing.T) {
	root, of := mountedStates(t)
	adoptAll(t, root, of)
	if conf := of.configuration(); !conf.Settled || conf.ZXID != root.configured {
		t.Fatalf("configuration of the group %+v", conf)
	}
	counted := *of.members.get(1)
	change := func(changes ...memberChange) {
		t.Helper()
		results, _ := applyRequests(root, request{kind: requestReconfigure, reconfiguration: &reconfiguration{
			follows: anyConfiguration, force: true, changes: changes,
		}})
		if results[0].code != codeOK {
			t.Fatal(results[0].code)
		}
		if n := adoptAll(t, root, of); n != 1 {
			t.Errorf("%d commands to adopt %v", n, changes)
		}
	}
	settle := func() {
		t.Helper()
		for _, s := range []*state{of, root} {
			if results, _ := applyRequests(s, request{kind: requestSettle, settled: s.configured}); results[0].code != codeOK {
				t.Fatal(results[0].code)
			}
		}
	}

	change(memberChange{id: 7, addr: "x:7", clientAddr: "x:8"}, memberChange{id: 8, addr: "x:9", role: Observer})
	for id, role := range map[MemberID]MemberRole{7: Voter, 8: Observer} {
		if m := of.members.get(id); m == nil || m.role != role || !m.unsettled || !m.sameDecree(root.members.get(id)) {
			t.Errorf("member %v of the group is %+v, want what the root group has", id, m)
		}
	}
	settle()
	if !of.configuration().Settled {
		t.Error("the group is not settled behind its settle")
	}
	change(memberChange{id: 1, addr: "moved:1"})
	if m := of.members.get(1); m.addr != "moved:1" || m.incarnation != counted.incarnation || m.nonce != counted.nonce || m.unsettled {
		t.Errorf("member 1 of the group is %+v, was %+v: want its address to move and nothing else", m, counted)
	}
	change(memberChange{id: 8, remove: true})
	if m := of.members.get(8); !m.removed || !m.unsettled {
		t.Errorf("member 8 of the group is %+v, want one that is being removed", m)
	}
	settle()
	if n := adoptAll(t, root, of); n != 0 {
		t.Errorf("%d commands adopt what is settled", n)
	}
}

// TestImpossibleMembersAreNotAdopted has a group refuse a decree that breaks what holds
// of members, and nothing of it remain.
func TestImpossibleMembersAreNotAdopted(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []memberRecord
	}{
		{"nobody", []memberRecord{{id: 0, addr: "a:1"}}},
		{"no voter", []memberRecord{{id: 1, removed: true}, {id: 2, removed: true}, {id: 3, removed: true}}},
		{"one directory of two", []memberRecord{{id: 1, directory: "d"}, {id: 2, directory: "d"}}},
	} {
		root, of := mountedStates(t)
		adoptAll(t, root, of)
		before := of.freeze()
		results, _ := applyRequests(of, request{kind: requestAdopt, decree: &decree{
			from: of.decrees, to: of.decrees + 1, members: &memberDecree{configured: 9, members: c.members},
		}})
		if results[0].code != ErrBadArguments || of.decrees != before.decrees || of.configured != before.configured {
			t.Errorf("%s: %v, decrees %d, configuration %v", c.name, results[0].code, of.decrees, of.configured)
		}
	}
}
