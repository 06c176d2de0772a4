package coord

import "context"

// These take single steps of mounts and unmounts, and look at what comes of them.

// SealMount takes the first step of a mount.
func SealMount(ctx context.Context, c *Coordinator, path string) error {
	return takeStep(ctx, c.root, mountStep{kind: stepSeal, path: path})
}

// CancelMount takes back a mount that is not served yet.
func CancelMount(ctx context.Context, c *Coordinator, path string) error {
	return takeStep(ctx, c.root, mountStep{kind: stepCancel, path: path, group: groupAt(c, path)})
}

// SealMounted takes the first step of an unmount.
func SealMounted(ctx context.Context, c *Coordinator, path string) error {
	g := c.mounted.get(groupAt(c, path))
	if g == nil {
		return ErrWrongGroup
	}
	return takeStep(ctx, g, mountStep{kind: stepSealGroup, path: path, group: g.id})
}

func groupAt(c *Coordinator, path string) GroupID {
	if m := c.root.state().mounts.at(path); m != nil {
		return m.group
	}
	return 0
}

func takeStep(ctx context.Context, g *group, st mountStep) error { //nolint:gocritic // it is kept
	return answer(g, ctx, request{kind: requestMountStep, step: &st})
}

// ServedHere returns the group that serves path as far as c knows, once c has it: 0 while
// it is on its way.
func ServedHere(c *Coordinator, path string) GroupID {
	server, moving := c.root.state().serverOf(path)
	if server == c.root.id && !moving {
		return server
	}
	if g := c.mounted.get(server); !moving && g != nil && g.hasJoined() {
		return server
	}
	return 0
}

// CreateIn creates a znode through the group that serves path.
func CreateIn(ctx context.Context, c *Coordinator, path string) error {
	server, _ := c.root.state().serverOf(path)
	for _, g := range c.groups() {
		if g.id == server {
			return answer(g, ctx, request{kind: requestWrite, ops: []op{{kind: opCreate, path: path, version: AnyVersion}}})
		}
	}
	return ErrWrongGroup
}

// DeleteIn deletes a znode through the group that serves path.
func DeleteIn(ctx context.Context, c *Coordinator, path string) error {
	g := c.mounted.get(ServedHere(c, path))
	if g == nil {
		return ErrWrongGroup
	}
	return answer(g, ctx, request{kind: requestWrite, ops: []op{{kind: opDelete, path: path, version: AnyVersion}}})
}

// GroupsOf returns the groups of mounts that run on c.
func GroupsOf(c *Coordinator) []GroupID {
	var ids []GroupID
	for _, g := range c.mounted.all() {
		ids = append(ids, g.id)
	}
	return ids
}

// A MountedGroup is what a member has of the group of a mount.
type MountedGroup struct {
	ZXID     ZXID
	Digest   Digest
	Znodes   int
	Users    int
	UpToDate bool // it has adopted all that the root group has decreed, as far as c knows
}

// MountedGroupOf returns what c has of a group.
func MountedGroupOf(c *Coordinator, id GroupID) MountedGroup {
	g := c.mounted.get(id)
	if g == nil {
		return MountedGroup{}
	}
	s := g.state()
	return MountedGroup{s.zxid, s.digest(), s.tree.nodes.len(), s.users.byName.len(), s.decrees == c.root.state().decreed()}
}

// LeadsGroup reports whether c leads the group of a mount.
func LeadsGroup(c *Coordinator, id GroupID) bool {
	g := c.mounted.get(id)
	return g != nil && g.leading()
}

// EnterMount has a session enter the group of a mount, and close there if it is to.
func EnterMount(ctx context.Context, c *Coordinator, id GroupID, s *Session, end bool) error {
	g := c.mounted.get(id)
	r := request{kind: requestEnter, session: s.id, generation: s.generation, timeoutMS: s.timeout.Milliseconds()}
	err := answer(g, ctx, r)
	if err == nil && end {
		r.kind = requestCloseSession
		err = answer(g, ctx, r)
	}
	return err
}

// SessionsIn returns the numbers of sessions and of tombstones in a group.
func SessionsIn(c *Coordinator, id GroupID) (sessions, tombstones int) {
	s := c.mounted.get(id).state()
	return s.sessions.byID.len(), s.sessions.tombstones.len()
}

// ExpireInMount has the group of a mount end a session, as its leader does when it has
// heard nothing of the session's process.
func ExpireInMount(ctx context.Context, c *Coordinator, path string, s *Session) error {
	g := c.mounted.get(groupAt(c, path))
	st := g.state()
	ses, ok := st.sessions.get(s.id)
	if !ok {
		return ErrSessionExpired
	}
	touched := ses.lastTouch(st.members.get(ses.owner))
	return answer(g, ctx, request{kind: requestExpire, expiries: []expiry{{s.id, ses.generation, touched}}})
}

// StoredBy returns the groups that c has something of on its disk.
func StoredBy(c *Coordinator) []GroupID {
	var ids []GroupID
	for _, id := range c.host.Stored() {
		ids = append(ids, GroupID(id))
	}
	return ids
}
