// Package raftdir answers for a member's data directory before the raft
// library opens it, so that nobody meets the library's panics, its
// constructor that returns neither a value nor an error, or a silent start
// with an empty log.
//
//	dir/
//	  LOCK           held while a [Dir] is open
//	  manifest.json  whose directory it is, what its member has promised, which
//	                 directories it knows of the others, and where they are
//	  raft/          Dir.NodeHostDir, the library's own
//
// The order of a life:
//
//	err := raftdir.CheckWorkingDirectory()
//	d, err := raftdir.Open(nil, dir, raftdir.Identity{…})
//	… if d.Member() == 0 ask for an id, then d.Become(id)
//	host, err := dragonboat.NewNodeHost(…d.NodeHostDir(), d.ID()…)
//	… if d.Removed(g) leave it at that
//	… if !d.Initialised(g) start the replica as new, then d.MarkInitialised(g)
//	… otherwise restart it, which fails if its record is gone
//	… d.Pin(…) before anything of another member is believed
//	… every few seconds d.NoteAllApplied(…)
//	host.Close()
//	d.NoteAllApplied(…)
//	d.Seal()
//	d.Close()
//
// The raft shard of a group has the number of the group, the replica that of
// the member.
//
// # What Open finds
//
//	D1  a directory of another member, ensemble, log shard count or format
//	D2  a second user, in this process or another
//	D3  a manifest that is damaged, or missing beside raft data
//	D4  raft data that are missing, or without the record of a group that
//	    this member took part in
//	D5  a log that ends before what this member had committed or applied, or
//	    has a gap
//	D6  a damaged byte in a live snapshot, table, flag file, MANIFEST or
//	    write-ahead log, in the last two if it is not in the last record
//	D7  after an orderly close with Seal, the last record too, and cut, lost
//	    or older log files
//
// It mends a changed host name, a directory that was moved, and flag files
// torn by a crash of the first start, and removes the snapshots of groups that were
// forgotten.
//
// # What it cannot find
//
// After a crash, damage to the last record of a log looks like a record that
// the crash tore, and is only found if entries below an applied mark went with
// it. A directory replaced as a whole by an older copy, manifest included, is
// consistent: only other members can know better. So is one that was emptied or
// swapped for another, but its id is a new one, and the others have pinned the
// old: see [Dir.Pin]. Bytes that nothing reads,
// such as obsolete logs or snapshots, are not checked. A test that flips bits
// holds all this against the library.
package raftdir
