package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// A MountState is an entry of the ensemble's table of mounts.
type MountState struct {
	Path  string  // the mount point
	Group GroupID // that serves the subtree; ids are never used again

	// Served says that the group has the subtree. Before, the znode is on its way: it can
	// be read and not written.
	Served bool
}

// Mounts returns the mounts of the ensemble in the order of their paths, as far as this
// member knows. It asks nobody and never waits.
func (c *Coordinator) Mounts() []MountState {
	var all []MountState
	for m := range c.root.state().mounts.all() {
		all = append(all, MountState{Path: m.path, Group: m.group, Served: m.phase == mountServed})
	}
	return all
}

// Mount gives the subtree at path a raft group of its own: a leader, a log, an order of
// zxids and a fate of its own. What holds for callers beside that:
//
//   - A multi cannot concern several mounts, or a mount and what is outside
//     ([ErrCrossMount]).
//   - Order is kept within a mount. Who reads from two may see a later write to one and not
//     yet an earlier one to the other; zxids of different mounts tell nothing about it.
//   - A session that has written below path ends when it ends in any group. One that has an
//     ephemeral below path, or has begun to create one, ends also when that group has been
//     without a quorum for as long as its timeout; others go on.
//   - Limits of ephemerals count for each group, and a quota above path does not count what
//     is below.
//   - On one disk, more groups share its throughput and do not add to it: at equal load four
//     groups do half of what one does, see docs/BENCHMARKS.md.
//   - Requests of 16 KiB and more give way to smaller ones of other groups: for as long as
//     these come, at least one a second, each member rests behind such a batch for 7 times
//     as long as that took, at most for an eighth of the ElectionTimeout. What comes behind
//     them in the same group waits with them.
//
// The znode must exist, be persistent and have no children: it moves whole, with data, ACL
// and stat, and what comes below it is the group's. Meanwhile, usually for less than a
// second, writes to it wait. When Mount returns nil, the group serves the subtree. If it
// ends before, because of ctx or [Config.OperationTimeout], the error says so and the
// mount goes on, until [Coordinator.Unmount] takes it back; [Coordinator.Mounts] tells.
//
// Errors: [ErrBadArguments] if the path cannot be a mount point (the root, what is in
// /zookeeper, and what is not persistent), [ErrMounted] if it is in, at or above a mount,
// [ErrNoNode], [ErrNoChildrenForEphemerals] for an ephemeral, [ErrNotEmpty],
// [ErrReconfigInProgress] while a change of voters is not settled, [ErrTooLarge] if there
// are 1024 mounts, [ErrNoSpace], [ErrUnimplemented] while a format version before 2 is in
// force, and those of every write, see [Client].
func (c *Coordinator) Mount(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	err := c.takeStep(ctx, c.root, &mountStep{kind: stepSeal, path: path})
	detail := c.mountDetail(path, err)
	c.auditResult(actMount, err, append(auditDetail(detail), slog.String("path", cutText(path)))...)
	if err == nil {
		err = c.awaitServed(ctx, path)
	}
	if err != nil {
		return &OpError{Op: "mount", Path: path, Err: err, Detail: detail}
	}
	return nil
}

// mountDetail says what there is to say about a refusal beyond its code.
func (c *Coordinator) mountDetail(path string, err error) string {
	s := c.root.state()
	switch {
	case errors.Is(err, ErrBadArguments):
		if fault := pathFault(path); fault != "" || mountable(path) {
			return fault
		}
		return "neither the root, nor what is in " + pathSystem + ", nor what is named like a quota can be a mount point"
	case errors.Is(err, ErrMounted):
		if m := s.mounts.overlapping(path); m != nil {
			return m.path + " is a mount"
		}
	case errors.Is(err, ErrTooLarge):
		return fmt.Sprintf("there are %d mounts, the limit is %d", s.mounts.byPath.len(), maxMounts)
	}
	return ""
}

// takeStep proposes a step of a mount or unmount in g and waits for its answer.
func (c *Coordinator) takeStep(ctx context.Context, g *group, st *mountStep) error {
	if err := g.awaitJoined(ctx); err != nil {
		return err
	}
	res, err := g.submit(ctx, g.ctx, request{kind: requestMountStep, step: st}, c.cfg.OperationTimeout)
	if err == nil {
		err = res.firstError().err()
	}
	return err
}

// errMountTakenBack says that somebody else has ended what is waited for.
var errMountTakenBack = errors.New("the mount was taken back meanwhile")

// awaitServed waits until the mount at path is served here.
func (c *Coordinator) awaitServed(ctx context.Context, path string) error {
	for {
		changed := c.mounted.changes()
		m := c.root.state().mounts.at(path)
		switch {
		case m == nil:
			return errMountTakenBack
		case m.phase == mountServed:
			_, err := c.running(ctx, m.group)
			return err
		}
		if err := awaitChange(ctx, c.root, changed); err != nil {
			return fmt.Errorf("the mount goes on, as group %v: %w", m.group, err)
		}
	}
}

// Unmount takes the subtree at path back into the group that serves what is above, if it
// is empty: its znode moves as in [Coordinator.Mount]. It also takes back a mount that
// does not come to its end. When Unmount returns nil, the mount is gone. If it ends before,
// because of ctx or [Config.OperationTimeout], the unmount may go on.
//
// Errors: [ErrBadArguments] if path is no mount point, [ErrNotEmpty] if there are znodes
// or quotas below, and those of every write, see [Client]. A group without a quorum cannot
// be unmounted.
func (c *Coordinator) Unmount(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	err := c.unmount(ctx, path)
	c.auditResult(actUnmount, err, slog.String("path", cutText(path)))
	if err != nil {
		return &OpError{Op: "unmount", Path: path, Err: err}
	}
	return nil
}

func (c *Coordinator) unmount(ctx context.Context, path string) error {
	if err := c.root.awaitJoined(ctx); err != nil {
		return err
	}
	if err := c.root.barrier(ctx); err != nil {
		return err
	}
	m := c.root.state().mounts.at(path)
	if m == nil {
		return fmt.Errorf("%w: it is no mount point", ErrBadArguments)
	}
	for {
		err := c.beginUnmount(ctx, m)
		if !errors.Is(err, ErrBadVersion) && !errors.Is(err, errUnmounted) {
			return err
		}
		// Another step was taken meanwhile: what is due now depends on it.
		group := m.group
		if m = c.root.state().mounts.at(path); m == nil || m.group != group {
			return nil
		}
		pause(ctx, c.root.timing.retry)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// beginUnmount takes the step that has a mount end, and waits until it has.
func (c *Coordinator) beginUnmount(ctx context.Context, m *mount) error {
	if m.phase == mountSealed {
		return c.takeStep(ctx, c.root, &mountStep{kind: stepCancel, path: m.path, group: m.group})
	}
	g, err := c.running(ctx, m.group)
	if err == nil {
		err = c.takeStep(ctx, g, &mountStep{kind: stepSealGroup, path: m.path, group: m.group})
	}
	for err == nil {
		changed := c.mounted.changes()
		if !c.root.state().mounts.has(m.group) {
			return nil
		}
		err = awaitChange(ctx, c.root, changed)
	}
	return err
}

// runMounts mounts what the configuration names, once.
func (c *Coordinator) runMounts() {
	for _, path := range c.cfg.Mounts {
		for c.ctx.Err() == nil {
			err := c.mountConfigured(path)
			if err == nil {
				break
			}
			if c.ctx.Err() == nil && !passes(err) {
				c.log.Error("mount of the configuration is refused", slog.String("path", path), slog.Any("err", err))
				break
			}
			c.log.Debug("mount of the configuration not made yet", slog.String("path", path), slog.Any("err", err))
			pause(c.ctx, c.root.timing.retry)
		}
	}
}

// passes reports whether it is worth while to try again what has failed so: nothing was
// refused, or only because of what comes to an end by itself.
func passes(err error) bool {
	code, refused := errors.AsType[Code](err)
	return !refused || slices.Contains([]Code{ErrReconfigInProgress, ErrNoSpace, ErrUnimplemented, ErrSystemError}, code)
}

// mountConfigured mounts path, if it is not mounted, and creates it, if it does not exist.
func (c *Coordinator) mountConfigured(path string) error {
	if err := c.awaitJoined(c.ctx); err != nil {
		return err
	}
	if c.root.state().mounts.at(path) != nil {
		return nil
	}
	if _, _, err := c.Create(c.ctx, path, nil, WithParents()); err != nil && !errors.Is(err, ErrNodeExists) {
		return err
	}
	err := c.Mount(c.ctx, path)
	if errors.Is(err, ErrMounted) && c.root.state().mounts.at(path) != nil {
		return nil // another member was faster
	}
	return err
}

// mountFaults checks Mounts.
func (c *Config) mountFaults() []error {
	var errs []error
	for i, path := range c.Mounts {
		if !mountable(path) {
			errs = append(errs, fmt.Errorf("field Mounts: %q cannot be a mount point", cutText(path)))
		}
		for _, other := range c.Mounts[:i] {
			if inSubtree(path, other) || inSubtree(other, path) {
				errs = append(errs, fmt.Errorf("field Mounts: %q and %q overlap", cutText(other), cutText(path)))
			}
		}
	}
	if len(c.Mounts) > maxMounts {
		errs = append(errs, fmt.Errorf("%d Mounts, the limit is %d", len(c.Mounts), maxMounts))
	}
	return errs
}

// awaitAdopted waits until every group has what was decreed until now. The error names one
// that has not; it will, once it has a quorum.
func (c *Coordinator) awaitAdopted(ctx context.Context) error {
	s := c.root.state()
	if s.mounts.none() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	for m := range s.mounts.all() {
		if err := c.awaitAdoption(ctx, m, s.decreed()); err != nil {
			return fmt.Errorf("decided, but the group of the mount %s does not know it yet: %w", m.path, err)
		}
	}
	return nil
}

func (c *Coordinator) awaitAdoption(ctx context.Context, m *mount, count uint64) error {
	for {
		changed := c.mounted.changes()
		g, err := c.running(ctx, m.group)
		if errors.Is(err, errUnmounted) {
			return nil
		}
		if err != nil || g.state().decrees >= count {
			return err
		}
		if err := awaitChange(ctx, c.root, changed); err != nil {
			return err
		}
	}
}
