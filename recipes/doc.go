// Package recipes has what is built on coord's tree.
//
//   - What one holds and others wait for: [Lock], [RLock], [LockAll], [Acquire] (a
//     semaphore), [TakeLease], and elections by [Campaign] or [RunElected].
//   - Meeting points: [Barrier], and the double barrier of [Enter].
//   - What many share: [Counter], [IDs], [Value], [Queue], [Topic].
//   - Who is there, and what is where: [Register], [Join], [Members], [Cache], and package
//     discovery for services.
//
// A lock, a semaphore or an election puts an ephemeral sequential znode into a directory
// for each contender, and who holds what follows from the order of those znodes. The
// local member holds the whole tree, so to contend costs one write, to decide and to wait
// costs nothing, and a release wakes exactly one waiter. Directories are containers and
// vanish when nobody uses them. [WithLayout] has contenders be those of another library.
//
// What is held is a [Held]. Its Context ends, by this process's own clock, before
// anybody else can be granted the same; its Fence grows with every grant; its Guard
// makes a Multi fail unless it is still held. Nothing is decided by a path alone:
// the znode that stands for a grant is known by its czxid. [Contenders] tells who holds
// and who waits, [RequestRelease] asks a holder to release, and [Break] does not ask.
//
// One-shot recipes take a [coord.Session], and what they hand out ends with it.
// Lasting ones, such as [RunElected] and [Register], take a [coord.Coordinator] and go on
// with its next session. What belongs to no session, such as a [Barrier], a [Counter] or a
// [Cache], takes any [coord.Client]; the items of a queue are taken for a session.
//
// A name, a task that is to be done once, and a partition of [RunPartitions] are claims:
// ephemeral znodes that are called as what they stand for, so that the tree refuses a
// second one.
//
// Everything may be called concurrently.
package recipes
