package sim_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"coord"
	"coord/recipes"
)

// A topic is one topic, with all that was found out about it. Its znode counts the
// messages: each of them makes its version.
type topic struct {
	c    *contest
	w    *world
	path string

	mu        sync.Mutex
	published map[int64]outcome // guarded by mu; by message
	versions  map[int32]int64   // guarded by mu; what subscribers were told
	readers   []*subscriber     // guarded by mu
}

// A subscriber is one subscription, which may go on as another one does.
type subscriber struct {
	t     *topic
	least int32 // guarded by topic.mu; the version that it must be told first, or a later one
	exact bool  // guarded by topic.mu; just that
	begun bool  // guarded by topic.mu; it was told something
	last  int32 // guarded by topic.mu
	open  bool  // guarded by topic.mu; it goes on
}

func newTopic(c *contest, path string) *topic {
	return &topic{c: c, w: c.w, path: path, published: map[int64]outcome{}, versions: map[int32]int64{}}
}

// start starts all who use the topic. They throw dice from id on.
func (t *topic) start(id uint64) {
	for i := range uint64(2) {
		t.w.working.Go(func() { t.publish(t.w.dice(id + i)) })
	}
	for i := range uint64(6) {
		t.c.waiting.Go(func() { t.read(t.w.dice(id + 5 + i)) })
	}
}

// publish publishes until all comes to an end.
func (t *topic) publish(dice *rand.Rand) {
	for !t.w.stopping.Load() {
		sleep(between(dice, 0, time.Second))
		p := t.w.any(dice)
		if p == nil {
			continue
		}
		for range dice.IntN(4) {
			t.publishOne(dice, p)
		}
	}
}

func (t *topic) publishOne(dice *rand.Rand, p *process) {
	t.mu.Lock()
	message := int64(len(t.published))
	t.published[message] = pending
	t.mu.Unlock()
	ctx, cancel := impatient(dice)
	defer cancel()
	err := recipes.NewTopic(p.c, t.path, coord.JSON[int64]()).Publish(ctx, message)
	if err != nil && !excusedRecipe(err) {
		t.w.violate("topics: publishing to %s: %v", t.path, err)
	}
	if open, ok := errors.AsType[*coord.OutcomeError](err); ok {
		t.w.working.Go(func() {
			late, cancel := context.WithTimeout(context.Background(), longest)
			defer cancel()
			t.sort(message, open.Outcome(late))
		})
		return
	}
	t.sort(message, err)
}

// sort enters what came of a message.
func (t *topic) sort(message int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.published[message] = acked
	case errors.Is(err, coord.ErrUnknownOutcome):
		t.published[message] = unknown
	default:
		t.published[message] = refused
	}
}

// read subscribes again and again, to the end. Some subscriptions go on where the one
// before has ended, on whatever member.
func (t *topic) read(dice *rand.Rand) {
	var from *coord.Position
	var s *subscriber
	for t.c.closing.Err() == nil {
		p := t.w.any(dice)
		if p == nil {
			sleep(time.Second)
			continue
		}
		ctx, cancel := context.WithTimeout(t.c.closing, between(dice, 0, 3*time.Minute))
		if dice.IntN(4) == 0 {
			cancel()
			ctx, cancel = context.WithCancel(t.c.closing)
		}
		var opts []recipes.SubscribeOption
		switch {
		case from != nil && dice.IntN(4) != 0:
			t.c.count("subscriptions that go on")
			opts = append(opts, recipes.Behind(*from))
		default:
			s, opts = t.subscribe(dice, p)
		}
		if s != nil {
			from = t.follow(ctx, dice, p, s, opts)
		}
		cancel()
		sleep(between(dice, 0, time.Second))
	}
}

// subscribe makes up a subscription, and what it must be told first.
func (t *topic) subscribe(dice *rand.Rand, p *process) (*subscriber, []recipes.SubscribeOption) {
	v, err := p.c.View(context.Background(), coord.AllowStale())
	if err != nil {
		return nil, nil
	}
	_, stat, err := v.Get(t.path)
	s := &subscriber{t: t, least: stat.Version + 1}
	if err != nil {
		s.least = 0
	}
	switch dice.IntN(3) {
	case 0:
		t.c.count("subscriptions from a state on")
		s.exact = true
		return t.enter(s), []recipes.SubscribeOption{recipes.Behind(v.Position())}
	case 1:
		t.c.count("subscriptions with the last message")
		s.least = max(0, s.least-1)
		return t.enter(s), []recipes.SubscribeOption{recipes.WithLast()}
	}
	t.c.count("subscriptions")
	return t.enter(s), nil
}

func (t *topic) enter(s *subscriber) *subscriber {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readers = append(t.readers, s)
	return s
}

// follow is one Subscribe. It returns from where another one may go on.
func (t *topic) follow(ctx context.Context, dice *rand.Rand, p *process, s *subscriber, opts []recipes.SubscribeOption) *coord.Position {
	s.set(true)
	defer s.set(false)
	var from *coord.Position
	for m, err := range recipes.NewTopic(p.c, t.path, coord.JSON[int64]()).Subscribe(ctx, opts...) {
		_, gap := errors.AsType[*coord.CompactedError](err)
		switch {
		case gap:
			t.c.count("gaps that were told")
			return nil
		case err != nil && !excusedRecipe(err, coord.ErrInvalidPosition):
			t.w.violate("topics: a subscription to %s on member %v: %v", t.path, p.member, err)
			return nil
		case err != nil:
			return from
		case m.Err != nil:
			t.w.violate("topics: a message of %s: %v", t.path, m.Err)
		}
		t.c.count("messages")
		s.told(m.Stat.Version, m.Value)
		if m.Position != (coord.Position{}) {
			from = &m.Position
		}
		if dice.IntN(50) == 0 { // it falls behind
			t.w.nap(between(dice, 0, 20*time.Second))
		}
		if dice.IntN(200) == 0 {
			return from
		}
	}
	return from
}

func (s *subscriber) set(open bool) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.open = open
}

// told enters a message that a subscriber was told.
func (s *subscriber) told(version int32, message int64) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	switch {
	case !s.begun && (version < s.least || s.exact && version > s.least):
		s.t.w.violate("topics: a subscriber to %s is told version %d first, want %d", s.t.path, version, s.least)
	case s.begun && version != s.last+1:
		s.t.w.violate("topics: a subscriber to %s is told version %d behind %d", s.t.path, version, s.last)
	}
	s.begun, s.last = true, version
	if was, ok := s.t.versions[version]; ok && was != message {
		s.t.w.violate("topics: version %d of %s is message %d and message %d", version, s.t.path, was, message)
	}
	s.t.versions[version] = message
}

// checkLast publishes the last message when all is healed, of which all are told that
// are subscribed.
func (t *topic) checkLast() {
	sleep(time.Minute)
	t.publishOne(t.w.dice(forEnd), t.w.process(1))
	sleep(time.Minute)
	v, err := t.w.process(1).c.View(context.Background(), coord.Linearizable())
	if err != nil {
		t.w.violate("liveness: %v", err)
		return
	}
	_, stat, _ := v.Get(t.path)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.readers {
		if s.open && s.begun && s.last != stat.Version {
			t.w.violate("topics: a subscriber to %s was told version %d last, which is %d", t.path, s.last, stat.Version)
		}
	}
}

// finish checks that all messages are in the order that was told, once, and none that
// was refused.
func (t *topic) finish(v *coord.View) {
	_, stat, err := v.Get(t.path)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.w.violate("topics: %v", err)
		return
	}
	seen := map[int64]bool{}
	for version, message := range t.versions {
		if seen[message] || version > stat.Version {
			t.w.violate("topics: message %d of %s comes again, or never was, as version %d", message, t.path, version)
		}
		seen[message] = true
		if t.published[message] == refused {
			t.w.violate("topics: message %d of %s was refused, and told", message, t.path)
		}
	}
	sure, maybe, unseen := 0, 0, int(stat.Version)+1-len(t.versions)
	for message, o := range t.published {
		if !seen[message] && o == acked {
			sure++
		}
		if !seen[message] && o == unknown {
			maybe++
		}
	}
	if unseen < sure || unseen > sure+maybe {
		t.w.violate("topics: nobody was told %d versions of %s, want %d and at most %d more", unseen, t.path, sure, maybe)
	}
}
