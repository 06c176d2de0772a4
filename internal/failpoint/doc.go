// Package failpoint names the places where a member makes something durable or
// known to others, so that a test can crash it, fail it or hold it there.
//
// The points belong to a member, not to the process, since several members live in
// one: each has a [Set], by way of raftnode.Memory. A nil Set does nothing.
//
//	set := &failpoint.Set{}
//	set.On(failpoint.LogAppended, failpoint.After(3, failpoint.Kill))
//
// Points are compiled in under the race detector and with the build tag failpoint.
// Otherwise a [Set] is empty and its methods are nothing that remains in the
// binary; [Enabled] says which.
//
// Points are hit by the goroutines that work there, several at a time. An action
// that waits holds that goroutine.
package failpoint
