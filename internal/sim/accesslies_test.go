package sim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
)

// vanishingTale is a tale of containers and znodes with a time to live. A write takes a
// second.
func vanishingTale() *tale {
	t := newTale()
	t.write(change{coord.NodeCreated, vanishDir, ""})
	short := t.ttl("t-0", 3*time.Second)
	t.write(change{coord.NodeDataChanged, short.path, t.next()})
	t.say(call{kind: refreshTTL, path: short.path})
	first := t.child(container(0), true)
	t.write(change{coord.NodeDeleted, first.path, first.data()})
	t.say(call{kind: deleteChild, path: first.path})
	t.write(change{coord.NodeDeleted, container(0), ""})
	t.set(register(0))
	t.write(change{coord.NodeDeleted, short.path, ""})
	t.child(container(2), true) // stays
	long := t.ttl("t-1", time.Second)
	t.child(long.path, false) // so this stays, too
	t.write(change{coord.NodeCreated, container(1), ""})
	t.rested = time.Duration(t.last) * time.Second
	return t
}

func (t *tale) ttl(name string, ttl time.Duration) *call {
	path := vanishDir + "/" + name
	t.write(change{coord.NodeCreated, path, t.next()})
	return t.say(call{kind: createTTL, path: path, ttl: ttl})
}

func (t *tale) child(dir string, withContainer bool) *call {
	path := dir + "/k" + t.next()
	changes := []change{{coord.NodeCreated, path, t.next()}}
	if withContainer {
		changes = append([]change{{coord.NodeCreated, dir, ""}}, changes...)
	}
	t.write(changes...)
	return t.say(call{kind: createChild, path: path})
}

// refuse makes a call one that was refused.
func (c *call) refuse(code coord.Code) {
	c.outcome, c.code, c.zxid, c.stat = refused, code, 0, coord.Stat{}
}

func TestLiesAboutWhatVanishes(t *testing.T) {
	if said := vanishingTale().check(); len(said) > 0 {
		t.Fatalf("the truth is refused: %s", strings.Join(said, "\n"))
	}
	for _, lie := range []struct {
		name, want string
		tell       func(*tale)
	}{
		{"a container goes with its children", "reaping", func(t *tale) { t.write(change{coord.NodeDeleted, container(2), ""}) }},
		{"a container goes before anybody has used it", "reaping", func(t *tale) { t.write(change{coord.NodeDeleted, container(1), ""}) }},
		{"a container stays", "reaping", func(t *tale) { t.rested += time.Hour }},
		{"a znode goes before its time", "reaping", func(t *tale) { t.find(createTTL, 0).ttl = time.Minute }},
		{"a znode goes before its time, at the last second", "reaping", func(t *tale) { t.find(createTTL, 0).ttl = 6 * time.Second }},
		{"a znode goes with its children", "reaping", func(t *tale) { t.write(change{coord.NodeDeleted, vanishDir + "/t-1", ""}) }},
		{"a znode stays", "reaping", func(t *tale) {
			t.ttl("t-2", time.Second)
			t.rested += 3 * time.Minute
			for _, dir := range []string{container(1), container(2)} { // nobody else is to blame
				t.h.add(&write{zxid: t.last + 1, events: []event{{typ: coord.NodeCreated, path: dir + "/k", stat: coord.Stat{Czxid: t.last + 1}}}})
				t.last++
			}
		}},
		{"nobody has deleted a child", "G3", func(t *tale) { t.find(deleteChild, 0).refuse(coord.ErrNoNode) }},
		{"a deleted child is there", "G1", func(t *tale) { t.say(call{kind: deleteChild, path: t.find(createChild, 1).path}) }},
		{"a child is lost", "G1", func(t *tale) { t.h.writes[t.find(createChild, 1).zxid].events = nil }},
		{"a child is made twice", "G2", func(t *tale) {
			q := t.find(createChild, 1)
			t.write(change{coord.NodeCreated, container(3) + "/k", q.data()})
		}},
		{"a container comes without its child", "G1", func(t *tale) {
			w := t.h.writes[t.find(createChild, 0).zxid]
			w.events = w.events[:1]
		}},
		{"it is modified twice", "G2", func(t *tale) {
			t.write(change{coord.NodeDataChanged, vanishDir + "/t-1", t.find(refreshTTL, 0).data()})
		}},
		{"there are too many", "quota", func(t *tale) {
			for i := range vanishQuota {
				t.ttl(fmt.Sprintf("t-9%d", i), time.Hour)
			}
		}},
		{"there are not too many", "quota", func(t *tale) { t.say(call{kind: createChild, path: container(0)}).refuse(coord.ErrQuotaExceeded) }},
		{"it is there", "reaping", func(t *tale) { t.say(call{kind: refreshTTL, path: vanishDir + "/t-1"}).refuse(coord.ErrNoNode) }},
		{"it was there then", "reaping", func(t *tale) {
			q := t.say(call{kind: refreshTTL, path: vanishDir + "/t-0"})
			q.refuse(coord.ErrNoNode)
			q.begin, q.end = 1, 1
		}},
	} {
		findLie(t, lie.name, lie.want, vanishingTale(), lie.tell)
	}
}

// secretTale is a tale of one secret, and of a person who may read it at first and then
// may not any more.
func secretTale() *tale {
	t := newTale()
	t.write(change{coord.NodeCreated, secretDir, ""})
	for i := range nSecrets {
		t.write(change{coord.NodeCreated, secret(i), "0"})
	}
	path, who := secret(0), firstPerson
	t.setACLUntil(path, func(v int32) bool { return mayDo(path, v, who) == coord.PermRead|coord.PermWrite })
	t.set(path).who = who
	t.sights = append(t.sights, &sight{
		what: text("a watch"), path: path, who: who, need: coord.PermRead, begin: t.tick, end: t.tick + 1, allowed: true, aversion: t.stats[path].Aversion, told: true,
	})
	t.tick++
	t.spies = []*spy{{path: secretDir, mode: coord.Subtree, who: who, start: t.last - 1, told: []toldSecret{{t.last, path, t.tick}}}}
	t.get(path, t.last).who = who
	t.setACLUntil(path, func(v int32) bool { return mayDo(path, v, who) == 0 })
	t.set(path)
	t.get(path, t.last)
	q := t.get(path, t.last)
	q.who = who
	q.refuse(coord.ErrNoAuth)
	t.spies[0].told = append(t.spies[0].told, toldSecret{zxid: t.last, tick: t.tick}) // a mark of progress
	return t
}

// setACLUntil sets the ACL of a secret again and again.
func (t *tale) setACLUntil(path string, enough func(version int32) bool) {
	for !enough(t.stats[path].Aversion) {
		st := t.stats[path]
		st.Aversion++
		t.stats[path] = st
		t.say(call{kind: setACL, path: path, version: st.Aversion - 1, zxid: st.Mzxid})
	}
}

func TestLiesAboutSecrets(t *testing.T) {
	if said := secretTale().check(); len(said) > 0 {
		t.Fatalf("the truth is refused: %s", strings.Join(said, "\n"))
	}
	path, who := secret(0), firstPerson
	for _, lie := range []struct {
		name, want string
		tell       func(*tale)
	}{
		{"somebody reads what he may not", "access", func(t *tale) { t.get(path, t.last).who = who }},
		{"a stranger reads", "access", func(t *tale) { t.find(getRegister, 0).who = stranger }},
		{"somebody is refused what he may read", "access", func(t *tale) { t.find(getRegister, 0).refuse(coord.ErrNoAuth) }},
		{"somebody writes what he may not", "access", func(t *tale) { t.set(path).who = who }},
		{"somebody writes what he may not, and is not told", "access", func(t *tale) {
			q := t.set(path)
			q.who, q.outcome = who, unknown
		}},
		{"what was refused for the ACL has happened", "G3", func(t *tale) {
			q := t.set(path)
			q.who = who
			q.refuse(coord.ErrNoAuth)
		}},
		{"an ACL is one that was there before", "G5, G6", func(t *tale) {
			q := t.get(path, t.last)
			q.process, q.level = 2, linearizable
			q.stat.Aversion--
		}},
		{"an ACL is one that nobody has set", "G5, G6", func(t *tale) { t.get(path, t.last).stat.Aversion++ }},
		{"a watch tells what its reader may not read", "access", func(t *tale) { t.sights[0].aversion = t.stats[path].Aversion }},
		{"a watch tells what its reader may not read any more", "access", func(t *tale) { t.sights[0].begin, t.sights[0].end = t.tick+1, t.tick+2 }},
		{"a watch does not tell what its reader may read", "G12", func(t *tale) {
			t.spies[0].told = t.spies[0].told[1:]
			t.spies[0].told[0].tick = t.find(getRegister, 0).begin
		}},
	} {
		findLie(t, lie.name, lie.want, secretTale(), lie.tell)
	}
}
