package script

// kinds has the names of all operations. Those of the protocol are called as
// ZooKeeper's documentation calls them.
var kinds = set(
	// Of connections and sessions.
	"connect",   // open a connection and a session on it
	"resume",    // open a connection for the session of another connection
	"drop",      // cut the connection
	"close",     // end the session
	"mark",      // remember the server's last zxid under the name in since
	"awaitGone", // look at a path until nothing is there
	"frame",     // send data as it is, in place of a frame
	"raw",       // send a request of any type with data as its body

	"create", "create2", "createContainer", "createTTL",
	"delete", "deleteContainer", "check", "setData", "setACL",
	"exists", "getData", "getACL", "getChildren", "getChildren2",
	"getEphemerals", "getAllChildrenNumber", "sync", "ping", "whoAmI",
	"multi", "multiRead", "auth", "sasl", "reconfig",
	"addWatch", "removeWatches", "checkWatches", "setWatches", "setWatches2",
)

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, name := range names {
		m[name] = true
	}
	return m
}
