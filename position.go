package coord

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ErrInvalidPosition is returned for a [Position] that is malformed, of another
// ensemble, or of the future.
var ErrInvalidPosition = errors.New("invalid position")

// A Position is a place in the order of changes of an ensemble: a watch can start
// from it and a read can wait for it. It is opaque; its text form can be stored
// and read back by any process. The zero Position is the beginning of time.
type Position struct {
	ensemble uint64
	groups   string // the text of the groups' parts, canonical; comparable on purpose
}

// A groupPosition is a place in one group's order: all of the changes of zxid, or
// the first events of them.
type groupPosition struct {
	group  GroupID
	zxid   ZXID
	events uint32 // allEvents: the whole write
}

const allEvents = math.MaxUint32

// before reports whether an event comes behind p.
func (p groupPosition) before(z ZXID, index uint32) bool {
	return z > p.zxid || z == p.zxid && index >= p.events
}

// ensembleMark returns what tells the Positions of one ensemble from another's.
func ensembleMark(s *state) uint64 { return uint64(s.id) }

// positionOf returns the Position of places in groups.
func positionOf(s *state, parts ...groupPosition) Position {
	return Position{ensembleMark(s), textOf(parts)}
}

// IsZero reports whether p is the beginning of time.
func (p Position) IsZero() bool { return p == Position{} }

// String returns the text form, for example "p1-af63dc4c8601ec8c-1:0x2a".
func (p Position) String() string {
	if p.IsZero() {
		return "p1-0"
	}
	return fmt.Sprintf("p1-%016x-%s", p.ensemble, p.groups)
}

// MarshalText implements [encoding.TextMarshaler].
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Position) UnmarshalText(text []byte) error {
	q, err := ParsePosition(string(text))
	if err == nil {
		*p = q
	}
	return err
}

// ParsePosition is the inverse of [Position.String].
func ParsePosition(text string) (Position, error) {
	if text == "p1-0" {
		return Position{}, nil
	}
	malformed := fmt.Errorf("coord: %w: %q is not of the form p1-ensemble-group:zxid", ErrInvalidPosition, cutText(text))
	rest, ok := strings.CutPrefix(text, "p1-")
	mark, groups, found := strings.Cut(rest, "-")
	raw, err := hex.DecodeString(mark)
	if !ok || !found || err != nil || len(raw) != 8 || strings.ToLower(mark) != mark {
		return Position{}, malformed
	}
	p := Position{groups: groups}
	for _, b := range raw {
		p.ensemble = p.ensemble<<8 | uint64(b)
	}
	if _, err := p.parts(); err != nil || p.IsZero() { // the zero Position has one text
		return Position{}, malformed
	}
	return p, nil
}

// parts decodes the groups' parts.
func (p Position) parts() (places, error) {
	if p.IsZero() {
		return nil, nil
	}
	var parts places
	for text := range strings.SplitSeq(p.groups, ",") {
		group, rest, ok := strings.Cut(text, ":")
		zxid, events, partial := strings.Cut(rest, "+")
		g, errGroup := strconv.ParseUint(group, 10, 64)
		z, errZXID := ParseZXID(zxid)
		part := groupPosition{GroupID(g), z, allEvents}
		if partial {
			n, err := strconv.ParseUint(events, 10, 32)
			if err != nil || n == allEvents {
				return nil, ErrInvalidPosition
			}
			part.events = uint32(n)
		}
		last := len(parts) - 1
		if !ok || errGroup != nil || errZXID != nil || g == 0 || last >= 0 && parts[last].group >= part.group {
			return nil, ErrInvalidPosition
		}
		parts = append(parts, part)
	}
	if canonical := textOf(parts); canonical != p.groups {
		return nil, ErrInvalidPosition
	}
	return parts, nil
}

func textOf(parts []groupPosition) string {
	if len(parts) == 1 {
		return parts[0].text()
	}
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(p.text())
	}
	return b.String()
}

func (p groupPosition) text() string {
	text := p.group.String() + ":" + p.zxid.String()
	if p.events != allEvents {
		text += "+" + strconv.FormatUint(uint64(p.events), 10)
	}
	return text
}

// placesIn returns p's places, in an ensemble whose root group has the state s.
func (p Position) placesIn(s *state) (places, error) {
	if p.IsZero() {
		return nil, nil
	}
	if mark := ensembleMark(s); p.ensemble != mark {
		return nil, fmt.Errorf("%w: %v is of another ensemble than %016x", ErrInvalidPosition, p, mark)
	}
	parts, err := p.parts()
	for _, part := range parts {
		if part.group >= s.mounts.nextGroup() {
			return nil, fmt.Errorf("%w: %v names group %v, which this ensemble never had", ErrInvalidPosition, p, part.group)
		}
	}
	return parts, err
}

// cutText shortens a text that is only quoted in a message.
func cutText(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
