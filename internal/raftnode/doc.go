// Package raftnode implements package replica over the raft library dragonboat.
// It and its subpackages are the only ones that know the library.
//
// A [Host] runs one member's replicas; [Open] makes it from a [Config].
// Subpackage peernet is the network between members, memnet one for tests, and
// raftdir answers for the data directory.
//
//	host, err := raftnode.Open(raftnode.Config{
//		Ensemble: "orders", Member: 1, Dir: dir, Directory: uuid, Addr: "a:7000",
//		Members: map[replica.MemberID]string{1: "a:7000", 2: "b:7000", 3: "c:7000"},
//	})
//	…
//	defer host.Close()
//	err = host.StartGroup(1, machine, replica.Bootstrap)
//	err = host.Propose(ctx, 1, command)
//
// A member's replica of a group has the member's id, and the group's id is the
// library's shard id. Members start a group with the voters of Config.Members, or with
// those that they are told.
//
// # Members that come and go
//
// [Host.ChangeMember] changes who is part of a group, [Host.SetMembers] says where
// members are; neither does what the other does. To add a member: all are told its
// address; the leader makes it [replica.Learning]; the member, which has asked to
// join by [Introduce] or was set up by hand, starts the group with [replica.Join];
// when it has the log, the leader makes it [replica.Voting]. To remove one: the leader
// makes it [replica.Gone], and when it was told or had time to hear of it, all are told
// the addresses without it.
//
// A removed member hears of it from its log if it leads, and otherwise if it is lucky:
// the others stop talking to it as soon as it is done. It is told when it asks, see
// Config.Unknown.
//
// # Guarantees
//
// Those of package replica. R1, R5, R6 and R8 are the library's own, and so is R7, with
// ordered changes of its configuration; R2 and R4 follow from when it answers, see
// [Host.Propose] and [Host.ReadIndex]; R3 is this package's translation of its errors:
//
//	refused at once         no group, closed, not ready, busy, too large: nothing was
//	                        appended or sent
//	answered "dropped"      the local raft had nobody to send it to: ErrNotReady
//	answered "timeout",     ErrUnknownOutcome: a proposal that was sent to the leader
//	"terminated", or not    is lost without a sign when the leader's queue is full,
//	answered while ctx,     when leadership moves, or with a packet; or it is applied
//	group or Host live      later, even long after
//
// # Logging
//
// The library has one logger factory for the whole process and does not say
// which host a message is about. What it says goes to the Config.Logger of the
// host that was opened first among those open. Its levels are lowered, except
// for what an operator can act on. A program that has set a factory itself
// keeps it. Pebble, below the library, writes on the standard logger of package
// log; that belongs to the program and is left alone.
//
// # Traps
//
// What the library does that its user would not expect, what answers it, and
// the test that shows it.
//
//	its constructor returns (nil, nil)   newNodeHost           TestOpenReportsSwallowedPanic,
//	or panics                                                  TestEveryPanicOfTheConstructorIsAnError
//	its directory lock does not keep     openedDirs            TestOpenReportsDirUsedByThisProcess
//	two hosts of one process apart
//	a locked directory has no name       openError             TestOpenReportsDirUsedByAnotherProcess
//	settings that are fixed for the      openError             TestOpenReportsForeignDir
//	life of a directory
//	the address is found taken late      checkListen           TestOpenReportsAddressInUse
//	too few file descriptors end the     checkFileLimit        TestTooFewFiles
//	process when the log needs another
//	its transport panics when it cannot  peernet               TestOutOfFiles
//	accept a connection
//	and believes sizes and senders that  peernet               TestStrangersAreHarmless
//	strangers name
//	local messages and panics come from  peernet               its TestForeignMessagesAreDropped,
//	the network                                                TestPanicsAreContained
//	a snapshot from a peer that cannot   peernet               its TestPanicAboutChunk
//	be written ends the process
//	a snapshot counts as received when   peernet               its TestRejectedChunk
//	it was sent
//	a second Close panics                Host.Close            TestCloseTwiceAndConcurrently
//	Close takes away what calls use      Host.gate             TestCloseTwiceAndConcurrently
//	Close waits for a replica's loading  Host.startReplica     TestRestoreIsCutShort
//	a lost log starts from scratch       Host.StartGroup       TestLostLogIsNotBootstrappedAgain
//	or panics                                                  TestCrashBeforeMark, TestMarkTriedAgain
//	a stopped group is still loaded      Host.StopGroup,       TestStopAndStartGroup,
//	for a while                          untilUnloaded         TestStopGroupWaitsForMachine
//	requests may stay unanswered when    Host.await            TestStopGroupEndsWaiters
//	their group stops
//	errors that mean maybe look like     Host.Propose          TestUnknownOutcome,
//	errors that mean no                                        TestRefusalsAreDefinite
//	deadlines shorter than a tick, or    Host.timeout          TestRefusalsAreDefinite,
//	none at all, are refused                                   TestShortAndMissingDeadlines
//	a snapshot error ends the process    machine.SaveSnapshot  TestFailedSaveIsHarmless
//	"rejected" means nothing to save     Host.Snapshot         TestSnapshot
//	a log that cannot be written ends    fuse                  package powertest,
//	the process                                                TestFailedSyncEndsTheMember
//	so does a file of a snapshot that    snapshotFS            TestFailedSnapshotCosts-
//	is saved here                                              OnlyTheSnapshot
//	its way to look for an error knows   snapshotFS.abort      the same
//	no errors with several causes
//	tan has its mutex when a file fails  fusedFS               TestFailedLogIsWaitedForOutside
//	each rise of the commit index is     commitLog             TestCommitLogKeepsItsInvariants
//	synced by itself, in pebble
//	a slow event handler stops raft      roles                 TestRolesAreCompacted
//	a peer at a new address panics       addressBook           TestAddressChange, TestAddressBook
//	every receiver
//	a returning member deposes the       PreVote, CheckQuorum  TestReturningMemberDoesNotDepose,
//	leader; a cut off one leads for ever                       TestBubble
//	Panicf must not return               packageLog.Panicf     TestPanicfPanics
//	the logger factory can be set once   libraryLog.attach     TestForeignLoggerFactory
//	the standard logger is taken over    standardlog.go        TestStandardLog
//	messages are dropped with a log      Host.Dropped          TestDroppedMessagesAreCounted
//	line as the only sign
//	a promoted member that is started    Host.origin           TestJoin, TestJoinThroughSnapshot,
//	as one that votes ends the process                         TestDirectoryOfOneThatJoined,
//	                                                           TestJoinedIsReadFromTheLog
//	a member may vote before it has the  Membership.Allows     TestImpossibleChanges
//	log
//	a change is refused without a reason Host.ChangeMember     TestImpossibleChanges,
//	                                                           TestTwoChangesAtOnce
//	who is part of a group is asked and  Host.lookUp           TestMembershipEnds
//	waited for in one call
//	a removed replica stops without a    Host.letGo            TestRemoveLeader,
//	word                                                       TestRemovalIsReadFromTheLog
//	or does not hear of its removal      Config.Unknown        TestRemovedDoesNotDepose, TestLeftOut
//	unequal numbers of step workers and  nodeHostConfig        TestLogShards
//	log databases panic
//	an error-injecting FS makes zombies  Config.validate       TestOpenRefusesBadConfig
//	the library's transport for tests    memnet                package memnet
//	panics, shares addresses, deadlocks
//
// # What cannot be prevented here
//
// The library panics on goroutines of its own, where nobody can recover, and
// the process ends:
//
//   - when a state cannot be restored (TestFailedRestoreEndsProcess: the reason
//     is logged first) or when Machine.Apply panics;
//   - when pebble cannot write its MANIFEST, which it does on a goroutine of its
//     own, and when the log cannot be read;
//   - when a peer's log went back in time ("invalid commitTo index"): a wiped
//     or restored directory under an old id;
//   - when members disagree about PreVote: all versions of this package have it;
//   - when machines take more than five seconds to let go of a group on Close.
//
// A machine that stays in Apply keeps StopGroup and Close waiting. Two files in
// the working directory, dragonboat-soft-settings.json and
// dragonboat-hard-settings.json, change the library's constants before main
// runs; raftdir refuses to work beside them. A failed Open leaks what the
// library does not give back when its own clean-up panics. Without
// Config.TLS, whoever reaches the port can pass for a member.
package raftnode
