package coord

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"
)

// TestCertificateID compares with what OpenJDK 17 answers to
// X500Principal.getName("RFC2253"), which is what ZooKeeper compares.
func TestCertificateID(t *testing.T) {
	for _, c := range []struct{ what, subject, want string }{
		{"ordinary", "3041310b300906035504061302444531163014060355040a0c0d4578616d706c652c20496e632e311a301806035504030c117765622d312e6578616d706c652e6f7267", `CN=web-1.example.org,O=Example\, Inc.,C=DE`},
		{"the certificate's order", "3019310a300806035504030c0161310b3009060355040613024445", "C=DE,CN=a"},
		{"a set of two", "301d311b300806035504030c0161300f060a0992268993f22c6401010c0162", "CN=a+UID=b"},
		{"a type without a name", "303a31133011060a0992268993f22c64011916036f726731173015060a0992268993f22c64011916076578616d706c65310a30080603550405130137", "2.5.4.5=#130137,DC=example,DC=org"},
		{"special characters", "301b3119301706035504030c102023613d6220226322203c643e3b5c20", `CN=\ \#a\=b \"c\" \<d\>\;\\\ `},
		{"NUL", "3010310e300c06035504030c05c3a900c3bc", `CN=é\00ü`},
		{"text of two bytes a character", "300d310b300906035504031e020061", `CN=\00a`},
		{"teletex", "300e310c300a06035504031403743631", "CN=t61"},
		{"no text", "3011310f300d060355040304066f6374657473", "CN=#04066f6374657473"},
		{"blanks", "301a310b3009060355040813024259310b300906035504090c022020", `STREET=\ \ ,ST=BY`},
		{"empty value", "300b3109300706035504030c00", "CN="},
		{"empty subject", "3000", ""},
		{"not UTF-8, other than Java", "300c310a300806035504030c01ff", "CN=#0c01ff"},
		{"not a name", "0102", "#0102"},
	} {
		der, err := hex.DecodeString(c.subject)
		if err != nil {
			t.Fatal(err)
		}
		id := CertificateID(&x509.Certificate{RawSubject: der})
		if id != (ID{"x509", c.want}) {
			t.Errorf("%s: %s, want %s", c.what, id.ID, c.want)
		}
		if valid := new(settings).validACLID(id); valid != strings.Contains(c.want, "=") {
			t.Errorf("%s: can stand in an ACL: %v", c.what, valid)
		}
	}
}

// FuzzSubject sees that the values of a subject can be told from its text: else whoever
// has a certificate of one could be taken for another.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"", "a", "a,O=b", "a+UID=b", `\`, `a\`, " a ", "#", "\x00", "\xff", "é"} {
		f.Add(s, "x")
		f.Add("x", s)
	}
	f.Fuzz(func(t *testing.T, cn, o string) {
		var der []byte
		for i, value := range []string{cn, o} {
			set, err := asn1.MarshalWithParams([]subjectAttribute{{asn1.ObjectIdentifier{2, 5, 4, 10 - 7*i}, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(value)}}}, "set")
			if err != nil {
				t.Fatal(err)
			}
			der = append(der, set...)
		}
		der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: der})
		if err != nil {
			t.Fatal(err)
		}
		text := subjectOf(der)
		first, rest, _ := cutAttribute(text)
		second, _, more := cutAttribute(rest)
		if got := []string{valueOf(t, first, "CN="), valueOf(t, second, "O=")}; more || got[0] != o || got[1] != cn {
			t.Fatalf("CN %q and O %q are %q, which reads as %q", o, cn, text, got)
		}
	})
}

// valueOf reads the value of an attribute.
func valueOf(t *testing.T, attribute, kind string) string {
	value, ok := strings.CutPrefix(attribute, kind)
	if !ok {
		t.Fatalf("%q is not of type %s", attribute, kind)
	}
	if digits, ok := strings.CutPrefix(value, "#"); ok {
		der, err := hex.DecodeString(digits)
		var raw asn1.RawValue
		if _, bad := asn1.Unmarshal(der, &raw); err != nil || bad != nil {
			t.Fatalf("%q: %v, %v", attribute, err, bad)
		}
		return string(raw.Bytes)
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] == '\\' && strings.HasPrefix(value[i:], `\00`) {
			b.WriteByte(0)
			i += 2
			continue
		}
		if value[i] == '\\' {
			i++
		}
		b.WriteByte(value[i])
	}
	return b.String()
}
