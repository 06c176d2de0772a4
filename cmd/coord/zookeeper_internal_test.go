package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/internal/zoocfg"
)

// parse reads a file of a member that is number 1, if it has several.
func parse(t *testing.T, text string) *zoocfg.Config {
	t.Helper()
	cfg, err := zoocfg.Parse("zoo.cfg", []byte("dataDir=/d\nclientPort=2181\n"+text))
	if err == nil && cfg.Distributed() {
		err = cfg.ParseMyID("myid", []byte("1"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const threeServers = "initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n"

// TestMemberOfFile has what the settings of a file mean to a member.
func TestMemberOfFile(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"by itself", "tickTime=2000", "1 of []  /d/coord election 2s sessions 4s to 40s data 1048576 quotas advise true"},
		{"of three", "tickTime=2000\n" + threeServers, "1 of [{1 a:2888} {2 b:2888} {3 c:2888}] insecure /d/coord election 2s sessions 4s to 40s data 1048576 quotas advise true"},
		{"on all addresses", threeServers + "quorumListenOnAllIPs=true", "1 of [{1 a:2888} {2 b:2888} {3 c:2888}] insecure :2888 /d/coord election 3s sessions 6s to 1m0s data 1048576 quotas advise true"},
		{"short sessions", "minSessionTimeout=100\nmaxSessionTimeout=100", "1 of []  /d/coord election 50ms sessions 100ms to 100ms data 1048576 quotas advise true"},
		{"very long ticks", "tickTime=100000", "1 of []  /d/coord election 1m0s sessions 3m20s to 33m20s data 1048576 quotas advise true"},
		{"a disk for the log", "dataLogDir=/l", "1 of []  /l/coord election 3s sessions 6s to 1m0s data 1048576 quotas advise true"},
		{"hard quotas, large data", "enforceQuota=true\njute.maxbuffer=4194304", "1 of []  /d/coord election 3s sessions 6s to 1m0s data 4194304 quotas advise false"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := memberOf(parse(t, tt.text), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			c := m.config
			insecure := ""
			if c.Insecure {
				insecure = "insecure "
			}
			var members []string
			for _, m := range c.InitialMembers {
				members = append(members, fmt.Sprintf("{%v %s}", m.ID, m.Addr))
			}
			got := fmt.Sprintf("%d of %v %s%s %s election %v sessions %v to %v data %d quotas advise %v", c.ID, members, insecure, c.Listen, filepath.ToSlash(c.Dir),
				c.ElectionTimeout, c.MinSessionTimeout, c.MaxSessionTimeout, c.MaxDataBytes, c.AdvisoryQuotas)
			if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(tt.want), " ") {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			var s coord.Settings
			m.settings(&s)
			if s.MinSessionTimeout != c.MinSessionTimeout || s.MaxSessionTimeout != c.MaxSessionTimeout || s.MaxDataBytes != c.MaxDataBytes || s.AdvisoryQuotas != c.AdvisoryQuotas || s.TTLNodes {
				t.Errorf("the settings %+v are not those of the file", s)
			}
		})
	}
}

// TestObserversOfFile has those who vote start the ensemble and admit observers, and an
// observer join.
func TestObserversOfFile(t *testing.T) {
	const observer = "server.4=d:2888:3888:observer;2184\n"
	m, err := memberOf(parse(t, threeServers+observer), slog.New(slog.DiscardHandler))
	if err != nil || len(m.config.InitialMembers) != 3 || len(m.config.Join) != 0 {
		t.Fatalf("one who votes has %+v, error %v", m.config, err)
	}
	if want := "[{4 d:2888 observer 0.0.0.0:2184}]"; fmt.Sprint(m.observers) != want {
		t.Errorf("the observers are %v, want %s", m.observers, want)
	}
	cfg := parse(t, threeServers+observer)
	cfg.MyID = 4
	if m, err = memberOf(cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	c := m.config
	if got := fmt.Sprintf("%v %v %v %s %s %v", c.ID, c.Join, c.InitialMembers, c.Addr, c.ClientAddr, m.observers); got != "4 [a:2888 b:2888 c:2888] [] d:2888 0.0.0.0:2184 []" {
		t.Errorf("an observer has %s", got)
	}
}

// TestDoorsOfFile has where clients connect.
func TestDoorsOfFile(t *testing.T) {
	cfg := parse(t, "maxClientCnxns=0\n4lw.commands.whitelist=*\nreadonlymode.enabled=true\njute.maxbuffer=100000\nnio.sessionlessCnxnTimeout=2500")
	m, err := memberOf(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.doors) != 1 || m.doors[0].addr != ":2181" {
		t.Fatalf("doors %+v", m.doors)
	}
	o := m.doors[0].options
	if o.MaxConnsPerAddr != -1 || o.MaxConns != 0 || o.MaxFrame != 100000 || !o.ReadOnly || o.FourLetterWords[0] != "*" || o.TLS != nil || o.HandshakeTimeout != 2500*time.Millisecond {
		t.Errorf("options %+v", o)
	}
}

func TestUnserved(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"ticks too short", "tickTime=10", "minSessionTimeout is 20ms, and coord needs 100ms to elect a leader before sessions expire; it is twice tickTime if it is not given"},
		{"a host that is all hosts", strings.Replace(threeServers, "=a:", "=0.0.0.0:", 1), "server.1 has the host 0.0.0.0, at which no other member can reach it: name its own, the same in all files, and set quorumListenOnAllIPs if it must listen on all addresses"},
		{"no port", "clientPort=0", "neither clientPort nor secureClientPort is set: no client could connect"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := memberOf(parse(t, tt.text), slog.New(slog.DiscardHandler)); err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

// TestPlaintextIsWarnedOf has only addresses that other machines can reach be worth it.
func TestPlaintextIsWarnedOf(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	if _, err := memberOf(parse(t, strings.NewReplacer("=a", "=127.0.0.1", "=b", "=localhost", "=c", "=[::1]").Replace(threeServers)), log); err != nil || out.Len() > 0 {
		t.Errorf("error %v, log %s", err, out.String())
	}
	if _, err := memberOf(parse(t, threeServers), log); err != nil || !strings.Contains(out.String(), "members talk in plaintext") {
		t.Errorf("error %v, log %s", err, out.String())
	}
}

func TestConfLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, 457), 0o600); err != nil {
		t.Fatal(err)
	}
	// What ZooKeeper 3.8.0 answers, with coord's directory in the place of its own.
	alone := []string{
		"clientPort=2181", "secureClientPort=-1", "dataDir=" + dir, "dataDirSize=457", "dataLogDir=" + dir, "dataLogSize=457", "tickTime=2000", "maxClientCnxns=60",
		"minSessionTimeout=4000", "maxSessionTimeout=40000", "clientPortListenBacklog=-1", "serverId=0",
	}
	if got := confLines(parse(t, "tickTime=2000"), dir); strings.Join(got, "\n") != strings.Join(alone, "\n") {
		t.Errorf("conf is\n%s", strings.Join(got, "\n"))
	}
	alone[len(alone)-1] = "serverId=1"
	three := append(alone, "initLimit=10", "syncLimit=5", "electionAlg=3", "electionPort=3888", "quorumPort=2888", "peerType=0", "membership: ",
		"server.1=a:2888:3888:participant", "server.2=b:2888:3888:participant", "server.3=c:2888:3888:participant", "version=0")
	if got := confLines(parse(t, "tickTime=2000\n"+threeServers), dir); strings.Join(got, "\n") != strings.Join(three, "\n") {
		t.Errorf("conf is\n%s", strings.Join(got, "\n"))
	}
}

// TestCommandLine has what is refused before anything starts.
func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	minimal := "clientPort=2181\ndataDir=" + filepath.Join(dir, "data") + "\n"
	bad := file("bad.cfg", minimal+"tickTme=2000\n")
	file("theirs/version-2/snapshot.0", "x")
	theirs := file("theirs.cfg", "clientPort=2181\ndataDir="+filepath.Join(dir, "theirs")+"\n")
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no file", []string{"serve"}, "coord: serve needs a zoo.cfg, or --dev"},
		{"no such file", []string{"serve", filepath.Join(dir, "none.cfg")}, "coord: open " + filepath.Join(dir, "none.cfg") + ": no such file or directory"},
		{"both", []string{"serve", "--dev", "zoo.cfg"}, "coord: --dev has no file, and zoo.cfg is one"},
		{"a fault in the file", []string{"serve", bad}, "coord: " + bad + ":3: tickTme=2000: no such key in ZooKeeper 3.8 or 3.9"},
		{"a fault in a definition", []string{"serve", file("good.cfg", minimal), "-D", "nonsense=1"}, "coord: -D: nonsense=1: no such key in ZooKeeper 3.8 or 3.9"},
		{"data of ZooKeeper", []string{"serve", theirs}, "coord: " + filepath.Join(dir, "theirs", "version-2") + " holds the data of a ZooKeeper server, which coord does not read: name another dataDir, or move it away"},
		{"no directory", []string{"serve", file("auto.cfg", minimal+"datadir.autocreate=false")}, "coord: " + filepath.Join(dir, "data", "coord") + " does not exist, and datadir.autocreate is false"},
		{"a log format", []string{"serve", "--dev", "--log-format", "xml"}, `coord: --log-format "xml" is neither text nor json`},
		{"a log level", []string{"serve", "--dev", "--log-level", "loud"}, `coord: --log-level "loud" is none of debug, info, warn and error`},
		{"an address", []string{"serve", "--dev", "--client-addrs", "2181"}, `coord: --client-addrs: "2181" is not host:port`},
		{"dir without dev", []string{"serve", "--dir", dir, bad}, "coord: --dir is of --dev: dataDir says it in a file"},
		{"client addresses without dev", []string{"serve", "--client-addrs", "127.0.0.1:2181", bad}, "coord: --client-addrs is of --dev: clientPort and clientPortAddress say it in a file"},
		{"a directory below a file", []string{"serve", file("below.cfg", minimal+"dataLogDir="+filepath.Join(bad, "data")+"\n")}, "coord: the member's directory, in dataLogDir or dataDir: mkdir " + bad + ": not a directory"},
		{"an unknown flag", []string{"serve", "--prod"}, "coord: unknown flag: --prod"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if status := run(tt.args, &out, &errs); status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			if got := strings.TrimSpace(errs.String()); got != tt.want {
				t.Errorf("said\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// TestDevPeers has a directory keep its ports and its number of members.
func TestDevPeers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	first, err := devPeers(dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	second, err := devPeers(dir, 3)
	if err != nil || fmt.Sprint(first) != fmt.Sprint(second) || len(first) != 3 {
		t.Errorf("first %v, then %v, error %v", first, second, err)
	}
	if _, err := devPeers(dir, 1); err == nil || !strings.Contains(err.Error(), "has 3 members, and --client-addrs has 1") {
		t.Errorf("error %v", err)
	}
}

// TestContainersThatWait has zero mean for ever, as in ZooKeeper.
func TestContainersThatWait(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "znode.container.maxNeverUsedIntervalMs=0": forEver, "znode.container.maxNeverUsedIntervalMs=5000": 5 * time.Second} {
		m, err := memberOf(parse(t, text), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if m.config.ContainerGrace != want {
			t.Errorf("%q: %v, want %v", text, m.config.ContainerGrace, want)
		}
	}
}
