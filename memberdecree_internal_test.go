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

// TestGroupsForgetRemovedMembers has the root group forget members, and another group
// follow, except for one that has a session there.
func TestGroupsForgetRemovedMembers(t *testing.T) {
	root, of := mountedStates(t)
	do := func(s *state, r request) {
		t.Helper()
		if r.reconfiguration != nil {
			r.reconfiguration.force = true
		}
		if results, _ := applyRequests(s, r); results[0].code != codeOK {
			t.Fatalf("request %d = %v", r.kind, results[0].code)
		}
	}
	rounds := func(from, to MemberID) {
		t.Helper()
		for id := from; id < to; id++ {
			do(root, reconfigure(memberChange{id: id, role: Observer, addr: "pod:1"}))
			adoptAll(t, root, of)
			if id == from {
				greet(of, id)
				m := of.members.get(id)
				of.apply(&command{kind: commandBatch, group: 2, member: id, batch: &batchCommand{incarnation: m.incarnation, number: 1, requests: []request{
					{kind: requestEnter, session: 1000 + SessionID(id), generation: firstGeneration, timeoutMS: 60_000},
				}}}, 0)
				if _, there := of.sessions.get(1000 + SessionID(id)); !there {
					t.Fatal(of.members.get(id).results)
				}
			}
			do(root, reconfigure(memberChange{id: id, remove: true}))
			adoptAll(t, root, of)
			for _, s := range []*state{of, root} {
				do(s, settleOf(s))
			}
			if n := adoptAll(t, root, of); n != 0 {
				t.Fatalf("%d commands adopt what is settled", n)
			}
		}
	}
	rounds(10, 10+2*keptTombstones)
	if root.members.get(10) != nil || of.members.get(10) == nil || of.members.get(11) != nil {
		t.Errorf("the root group has %+v, the other %+v and %+v: want only the owner of a session, there", root.members.get(10), of.members.get(10), of.members.get(11))
	}
	if n := len(of.members); n > len(root.members)+1 {
		t.Errorf("the group remembers %d members, the root group %d", n, len(root.members))
	}
	ses, _ := of.sessions.get(1010)
	do(of, request{kind: requestExpire, expiries: []expiry{{ses.id, ses.generation, ses.lastTouch(of.members.get(10))}}})
	rounds(1000, 1001)
	if m := of.members.get(10); m != nil {
		t.Errorf("behind the end of its session there is still %+v", m)
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
