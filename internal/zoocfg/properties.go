package zoocfg

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A property is one setting of a file, with the line on which it begins.
type property struct {
	key, value string
	line       int
}

// maxFileBytes bounds the files that are read. Real ones have a few hundred bytes.
const maxFileBytes = 1 << 20

// parseProperties reads the format of java.util.Properties: one setting a line,
// key and value separated by '=', ':' or white space; comments begin with '#' or '!';
// a backslash at the end of a line continues it, any other escapes a character.
// Java takes the bytes for Latin-1 and mangles names of other scripts; they are UTF-8 here.
func parseProperties(name string, data []byte) ([]property, error) {
	if len(data) > maxFileBytes {
		return nil, &Error{File: name, Reason: fmt.Sprintf("has %d bytes, the limit is %d", len(data), maxFileBytes)}
	}
	var list []property
	for rest, line := string(data), 1; rest != ""; {
		text, after, lines := logicalLine(rest)
		at := line
		rest, line = after, line+lines
		if text == "" {
			continue
		}
		if !utf8.ValidString(text) {
			return nil, &Error{File: name, Line: at, Reason: "is not UTF-8"}
		}
		key, value := splitProperty(text)
		p := property{line: at}
		var err error
		if p.key, err = unescape(key); err == nil {
			p.value, err = unescape(value)
		}
		if err != nil {
			return nil, &Error{File: name, Line: at, Reason: err.Error()}
		}
		// The server trims both, so white space that was escaped counts no more.
		p.key, p.value = strings.TrimSpace(p.key), strings.TrimSpace(p.value)
		list = append(list, p)
	}
	return list, nil
}

const blanks = " \t\f"

// logicalLine returns the first setting of text with its continuation lines joined,
// empty for a comment or a blank line; what comes behind it; and how many lines it took.
func logicalLine(text string) (joined, rest string, lines int) {
	var b strings.Builder
	for rest = text; ; {
		var natural string
		natural, rest = cutLine(rest)
		natural = strings.TrimLeft(natural, blanks)
		lines++
		if lines == 1 && (natural == "" || natural[0] == '#' || natural[0] == '!') {
			return "", rest, lines
		}
		if !continues(natural) {
			b.WriteString(natural)
			return b.String(), rest, lines
		}
		b.WriteString(natural[:len(natural)-1])
		if rest == "" {
			return b.String(), rest, lines
		}
	}
}

// cutLine cuts text behind its first line, which ends with \n, \r or both.
func cutLine(text string) (line, rest string) {
	i := strings.IndexAny(text, "\r\n")
	if i < 0 {
		return text, ""
	}
	line, rest = text[:i], text[i+1:]
	if text[i] == '\r' {
		rest = strings.TrimPrefix(rest, "\n")
	}
	return line, rest
}

// continues reports whether a line ends with a backslash that is not itself escaped.
func continues(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// splitProperty cuts a line at the first separator that is not escaped.
func splitProperty(line string) (key, value string) {
	end, escaped := len(line), false
	for i := range len(line) {
		if !escaped && strings.IndexByte("=:"+blanks, line[i]) >= 0 {
			end = i
			break
		}
		escaped = !escaped && line[i] == '\\'
	}
	key, value = line[:end], strings.TrimLeft(line[end:], blanks)
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], blanks)
	}
	return key, value
}

// unescape replaces \t, \n, \r, \f and \uXXXX by what they stand for; any other
// character stands for itself behind a backslash.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	named := map[byte]byte{'t': '\t', 'n': '\n', 'r': '\r', 'f': '\f'}
	var b strings.Builder
	var units []uint16 // of \uXXXX in a row: two may be one character
	flush := func() {
		b.WriteString(string(utf16.Decode(units)))
		units = nil
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			flush()
			b.WriteByte(s[i])
			continue
		}
		i++
		if s[i] == 'u' {
			digits := s[i+1 : min(i+5, len(s))]
			unit, err := strconv.ParseUint(digits, 16, 16)
			if err != nil || len(digits) != 4 {
				return "", fmt.Errorf(`\u%s is not \u and four hexadecimal digits`, short(strings.ToValidUTF8(digits, "…")))
			}
			units = append(units, uint16(unit))
			i += 4
			continue
		}
		flush()
		if c, ok := named[s[i]]; ok {
			b.WriteByte(c)
		} else {
			b.WriteByte(s[i])
		}
	}
	flush()
	return b.String(), nil
}
