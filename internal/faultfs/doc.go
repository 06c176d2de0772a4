// Package faultfs is a file system that fails on demand, and that forgets what
// was not synced, as a disk does when the power goes.
//
// An [FS] lies over another file system and passes every call on. Over one in
// memory:
//
//	fs := faultfs.New(vfs.NewMem())
//	fs.Inject(faultfs.Fault{Ops: faultfs.Sync, Path: "*.log", After: 3})   // fsync fails once
//	fs.PowerOff()                                                          // every change fails
//	…                                                                      // end whoever uses it
//	lost, err := fs.PowerOn(seed)                                          // what was not synced may be gone
//
// Over the disk, for a process that is killed without warning:
//
//	fs, err := faultfs.OnDisk(journal)     // in the process
//	lost, err := faultfs.Revert(journal, seed)   // after SIGKILL, before the next start
//
// # What a power cut loses
//
// A write is kept once its file was synced, a name once its directory was. What
// was not is lost in part, by the seed:
//
//   - Of the changes of names in one directory (files and directories made,
//     renamed, linked, removed) the first so many are kept, in their order. A
//     file whose name is lost is lost, synced or not; one whose removal is lost
//     is back. Directories are independent of each other.
//   - Of the writes to one file none are kept, or all, or the first so many and
//     a piece of the next, or each sector of each by itself. Where a later
//     sector is kept and an earlier one is not, the earlier one holds what it
//     held before, or zeros. See [FS.InOrder].
//
// Creating a file over another one empties it. That is kept once the directory
// or the new file was synced, and otherwise the old file may be back. A sync
// that an injected fault has failed keeps nothing, as after a failed fsync on a
// disk.
//
// # How
//
// A change is written down, with what undoes it, before it is made. Every file
// that is changed gets a second name in a directory of this package, so that
// removing or replacing it can be undone. Over the disk the notes are a file in
// the journal directory, which must lie on the same file system as the data and
// outside of them; they are not synced, for a process that is killed loses
// nothing that it has written.
//
// A file does not show its descriptor, because whoever has that can sync behind
// the back of this package. So over the disk, database files are synced with
// fsync rather than fdatasync, and are not preallocated.
//
// All methods may be called concurrently.
package faultfs
