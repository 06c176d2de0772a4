package zkserver_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/jute"
	"coord/zkserver"
)

// zooKeeper is the address of a ZooKeeper server, fresh, with all words whitelisted:
// with it TestFourLetterGolden asks that one and writes down what it says.
var zooKeeper = flag.String("zookeeper", "", "address of a fresh ZooKeeper 3.8 to write testdata/fourletter.txt from")

const goldenWords = "testdata/fourletter.txt"

// TestFourLetterGolden compares what words say with what ZooKeeper 3.8.0 said after the
// same requests, field by field, but for what cannot be the same: times, ports, ids.
func TestFourLetterGolden(t *testing.T) {
	if *zooKeeper != "" {
		if err := os.WriteFile(goldenWords, []byte(wordsOf(t, *zooKeeper)), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(goldenWords)
	if err != nil {
		t.Fatal(err)
	}
	got := wordsOf(t, serveWords(t, []string{"*"}))
	for word, theirs := range sections(string(want)) {
		if ours := sections(got)[word]; ours != theirs {
			t.Errorf("%s says\n%s\nand ZooKeeper\n%s", word, ours, theirs)
		}
	}
}

// serveWords serves a member by itself and returns the address.
func serveWords(t *testing.T, whitelist []string) string {
	t.Helper()
	e := coordtest.NewEnsemble(t, 1, coordtest.WithConfig(func(c *coord.Config) { c.DefaultACL = coord.OpenACL() }))
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	config := func() []string { return []string{"clientPort=1", "dataDirSize=457", "dataLogSize=457"} }
	go func() {
		done <- zkserver.Serve(ctx, ln, e.Member(1), zkserver.Options{FourLetterWords: whitelist, Config: config, Logger: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// words are those that one gets by without changing anything that matters.
var words = []string{"cons", "dirs", "dump", "isro", "mntr", "ruok", "srvr", "stat", "wchc", "wchp", "wchs", "envi", "crst", "srst"}

// wordsOf has two clients do something, and returns what each word says then.
func wordsOf(t *testing.T, addr string) string {
	t.Helper()
	open := []jute.ACL{{Perms: 31, Scheme: "world", ID: "anyone"}}
	a := dialRaw(t, addr)
	for _, r := range []jute.CreateRequest{{Path: "/a"}, {Path: "/a/b"}, {Path: "/a/c", Data: []byte("hello")}, {Path: "/a/e", Flags: 1}, {Path: "/a/e2", Flags: 1}} {
		r.ACL = open
		a.ask(t, jute.OpCreate, &r)
	}
	a.ask(t, jute.OpGetChildren, &jute.ReadRequest{Path: "/a", Watch: true})
	a.ask(t, jute.OpGetData, &jute.ReadRequest{Path: "/a/b", Watch: true})
	a.ask(t, jute.OpGetData, &jute.ReadRequest{Path: "/a/c", Watch: true})
	a.ask(t, jute.OpExists, &jute.ReadRequest{Path: "/nope", Watch: true})
	b := dialRaw(t, addr)
	b.ask(t, jute.OpGetData, &jute.ReadRequest{Path: "/a/b", Watch: true})
	var text strings.Builder
	for _, word := range append(slices.Clone(words), "none") {
		fmt.Fprintf(&text, "== %s\n%s\n", word, canonical(word, ask(t, addr, word), a.id, b.id))
	}
	return text.String()
}

// sections cuts what wordsOf returns into words.
func sections(text string) map[string]string {
	m := map[string]string{}
	for part := range strings.SplitSeq(text, "== ") {
		if word, said, ok := strings.Cut(part, "\n"); ok {
			m[word] = said
		}
	}
	return m
}

// Fields that differ from one run to the next.
var volatile = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`(?m)^ /127\.0\.0\.1:\d+\[0\]\(queued=0,recved=1,sent=0\)\n`), ""}, // who asks, and who has just asked
	{regexp.MustCompile(`(?m)^\tip: /127\.0\.0\.1:\d+ sessionId: 0x0\n`), ""},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDR"},
	{regexp.MustCompile(`(est|lresp|llat|minlat|avglat|maxlat)=\d+`), "$1=N"},
	{regexp.MustCompile(`(lzxid=|Zxid: )0x[0-9a-f]+`), "${1}ZXID"},
	{regexp.MustCompile(`(?m)^(Latency min/avg/max: )\d+/\d+\.\d{1,4}/\d+$`), "${1}N"},
	{regexp.MustCompile(`(?m)^(Sent: )\d+$`), "${1}N"}, // which ZooKeeper counts twice for some words
	{regexp.MustCompile(`(?m)^(Connections: )\d+$`), "${1}N"},
	{regexp.MustCompile(`(?m)^\d+ expire at \w{3} \w{3} \d\d \d\d:\d\d:\d\d \w+ \d{4}:$\n?`), ""},
	{regexp.MustCompile(`Connections Sets \(\d+\)/\(\d+\)`), "Connections Sets (N)/(N)"},
	{regexp.MustCompile(`version: [\w.${}-]+, built on [\d/-]+ \d\d:\d\d \w+`), "version: VERSION"},
	{regexp.MustCompile(`(dir_size: )\d+`), "${1}N"},
}

// canonical replaces what differs from run to run, and orders what has no order.
func canonical(word, said string, ids ...int64) string {
	switch word {
	case "mntr":
		return knownKeys(said, "\t")
	case "envi":
		return knownKeys(said, "=")
	case "dump": // of sessions this server tells as a follower does, and that one as a leader
		_, said, _ = strings.Cut(said, "ephemeral nodes dump:\n")
	}
	for _, v := range volatile {
		said = v.pattern.ReplaceAllString(said, v.by)
	}
	for i, id := range ids {
		said = regexp.MustCompile(fmt.Sprintf(`\b0x%x\b`, id)).ReplaceAllString(said, fmt.Sprintf("SESSION%d", i+1))
	}
	// Lines that begin alike stand in some order; those with a tab belong to the one before.
	var blocks []string
	for line := range strings.Lines(said) {
		if n := len(blocks); n > 0 && strings.HasPrefix(line, "\t") {
			blocks[n-1] += line
			continue
		}
		blocks = append(blocks, line)
	}
	for i, b := range blocks {
		lines := strings.SplitAfter(b, "\n")
		slices.Sort(lines[1:max(len(lines)-1, 1)])
		blocks[i] = strings.Join(lines, "")
	}
	for i := 0; i < len(blocks); {
		end := i + 1
		for end < len(blocks) && blocks[i][:1] == blocks[end][:1] && strings.ContainsAny(blocks[i][:1], " /S") {
			end++
		}
		slices.SortFunc(blocks[i:end], func(a, b string) int {
			return cmp.Compare(a[strings.Index(a, "sid")+1:], b[strings.Index(b, "sid")+1:])
		})
		i = end
	}
	return strings.Join(blocks, "")
}

// knownKeys returns the lines of keys that both servers have, with the value where it must
// be the same.
func knownKeys(said, separator string) string {
	same := []string{"zk_server_state", "zk_ephemerals_count", "zk_global_sessions", "zk_local_sessions", "zk_znode_count", "zk_watch_count", "zk_approximate_data_size", "zk_outstanding_requests", "os.name", "java.compiler", "zk_connection_drop_probability", "zk_connection_rejected"}
	present := []string{
		"zk_version", "zk_num_alive_connections", "zk_avg_latency", "zk_min_latency", "zk_max_latency", "zk_packets_received", "zk_packets_sent", "zk_uptime", "zk_open_file_descriptor_count",
		"zk_max_file_descriptor_count", "zk_last_client_response_size", "zk_min_client_response_size", "zk_max_client_response_size", "zk_response_bytes",
		"zookeeper.version", "host.name", "java.version", "java.vendor", "java.home", "java.class.path", "java.library.path", "java.io.tmpdir", "os.arch", "os.version", "user.name", "user.home", "user.dir",
		"os.memory.free", "os.memory.max", "os.memory.total",
	}
	var lines []string
	for line := range strings.Lines(said) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), separator)
		switch {
		case !ok:
			lines = append(lines, key)
		case slices.Contains(same, key):
			lines = append(lines, key+separator+value)
		case slices.Contains(present, key):
			lines = append(lines, key)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// ask sends a four-letter word from a socket that says nothing more.
func ask(t *testing.T, addr, word string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, word); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil { //nolint:forcetypeassert // it was dialed as one
		t.Fatal(err)
	}
	said, _ := io.ReadAll(conn) // what is no word is answered by a reset, or by nothing
	return string(said)
}

// A rawClient is a session that sends one request after the other.
type rawClient struct {
	conn net.Conn
	id   int64
	xid  int32
}

func dialRaw(t *testing.T, addr string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &rawClient{conn: conn}
	c.send(t, jute.Marshal(&jute.ConnectRequest{TimeoutMS: 10000, Password: make([]byte, jute.PasswordBytes)}))
	var r jute.ConnectResponse
	if err := jute.Unmarshal(c.receive(t), &r); err != nil || r.SessionID == 0 {
		t.Fatalf("connected as %+v, %v", r, err)
	}
	c.id = r.SessionID
	return c
}

func (c *rawClient) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := c.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		t.Fatal(err)
	}
}

func (c *rawClient) receive(t *testing.T) []byte {
	t.Helper()
	var length [4]byte
	if _, err := io.ReadFull(c.conn, length[:]); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(c.conn, frame); err != nil {
		t.Fatal(err)
	}
	return frame
}

// ask sends a request and waits for the answer.
func (c *rawClient) ask(t *testing.T, op jute.Op, r jute.Record) {
	t.Helper()
	c.xid++
	h := jute.RequestHeader{Xid: c.xid, Op: op}
	c.send(t, r.AppendTo(h.AppendTo(nil)))
	var reply jute.ReplyHeader
	if err := jute.Unmarshal(c.receive(t), &reply); err != nil || reply.Xid != c.xid {
		t.Fatalf("%v: reply %+v, %v", op, reply, err)
	}
}

// TestWordsBlocked has words that are not whitelisted say so.
func TestWordsBlocked(t *testing.T) {
	addr := serveWords(t, nil)
	for _, word := range append(slices.Clone(words), "conf", "hash", "kill", "reqs") {
		want := word + " is not executed because it is not in the whitelist.\n"
		if got := ask(t, addr, word); word != "srvr" && got != want {
			t.Errorf("%s says %q, want %q", word, got, want)
		}
	}
	if got := ask(t, addr, "srvr"); !strings.HasPrefix(got, "Zookeeper version: ") {
		t.Errorf("srvr says %q", got)
	}
}
