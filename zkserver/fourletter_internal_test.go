package zkserver

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/internal/jute"
)

// golden are lines that ZooKeeper 3.8.0 printed, with what it told of.
func TestFourLetterConnections(t *testing.T) {
	started := time.UnixMilli(1795365667246)
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	addr := func(text string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	tests := []struct {
		name        string
		conn        connInfo
		brief, full string
	}{
		{
			"a word",
			connInfo{remote: addr("127.0.0.1:44866"), received: 1, lastXid: -1},
			" /127.0.0.1:44866[0](queued=0,recved=1,sent=0)",
			" /127.0.0.1:44866[0](queued=0,recved=1,sent=0)",
		},
		{
			"a session",
			connInfo{
				remote: addr("127.0.0.1:57970"), established: at(1795365737185), received: 15, sent: 15, session: 0x100042b53730000, timeout: 10 * time.Second,
				lastOp: jute.OpPing, lastXid: 13, lastZXID: 7, lastAt: at(1795365667246 + 69980786), lastLatency: time.Millisecond, avgLatency: 9 * time.Millisecond, maxLatency: 91 * time.Millisecond,
			},
			" /127.0.0.1:57970[1](queued=0,recved=15,sent=15)",
			" /127.0.0.1:57970[1](queued=0,recved=15,sent=15,sid=0x100042b53730000,lop=PING,est=1795365737185,to=10000,lcxid=0xd,lzxid=0x7,lresp=69980786,llat=1,minlat=0,avglat=9,maxlat=91)",
		},
		{
			"nothing asked yet",
			connInfo{
				remote: addr("[::1]:2181"), established: at(1795365737185), received: 1, sent: 1, session: 1, timeout: time.Second,
				lastXid: -1, outstanding: 2,
			},
			" /[0:0:0:0:0:0:0:1]:2181[1](queued=2,recved=1,sent=1)",
			" /[0:0:0:0:0:0:0:1]:2181[1](queued=2,recved=1,sent=1,sid=0x1,lop=NA,est=1795365737185,to=1000,lzxid=0x0,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.conn.brief(); got != tt.brief {
				t.Errorf("brief is\n%s, want\n%s", got, tt.brief)
			}
			if got := tt.conn.full(started); got != tt.full {
				t.Errorf("full is\n%s, want\n%s", got, tt.full)
			}
		})
	}
}

func TestJavaAddr(t *testing.T) {
	tests := map[string]string{
		"10.0.0.1:2181":          "/10.0.0.1:2181",
		"[::ffff:10.0.0.1]:2181": "/10.0.0.1:2181",
		"[2001:db8::12]:2181":    "/[2001:db8:0:0:0:0:0:12]:2181",
		"[fe80::1%eth0]:2181":    "/[fe80:0:0:0:0:0:0:1%eth0]:2181",
		"pipe":                   "/pipe",
	}
	for text, want := range tests {
		if got := javaAddr(textAddr(text)); got != want {
			t.Errorf("javaAddr(%s) = %s, want %s", text, got, want)
		}
	}
	if got := javaAddr(nil); got != "null" {
		t.Errorf("javaAddr(nil) = %s", got)
	}
}

type textAddr string

func (textAddr) Network() string  { return "tcp" }
func (a textAddr) String() string { return string(a) }

func TestAverage(t *testing.T) {
	tests := map[time.Duration]string{
		0: "0.0", 8444444: "8.4444", 14750 * time.Microsecond: "14.75", 3 * time.Millisecond: "3.0", 40: "0.0", 12999990: "13.0", 10 * time.Millisecond: "10.0", 100: "0.0001",
	}
	for d, want := range tests {
		if got := average(d); got != want {
			t.Errorf("average(%v) = %s, want %s", d, got, want)
		}
	}
}

// TestWatchTable has what ZooKeeper 3.8.0 printed for two clients.
func TestWatchTable(t *testing.T) {
	table := &watchTable{bySession: map[coord.SessionID][]string{}, byPath: map[string][]coord.SessionID{}}
	data := func(paths ...string) (list []coord.Registration) {
		for _, p := range paths {
			list = append(list, coord.Registration{Path: p, Type: coord.DataWatcher})
		}
		return list
	}
	first := slices.Concat(data("/nope", "/a/b", "/a/c"), []coord.Registration{
		{Path: "/a", Type: coord.ChildrenWatcher}, // of which these words tell nothing
		{Path: "/a/b", Type: coord.PersistentWatcher},
	})
	table.add(0x100042b53730000, first)
	table.add(0x100042b53730001, data("/a/b"))
	id := func(id coord.SessionID) string { return "0x" + strings.TrimLeft(id.String(), "0x") }
	same := func(s string) string { return s }
	byPath := listed(table.byPath, same, id)
	if want := "/a/b\n\t0x100042b53730000\n\t0x100042b53730001\n/a/c\n\t0x100042b53730000\n/nope\n\t0x100042b53730000\n"; byPath != want {
		t.Errorf("by path\n%s, want\n%s", byPath, want)
	}
	bySession := listed(table.bySession, id, same)
	if want := "0x100042b53730000\n\t/a/b\n\t/a/c\n\t/nope\n0x100042b53730001\n\t/a/b\n"; bySession != want {
		t.Errorf("by session\n%s, want\n%s", bySession, want)
	}
	if table.total != 4 || len(table.byPath) != 3 || len(table.bySession) != 2 {
		t.Errorf("%d connections watching %d paths, %d watches, want 2, 3 and 4", len(table.bySession), len(table.byPath), table.total)
	}
}

// TestListsEnd checks that no list of a word grows with what there is.
func TestListsEnd(t *testing.T) {
	table := map[string][]coord.SessionID{}
	for i := range 3 * maxWordLines {
		table["/"+time.Duration(i).String()] = []coord.SessionID{1}
	}
	text := listed(table, func(s string) string { return s }, func(coord.SessionID) string { return "x" })
	if n := strings.Count(text, "\n"); n > maxWordLines+3 || !strings.HasSuffix(text, "and more: a list ends after 10000 lines\n") {
		t.Errorf("%d lines, the last %q", n, text[len(text)-60:])
	}
	n := 0
	for line := range connLines(make([]connInfo, maxWordLines+7), connInfo.brief) {
		if n++; n == maxWordLines+1 && line != " and 7 more\n" {
			t.Errorf("the last line is %q", line)
		}
	}
	if n != maxWordLines+1 {
		t.Errorf("%d lines of connections", n)
	}
}

func TestWhitelist(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		allowed string
	}{
		{"default", Options{}, "srvr"},
		{"some", Options{FourLetterWords: []string{"ruok", "stat"}}, "ruok srvr stat"},
		{"read-only mode", Options{ReadOnly: true}, "isro srvr"},
		{"none", Options{FourLetterWords: []string{}}, "srvr"},
		{"all", Options{FourLetterWords: []string{"*"}}, "conf cons crst dirs dump envi hash isro mntr ruok srst srvr stat wchc wchp wchs"},
		{"the dangerous ones", Options{FourLetterWords: []string{"kill", "reqs"}}, "kill reqs srvr"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{o: tt.options.withDefaults()}
			var allowed []string
			for word, f := range fourLetters {
				if s.allowed(word, f) {
					allowed = append(allowed, word)
				}
			}
			slices.Sort(allowed)
			if got := strings.Join(allowed, " "); got != tt.allowed {
				t.Errorf("allowed %s, want %s", got, tt.allowed)
			}
		})
	}
}
