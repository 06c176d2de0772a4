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

// positionOf returns the Position of a place in one group.
func positionOf(s *state, p groupPosition) Position {
	text := p.group.String() + ":" + p.zxid.String()
	if p.events != allEvents {
		text += "+" + strconv.FormatUint(uint64(p.events), 10)
	}
	return Position{ensembleMark(s), text}
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
func (p Position) parts() ([]groupPosition, error) {
	if p.IsZero() {
		return nil, nil
	}
	var parts []groupPosition
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
	var texts []string
	for _, p := range parts {
		text := p.group.String() + ":" + p.zxid.String()
		if p.events != allEvents {
			text += "+" + strconv.FormatUint(uint64(p.events), 10)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ",")
}

// in returns p's place in a group. A Position that does not name the group is the
// beginning of time there.
func (p Position) in(s *state) (groupPosition, error) {
	if p.IsZero() {
		return groupPosition{group: s.group}, nil
	}
	if mark := ensembleMark(s); p.ensemble != mark {
		return groupPosition{}, fmt.Errorf("%w: %v is of another ensemble than %016x", ErrInvalidPosition, p, mark)
	}
	parts, err := p.parts()
	if err != nil {
		return groupPosition{}, err
	}
	for _, part := range parts {
		if part.group == s.group {
			return part, nil
		}
	}
	return groupPosition{group: s.group}, nil
}

// only refuses a Position that names another group than g: this ensemble has none.
func (p Position) only(g GroupID) error {
	parts, err := p.parts()
	for _, part := range parts {
		if part.group != g {
			return fmt.Errorf("%w: %v names group %v, which this ensemble does not have", ErrInvalidPosition, p, part.group)
		}
	}
	return err
}

// cutText shortens a text that is only quoted in a message.
func cutText(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
