package crashtest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
)

// A movedStory is what two recorders tell of a znode that was served by a group of its own
// for a while.
type movedStory struct {
	*testimony
	at [2]map[coord.GroupID]coord.ZXID // how far the recorders are
}

const mountGroup coord.GroupID = 2

func newMovedStory(tb testing.TB) *movedStory {
	tb.Helper()
	s := &movedStory{testimony: newTestimony(tb)}
	for i := range s.at {
		s.at[i] = map[coord.GroupID]coord.ZXID{rootGroup: 6}
	}
	s.o.zxid, s.o.groups = 9, map[coord.GroupID]coord.ZXID{mountGroup: 9}
	s.node(regDir+"/0", "c", 3)
	s.all(rootGroup, 7, told{coord.NodeCreated, regDir + "/0", "a", 1})
	s.all(mountGroup, 8, told{coord.NodeDataChanged, regDir + "/0", "b", 2})
	s.all(rootGroup, 9) // a mark
	return s
}

// all has both recorders be told of a write, or of none, in a group.
func (s *movedStory) all(g coord.GroupID, z coord.ZXID, events ...told) {
	for i := range s.at {
		s.one(i, g, z, events...)
	}
}

func (s *movedStory) one(i int, g coord.GroupID, z coord.ZXID, events ...told) {
	s.at[i][g] = z
	at := fmt.Sprintf("p1-000000000000002a-%d:%v", rootGroup, s.at[i][rootGroup])
	if z, in := s.at[i][mountGroup]; in {
		at += fmt.Sprintf(",%d:%v", mountGroup, z)
	}
	s.history.hear(coord.MemberID(i+1), &reply{Event: eventTold, Position: at, Group: g, Told: events}) //nolint:gosec // 1 or 2
}

// TestWitnessesOfMoves tells the recorders' judge lies about groups, each of which it must
// name.
func TestWitnessesOfMoves(t *testing.T) {
	third := told{coord.NodeDataChanged, regDir + "/0", "c", 3}
	s := newMovedStory(t)
	s.all(mountGroup, 9, third)
	for range 2 {
		if err := s.check(); err != nil {
			t.Fatalf("check(the truth) = %v", err)
		}
	}
	s = newMovedStory(t)
	s.all(mountGroup, 9, third)
	s.o.groups = nil // it was taken back meanwhile
	if err := s.check(); err != nil {
		t.Fatalf("check(of a group that is gone) = %v", err)
	}
	for want, lie := range map[string]func(*movedStory){
		"of member 2 was told of 1 writes of group 2 between 0x0 and 0x9, want 2: 0x9 (-1)": func(s *movedStory) {
			s.one(0, mountGroup, 9, third)
			s.one(1, mountGroup, 9)
		},
		"another one": func(s *movedStory) {
			s.one(0, mountGroup, 9, third)
			s.one(1, mountGroup, 9, told{coord.NodeDataChanged, regDir + "/0", "d", 3})
		},
		"of group 2 behind 0x8":     func(s *movedStory) { s.all(mountGroup, 7, third) },
		"by what was told it is":    func(s *movedStory) { s.all(mountGroup, 10, third) },
		"went from version 2 to 2":  func(s *movedStory) { s.all(mountGroup, 9, told{coord.NodeDataChanged, regDir + "/0", "c", 2}) },
		"it was there: true":        func(s *movedStory) { s.all(mountGroup, 9, told{coord.NodeCreated, regDir + "/0", "c", 3}) },
		`/reg/0 is "c", version 3;`: func(*movedStory) {},
	} {
		t.Run(want, func(t *testing.T) {
			s := newMovedStory(t)
			lie(s)
			if err := s.check(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("check = %v, want %q", err, want)
			}
		})
	}
}

// TestOrderIsOfDomains has two writes share a zxid, and be in the wrong order: that is
// nothing in two mounts, and wrong in one.
func TestOrderIsOfDomains(t *testing.T) {
	for _, test := range []struct {
		moving        bool
		first, second string
		want          string
	}{
		{true, regDir + "/0", regDir + "/1", ""},
		{true, regDir + "/0", pairDir, ""},
		{true, seqDir + "/n-0", seqDir + "/n-1", "and not less than"},
		{true, pairDir, tickDir, "and not less than"},
		{false, regDir + "/0", regDir + "/1", "and not less than"},
	} {
		s := newStory(t)
		s.l.moving = test.moving
		c := &checker{l: s.l, o: s.o}
		s.l.entries = nil
		for i, path := range []string{test.first, test.second, test.second} {
			s.l.entries = append(s.l.entries, &entry{
				Kind: regWrite, Path: path, Begin: time.Duration(2 * i), End: time.Duration(2*i + 1), Outcome: acked,
				Reply: &reply{Stat: &coord.Stat{Mzxid: coord.ZXID([]int{50, 49, 50}[i])}}, //nolint:gosec // small
			})
		}
		c.order()
		if err := c.found(); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// TestWriterIsWhoServes has a recorder find the group of an event where several groups have
// come to its zxid.
func TestWriterIsWhoServes(t *testing.T) {
	type at = map[coord.GroupID]coord.ZXID
	mounts := map[coord.GroupID]string{2: seqDir, 3: regDir + "/0"}
	for _, test := range []struct {
		was, at at
		path    string
		want    coord.GroupID
	}{
		{at{1: 6}, at{1: 7}, tickDir, 1},
		{at{1: 6, 2: 5}, at{1: 6, 2: 7}, seqDir + "/n-1", 2},
		{at{1: 6, 2: 5, 3: 4}, at{1: 7, 2: 7, 3: 7}, regDir + "/0", 3},
		{at{1: 6, 2: 5, 3: 7}, at{1: 7, 2: 7, 3: 7}, regDir + "/0", 1}, // the mount was there before
		{at{1: 6, 2: 5}, at{1: 7, 2: 7}, regDir + "/01", 1},
		{at{1: 6}, at{1: 6, 9: 7}, ctrDir + "/0", 9}, // nobody has seen that mount
	} {
		if got := writer(test.was, test.at, &coord.Event{Path: test.path, ZXID: 7}, mounts); got != test.want {
			t.Errorf("%s at %v behind %v is of group %v, want %v", test.path, test.at, test.was, got, test.want)
		}
	}
}
