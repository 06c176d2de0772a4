// Package recipes has what is built on coord's tree: locks, elections, barriers,
// counters, values, queues and topics so far.
//
// A lock or an election puts an ephemeral sequential znode into a directory for each
// contender, and who holds what follows from the order of those znodes. The local
// member holds the whole tree, so to contend costs one write, to decide and to wait
// costs nothing, and a release wakes exactly one waiter. Directories are containers and
// vanish when nobody uses them.
//
// What is held is a [Held]. Its Context ends, by this process's own clock, before
// anybody else can be granted the same; its Fence grows with every grant; its Guard
// makes a Multi fail unless it is still held. Nothing is decided by a path alone:
// the znode that stands for a grant is known by its czxid.
//
// One-shot recipes take a [coord.Session], and what they hand out ends with it.
// Lasting ones, such as [RunElected], take a [coord.Coordinator] and go on with its
// next session.
// What belongs to no session, such as a [Barrier], a [Counter], a [Value], a [Topic] or a
// [Queue], takes any [coord.Client]; the items of a queue are taken for a session.
//
// Everything may be called concurrently.
package recipes
