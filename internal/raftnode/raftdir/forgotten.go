package raftdir

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"coord/internal/replica"
)

// discardSnapshots removes the snapshots of groups that neither the manifest nor the log
// knows: they were forgotten and removed, and the library leaves an empty directory
// behind, or a crash all of it. It is called when the log was found to have every group
// that the manifest has.
func (d *Dir) discardSnapshots(l layout, own map[replica.GroupID]*replicaLog) error {
	m := d.view()
	paths, err := filepath.Glob(filepath.Join(escapeGlob(l.data), "snapshot-part-*", fmt.Sprintf("snapshot-*-%d", m.Member)))
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	for _, path := range paths {
		number := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "snapshot-"), fmt.Sprintf("-%d", m.Member))
		group, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue // not the library's
		}
		g := replica.GroupID(group)
		if r := own[g]; m.Initialised[g] || r != nil && r.bootstrapped {
			continue
		}
		if err := d.fs.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the snapshots of group %d, which has ended: %w", g, err)
		}
	}
	return nil
}
