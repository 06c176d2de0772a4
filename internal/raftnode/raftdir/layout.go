package raftdir

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/lni/vfs"
)

// A layout is how the raft library arranged a NodeHostDir:
//
//	dragonboat.ds  NODEHOST.ID  LOCK
//	<host name>/<deployment id, 20 digits>/
//		logdb-<n>/                                     pebble
//		snapshot-part-<n>/snapshot-<group>-<member>/
//			snapshot-<hex index>/*.gbsnap              one at rest
//			snapshot-….generating, ….receiving         left by a crash
type layout struct {
	root      string   // the NodeHostDir
	host      string   // name of the host folder, "" if there is none
	hostname  string   // in dragonboat.ds
	pinned    bool     // dragonboat.ds is there
	data      string   // the folder of the deployment, "" if there is none
	databases []string // names of the logdb folders in data
}

var (
	deploymentName = regexp.MustCompile(`^[0-9]{20}$`)
	databaseName   = regexp.MustCompile(`^logdb-[0-9]+$`)
	snapshotName   = regexp.MustCompile(`^snapshot-[0-9A-F]+$`) // not of a leftover
)

// readLayout finds out what is where.
func readLayout(fs vfs.FS, root string) (layout, error) {
	l := layout{root: root}
	s, ok, err := readStatus(fs, root)
	if err != nil {
		return l, err
	}
	l.hostname, l.pinned = s.Hostname, ok
	names, err := list(fs, root)
	if err != nil {
		return l, err
	}
	var deployments []string
	for _, name := range names {
		sub, err := list(fs, fs.PathJoin(root, name))
		if err != nil {
			return l, err
		}
		sub = slices.DeleteFunc(sub, func(n string) bool { return !deploymentName.MatchString(n) })
		if len(sub) == 0 {
			continue
		}
		if l.host != "" {
			return l, &Error{
				Kind: ErrSettings, Path: root, Offset: -1,
				Detail: fmt.Sprintf("there are data for two hosts, %q and %q", l.host, name),
				Remedy: "move the folder away that this member did not use last, and keep it until the member runs",
			}
		}
		l.host, deployments = name, sub
	}
	// A failed start with another deployment id leaves an empty folder of its
	// own behind; the pinned one is ours.
	did := fmt.Sprintf("%020d", s.DeploymentId)
	if !ok && len(deployments) == 1 {
		did = deployments[0] // the library makes the flag file anew
	}
	if !slices.Contains(deployments, did) {
		return l, nil
	}
	l.data = fs.PathJoin(root, l.host, did)
	all, err := list(fs, l.data)
	l.databases = slices.DeleteFunc(all, func(n string) bool { return !databaseName.MatchString(n) })
	return l, err
}

// list returns the names in dir, sorted, or nil if it is not a directory.
func list(fs vfs.FS, dir string) ([]string, error) {
	st, err := fs.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("list data directory: %w", err)
	}
	if !st.IsDir() {
		return nil, nil
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list data directory: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// snapshotPath is where the file that was recorded as old is to be found from
// the host folder called host. Only the last elements of old count: those
// before change with the host's name and the directory's place. The path is below
// the root, whatever a damaged record says.
func (l layout) snapshotPath(host, old string) string {
	const elements = 4 // snapshot-part-n, snapshot-g-m, snapshot-index, file
	parts := strings.FieldsFunc(old, func(r rune) bool { return r == '/' || r == '\\' })
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == ".." })
	parts = parts[max(0, len(parts)-elements):]
	return filepath.Join(append([]string{l.root, host, filepath.Base(l.data)}, parts...)...)
}
