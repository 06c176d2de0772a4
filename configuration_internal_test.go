package coord

import (
	"fmt"
	"strings"
	"testing"
)

// configured returns a state with voters 1 to n that have all been heard of.
func configuredState(t *testing.T, n int) *state {
	t.Helper()
	in := &initCommand{
		version: formatVersion, ensemble: "e", id: 1, timeMS: 1_000_000,
		settings: settings{maxDataBytes: 100, minSessionTimeoutMS: 4000, maxSessionTimeoutMS: 60_000, defaultACL: OpenACL()},
	}
	for id := range MemberID(n) {
		in.members = append(in.members, memberRecord{id: id + 1, addr: fmt.Sprintf("m%d:7000", id+1)})
	}
	s := newState(rootGroup)
	s.apply(&command{kind: commandInit, group: rootGroup, member: 1, init: in}, 0)
	for id := range MemberID(n) {
		greet(s, id+1)
		touchOf(s, id+1, 0)
	}
	return s
}

func greet(s *state, id MemberID) {
	m := s.members.get(id)
	s.apply(&command{kind: commandHello, group: s.group, member: id, hello: &helloCommand{expected: m.incarnation, nonce: 1, addr: m.addr}}, 0)
}

// touchOf has a member touch, and mark that as much time has passed.
func touchOf(s *state, id MemberID, ms int64) {
	m := s.members.get(id)
	touch := &touch{}
	if ms > 0 {
		touch.markMS, touch.gapMS = s.timeMS+ms, ms
	}
	s.apply(&command{kind: commandBatch, group: rootGroup, member: id, batch: &batchCommand{incarnation: m.incarnation, number: m.number + 1, touch: touch}}, 0)
}

// ask has member 1 propose a request, and returns the result and what was told.
func askState(t *testing.T, s *state, r request) (result, []change) {
	t.Helper()
	m := s.members.get(1)
	eff := s.apply(&command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{incarnation: m.incarnation, number: m.number + 1, requests: []request{r}}}, 0)
	if eff.panic != "" {
		t.Fatal(eff.panic)
	}
	if err := s.firstViolation(); err != nil {
		t.Fatal(err)
	}
	return s.members.get(1).results[0], eff.changes
}

func reconfigure(changes ...memberChange) request {
	return request{kind: requestReconfigure, reconfiguration: &reconfiguration{follows: anyConfiguration, changes: changes}}
}

func settleOf(s *state) request { return request{kind: requestSettle, settled: s.configured} }

func configText(t *testing.T, s *state) string {
	t.Helper()
	_, n := s.configNode()
	return string(n.data)
}

// TestConfiguration adds a member, has it join, and removes another.
func TestConfiguration(t *testing.T) {
	s := configuredState(t, 3)
	first := "server.1=m1:7000:7001:participant\nserver.2=m2:7000:7001:participant\nserver.3=m3:7000:7001:participant\nversion=0"
	if got := configText(t, s); got != first {
		t.Errorf("at first the configuration is\n%s\nwant\n%s", got, first)
	}
	before := s.zxid
	res, changes := askState(t, s, reconfigure(memberChange{id: 7, addr: "[::1]:7000", clientAddr: "0.0.0.0:2181"}))
	if res.code != codeOK || s.zxid != before+1 || s.configured != s.zxid {
		t.Fatalf("adding a member = %v, zxid %v and configuration %v behind %v", res.code, s.zxid, s.configured, before)
	}
	if len(changes) != 1 || changes[0].typ != NodeDataChanged || changes[0].path != pathConfig || changes[0].zxid != s.zxid {
		t.Errorf("it told %+v, want one change of the data of %s", changes, pathConfig)
	}
	line := "server.7=[::1]:7000:7001:participant;0.0.0.0:2181\n"
	if got := configText(t, s); !strings.Contains(got, line) || !strings.HasSuffix(got, fmt.Sprintf("\nversion=%x", uint64(s.configured))) {
		t.Errorf("the configuration is\n%s\nwithout %q or its version %v", got, line, s.configured)
	}
	_, n := s.configNode()
	if n.version != -1 || n.mzxid != s.zxid || n.czxid != 0 {
		t.Errorf("the znode is %+v, want version -1 and mzxid %v", n.stat(), s.zxid)
	}
	m := s.members.get(7)
	if !m.unsettled || m.role != Voter || m.directory != "" {
		t.Errorf("the new member is %+v, want an unsettled voter", m)
	}

	join := request{kind: requestJoin, joining: &joining{id: 7, directory: "d", addr: "[::1]:7000"}}
	for range 2 { // the second time nothing happens
		res, _ = askState(t, s, join)
		if res.code != codeOK || MemberID(res.ops[0].value) != 7 || s.members.get(7).directory != "d" {
			t.Fatalf("joining = %+v, the member is %+v", res, s.members.get(7))
		}
	}
	if res, _ = askState(t, s, request{kind: requestSettle, settled: s.configured - 1}); res.code != ErrBadVersion || !s.members.get(7).unsettled {
		t.Errorf("settling an old configuration = %v", res.code)
	}
	if res, _ = askState(t, s, settleOf(s)); res.code != codeOK || s.members.get(7).unsettled {
		t.Errorf("settling = %v, the member is %+v", res.code, s.members.get(7))
	}
	if res, _ = askState(t, s, reconfigure(memberChange{id: 2, remove: true})); res.code != codeOK || !s.members.get(2).removed || strings.Contains(configText(t, s), "server.2=") {
		t.Errorf("removing member 2 = %v, the configuration is\n%s", res.code, configText(t, s))
	}
}

// TestConfigurationRefusals has changes refused, each of which leaves all as it is.
func TestConfigurationRefusals(t *testing.T) {
	outside := func(r request) request {
		r.identities = []ID{{"ip", "10.0.0.1"}}
		return r
	}
	many := func() (changes []memberChange) {
		for i := range maxMembers {
			changes = append(changes, memberChange{id: MemberID(100 + i), role: Observer, addr: fmt.Sprintf("x%d:1", i)})
		}
		return changes
	}
	for _, c := range []struct {
		name   string
		given  func(s *state) []request // all of which succeed
		asked  request
		code   Code
		reason string
	}{
		{name: "an id of none", asked: reconfigure(memberChange{addr: "x:1"}), code: ErrBadArguments, reason: "member 0"},
		{name: "no address", asked: reconfigure(memberChange{id: 4}), code: ErrBadArguments, reason: "has no address"},
		{name: "an address that would be lines", asked: reconfigure(memberChange{id: 4, addr: "x:1\nserver.9=y:1:1"}), code: ErrBadArguments, reason: "other characters"},
		{name: "a client address that would be lines", asked: reconfigure(memberChange{id: 4, addr: "x:1", clientAddr: "x;y"}), code: ErrBadArguments, reason: "other characters"},
		{name: "an address that is taken", asked: reconfigure(memberChange{id: 4, addr: "m2:7000"}), code: ErrBadArguments, reason: "members 2 and 4 have the same address"},
		{name: "who is not there", asked: reconfigure(memberChange{id: 9, remove: true}), code: ErrBadArguments, reason: "no member 9"},
		{name: "too many", asked: reconfigure(many()...), code: ErrBadArguments, reason: "the limit is 1024"},
		{name: "all voters", asked: reconfigure(memberChange{id: 1, remove: true}, memberChange{id: 2, remove: true}, memberChange{id: 3, remove: true}), code: ErrBadArguments, reason: "the last voter cannot be removed"},
		{name: "a voter is to observe", asked: reconfigure(memberChange{id: 2, role: Observer}), code: ErrBadArguments, reason: "under a new id"},
		{
			name: "another configuration", code: ErrBadVersion, reason: "zxid 0x0, not of 0x63",
			asked: request{kind: requestReconfigure, reconfiguration: &reconfiguration{follows: 99, changes: []memberChange{{id: 4, addr: "x:1"}}}},
		},
		{name: "no right", asked: outside(reconfigure(memberChange{id: 4, addr: "x:1"})), code: ErrNoAuth},
		{name: "settled by others", asked: outside(request{kind: requestSettle}), code: ErrNoAuth},
		{name: "joined by others", asked: outside(request{kind: requestJoin, joining: &joining{directory: "d", addr: "x:1"}}), code: ErrNoAuth},
		{
			name: "two at once", code: ErrReconfigInProgress, reason: "member 4 is still being added",
			given: func(*state) []request { return []request{reconfigure(memberChange{id: 4, addr: "x:1"})} },
			asked: reconfigure(memberChange{id: 5, addr: "y:1"}),
		},
		{
			name: "while one is removed", code: ErrReconfigInProgress, reason: "member 3 is still being removed",
			given: func(*state) []request { return []request{reconfigure(memberChange{id: 3, remove: true})} },
			asked: reconfigure(memberChange{id: 5, addr: "y:1"}),
		},
		{
			name: "an id of one who was removed", code: ErrBadArguments, reason: "ids are never used again",
			given: func(s *state) []request {
				return []request{reconfigure(memberChange{id: 3, remove: true}), {kind: requestSettle, settled: s.zxid + 1}}
			},
			asked: reconfigure(memberChange{id: 3, addr: "x:1"}),
		},
		{name: "joining without being added", asked: request{kind: requestJoin, joining: &joining{id: 4, directory: "d", addr: "x:1"}}, code: ErrBadArguments, reason: "has to be added first"},
		{name: "joining as somebody who runs", asked: request{kind: requestJoin, joining: &joining{id: 2, directory: "d", addr: "m2:7000"}}, code: ErrBadArguments, reason: "member 2 has another directory"},
		{name: "joining at a taken address", asked: request{kind: requestJoin, joining: &joining{directory: "d", addr: "m2:7000"}}, code: ErrBadArguments, reason: "the same address"},
		{name: "an id that the ensemble gives", asked: reconfigure(memberChange{id: firstGivenID, addr: "x:1"}), code: ErrBadArguments, reason: "ids from 4294967296 on are given by the ensemble"},
		{name: "joining with nothing", asked: request{kind: requestJoin, joining: &joining{}}, code: ErrBadArguments, reason: "are none"},
		{
			name: "joining with another directory", code: ErrBadArguments, reason: "member 4 has another directory",
			given: func(*state) []request {
				return []request{reconfigure(memberChange{id: 4, addr: "x:1"}), {kind: requestJoin, joining: &joining{id: 4, directory: "d", addr: "x:1"}}}
			},
			asked: request{kind: requestJoin, joining: &joining{id: 4, directory: "e", addr: "x:1"}},
		},
		{
			name: "joining with the directory of another", code: ErrBadArguments, reason: "is that of member 4294967296, not of member 5",
			given: func(*state) []request {
				return []request{{kind: requestJoin, joining: &joining{directory: "d", addr: "x:1"}}, reconfigure(memberChange{id: 5, addr: "y:1"})}
			},
			asked: request{kind: requestJoin, joining: &joining{id: 5, directory: "d", addr: "y:1"}},
		},
		{
			name: "joining after having been removed", code: ErrBadArguments, reason: "member 4294967296 was removed",
			given: func(*state) []request {
				return []request{{kind: requestJoin, joining: &joining{directory: "d", addr: "x:1"}}, reconfigure(memberChange{id: firstGivenID, remove: true})}
			},
			asked: request{kind: requestJoin, joining: &joining{directory: "d", addr: "x:1"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := configuredState(t, 3)
			if c.given != nil {
				for _, r := range c.given(s) {
					if res, _ := askState(t, s, r); res.code != codeOK {
						t.Fatalf("request %d before = %v", r.kind, res.code)
					}
				}
			}
			reason := ""
			if c.asked.reconfiguration != nil {
				_, _, reason = s.reconfigured(c.asked.reconfiguration)
			} else if c.asked.joining != nil {
				_, _, reason = s.joined(c.asked.joining)
			}
			before, configured := configText(t, s), s.configured
			res, changes := askState(t, s, c.asked)
			if res.code != c.code || !strings.Contains(reason, c.reason) {
				t.Errorf("= %v (%s), want %v that says %q", res.code, reason, c.code, c.reason)
			}
			if configText(t, s) != before || s.configured != configured || len(changes) != 0 {
				t.Errorf("a refused change changed the configuration to\n%s", configText(t, s))
			}
		})
	}
}

// TestConfigurationKeepsAQuorum refuses to remove those without whom the rest is not
// enough, unless it is forced to.
func TestConfigurationKeepsAQuorum(t *testing.T) {
	s := configuredState(t, 3)
	touchOf(s, 1, 4001)
	touchOf(s, 2, 0) // and 3 is silent
	remove := func(id MemberID, force bool) request {
		r := reconfigure(memberChange{id: id, remove: true})
		r.reconfiguration.force = force
		return r
	}
	_, _, reason := s.reconfigured(remove(2, false).reconfiguration)
	if res, _ := askState(t, s, remove(2, false)); res.code != ErrNewConfigNoQuorum || !strings.Contains(reason, "of the 2 voters that would be left, only 1") {
		t.Errorf("removing one of the two that live = %v (%s)", res.code, reason)
	}
	c := s.freeze()
	if res, _ := askState(t, c, remove(2, true)); res.code != codeOK {
		t.Errorf("removing it by force = %v", res.code)
	}
	if res, _ := askState(t, s, remove(3, false)); res.code != codeOK {
		t.Errorf("removing the silent one = %v", res.code)
	}
}

// TestCancelledAddition removes a member that is being added and never came.
func TestCancelledAddition(t *testing.T) {
	s := configuredState(t, 1)
	if res, _ := askState(t, s, reconfigure(memberChange{id: 2, addr: "x:1"})); res.code != codeOK {
		t.Fatalf("adding = %v, want that one can grow to two", res.code)
	}
	if res, _ := askState(t, s, reconfigure(memberChange{id: 2, remove: true})); res.code != codeOK {
		t.Errorf("removing it again = %v", res.code)
	}
	if res, _ := askState(t, s, settleOf(s)); res.code != codeOK {
		t.Errorf("settling = %v", res.code)
	}
	if res, _ := askState(t, s, reconfigure(memberChange{id: 3, addr: "x:1"})); res.code != codeOK {
		t.Errorf("adding another at its address = %v", res.code)
	}
}

// TestPassingObservers has observers come by themselves, any number at a time, also
// beside a change of voters; each gets an id that nobody ever had.
func TestPassingObservers(t *testing.T) {
	s := configuredState(t, 3)
	if res, _ := askState(t, s, reconfigure(memberChange{id: 9, addr: "x:1"})); res.code != codeOK {
		t.Fatal(res.code)
	}
	for i := range 5 {
		join := request{kind: requestJoin, joining: &joining{directory: fmt.Sprint("d", i), addr: fmt.Sprintf("y%d:1", i)}}
		for range 2 {
			res, _ := askState(t, s, join)
			if res.code != codeOK || MemberID(res.ops[0].value) != firstGivenID+MemberID(i) {
				t.Fatalf("observer %d: %+v", i, res)
			}
		}
		if m := s.members.get(firstGivenID + MemberID(i)); m.role != Observer || !m.passing || !m.unsettled {
			t.Errorf("it is %+v", m)
		}
	}
	if res, _ := askState(t, s, reconfigure(memberChange{id: 9, remove: true})); res.code != codeOK {
		t.Fatal(res.code)
	}
	if res, _ := askState(t, s, settleOf(s)); res.code != codeOK {
		t.Fatal(res.code)
	}
	if res, _ := askState(t, s, reconfigure(memberChange{id: firstGivenID + 2})); res.code != codeOK { // promoted
		t.Fatal(res.code)
	}
	if m := s.members.get(firstGivenID + 2); m.role != Voter || m.passing || !m.unsettled {
		t.Errorf("the promoted one is %+v", m)
	}
}

// TestOlderFormatHasNoMembership has the requests refused before the version that has
// them is in force.
func TestOlderFormatHasNoMembership(t *testing.T) {
	s := configuredState(t, 3)
	s.version = membersChange - 1
	for _, r := range []request{reconfigure(memberChange{id: 4, addr: "x:1"}), {kind: requestJoin, joining: &joining{directory: "d", addr: "x:1"}}, settleOf(s)} {
		if res, _ := askState(t, s, r); res.code != ErrUnimplemented {
			t.Errorf("request %d = %v", r.kind, res.code)
		}
	}
}

// TestJoinsWhereOneWas has a process join at the address of one that had come by itself and
// ended without a word: it takes that one's place as soon as nothing is heard of it.
func TestJoinsWhereOneWas(t *testing.T) {
	s := configuredState(t, 3)
	join := func(directory string) request {
		return request{kind: requestJoin, joining: &joining{directory: directory, addr: "pod:1"}}
	}
	if res, _ := askState(t, s, join("d4")); res.code != codeOK {
		t.Fatal(res.code)
	}
	const first, second = firstGivenID, firstGivenID + 1
	greet(s, first)
	touchOf(s, first, 0)
	touchOf(s, 1, s.settings.minSessionTimeoutMS)
	_, _, reason := s.joined(join("d5").joining)
	if res, _ := askState(t, s, join("d5")); res.code != ErrReconfigInProgress || !strings.Contains(reason, `member 4294967296, which joined with the same address "pod:1", was heard of lately`) {
		t.Errorf("joining where one is = %v (%s)", res.code, reason)
	}
	touchOf(s, 1, 1)
	res, changes := askState(t, s, join("d5"))
	if res.code != codeOK || MemberID(res.ops[0].value) != second || len(changes) != 1 {
		t.Fatalf("joining where one was = %+v, told %+v", res, changes)
	}
	if was, is := s.members.get(first), s.members.get(second); !was.removed || !was.unsettled || is.removed || is.addr != "pod:1" {
		t.Errorf("the members are %+v and %+v", was, is)
	}
	if text := configText(t, s); strings.Contains(text, "server.4294967296=") || !strings.Contains(text, "server.4294967297=pod:1:2:observer") {
		t.Errorf("the configuration is\n%s", text)
	}
	// Who was added by somebody keeps its address, however silent.
	touchOf(s, 2, 0)
	if res, _ := askState(t, s, reconfigure(memberChange{id: second, role: Observer, addr: "pod:2"}, memberChange{id: 9, role: Observer, addr: "pod:1"})); res.code != codeOK {
		t.Fatal(res.code)
	}
	if res, _ := askState(t, s, join("d6")); res.code != ErrBadArguments {
		t.Errorf("joining at the address of one that was added = %v", res.code)
	}
}

// TestRemovedMembersAreForgotten has members come and go for ever: the table stays small,
// and no id is used again, not even one that is forgotten.
func TestRemovedMembersAreForgotten(t *testing.T) {
	s := configuredState(t, 3)
	ok := func(r request) *result {
		t.Helper()
		if r.reconfiguration != nil {
			r.reconfiguration.force = true
		}
		res, _ := askState(t, s, r)
		if res.code != codeOK {
			t.Fatalf("request %d = %v", r.kind, res.code)
		}
		return &res
	}
	refused := func(id MemberID, reason string) {
		t.Helper()
		r := reconfigure(memberChange{id: id, role: Observer, addr: "x:1"})
		_, _, why := s.reconfigured(r.reconfiguration)
		if res, _ := askState(t, s, r); res.code != ErrBadArguments || !strings.Contains(why, reason) {
			t.Errorf("adding member %v = %v (%s), want that it says %q", id, res.code, why, reason)
		}
	}
	const late, claimant, owner = 5, 8, 9
	ok(reconfigure(memberChange{id: late, addr: "late:1"})) // has not joined yet
	ok(reconfigure(memberChange{id: owner, role: Observer, addr: "owner:1"}))
	greet(s, owner)
	m := s.members.get(owner)
	s.apply(&command{kind: commandBatch, group: rootGroup, member: owner, batch: &batchCommand{
		incarnation: m.incarnation, number: 1, requests: []request{{kind: requestOpenSession, timeoutMS: 60_000}},
	}}, 0)
	owned := s.members.get(owner).results[0].session
	ok(reconfigure(memberChange{id: owner, remove: true}))
	ok(settleOf(s))
	claimed := ok(request{kind: requestOpenSession, timeoutMS: 60_000}).session // by one who is forgotten, then
	ok(reconfigure(memberChange{id: claimant, role: Observer, addr: "claimant:1"}))
	greet(s, claimant)
	s.apply(&command{kind: commandBatch, group: rootGroup, member: claimant, batch: &batchCommand{
		incarnation: 1, number: 1, requests: []request{{kind: requestResume, session: claimed, timeoutMS: 60_000}},
	}}, 0)
	ok(reconfigure(memberChange{id: claimant, remove: true}))
	ok(settleOf(s))

	// Those who come by themselves leave nothing but the last of them, and no id that
	// somebody may choose is taken.
	for i := range MemberID(maxMembers + 100) {
		if got := MemberID(ok(request{kind: requestJoin, joining: &joining{directory: fmt.Sprint("d", i), addr: "pod:1"}}).ops[0].value); got != firstGivenID+i {
			t.Fatalf("observer %d got id %v", i, got)
		}
		ok(reconfigure(memberChange{id: firstGivenID + i, remove: true}))
		if i%3 == 0 {
			ok(settleOf(s))
		}
	}
	if n := len(s.members); n > 3+3+6 {
		t.Errorf("behind observers that came and went %d members are remembered", n)
	}
	refused(firstGivenID+7, "are given by the ensemble")
	if !s.members.usedUp(firstGivenID+7) || s.members.usedUp(s.members.nextID()) {
		t.Error("it is not known which ids were given")
	}

	// Of those whose ids were chosen the newest are remembered.
	for id := MemberID(10); id < maxMembers+100; id++ {
		ok(reconfigure(memberChange{id: id, role: Observer, addr: "host:1"}))
		ok(reconfigure(memberChange{id: id, remove: true}))
		ok(settleOf(s))
	}
	if n := len(s.members); n > 3+3+6+keptTombstones {
		t.Errorf("behind members that were added and removed %d are remembered", n)
	}
	if ses, _ := s.sessions.get(claimed); ses.claim == nil || ses.claim.member != claimant || s.members.get(claimant) != nil {
		t.Errorf("session %+v with the claim %+v; the claimant is %+v, want that it is forgotten", ses, ses.claim, s.members.get(claimant))
	}
	if s.members.get(owner) == nil || s.members.get(10) != nil {
		t.Errorf("member %v, which has a session: %+v; member 10: %+v", owner, s.members.get(owner), s.members.get(10))
	}
	refused(10, "ids are never used again")
	if res := ok(request{kind: requestJoin, joining: &joining{id: late, directory: "late", addr: "late:1"}}); res.ops[0].value != late {
		t.Errorf("who was added long ago joins as %+v", res)
	}

	// The owner's record goes with its session.
	ses, _ := s.sessions.get(owned)
	ok(request{kind: requestExpire, expiries: []expiry{{owned, ses.generation, ses.lastTouch(s.members.get(owner))}}})
	ok(reconfigure(memberChange{id: 2 * maxMembers, role: Observer, addr: "x:1"}))
	if m := s.members.get(owner); m != nil {
		t.Errorf("behind the end of its session there is still %+v", m)
	}
}
