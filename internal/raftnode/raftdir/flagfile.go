package raftdir

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	iofs "io/fs"

	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/vfs"
)

// The raft library keeps small facts in flag files:
//
//	second half of md5(data), 8 bytes | data (protobuf)
//
// It panics with a string if the checksum is wrong, upon which its constructor
// returns neither a host nor an error, and it does not replace the files
// atomically.
const (
	statusFile       = "dragonboat.ds"
	hostIDFile       = "NODEHOST.ID"
	snapshotFlagFile = "dragonboat.snapshot.message"
	flagSumSize      = 8
)

// flagSum is the checksum in front of data.
func flagSum(data []byte) []byte {
	sum := md5.Sum(data)
	return sum[md5.Size-flagSumSize:]
}

// readFlagFile returns the data of a flag file, false if there is none, or
// [ErrCorrupt].
func readFlagFile(fs vfs.FS, path string) ([]byte, bool, error) {
	b, err := readFile(fs, path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read flag file: %w", err)
	}
	if len(b) < flagSumSize || !bytes.Equal(flagSum(b[flagSumSize:]), b[:flagSumSize]) {
		return nil, true, corrupt(path, -1, "the %d bytes of the flag file do not have the checksum stored in it", len(b))
	}
	return b[flagSumSize:], true, nil
}

// readStatus returns the facts that the library pinned when it first opened
// dir, or false if it never did.
func readStatus(fs vfs.FS, dir string) (pb.RaftDataStatus, bool, error) {
	var s pb.RaftDataStatus
	path := fs.PathJoin(dir, statusFile)
	data, ok, err := readFlagFile(fs, path)
	if err != nil || !ok {
		return s, ok, err
	}
	if err := unmarshal(&s, data); err != nil {
		return s, true, corruptBy(path, err, "the flag file cannot be read")
	}
	return s, true, nil
}

// writeStatus replaces the facts in dir.
func writeStatus(fs vfs.FS, dir string, s pb.RaftDataStatus) error {
	data, err := s.Marshal()
	if err == nil {
		err = writeFile(fs, dir, statusFile, append(flagSum(data), data...))
	}
	if err != nil {
		return fmt.Errorf("rewrite %s: %w", fs.PathJoin(dir, statusFile), err)
	}
	return nil
}
