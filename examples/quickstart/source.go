package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"coord"
)

const (
	filesRoot    = "/files" // the znode of the directory itself
	maxFileBytes = 1 << 20  // also the members' Config.MaxDataBytes
)

// An entry is one directory or file that becomes a znode.
type entry struct {
	path string // of the znode
	file string // on the disk
	dir  bool
}

// A source is a directory tree: what becomes a znode, and what is left out.
type source struct {
	dir         string
	entries     []entry // a directory comes before what is in it
	dirs, files int
	bytes       int64

	tooLarge   int // files over maxFileBytes
	badName    int // files and directories whose names no znode can have, and all below
	unreadable int
	irregular  int // symbolic links, sockets and the like
}

// readSource finds out what of the tree at dir becomes a znode. It reads names
// and sizes; the data are read when they are written.
func readSource(dir string) (*source, error) {
	s := &source{dir: dir}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil && file != dir {
			s.unreadable++
			return nil
		}
		if err != nil {
			return err
		}
		return s.add(file, d)
	})
	if err != nil {
		return nil, err
	}
	if len(s.entries) == 0 || !s.entries[0].dir {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	if s.files == 0 {
		return nil, fmt.Errorf("%s holds no file that can become a znode", dir)
	}
	return s, nil
}

// add takes one file or directory in, or counts why not.
func (s *source) add(file string, d fs.DirEntry) error {
	path, err := znodePath(s.dir, file)
	if err != nil {
		return err
	}
	switch {
	case !d.IsDir() && !d.Type().IsRegular():
		s.irregular++
		return nil
	case !coord.ValidPath(path):
		s.badName++
		return nil
	case d.IsDir():
		s.dirs++
		s.entries = append(s.entries, entry{path: path, file: file, dir: true})
		return nil
	}
	info, err := d.Info()
	if err != nil || !readable(file) {
		s.unreadable++
		return nil //nolint:nilerr // counted and told
	}
	if info.Size() > maxFileBytes {
		s.tooLarge++
		return nil
	}
	s.files++
	s.bytes += info.Size()
	s.entries = append(s.entries, entry{path: path, file: file})
	return nil
}

func readable(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// znodePath returns the path of the znode for a file in dir.
func znodePath(dir, file string) (string, error) {
	rel, err := filepath.Rel(dir, file)
	if err != nil || rel == "." {
		return filesRoot, err
	}
	return filesRoot + "/" + filepath.ToSlash(rel), nil
}

// diskPath is the inverse of znodePath.
func diskPath(dir, path string) string {
	return filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(path, filesRoot)))
}

// String says what becomes a znode and what does not.
func (s *source) String() string {
	text := fmt.Sprintf("%s: %s in %s, %.1f MiB; ", s.dir, count(s.files, "file"), count(s.dirs, "directory"), float64(s.bytes)/(1<<20))
	var left []string
	for _, r := range []struct {
		n   int
		why string
	}{
		{s.tooLarge, "over 1 MiB"},
		{s.badName, "with names that no znode can have"},
		{s.unreadable, "unreadable"},
		{s.irregular, "neither file nor directory"},
	} {
		if r.n > 0 {
			left = append(left, fmt.Sprintf("%d %s", r.n, r.why))
		}
	}
	if len(left) == 0 {
		return text + "nothing left out"
	}
	return text + "left out: " + strings.Join(left, ", ")
}
