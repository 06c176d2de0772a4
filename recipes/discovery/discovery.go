// Package discovery lets services be found: an [Instance] of a service registers
// itself, and a [Service] knows the instances that there are and picks one.
//
//	in := discovery.Instance{ID: "host-1", Address: "10.0.0.1", Port: 8080}
//	r, err := discovery.Register(ctx, c, "/services", "billing", in)
//	…
//	billing, err := discovery.Open(c, "/services", "billing")
//	instance, err := billing.Pick(ctx, discovery.RoundRobin())
//
// An instance is an ephemeral znode at root/service/id with a JSON object in it. It is
// kept as recipes.Register keeps it: over sessions, never again once it was
// unregistered. Its health is a signal of its own: it changes the data, and the znode
// stays, so that nobody sees the instance leave and come back. Directories are
// containers: a service without instances vanishes.
//
// Everything may be called concurrently.
package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"

	"coord"
	"coord/recipes"
)

// A Health says whether an instance wants to be picked.
type Health string

// The healths of an instance. Any other text counts as Unhealthy.
const (
	Healthy   Health = ""
	Unhealthy Health = "unhealthy"
)

// An Instance is one process, or one port of it, that does what a service is for.
type Instance struct {
	// ID names the instance within its service, and its znode. It cannot change.
	ID string `json:"-"`

	Address string `json:"address"`
	// Port is 0 if Address says all.
	Port int `json:"port,omitempty"`

	// Weight is the share of picks that a picker made by Weighted gives it. Zero means 1.
	Weight int `json:"weight,omitempty"`

	Health   Health            `json:"health,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`

	// Generation is larger for each later incarnation of an instance. Register sets it.
	Generation coord.ZXID `json:"-"`
}

// HostPort returns where to dial: Address, and Port if there is one.
func (in Instance) HostPort() string {
	if in.Port == 0 {
		return in.Address
	}
	return net.JoinHostPort(in.Address, strconv.Itoa(in.Port))
}

// MaxWeight is the largest weight of an instance.
const MaxWeight = 1_000_000

// check says what is wrong with an instance.
func (in Instance) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", coord.ErrBadArguments, fmt.Sprintf(format, args...))
	}
	switch {
	case in.Address == "":
		return bad("an instance without an address")
	case in.Port < 0 || in.Port > 65535:
		return bad("port %d, not 0 to 65535", in.Port)
	case in.Weight < 0 || in.Weight > MaxWeight:
		return bad("weight %d, not 0 to %d", in.Weight, MaxWeight)
	}
	return nil
}

// codec writes instances as JSON, and reads none that cannot be used.
type codec struct{}

// Encode implements [coord.Codec].
func (codec) Encode(in Instance) ([]byte, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return json.Marshal(in)
}

// Decode implements [coord.Codec].
func (codec) Decode(data []byte) (in Instance, err error) {
	if err := json.Unmarshal(data, &in); err != nil {
		return Instance{}, err
	}
	return in, in.check()
}

// place returns the path of a service, or of an instance of it.
func place(root, service, id string) (string, error) {
	for _, name := range []string{service, id} {
		if strings.Contains(name, "/") || !coord.ValidPath("/"+name) || name == "" {
			return "", fmt.Errorf("%w: %q is no name for a service or an instance", coord.ErrBadArguments, name)
		}
	}
	path := strings.TrimSuffix(root, "/") + "/" + service
	if !coord.ValidPath(root) || !coord.ValidPath(path+"/"+id) {
		return "", fmt.Errorf("%w: %q is no path to keep services at", coord.ErrBadArguments, root)
	}
	return path, nil
}

// A Registration is an instance of this process that others can find.
type Registration struct {
	r    *recipes.Registration[Instance]
	turn chan Instance // holds the instance as it is wanted, but while somebody changes it
}

// Register has an instance of a service found, in this and in each later session of c. It
// returns when its znode is there.
//
// Guarantee, Cost, Session loss and Pitfall are those of [recipes.Register], and so are
// the errors; [recipes.TakeOver] lets a process that comes back replace at once what it
// has left. It fails with [coord.ErrBadArguments] for an instance without an address, a
// port or a weight out of range, and a service or an ID that is no name of a znode.
func Register(ctx context.Context, c *coord.Coordinator, root, service string, in Instance, opts ...recipes.RegisterOption) (*Registration, error) {
	dir, err := place(root, service, in.ID)
	if err == nil {
		err = in.check()
	}
	if err != nil {
		return nil, fmt.Errorf("register an instance of %s: %w", service, err)
	}
	r, err := recipes.Register(ctx, c, dir+"/"+in.ID, in, codec{}, opts...)
	if err != nil {
		return nil, err
	}
	reg := &Registration{r: r, turn: make(chan Instance, 1)}
	reg.turn <- in
	return reg, nil
}

// SetHealth says whether the instance wants to be picked. It is [Registration.Update] of
// the health alone.
func (r *Registration) SetHealth(ctx context.Context, h Health) error {
	return r.Update(ctx, func(in *Instance) { in.Health = h })
}

// Update changes what the instance says of itself, in one write, as
// [recipes.Registration.Update] does: the znode stays. The ID does not change.
func (r *Registration) Update(ctx context.Context, change func(in *Instance)) error {
	var was Instance
	select {
	case was = <-r.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	wanted := was
	defer func() { r.turn <- wanted }() // also if change panics
	now := was.clone()
	change(&now)
	now.ID = was.ID
	err := r.r.Update(ctx, now)
	if err == nil || r.Context().Err() != nil || errors.Is(err, context.Cause(ctx)) {
		wanted = now // or will be
	}
	return err
}

// Registered waits until the znode is there, as [recipes.Registration.Registered] does.
func (r *Registration) Registered(ctx context.Context) (recipes.Incarnation, error) {
	return r.r.Registered(ctx)
}

// Err returns what keeps the instance from being found, see [recipes.Registration.Err].
func (r *Registration) Err() error { return r.r.Err() }

// Context ends with the Registration, see [recipes.Registration.Context].
func (r *Registration) Context() context.Context { return r.r.Context() }

// Unregister ends the Registration, for good, see [recipes.Registration.Unregister].
func (r *Registration) Unregister(ctx context.Context) error { return r.r.Unregister(ctx) }

func (in Instance) clone() Instance {
	in.Metadata = maps.Clone(in.Metadata)
	return in
}

// Services returns the names of the services that have instances, sorted, as the local
// member sees it unless an option says otherwise. It fails as [coord.Coordinator.View]
// does; without the root there are none.
func Services(ctx context.Context, c coord.Client, root string, opts ...coord.ReadOption) ([]string, error) {
	if c == nil {
		return nil, fmt.Errorf("services at %s: %w: no client", root, coord.ErrBadArguments)
	}
	v, err := c.View(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("services at %s: %w", root, err)
	}
	names, _, err := v.Children(root)
	if errors.Is(err, coord.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("services at %s: %w", root, err)
	}
	var services []string
	for _, name := range names {
		if hasInstances(v, strings.TrimSuffix(root, "/")+"/"+name) {
			services = append(services, name)
		}
	}
	return services, nil
}

// hasInstances reports whether any of what is in a directory is an instance.
func hasInstances(v *coord.View, dir string) bool {
	for name := range v.ChildrenAfter(dir, "") {
		if _, stat, err := v.Get(dir + "/" + name); err == nil && stat.EphemeralOwner != 0 {
			return true
		}
	}
	return false
}
