package coord

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"coord/internal/invariants"
)

// commandSeeds adds one command of each kind, whole and cut, to a corpus.
func commandSeeds(f *testing.F) {
	f.Helper()
	for _, cmd := range goldenCommands(formatVersion) {
		e := newEncoder()
		e.command(cmd, formatVersion)
		b := bytes.Clone(e.buf.Bytes())
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte{0x95, 1, 3, 1, 1, 0x95, 1, 1, 0, 0xc0, 0xdd, 0, 1, 0, 0}) // announces 65536 requests
}

// FuzzDecodeCommand sees that whatever is read is written and read again alike.
func FuzzDecodeCommand(f *testing.F) {
	commandSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := decodeCommand(b)
		if err != nil {
			if !errors.Is(err, errMalformed) && !errors.Is(err, errNewerFormat) {
				t.Fatalf("decodeCommand = %v, which is neither errMalformed nor errNewerFormat", err)
			}
			return
		}
		version := FormatVersion(formatVersion)
		if cmd.init != nil {
			version = cmd.init.version
		}
		e := newEncoder()
		e.command(cmd, version)
		again, err := decodeCommand(e.buf.Bytes())
		if err != nil || !reflect.DeepEqual(again, cmd) {
			t.Fatalf("round trip: %+v, %v; want %+v", again, err, cmd)
		}
	})
}

// TestDecodeAllocatesWhatIsThere announces more than follows, at every place where a
// length is read.
func TestDecodeAllocatesWhatIsThere(t *testing.T) {
	// Elements are at most this many times as large in memory as they are encoded.
	const multiple, fixed = 40, 16 << 10
	rest := make([]byte, 64<<10) // zeros: numbers, and no array
	huge := [][]byte{
		{0xdd, 0x00, 0x00, 0xff, 0xff}, // array32
		{0xdd, 0xff, 0xff, 0xff, 0xff},
		{0xdc, 0xff, 0xff},             // array16
		{0xc6, 0x00, 0x00, 0xff, 0xff}, // bin32
		{0xc6, 0xff, 0xff, 0xff, 0xff},
		{0xdb, 0xff, 0xff, 0xff, 0xff}, // str32
	}
	for name, cmd := range goldenCommands(formatVersion) {
		e := newEncoder()
		e.command(cmd, formatVersion)
		whole := bytes.Clone(e.buf.Bytes())
		for at := range whole {
			if invariants.Enabled && at%5 != 0 { // the race detector makes this ten times slower
				continue
			}
			for _, h := range huge {
				b := slices.Concat(whole[:at], h, rest)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, _ = decodeCommand(b)
				runtime.ReadMemStats(&after)
				if got := after.TotalAlloc - before.TotalAlloc; got > uint64(multiple*len(b)+fixed) {
					t.Errorf("%s with %x at %d: %d bytes allocated for %d bytes of input", name, h, at, got, len(b))
				}
			}
		}
	}
}

// FuzzReadSnapshot reads arbitrary snapshots: as they are, and with checksums put
// right so that the content is looked at.
func FuzzReadSnapshot(f *testing.F) {
	for _, s := range []*state{newState(rootGroup), newTestState(), goldenState(oldestFormat), goldenState(formatVersion)} {
		var b bytes.Buffer
		if err := writeSnapshot(s.freeze(), &b, nil); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, image := range [][]byte{b, withChecksums(b)} {
			s, err := readBytes(image)
			if err != nil {
				if !errors.Is(err, errMalformed) && !errors.Is(err, errNewerFormat) {
					t.Fatalf("readSnapshot = %v, which is neither errMalformed nor errNewerFormat", err)
				}
				continue
			}
			var again bytes.Buffer
			if err := writeSnapshot(s.freeze(), &again, nil); err != nil {
				t.Fatalf("writeSnapshot of what was read: %v", err)
			}
			second, err := readBytes(again.Bytes())
			if err != nil {
				t.Fatalf("readSnapshot of what was read and written: %v", err)
			}
			if second.digest() != s.digest() {
				t.Fatal("another digest after writing and reading again")
			}
			for err := range s.violations() { // broken it may be, but it must not panic
				_ = err
			}
		}
	})
}

// withChecksums returns a copy of a snapshot in which the checksums of as many
// frames as there are, and the sum in the end frame, are right.
func withChecksums(b []byte) []byte {
	out := bytes.Clone(b)
	sum := uint32(0)
	for at := len(snapshotMagic); at+8 <= len(out); {
		n := int(binary.BigEndian.Uint32(out[at:]))
		if n > len(out)-at-8 {
			break
		}
		payload := out[at+8 : at+8+n]
		if fixed := fixEnd(payload, sum); at+8+n == len(out) && len(fixed) != len(payload) {
			out = append(out[:at+8], fixed...)
			binary.BigEndian.PutUint32(out[at:], uint32(len(fixed)))
			payload = fixed
		} else if len(fixed) == len(payload) {
			copy(payload, fixed)
		}
		binary.BigEndian.PutUint32(out[at+4:], crc32.Checksum(payload, castagnoli))
		sum = crc32.Update(sum, castagnoli, out[at+4:at+8])
		at += 8 + len(payload)
	}
	return out
}

// FuzzValidPath compares the rules with an implementation on UTF-16 units, and sees
// that keys are what they are made for.
func FuzzValidPath(f *testing.F) {
	for _, p := range []string{
		"", "/", "//", "/a", "/a/b", "/a!", "/ab", "/a/b/c", "a", "/a/", "/./a", "/..", "/...", "/a/..", "/\x00", "/\x01a", "/\x7f", "/\u0080",
		"/\u00a0", "/\ud7ff", "/\ue000", "/\uf8ff", "/\uf900", "/\uffef", "/\ufff0", "/\ufffd", "/\U0001f600", "/\xff", "/\xed\xa0\x80",
		"/" + strings.Repeat("x", 4095), "/" + strings.Repeat("x", 4096),
	} {
		f.Add(p, "/a/b")
		f.Add("/a/b", p)
	}
	f.Fuzz(func(t *testing.T, p, q string) {
		if got, want := ValidPath(p), modelPathOK(p); got != want {
			t.Fatalf("ValidPath(%q) = %v, want %v: %s", p, got, want, pathFault(p))
		}
		kp, ok := keyOf(p)
		if !ok {
			if ValidPath(p) {
				t.Fatalf("keyOf(%q) refuses a valid path", p)
			}
			return
		}
		if kp.path() != p {
			t.Fatalf("keyOf(%q).path() = %q", p, kp.path())
		}
		if !ValidPath(p) || !ValidPath(q) {
			return
		}
		kq, _ := keyOf(q)
		if (kp == kq) != (p == q) {
			t.Fatalf("%q and %q have the keys %q and %q", p, q, kp, kq)
		}
		if p != "/" {
			if got, want := kp.parent().path(), parentPath(p); got != want {
				t.Fatalf("the parent of %q is %q, want %q", p, got, want)
			}
			if got, want := kp.name(), p[strings.LastIndexByte(p, '/')+1:]; got != want {
				t.Fatalf("the name of %q is %q, want %q", p, got, want)
			}
		}
		below := strings.HasPrefix(q, strings.TrimSuffix(p, "/")+"/") && q != "/"
		from, to := kp.subtree()
		if inRange := from <= kq && kq < to; inRange != below {
			t.Fatalf("%q in the range of what is below %q: %v, want %v", q, p, inRange, below)
		}
		if isChild := below && parentPath(q) == p; strings.HasPrefix(string(kq), string(kp.childPrefix())) != isChild {
			t.Fatalf("%q as a child of %q: %v, want %v", q, p, !isChild, isChild)
		}
		// Siblings are next to each other: nothing else sorts between them.
		if parentPath(p) == parentPath(q) && p != "/" && q != "/" {
			if got, want := cmp.Compare(kp, kq), cmp.Compare(p, q); got != want {
				t.Fatalf("the siblings %q and %q compare as %d, want %d", p, q, got, want)
			}
			deeper, _ := keyOf(p + "/x")
			if low, high := min(kp, kq), max(kp, kq); low < deeper && deeper < high {
				t.Fatalf("%q sorts between the siblings %q and %q", p+"/x", p, q)
			}
		}
	})
}

// FuzzApply applies commands made of arbitrary bytes to a state that has something of
// everything.
func FuzzApply(f *testing.F) {
	commandSeeds(f)
	for _, r := range []request{
		{kind: requestCloseSession, session: 1, generation: 1},
		{kind: requestResume, session: 1, password: [16]byte{1, 15: 2}, timeoutMS: 9000},
		{kind: requestRelease, session: 2, generation: 1},
		{kind: requestWithdraw, session: 1, claim: 17},
		{kind: requestExpire, expiries: []expiry{{1, 1, 1}, {2, 1, 0}}},
		{kind: requestReap, reaps: []reap{{"/c", 7, 7, 1}, {"/c/ttl", 8, 8, 0}}},
		{kind: requestMulti, ops: []op{{kind: opDelete, path: "/e", version: AnyVersion}, {kind: opCreate, path: "/x/y/z", parents: persistentParents}}},
		{kind: requestSetUser, user: &user{name: "eve", hash: conceal("another")}},
		{kind: requestSetTemplate, template: &template{path: "/", list: CreatorAllACL()}},
		{kind: requestSetTemplate, template: &template{path: "/p"}},
		{kind: requestSettings, change: &settingsChange{from: goldenSettings, to: settings{maxDataBytes: 1, minSessionTimeoutMS: 100, maxSessionTimeoutMS: 100}}},
		{kind: requestRemoveUser, user: &user{name: "bob"}},
		writeOf(op{kind: opCreate, path: "/p/", mode: PersistentSequential}),
		writeOf(op{kind: opSetACL, path: "/p", acl: CreatorAllACL()}),
	} {
		e := newEncoder()
		e.command(&command{kind: commandBatch, group: rootGroup, member: 1, batch: &batchCommand{
			incarnation: 1, number: 4, requests: []request{r}, touch: &touch{silences: []silence{{1, 1, true}, {2, 1, false}}},
		}}, formatVersion)
		f.Add(bytes.Clone(e.buf.Bytes()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := goldenState(formatVersion)
		before := s.freeze()
		digest := before.digest()
		for range 2 { // the second is the same number again
			cmd, err := decodeCommand(b)
			if err != nil {
				return
			}
			if m := s.members.get(cmd.member); cmd.batch != nil && m != nil { // or almost none would be taken
				cmd.batch.incarnation, cmd.batch.number = m.incarnation, m.number+1
			}
			if eff := s.apply(cmd, digestOf(b)); eff.panic != "" {
				t.Fatalf("apply panicked: %s", eff.panic)
			}
			if err := s.firstViolation(); err != nil {
				t.Fatalf("after %+v: %v", cmd, err)
			}
		}
		if before.digest() != digest {
			t.Fatal("the frozen copy changed")
		}
		var image bytes.Buffer
		if err := writeSnapshot(s.freeze(), &image, nil); err != nil {
			t.Fatal(err)
		}
		again, err := readBytes(image.Bytes())
		if err != nil {
			t.Fatalf("readSnapshot: %v", err)
		}
		if again.digest() != s.digest() {
			t.Fatal("another digest after a snapshot")
		}
	})
}
