package failpoint

// A Point is one place. Its name is part of the language of tests and reports.
type Point string

// The points, in the order in which a write passes them. A lint test checks that
// each is hit somewhere, and that nothing else is.
const (
	ProposeBegin Point = "propose-begin" // a command is about to be given to the log
	ProposeEnd   Point = "propose-end"   // an attempt has ended, in whichever way

	LogAppend   Point = "log-append"   // entries, votes and terms are about to be written and synced
	LogAppended Point = "log-appended" // they are durable; votes and acknowledgements have not been sent yet

	ApplyBegin   Point = "apply-begin"   // committed entries are about to be applied
	ApplyEnd     Point = "apply-end"     // they are applied and published; the library does not know yet
	EventEnqueue Point = "event-enqueue" // changes are decided, and neither they nor their effect can be seen yet
	Published    Point = "published"     // their effect can be read
	Reply        Point = "reply"         // a batch was applied; its callers are about to be answered

	SessionClose Point = "session-close" // the sessions of this process are about to be closed

	SnapshotCreate  Point = "snapshot-create"  // the state is about to be written
	SnapshotWritten Point = "snapshot-written" // it is written, not synced
	SnapshotRename  Point = "snapshot-rename"  // its directory is synced and about to get its name
	SnapshotRenamed Point = "snapshot-renamed" // it has its name, which is not durable
	SnapshotRecord  Point = "snapshot-record"  // the log is about to learn of it
	SnapshotOnFile  Point = "snapshot-on-file" // the log knows it
	SnapshotSend    Point = "snapshot-send"    // its file was opened, to be sent or restored
	SnapshotReceive Point = "snapshot-receive" // a part of a snapshot of another member is about to be written
	SnapshotArrived Point = "snapshot-arrived" // all of it is here and about to get its name
	SnapshotApply   Point = "snapshot-apply"   // the state is about to be replaced by it
	SnapshotApplied Point = "snapshot-applied" // the state was replaced

	LogTruncate  Point = "log-truncate"  // entries behind a snapshot are about to be removed
	LogTruncated Point = "log-truncated" // they are

	StartMark   Point = "start-mark"   // the directory is about to be marked: a group has lived here
	StartMarked Point = "start-marked" // it is; the group has not taken part yet
	AppliedNote Point = "applied-note" // how far the log was applied is about to be written down
	Seal        Point = "seal"         // an orderly end is about to be written down
)

// Points are all points, in order.
var Points = []Point{
	ProposeBegin, ProposeEnd, LogAppend, LogAppended, ApplyBegin, ApplyEnd, EventEnqueue, Published, Reply,
	SessionClose, SnapshotCreate, SnapshotWritten, SnapshotRename, SnapshotRenamed, SnapshotRecord, SnapshotOnFile,
	SnapshotSend, SnapshotReceive, SnapshotArrived, SnapshotApply, SnapshotApplied, LogTruncate, LogTruncated,
	StartMark, StartMarked, AppliedNote, Seal,
}

// An Action is what happens at a point. An error that it returns is what the step
// fails with, where a step can fail; elsewhere it is ignored.
type Action func(Point) error
