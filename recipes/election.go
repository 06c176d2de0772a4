package recipes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"coord"
)

// Campaign waits until s leads the election at path. value says who it is, see
// [Contender]. Candidates lead in the order of their arrival, or of their priority, see
// [WithPriority].
//
// Guarantee: terms do not overlap: of all that were elected at path, at most one is
// Held at a time, by the clocks of their processes.
// Cost: one write, and one to resign, which is [Held.Release]. Waiting costs none.
// Session loss: the campaign fails, or the term ends.
// Pitfall: work that goes on after the end of the Held's Context is not led by
// anybody; guard it.
//
// It fails as [Lock] does.
func Campaign(ctx context.Context, s *coord.Session, path string, value []byte, opts ...Option) (*Held, error) {
	h, err := campaign(ctx, s, path, append([]Option{WithValue(value)}, opts...))
	if err != nil {
		return nil, fmt.Errorf("campaign at %s: %w", path, err)
	}
	return h, nil
}

func campaign(ctx context.Context, s *coord.Session, path string, opts []Option) (*Held, error) {
	t, err := ticketOf("election", byPriority, opts)
	if err != nil {
		return nil, err
	}
	return t.acquire(ctx, s, path, t.standIn(path))
}

// byPriority is the rule of candidates: who is first lets those of a higher priority
// go before it, and those of its own that came before it, and went behind. Who has
// been granted is not asked again.
func byPriority(l *line, place int) verdict {
	v := alone(l, place)
	v.passes = v.granted && slices.ContainsFunc(l.all[place+1:], func(e entrant) bool {
		return e.outranks(l.all[place]) && l.contends(e)
	})
	v.granted = v.granted && !v.passes
	return v
}

func (e entrant) outranks(other entrant) bool {
	return e.number > other.number || e.number == other.number && precedes(e.since, other.since)
}

// CurrentLeader returns who leads the election at path, and false if nobody does: as
// the local member sees it, unless an option says [coord.Linearizable]. All candidates
// are told by [Contenders]. It fails as
// [coord.Session.View] does, for a path that is none, and with [coord.ErrNoAuth] if
// the directory or the leader's znode may not be read.
func CurrentLeader(ctx context.Context, c coord.Client, path string, opts ...coord.ReadOption) (Contender, bool, error) {
	if err := present(ctx, c); err != nil {
		return Contender{}, false, err
	}
	v, err := c.View(ctx, opts...)
	if err != nil {
		return Contender{}, false, err
	}
	l, err := leaderOf(v, path)
	if err != nil || l == nil {
		return Contender{}, false, err
	}
	return *l, true, nil
}

// Observe yields who leads the election at path, now and whenever that changes or
// the leader changes its value; the zero Contender while nobody does. An observer that
// is slow may miss terms in between, never the latest. The last pair has the reason
// why it ended, if that was not the loop's own: the cause of ctx, that of the session
// or Coordinator that c is, or what [CurrentLeader] fails with. It shows what this
// member knows, also while it has no contact with a quorum.
//
// It costs no writes. While somebody leads, an observer is woken by changes of the
// leader's znode, and hardly by others.
func Observe(ctx context.Context, c coord.Client, path string) iter.Seq2[Contender, error] {
	return func(yield func(Contender, error) bool) {
		last := Contender{Fence: math.MaxUint64} // none is like it
		err := lookUntil(ctx, c, coord.AllowStale(), func(v *coord.View) ([]coord.Registration, error) {
			l, err := leaderOf(v, path)
			if err != nil {
				return nil, err
			}
			news := []coord.Registration{{Path: path, Type: coord.DataWatcher}, {Path: path, Type: coord.ChildrenWatcher}}
			if l == nil {
				l = &Contender{}
			} else {
				news = []coord.Registration{{Path: l.Path, Type: coord.DataWatcher}}
			}
			if !l.same(last) && !yield(*l, nil) {
				return nil, nil // the loop was left
			}
			last = *l
			return news, nil
		})
		if err != nil {
			yield(Contender{}, fmt.Errorf("observe %s: %w", path, err))
		}
	}
}

func (who Contender) same(other Contender) bool {
	return who.Fence == other.Fence && string(who.Value) == string(other.Value)
}

// leaderOf returns who leads an election, or nil.
func leaderOf(v *coord.View, dir string) (*Contender, error) {
	f, err := familyIn(v, dir, "election")
	if err != nil {
		return nil, err
	}
	l, err := lineOf(v, dir, f)
	if err != nil {
		return nil, err
	}
	first, ok := l.first()
	if !ok {
		return nil, nil //nolint:nilnil // nobody is a fine answer
	}
	leader, err := l.contender(first)
	leader.Holds = true
	return &leader, err
}

// RunElected calls f whenever this process leads the election at path, with a
// context that ends with the term, with c, and with ctx. It campaigns with the own
// session of c, and again with the next one when that ends.
//
// A term that was lost is followed by another campaign, once f has returned: f never
// runs twice at a time. So is a campaign that failed because this member had no
// contact with a quorum, or because somebody deleted the candidate's znode. When f
// returns while the term lasts, or when ctx has ended, RunElected resigns and returns
// f's error, also if that is nil; so f decides when it has had enough. Otherwise it
// returns the cause of ctx, why c has ended, or what else [Campaign] fails with. If f
// panics, so does RunElected, having resigned.
//
// Cost: one write for each campaign and one to resign.
// Session loss: ends the term, and not RunElected.
// Pitfall: f must heed its context. Until it returns, this process does not campaign.
func RunElected(ctx context.Context, c *coord.Coordinator, path string, f func(ctx context.Context, h *Held) error, opts ...Option) error {
	if err := present(ctx, c); err != nil {
		return fmt.Errorf("run elected at %s: %w", path, err)
	}
	for s := range c.Sessions(ctx) {
		for s.Context().Err() == nil {
			h, err := campaign(ctx, s, path, opts)
			switch {
			case err == nil:
				if over, err := serve(ctx, h, f); over {
					return err
				}
			case ctx.Err() == nil && (passes(err) || s.Context().Err() != nil):
				pause(s.Context(), retryPause) // the next one may have better luck
			default:
				return fmt.Errorf("run elected at %s: %w", path, err)
			}
		}
	}
	return fmt.Errorf("run elected at %s: %w", path, cmp.Or(context.Cause(ctx), context.Cause(c.Context())))
}

// passes reports whether a campaign that failed so may succeed if it is repeated.
func passes(err error) bool {
	return errors.Is(err, ErrLost) || errors.Is(err, coord.ErrSuspended) ||
		errors.Is(err, coord.ErrTimeout) || errors.Is(err, coord.ErrUnknownOutcome)
}

// serve calls f for one term. It reports whether f has returned of its own accord,
// and not because the term was lost.
func serve(ctx context.Context, h *Held, f func(ctx context.Context, h *Held) error) (over bool, err error) {
	defer func() { _ = h.Release(ctx) }() // goes on in the background
	bound, unbind := h.bind(ctx)
	defer unbind()
	err = f(bound, h)
	return h.Check() == nil || ctx.Err() != nil, err
}
