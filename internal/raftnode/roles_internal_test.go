package raftnode

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/lni/dragonboat/v4/raftio"

	"coord/internal/bubble"
	"coord/internal/replica"
)

func update(r *roles, g, leader, term uint64) {
	r.LeaderUpdated(raftio.LeaderInfo{ShardID: g, ReplicaID: 1, LeaderID: leader, Term: term})
}

type change struct {
	g    replica.GroupID
	role replica.Role
}

// A callee that does not return holds up nothing, and finds only the newest
// role of each group when it comes back.
func TestRolesAreCompacted(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		got := make(chan change, 16) // more than can come
		resume := make(chan struct{})
		r := newRoles(func(g replica.GroupID, role replica.Role) {
			got <- change{g, role}
			<-resume
		})
		r.admit(1)
		r.admit(2)
		r.admit(3)
		done := make(chan struct{})
		go func() { defer close(done); r.run() }()

		update(r, 1, 1, 1)
		synctest.Wait() // the callee has it and does not return
		for term := range uint64(1000) {
			update(r, 2, 2, term+1)
			update(r, 1, 1, term+2)
		}
		update(r, 3, 3, 1)
		r.dismiss(3) // back where it was: no change
		update(r, 9, 1, 1)
		close(resume)
		synctest.Wait()
		close(r.stop)
		<-done
		close(got)
		want := []change{
			{1, replica.Role{Leader: 1, Term: 1}},
			{2, replica.Role{Leader: 2, Term: 1000}},
			{1, replica.Role{Leader: 1, Term: 1001}},
		}
		var changes []change
		for c := range got {
			changes = append(changes, c)
		}
		if !slices.Equal(changes, want) {
			t.Errorf("reported %v, want %v", changes, want)
		}
		if role := r.of(1); role.Term != 1001 {
			t.Errorf("of(1) = %v, want term 1001", role)
		}
	})
}

// Stopping a group is a change, once.
func TestRolesOfStoppedGroup(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		got := make(chan change, 16)
		r := newRoles(func(g replica.GroupID, role replica.Role) { got <- change{g, role} })
		done := make(chan struct{})
		go func() { defer close(done); r.run() }()
		r.admit(1)
		update(r, 1, 2, 5)
		synctest.Wait()
		r.dismiss(1)
		update(r, 1, 2, 5) // late
		synctest.Wait()
		close(r.stop)
		<-done
		close(got)
		want := []change{{1, replica.Role{Leader: 2, Term: 5}}, {1, replica.Role{}}}
		var changes []change
		for c := range got {
			changes = append(changes, c)
		}
		if !slices.Equal(changes, want) {
			t.Errorf("reported %v, want %v", changes, want)
		}
	})
}
