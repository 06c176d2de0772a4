// Package coord is ZooKeeper's job done as a Go package: a service imports it,
// opens a [Coordinator], and its own replicas are the ensemble. There is no second
// cluster to run.
//
// An ensemble keeps a tree of znodes, each with data, a [Stat] and an access
// control list ([ACL]). A [Session] is a liveness shared with the ensemble; its
// ephemeral znodes vanish with it. A [Token] resumes a session elsewhere. A
// [Watch] is a stream of changes ([Event]); a [WatchSet] has the one-shot watches
// that ZooKeeper's clients know. A [View] is the whole tree at one moment. An [Op]
// is a part of an atomic [Coordinator.Multi]. A [Typed] is a [Client] whose znodes
// hold values of a Go type, as a [Codec] writes them. A [Code] is the ensemble's
// answer, numbered as ZooKeeper's. A [Config] says how to run a member.
//
// # Usage
//
//	c, err := coord.Open(ctx, coord.Config{Dir: "/var/lib/billing/coord"})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	if err := c.Ready(ctx); err != nil {
//		return err
//	}
//	_, _, err = c.Create(ctx, "/config", []byte("v1"))
//	stat, err := c.SetData(ctx, "/config", []byte("v2"), coord.WithVersion(0))
//	path, _, err := c.Create(ctx, "/workers/w-", nil, coord.EphemeralSequential, coord.WithParents())
//	w, err := c.Watch(ctx, "/workers", coord.Children)
//	for ev, err := range w.Events() {
//		…
//	}
//
// With Dir alone the ensemble is this one process. With three or five processes,
// [Config.InitialMembers] names them all, and [Config.TLS], which [TLSFiles] makes,
// has them prove to each other who they are.
//
// # Guarantees
//
// Each has a test that bears its number. docs/GUARANTEES.md explains them.
//
//	G1   A write that was acknowledged is on the disks of a quorum: it survives
//	     the crash of any member and of all members.
//	G2   A write is applied at most once, however often it was attempted on the
//	     way. In particular a sequential create never makes two znodes.
//	G3   A write that fails without ErrUnknownOutcome had no effect. One that
//	     fails with it can be asked for its outcome while the process lives.
//	G4   Writes take effect in one order, the same on all members; that of their
//	     zxids. Writes of one caller that waits for each keep their order.
//	G5   A client sees its own writes, and never an older state than it has seen,
//	     on the member that it uses.
//	G6   A Linearizable read, and a read after Sync, reflects every write that was
//	     acknowledged anywhere before the call.
//	G7   A Multi takes effect as a whole or not at all, at one zxid; each of its
//	     operations sees the earlier ones; nobody sees a part.
//	G8   A View never changes and is the state at exactly its zxid.
//	G9   An ephemeral znode exists only while its session does. All ephemerals of
//	     a session vanish at one zxid.
//	G10  A session's handle ends, by the clock of its process, before the ensemble
//	     can give its ephemerals away, or the session to another process; but one of
//	     a client outside ([SessionOptions].External) goes where its client goes. The
//	     clock counts the time for which the machine was suspended.
//	G11  A change of leader expires no session.
//	G12  A watch is given every event behind its start, in the order of zxids, all
//	     events of one write or none, or it ends with an error. That also holds for
//	     one that starts WithInitial, and for one that goes on From a Position, on
//	     whatever member.
//	G13  A reader never sees an effect whose event is not on its way to the watches
//	     of its member, nor an event whose effect it cannot read there.
//	G14  Members that have applied the same zxid have the same state.
//	G15  A member without contact to a quorum serves no reads but AllowStale ones.
//	G16  A session that is resumed keeps its ephemerals, and from then on the
//	     ensemble refuses whatever its older handles still send.
//	G17  A session is taken from a process that may be alive only when the ensemble
//	     has heard nothing of it for the timeout, or it has let go; or if it is of a
//	     client outside, who has come with the token. Of several that claim it one
//	     has it then.
//	G18  A process that was paused for too long learns that from whatever it asks
//	     its session first, and that call proposes nothing.
//	G19  A resumed handle reads nothing older than the handle before it.
//	G20  Members of this binary and of the one before make one ensemble, and each can
//	     go back to the other until [Coordinator.ActivateVersion] was called. A binary
//	     that cannot read what is there says so, and changes nothing.
//	G21  A member that was drained ([Coordinator.Drain]) and is then closed costs the
//	     others no election, and fails no call of theirs.
//	G22  Members come and go while the ensemble runs: a change of them loses no
//	     acknowledged write and no session of a member that stays, no two quorums
//	     decide at a time, and who was removed never takes part again.
//	G23  Mounts come and go while the ensemble runs ([Coordinator.Mount]): that loses and
//	     doubles no acknowledged write and no event of a watch, and no two groups decide
//	     about a znode at a time.
//
// Where there are mounts, what is said of one order, one zxid and one moment (G4, G7, G8, G9,
// G12, G14) holds in each group; across groups a client still sees its own writes and never
// goes back in any of them (G5).
//
// Not promised: that two members see a write at the same moment (use
// [Linearizable]); that a process which was paused in the middle of a step stops
// before it has finished that step (compare fences, the czxid of the znode that
// stands for what you hold, in whatever it writes to); anything about work done
// outside coord.
//
// # Lifecycle
//
// [Open] returns without waiting for other members, [Coordinator.Ready] waits. The
// first start of a member needs the answers of all other initial members, later
// ones a quorum. A member that comes back with an empty directory is refused.
// [Coordinator.Close] closes the process's sessions, so that their ephemerals
// vanish at once, hands leadership on, and returns when every goroutine has ended.
// [Coordinator.Drain] has it lead nothing any more before that, so that its end is no
// election; [Coordinator.Roles] tells who leads.
// [Coordinator.Context] ends when the Coordinator does, also when it has to stop
// itself; [Coordinator.Health] says why.
//
// # Errors
//
// Answers of the ensemble are [Code] values, wrapped in [*OpError] or
// [*MultiError]; conditions of this process are [ErrClosed], [ErrSuspended],
// [ErrTimeout], [ErrNoSuccessor] and [ErrFailed]. Test for all of them with [errors.Is].
//
// # Limits
//
// docs/LIMITS.md has all of them, and what one gets at each. Errors name the limit.
//
//	data of a znode      Config.MaxDataBytes, 1 MiB; at most 16 MiB
//	path                 4096 bytes
//	ACL                  1024 entries of 1024 bytes each
//	Multi                10000 operations, 32 MiB
//	requests in wait     16384, or 64 MiB; callers beyond wait for a place
//	events in wait       Config.WatchBuffer, 4096, and Config.HistoryBytes, 64 MiB,
//	                     for each watch, and one write
//	watches              Config.MaxWatches, 4 million on a member
//	changes kept         Config.HistoryEvents, 65536, and Config.HistoryBytes, 64 MiB
//	session timeout      Config.MinSessionTimeout to Config.MaxSessionTimeout
//	users                100000, with names of 255 bytes and passwords of 72
//	ACL templates        10000
//	identities           64 of a session, of 1024 bytes each
//	ephemerals           Config.MaxEphemerals, 100000 of one session
//	a subtree            [Coordinator.SetQuota]; none by default
//	a session            [Limits] of rates, data, ephemerals and watches:
//	                     Config.SessionLimits of clients from outside, and
//	                     Config.IdentityLimits of all sessions of one of them on a
//	                     member; none by default
//
// # Concurrency
//
// Everything may be called concurrently, but for reading from one [Watch].
// Arguments are copied before a call returns and results belong to the caller;
// only what a [View] returns is shared and must not be modified.
//
// # Testing
//
// Package coordtest runs whole ensembles inside a test, in memory, with faults on
// demand and in virtual time; it tests implementations of [Authenticator] and [Codec],
// and wrappers of [Client]. docs/TESTING.md is the guide.
package coord
