// Package zkserver serves ZooKeeper's clients with a [coord.Coordinator]: a client of
// ZooKeeper connects to a member of an ensemble as it does to a server of ZooKeeper, and
// what it does there and what the services that import coord do is done to the same tree.
//
//	ln, err := net.Listen("tcp", "127.0.0.1:2181")
//	if err != nil {
//		return err
//	}
//	return zkserver.Serve(ctx, ln, c, zkserver.Options{})
//
// Serve it on each member, so that clients can go from one to the other with their
// sessions. docs/ZOOKEEPER.md is the page for users, and lists what differs from
// ZooKeeper 3.9.
//
// The znodes of an ensemble belong to the code of its members unless it is told
// otherwise: with [coord.OpenACL] as DefaultACL in [coord.Config], clients find the tree
// as they know it.
//
// # A connection
//
// A connection has two goroutines. The reader takes requests from the wire in order. It begins
// writes at once ([coord.Session.Begin]), so that those of all connections go through the
// log together, and leaves the rest to the writer, behind the writes. The writer makes the
// answers, in the order of the requests: it waits for writes, and reads from a
// [coord.View]. What is ready goes out in one piece.
//
//	wire -> reader -> backlog -> writer -> wire
//	           \-> log of the ensemble -/
//
// These hold always:
//
//	C1  Requests take effect in the order in which they came. A read shows the writes
//	    before it and none behind it: if a write comes while reads wait, their views are
//	    fixed before it is begun.
//	C2  Before a reply with zxid z the client was given all notifications of writes up to
//	    z, and none of a later write than the views that waiting reads are fixed to:
//	    while requests wait, notifications go out only with replies.
//	C3  A reply with a code is an answer of the ensemble, or says that nothing was done.
//	    Where the outcome is not known the connection is closed: there is no code for it.
//	C4  Nothing is told to a client but while the ensemble will let its session live for
//	    two thirds of its timeout from then on.
//	C5  A session is left, not closed, when its connection ends, but for closeSession,
//	    and for a client that was silent for the timeout.
//	C6  No connection waits for another, but for a place in the queue of the log, which is
//	    given in order of arrival. What one can have of memory is bounded, by
//	    [Options].MaxOutstanding, MaxOutstandingBytes and MaxFrame.
package zkserver
