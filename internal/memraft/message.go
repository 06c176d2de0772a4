package memraft

import "coord/internal/replica"

// A messageKind says what a message asks for or answers.
type messageKind uint8

const (
	askVote         messageKind = iota + 1 // also for a pre-vote
	vote                                   // the answer to askVote
	appendEntries                          // also the heartbeat
	appended                               // the answer to appendEntries and installSnapshot
	installSnapshot                        // the whole of it
	forwardPropose                         // a follower's proposal, to the leader
	forwardRead                            // a follower's ReadIndex, to the leader
	readAnswer                             // the answer to forwardRead
	forwardTransfer                        // a follower's wish for another leader
	standNow                               // the leader's wish that the receiver stand for election
)

// A message goes from one replica of a group to another. It is not changed once it
// was sent. Requests that are passed on have no term.
type message struct {
	kind     messageKind
	group    replica.GroupID
	from, to replica.MemberID
	term     uint64

	// askVote and vote
	pre     bool // a pre-vote
	force   bool // the leader has asked for this election
	granted bool

	// askVote: the end of the log; appendEntries: what is before the entries;
	// appended: up to where logs agree, or may
	index   uint64
	logTerm uint64

	entries  []entry
	commit   uint64
	round    uint64 // of reads that appendEntries confirms; appended returns it
	rejected uint64 // the index that did not match, or 0

	snap snapshot

	// requests that are passed on
	key    proposalKey   // forwardPropose
	cmd    []byte        // forwardPropose
	change *memberChange // forwardPropose, instead of cmd
	read   uint64        // forwardRead, readAnswer: the number that the asker gave it
	hops   int           // how often it was passed on
	who    replica.MemberID
}
