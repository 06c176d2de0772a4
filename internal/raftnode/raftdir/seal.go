package raftdir

import (
	"fmt"
)

// A seal is what [Dir.Seal] found after an orderly close. A crash may tear
// the last record of a log, so its loss proves nothing; after an orderly close
// nothing may be missing at all, not a byte.
type seal struct {
	Databases map[string][]sealedFile `json:"databases"` // by folder, such as logdb-0
}

// A sealedFile is one file of records.
type sealedFile struct {
	Name string `json:"name"`
	End  int64  `json:"end"` // behind its last whole record, in bytes
}

// Seal records where the logs end, so that the next [Open] notices when even
// their last record is damaged, or a file was cut, lost or replaced by an
// older copy. It may be called once the raft library has closed the directory,
// and only then: what is written later is taken for damage. Not calling it is
// like a crash.
func (d *Dir) Seal() error {
	if !OnDisk(d.fs) {
		return nil
	}
	l, err := readLayout(d.fs, d.NodeHostDir())
	if err != nil {
		return err
	}
	s := &seal{Databases: make(map[string][]sealedFile)}
	for _, name := range l.databases {
		db, err := scanLogDB(d.fs, d.fs.PathJoin(l.data, name))
		if err != nil {
			return err
		}
		if db != nil {
			s.Databases[name] = db.files
		}
	}
	return d.update(func(m *manifest) bool {
		m.Seal = s
		return true
	})
}

// breakSeal drops the seal, before anything that it speaks of is changed.
func (d *Dir) breakSeal() error {
	return d.update(func(m *manifest) bool {
		sealed := m.Seal != nil
		m.Seal = nil
		return sealed
	})
}

// check compares what an orderly close left with what there is now. Files may
// have grown, by an offline tool for instance, but not shrunk.
func (s *seal) check(l layout, dbs map[string]*logDB) error {
	if s == nil {
		return nil
	}
	for name, files := range s.Databases {
		db := dbs[name]
		if db == nil {
			return rolledBack(l.data, "%s was there when the directory was closed and is gone", name)
		}
		ends := make(map[string]int64)
		for _, f := range db.files {
			ends[f.Name] = f.End
		}
		for _, f := range files {
			end, ok := ends[f.Name]
			switch path := fmt.Sprintf("%s/%s", db.path, f.Name); {
			case !ok:
				return rolledBack(path, "the file was there when the directory was closed and is gone, or does not belong to the database any more")
			case end < f.End:
				e := rolledBack(path, "the log ends here; it ended at offset %d when the directory was closed: it was cut, damaged in its last records or replaced by an older copy", f.End)
				e.Offset = end
				return e
			}
		}
	}
	return nil
}
