package coord

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"coord/internal/bubble"
	"coord/internal/replica"
)

// startedIn returns a group in which a version is in force, of one member and of those
// at other addresses, none of which has run yet.
func startedIn(version FormatVersion, others ...string) *state {
	s := newState(rootGroup)
	members := []memberRecord{{id: 1, addr: "a:1"}}
	for i, addr := range others {
		members = append(members, memberRecord{id: MemberID(i + 2), addr: addr})
	}
	s.apply(&command{kind: commandInit, group: rootGroup, member: 1, init: &initCommand{
		version: version, ensemble: "test", timeMS: 1000, members: members,
	}}, 0)
	s.apply(&command{kind: commandHello, group: rootGroup, member: 1, hello: &helloCommand{nonce: 1, addr: "a:1"}}, 0)
	return s
}

// TestSnapshotIsOfTheVersionInForce sees that an older binary can read the snapshots of a
// newer one until a version is activated that it does not know.
func TestSnapshotIsOfTheVersionInForce(t *testing.T) {
	s := startedIn(1)
	versionOf := func() byte {
		head := framesOf(snapshotOf(t, s.freeze()))[0].payload
		return head[2] // behind the heads of the array and the frame's kind
	}
	if v := versionOf(); v != 1 {
		t.Errorf("a snapshot with version 1 in force is of version %d", v)
	}
	s.apply(activation(2), 1)
	if v := versionOf(); v != 2 {
		t.Errorf("a snapshot with version 2 in force is of version %d", v)
	}
}

// TestActivation raises the version that is in force, and never lowers it.
func TestActivation(t *testing.T) {
	s := startedIn(1)
	before := s.freeze()
	activate := func(v FormatVersion, ids []ID) Code {
		cmd := activation(v)
		cmd.batch.number = s.members.get(1).number + 1
		cmd.batch.requests[0].identities = ids
		e := newEncoder()
		e.command(cmd, max(v, s.format()))
		decoded, err := decodeCommand(e.buf.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		s.apply(decoded, digestOf(e.buf.Bytes()))
		return s.members.get(1).results[0].code
	}
	if code := activate(2, []ID{{"super", ""}}); code != ErrNoAuth || s.version != 1 {
		t.Errorf("a client activates version 2: %v, in force is %d, want %v", code, s.version, ErrNoAuth)
	}
	if code := activate(2, nil); code != codeOK || s.version != 2 || s.zxid != before.zxid+2 {
		t.Errorf("activate version 2: %v, in force is %d, zxid %v after %v", code, s.version, s.zxid, before.zxid)
	}
	if before.version != 1 || before.digest() == s.digest() {
		t.Error("a frozen state has changed, or two versions have one digest")
	}
	for _, v := range []FormatVersion{1, 2} {
		if code := activate(v, nil); code != codeOK || s.version != 2 {
			t.Errorf("activate version %d once more: %v, in force is %d", v, code, s.version)
		}
	}
}

// TestActivationTellsTheConfiguration sees that an ensemble which began in version 1 tells who
// its members are from the activation of version 2 on, as one that began in that.
func TestActivationTellsTheConfiguration(t *testing.T) {
	told := func(s *state) (string, int32) {
		_, n := s.configNode()
		return string(n.data), n.version
	}
	s := startedIn(1, "b:1")
	if text, _ := told(s); text != "" {
		t.Errorf("in version 1 the configuration is %q, want none", text)
	}
	eff := s.apply(activation(2), 1)
	want, _ := told(startedIn(2, "b:1"))
	if text, version := told(s); text != want || text == "" || version != -1 {
		t.Errorf("in version 2 it is %q of version %d, want %q of -1", text, version, want)
	}
	if !slices.ContainsFunc(eff.changes, func(c change) bool { return c.path == pathConfig && c.typ == NodeDataChanged }) {
		t.Errorf("watches are told %v, want the change of %s", eff.changes, pathConfig)
	}
	alone := startedIn(1)
	alone.apply(activation(2), 1)
	if text, _ := told(alone); text != "" {
		t.Errorf("of a member that is alone it is %q, want none", text)
	}
}

// TestNothingOfALaterVersionIsApplied sees that a request which the version in force
// does not have is answered alike by every member, and changes nothing.
func TestNothingOfALaterVersionIsApplied(t *testing.T) {
	s := startedIn(1)
	const unborn = 255 // a kind that no version has yet, as every kind once was
	s.apply(&command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{incarnation: 1, number: 1, requests: []request{
		{kind: unborn}, writeOf(op{kind: unborn, path: "/a"}), writeOf(op{kind: opCreate, path: "/a"}),
	}}}, 1)
	results := s.members.get(1).results
	if results[0].code != ErrUnimplemented || results[1].code != ErrUnimplemented || s.zxid != 1 {
		t.Errorf("results %v, %v at zxid %v, want %v twice and one zxid", results[0].code, results[1].code, s.zxid, ErrUnimplemented)
	}
	if code := results[2].firstError(); code != codeOK {
		t.Errorf("the request behind them: %v", code)
	}
}

// TestProposerRefusesWhatTheVersionHasNot sees that such a request never reaches the log,
// where an older member would stop at it, and that its neighbours do.
func TestProposerRefusesWhatTheVersionHasNot(t *testing.T) {
	s := startedIn(1)
	later, now, activates := newPending(request{kind: 255}), newPending(writeOf(op{kind: opCreate, path: "/a"})), newPending(request{kind: requestActivate, version: 2})
	left := (&proposer{}).refuseUnavailable(s, []*pending{later, now, activates})
	if len(left) != 2 || left[0] != now || left[1] != activates {
		t.Errorf("%d requests are left, want the two that version 1 has or that raise it", len(left))
	}
	if !later.isDone() || !errors.Is(later.err, ErrUnimplemented) || now.isDone() || activates.isDone() {
		t.Errorf("the request of a later version: done %t, %v, want %v", later.isDone(), later.err, ErrUnimplemented)
	}
}

// TestEveryKindIsOfAVersion finds kinds that are read and written and belong to no version.
func TestEveryKindIsOfAVersion(t *testing.T) {
	for name, cmd := range goldenCommands(formatVersion) {
		if cmd.batch == nil {
			continue
		}
		for _, r := range cmd.batch.requests {
			if v := r.needs(); v < oldestFormat || v > formatVersion {
				t.Errorf("%s needs version %d", name, v)
			}
		}
	}
}

// TestSameInEveryVersion sees that what version 1 could say reads the same in later ones.
func TestSameInEveryVersion(t *testing.T) {
	for name, cmd := range goldenCommands(oldestFormat) {
		if cmd.init != nil {
			continue // names its version
		}
		first, last := newEncoder(), newEncoder()
		first.command(cmd, oldestFormat)
		last.command(cmd, formatVersion)
		a, b := first.buf.Bytes(), last.buf.Bytes()
		if a[1] != oldestFormat || b[1] != formatVersion || !bytes.Equal(a[2:], b[2:]) {
			t.Errorf("%s is\n%x in version %d, and\n%x in version %d", name, a, oldestFormat, b, formatVersion)
		}
	}
}

// TestSnapshotThatCannotBeReadStopsTheMember gives a member that is up a snapshot of a
// later version, and one that is damaged. It shows what it had, says why it has stopped,
// and applies and saves nothing any more; the host is not told of an error, because the
// raft library would end the process.
func TestSnapshotThatCannotBeReadStopsTheMember(t *testing.T) {
	later := framesOf(snapshotOf(t, startedIn(formatVersion).freeze()))
	payloads := [][]byte{}
	for _, f := range later {
		payloads = append(payloads, bytes.Clone(f.payload))
	}
	payloads[0][2] = formatVersion + 1 // behind the heads of the array and the frame's kind
	damaged := snapshotOf(t, startedIn(formatVersion).freeze())
	damaged[len(damaged)-1] ^= 1
	for name, c := range map[string]struct {
		image []byte
		want  error
	}{
		"later version": {joinFrames(payloads...), errNewerFormat},
		"damaged":       {damaged, errMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				c1, h := scriptedMember(t)
				before := c1.root.state()
				point := h.m.Prepare()
				if err := h.m.Restore(bytes.NewReader(c.image), nil); err != nil {
					t.Errorf("Restore = %v, for which the library ends the process", err)
				}
				err := c1.Health()
				if !errors.Is(err, ErrFailed) || !errors.Is(err, c.want) || !strings.Contains(err.Error(), "snapshot") {
					t.Errorf("Health = %v, want ErrFailed because of a snapshot that is %v", err, c.want)
				}
				entry := newEncoder()
				entry.command(activation(formatVersion), formatVersion)
				h.m.Apply([]replica.Entry{{Index: 1000, Cmd: bytes.Clone(entry.buf.Bytes())}})
				if s := c1.root.state(); s != before {
					t.Errorf("zxid %v is published, want %v still", s.zxid, before.zxid)
				}
				if err := h.m.Save(point, io.Discard, nil); !errors.Is(err, replica.ErrSnapshotAborted) {
					t.Errorf("Save = %v, want %v", err, replica.ErrSnapshotAborted)
				}
			})
		})
	}
}
