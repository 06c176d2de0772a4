package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/bubble"
	"coord/recipes"
	"coord/recipes/discovery"
)

func inBubble(t *testing.T, test func(t *testing.T, e *coordtest.Ensemble)) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) {
		test(t, coordtest.NewEnsemble(t, 3, coordtest.WithElectionTimeout(2*time.Second),
			coordtest.WithConfig(func(c *coord.Config) { c.ReapInterval = time.Second })))
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 12000 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waiting for %s", what)
}

func register(t *testing.T, c *coord.Coordinator, id string, opts ...recipes.RegisterOption) *discovery.Registration {
	t.Helper()
	r, err := discovery.Register(t.Context(), c, "/services", "billing", discovery.Instance{ID: id, Address: "10.0.0.1", Port: 80}, opts...)
	must(t, err)
	return r
}

func open(t *testing.T, c coord.Client) *discovery.Service {
	t.Helper()
	s, err := discovery.Open(c, "/services", "billing")
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// ids returns the instances, with ! behind those that are not healthy.
func ids(u discovery.Update) string {
	var all []string
	for _, in := range u.Instances {
		if in.Health != discovery.Healthy {
			in.ID += "!"
		}
		all = append(all, in.ID)
	}
	return strings.Join(all, " ")
}

func resolve(t *testing.T, s *discovery.Service) string {
	t.Helper()
	must(t, s.Synced(t.Context(), coord.Linearizable()))
	u, err := s.Resolve(t.Context())
	must(t, err)
	return ids(u)
}

// watch reads updates in the background.
func watch(ctx context.Context, s *discovery.Service) (<-chan string, <-chan error) {
	updates, ended := make(chan string, 1000), make(chan error, 1)
	go func() {
		for u, err := range s.Watch(ctx) {
			if err != nil {
				ended <- err
				return
			}
			updates <- ids(u)
		}
	}()
	return updates, ended
}

// until reads updates up to one. Those in between may be missing, see [discovery.Service.Watch].
func until(updates <-chan string, want string) {
	for got := range updates {
		if got == want {
			return
		}
	}
}

// CURATOR-705: the first pick knows what there is. CURATOR-163: a service without
// instances vanishes.
func TestDiscovery_CURATOR705_CURATOR163_Netflix227(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		a := register(t, c, "a")
		must(t, e.Member(2).Sync(ctx, "/"))
		in, err := open(t, e.Member(2)).Pick(ctx, discovery.RoundRobin())
		if err != nil || in.ID != "a" || in.HostPort() != "10.0.0.1:80" || in.Generation == 0 {
			t.Errorf("Pick = %+v, %v", in, err)
		}
		s := open(t, e.Member(3))
		b := register(t, e.Member(2), "b")
		if got := resolve(t, s); got != "a b" {
			t.Errorf("instances: %s", got)
		}
		if names, err := discovery.Services(ctx, c, "/services", coord.Linearizable()); err != nil || fmt.Sprint(names) != "[billing]" {
			t.Errorf("Services = %v, %v", names, err)
		}
		must(t, a.Unregister(ctx))
		must(t, b.Unregister(ctx))
		if got := resolve(t, s); got != "" {
			t.Errorf("instances: %s", got)
		}
		if _, err := s.Pick(ctx, discovery.Random()); !errors.Is(err, discovery.ErrNoInstance) {
			t.Errorf("Pick = %v", err)
		}
		if names, err := discovery.Services(ctx, c, "/services", coord.Linearizable()); err != nil || len(names) != 0 {
			t.Errorf("Services = %v, %v", names, err)
		}
		eventually(t, "the directories to vanish", func() bool {
			_, there, err := c.Exists(ctx, "/services")
			return err == nil && !there
		})
		if names, err := discovery.Services(ctx, c, "/services"); err != nil || len(names) != 0 {
			t.Errorf("Services = %v, %v", names, err)
		}
		s.Close()
		if _, err := s.Resolve(ctx); !errors.Is(err, coord.ErrClosed) || !errors.Is(s.Err(), coord.ErrClosed) {
			t.Errorf("Resolve = %v", err)
		}
		if _, err := s.Pick(ctx, discovery.Random()); !errors.Is(err, coord.ErrClosed) {
			t.Errorf("Pick = %v", err)
		}
	})
}

// Netflix#212: health and all else changes without the instance leaving: nobody sees a
// moment without it, and its generation stays.
func TestHealth_Netflix212(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		s := open(t, e.Member(2))
		updates, _ := watch(ctx, s)
		if got := <-updates; got != "" {
			t.Errorf("update: %s", got)
		}
		a := register(t, c, "a")
		if got := <-updates; got != "a" {
			t.Errorf("update: %s", got)
		}
		was, err := s.Resolve(ctx)
		must(t, err)
		for range 20 {
			must(t, a.SetHealth(ctx, discovery.Unhealthy))
			if got := <-updates; got != "a!" {
				t.Errorf("update: %s", got)
			}
			if _, err := s.Pick(ctx, discovery.RoundRobin()); !errors.Is(err, discovery.ErrNoInstance) {
				t.Errorf("Pick = %v", err)
			}
			must(t, a.SetHealth(ctx, discovery.Healthy))
			if got := <-updates; got != "a" {
				t.Errorf("update: %s", got)
			}
		}
		must(t, a.Update(ctx, func(in *discovery.Instance) {
			in.ID, in.Weight, in.Metadata = "ignored", 7, map[string]string{"zone": "x"}
		}))
		must(t, a.SetHealth(ctx, "draining"))
		must(t, s.Synced(ctx, coord.Linearizable()))
		now, err := s.Resolve(ctx)
		must(t, err)
		in := now.Instances[0]
		if in.ID != "a" || in.Weight != 7 || in.Metadata["zone"] != "x" || in.Health != "draining" || in.Generation != was.Instances[0].Generation || len(now.Healthy()) != 0 {
			t.Errorf("now %+v", in)
		}
		if err := a.Update(ctx, func(in *discovery.Instance) { in.Port = 1 << 20 }); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Update = %v", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = a.Update(ctx, func(*discovery.Instance) { panic("mine") })
		}()
		must(t, a.SetHealth(ctx, discovery.Healthy))
		must(t, s.Synced(ctx, coord.Linearizable()))
		if in, err := s.Pick(ctx, discovery.Random()); err != nil || in.Port != 80 || in.Weight != 7 {
			t.Errorf("Pick = %+v, %v", in, err)
		}
	})
}

// CURATOR-181, -146, -164, -320, -190: over sessions, an instance comes back as it was
// wanted last, once; what was unregistered does not.
func TestDiscoveryOverSessions_CURATOR181_CURATOR164_CURATOR320(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Follower(t.Context())
		var o *coord.Coordinator
		for _, m := range e.Running() {
			if m != c {
				o = m
			}
		}
		s, own := open(t, o), open(t, c)
		updates, _ := watch(ctx, s)
		stays, leaves := register(t, c, "stays"), register(t, c, "leaves")
		until(updates, "leaves stays")
		was, err := stays.Registered(ctx)
		must(t, err)
		e.Isolate(c)
		until(updates, "") // their session's end
		if in, err := own.Pick(ctx, discovery.RoundRobin()); err != nil {
			t.Errorf("Pick without a quorum = %+v, %v", in, err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		if err := stays.SetHealth(short, discovery.Unhealthy); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("SetHealth = %v", err)
		}
		cancel()
		must(t, leaves.Unregister(ctx))
		e.Heal()
		until(updates, "stays!")
		now, err := stays.Registered(ctx)
		must(t, err)
		if now.Generation <= was.Generation || now.Path != was.Path {
			t.Errorf("it was %+v, and is %+v", was, now)
		}
		must(t, stays.SetHealth(ctx, discovery.Healthy))
		time.Sleep(5 * time.Minute)
		for last := ""; ; { // no loop of coming and going
			select {
			case last = <-updates:
				continue
			default:
			}
			if last != "stays" || resolve(t, s) != "stays" || resolve(t, own) != "stays" {
				t.Errorf("in the end %q, %s, %s", last, resolve(t, s), resolve(t, own))
			}
			break
		}

		// A process that comes back replaces what it has left.
		e.Kill(c)
		c = e.Restart(c)
		begin := time.Now()
		back := register(t, c, "stays", recipes.TakeOver())
		if took := time.Since(begin); took > 9*time.Second {
			t.Errorf("it took %v", took)
		}
		must(t, back.Unregister(ctx))
	})
}

// CURATOR-574: empty and bad data is an error of that znode alone, and so is what is no
// instance at all.
func TestBadData_CURATOR574(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		s := open(t, c)
		register(t, c, "good")
		for name, data := range map[string]string{
			"empty": "", "json": "{", "null": "null", "object": "{}", "list": "[]", "port": `{"address":"a","port":99999}`, "weight": `{"address":"a","weight":-1}`,
		} {
			_, _, err := c.Create(ctx, "/services/billing/"+name, []byte(data), coord.Ephemeral)
			must(t, err)
		}
		_, _, err := c.Create(ctx, "/services/billing/nil", nil, coord.Ephemeral)
		must(t, err)
		_, _, err = c.Create(ctx, "/services/billing/persistent", []byte(`{"address":"x"}`))
		must(t, err)
		_, _, err = c.Create(ctx, "/services/billing/persistent/deep", []byte(`{"address":"x"}`), coord.Ephemeral)
		must(t, err)
		must(t, s.Synced(ctx))
		_, _, err = c.Create(ctx, "/services/foreign/persistent", nil, coord.WithContainers())
		must(t, err)
		if names, err := discovery.Services(ctx, c, "/services"); err != nil || fmt.Sprint(names) != "[billing]" {
			t.Errorf("Services = %v, %v", names, err)
		}
		u, err := s.Resolve(ctx)
		must(t, err)
		if ids(u) != "good" || len(u.Broken) != 8 {
			t.Errorf("instances %s, broken %v", ids(u), u.Broken)
		}
		for _, err := range u.Broken {
			if _, ok := errors.AsType[*coord.DecodeError](err); !ok {
				t.Errorf("broken: %v", err)
			}
		}
		for range 10 {
			if in, err := s.Pick(ctx, discovery.Random()); err != nil || in.ID != "good" {
				t.Errorf("Pick = %+v, %v", in, err)
			}
		}
	})
}

func TestRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		ctx, c := t.Context(), e.Member(1)
		good := discovery.Instance{ID: "a", Address: "h", Port: 1}
		for _, in := range []discovery.Instance{
			{Address: "h"},
			{ID: "a"},
			{ID: "a/b", Address: "h"},
			{ID: "..", Address: "h"},
			{ID: "a", Address: "h", Port: -1},
			{ID: "a", Address: "h", Port: 65536},
			{ID: "a", Address: "h", Weight: -1},
			{ID: "a", Address: "h", Weight: discovery.MaxWeight + 1},
		} {
			if _, err := discovery.Register(ctx, c, "/services", "s", in); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Register of %+v = %v", in, err)
			}
		}
		for _, at := range [][2]string{{"", "s"}, {"x", "s"}, {"/x/", "s"}, {"/x", ""}, {"/x", "a/b"}, {"/x", "."}, {"/x", "a\x00"}} {
			if _, err := discovery.Register(ctx, c, at[0], at[1], good); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Register at %q = %v", at, err)
			}
			if _, err := discovery.Open(c, at[0], at[1]); !errors.Is(err, coord.ErrBadArguments) {
				t.Errorf("Open of %q = %v", at, err)
			}
		}
		if _, err := discovery.Open(nil, "/x", "s"); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Open without a client = %v", err)
		}
		s := open(t, c)
		if _, err := s.Pick(ctx, nil); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Pick without a picker = %v", err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Pick(ended, discovery.Random()); !errors.Is(err, context.Canceled) {
			t.Errorf("Pick = %v", err)
		}
		if _, err := discovery.Register(ended, c, "/services", "s", good); !errors.Is(err, context.Canceled) {
			t.Errorf("Register = %v", err)
		}
		if _, err := discovery.Services(ctx, c, "x"); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Services = %v", err)
		}
		if _, err := discovery.Services(ctx, nil, "/x"); !errors.Is(err, coord.ErrBadArguments) {
			t.Errorf("Services without a client = %v", err)
		}
		e.Stop(c)
		eventually(t, "the service to learn that its member was closed", func() bool {
			_, err := s.Resolve(ctx)
			return errors.Is(err, coord.ErrClosed)
		})
	})
}
