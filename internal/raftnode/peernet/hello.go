package peernet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf8"

	"coord/internal/replica"
)

// protocolVersion is the version that this end speaks, and the only one that
// it admits. It counts up with any change of what follows the openings.
const protocolVersion = 1

// A Purpose is what a connection is for.
type Purpose uint8

// The purposes.
const (
	ForRaft     Purpose = iota + 1 // raft messages from the dialer
	ForSnapshot                    // the chunks of one snapshot from the dialer
	ForCall                        // one call of the dialer
)

func (p Purpose) String() string {
	switch p {
	case ForRaft:
		return "raft"
	case ForSnapshot:
		return "snapshot"
	case ForCall:
		return "call"
	}
	return fmt.Sprintf("purpose %d", uint8(p))
}

// A Hello is what each end of a connection says about itself.
type Hello struct {
	Version   uint16 // of the protocol
	Ensemble  string
	Member    replica.MemberID // who it is; 0 for one that is no member
	Directory string           // the UUID of its data directory
	Addr      string           // where it says that it can be dialled
	Purpose   Purpose          // what the dialer wants the connection for
	Wanted    replica.MemberID // whom it takes the other end for; 0 if it does not know
}

// A RefusedError says that one end of a connection does not deal with the
// other, and why.
type RefusedError struct {
	Peer   replica.MemberID // whom this end dialled, or who dialled it; 0 if it is not known which member
	ByPeer bool             // whether it is the peer that refused
	Reason string           // as the refusing end gave it
}

func (e *RefusedError) Error() string {
	switch {
	case e.Peer == 0 && e.ByPeer:
		return "peernet: the other end refuses this one: " + e.Reason
	case e.Peer == 0:
		return "peernet: refused the other end: " + e.Reason
	case e.ByPeer:
		return fmt.Sprintf("peernet: member %d refuses this member: %s", e.Peer, e.Reason)
	}
	return fmt.Sprintf("peernet: refused member %d: %s", e.Peer, e.Reason)
}

// An opening is the first thing that each end sends: a hello or a refusal. Its
// shape is the same in all versions of the protocol.
type opening struct {
	version uint16
	kind    openingKind
	body    []byte
}

type openingKind uint8

const (
	openHello   openingKind = 1
	openRefusal openingKind = 2
)

const (
	magic             = "coord/peer\n"
	openingHeadBytes  = len(magic) + 2 + 1 + 2
	maxOpeningBytes   = 4 << 10 // head, body and checksum
	maxReasonBytes    = 1 << 10
	checksumBytes     = 4
	maxOpeningPayload = maxOpeningBytes - openingHeadBytes - checksumBytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNotPeer says that what arrived is not of this protocol at all.
var errNotPeer = errors.New("what arrived is not of the protocol between members")

// encodeOpening encodes o, whose body fits by construction.
func encodeOpening(o opening) []byte {
	b := append(make([]byte, 0, openingHeadBytes+len(o.body)+checksumBytes), magic...)
	b = binary.BigEndian.AppendUint16(b, o.version)
	b = append(b, byte(o.kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.body)))
	b = append(b, o.body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readOpening reads an opening. It reads nothing beyond it.
func readOpening(r io.Reader) (opening, error) {
	buf := make([]byte, openingHeadBytes, 512)
	if _, err := io.ReadFull(r, buf); err != nil {
		return opening{}, err
	}
	if string(buf[:len(magic)]) != magic {
		return opening{}, errNotPeer
	}
	head := buf[len(magic):]
	o := opening{version: binary.BigEndian.Uint16(head), kind: openingKind(head[2])}
	size := int(binary.BigEndian.Uint16(head[3:]))
	if size > maxOpeningPayload {
		return opening{}, fmt.Errorf("an opening of %d bytes is longer than %d", size, maxOpeningPayload)
	}
	buf = append(buf, make([]byte, size+checksumBytes)...)
	if _, err := io.ReadFull(r, buf[openingHeadBytes:]); err != nil {
		return opening{}, err
	}
	sum := binary.BigEndian.Uint32(buf[openingHeadBytes+size:])
	if sum != crc32.Checksum(buf[:openingHeadBytes+size], castagnoli) {
		return opening{}, errors.New("the checksum of an opening is wrong")
	}
	o.body = buf[openingHeadBytes : openingHeadBytes+size]
	return o, nil
}

// helloOpening returns the opening that says h.
func helloOpening(h Hello) opening {
	b := []byte{byte(h.Purpose)}
	b = binary.BigEndian.AppendUint64(b, uint64(h.Member))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Wanted))
	for _, s := range []string{h.Ensemble, h.Directory, h.Addr} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return opening{version: h.Version, kind: openHello, body: b}
}

// parseHello undoes helloOpening. It accepts nothing that helloOpening would
// not have made of a valid Config. What follows in the body is for later
// versions and an error in this one.
func parseHello(o opening) (Hello, error) {
	h := Hello{Version: o.version}
	b := o.body
	if len(b) < 1+8+8 {
		return Hello{}, fmt.Errorf("a hello of %d bytes is too short", len(b))
	}
	h.Purpose = Purpose(b[0])
	h.Member = replica.MemberID(binary.BigEndian.Uint64(b[1:]))
	h.Wanted = replica.MemberID(binary.BigEndian.Uint64(b[9:]))
	b = b[17:]
	for _, s := range []*string{&h.Ensemble, &h.Directory, &h.Addr} {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return Hello{}, errors.New("a hello ends in the middle")
		}
		n := int(binary.BigEndian.Uint16(b))
		*s, b = string(b[2:2+n]), b[2+n:]
	}
	switch {
	case len(b) > 0:
		return Hello{}, fmt.Errorf("a hello has %d bytes too many", len(b))
	case h.Purpose < ForRaft || h.Purpose > ForCall:
		return Hello{}, fmt.Errorf("a connection for an unknown purpose, %d", h.Purpose)
	case (h.Member == 0 || h.Wanted == 0) && h.Purpose != ForCall:
		return Hello{}, fmt.Errorf("a hello names member 0, for %v", h.Purpose)
	case h.Ensemble == "" || len(h.Ensemble) > maxEnsembleBytes || !utf8.ValidString(h.Ensemble):
		return Hello{}, fmt.Errorf("ensemble %q is not 1 to %d bytes of UTF-8", h.Ensemble, maxEnsembleBytes)
	case !canonicalUUID(h.Directory):
		return Hello{}, fmt.Errorf("directory %q is no UUID", h.Directory)
	case ValidAddress(h.Addr) != nil:
		return Hello{}, fmt.Errorf("address %q is not host:port", h.Addr)
	}
	return h, nil
}

// refusalOpening returns the opening that refuses with reason.
func refusalOpening(reason string) opening {
	return opening{version: protocolVersion, kind: openRefusal, body: []byte(cleanReason(reason))}
}

// cleanReason makes text fit for a refusal and, after it came over the network,
// for a log: valid UTF-8 on one line, of bounded length.
func cleanReason(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= maxReasonBytes {
		return text
	}
	cut := maxReasonBytes
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}
