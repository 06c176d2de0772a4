package coord

import "slices"

// Who pipelines reads between writes wants each read to reflect the writes that were
// begun before it and none that were begun later. Writes of one batch are applied
// together, so for such a reader the member keeps the state between two of them, which
// costs it what a clone of the state costs and nobody else anything.

// A keptView is what a pending write has for readers behind it. All of it is guarded by
// proposer.mu.
type keptView struct {
	keep    bool   // a reader wants the state right behind the write
	passed  bool   // it was applied here before anybody wanted that
	settled bool   // it is done, or about to be
	view    *state // that state
}

// A keptState is the state right behind a request of a batch.
type keptState struct {
	request int
	state   *state
}

// An underway is the batch that was proposed and is not yet known to be applied.
type underway struct {
	incarnation, number uint64
	batch               []*pending
}

func (p *proposer) setUnderway(u underway) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underway = u
}

// wanted returns behind which requests of a command, which is about to be applied, the
// state is to be kept; nil is behind none.
func (p *proposer) wanted(cmd *command) []bool {
	if cmd.kind != commandBatch || cmd.member != p.g.member {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := &p.underway
	if u.incarnation != cmd.batch.incarnation || u.number != cmd.batch.number || len(u.batch) != len(cmd.batch.requests) {
		return nil
	}
	if !slices.ContainsFunc(u.batch, func(q *pending) bool { return q.keep }) {
		for _, q := range u.batch {
			q.passed = true
		}
		return nil
	}
	keep := make([]bool, len(u.batch))
	for i, q := range u.batch {
		keep[i], q.passed = q.keep, !q.keep
	}
	return keep
}

// keepStates hands over what wanted has asked for.
func (p *proposer) keepStates(kept []keptState) {
	if len(kept) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range kept {
		if k.request < len(p.underway.batch) { // it is not if the proposer has given up meanwhile
			p.underway.batch[k.request].view = k.state
		}
	}
}

// settleViews gives those a state who wanted one when the batch was applied already: the
// published one, because nothing that was begun since can be in it. Without one remains
// who learned of the batch by a snapshot.
func (p *proposer) settleViews(batch []*pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range batch {
		q.settled = true
		if q.keep && q.passed {
			q.view = p.g.state()
		}
	}
}

// KeepView has the write keep a [View] for readers behind it: it shows the write, and no
// write of the session that is begun after KeepView. To ask again changes nothing.
func (w *Write) KeepView() {
	p := w.g.proposer
	p.mu.Lock()
	defer p.mu.Unlock()
	q := w.q
	if q.settled && !q.keep {
		q.view = w.g.state()
	}
	q.keep = true
}

// View returns what [Write.KeepView] has kept, as the session may read it now. It is nil
// before the write is Done; and, which is rare, if the outcome is not known or the member
// has caught up by a snapshot meanwhile.
func (w *Write) View() *View {
	if !w.q.isDone() {
		return nil
	}
	p := w.g.proposer
	p.mu.Lock()
	st := w.q.view
	p.mu.Unlock()
	if st == nil {
		return nil
	}
	v := w.s.c.around(st)
	v.identities, v.session = w.s.ids(), w.s.id
	return v
}
