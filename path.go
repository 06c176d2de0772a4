package coord

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxPathBytes bounds a path. ZooKeeper's only bound is the size of a request;
// ours keeps keys, events and listings small.
const maxPathBytes = 4096

// ValidPath reports whether path is the absolute path of a znode: it starts
// with a slash, does not end with one (but for the root, "/"), has no empty
// component and none that is "." or "..", is UTF-8 without control characters,
// private-use characters, U+FFF0 to U+FFFF or anything above U+FFFF, and has at
// most 4096 bytes. These are ZooKeeper's rules (its PathUtils), which the
// ensemble applies to every path that it stores.
func ValidPath(path string) bool { return pathFault(path) == "" }

// pathFault says what is wrong with path, or nothing.
func pathFault(path string) string {
	switch {
	case path == "":
		return "it is empty"
	case path[0] != '/':
		return "it does not start with a slash"
	case path == "/":
		return ""
	case len(path) > maxPathBytes:
		return "it has " + strconv.Itoa(len(path)) + " bytes, the limit is " + strconv.Itoa(maxPathBytes)
	case path[len(path)-1] == '/':
		return "it ends with a slash"
	}
	start := 1
	for i := 1; i < len(path); {
		c := path[i]
		if c == '/' {
			if fault := componentFault(path[start:i]); fault != "" {
				return fault
			}
			i++
			start = i
			continue
		}
		if c >= 0x20 && c < 0x7f {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(path[i:])
		if fault := runeFault(r, size); fault != "" {
			return fault
		}
		i += size
	}
	return componentFault(path[start:])
}

func componentFault(name string) string {
	switch name {
	case "":
		return "it has an empty component"
	case ".", "..":
		return "it has the relative component " + strconv.Quote(name)
	}
	return ""
}

// runeFault applies the character rules of ZooKeeper's PathUtils, which works
// on UTF-16 code units: whatever needs a surrogate is out, and U+FFFD with it,
// so that no badly encoded path can slip in as replacement characters.
func runeFault(r rune, size int) string {
	switch {
	case r == utf8.RuneError && size <= 1:
		return "it is not valid UTF-8"
	case r <= 0x1f, r >= 0x7f && r <= 0x9f:
		return "it has the control character " + strconv.QuoteRuneToASCII(r)
	case r >= 0xd800 && r <= 0xf8ff, r >= 0xfff0:
		return "it has the character " + strconv.QuoteRuneToASCII(r) + ", which paths must not have"
	}
	return ""
}

// quotePath returns path for use in a message: as it is when it is valid,
// quoted and cut when it is not.
func quotePath(path string) string {
	const most = 256
	if ValidPath(path) && len(path) <= most {
		return path
	}
	if len(path) > most {
		return strconv.QuoteToASCII(path[:most]) + "…"
	}
	return strconv.QuoteToASCII(path)
}

// parentPath returns the part of path before its last slash, with "/" for the
// children of the root. path must contain a slash.
func parentPath(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/"
	}
	return path[:i]
}

// joinPath returns the path of the child name of parent.
func joinPath(parent, name string) string {
	if parent == pathRoot {
		return "/" + name
	}
	return parent + "/" + name
}

// A treeKey is a path in the form that sorts as the tree needs it: every slash
// is the byte 1 but the last, which is the byte 0; the root is the empty key.
//
//	/            ""
//	/a           "\x00a"
//	/a/b         "\x01a\x00b"
//	/a/b/c       "\x01a\x01b\x00c"
//
// So the children of a znode are contiguous (they share everything up to the
// byte 0), the strict descendants of a znode are one range (they share the path
// of the znode, written with 1s, followed by 0 or 1), and two keys compare as
// plain strings. No path can contain the bytes 0 and 1 itself.
type treeKey string

const (
	keyStep = '\x01' // a slash that is not the last
	keyName = '\x00' // the last slash
)

// keyOf returns the key of path, and false if no znode can have that path.
func keyOf(path string) (treeKey, bool) {
	if path == "/" {
		return "", true
	}
	if path == "" || path[0] != '/' || len(path) > maxPathBytes {
		return "", false
	}
	var b strings.Builder
	b.Grow(len(path))
	last := strings.LastIndexByte(path, '/')
	for i := range len(path) {
		switch c := path[i]; {
		case i == last:
			b.WriteByte(keyName)
		case c == '/':
			b.WriteByte(keyStep)
		case c < 0x20:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return treeKey(b.String()), true
}

// path is the inverse of keyOf.
func (k treeKey) path() string {
	if k == "" {
		return "/"
	}
	b := []byte(k)
	for i, c := range b {
		if c < 0x20 {
			b[i] = '/'
		}
	}
	return string(b)
}

// parent returns the key of the parent. The root has none.
func (k treeKey) parent() treeKey {
	i := strings.IndexByte(string(k), keyName)
	if i <= 0 {
		return ""
	}
	j := strings.LastIndexByte(string(k[:i]), keyStep)
	return k[:j] + treeKey(keyName) + k[j+1:i]
}

// childPrefix returns what the keys of all children of k start with.
func (k treeKey) childPrefix() treeKey {
	if k == "" {
		return treeKey([]byte{keyName})
	}
	b := append([]byte(k), keyName)
	for i := range len(k) {
		if b[i] == keyName {
			b[i] = keyStep
		}
	}
	return treeKey(b)
}

// subtree returns the half-open range of the keys of all strict descendants.
func (k treeKey) subtree() (from, to treeKey) {
	p := k.childPrefix()
	return p, p[:len(p)-1] + treeKey([]byte{keyStep + 1})
}
