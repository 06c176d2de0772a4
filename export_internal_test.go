package coord

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

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

// StartIn has a new ensemble start with a version that has been followed by others.
func StartIn(cfg *Config, version FormatVersion) { cfg.firstFormat = version }

// The format versions of this binary.
const (
	OldestFormat FormatVersion = oldestFormat
	NewestFormat FormatVersion = formatVersion
)

// HelloOf returns the hello of another process that runs as the member of c.
func HelloOf(c *Coordinator) []byte {
	e := newEncoder()
	m := c.root.state().members.get(c.cfg.ID)
	e.command(&command{kind: commandHello, group: c.root.id, member: m.id, hello: &helloCommand{expected: m.incarnation, nonce: 1, addr: m.addr}}, formatVersion)
	return e.buf.Bytes()
}

// SkipClock has the clock of c run ahead, as it does when the machine was
// suspended or the process was paused.
func SkipClock(c *Coordinator, d time.Duration) { c.root.clock.Skip(d) }

// WriteThrough proposes a write of a handle without asking whether it has ended.
func WriteThrough(ctx context.Context, s *Session, path string) error {
	r := request{kind: requestWrite, session: s.id, generation: s.generation, ops: []op{{kind: opSetData, path: path, version: AnyVersion}}}
	return answer(s.g, ctx, r)
}

// ClaimOnly proposes the resume of a session and waits for nothing but the log.
func ClaimOnly(ctx context.Context, c *Coordinator, t Token) error {
	return answer(c.root, ctx, request{kind: requestResume, session: t.session, password: t.password.bytes()})
}

// ReleaseFor lets go of the session of s through c.
func ReleaseFor(ctx context.Context, c *Coordinator, s *Session) error {
	return answer(c.root, ctx, request{kind: requestRelease, session: s.id, generation: s.generation})
}

func answer(g *group, ctx context.Context, r request) error { //nolint:revive // the group is the receiver in all but name
	res, err := g.submit(ctx, g.ctx, r, time.Minute)
	if err != nil {
		return err
	}
	return res.firstError().err()
}

// ForgedToken returns t with another ensemble, password or session.
func ForgedToken(t Token, what string) Token {
	switch what {
	case "ensemble":
		t.ensemble++
	case "password":
		b := t.password.bytes()
		b[15]++
		t.password = newSecret(b)
	case "session":
		t.session += 1 << 40
	}
	return t
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

// SessionWork tells how much a member keeps for sessions, and for how many.
func SessionWork(c *Coordinator) string {
	g, p := c.root, c.root.proposer
	s := g.state().sessions
	g.mu.Lock()
	defer g.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%d sessions, %d by owner, %d ephemerals; %d handles, %d waits, %d resumes, %d silences; %d queued, %d to silence",
		s.byID.len(), s.byOwner.len(), s.ephemerals.len(),
		len(g.sessions), len(g.waits), len(g.resuming), len(g.silences), len(p.queue), len(p.silences))
}

// HoldHashing keeps c from hashing passwords until release is called.
func HoldHashing(tb testing.TB, c *Coordinator) (release func()) {
	tb.Helper()
	n := int64(max(1, runtime.GOMAXPROCS(0)/4))
	if !c.hashing.places.TryAcquire(n) || c.hashing.places.TryAcquire(1) {
		tb.Fatal("passwords are being hashed, or more than a quarter of the cores may")
	}
	return func() { c.hashing.places.Release(n) }
}

// OpNames returns the names of the kinds of operation.
func OpNames() []string { return slices.Sorted(maps.Values(opNames)) }
