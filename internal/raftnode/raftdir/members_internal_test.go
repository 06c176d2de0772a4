package raftdir

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lni/vfs"

	"coord/internal/replica"
)

var joiner = Identity{Ensemble: "test", LogShards: 1}

// A directory is made before its member has an id, keeps its own id until it gets one,
// and belongs to that one ever after.
func TestBecome(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs vfs.FS, dir string) {
		d, err := Open(fs, dir, joiner)
		must(t, err)
		id := d.ID()
		if d.Member() != 0 {
			t.Errorf("a new directory belongs to member %d", d.Member())
		}
		must(t, d.Close())
		d, err = Open(fs, dir, joiner)
		must(t, err)
		if d.ID() != id || d.Fresh() {
			t.Errorf("reopened: id %s, fresh %v, want %s", d.ID(), d.Fresh(), id)
		}
		if err := d.Become(0); err == nil {
			t.Error("Become(0) succeeded")
		}
		must(t, d.Become(4))
		must(t, d.Become(4))
		wantKind(t, d.Become(5), ErrWrongMember, "member 4", "member 5")
		must(t, d.Pin(4, id))
		must(t, d.Close())

		for _, member := range []replica.MemberID{0, 4} {
			again := joiner
			again.Member = member
			d, err = Open(fs, dir, again)
			must(t, err)
			if d.Member() != 4 || d.ID() != id {
				t.Errorf("reopened as member %d: member %d, id %s, want member 4, %s", member, d.Member(), d.ID(), id)
			}
			must(t, d.Close())
		}
		wrong := joiner
		wrong.Member = 5
		_, err = Open(fs, dir, wrong)
		wantKind(t, err, ErrWrongMember, "member 4", "member 5")
	})
}

// Naming the member at Open is as good as Become.
func TestBecomeAtOpen(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs vfs.FS, dir string) {
		d, err := Open(fs, dir, joiner)
		must(t, err)
		must(t, d.Close())
		named := joiner
		named.Member = 7
		d, err = Open(fs, dir, named)
		must(t, err)
		must(t, d.Close())
		d, err = Open(fs, dir, joiner)
		must(t, err)
		defer d.Close()
		if d.Member() != 7 {
			t.Errorf("the directory belongs to member %d, want 7", d.Member())
		}
	})
}

// What is noted of members survives, costs nothing when it is the same, and is the
// caller's own.
func TestNoteMembers(t *testing.T) {
	fileSystems(t, func(t *testing.T, fs vfs.FS, dir string) {
		d, err := Open(fs, dir, self)
		must(t, err)
		if m := d.Members(); len(m) != 0 {
			t.Errorf("a new directory knows of %v", m)
		}
		members := map[replica.MemberID]Member{1: {Addr: "a:1", Directory: d.ID()}, 9: {Addr: "b:1"}}
		want := maps.Clone(members)
		must(t, d.NoteMembers(members))
		members[2] = Member{Addr: "c:1"}
		d.Members()[3] = Member{Addr: "d:1"}
		if m := d.Members(); !maps.Equal(m, want) {
			t.Errorf("Members = %v, want %v", m, want)
		}
		path := filepath.Join(dir, manifestName)
		must(t, d.fs.Remove(path))
		must(t, d.NoteMembers(want))
		if ok, err := exists(d.fs, path); ok || err != nil {
			t.Errorf("the manifest was written again though nothing has changed: %v, %v", ok, err)
		}
		must(t, d.MarkRemoved(7)) // writes it
		must(t, d.Close())

		d, err = Open(fs, dir, self)
		must(t, err)
		if m := d.Members(); !maps.Equal(m, want) || !d.Removed(7) || d.Removed(8) {
			t.Errorf("reopened: members %v, removed %v %v, want %v, true, false", m, d.Removed(7), d.Removed(8), want)
		}
		must(t, d.Forget(7))
		if d.Removed(7) {
			t.Error("a forgotten group is still marked as removed")
		}
		must(t, d.Close())
		if err := d.NoteMembers(nil); !errors.Is(err, replica.ErrClosed) {
			t.Errorf("NoteMembers after Close = %v", err)
		}
		if err := d.MarkRemoved(1); !errors.Is(err, replica.ErrClosed) {
			t.Errorf("MarkRemoved after Close = %v", err)
		}
		if err := d.Become(1); !errors.Is(err, replica.ErrClosed) {
			t.Errorf("Become after Close = %v", err)
		}
	})
}

// A manifest has the oldest version that can hold it, so that one can go back to a
// program that knows only that.
func TestOldestManifestVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	version := func() string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, manifestName))
		must(t, err)
		line, _, _ := strings.Cut(strings.TrimPrefix(string(data), "{\n"), "\n")
		return strings.TrimSpace(line)
	}
	want := func(what, line string) {
		t.Helper()
		if v := version(); v != line {
			t.Errorf("%s: the manifest has %s, want %s", what, v, line)
		}
	}
	d, err := Open(nil, dir, self)
	must(t, err)
	defer d.Close()
	must(t, d.MarkInitialised(1))
	must(t, d.Pin(2, oneID))
	want("members that stay", `"version": 2,`)
	must(t, d.MarkRemoved(1))
	want("removed from a group", `"version": 3,`)
	must(t, d.Forget(1))
	want("forgotten", `"version": 2,`)
	must(t, d.NoteMembers(map[replica.MemberID]Member{1: {Addr: "a:1"}}))
	want("members noted", `"version": 3,`)
}

// oldManifest was written by a program that knows version 2 only.
const oldManifest = `{
  "version": 2,
  "crc32c": 4290690153,
  "body": {
    "ensemble": "test",
    "member": 1,
    "id": "0b4e7a0e-5a87-4a5e-9d0d-0a2f6f6c8a91",
    "log_shards": 1,
    "hostname": "h",
    "voters": {
      "1": "a:1",
      "2": "b:1"
    },
    "initialised": {
      "1": true
    },
    "applied": {
      "1": 7
    },
    "pins": {
      "2": "0b4e7a0e-5a87-4a5e-9d0d-0a2f6f6c8a92"
    }
  }
}
`

func TestOldManifest(t *testing.T) {
	m, err := decodeManifest("m", []byte(oldManifest))
	must(t, err)
	if m.Member != 1 || !m.Initialised[1] || m.Applied[1] != 7 || m.Pins[2] != otherID || m.Voters[2] != "b:1" {
		t.Errorf("manifest = %+v", m)
	}
	again, err := encodeManifest(m)
	must(t, err)
	if string(again) != oldManifest {
		t.Errorf("the old manifest is written as %s", again)
	}
}
