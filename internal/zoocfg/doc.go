// Package zoocfg reads ZooKeeper's configuration files: zoo.cfg, the dynamic
// file with the members that it may name, and myid.
//
// Every key that ZooKeeper 3.8 and 3.9 have is known here. A key is used, or it means
// nothing to coord and is passed, which [Config.Notes] tells with the reason, or it asks
// for what coord does not do and is refused with the reason. So is a key that nobody
// knows: ZooKeeper ignores it, and who misspelt a key learns that too late.
//
// The parser sees bytes and knows nothing of coord; [Load] alone reads files.
package zoocfg
