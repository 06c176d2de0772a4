package raftdir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"maps"

	"github.com/lni/vfs"

	"coord/internal/replica"
)

// The manifest is a JSON file:
//
//	{"version": 3, "crc32c": …, "body": { … }}
//
// crc32c is the Castagnoli checksum of the decimal version, a newline and the
// compact JSON of the body. The file must be exactly what encodeManifest
// writes for what it decodes to: JSON readers forgive changed case, unknown
// and repeated names, all of which a flipped bit can make. A new field
// therefore needs a new version.
//
// A manifest is written in the oldest version that can hold it, so that a program
// which knows no other opens the directory until something new was written down.
const (
	manifestName    = "manifest.json"
	manifestVersion = 3 // the newest: members that come and go
	firstVersion    = 2 // the oldest that is read: members that stay
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// envelope is the outer object of the file.
type envelope struct {
	Version int             `json:"version"`
	CRC32C  uint32          `json:"crc32c"`
	Body    json.RawMessage `json:"body"`
}

// manifest is what this package knows about a directory.
type manifest struct {
	Ensemble    string                      `json:"ensemble"`
	Member      replica.MemberID            `json:"member"`
	ID          string                      `json:"id"` // made at the first Open, never changed
	LogShards   uint64                      `json:"log_shards"`
	Hostname    string                      `json:"hostname"` // of the last Open, for information
	Voters      map[replica.MemberID]string `json:"voters,omitempty"`
	Initialised map[replica.GroupID]bool    `json:"initialised,omitempty"`
	Applied     map[replica.GroupID]uint64  `json:"applied,omitempty"` // raft index
	Pins        map[replica.MemberID]string `json:"pins,omitempty"`    // directory ids of other members
	Seal        *seal                       `json:"seal,omitempty"`    // nil while open and after a crash

	// From version 3 on. There Member is 0 until [Dir.Become].
	Members map[replica.MemberID]Member `json:"members,omitempty"` // as last noted
	Removed map[replica.GroupID]bool    `json:"removed,omitempty"` // the groups that the member was removed from
}

// version returns the oldest version that can hold m.
func (m manifest) version() int {
	if m.Member == 0 || len(m.Members) > 0 || len(m.Removed) > 0 {
		return manifestVersion
	}
	return firstVersion
}

// clone returns a copy that shares nothing with m but its seal, which is
// never modified.
func (m manifest) clone() manifest {
	m.Voters = maps.Clone(m.Voters)
	m.Initialised = maps.Clone(m.Initialised)
	m.Applied = maps.Clone(m.Applied)
	m.Pins = maps.Clone(m.Pins)
	m.Members = maps.Clone(m.Members)
	m.Removed = maps.Clone(m.Removed)
	return m
}

// manifestCRC is the checksum of a compact body.
func manifestCRC(version int, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(fmt.Appendf(nil, "%d\n", version), castagnoli), castagnoli, body)
}

// encodeManifest returns the bytes of the file.
func encodeManifest(m manifest) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	version := m.version()
	e := envelope{Version: version, CRC32C: manifestCRC(version, body), Body: body}
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// decodeManifest is the inverse of encodeManifest; path is for its errors.
func decodeManifest(path string, data []byte) (manifest, error) {
	var m manifest
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return m, corruptBy(path, err, "the manifest of %d bytes cannot be read", len(data))
	}
	var body bytes.Buffer
	if err := json.Compact(&body, e.Body); err != nil {
		return m, corruptBy(path, err, "the manifest has no body")
	}
	if sum := manifestCRC(e.Version, body.Bytes()); sum != e.CRC32C {
		return m, corrupt(path, -1, "the manifest has checksum %08x and says %08x", sum, e.CRC32C)
	}
	if e.Version < firstVersion || e.Version > manifestVersion {
		return m, &Error{
			Kind: ErrVersion, Path: path, Offset: -1,
			Detail: fmt.Sprintf("the manifest has version %d, this program knows versions %d to %d", e.Version, firstVersion, manifestVersion),
			Remedy: "start this member with the version of the program that wrote it",
		}
	}
	if err := json.Unmarshal(body.Bytes(), &m); err != nil {
		return m, corruptBy(path, err, "the manifest cannot be read")
	}
	again, err := encodeManifest(m)
	if err != nil || !bytes.Equal(again, data) {
		return m, corrupt(path, -1, "the manifest is not as it was written")
	}
	return m, nil
}

// readManifest returns the manifest of dir, or false if there is none.
func readManifest(fs vfs.FS, dir string) (manifest, bool, error) {
	path := fs.PathJoin(dir, manifestName)
	data, err := readFile(fs, path)
	if errors.Is(err, iofs.ErrNotExist) {
		return manifest{}, false, nil
	}
	if err != nil {
		return manifest{}, false, fmt.Errorf("read manifest: %w", err)
	}
	m, err := decodeManifest(path, data)
	return m, true, err
}

// writeManifest makes m the manifest of dir, durably.
func writeManifest(fs vfs.FS, dir string, m manifest) error {
	data, err := encodeManifest(m)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := writeFile(fs, dir, manifestName, data); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// readFile returns the contents of path.
func readFile(fs vfs.FS, path string) (data []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(f)
}

// writeFile replaces dir/name so that after a crash it holds either its old
// contents or data, and after a return of nil data.
func writeFile(fs vfs.FS, dir, name string, data []byte) error {
	tmp := fs.PathJoin(dir, name+".tmp")
	f, err := fs.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// syncDir makes the names in dir durable.
func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// exists tells whether there is anything at path.
func exists(fs vfs.FS, path string) (bool, error) {
	_, err := fs.Stat(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
