package coord

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A call that waits for a place in the queue ends with its session, and what it
// has waited there counts.
func TestWaitingForAPlaceIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		s := l.session(time.Hour)
		moved, err := l.c.Resume(t.Context(), s.Token(), SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		fill := func() {
			if !l.g.proposer.space.TryAcquire(maxQueueBytes) {
				t.Fatal("the queue is not empty")
			}
		}
		write := func(s *Session) <-chan error {
			done := make(chan error, 1)
			go func() {
				_, _, err := s.Create(t.Context(), "/n", nil)
				done <- err
			}()
			time.Sleep(time.Second)
			return done
		}
		fill()
		begin := time.Now()
		done := write(moved)
		moved.end(ErrSessionMoved)
		if err := <-done; !errors.Is(err, ErrSessionMoved) || errors.Is(err, ErrUnknownOutcome) || time.Since(begin) > 2*time.Second {
			t.Errorf("Create = %v, %v behind its begin", err, time.Since(begin))
		}
		l.g.proposer.space.Release(maxQueueBytes)

		s = l.session(time.Hour)
		fill()
		begin = time.Now()
		done = write(s)
		time.Sleep(l.c.cfg.OperationTimeout / 2)
		l.fallBehind(true)
		l.g.proposer.space.Release(maxQueueBytes)
		if err := <-done; !errors.Is(err, ErrTimeout) || time.Since(begin) > l.c.cfg.OperationTimeout {
			t.Errorf("Create = %v, %v behind its begin", err, time.Since(begin))
		}
		l.catchUp()
	})
}

// Silences that do not fit into one touch go with the next ones, in their order.
// What a touch that had no effect has carried comes first again.
func TestSilencesAreSpreadOverTouches(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		l.fallBehind(true)
		time.Sleep(time.Second) // a touch is under way
		p := l.g.proposer
		const n = 2*maxSilencesPerTouch + 1000
		for i := range SessionID(n) {
			p.silence(1<<40+i, 7)
		}
		kept := p.touch()
		if len(kept.silences) != maxSilencesPerTouch {
			t.Fatalf("a touch carries %d silences", len(kept.silences))
		}
		p.keep(kept)
		p.silence(1<<40+n, 7)
		next := SessionID(1 << 40)
		for _, want := range []int{maxSilencesPerTouch, maxSilencesPerTouch, 1001, 0} {
			got := p.touch()
			if len(got.silences) != want {
				t.Fatalf("a touch carries %d silences, want %d", len(got.silences), want)
			}
			e := newEncoder()
			e.command(&command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{incarnation: 1, number: 1, touch: got}}, formatVersion)
			cmd, err := decodeCommand(e.buf.Bytes())
			if err != nil {
				t.Fatalf("no member can read the touch: %v", err)
			}
			for _, s := range cmd.batch.touch.silences {
				if s != (silence{next, 7, true}) {
					t.Fatalf("silence %+v, want that of session %v", s, next)
				}
				next++
			}
		}
		l.catchUp()
	})
}

// The silences of more touches than one all have their effect.
func TestNoSilenceIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		first, last := l.session(time.Hour), l.session(time.Hour)
		l.g.mu.Lock()
		delete(l.g.sessions, first.id) // nobody ends them for what is said of them here
		delete(l.g.sessions, last.id)
		l.g.mu.Unlock()
		p := l.g.proposer
		p.mu.Lock()
		p.silences = append(p.silences, silence{first.id, firstGeneration, true})
		for i := range SessionID(2 * maxSilencesPerTouch) {
			p.silences = append(p.silences, silence{1<<40 + i, firstGeneration, true})
		}
		p.silences = append(p.silences, silence{last.id, firstGeneration, true})
		p.mu.Unlock()
		silent := func(s *Session) func(*state) bool {
			return func(st *state) bool {
				ses, ok := st.sessions.get(s.id)
				return ok && ses.silent
			}
		}
		every := l.g.timing.touchEvery
		l.within(2*every, "the first silence", silent(first))
		if silent(last)(l.g.state()) {
			t.Error("all went with one touch")
		}
		l.within(3*every, "the last silence", silent(last))
	})
}

// breakInvariant has whatever closes or expires the session of s panic in apply.
func (l *loneGroup) breakInvariant(s *Session) {
	l.t.Helper()
	if _, _, err := s.Create(l.t.Context(), "/broken", nil, Ephemeral); err != nil {
		l.t.Fatal(err)
	}
	k, _ := keyOf("/broken")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m.s.tree.nodes.remove(treeItem{key: k}) // S2 is broken now
}

// A batch whose execution panicked has had no effect, and its touch none: it
// extends no deadline, and what it carried is sent again. Its callers are told that
// nothing was done.
func TestFailedBatchIsNoTouch(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		s, quiet := l.session(time.Hour), l.session(time.Hour)
		l.breakInvariant(s)

		// The next batch waits until all have their requests in the one behind it, and
		// that one carries a touch.
		var failed *command
		gate := make(chan struct{})
		l.mu.Lock()
		l.before = func(cmd *command) {
			if len(cmd.batch.requests) > 0 && failed == nil {
				failed = cmd
			}
			<-gate
		}
		l.mu.Unlock()
		time.Sleep(l.g.timing.touchEvery * 3 / 2) // a touch is under way
		multi, write := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := s.Multi(t.Context(), CreateOp("/a", nil), CreateOp("/b", nil))
			multi <- err
		}()
		go func() {
			_, _, err := s.Create(t.Context(), "/c", nil)
			write <- err
		}()
		opened := make(chan error, 1)
		go func() { // takes a touch with it
			_, err := l.c.NewSession(t.Context(), SessionOptions{})
			opened <- err
		}()
		time.Sleep(time.Second)
		l.g.proposer.silence(quiet.id, firstGeneration)
		q, err := l.g.proposer.trySubmit(s.closeRequest())
		if err != nil {
			t.Fatal(err)
		}
		before, touches := l.g.lastTouch.Load(), l.g.state().members.get(1).touches
		close(gate)
		<-q.done
		after, counted := l.g.lastTouch.Load(), l.g.state().members.get(1).touches
		if failed == nil || failed.batch.touch == nil || len(failed.batch.requests) != 4 || len(failed.batch.touch.silences) != 1 {
			t.Fatalf("the batch was %+v", failed.batch)
		}
		// The touch that was under way before it counts, and nothing else does.
		if counted != touches+1 {
			t.Errorf("%d touches were counted, want that of the batch before", counted-touches)
		}
		if since := l.g.clock.Elapsed() - time.Duration(after); after <= before || since < time.Second {
			t.Errorf("the last touch is %v old: the failed one counts", since)
		}
		for what, done := range map[string]<-chan error{"multi": multi, "create": write, "openSession": opened} {
			err := <-done
			op, isOp := errors.AsType[*OpError](err)
			if _, isMulti := errors.AsType[*MultiError](err); isMulti || !isOp || op.Op != what || !errors.Is(err, ErrSystemError) || errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("%s = %T %v", what, err, err)
			}
		}
		if q.result.code != ErrSystemError {
			t.Errorf("the close came to %v", q.result.code)
		}
		if ses, ok := l.g.state().sessions.get(quiet.id); !ok || ses.silent {
			t.Error("the silence of the failed batch had an effect")
		}
		l.within(2*l.g.timing.touchEvery, "the silence to be sent again", func(s *state) bool {
			ses, ok := s.sessions.get(quiet.id)
			return ok && ses.silent
		})
		if cause := context.Cause(s.Context()); cause != nil {
			t.Errorf("the handle ended with %v", cause)
		}
	})
}

// A record that has another number of results than the batch has requests is no
// answer to it.
func TestResultsMustMatchTheBatch(t *testing.T) {
	inBubble(t, func(t *testing.T, l *loneGroup) {
		s := l.session(time.Hour)
		l.fallBehind(false)
		done := make(chan error, 1)
		go func() {
			_, _, err := s.Create(t.Context(), "/n", nil)
			done <- err
		}()
		time.Sleep(time.Second)
		l.mu.Lock()
		m := *l.remote.members.get(1)
		m.results = nil
		l.remote.members = l.remote.members.with(&m)
		l.mu.Unlock()
		l.catchUp()
		if err := <-done; !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("Create = %v", err)
		}
		synctest.Wait() // callers are answered first
		if err := l.g.failed(); err == nil {
			t.Error("the group goes on")
		}
	})
}
