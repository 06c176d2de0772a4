package coord

import "context"

// The methods of [Client] and of [Session], through the own session. Reads need no
// session.

// Create is [Session.Create] through the Coordinator's own session.
func (c *Coordinator) Create(ctx context.Context, path string, data []byte, opts ...CreateOption) (string, Stat, error) {
	s, err := c.session(ctx)
	if err != nil {
		return "", Stat{}, &OpError{Op: "create", Path: path, Err: err}
	}
	return s.Create(ctx, path, data, opts...)
}

// SetData is [Session.SetData] through the Coordinator's own session.
func (c *Coordinator) SetData(ctx context.Context, path string, data []byte, opts ...SetDataOption) (Stat, error) {
	s, err := c.session(ctx)
	if err != nil {
		return Stat{}, &OpError{Op: "setData", Path: path, Err: err}
	}
	return s.SetData(ctx, path, data, opts...)
}

// Delete is [Session.Delete] through the Coordinator's own session.
func (c *Coordinator) Delete(ctx context.Context, path string, opts ...DeleteOption) error {
	s, err := c.session(ctx)
	if err != nil {
		return &OpError{Op: "delete", Path: path, Err: err}
	}
	return s.Delete(ctx, path, opts...)
}

// SetACL is [Session.SetACL] through the Coordinator's own session.
func (c *Coordinator) SetACL(ctx context.Context, path string, list []ACL, opts ...SetACLOption) (Stat, error) {
	s, err := c.session(ctx)
	if err != nil {
		err = &OpError{Op: "setACL", Path: path, Err: err}
		c.anonymous.auditSetACL(path, list, Stat{}, err)
		return Stat{}, err
	}
	return s.SetACL(ctx, path, list, opts...)
}

// Add is [Session.Add] through the Coordinator's own session.
func (c *Coordinator) Add(ctx context.Context, path string, delta int64, opts ...SetDataOption) (int64, Stat, error) {
	s, err := c.session(ctx)
	if err != nil {
		return 0, Stat{}, &OpError{Op: "add", Path: path, Err: err}
	}
	return s.Add(ctx, path, delta, opts...)
}

// Multi is [Session.Multi] through the Coordinator's own session.
func (c *Coordinator) Multi(ctx context.Context, ops ...Op) ([]OpResult, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, &OpError{Op: "multi", Err: err}
	}
	return s.Multi(ctx, ops...)
}

// Ephemerals is [Session.Ephemerals] of the Coordinator's own session.
func (c *Coordinator) Ephemerals(ctx context.Context, prefix string, opts ...ReadOption) ([]string, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, &OpError{Op: "ephemerals", Path: prefix, Err: err}
	}
	return s.Ephemerals(ctx, prefix, opts...)
}

// Get is [Session.Get] without a session.
func (c *Coordinator) Get(ctx context.Context, path string, opts ...ReadOption) ([]byte, Stat, error) {
	return c.anonymous.Get(ctx, path, opts...)
}

// Exists is [Session.Exists] without a session.
func (c *Coordinator) Exists(ctx context.Context, path string, opts ...ReadOption) (Stat, bool, error) {
	return c.anonymous.Exists(ctx, path, opts...)
}

// Children is [Session.Children] without a session.
func (c *Coordinator) Children(ctx context.Context, path string, opts ...ListOption) ([]string, Stat, error) {
	return c.anonymous.Children(ctx, path, opts...)
}

// AllChildrenNumber is [Session.AllChildrenNumber] without a session.
func (c *Coordinator) AllChildrenNumber(ctx context.Context, path string, opts ...ReadOption) (int, error) {
	return c.anonymous.AllChildrenNumber(ctx, path, opts...)
}

// ACL is [Session.ACL] without a session.
func (c *Coordinator) ACL(ctx context.Context, path string, opts ...ReadOption) ([]ACL, Stat, error) {
	return c.anonymous.ACL(ctx, path, opts...)
}

// Sync is [Session.Sync] without a session.
func (c *Coordinator) Sync(ctx context.Context, path string) error {
	return c.anonymous.Sync(ctx, path)
}

// View is [Session.View] without a session.
func (c *Coordinator) View(ctx context.Context, opts ...ReadOption) (*View, error) {
	return c.anonymous.View(ctx, opts...)
}

// Watch is [Session.Watch] without a session.
func (c *Coordinator) Watch(ctx context.Context, path string, mode WatchMode, opts ...WatchOption) (*Watch, error) {
	return c.anonymous.Watch(ctx, path, mode, opts...)
}

// NewWatchSet is [Session.NewWatchSet] without a session.
func (c *Coordinator) NewWatchSet(ctx context.Context) (*WatchSet, error) {
	return c.anonymous.NewWatchSet(ctx)
}
