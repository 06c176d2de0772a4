package recipes

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
)

// A lineup is standers that one after the other have looked at their line once.
type lineup struct {
	t   *testing.T
	all []*stander
}

func (l *lineup) add(tickets ...ticket) {
	l.t.Helper()
	for _, ticket := range tickets {
		admit := ticket.standIn("/line")
		if ticket.family == familyPermit {
			admit = ticket.standFor("/line", 3)
		}
		c, err := enter(l.t.Context(), l.all[0].s, "/line", admit)
		if err != nil {
			l.t.Fatal(err)
		}
		l.all = append(l.all, &stander{c, ticket})
		l.judge(len(l.all) - 1)
	}
}

func (l *lineup) judge(i int) verdict {
	l.t.Helper()
	says, err := l.all[i].judge(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return says
}

// woken has a change be made, and returns whom it wakes. None of them looks.
func (l *lineup) woken(change func() error) (woken []int) {
	l.t.Helper()
	if err := change(); err != nil {
		l.t.Fatal(err)
	}
	time.Sleep(time.Second)
	for i, s := range l.all {
		if s.set == nil {
			continue
		}
		select {
		case <-s.set.Changed():
			woken = append(woken, i)
		default:
		}
	}
	return woken
}

func (l *lineup) leaves(i int) func() error {
	return func() error {
		defer func() { l.all[i].set = nil }()
		return l.all[i].leave(l.t.Context())
	}
}

// The thundering herd: a release wakes those whose turn it is, and nobody else.
func TestWhoIsWoken(t *testing.T) {
	write, err := lockTicket(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := lockTicket(true, nil)
	if err != nil {
		t.Fatal(err)
	}
	permit, err := permitTicket(3, nil)
	if err != nil {
		t.Fatal(err)
	}
	inLine := func(name string, test func(l *lineup)) {
		t.Run(name, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				e := coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second))
				s, err := e.Member(1).NewSession(t.Context(), coord.SessionOptions{Timeout: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				test(&lineup{t, []*stander{{contender: &contender{s: s}}}}) // who is number 0 is nobody
			})
		})
	}
	expect := func(l *lineup, got []int, want ...int) {
		l.t.Helper()
		if !slices.Equal(got, want) {
			l.t.Errorf("woken: %v, want %v", got, want)
		}
	}
	inLine("lock", func(l *lineup) {
		l.add(write, write, write, write)
		expect(l, l.woken(l.leaves(3)), 4)
		if l.judge(4).granted {
			l.t.Error("granted behind two")
		}
		expect(l, l.woken(l.leaves(1)), 2)
		if !l.judge(2).granted {
			l.t.Error("the first one is not granted")
		}
		expect(l, l.woken(l.leaves(2)), 4)
	})
	inLine("read and write", func(l *lineup) {
		l.add(write, read, read, read, write, read, read, write)
		expect(l, l.woken(l.leaves(1)), 2, 3, 4)
		for i := 2; i <= 8; i++ {
			if got := l.judge(i).granted; got != (i <= 4) {
				l.t.Errorf("%d: granted %t", i, got)
			}
		}
		expect(l, l.woken(l.leaves(3)))
		expect(l, l.woken(l.leaves(4)), 5)
		l.judge(5)
		expect(l, l.woken(l.leaves(2)), 5)
		if !l.judge(5).granted {
			l.t.Error("the writer is not granted")
		}
		mark := func(n note) note { n.shared = true; return n }
		expect(l, l.woken(func() error { return l.all[5].rewrite(l.t.Context(), mark) }), 5, 6, 7)
		if !l.judge(6).granted || !l.judge(7).granted || l.judge(8).granted {
			l.t.Error("a downgrade lets in others than the readers behind it")
		}
	})
	inLine("semaphore", func(l *lineup) {
		l.add(permit, permit, permit, permit, permit, permit, permit)
		for holder, next := 1, 4; next <= 6; holder, next = holder+1, next+1 {
			expect(l, l.woken(l.leaves(holder)), next)
			says := l.judge(next)
			if !says.granted || !says.stirs {
				l.t.Fatalf("the next one is told %+v", says)
			}
			expect(l, l.woken(func() error { l.all[next].stir(); return nil }), next, next+1)
			l.judge(next)
			if l.judge(next + 1).granted {
				l.t.Error("one too many")
			}
		}
		if says := fmt.Sprint(l.judge(7).waitFor); says != fmt.Sprint([]string{l.all[4].path, l.all[5].path, l.all[6].path}) {
			l.t.Errorf("the first waiter waits for %v", says)
		}
		expect(l, l.woken(l.leaves(5)), 7)
		if says := l.judge(7); !says.granted || says.stirs {
			l.t.Errorf("the last one is told %+v", says)
		}
	})
}
