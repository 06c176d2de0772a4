package coord

import (
	"context"
	"errors"
)

// serving returns the group that serves the znode at path as far as this member knows,
// once it runs here and this process may use it: the one place that routes. While the
// znode is on its way to a group it can be read where it was.
func (c *Coordinator) serving(ctx context.Context, path string) (*group, error) {
	if err := c.root.awaitJoined(ctx); err != nil {
		return nil, err // before, the table may be an old one
	}
	for {
		server, _ := c.root.state().serverOf(path)
		if server == rootGroup {
			return c.root, nil
		}
		g, err := c.running(ctx, server)
		if !errors.Is(err, errUnmounted) {
			return g, err
		}
	}
}

// running returns the group of a mount once it runs here and this process may use it.
// It fails with errUnmounted if the table does not have it, or not any more.
func (c *Coordinator) running(ctx context.Context, id GroupID) (*group, error) {
	for {
		g, changed := c.mounted.look(id)
		if g != nil {
			return g, g.awaitJoined(ctx)
		}
		if !c.root.state().mounts.has(id) {
			return nil, errUnmounted
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.ctx.Done():
			return nil, context.Cause(c.ctx)
		}
	}
}
