//go:build linux

package lan

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// tcp returns a packet with a segment of n bytes of data and a true checksum.
func tcp(n int) packet {
	p := make(packet, ipHeaderBytes+20+n)
	p[0], p[9], p[ipHeaderBytes+12] = 0x45, protocolTCP, 5<<4
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], []byte{10, 77, 0, 1, 10, 77, 0, 2})
	for i := range n {
		p[ipHeaderBytes+20+i] = byte(i * 31)
	}
	binary.BigEndian.PutUint16(p[ipHeaderBytes+16:], ^sum(p))
	return p
}

// sum returns the sum that the checksum of a segment is the complement of; with a
// true checksum in it, it is all ones (RFC 9293 §3.1).
func sum(p packet) uint16 {
	segment := p[ipHeaderBytes:]
	pseudo := append(append([]byte(nil), p[12:20]...), 0, protocolTCP, byte(len(segment)>>8), byte(len(segment)))
	total := uint32(0)
	for _, part := range [][]byte{pseudo, segment} {
		for i := 0; i < len(part); i += 2 {
			total += uint32(segmentWord(part, i))
		}
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

func TestDamageIsHidden(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		whole := tcp(1 + dice.IntN(50))
		if sum(whole) != 0xffff {
			t.Fatal("the harness makes wrong checksums")
		}
		p := bytes.Clone(whole)
		if !packet(p).damage(dice.Uint64()) {
			t.Fatal("not damaged")
		}
		const data = ipHeaderBytes + 20
		apart := 0
		for i := range p[data:] {
			apart += int(popcount(p[data+i] ^ whole[data+i]))
		}
		if apart != 1 || !bytes.Equal(p[:ipHeaderBytes+16], whole[:ipHeaderBytes+16]) {
			t.Fatalf("%d bits are flipped", apart)
		}
		if sum(p) != 0xffff {
			t.Fatalf("the checksum of %x shows the damage", p)
		}
	}
}

func popcount(b byte) (n uint8) {
	for ; b != 0; b &= b - 1 {
		n++
	}
	return n
}

func TestDamageSparesWhatIsNoData(t *testing.T) {
	udp, fragment, empty, short := tcp(10), tcp(10), tcp(0), tcp(10)
	udp[9] = 17
	fragment[7] = 8
	short[ipHeaderBytes+12] = 15 << 4
	for name, p := range map[string]packet{"UDP": udp, "a fragment": fragment, "no data": empty, "a header that is too long": short, "half a header": tcp(0)[:30]} {
		before := bytes.Clone(p)
		if p.damage(7) || !bytes.Equal(p, before) {
			t.Errorf("%s was damaged", name)
		}
	}
	for _, p := range []packet{nil, tcp(1)[:19], append(packet{0x60}, tcp(1)[1:]...), append(packet{0x4f}, tcp(0)[1:]...)} {
		if p.valid() {
			t.Errorf("%x is valid", []byte(p))
		}
	}
}

func TestFate(t *testing.T) {
	share := func(w Weather, is func(fate) bool) float64 {
		dice, n := rand.New(rand.NewPCG(3, 4)), 0
		for range 20_000 {
			if is(w.fateOf(dice, 1000, time.Second)) {
				n++
			}
		}
		return float64(n) / 20_000
	}
	for name, c := range map[string]struct {
		weather     Weather
		is          func(fate) bool
		least, most float64
	}{
		"fine":   {Weather{}, func(f fate) bool { return f == fate{copies: 1} }, 1, 1},
		"cut":    {Weather{Cut: true}, func(f fate) bool { return f.copies == 0 }, 1, 1},
		"loss":   {Weather{Loss: 0.2}, func(f fate) bool { return f.copies == 0 }, 0.18, 0.22},
		"twice":  {Weather{Duplicate: 0.3}, func(f fate) bool { return f.copies == 2 }, 0.28, 0.32},
		"damage": {Weather{Damage: 0.1}, func(f fate) bool { return f.damage }, 0.08, 0.12},
		"delay":  {Weather{Delay: 5, Jitter: 10}, func(f fate) bool { return f.late >= 5 && f.late < 15 }, 1, 1},
		"jitter": {Weather{Jitter: 10}, func(f fate) bool { return f.late < 5 }, 0.48, 0.52},
		"rate":   {Weather{Rate: 1000}, func(f fate) bool { return f.late == 2*time.Second }, 1, 1},
	} {
		if got := share(c.weather, c.is); got < c.least || got > c.most {
			t.Errorf("%s: %v of the packets, want %v to %v", name, got, c.least, c.most)
		}
		if err := c.weather.validate(); err != nil {
			t.Error(err)
		}
	}
	for _, w := range []Weather{{Loss: 1.1}, {Duplicate: -0.1}, {Damage: 2}, {Delay: -1}, {Jitter: -1}, {Rate: -1}} {
		if w.validate() == nil {
			t.Errorf("%+v is accepted", w)
		}
	}
	if got := (Weather{Delay: time.Second, Loss: 0.5}).String(); got != "delay 1s+0s loss 0.500" {
		t.Errorf("String = %q", got)
	}
}
