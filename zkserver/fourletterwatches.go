package zkserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"coord"
)

// A watchTable is who watches what, as far as it was looked at.
type watchTable struct {
	bySession map[coord.SessionID][]string
	byPath    map[string][]coord.SessionID
	total     int
	cut       bool // there are more
}

// watches returns the watches of the server's own connections. As in ZooKeeper these are
// the ones for data: watches of children are in another table, of which these words tell
// nothing.
func (s *Server) watches() *watchTable {
	t := &watchTable{bySession: map[coord.SessionID][]string{}, byPath: map[string][]coord.SessionID{}}
	left := maxWordExamined
	for _, c := range s.connections() {
		if c.watches == nil {
			continue
		}
		list := c.watches.Registrations(min(left+1, maxWordLines+1)) // a lock is held meanwhile
		if len(list) > left || len(list) > maxWordLines {
			t.cut = true
			list = list[:min(left, maxWordLines)]
		}
		left -= len(list)
		t.add(c.session, list)
	}
	return t
}

// add notes the watches of one connection, a path once whatever its types.
func (t *watchTable) add(id coord.SessionID, list []coord.Registration) {
	seen := map[string]bool{}
	for _, r := range list {
		if r.Type == coord.ChildrenWatcher || seen[r.Path] {
			continue
		}
		seen[r.Path] = true
		t.bySession[id] = append(t.bySession[id], r.Path)
		t.byPath[r.Path] = append(t.byPath[r.Path], id)
		t.total++
	}
}

func (t *watchTable) note() string {
	if !t.cut {
		return ""
	}
	return fmt.Sprintf("and more: of %d watches, and of %d on one connection, no further are counted\n", maxWordExamined, maxWordLines)
}

func (s *Server) wordWchs(*standing) string {
	t := s.watches()
	return fmt.Sprintf("%d connections watching %d paths\nTotal watches:%d\n", len(t.bySession), len(t.byPath), t.total) + t.note()
}

func (s *Server) wordWchc(*standing) string {
	t := s.watches()
	return listed(t.bySession, func(id coord.SessionID) string { return fmt.Sprintf("0x%x", uint64(id)) }, func(path string) string { return path }) + t.note() + "\n"
}

func (s *Server) wordWchp(*standing) string {
	t := s.watches()
	return listed(t.byPath, func(path string) string { return path }, func(id coord.SessionID) string { return fmt.Sprintf("0x%x", uint64(id)) }) + t.note() + "\n"
}

// listed prints a table: a line for each key, and one with a tab for each of its values.
func listed[K, V interface{ ~string | ~uint64 }](table map[K][]V, key func(K) string, value func(V) string) string {
	var b strings.Builder
	lines := 0
	for _, k := range slices.Sorted(maps.Keys(table)) {
		b.WriteString(key(k) + "\n")
		slices.Sort(table[k])
		for _, v := range table[k] {
			b.WriteString("\t" + value(v) + "\n")
		}
		if lines += 1 + len(table[k]); lines > maxWordLines {
			fmt.Fprintf(&b, "and more: a list ends after %d lines\n", maxWordLines)
			break
		}
	}
	return b.String()
}
