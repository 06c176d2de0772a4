package coord

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"coord/internal/replica"
)

// Queued returns how many events wait in w for its reader.
func Queued(w *Watch) int {
	w.hub.flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready
}

// ProposeRaw puts bytes into the log of the root group.
func ProposeRaw(ctx context.Context, c *Coordinator, b []byte) error {
	return c.root.host.Propose(ctx, replica.GroupID(c.root.id), b)
}

// NewerCommand returns a command as a later version would write it.
func NewerCommand() []byte {
	e := newEncoder()
	e.array(2)
	e.uint(formatVersion + 1)
	e.string("who knows")
	return e.buf.Bytes()
}

// HelloOf returns the hello of another process that runs as the member of c.
func HelloOf(c *Coordinator) []byte {
	e := newEncoder()
	m := c.root.state().members.get(c.cfg.ID)
	e.command(&command{kind: commandHello, group: c.root.id, member: m.id, hello: &helloCommand{expected: m.incarnation, nonce: 1}})
	return e.buf.Bytes()
}

// FreeBytes returns what is free on the file system of dir.
func FreeBytes(tb testing.TB, dir string) uint64 {
	tb.Helper()
	d, err := openDisk(&Config{Name: "free", ID: 1, Dir: filepath.Join(dir, "d"), LogShards: 1})
	if err != nil {
		tb.Fatal(err)
	}
	free, err := d.dir.Free()
	if err != nil {
		tb.Fatal(err)
	}
	if err := d.close(); err != nil {
		tb.Fatal(err)
	}
	return free
}

// name returns the last component of the path.
func (k treeKey) name() string {
	return string(k[strings.IndexByte(string(k), keyName)+1:])
}

// A told is what scripts and the model compare of a change.
type told struct {
	Type EventType
	Path string
	ZXID ZXID
}

func (e *effects) told() []told {
	var all []told
	for _, c := range e.changes {
		all = append(all, told{c.typ, c.path, c.zxid})
	}
	return all
}

// HoldHub keeps the hub of the root group from moving until release is called.
func HoldHub(c *Coordinator) (release func()) {
	c.root.hub.mu.Lock()
	return c.root.hub.mu.Unlock
}
