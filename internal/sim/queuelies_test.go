package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/internal/bubble"
	"coord/internal/invariants"
	"coord/recipes"
)

// A liar tells the checkers of a world what was made up.
type liar struct {
	t *testing.T
	w *world
	c *contest
}

// lie has a test tell lies in a world without clients.
func lie(t *testing.T, test func(l *liar)) {
	bubble.Run(t, func(t *testing.T) {
		w := newWorld(t, options{seed: 1, silent: true})
		w.setupSilent(t)
		defer func() {
			for _, m := range w.members {
				w.down(m.ID, false)
			}
		}()
		test(&liar{t, w, newContest(w)})
	})
}

// want checks that one violation was found, or none, and forgets it.
func (l *liar) want(what string) {
	l.t.Helper()
	errs := l.w.ledger.found()
	if what == "" && len(errs) > 0 || what != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), what)) {
		l.t.Errorf("want %q, found %v", what, errs)
	}
	l.w.ledger.violations = nil
}

// view returns the state.
func (l *liar) view() *coord.View {
	v, err := l.w.process(1).c.View(context.Background(), coord.Linearizable())
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

// good makes up an item.
func (l *liar) good(d *depot, put outcome) *good {
	g := &good{value: int64(len(d.goods)), put: put, due: time.Now()}
	g.place = newPlace(fmt.Sprintf("%s-%d", d.path, g.value), placeKind{limit: 1}, l.w.violate)
	d.goods[g.value] = g
	return g
}

// TestLiesAboutDeliveries tells the checkers of queues one lie about a delivery at a time.
func TestLiesAboutDeliveries(t *testing.T) {
	lie(t, func(l *liar) {
		d := l.c.depots[2]
		g := l.good(d, acked)
		deliver := func(fence coord.ZXID, number int) {
			d.delivered(g.value, handing{fence, number}, g.id, g.priority)
		}
		deliver(10, 1)
		deliver(30, 3)
		deliver(20, 2) // it was told late
		l.want("")
		deliver(40, 3)
		l.want("for the 3th time, and with")
		g.handed = nil
		deliver(50, 4)
		l.want("for the 4th time")
		g.handed = nil
		d.delivered(g.value, handing{60, 1}, "other", g.priority)
		l.want("with id")
		g.handed = nil
		d.delivered(g.value, handing{61, 1}, g.id, 1)
		l.want("and priority 1")
		g.handed = nil
		g.due = time.Now().Add(time.Millisecond)
		deliver(62, 1)
		l.want("before it is due")
		g.due, g.handed, g.put = time.Now(), nil, refused
		deliver(63, 1)
		l.want("though it was refused")
		g.put, g.handed = acked, nil

		d.acknowledged(g, &grant{at: g.place, fence: 70}, true, false, nil)
		deliver(65, 1) // of before
		l.want("")
		g.handed = nil
		deliver(71, 1)
		l.want("which acknowledged it")
		d.acknowledged(g, &grant{at: g.place, fence: 72}, true, true, nil)
		l.want("what it had lost")

		d.died(g.value, 3, nil)
		l.want("")
		d.died(g.value, 2, nil)
		l.want("has died of 2 deliveries")
		d.died(g.value, 3, errors.New("not decoded"))
		l.want("not decoded")
	})
}

// TestLiesAboutItems tells them one lie about what became of an item at a time.
func TestLiesAboutItems(t *testing.T) {
	lie(t, func(l *liar) {
		d := l.c.depots[0]
		one, unsure := tally{sure: 1}, tally{maybe: 1}
		for _, c := range []struct {
			want  string
			good  good
			there bool
			count int64
		}{
			{"", good{put: acked, acked: one, counted: one}, false, 1},
			{"", good{put: acked, acked: one}, false, 0},
			{"", good{put: acked, acked: unsure, counted: unsure}, false, 1},
			{"", good{put: acked, acked: unsure, counted: unsure}, true, 0},
			{"", good{put: acked}, true, 0},
			{"", good{put: acked, discarded: one}, false, 0},
			{"", good{put: unknown}, false, 0},
			{"", good{put: unknown}, true, 0},
			{"", good{put: refused}, false, 0},
			{"is lost", good{put: acked}, false, 0},
			{"was there and is lost", good{put: unknown, handed: []handing{{1, 1}}}, false, 0},
			{"was acknowledged 2 times by what was told", good{put: acked, acked: tally{sure: 2}}, false, 0},
			{"and 2 times by the tree", good{put: acked, acked: tally{1, 1}, counted: tally{1, 1}}, false, 2},
			{"0 times by the tree, want 1", good{put: acked, acked: one, counted: one}, false, 0},
			{"1 times by the tree, want 0", good{put: acked, acked: one}, false, 1},
			{"and is there", good{put: acked, acked: one}, true, 0},
			{"and is there", good{put: acked, discarded: one}, true, 0},
			{"acknowledged and discarded", good{put: acked, acked: one, discarded: one}, false, 0},
			{"refused and put", good{put: refused}, true, 0},
			{"refused and put", good{put: refused, acked: unsure}, false, 0},
		} {
			c.good.place = newPlace("/item", placeKind{limit: 1}, l.w.violate)
			d.account(&c.good, c.there, c.count)
			l.want(c.want)
		}

		l.w.mustCreate(l.w.process(1).c, guardedDir, nil)
		g := l.good(d, acked)
		l.w.mustCreate(l.w.process(1).c, g.guardedPath(), []byte("0"))
		d.acknowledged(g, &grant{at: g.place, fence: 9}, false, false, nil)
		g.handed = []handing{{5, 2}, {9, 4}}
		d.missed = 2
		d.finish(l.view())
		l.want("")
		d.missed = 1
		d.finish(l.view())
		l.want("2 deliveries of /queues/plain were counted that nobody has")
	})
}

// TestLiesAboutQueues shows them states that no queue may be in.
func TestLiesAboutQueues(t *testing.T) {
	for _, s := range []struct {
		name, want string
		znodes     []string // path, below the queue, and data
	}{
		{"all is well", "", []string{
			"items-0000000000/1000-0000000001", "0000000000 a\n1", "ids/a", "", "delayed/0000000000000001-1000-0000000001", "0000000000 b\n2", "ids/b", "",
			"dead/1000-0000000001", "0000000003 c\n3", "ids/c", "", "items-0000000000/1000-0000000001/taken", "", "takers/taker-0000000001", "",
		}},
		{"an id twice", "ids: a is twice", []string{"items-0000000000/1000-0000000001", "0000000000 a\n1", "dead/1000-0000000001", "0000000000 a\n2", "ids/a", ""}},
		{"an id that is not listed", "ids: a of an item is not", []string{"items-0000000000/1000-0000000001", "0000000000 a\n1", "ids", ""}},
		{"an id of a dead one that is not listed", "ids: a of an item is not", []string{"dead/1000-0000000001", "0000000000 a\n1", "ids", ""}},
		{"an id of nothing", "ids: a is not the id", []string{"ids/a", ""}},
		{"an item twice", "item 1 is twice", []string{"items-0000000000/1000-0000000001", "0000000000 \n1", "delayed/0000000000000001-1000-0000000001", "0000000000 \n1"}},
		{"too many items", "bounds: there are 3 items", []string{
			"items-0000000000/1000-0000000001", "0000000000 \n1", "items-0000000001/1000-0000000001", "0000000000 \n2",
			"delayed/0000000000000001-1000-0000000001", "0000000000 \n3", "dead/1000-0000000001", "0000000000 \n4",
		}},
	} {
		t.Run(s.name, func(t *testing.T) {
			lie(t, func(l *liar) {
				d := l.c.depots[1]
				d.bound = 2
				for i := 0; i < len(s.znodes); i += 2 {
					ctx := context.Background() //nolint:usetesting // that of the test is not of the bubble
					_, _, err := l.w.process(1).c.Create(ctx, d.path+"/"+s.znodes[i], []byte(s.znodes[i+1]), coord.WithParents())
					if err != nil {
						t.Fatal(err)
					}
				}
				d.audit(l.view())
				l.want(s.want)
			})
		})
	}
}

// TestLiesAboutTopics tells the checkers of topics one lie at a time.
func TestLiesAboutTopics(t *testing.T) {
	lie(t, func(l *liar) {
		tp := l.c.topics[0]
		for i := range 4 {
			tp.publishOne(l.w.dice(uint64(i)), l.w.process(1))
		}
		tp.published = map[int64]outcome{0: acked, 1: acked, 2: acked, 3: acked}
		told := func(s *subscriber, versions ...int32) {
			for _, v := range versions {
				s.told(v, int64(v))
			}
		}
		told(&subscriber{t: tp}, 0, 1, 2, 3)
		told(&subscriber{t: tp, least: 1}, 2, 3)
		tp.finish(l.view())
		l.want("")
		told(&subscriber{t: tp}, 1, 3)
		l.want("version 3 behind 1")
		told(&subscriber{t: tp}, 1, 1)
		l.want("version 1 behind 1")
		told(&subscriber{t: tp, least: 2}, 1)
		l.want("version 1 first, want 2")
		told(&subscriber{t: tp, least: 2, exact: true}, 3)
		l.want("version 3 first, want 2")
		(&subscriber{t: tp}).told(2, 0)
		l.want("is message 2 and message 0")
		tp.versions[2] = 0
		tp.published[2] = refused
		tp.finish(l.view())
		l.want("comes again")
		tp.versions[2] = 2
		tp.finish(l.view())
		l.want("was refused, and told")
		tp.published[2] = acked
		delete(tp.versions, 2)
		tp.finish(l.view()) // nobody was told
		l.want("")
		tp.published[4] = acked
		tp.finish(l.view())
		l.want("nobody was told 1 versions")
		tp.published[4] = unknown
		tp.finish(l.view())
		l.want("")

		s := &subscriber{t: tp, open: true}
		tp.readers = append(tp.readers, s)
		told(s, 2, 3)
		tp.checkLast()
		l.want("was told version 3 last")
	})
}

// TestLiesAboutShares tells the checkers of tasks and partitions one lie at a time.
func TestLiesAboutShares(t *testing.T) {
	lie(t, func(l *liar) {
		s := l.c.shares
		newTask := func() *task { return &task{place: newPlace("/task", placeKind{limit: 1}, l.w.violate)} }
		held := &grant{check: func() error { return nil }, at: newPlace("/task", placeKind{limit: 1}, l.w.violate)}
		k := newTask()
		k.begins(held)
		k.tries()
		k.told(true, true)
		k.told(false, false)
		l.want("")
		k.told(true, true)
		l.want("was done 2 times")
		k.begins(held)
		l.want("begins what is done")
		newTask().told(false, false)
		l.want("nobody has done it")
		k = newTask()
		k.tries()
		k.told(false, true)
		l.want("who was told that he has done")
		k = newTask()
		k.tries()
		k.toldDone()
		l.want("")
		k.begins(held)
		l.want("begins what is done")
		newTask().toldDone()
		l.want("nobody has done it")

		for _, p := range s.partitions {
			p.granted(&grant{fence: 1, weight: 1, check: held.check})
		}
		s.checkOwned()
		l.want("")
		p := s.partitions["1"]
		p.ending(p.held[0])
		s.checkOwned()
		l.want("1 has the owners []")
	})
}

// Broken queues, as others have been: the run of each must be found out.
var brokenQueues = []struct {
	name, want string
	breakIt    func(d *depot)
}{
	{"a put that is done again when it is not answered", "queues: ", func(d *depot) {
		put := d.put
		d.put = func(q *recipes.Queue[int64], ctx context.Context, value int64, opts ...recipes.PutOption) error {
			err := put(q, ctx, value, opts...)
			if errors.Is(err, coord.ErrUnknownOutcome) {
				err = put(q, context.Background(), value, opts...)
			}
			return err
		}
	}},
	// What kazoo's LockingQueue leaves to its user: to do what was asked, and then to consume.
	{"an acknowledgement in two writes", "was acknowledged", func(d *depot) {
		d.ack = func(del *recipes.Delivery[int64], ctx context.Context, also ...coord.Op) error {
			if len(also) > 0 {
				if _, err := del.Session().Multi(ctx, also...); err != nil {
					return err
				}
			}
			return del.Ack(ctx)
		}
	}},
	{"a delivery that never ends", "exclusivity", func(d *depot) {
		d.check = func(del *recipes.Delivery[int64]) error {
			if err := del.Check(); errors.Is(err, recipes.ErrSettled) {
				return err
			}
			return nil
		}
	}},
}

// TestBrokenQueuesAreFound runs queues that are broken.
func TestBrokenQueuesAreFound(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the race detector adds nothing to this but a minute")
	}
	for _, b := range brokenQueues {
		t.Run(b.name, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				for seed := range uint64(brokenRuns) {
					c := newContest(newWorld(t, options{seed: seed, ops: 400, silent: true}))
					for _, d := range c.depots {
						b.breakIt(d)
					}
					c.run()
					for _, err := range c.w.ledger.found() {
						if strings.Contains(err.Error(), b.want) {
							return
						}
						t.Logf("also: %v", err)
					}
				}
				t.Errorf("%d runs did not find it", brokenRuns)
			})
		})
	}
}
