//go:build linux

package lan

import (
	"encoding/binary"
	"net/netip"
)

// A packet is one of IPv4, as a TUN device gives it.
type packet []byte

const (
	ipHeaderBytes = 20
	protocolTCP   = 6
)

// valid reports whether the packet is one of IPv4 that is all there.
func (p packet) valid() bool {
	return len(p) >= ipHeaderBytes && p[0]>>4 == 4 && p.headerBytes() >= ipHeaderBytes && p.headerBytes() <= len(p)
}

func (p packet) headerBytes() int { return int(p[0]&0xf) * 4 }

func (p packet) to() netip.Addr { return netip.AddrFrom4([4]byte(p[16:20])) }

// damage flips a bit of the data of a TCP segment, chosen by at, and adjusts the
// checksum, so that only the programs at the ends can notice. It reports false for a
// packet that carries no such data, and leaves it alone.
func (p packet) damage(at uint64) bool {
	const checksumAt = 16
	fragment := binary.BigEndian.Uint16(p[6:8])&0x3fff != 0
	if p[9] != protocolTCP || fragment {
		return false
	}
	segment := p[p.headerBytes():]
	if len(segment) < ipHeaderBytes {
		return false
	}
	header := int(segment[12]>>4) * 4
	if header < ipHeaderBytes || header >= len(segment) {
		return false
	}
	data := len(segment) - header
	i := header + int(at%uint64(data))
	word := i &^ 1 // checksums are sums of words of two bytes
	before := segmentWord(segment, word)
	segment[i] ^= 1 << (at / uint64(data) % 8)
	after := segmentWord(segment, word)
	// RFC 1624: HC' = ~(~HC + ~m + m').
	sum := uint32(^binary.BigEndian.Uint16(segment[checksumAt:])) + uint32(^before) + uint32(after)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(segment[checksumAt:], ^uint16(sum))
	return true
}

// segmentWord returns the word of a segment at an even offset; the last one may lack
// its second byte.
func segmentWord(segment []byte, at int) uint16 {
	if at+1 < len(segment) {
		return binary.BigEndian.Uint16(segment[at:])
	}
	return uint16(segment[at]) << 8
}
