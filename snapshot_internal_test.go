package coord

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"coord/internal/invariants"
)

// A testFrame is one frame of a snapshot, taken apart.
type testFrame struct {
	at, end int // offsets in the file
	payload []byte
}

func framesOf(image []byte) []testFrame {
	var frames []testFrame
	for at := len(snapshotMagic); at < len(image); {
		end := at + 8 + int(binary.BigEndian.Uint32(image[at:]))
		frames = append(frames, testFrame{at, end, image[at+8 : end]})
		at = end
	}
	return frames
}

// joinFrames writes a snapshot with the given payloads and checksums that are
// right, but for the counts in its end frame.
func joinFrames(payloads ...[]byte) []byte {
	out := []byte(snapshotMagic)
	sum := uint32(0)
	for i, p := range payloads {
		if i == len(payloads)-1 {
			p = fixEnd(p, sum)
		}
		crc := crc32.Checksum(p, castagnoli)
		head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(p))), crc)
		sum = crc32.Update(sum, castagnoli, head[4:])
		out = append(append(out, head...), p...)
	}
	return out
}

// fixEnd returns the end frame with another checksum, if it is one.
func fixEnd(payload []byte, sum uint32) []byte {
	d := newDecoder(payload)
	n := d.arrayLen(endFields(formatVersion), 1)
	if n != endFields(oldestFormat) && n != endFields(formatVersion) || d.uint() != frameEnd {
		return payload
	}
	e := newEncoder()
	e.array(n)
	e.kind(frameEnd)
	for range n - 2 {
		e.uint(d.uint())
	}
	e.uint(uint64(sum))
	return bytes.Clone(e.buf.Bytes())
}

func readBytes(image []byte) (*state, error) {
	return readSnapshot(rootGroup, bytes.NewReader(image), nil)
}

// TestSnapshotTruncated cuts a snapshot everywhere.
func TestSnapshotTruncated(t *testing.T) {
	image := snapshotOf(t, goldenState(formatVersion).freeze())
	for n := range image {
		if _, err := readBytes(image[:n]); !errors.Is(err, errMalformed) {
			t.Fatalf("readSnapshot of %d of %d bytes = %v, want errMalformed", n, len(image), err)
		}
	}
	if _, err := readBytes(append(bytes.Clone(image), 0)); !errors.Is(err, errMalformed) {
		t.Errorf("readSnapshot with a byte behind the end = %v, want errMalformed", err)
	}
	boom := errors.New("boom")
	if _, err := readSnapshot(rootGroup, io.MultiReader(bytes.NewReader(image), iotest.ErrReader(boom)), nil); !errors.Is(err, boom) {
		t.Errorf("readSnapshot with an error behind the end = %v, want %v", err, boom)
	}
	// Whole frames are cut out.
	frames := framesOf(image)
	for i, f := range frames {
		cut := append(bytes.Clone(image[:f.at]), image[f.end:]...)
		if _, err := readBytes(cut); !errors.Is(err, errMalformed) {
			t.Errorf("readSnapshot without frame %d of %d = %v, want errMalformed", i, len(frames), err)
		}
		twice := append(bytes.Clone(image[:f.end]), image[f.at:]...)
		if _, err := readBytes(twice); !errors.Is(err, errMalformed) {
			t.Errorf("readSnapshot with frame %d of %d twice = %v, want errMalformed", i, len(frames), err)
		}
	}
}

// TestSnapshotBitFlips turns every bit of a small snapshot, and random bits of one
// with many frames.
func TestSnapshotBitFlips(t *testing.T) {
	image := snapshotOf(t, goldenState(formatVersion).freeze())
	step, rounds := 1, 200
	if invariants.Enabled { // the race detector makes this ten times slower
		step, rounds = 7, 20
	}
	for bit := 0; bit < 8*len(image); bit += step {
		image[bit/8] ^= 1 << (bit % 8)
		if _, err := readBytes(image); err == nil {
			t.Fatalf("readSnapshot with bit %d turned: no error", bit)
		}
		image[bit/8] ^= 1 << (bit % 8)
	}
	s := newTestState()
	var requests []request
	for i := range 3000 {
		requests = append(requests, writeOf(op{kind: opCreate, path: fmt.Sprintf("/%d", i), data: bytes.Repeat([]byte{byte(i)}, 400)}))
	}
	applyRequests(s, requests...)
	image = snapshotOf(t, s.freeze())
	if n := len(framesOf(image)); n < 8 {
		t.Fatalf("only %d frames", n)
	}
	r := rand.New(rand.NewPCG(testSeed(t), 2))
	for range rounds {
		bit := r.IntN(8 * len(image))
		image[bit/8] ^= 1 << (bit % 8)
		if _, err := readBytes(image); err == nil {
			t.Fatalf("readSnapshot with bit %d turned: no error", bit)
		}
		image[bit/8] ^= 1 << (bit % 8)
	}
	if _, err := readBytes(image); err != nil {
		t.Errorf("readSnapshot of what was written: %v", err)
	}
}

// TestSnapshotVersions meets snapshots and commands of other versions.
func TestSnapshotVersions(t *testing.T) {
	head := func(version, inForce uint64) []byte {
		e := newEncoder()
		e.array(headFields(FormatVersion(version)))
		e.kind(frameHead)
		e.uint(version)
		e.uint(uint64(rootGroup))
		e.string("e")
		e.uint(0)
		e.uint(0)
		e.int(0)
		if version < membersChange {
			e.array(2)
		} else {
			e.array(3)
		}
		e.uint(inForce)
		e.settings(&settings{})
		if version >= membersChange {
			e.uint(0)
		}
		if version >= formatMounts {
			e.mounting(newState(rootGroup))
		}
		return bytes.Clone(e.buf.Bytes())
	}
	end := func(version uint64) []byte {
		e := newEncoder()
		fields := endFields(FormatVersion(version))
		e.array(fields)
		e.kind(frameEnd)
		for range fields - 1 {
			e.uint(0)
		}
		return bytes.Clone(e.buf.Bytes())
	}
	for _, c := range []struct {
		name             string
		version, inForce uint64
		want             error
	}{
		{"not started", oldestFormat, 0, nil},
		{"not started in a later version", formatVersion, 0, errMalformed},
		{"newer file", formatVersion + 1, 0, errNewerFormat},
		{"newer version in force", formatVersion, formatVersion + 1, errNewerFormat},
		{"a later version in force", oldestFormat, formatVersion, errMalformed},
		{"an earlier version in force", formatVersion, oldestFormat, errMalformed},
		{"none", 0, 0, errMalformed},
		{"started without a root", formatVersion, formatVersion, errMalformed},
		{"started without a root, oldest", oldestFormat, oldestFormat, errMalformed},
	} {
		if _, err := readBytes(joinFrames(head(c.version, c.inForce), end(c.version))); !errors.Is(err, c.want) {
			t.Errorf("%s: readSnapshot = %v, want %v", c.name, err, c.want)
		}
	}
	// A newer head may have any fields behind the version.
	e := newEncoder()
	e.array(3)
	e.kind(frameHead)
	e.uint(99)
	e.string("whatever")
	if _, err := readBytes(joinFrames(bytes.Clone(e.buf.Bytes()), end(formatVersion))); !errors.Is(err, errNewerFormat) || !strings.Contains(err.Error(), "99") {
		t.Errorf("readSnapshot of version 99 = %v, want errNewerFormat", err)
	}
	if _, err := readSnapshot(7, bytes.NewReader(joinFrames(head(1, 0), end(1))), nil); !errors.Is(err, errMalformed) {
		t.Errorf("readSnapshot of another group = %v, want errMalformed", err)
	}
}

func TestCommandVersions(t *testing.T) {
	encode := func(f func(*encoder)) []byte {
		e := newEncoder()
		f(e)
		return bytes.Clone(e.buf.Bytes())
	}
	newer := encode(func(e *encoder) { e.array(2); e.uint(formatVersion + 1); e.string("of a shape not known yet") })
	if _, err := decodeCommand(newer); !errors.Is(err, errNewerFormat) {
		t.Errorf("decodeCommand of version %d = %v, want errNewerFormat", formatVersion+1, err)
	}
	activated := encode(func(e *encoder) {
		e.command(&command{kind: commandInit, group: 1, member: 1, init: &initCommand{version: formatVersion + 1}}, formatVersion)
	})
	if _, err := decodeCommand(activated); !errors.Is(err, errNewerFormat) {
		t.Errorf("decodeCommand of an init that starts with version %d = %v, want errNewerFormat", formatVersion+1, err)
	}
	for name, b := range map[string][]byte{
		"nothing": {},
		"version 0": encode(func(e *encoder) {
			e.array(5)
			e.uint(0)
			e.uint(1)
			e.uint(1)
			e.uint(1)
			e.null()
		}),
		"kind 9": encode(func(e *encoder) {
			e.array(5)
			e.uint(1)
			e.uint(9)
			e.uint(1)
			e.uint(1)
			e.null()
		}),
		"version 0 to start with": encode(func(e *encoder) {
			e.command(&command{kind: commandInit, group: 1, member: 1, init: &initCommand{}}, formatVersion)
		}),
		"another version to start with": encode(func(e *encoder) {
			e.command(&command{kind: commandInit, group: 1, member: 1, init: &initCommand{version: oldestFormat}}, formatVersion)
		}),
		"a request that version 1 does not have": inVersion(oldestFormat, goldenCommands(formatVersion)["request-activate"]),
		"a version to activate that its command is not of": encode(func(e *encoder) {
			e.command(activation(formatVersion+1), formatVersion)
		}),
		"a byte too many": append(encode(func(e *encoder) {
			e.command(&command{kind: commandHello, group: 1, member: 1, hello: &helloCommand{}}, formatVersion)
		}), 0),
	} {
		if _, err := decodeCommand(b); !errors.Is(err, errMalformed) || errors.Is(err, errNewerFormat) {
			t.Errorf("decodeCommand of %s = %v, want errMalformed", name, err)
		}
	}
}

// inVersion returns a command of this version with another one at its head.
func inVersion(version uint8, cmd *command) []byte {
	e := newEncoder()
	e.command(cmd, formatVersion)
	b := bytes.Clone(e.buf.Bytes())
	b[1] = version // behind the head of an array of 5
	return b
}

// activation returns a batch of member 1 that puts a version into force.
func activation(version FormatVersion) *command {
	return &command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{
		incarnation: 1, number: 1, requests: []request{{kind: requestActivate, version: version}},
	}}
}

// listFrame returns the frame of a list of n elements.
func listFrame(kind uint8, n int, encode func(e *encoder, i int)) []byte {
	e := newEncoder()
	e.array(2)
	e.kind(kind)
	e.array(n)
	for i := range n {
		encode(e, i)
	}
	return bytes.Clone(e.buf.Bytes())
}

// snapshotWith returns a snapshot that has other frames of one kind, with so many
// elements, and is right in everything else.
func snapshotWith(frames []testFrame, kind uint8, elements int, others ...[]byte) []byte {
	var payloads [][]byte
	for i, f := range frames {
		switch {
		case f.payload[1] != kind:
			payloads = append(payloads, f.payload)
		case frames[i-1].payload[1] != kind:
			payloads = append(payloads, others...)
		}
	}
	counted := []uint8{frameMember, frameACL, frameSessions, frameNodes, frameUsers, frameTemplate, frameTombstones, 0} // as the end frame does, and the checksum
	last := len(payloads) - 1
	d, e := newDecoder(payloads[last]), newEncoder()
	d.array(len(counted) + 1)
	e.array(len(counted) + 1)
	e.kind(uint8(d.small(frameEnd)))
	for _, of := range counted {
		n := d.uint()
		if of == kind {
			n = uint64(elements)
		}
		e.uint(n)
	}
	payloads[last] = bytes.Clone(e.buf.Bytes())
	return joinFrames(payloads...)
}

// TestSnapshotHasNothingTwice reads snapshots in which a member, a session, a user or a
// template is twice and counted so: one of the two would be lost.
func TestSnapshotHasNothingTwice(t *testing.T) {
	s := goldenState(formatVersion)
	frames := framesOf(snapshotOf(t, s.freeze()))
	element := map[uint8]func(*encoder){}
	for ses := range s.sessions.byID.all() {
		element[frameSessions] = func(e *encoder) { e.session(ses) }
	}
	for u := range s.users.byName.all() {
		element[frameUsers] = func(e *encoder) { e.user(u) }
	}
	for kind, encode := range element {
		for n := 1; n <= 2; n++ {
			list := listFrame(kind, n, func(e *encoder, _ int) { encode(e) })
			if _, err := readBytes(snapshotWith(frames, kind, n, list)); (err == nil) != (n == 1) || err != nil && !errors.Is(err, errMalformed) {
				t.Errorf("readSnapshot with the same element %d times in a frame of kind %d = %v", n, kind, err)
			}
		}
	}
	for _, kind := range []uint8{frameMember, frameTemplate} {
		for _, f := range frames {
			if f.payload[1] != kind {
				continue
			}
			for n := 1; n <= 2; n++ {
				if _, err := readBytes(snapshotWith(frames, kind, n, slices.Repeat([][]byte{f.payload}, n)...)); (err == nil) != (n == 1) || err != nil && !errors.Is(err, errMalformed) {
					t.Errorf("readSnapshot with the same frame of kind %d %d times = %v", kind, n, err)
				}
			}
			element[kind] = nil
		}
	}
	if len(element) != 4 {
		t.Errorf("elements of %d kinds were tried, want 4", len(element))
	}
}

// TestSnapshotEnd reads snapshots of whole frames that are not as the end frame says.
func TestSnapshotEnd(t *testing.T) {
	image := snapshotOf(t, goldenState(formatVersion).freeze())
	frames := framesOf(image)
	of := map[uint8][][]byte{}
	for i, f := range frames {
		kind := f.payload[1]
		if before := of[kind]; kind == frameMember && before != nil {
			// The same frames in another order, which would be the same state.
			swapped := slices.Concat(image[:frames[i-1].at], image[f.at:f.end], image[frames[i-1].at:f.at], image[f.end:])
			if _, err := readBytes(swapped); !errors.Is(err, errMalformed) {
				t.Errorf("readSnapshot with frames %d and %d exchanged and another checksum of all = %v, want errMalformed", i-1, i, err)
			}
		}
		of[kind] = append(of[kind], f.payload)
	}
	for _, kind := range []uint8{frameMember, frameACL, frameSessions, frameNodes, frameUsers, frameTemplate, frameTombstones} {
		if _, err := readBytes(snapshotWith(frames, kind, 1000, of[kind]...)); !errors.Is(err, errMalformed) {
			t.Errorf("readSnapshot with another number of elements of kind %d = %v, want errMalformed", kind, err)
		}
	}
	if _, err := readBytes(snapshotWith(frames, frameNodes, 0)); !errors.Is(err, errMalformed) {
		t.Errorf("readSnapshot of a group that has started and has no root = %v, want errMalformed", err)
	}
	if _, err := readSnapshot(rootGroup+1, bytes.NewReader(image), nil); !errors.Is(err, errMalformed) {
		t.Errorf("readSnapshot of another group = %v, want errMalformed", err)
	}
}

// TestSnapshotOrder builds snapshots whose checksums are right and whose content is
// not.
func TestSnapshotOrder(t *testing.T) {
	image := snapshotOf(t, goldenState(formatVersion).freeze())
	frames := framesOf(image)
	payloads := func() [][]byte {
		var out [][]byte
		for _, f := range frames {
			out = append(out, f.payload)
		}
		return out
	}
	if _, err := readBytes(joinFrames(payloads()...)); err != nil {
		t.Fatalf("readSnapshot of frames put together again: %v", err)
	}
	for i := range len(frames) - 1 {
		p := payloads()
		p[i], p[i+1] = p[i+1], p[i]
		_, err := readBytes(joinFrames(p...))
		if sameKind := frames[i].payload[1] == frames[i+1].payload[1]; (err == nil) != sameKind {
			t.Errorf("readSnapshot with frames %d and %d exchanged = %v", i, i+1, err)
		}
	}
	znodes := func(items ...treeItem) []byte {
		return listFrame(frameNodes, len(items), func(e *encoder, i int) { e.znode(items[i].key, items[i].node, 0) })
	}
	item := func(key string, children int32) treeItem { return treeItem{treeKey(key), &znode{children: children}} }
	if _, err := readBytes(snapshotWith(frames, frameNodes, 3, znodes(item("", 2), item("\x00a", 0), item("\x00b", 0)))); err != nil {
		t.Errorf("readSnapshot of other znodes = %v", err)
	}
	for name, items := range map[string][]treeItem{
		"no root":        {item("\x00a", 0)},
		"out of order":   {item("", 2), item("\x00b", 0), item("\x00a", 0)},
		"twice":          {item("", 2), item("\x00b", 0), item("\x00b", 0)},
		"no parent":      {item("", 1), item("\x00b", 0), item("\x01c\x00d", 0)},
		"missing child":  {item("", 2), item("\x00b", 0)},
		"child too many": {item("", 1), item("\x00a", 0), item("\x00b", 0)},
		"missing below":  {item("", 1), item("\x00a", 1)},
		"swapped counts": {item("", 1), item("\x00a", 0), item("\x00b", 1)},
		"counts of siblings": {
			item("", 3), item("\x00a", 2), item("\x00b", 0), item("\x00c", 1),
			item("\x01a\x00x", 0), item("\x01b\x00x", 0), item("\x01c\x00x", 0),
		},
		"no key of a path":   {item("", 1), item("\x00a/b", 0)},
		"invalid path":       {item("", 1), item("\x00..", 0)},
		"key without a name": {item("", 1), item("\x01a", 0)},
	} {
		if _, err := readBytes(snapshotWith(frames, frameNodes, len(items), znodes(items...))); !errors.Is(err, errMalformed) {
			t.Errorf("%s: readSnapshot = %v, want errMalformed", name, err)
		}
	}
}
