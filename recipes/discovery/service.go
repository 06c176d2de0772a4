package discovery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"coord"
	"coord/recipes"
)

// ErrNoInstance is returned when a service has no healthy instance.
var ErrNoInstance = errors.New("discovery: no healthy instance")

// A Service knows the instances of one service. It is a [recipes.Cache], so it goes on
// over sessions and without a quorum, and ends with its client.
type Service struct {
	name  string
	cache *recipes.Cache[Instance]

	mu      sync.Mutex
	at      coord.ZXID // guarded by mu; of healthy
	healthy []Instance // guarded by mu; replaced, never changed
}

// An Update is what a [Service] knows at one moment.
type Update struct {
	// Instances are all that can be used, sorted by ID, the unhealthy ones included.
	Instances []Instance
	// Broken says which znodes are no instances, and why.
	Broken []error
}

// Healthy returns the instances that want to be picked.
func (u Update) Healthy() []Instance {
	return slices.DeleteFunc(slices.Clone(u.Instances), func(in Instance) bool { return in.Health != Healthy })
}

// Open returns the service of a name, whether or not it has instances. It must be closed.
// It fails with [coord.ErrBadArguments].
func Open(c coord.Client, root, service string) (*Service, error) {
	dir, err := place(root, service, "id")
	if err != nil {
		return nil, fmt.Errorf("open service %s: %w", service, err)
	}
	cache, err := recipes.NewCache(c, dir, codec{}, recipes.WithDepth[Instance](1),
		recipes.WithFilter[Instance](func(_ string, stat coord.Stat) bool { return stat.EphemeralOwner != 0 }))
	if err != nil {
		return nil, err
	}
	return &Service{name: service, cache: cache}, nil
}

// Name returns the name of the service.
func (s *Service) Name() string { return s.name }

// Close ends the service, and the loops over its updates.
func (s *Service) Close() { s.cache.Close() }

// Err says why the service has ended, and before it was loaded what is in the way, see
// [recipes.Cache.Err].
func (s *Service) Err() error { return s.cache.Err() }

// Synced waits until the service knows at least what a read with these options would,
// see [recipes.Cache.Synced].
func (s *Service) Synced(ctx context.Context, opts ...coord.ReadOption) error {
	return s.cache.Synced(ctx, opts...)
}

// Resolve returns the instances that there are, once the service is loaded. It fails as
// [Service.Synced] does.
func (s *Service) Resolve(ctx context.Context) (Update, error) {
	if err := s.loaded(ctx); err != nil {
		return Update{}, err
	}
	return s.now(), nil
}

// Watch yields the instances, now and whenever they have changed. Who is slow may miss
// versions in between, never the latest. The last pair has the reason why it ended, if
// that was not the loop's own: the cause of ctx, or what [Service.Err] says.
func (s *Service) Watch(ctx context.Context) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		for _, err := range s.cache.Changes(ctx) {
			if err != nil {
				yield(Update{}, err)
				return
			}
			if !yield(s.now(), nil) {
				return
			}
		}
	}
}

// Pick returns the healthy instance that a picker chooses, once the service is loaded.
// It fails with [ErrNoInstance] if there is none, and as [Service.Synced] does. It asks
// nobody; picks are as new as what this member of the ensemble knows.
func (s *Service) Pick(ctx context.Context, p Picker) (Instance, error) {
	if p == nil {
		return Instance{}, fmt.Errorf("pick of %s: %w: no picker", s.name, coord.ErrBadArguments)
	}
	if err := s.loaded(ctx); err != nil {
		return Instance{}, err
	}
	healthy := s.pickable()
	if len(healthy) == 0 {
		return Instance{}, fmt.Errorf("pick of %s: %w", s.name, ErrNoInstance)
	}
	return p.Pick(healthy).clone(), nil
}

// loaded waits for the first time only. It does not look for what is newer.
func (s *Service) loaded(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if s.cache.ZXID() == 0 {
		return s.cache.Synced(ctx, coord.AllowStale())
	}
	return s.cache.Err()
}

// pickable returns the healthy instances, which are looked for once for each state.
func (s *Service) pickable() []Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.cache.ZXID(); at != s.at {
		s.healthy, s.at = s.now().Healthy(), at // it may be newer already, which is as good
	}
	return s.healthy
}

// now returns what the cache shows.
func (s *Service) now() Update {
	var u Update
	for path, e := range s.cache.All() {
		if e.Err != nil {
			u.Broken = append(u.Broken, e.Err)
			continue
		}
		in := e.Value.clone()
		in.ID, in.Generation = path[strings.LastIndexByte(path, '/')+1:], e.Stat.Czxid
		u.Instances = append(u.Instances, in)
	}
	slices.SortFunc(u.Instances, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(u.Broken, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return u
}
