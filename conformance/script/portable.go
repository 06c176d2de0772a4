package script

import (
	"slices"
	"strings"
)

// Portable returns the script without what ZooKeeper 3.8.0 and 3.9 answer differently,
// or answer by chance, and what coord, which follows 3.9, therefore could not answer as
// the 3.8.0 it is compared with:
//
//   - 3.8.0 has one watch mode for a path and a connection, 3.9 combines them; so later
//     modes are left out;
//   - 3.8.0 knows no watch types 4 and 5, and lets type 2 remove persistent watches; so
//     these are removed by type 3 alone;
//   - a createTTL whose mode has no TTL, and whose TTL is negative, ends a server of
//     ZooKeeper 3.8.0, for good, since its log has the request: so it gets a TTL;
//   - 3.8.0 finds watches of other connections, too; so nobody looks for one where others
//     have watched;
//   - 3.8.0 fails to look for a watch at what does not begin with a slash, while anyone has
//     a recursive watch; so nobody looks there;
//   - 3.8.0 may fail to close a connection that has a persistent watch on null, and then
//     tries for ever; so nobody has;
//   - a wrong password closes the connection of the session's client there; so it is wrong
//     only where there is none;
//   - null among the paths of setWatches fails in the middle of the request there: so there
//     is none;
//   - createContainer with the mode of something else makes a container there, and is
//     refused here: so it gets its own mode;
//   - a mode that cannot be fails an operation of a multi there, and the multi here: so
//     there is none;
//   - a create with several faults is told of another one there: so one without a path has
//     no other fault;
//   - a hard quota without counters, or with counters that were there before it, is not
//     enforced rightly there: so there are counters, made after the first limits;
//   - a multi under a hard quota is compared with the usage before it there, and step by
//     step here: so a script has either;
//   - what is sent together with a setACL is checked against the ACL before it there: so
//     nothing is;
//   - auth packets are answered out of order; so nothing is sent together with them.
//
// What is left out is said by scripts of their own; see the package differ.
func Portable(s Script) Script {
	modes := map[watchKey]mode{}
	quota := slices.ContainsFunc(s, func(s Step) bool { return strings.Contains(s.Op.Data, "HardLimit") })
	limited := false // whether there is a znode with the limits of a quota
	counted := false // whether there is a znode with the counters of a quota
	holders := newHolders()
	var out Script
	for i, step := range s {
		switch step.Op.Kind {
		case "connect":
			if step.Op.Seen == "future" { // it is refused, and the connection's last session stays
				holders.leave(step.Conn)
			} else {
				holders.connect(step.Conn, i)
			}
		case "resume":
			if holders.mayBeHeld(step.Op.From) {
				step.Op.Password = ""
			}
			holders.resume(step.Conn, step.Op.From)
		case "drop", "close":
			holders.leave(step.Conn)
		}
		step.Op = portableWatches(modes, step.Conn, portableMode(step.Op))
		limited = limited || strings.HasSuffix(step.Op.Path, "/zookeeper_limits")
		counted = counted || limited && strings.HasSuffix(step.Op.Path, "/zookeeper_stats")
		if !counted && strings.Contains(step.Op.Data, "HardLimit") {
			step.Op.Data = "count=3,bytes=-1"
		}
		if quota && step.Op.Kind == "multi" {
			step.Op = Op{Kind: "ping"}
		}
		if step.Op.Kind == "connect" || step.Op.Kind == "resume" {
			for key, m := range modes {
				if key.conn == step.Conn && m != unwatched {
					modes[key] = unwatched
				}
			}
		}
		out = append(out, step)
	}
	for i := range out {
		together := i+1 < len(out) && out[i].Conn == out[i+1].Conn && Answered[out[i].Op.Kind] && Answered[out[i+1].Op.Kind]
		out[i].More = out[i].More && together && out[i].Op.Kind != "setACL"
	}
	return out
}

// Answered has the operations that get one answer each, in the order of sending.
var Answered = set(
	"create", "create2", "createContainer", "createTTL", "delete", "setData", "setACL",
	"exists", "getData", "getACL", "getChildren", "getChildren2",
	"getEphemerals", "getAllChildrenNumber", "sync", "ping", "whoAmI", "multi", "multiRead",
	"addWatch", "removeWatches", "checkWatches", "setWatches", "setWatches2",
)

func portableMode(o Op) Op {
	if o.Kind == "createContainer" && (o.Flags == 1 || o.Flags == 2 || o.Flags == 3) {
		o.Flags = 4
	}
	if o.Kind == "createTTL" && o.TTL < 0 && o.Flags != 5 && o.Flags != 6 {
		o.TTL = 1
	}
	if o.Kind == "getAllChildrenNumber" && o.Path == "" {
		o.Path = "/" // the root's other name counts the root as well
	}
	if strings.HasPrefix(o.Kind, "create") && o.Path == Null {
		return Op{Kind: "create", Path: Null}
	}
	o.Ops = slices.Clone(o.Ops)
	for i, sub := range o.Ops {
		o.Ops[i] = portableInMulti(portableMode(sub))
	}
	return o
}

func portableInMulti(o Op) Op {
	switch o.Kind {
	case "create", "create2":
		o.Flags &= 3
	case "createContainer":
		o.Flags = 4
	case "createTTL":
		o.Flags, o.TTL = 5+o.Flags&1, 1e9
	}
	return o
}

type watchKey struct{ conn, path string }

// A mode is how a path is watched.
type mode int

const (
	unwatched mode = iota
	once
	persistent
	recursive
)

// portableWatches registers what an operation watches, and leaves out what would be a
// second mode.
func portableWatches(modes map[watchKey]mode, conn string, o Op) Op {
	take := func(path string, m mode) bool {
		key := watchKey{conn, path}
		if modes[key] == unwatched {
			modes[key] = m
		}
		return modes[key] == m
	}
	filter := func(paths []string, m mode) []string {
		return slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return path == Null || !take(path, m) })
	}
	switch o.Kind {
	case "exists", "getData", "getChildren", "getChildren2":
		o.Watch = o.Watch && take(o.Path, once)
	case "addWatch":
		if o.Path == Null {
			return Op{Kind: "ping"}
		}
		m := persistent
		if o.Mode == 1 {
			m = recursive
		}
		if (o.Mode == 0 || o.Mode == 1) && !take(o.Path, m) {
			return Op{Kind: "ping"}
		}
	case "removeWatches", "checkWatches":
		if o.Kind == "checkWatches" && (othersWatched(modes, conn, o.Path) || !isAbsolute(o.Path)) {
			return Op{Kind: "ping"}
		}
		if modes[watchKey{conn, o.Path}] > once || o.Type == 4 || o.Type == 5 {
			o.Type = 3
		}
	case "setWatches", "setWatches2":
		o.DataList = filter(o.DataList, once)
		o.ExistList = filter(o.ExistList, once)
		o.ChildList = filter(o.ChildList, once)
		o.PersList = filter(o.PersList, persistent)
		o.RecursList = filter(o.RecursList, recursive)
	}
	return o
}

// isAbsolute says whether a path begins with a slash on the server, or is empty, which is
// another name of the root.
func isAbsolute(path string) bool { return path == "" || path[0] == '/' || path[0] == '~' }

// othersWatched says whether another connection has ever watched the path.
func othersWatched(modes map[watchKey]mode, conn, path string) bool {
	for key := range modes {
		if key.conn != conn && key.path == path {
			return true
		}
	}
	return false
}
