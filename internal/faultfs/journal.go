package faultfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/vmihailenco/msgpack/v5"
)

// The journal is a file of records, each behind its length as a little-endian
// uint32. The first is a saved ledger, the others are changes since then. A
// process that is killed while it writes leaves a part of a record, whose change
// it has not begun.
const (
	journalName  = "log"
	compactBytes = 16 << 20 // the file is written anew when it has grown so much
	maxRecord    = 1 << 30
)

// A saved is a ledger as it is written down.
type saved struct {
	_msgpack struct{} `msgpack:",as_array"` //nolint:unused // msgpack looks for it

	Seq     uint64
	NextID  uint64
	Names   map[string]uint64
	Pending []*change
	Graves  map[uint64]bool
}

// A journal is the file that a process appends to.
type journal struct {
	dir  string
	f    *os.File
	size int64 // since it was written anew
}

// openJournal fills l from the journal in dir, and starts a new file from there.
func openJournal(dir string, l *ledger) (*journal, error) {
	if err := readJournal(dir, l); err != nil {
		return nil, err
	}
	j := &journal{dir: dir}
	return j, j.rewrite(l)
}

// append writes one change down, which l does not know yet.
func (j *journal) append(c *change, l *ledger) error {
	if j.size > compactBytes {
		if err := j.rewrite(l); err != nil {
			return err
		}
	}
	b, err := frame(c)
	if err != nil {
		return err
	}
	n, err := j.f.Write(b)
	j.size += int64(n)
	return err
}

// rewrite begins a new file with l.
func (j *journal) rewrite(l *ledger) error {
	b, err := frame(&saved{Seq: l.seq, NextID: l.nextID, Names: l.names, Pending: l.pending, Graves: l.graves})
	if err != nil {
		return err
	}
	path := filepath.Join(j.dir, journalName)
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return errors.Join(err, f.Close())
	}
	err = j.close()
	j.f, j.size = f, 0
	return err
}

func (j *journal) close() error {
	if j.f == nil {
		return nil
	}
	return j.f.Close()
}

func frame(v any) ([]byte, error) {
	body, err := msgpack.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...), nil
}

// readJournal fills l from the journal in dir, if there is one.
func readJournal(dir string, l *ledger) error {
	f, err := os.Open(filepath.Join(dir, journalName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	var s saved
	if ok, err := readFrame(f, &s); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%s does not begin with a whole record", f.Name()))
	}
	l.seq, l.nextID, l.pending = s.Seq, s.NextID, s.Pending
	if s.Names != nil {
		l.names = s.Names
	}
	if s.Graves != nil {
		l.graves = s.Graves
	}
	for {
		c := new(change)
		if ok, err := readFrame(f, c); err != nil || !ok {
			return err
		}
		l.add(c)
	}
}

// readFrame returns false at the end, and where a record is not whole.
func readFrame(r io.Reader, v any) (bool, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return false, notEOF(err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxRecord {
		return false, fmt.Errorf("a record of %d bytes, more than %d", n, maxRecord)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return false, notEOF(err)
	}
	return true, msgpack.Unmarshal(body, v)
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
