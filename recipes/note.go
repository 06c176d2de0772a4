package recipes

import (
	"bytes"
	"slices"
)

// A note is the data of a contender's znode: the value that it was given, behind what
// was said of it since.
type note struct {
	shared  bool // it holds together with others, though its name says that it is alone
	revoked bool // somebody has asked it to release
	value   []byte
}

// The marks in front of a value. That of a revocation is Curator's.
const (
	sharedMark = "__SHARED__"
	revokeMark = "__REVOKE__"
)

func parseNote(data []byte) note {
	var n note
	data, n.shared = cutMark(data, sharedMark)
	data, n.revoked = cutMark(data, revokeMark)
	n.value = data
	return n
}

func cutMark(data []byte, mark string) ([]byte, bool) {
	return bytes.CutPrefix(data, []byte(mark))
}

// data returns the note as it is written. A value that looks like a mark is not
// writable, see isNote.
func (n note) data() []byte {
	var marks string
	if n.shared {
		marks += sharedMark
	}
	if n.revoked {
		marks += revokeMark
	}
	if marks == "" {
		return n.value
	}
	return slices.Concat([]byte(marks), n.value)
}

// isNote reports whether a value looks like one behind a mark.
func isNote(value []byte) bool {
	n := parseNote(value)
	return n.shared || n.revoked
}
