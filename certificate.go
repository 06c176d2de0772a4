package coord

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"
)

// CertificateID returns the identity of whoever has shown a client certificate that
// was verified: x509 and its subject, as RFC 2253 and Java's
// X500Principal.getName("RFC2253") write it, which is what ZooKeeper compares. So the
// attributes have the certificate's order, reversed, only CN, C, L, ST, O, OU, STREET,
// DC and UID go by their names, and those of one set are joined by a plus sign. The
// only difference is that text which is not UTF-8 is written as a number, and not with
// replacement characters that would make one of two subjects.
func CertificateID(cert *x509.Certificate) ID { return ID{schemeX509, subjectOf(cert.RawSubject)} }

// A subjectAttribute is one attribute of a subject.
type subjectAttribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// A subjectSet is what one step of a subject consists of, most often one attribute.
type subjectSet []subjectAttribute

// subjectKeywords are the types that RFC 2253 has names for.
var subjectKeywords = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// subjectOf returns the text of a subject. What cannot be read, which no certificate
// has that was parsed, becomes a number that no ACL can name.
func subjectOf(der []byte) string {
	var encoded []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &encoded); err != nil || len(rest) > 0 {
		return "#" + hex.EncodeToString(der)
	}
	steps := make([]string, len(encoded))
	for i, raw := range encoded {
		var set subjectSet
		if rest, err := asn1.UnmarshalWithParams(raw.FullBytes, &set, "set"); err != nil || len(rest) > 0 {
			return "#" + hex.EncodeToString(der)
		}
		texts := make([]string, len(set))
		for j, a := range set {
			texts[j] = a.text()
		}
		steps[i] = strings.Join(texts, "+")
	}
	slices.Reverse(steps)
	return strings.Join(steps, ",")
}

// text returns an attribute as "type=value".
func (a *subjectAttribute) text() string {
	oid := a.Type.String()
	keyword, known := subjectKeywords[oid]
	if !known || !a.isText() {
		if !known {
			keyword = oid
		}
		return keyword + "=#" + hex.EncodeToString(a.Value.FullBytes)
	}
	return keyword + "=" + escapeAttributeValue(string(a.Value.Bytes))
}

// isText reports whether the value is of a type that holds text.
func (a *subjectAttribute) isText() bool {
	switch a.Value.Tag {
	case asn1.TagPrintableString, asn1.TagT61String, asn1.TagIA5String, asn1.TagGeneralString, asn1.TagBMPString, asn1.TagUTF8String:
		return a.Value.Class == asn1.ClassUniversal && utf8.Valid(a.Value.Bytes)
	}
	return false
}

// escapeAttributeValue escapes what has a meaning in a distinguished name.
func escapeAttributeValue(value string) string {
	const blank = " \r"
	lead := len(value) - len(strings.TrimLeft(value, blank))
	trail := len(strings.TrimRight(value, blank))
	var b strings.Builder
	for i := range len(value) {
		switch c := value[i]; {
		case c == 0:
			b.WriteString(`\00`)
		case strings.IndexByte(`,=+<>#;"\`, c) >= 0 || i < lead || i >= trail:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
