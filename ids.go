package coord

import (
	"fmt"
	"strconv"
	"strings"
)

// A ZXID is a place in one group's order of writes. It grows by one for each
// client request that reaches the log, also for one that fails.
type ZXID uint64

// String returns for example "0x2a".
func (z ZXID) String() string { return "0x" + strconv.FormatUint(uint64(z), 16) }

// ParseZXID is the inverse of [ZXID.String].
func ParseZXID(s string) (ZXID, error) {
	n, err := parseHex("zxid", s)
	return ZXID(n), err
}

// A SessionID names a session of an ensemble. It is never zero and never used
// again.
type SessionID uint64

// String returns for example "0x000000000000002a".
func (id SessionID) String() string { return fmt.Sprintf("0x%016x", uint64(id)) }

// ParseSessionID is the inverse of [SessionID.String].
func ParseSessionID(s string) (SessionID, error) {
	n, err := parseHex("session id", s)
	return SessionID(n), err
}

// An EnsembleID tells one ensemble from all others, whatever their names: it is
// drawn when the ensemble starts for the first time. It is never zero.
type EnsembleID uint64

// String returns for example "0x52fdfc072182654f".
func (id EnsembleID) String() string { return fmt.Sprintf("0x%016x", uint64(id)) }

// A MemberID names one member of an ensemble. It is never zero and never used
// again, not even after the member was removed. Ids below 2^32 are chosen by whoever
// configures or adds a member. The others are given by the ensemble, by rising number, to
// those who join without one: they come and go, and use up no id that somebody may want.
type MemberID uint64

// firstGivenID is the first id that the ensemble gives.
const firstGivenID = 1 << 32

// given reports whether id is one of those that the ensemble gives.
func (id MemberID) given() bool { return id >= firstGivenID }

// String returns the number in decimal.
func (id MemberID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseMemberID is the inverse of [MemberID.String].
func ParseMemberID(s string) (MemberID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("coord: member id %q is not a positive decimal number", s)
	}
	return MemberID(n), nil
}

// A GroupID names one raft group of an ensemble.
type GroupID uint64

// rootGroup is the group that serves everything that no mount serves.
const rootGroup GroupID = 1

// String returns the number in decimal.
func (id GroupID) String() string { return strconv.FormatUint(uint64(id), 10) }

func parseHex(what, s string) (uint64, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok || digits == "" || strings.ToLower(digits) != digits {
		return 0, fmt.Errorf("coord: %s %q is not of the form 0x1f", what, s)
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("coord: %s %q is not a 64-bit hexadecimal number", what, s)
	}
	return n, nil
}
