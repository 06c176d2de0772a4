package zkserver

import (
	"errors"

	"coord"
	"coord/internal/jute"
)

// changed returns a channel that receives when there may be notifications.
func (c *conn) changed() <-chan struct{} {
	if c.watches == nil {
		return nil
	}
	return c.watches.Changed()
}

// notify tells the client what it has to learn before anything of zxid upTo. If the
// set has ended, the connection does as well, behind its last notifications: the client
// connects and registers anew.
func (c *conn) notify(upTo coord.ZXID) error {
	if c.watches == nil {
		return nil
	}
	events, err := c.watches.Take(upTo)
	return c.notifyOf(events, err)
}

func (c *conn) notifyOf(events []coord.Event, err error) error {
	for _, ev := range events {
		c.notification(ev.Type, ev.Path, int64(ev.ZXID))
	}
	if err != nil {
		return errors.Join(err, c.flush())
	}
	return nil
}

// notifyShown tells the client what it has to learn before anything that v shows.
func (c *conn) notifyShown(v *coord.View) error {
	if c.watches == nil {
		return nil
	}
	events, err := c.watches.TakeShown(v)
	return c.notifyOf(events, err)
}

// notifyIdle tells notifications while no request waits. If one does they go with its
// answer, as far as they belong before that, or else are held until no request waits any
// more: nothing will say again that they are there.
func (c *conn) notifyIdle() error {
	v, err := c.backlog.idle(c.now)
	c.held = v == nil
	if err == nil {
		err = c.vouch()
	}
	if err != nil || v == nil {
		return err
	}
	return c.notifyShown(v)
}

func (c *conn) notification(t coord.EventType, path string, zxid int64) {
	ev := jute.WatcherEvent{Type: int32(t), State: jute.StateSyncConnected, Path: path}
	c.reply(jute.XidNotification, zxid, jute.OK, &ev)
}

// watch makes registrations behind a view. Paths that are none are left out: nothing
// ever happens there. That includes the empty one, which is the root's for reads alone; but
// clients may remove what they have there. A code is the answer if the client has too many.
func (c *conn) watch(v *coord.View, rs ...coord.Registration) (jute.Code, error) {
	valid := rs[:0]
	for _, r := range rs {
		switch {
		case r.Path == "":
			if c.nowhere == nil {
				c.nowhere = map[coord.WatcherType]bool{}
			}
			c.nowhere[r.Type] = true
		case coord.ValidPath(r.Path):
			valid = append(valid, r)
		}
	}
	if len(valid) == 0 {
		return jute.OK, nil
	}
	if c.watches == nil {
		set, err := c.session.NewWatchSet(c.ctx)
		if err != nil {
			return 0, err
		}
		c.watches = set
		c.counts.watching(set)
	}
	err := c.watches.Add(v, valid...)
	if code, ok := codeOf(err); ok && code != jute.BadArguments {
		return code, nil
	}
	return 0, err
}

// answerWatch answers addWatch, checkWatches and removeWatches.
func (c *conn) answerWatch(v *coord.View, r *request, req *jute.WatchRequest) error {
	if r.op == jute.OpAddWatch {
		types := map[int32]coord.WatcherType{
			jute.ModePersistent: coord.PersistentWatcher, jute.ModePersistentRecursive: coord.PersistentRecursiveWatcher,
		}
		t, ok := types[req.Type]
		if !ok {
			return c.sendFrom(v, r.xid, jute.MarshallingError, nil)
		}
		code, err := c.watch(v, coord.Registration{Path: req.Path, Type: t})
		if err != nil {
			return err
		}
		return c.sendFrom(v, r.xid, code, &jute.IntResponse{})
	}
	t := coord.WatcherType(req.Type)
	if t < coord.ChildrenWatcher || t > coord.PersistentRecursiveWatcher {
		return c.sendFrom(v, r.xid, jute.MarshallingError, nil)
	}
	found := false
	switch {
	case req.Path == "":
		found = r.op == jute.OpRemoveWatches && c.removeNowhere(t)
	case c.watches == nil:
	case r.op == jute.OpCheckWatches:
		found = c.watches.Has(req.Path, t)
	default:
		found = c.watches.Remove(req.Path, t)
	}
	code := jute.OK
	if !found {
		code = jute.NoWatcher
	}
	return c.sendFrom(v, r.xid, code, nil)
}

// removeNowhere removes watches on the empty path, and reports whether there was one.
func (c *conn) removeNowhere(t coord.WatcherType) bool {
	found := c.nowhere[t] || t == coord.AnyWatcher && len(c.nowhere) > 0
	if delete(c.nowhere, t); t == coord.AnyWatcher {
		c.nowhere = nil
	}
	return found
}

// setWatches registers what a client had registered on its last connection. What has
// changed since is told at once, and then not registered: one notification is all that
// it would have been.
func (c *conn) setWatches(v *coord.View, xid int32, req *jute.SetWatches2Request) error {
	var missed missedEvents
	seen := coord.ZXID(req.RelativeZxid)
	for _, path := range req.Data {
		missed.read(v, path, coord.DataWatcher, coord.NodeDataChanged, seen, func(s coord.Stat) coord.ZXID { return s.Mzxid })
	}
	for _, path := range req.Exist {
		missed.exist(v, path)
	}
	for _, path := range req.Child {
		missed.read(v, path, coord.ChildrenWatcher, coord.NodeChildrenChanged, seen, func(s coord.Stat) coord.ZXID { return s.Pzxid })
	}
	for _, path := range req.Persistent {
		missed.register(path, coord.PersistentWatcher)
	}
	for _, path := range req.PersistentRecursive {
		missed.register(path, coord.PersistentRecursiveWatcher)
	}
	code, err := c.watch(v, missed.registrations...)
	if err != nil {
		return err
	}
	if err := c.notifyShown(v); err != nil {
		return err
	}
	for _, ev := range missed.events {
		c.notification(ev.Type, ev.Path, -1)
	}
	return c.sendFrom(v, xid, code, nil)
}

// missedEvents are what a client has missed while it was away, and what is left to be
// registered for it.
type missedEvents struct {
	events        []coord.Event
	registrations []coord.Registration
}

func (m *missedEvents) tell(t coord.EventType, path string) {
	m.events = append(m.events, coord.Event{Type: t, Path: path})
}

func (m *missedEvents) register(path string, t coord.WatcherType) {
	m.registrations = append(m.registrations, coord.Registration{Path: path, Type: t})
}

// exist is about a watch that was set by an exists of a znode that did not.
func (m *missedEvents) exist(v *coord.View, path string) {
	if _, _, err := v.Get(readPathOf(path)); err == nil {
		m.tell(coord.NodeCreated, path)
		return
	}
	m.register(path, coord.DataWatcher)
}

// read is about a watch of kind w that was set by a read of a znode that existed. changed
// is the event of what such a watch tells, which last happened at the zxid that last
// returns.
func (m *missedEvents) read(v *coord.View, path string, w coord.WatcherType, changed coord.EventType, seen coord.ZXID, last func(coord.Stat) coord.ZXID) {
	_, stat, err := v.Get(readPathOf(path))
	switch {
	case errors.Is(err, coord.ErrNoAuth): // what has happened there is none of its business
		m.register(path, w)
	case err != nil:
		m.tell(coord.NodeDeleted, path)
	case last(stat) > seen:
		m.tell(changed, path)
	default:
		m.register(path, w)
	}
}
