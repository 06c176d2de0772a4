package raftdir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/sstable"
	pvfs "github.com/cockroachdb/pebble/vfs"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"
)

// A logDB is one of the log databases of a directory: pebble, on the disk.
type logDB struct {
	fs    vfs.FS
	path  string
	state logState
	files []sealedFile // MANIFEST and live write-ahead logs, with their ends
}

// scanLogDB reads the MANIFEST and the live write-ahead logs of the database
// at path. It returns nil if no database was ever made there, which is what a
// crash during the first start leaves.
func scanLogDB(fs vfs.FS, path string) (*logDB, error) {
	desc, err := pebble.Peek(path, pebbleFS(fs))
	if err != nil {
		return nil, corruptBy(path, err, "the log database does not say which MANIFEST is current")
	}
	names, err := fs.List(path)
	if err != nil {
		return nil, fmt.Errorf("list log database: %w", err)
	}
	db := &logDB{fs: fs, path: path}
	var logs []uint64
	for _, name := range names {
		ext := filepath.Ext(name)
		if !desc.Exists && (ext == ".log" || ext == ".sst") {
			return nil, corrupt(filepath.Join(path, "CURRENT"), -1, "the file is missing, but the log database has %s", name)
		}
		if n, err := strconv.ParseUint(strings.TrimSuffix(name, ext), 10, 64); err == nil && ext == ".log" {
			logs = append(logs, n)
		}
	}
	if !desc.Exists {
		return nil, nil
	}
	if err := db.scan(desc.ManifestFilename, 0, db.state.add); err != nil {
		return nil, err
	}
	slices.Sort(logs)
	logs = slices.DeleteFunc(logs, func(n uint64) bool { return n < db.state.minLog })
	return db, db.scanLogs(logs)
}

// scan reads one file of records and adds it to db.files.
func (db *logDB) scan(path string, logNum uint64, visit func(head []byte) error) error {
	f, err := db.fs.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return corrupt(path, -1, "the file is missing")
	}
	if err != nil {
		return fmt.Errorf("open log database: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open log database: %w", err)
	}
	var broken error
	s, err := scanRecords(f, st.Size(), uint32(logNum), func(head []byte) error {
		broken = visit(head)
		return broken
	})
	switch {
	case broken != nil:
		e := corruptBy(path, broken, "a record does not follow the one before")
		e.Offset = s.End
		return e
	case err != nil:
		return fmt.Errorf("read %s: %w", path, err)
	case s.damaged():
		return corrupt(path, s.End, "what is here cannot be read, but the file goes on at offset %d: the bytes between are damaged", s.Behind)
	case logNum == 0 && s.Records == 0:
		return corrupt(path, 0, "the file holds no record")
	}
	db.files = append(db.files, sealedFile{Name: filepath.Base(path), End: s.End})
	return nil
}

// scanLogs reads the write-ahead logs with the given numbers, in order, and
// checks that no operation is missing before, in or between them. Pebble
// itself does not notice when one of them is gone.
func (db *logDB) scanLogs(logs []uint64) error {
	want := db.state.lastSeq + 1
	exact := false // the first log may begin with operations that are in tables too
	for _, n := range logs {
		path := filepath.Join(db.path, fmt.Sprintf("%06d.log", n))
		var r batchRange
		if err := db.scan(path, n, r.add); err != nil {
			return err
		}
		if r.next == 0 {
			continue
		}
		if r.first > want || (exact && r.first != want) {
			return corrupt(path, 0, "the log begins with operation %d, but operation %d is in no file before it: a file was lost or replaced", r.first, want)
		}
		want, exact = r.next, true
	}
	return nil
}

// options are those for opening the database beside the library. What
// dragonboat sets differently concerns sizes and speed only.
func (db *logDB) options() *pebble.Options {
	o := &pebble.Options{ErrorIfNotExists: true, FS: pebbleFS(db.fs), Logger: silent{}}
	o.EnsureDefaults()
	for i := range o.Levels {
		o.Levels[i].Compression = pebble.NoCompression
	}
	return o
}

// silent is a pebble.Logger. Pebble logs its opening in detail, to the
// standard logger by default; what matters comes back as an error.
type silent struct{}

func (silent) Infof(string, ...any)              {}
func (silent) Fatalf(format string, args ...any) { panic(fmt.Errorf(format, args...)) }

// use opens the database, runs fn on it and closes it again. A panic of
// pebble's, which answers some damage with one, is damage found.
func (db *logDB) use(o *pebble.Options, fn func(*pebble.DB) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = corrupt(db.path, -1, "the log database cannot be opened: %v", r)
		}
	}()
	o.Cache = pebble.NewCache(8 << 20)
	defer o.Cache.Unref()
	p, err := pebble.Open(db.path, o)
	if err != nil {
		return corruptBy(db.path, err, "the log database cannot be opened")
	}
	err = fn(p)
	if cerr := p.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close log database %s: %w", db.path, cerr)
	}
	return err
}

// verifyTables checks the checksum of every block of every live table.
// Tables that the MANIFEST does not know are leftovers of a crash and may be
// cut anywhere.
func (db *logDB) verifyTables(p *pebble.DB) error {
	levels, err := p.SSTables()
	if err != nil {
		return corruptBy(db.path, err, "the tables cannot be listed")
	}
	for _, level := range levels {
		for _, t := range level {
			if err := verifyTable(db.fs, filepath.Join(db.path, fmt.Sprintf("%06d.sst", uint64(t.FileNum)))); err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyTable checks the checksum of every block of one table.
func verifyTable(fs vfs.FS, path string) (err error) {
	f, err := pebbleFS(fs).Open(path, pvfs.SequentialReadsOption)
	if err != nil {
		return corruptBy(path, err, "the table cannot be opened")
	}
	defer func() {
		if r := recover(); r != nil {
			err = corrupt(path, -1, "the table cannot be read: %v", r)
		}
	}()
	r, err := sstable.NewReader(f, sstable.ReaderOptions{}) // closes f, also on error
	if err != nil {
		return corruptBy(path, err, "the table cannot be opened")
	}
	err = r.ValidateBlockChecksums()
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return corruptBy(path, err, "a block of the table is damaged")
	}
	return nil
}

// Keys of the log databases, as the library writes them:
//
//	kind byte, twice | 0 | 0 | group uint64 | member uint64 [| index uint64]
//
// all big endian.
const (
	entryKey     = 1 // with index: one entry
	stateKey     = 2 // term, vote, commit
	maxIndexKey  = 3 // big-endian index of the last entry
	snapshotKey  = 5 // with index: the newest snapshot
	bootstrapKey = 6 // initial members
)

// dbKey builds a key; for the kinds without index it is cut.
func dbKey(kind byte, group, member, index uint64) []byte {
	k := []byte{kind, kind, 0, 0}
	k = binary.BigEndian.AppendUint64(k, group)
	k = binary.BigEndian.AppendUint64(k, member)
	if kind == entryKey || kind == snapshotKey {
		k = binary.BigEndian.AppendUint64(k, index)
	}
	return k
}

// A replicaLog is what a log database holds of one replica.
type replicaLog struct {
	group, member uint64
	db            *logDB
	bootstrapped  bool
	maxIndex      uint64
	snapshot      pb.Snapshot
	state         pb.State
}

// last is the raft index of the last entry, in the log or in the snapshot.
func (l *replicaLog) last() uint64 { return max(l.maxIndex, l.snapshot.Index) }

// readReplicas returns what the database holds of each replica.
func (db *logDB) readReplicas(p *pebble.DB) (map[[2]uint64]*replicaLog, error) {
	logs := make(map[[2]uint64]*replicaLog)
	for _, kind := range []byte{stateKey, maxIndexKey, snapshotKey, bootstrapKey} {
		it := p.NewIter(&pebble.IterOptions{LowerBound: []byte{kind, kind}, UpperBound: []byte{kind, kind + 1}})
		for it.First(); it.Valid(); it.Next() {
			if err := db.readRecord(logs, kind, it.Key(), it.Value()); err != nil {
				return nil, errors.Join(err, it.Close())
			}
		}
		if err := it.Close(); err != nil {
			return nil, corruptBy(db.path, err, "the log database cannot be read")
		}
	}
	return logs, nil
}

// readRecord enters one record into logs.
func (db *logDB) readRecord(logs map[[2]uint64]*replicaLog, kind byte, key, value []byte) error {
	if len(key) < 20 {
		return corrupt(db.path, -1, "the log database has a key %x", key)
	}
	id := [2]uint64{binary.BigEndian.Uint64(key[4:]), binary.BigEndian.Uint64(key[12:])}
	l := logs[id]
	if l == nil {
		l = &replicaLog{group: id[0], member: id[1], db: db}
		logs[id] = l
	}
	var err error
	switch kind {
	case stateKey:
		err = unmarshal(&l.state, value)
	case maxIndexKey:
		if len(value) != 8 {
			return corrupt(db.path, -1, "the last index of group %d has %d bytes", l.group, len(value))
		}
		l.maxIndex = binary.BigEndian.Uint64(value)
	case snapshotKey:
		var ss pb.Snapshot
		if err = unmarshal(&ss, bytes.Clone(value)); err == nil && ss.Index >= l.snapshot.Index {
			l.snapshot = ss
		}
	case bootstrapKey:
		l.bootstrapped = true
	}
	if err != nil {
		return corruptBy(db.path, err, "a record of group %d cannot be decoded", l.group)
	}
	return nil
}

// checkEntries checks that the log of l goes on without a gap from its
// snapshot to its last index, and that what raft had committed is in it. The
// library panics otherwise, or cuts the log at the gap without a word.
func (l *replicaLog) checkEntries(p *pebble.DB) error {
	if l.state.Commit > l.last() {
		return rolledBack(l.db.path, "the log of group %d ends at index %d, but entries up to %d were committed", l.group, l.last(), l.state.Commit)
	}
	it := p.NewIter(&pebble.IterOptions{
		LowerBound: dbKey(entryKey, l.group, l.member, l.snapshot.Index+1),
		UpperBound: dbKey(entryKey, l.group, l.member, l.maxIndex+1),
	})
	want := l.snapshot.Index + 1
	for it.First(); it.Valid() && len(it.Key()) == 28; it.Next() {
		if got := binary.BigEndian.Uint64(it.Key()[20:]); got != want {
			break
		}
		want++
	}
	if err := it.Close(); err != nil {
		return corruptBy(l.db.path, err, "the log of group %d cannot be read", l.group)
	}
	if want <= l.maxIndex {
		return corrupt(l.db.path, -1, "entry %d of group %d is missing; the log goes on to index %d", want, l.group, l.maxIndex)
	}
	return nil
}

// rewriteSnapshotPaths replaces the file paths of the snapshot records of
// logs, durably and all or none.
func (db *logDB) rewriteSnapshotPaths(logs []*replicaLog, path func(string) string) error {
	return db.use(db.options(), func(p *pebble.DB) error {
		b := p.NewBatch()
		defer func() { _ = b.Close() }() // it only frees memory
		for _, l := range logs {
			it := p.NewIter(&pebble.IterOptions{
				LowerBound: dbKey(snapshotKey, l.group, l.member, 0),
				UpperBound: dbKey(snapshotKey, l.group, l.member+1, 0),
			})
			for it.First(); it.Valid(); it.Next() {
				var ss pb.Snapshot
				err := unmarshal(&ss, bytes.Clone(it.Value()))
				if err == nil {
					ss.Filepath = path(ss.Filepath)
					for _, f := range ss.Files {
						f.Filepath = path(f.Filepath)
					}
					var data []byte
					if data, err = ss.Marshal(); err == nil {
						err = b.Set(it.Key(), data, nil)
					}
				}
				if err != nil {
					return errors.Join(fmt.Errorf("rewrite snapshot record of group %d: %w", l.group, err), it.Close())
				}
			}
			if err := it.Close(); err != nil {
				return fmt.Errorf("rewrite snapshot record of group %d: %w", l.group, err)
			}
		}
		return p.Apply(b, pebble.Sync)
	})
}
