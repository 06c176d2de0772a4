package coord

import "strings"

// validDistinguishedName reports whether name is a distinguished name as RFC 2253
// writes it: attributes "type=value", separated by commas or plus signs, with
// special characters escaped by a backslash. Only the form is checked; two names
// are the same if their texts are.
func validDistinguishedName(name string) bool {
	for {
		attribute, rest, more := cutAttribute(name)
		kind, value, ok := strings.Cut(attribute, "=")
		if !ok || !validAttributeType(strings.TrimLeft(kind, " ")) || !validAttributeValue(value) {
			return false
		}
		if !more {
			return true
		}
		name = rest
	}
}

// cutAttribute returns what comes before the first separator that is not escaped,
// and what comes behind it.
func cutAttribute(name string) (attribute, rest string, more bool) {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case ',', '+':
			return name[:i], name[i+1:], true
		}
	}
	return name, "", false
}

// validAttributeType accepts a keyword, such as CN, and an object identifier in
// dotted form.
func validAttributeType(s string) bool {
	if s == "" {
		return false
	}
	letter := func(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	for i := range len(s) {
		c := s[i]
		if letter(s[0]) && (letter(c) || digit(c) || c == '-') || digit(s[0]) && (digit(c) || c == '.') {
			continue
		}
		return false
	}
	return s[len(s)-1] != '.'
}

// validAttributeValue accepts text whose special characters are escaped, each by a
// backslash before itself or before its code in two hexadecimal digits.
func validAttributeValue(s string) bool {
	const special = `,=+<>#;"\ `
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			switch {
			case i+1 < len(s) && strings.IndexByte(special, s[i+1]) >= 0:
				i++
			case i+2 < len(s) && hexDigit(s[i+1]) && hexDigit(s[i+2]):
				i += 2
			default:
				return false
			}
		case c < ' ' || c == 0x7f || strings.IndexByte(`"<>;`, c) >= 0:
			return false
		}
	}
	return true
}

func hexDigit(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }
