// Package deterministic makes a run in a bubble of testing/synctest a function of a seed,
// to the last event: which goroutine runs next, which case of a select is taken, in which
// order a map is walked through and timers of one moment fire, and what crypto/rand and
// math/rand return.
//
// Go's runtime has no switch for that. A program is deterministic if it is built with the
// tag deterministic and with the overlay that this package makes of the sources of the
// installed Go ([Patch]); coord/internal/deterministic/build does that. Other programs are
// not: [Enabled] is false, and everything here does nothing.
//
// What is still up to the machine: addresses. A map whose keys are pointers, or interfaces
// or structs with pointers in them, is walked through in an order of its own in each
// process, if it has more than eight elements. So nobody may walk through such a map where
// the order matters. (Children of contexts, and watches of coord, are in such maps; the
// patches sort them.)
// Finalizers and cleanups run when they like, and files and sockets answer when they do.
package deterministic
