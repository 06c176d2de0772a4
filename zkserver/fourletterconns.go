package zkserver

import (
	"context"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"coord"
	"coord/internal/jute"
)

// view returns the state to tell of, however old.
func (s *Server) view(now *standing) (*coord.View, error) {
	ctx, cancel := context.WithDeadline(context.Background(), now.at.Add(time.Second))
	defer cancel()
	return s.c.View(ctx, coord.AllowStale())
}

// connLines yields a line for each connection, as far as a list goes.
func connLines(conns []connInfo, line func(connInfo) string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, c := range conns {
			if i == maxWordLines {
				yield(fmt.Sprintf(" and %d more\n", len(conns)-i))
				return
			}
			if !yield(line(c) + "\n") {
				return
			}
		}
	}
}

func (s *Server) wordCons(*standing) string {
	var b strings.Builder
	for line := range connLines(s.connections(), func(c connInfo) string { return c.full(s.started) }) {
		b.WriteString(line)
	}
	b.WriteString("\n")
	return b.String()
}

// wordReqs tells how many requests wait, by session, as a word of ZooKeeper 3.3 told
// which.
func (s *Server) wordReqs(*standing) string {
	var waiting []connInfo
	for _, c := range s.connections() {
		if c.outstanding > 0 {
			waiting = append(waiting, c)
		}
	}
	var b strings.Builder
	for line := range connLines(waiting, func(c connInfo) string {
		return fmt.Sprintf("sessionid:0x%x queued:%d", uint64(c.session), c.outstanding)
	}) {
		b.WriteString(line)
	}
	return b.String()
}

// brief is a connection as stat lists it. What stands in brackets is 1 for one that is
// read from; one that has sent a four-letter word is not any more.
func (c connInfo) brief() string {
	return fmt.Sprintf(" %s[%d](queued=%d,recved=%d,sent=%d)", javaAddr(c.remote), c.interest(), c.outstanding, c.received, c.sent)
}

func (c connInfo) interest() int {
	if c.session == 0 {
		return 0
	}
	return 1
}

// full is a connection as cons lists it. Times are milliseconds: est since 1970, lresp
// on a clock that runs since the server began.
func (c connInfo) full(started time.Time) string {
	text := strings.TrimSuffix(c.brief(), ")")
	if c.session == 0 {
		return text + ")"
	}
	op := "NA"
	if c.lastAt.After(c.established) {
		op = wordOf(c.lastOp)
	}
	text += fmt.Sprintf(",sid=0x%x,lop=%s,est=%d,to=%d", uint64(c.session), op, c.established.UnixMilli(), c.timeout.Milliseconds())
	if c.lastXid >= 0 {
		text += fmt.Sprintf(",lcxid=0x%x", c.lastXid)
	}
	return text + fmt.Sprintf(",lzxid=0x%x,lresp=%d,llat=%d,minlat=%d,avglat=%d,maxlat=%d)", uint64(c.lastZXID), max(c.lastAt.Sub(started).Milliseconds(), 0),
		c.lastLatency.Milliseconds(), c.minLatency.Milliseconds(), c.avgLatency.Milliseconds(), c.maxLatency.Milliseconds())
}

// opWords are ZooKeeper's four letters for operations.
var opWords = map[jute.Op]string{
	jute.OpPing: "PING", jute.OpCreateSession: "SESS", jute.OpMulti: "MULT", jute.OpMultiRead: "MLTR",
	jute.OpCreate: "CREA", jute.OpCreate2: "CREA", jute.OpCreateTTL: "CREA", jute.OpCreateContainer: "CREA",
	jute.OpDelete: "DELE", jute.OpDeleteContainer: "DELE", jute.OpSetData: "SETD", jute.OpReconfig: "RECO", jute.OpSetACL: "SETA",
	jute.OpGetACL: "GETA", jute.OpCloseSession: "CLOS", jute.OpSync: "SYNC", jute.OpCheck: "CHEC", jute.OpExists: "EXIS", jute.OpGetData: "GETD",
	jute.OpGetChildren: "GETC", jute.OpGetChildren2: "GETC", jute.OpGetAllChildrenNumber: "GETACN", jute.OpGetEphemerals: "GETE",
	jute.OpSetWatches: "SETW", jute.OpSetWatches2: "STW2", jute.OpAddWatch: "ADDW", jute.OpCheckWatches: "CHKW", jute.OpRemoveWatches: "REMW",
	jute.OpWhoAmI: "HOMI",
}

func wordOf(op jute.Op) string {
	if word, ok := opWords[op]; ok {
		return word
	}
	return "NA"
}

// javaAddr prints an address as Java does: behind a slash, and no zeros of IPv6 left out.
func javaAddr(addr net.Addr) string {
	if addr == nil {
		return "null"
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return "/" + addr.String()
	}
	ip := ap.Addr().Unmap()
	if ip.Is4() {
		return fmt.Sprintf("/%v:%d", ip, ap.Port())
	}
	groups := strings.Split(ip.WithZone("").StringExpanded(), ":")
	for i, g := range groups {
		groups[i] = strings.TrimLeft(g[:3], "0") + g[3:]
	}
	host := strings.Join(groups, ":")
	if zone := ip.Zone(); zone != "" {
		host += "%" + zone
	}
	return fmt.Sprintf("/[%s]:%d", host, ap.Port())
}

// javaDate is the form in which Java prints dates.
const javaDate = "Mon Jan 02 15:04:05 MST 2006"

// wordDump tells of sessions, of those with ephemeral znodes, and of connections by the
// time at which they are closed if nothing more comes. Sessions are told as followers
// tell them: nobody knows when one will expire before it does.
func (s *Server) wordDump(now *standing) string {
	var b strings.Builder
	left := maxWordLines
	line := func(format string, args ...any) bool {
		if left--; left < 0 {
			return false
		}
		fmt.Fprintf(&b, format, args...)
		return true
	}
	v, err := s.view(now)
	if err != nil {
		return "This ZooKeeper instance is not currently serving requests\n"
	}
	var sessions, owners []coord.SessionInfo
	for info := range v.Sessions() {
		if len(sessions) == maxWordExamined {
			break
		}
		if info.Ephemerals > 0 {
			owners = append(owners, info)
		}
		if info.External {
			sessions = append(sessions, info)
		}
	}
	b.WriteString("SessionTracker dump:\n")
	fmt.Fprintf(&b, "Global Sessions(%d):\n", len(sessions))
	for _, info := range sessions {
		line("0x%x\t%dms\n", uint64(info.ID), info.Timeout.Milliseconds())
	}
	b.WriteString("ephemeral nodes dump:\n")
	fmt.Fprintf(&b, "Sessions with Ephemerals (%d):\n", len(owners))
	for _, info := range owners {
		if !line("0x%x:\n", uint64(info.ID)) {
			break
		}
		for path := range v.EphemeralsOf(info.ID) {
			if !line("\t%s\n", path) {
				break
			}
		}
	}
	b.WriteString("Connections dump:\n")
	s.dumpConnections(&b, line)
	if left < 0 {
		fmt.Fprintf(&b, "and more: a list ends after %d lines\n", maxWordLines)
	}
	return b.String()
}

// dumpConnections lists connections in sets that are closed at the same time, two
// seconds apart.
func (s *Server) dumpConnections(b *strings.Builder, line func(format string, args ...any) bool) {
	const step = 2 * time.Second
	conns := s.connections()
	sets := map[int64][]connInfo{}
	for _, c := range conns {
		ends := c.established.Add(s.o.HandshakeTimeout)
		if c.session != 0 {
			ends = latest(c.lastAt, c.established).Add(c.timeout)
		}
		set := ends.Add(step - 1).Truncate(step).Unix()
		sets[set] = append(sets[set], c)
	}
	fmt.Fprintf(b, "Connections Sets (%d)/(%d):\n", len(sets), len(conns))
	ends := make([]int64, 0, len(sets))
	for at := range sets {
		ends = append(ends, at)
	}
	slices.Sort(ends)
	for _, at := range ends {
		line("%d expire at %s:\n", len(sets[at]), time.Unix(at, 0).Format(javaDate))
		for _, c := range sets[at] {
			line("\tip: %s sessionId: 0x%x\n", javaAddr(c.remote), uint64(c.session))
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
