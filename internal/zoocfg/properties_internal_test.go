package zoocfg

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestProperties has the rules of java.util.Properties.load, each with a line that only
// it explains.
func TestProperties(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"equals sign", "a=b", "1:a=b"},
		{"colon", "a:b", "1:a=b"},
		{"white space", "a \t b c ", "1:a=b c"},
		{"space around the separator", "  a  =  b=c", "1:a=b=c"},
		{"no value", "a\nb=\nc =", "1:a= 2:b= 3:c="},
		{"no key", "=b", "1:=b"},
		{"comments and blank lines", "# a=1\n\n  ! b=2\n \t\f\nc=3", "5:c=3"},
		{"a comment cannot be continued", "# a \\\nb=1", "2:b=1"},
		{"a sign of a comment inside", "a=b#c", "1:a=b#c"},
		{"continued", "a=b,\\\n    c\nd=e", "1:a=b,c 3:d=e"},
		{"a comment sign in a continuation", "a=b\\\n#c", "1:a=b#c"},
		{"continued over a blank line", "a=b\\\n\nc=d", "1:a=b 3:c=d"},
		{"continued key", "a\\\n  b=c", "1:ab=c"},
		{"continued at the end", "a=b\\", "1:a=b"},
		{"two backslashes continue nothing", `a=b\\` + "\nc=d", `1:a=b\ 2:c=d`},
		{"three do", `a=b\\\` + "\nc=d", `1:a=b\c=d`},
		{"escaped separators", `a\=b\:c\ d=e`, "1:a=b:c d=e"},
		{"escaped characters", `a=\ttab\nline\zz\"`, "1:a=tab\nlinezz\""},
		{"unicode", `a=\u00e9\u65E5`, "1:a=é日"},
		{"a pair of surrogates", `a=\ud83d\ude00`, "1:a=😀"},
		{"half a pair", `a=\ud83dx`, "1:a=\ufffdx"},
		{"line ends of three kinds", "a=1\r\nb=2\rc=3\n\rd=4", "1:a=1 2:b=2 3:c=3 5:d=4"},
		{"continued by both line ends", "a=1\\\r\n2\r\nb=3", "1:a=12 3:b=3"},
		{"a backslash of Windows", `dataDir=C:\\zk\data`, `1:dataDir=C:\zkdata`},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, err := parseProperties("f", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range list {
				got = append(got, fmt.Sprintf("%d:%s=%s", p.line, p.key, p.value))
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("%q is %q, want %q", tt.text, text, tt.want)
			}
		})
	}
}

func TestPropertiesRefused(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"cut escape", `a=\u00e`, `f:1: \u00e is not \u and four hexadecimal digits`},
		{"no digits", "ok=1\n" + `a\u00zz=1`, `f:2: \u00zz is not \u and four hexadecimal digits`},
		{"a sign is no digit", `a=\u+123`, `f:1: \u+123 is not \u and four hexadecimal digits`},
		{"not UTF-8", "a=b\n\na=\xff", "f:3: is not UTF-8"},
		{"too long", strings.Repeat("#\n", maxFileBytes/2+1), "f: has 1048578 bytes, the limit is 1048576"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseProperties("f", []byte(tt.text)); err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

// FuzzProperties checks that whatever can be read can be written as plain lines that
// are read as the same.
func FuzzProperties(f *testing.F) {
	for _, seed := range []string{"a=b", "a\\\n b:c", `a\u0041=\\`, "# c\r\n!d\n=x", "k \\= v"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseProperties("f", data)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, p := range list {
			again.WriteString(escaped(p.key) + "=" + escaped(p.value) + "\n")
		}
		second, err := parseProperties("f", []byte(again.String()))
		if err != nil {
			t.Fatalf("%q: %v", again.String(), err)
		}
		if same := slices.EqualFunc(list, second, func(a, b property) bool { return a.key == b.key && a.value == b.value }); !same {
			t.Fatalf("%q is %+v, written as %q it is %+v", data, list, again.String(), second)
		}
	})
}

// escaped writes text so that no character of it has a meaning.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9') || r > 0xffff {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	return b.String()
}
