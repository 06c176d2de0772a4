package zkserver

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coord"
)

// Version is the release of ZooKeeper whose behaviour a server has, as its four-letter
// words tell it: clients switch features on and off by the numbers.
const Version = "3.9.3-coord"

// built stands behind the version. Clients take it for a date of this form; that of a
// program that embeds coord would say nothing.
const built = "01/01/2026 00:00 UTC"

// A fourLetter is what is done for a four-letter word.
type fourLetter struct {
	answer func(s *Server, now *standing) string

	// idle says that it is answered while the member does not serve.
	idle bool

	// named says that it must be whitelisted by name: "*" does not stand for it.
	named bool
}

// fourLetters has the words of ZooKeeper 3.9, and reqs and kill of older releases.
var fourLetters = map[string]fourLetter{
	"conf": {answer: (*Server).wordConf},
	"cons": {answer: (*Server).wordCons},
	"crst": {answer: (*Server).wordCrst},
	"dirs": {answer: (*Server).wordDirs},
	"dump": {answer: (*Server).wordDump},
	"envi": {answer: (*Server).wordEnvi, idle: true},
	"hash": {answer: (*Server).wordHash},
	"isro": {answer: (*Server).wordIsro, idle: true},
	"kill": {answer: (*Server).wordKill, idle: true, named: true},
	"mntr": {answer: (*Server).wordMntr},
	"reqs": {answer: (*Server).wordReqs, named: true},
	"ruok": {answer: func(*Server, *standing) string { return "imok" }, idle: true},
	"srst": {answer: (*Server).wordSrst},
	"srvr": {answer: (*Server).wordSrvr},
	"stat": {answer: (*Server).wordStat},
	"wchc": {answer: (*Server).wordWchc},
	"wchp": {answer: (*Server).wordWchp},
	"wchs": {answer: (*Server).wordWchs},
}

// Bounds of what one word costs. Whoever reaches the port can send them, over and over.
const (
	// maxWordLines is how many lines a list has at most.
	maxWordLines = 10_000
	// maxWordExamined is how many watches, sessions or znodes are looked at.
	maxWordExamined = 100_000
)

// wordState is what four-letter words need of a Server.
type wordState struct {
	started time.Time
	words   sync.Mutex // held by the word that is answered
}

// A standing is what a member can do for its clients at one moment.
type standing struct {
	status   coord.Status
	serves   bool
	readOnly bool // it serves clients that only read
	at       time.Time
}

// standing returns how the server's member stands.
func (s *Server) standing() *standing {
	err := s.c.Health()
	readOnly := s.o.ReadOnly && errors.Is(err, coord.ErrSuspended)
	return &standing{status: s.c.Status(), serves: err == nil || readOnly, readOnly: readOnly, at: time.Now()}
}

// mode is what ZooKeeper calls the role of a member.
func (n *standing) mode() string {
	switch {
	case n.readOnly:
		return "read-only"
	case len(n.status.Members) <= 1:
		return "standalone"
	case n.status.Role == coord.Leading:
		return "leader"
	case n.status.Role == coord.Observing:
		return "observer"
	}
	return "follower"
}

// fourLetterWord answers a connection that begins with a four-letter word. It reports
// false if this is none, and the connection is closed without an answer then.
func (s *Server) fourLetterWord(word string) (answer string, ok bool) {
	f, known := fourLetters[word]
	if !known {
		return "", false
	}
	if !s.allowed(word, f) {
		return word + " is not executed because it is not in the whitelist.\n", true
	}
	now := s.standing()
	if !now.serves && !f.idle {
		return "This ZooKeeper instance is not currently serving requests" + newlineBut(word == "hash"), true
	}
	// Words that list what there is take turns, so that many at once cost no more
	// than one after the other.
	s.words.Lock()
	defer s.words.Unlock()
	return f.answer(s, now), true
}

func newlineBut(not bool) string {
	if not {
		return ""
	}
	return "\n"
}

// allowed reports whether a word is answered: those of the whitelist, srvr in any case,
// and isro where clients depend on it.
func (s *Server) allowed(word string, f fourLetter) bool {
	switch {
	case word == "srvr", word == "isro" && s.o.ReadOnly:
		return true
	case !f.named && slices.Contains(s.o.FourLetterWords, "*"):
		return true
	}
	return slices.Contains(s.o.FourLetterWords, word)
}

func (s *Server) wordIsro(now *standing) string {
	switch {
	case !now.serves:
		return "null"
	case now.readOnly:
		return "ro"
	}
	return "rw"
}

func (s *Server) wordSrst(*standing) string {
	s.resetStats()
	return "Server stats reset.\n"
}

func (s *Server) wordCrst(*standing) string {
	s.resetConnections()
	return "Connection stats reset.\n"
}

// wordKill stops the server, as a word of ZooKeeper 3.3 did.
func (s *Server) wordKill(*standing) string {
	go func() { _ = s.Close() }() // which waits for this connection
	return ""
}

func (s *Server) wordSrvr(now *standing) string {
	return versionLine() + readOnlyLine(now) + s.statLines(now)
}

func (s *Server) wordStat(now *standing) string {
	var b strings.Builder
	b.WriteString(versionLine() + readOnlyLine(now) + "Clients:\n")
	for line := range connLines(s.connections(), connInfo.brief) {
		b.WriteString(line)
	}
	b.WriteString("\n")
	return b.String() + s.statLines(now)
}

func versionLine() string { return "Zookeeper version: " + Version + ", built on " + built + "\n" }

func readOnlyLine(now *standing) string {
	if now.readOnly {
		return "READ-ONLY mode; serving only read-only clients\n"
	}
	return ""
}

// statLines is what srvr and stat have in common.
func (s *Server) statLines(now *standing) string {
	i := s.info()
	text := fmt.Sprintf("Latency min/avg/max: %d/%s/%d\nReceived: %d\nSent: %d\nConnections: %d\nOutstanding: %d\nZxid: 0x%x\nMode: %s\nNode count: %d\n",
		i.minLatency.Milliseconds(), average(i.avgLatency), i.maxLatency.Milliseconds(), i.received, i.sent, i.connections, i.outstanding,
		uint64(now.status.ZXID), now.mode(), nodeCount(now))
	if now.mode() == "leader" {
		text += "Proposal sizes last/min/max: -1/-1/-1\n" // raft's entries hold many writes each
	}
	return text
}

// nodeCount is the number of znodes as ZooKeeper counts them: the root twice.
func nodeCount(now *standing) int { return now.status.Znodes + 1 }

// average prints a mean as ZooKeeper does: milliseconds to four places, and one at least.
func average(d time.Duration) string {
	text := strconv.FormatFloat(d.Round(100*time.Nanosecond).Seconds()*1e3, 'f', 4, 64)
	text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// wordConf tells what the program that serves has given, in its order.
func (s *Server) wordConf(*standing) string {
	lines := s.confLines()
	text := strings.Join(lines, "\n")
	if n := len(lines); n > 0 && !strings.HasPrefix(lines[n-1], "version=") {
		text += "\n" // behind a list of members ZooKeeper prints none
	}
	return text
}

func (s *Server) confLines() []string {
	if s.o.Config != nil {
		return s.o.Config()
	}
	st := s.c.Status()
	return []string{
		fmt.Sprintf("maxClientCnxns=%d", max(s.o.MaxConnsPerAddr, 0)),
		fmt.Sprintf("minSessionTimeout=%d", cmp.Or(s.o.MinSessionTimeout, st.MinSessionTimeout).Milliseconds()),
		fmt.Sprintf("maxSessionTimeout=%d", cmp.Or(s.o.MaxSessionTimeout, st.MaxSessionTimeout).Milliseconds()),
		fmt.Sprintf("serverId=%d", st.Member),
	}
}

// wordDirs tells the sizes that conf has.
func (s *Server) wordDirs(*standing) string {
	sizes := map[string]string{"dataDirSize": "0", "dataLogSize": "0"}
	for _, line := range s.confLines() {
		key, value, _ := strings.Cut(line, "=")
		if _, ok := sizes[key]; ok {
			sizes[key] = value
		}
	}
	return "datadir_size: " + sizes["dataDirSize"] + "\nlogdir_size: " + sizes["dataLogSize"] + "\n"
}

// wordHash tells the digest of the newest state. ZooKeeper tells those of older ones as
// well; here members compare theirs by themselves. A large tree is not walked for it.
func (s *Server) wordHash(now *standing) string {
	v, err := s.view(now)
	if err != nil || now.status.Znodes+now.status.Sessions > maxWordExamined {
		return ""
	}
	d := v.Digest()
	return fmt.Sprintf("%x: %d\n", uint64(v.ZXID()), int64(binary.BigEndian.Uint64(d[:]))) //nolint:gosec // any 64 bits will do
}
