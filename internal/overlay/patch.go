package overlay

import (
	"fmt"
	"strings"
)

// A Patch changes files below one root.
type Patch struct {
	Name   string
	About  string            // the comment at its top, without "#"
	Fields map[string]string // the fields at its top
	Edits  []Edit            // in the order of the text
}

// An Edit replaces lines of one file.
type Edit struct {
	File     string // its path below the root, with slashes
	Old, New string // lines, each with its end
}

// Parse reads a patch. The name is only for messages.
func Parse(name string, text []byte) (Patch, error) {
	p := Patch{Name: name, Fields: map[string]string{}}
	file, inEdit := "", false
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		wrong := func(what string) (Patch, error) {
			return Patch{}, fmt.Errorf("overlay: %s:%d: %s: %q", name, i+1, what, line)
		}
		switch {
		case strings.HasPrefix(line, "--- "):
			file, inEdit = strings.TrimPrefix(line, "--- "), false
		case line == "@@":
			if file == "" {
				return wrong("an edit of no file")
			}
			p.Edits, inEdit = append(p.Edits, Edit{File: file}), true
		case line == "":
			inEdit = false
		case inEdit:
			if !p.Edits[len(p.Edits)-1].add(line) {
				return wrong("a line of an edit begins with a space, - or +")
			}
		case strings.HasPrefix(line, "#") && file != "": // a comment on what follows
		case file != "":
			return wrong("what follows a file's name is @@")
		case strings.HasPrefix(line, "#"):
			p.About += strings.TrimPrefix(strings.TrimPrefix(line, "#"), " ") + "\n"
		default:
			key, value, ok := strings.Cut(line, ": ")
			if !ok {
				return wrong("not a comment, a field or a file")
			}
			p.Fields[key] = value
		}
	}
	for _, e := range p.Edits {
		if e.Old == "" {
			return Patch{}, fmt.Errorf("overlay: %s: an edit of %s does not say where", name, e.File)
		}
		if e.Old == e.New {
			return Patch{}, fmt.Errorf("overlay: %s: an edit of %s changes nothing", name, e.File)
		}
	}
	if len(p.Edits) == 0 {
		return Patch{}, fmt.Errorf("overlay: %s changes nothing", name)
	}
	return p, nil
}

// add takes one line of the edit's text.
func (e *Edit) add(line string) bool {
	rest := line[1:] + "\n"
	switch line[0] {
	case ' ':
		e.Old += rest
		e.New += rest
	case '-':
		e.Old += rest
	case '+':
		e.New += rest
	default:
		return false
	}
	return true
}

// apply returns the text of the edit's file with the edit made.
func (e *Edit) apply(text string) (string, error) {
	found, at := 0, 0
	for from := 0; from < len(text); from++ {
		i := strings.Index(text[from:], e.Old)
		if i < 0 {
			break
		}
		if from += i; from == 0 || text[from-1] == '\n' { // whole lines only
			found, at = found+1, from
		}
	}
	if found != 1 {
		return "", fmt.Errorf("%s has these lines %d times, not once:\n%s", e.File, found, e.Old)
	}
	return text[:at] + e.New + text[at+len(e.Old):], nil
}
