package zoocfg

import (
	"fmt"
	"strings"
	"unicode"
)

// An Error is one fault of a configuration.
type Error struct {
	File   string
	Line   int    // 0 stands for the whole file
	Key    string // empty if it is not about a key
	Value  string // masked if the key's values are secret
	Reason string // what is wrong, with the limit if there is one
}

// Error returns for example
// "zoo.cfg:3: tickTime=0: want a number of milliseconds from 1 to 2147483647".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(short(e.Key) + "=" + short(e.Value) + ": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// short quotes text that would not print in a line of its own.
func short(s string) string {
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// A Note tells of a setting that is passed: it changes nothing here, and why.
type Note struct {
	File   string
	Line   int
	Key    string
	Reason string
}
