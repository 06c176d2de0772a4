package zoocfg_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"coord/internal/zoocfg"
)

// minimal has what every file needs.
const minimal = "dataDir=/d\nclientPort=2181\n"

// ensemble has what every file of an ensemble needs but its members.
const ensemble = minimal + "initLimit=10\nsyncLimit=5\n"

func parse(t *testing.T, text string) *zoocfg.Config {
	t.Helper()
	c, err := zoocfg.Parse("zoo.cfg", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSampleOfZooKeeper(t *testing.T) {
	data, err := os.ReadFile("testdata/zoo_sample.cfg")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, string(data))
	got := fmt.Sprintln(c.TickTime, c.InitLimit, c.SyncLimit, c.DataDir, c.DataLogDir, c.ClientAddr, c.MinSessionTimeout, c.MaxSessionTimeout,
		c.MaxClientCnxns, c.MaxBuffer, c.Whitelist, c.Distributed(), len(c.Notes))
	const want = "2s 10 5 /tmp/zookeeper /tmp/zookeeper :2181 4s 40s 60 1048575 [srvr] false 0\n"
	if got != want {
		t.Errorf("the sample is\n%s, want\n%s", got, want)
	}
}

func TestEveryKeyOfUse(t *testing.T) {
	data, err := os.ReadFile("testdata/everything.cfg")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, string(data))
	if err := c.ParseMyID("myid", []byte("1\n")); err != nil {
		t.Fatal(err)
	}
	check := func(name string, got, want any) {
		t.Helper()
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
			t.Errorf("%s is %s, want %s", name, g, w)
		}
	}
	check("TickTime", c.TickTime, 500*time.Millisecond)
	check("session timeouts", []any{c.MinSessionTimeout, c.MaxSessionTimeout}, []any{2 * time.Second, time.Minute})
	check("directories", []string{c.DataDir, c.DataLogDir}, []string{"/var/lib/zookeeper", "/var/log/zookeeper-log"})
	check("addresses", []string{c.ClientAddr, c.SecureClientAddr}, []string{"[::1]:2181", "zoo1.example.org:2281"})
	check("limits", []int{c.MaxClientCnxns, c.MaxCnxns, c.OutstandingLimit, c.MaxBuffer, c.SnapCount}, []int{0, 5000, 2000, 0x3fffff, 5000})
	check("Whitelist", c.Whitelist, []string{"stat", "ruok", "conf", "isro"})
	check("flags", []bool{c.EnforceQuota, c.ExtendedTypes, c.ReadOnlyMode, c.LocalSessions, c.LocalSessionUpgrades, c.Reconfig, c.PortUnification, c.SSLQuorum, c.ListenOnAll},
		slices.Repeat([]bool{true}, 9))
	check("containers", []time.Duration{c.ContainerInterval, c.ContainerNeverUsed}, []time.Duration{time.Second, 0})
	check("super", []string{c.SuperDigest, c.X509SuperUser}, []string{"super:D/InIHSb7yEEbrWz8b9l71RjZJU=", "CN=admin,O=Example"})
	check("ClientTLS", []any{c.ClientTLS.KeyStore, c.ClientTLS.TrustStore, c.ClientTLS.ClientAuth, c.ClientTLS.Protocols}, []any{"/etc/zk/client.pem", "/etc/zk/ca.pem", "want", []string{"TLSv1.2", "TLSv1.3"}})
	check("QuorumTLS", []string{c.QuorumTLS.KeyStore, c.QuorumTLS.TrustStore}, []string{"/etc/zk/quorum", "/etc/zk/ca.pem"})
	me, ok := c.Me()
	check("Me", []any{me.ID, me.PeerAddr(), ok, c.Distributed()}, []any{1, "zoo1.example.org:2888", true, true})
	check("the second server", []any{c.Servers[1].PeerAddr(), c.Servers[1].ClientAddr, c.Servers[1].Observer}, []any{"[2001:db8::2]:2888", "0.0.0.0:2181", false})
	check("the third server", []any{c.Servers[2].ClientAddr, c.Servers[2].Observer}, []any{"[::1]:2181", true})
	var passed []string
	for _, n := range c.Notes {
		passed = append(passed, fmt.Sprintf("%d %s", n.Line, n.Key))
	}
	check("Notes", passed, []string{"36 ssl.quorum.keyStore.type", "44 autopurge.purgeInterval", "45 admin.enableServer", "46 metricsProvider.className"})
}

// TestRefused has the exact words: they name the file, the line, the key, the value and
// what would be right.
func TestRefused(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown", minimal + "tickTme=2000", "zoo.cfg:3: tickTme=2000: no such key in ZooKeeper 3.8 or 3.9"},
		{"misspelt", minimal + "ticktime=2000", "zoo.cfg:3: ticktime=2000: no such key: did you mean tickTime?"},
		{"with the prefix of Java", minimal + "zookeeper.extendedTypesEnabled=true", "zoo.cfg:3: zookeeper.extendedTypesEnabled=true: no such key: did you mean extendedTypesEnabled?"},
		{"no number", minimal + "tickTime=2s", "zoo.cfg:3: tickTime=2s: want a number of milliseconds from 1 to 2147483647"},
		{"too small", minimal + "tickTime=0", "zoo.cfg:3: tickTime=0: want a number of milliseconds from 1 to 2147483647"},
		{"too large", "dataDir=/d\nclientPort=65536", "zoo.cfg:2: clientPort=65536: want a number from 0 to 65535"},
		{"no flag", minimal + "reconfigEnabled=yes", "zoo.cfg:3: reconfigEnabled=yes: want true or false"},
		{"empty", "dataDir=\nclientPort=2181", "zoo.cfg:1: dataDir=: is empty\nzoo.cfg: dataDir is not set"},
		{"no dataDir", "clientPort=2181", "zoo.cfg: dataDir is not set"},
		{"an address without a port", "dataDir=/d\nclientPortAddress=::1", "zoo.cfg:2: clientPortAddress=::1: clientPort is not set"},
		{"bounds that cross", minimal + "minSessionTimeout=60001", "zoo.cfg:3: minSessionTimeout=60001: is more than maxSessionTimeout, 60000"},
		{"ACLs switched off", minimal + "skipACL=yes", "zoo.cfg:3: skipACL=yes: ACLs are always checked"},
		{"quorums of weights", minimal + "weight.1=3", "zoo.cfg:3: weight.1=3: quorums are majorities: groups and weights are not there"},
		{"SASL", minimal + "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider", "zoo.cfg:3: authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider: coord has the schemes world, auth, digest, ip, x509, super and user, and none of other classes"},
		{"a secret", minimal + "SASLAuthenticationProvider.superPassword=hunter2", "zoo.cfg:3: SASLAuthenticationProvider.superPassword=xxxxxxx: there is no SASL"},
		{"both faults", "x=1\ny=2\n" + minimal, "zoo.cfg:1: x=1: no such key in ZooKeeper 3.8 or 3.9\nzoo.cfg:2: y=2: no such key in ZooKeeper 3.8 or 3.9"},
		{"lines in a value", minimal + `tickTime=1\n2`, `zoo.cfg:3: tickTime="1\n2": want a number of milliseconds from 1 to 2147483647`},
		{"a Java key store", minimal + "secureClientPort=2281\nssl.keyStore.location=/k.jks\nssl.trustStore.location=/t.pem", "zoo.cfg:4: ssl.keyStore.location=/k.jks: only PEM files are read: openssl pkcs12 -in STORE.p12 -nodes -out STORE.pem makes one, after keytool -importkeystore for a JKS"},
		{"TLS without keys", minimal + "secureClientPort=2281", "zoo.cfg: ssl.keyStore.location=: is not set\nzoo.cfg: ssl.trustStore.location=: is not set"},
		{"TLS of old", minimal + "secureClientPort=2281\nssl.keyStore.location=/k.pem\nssl.clientAuth=none\nssl.enabledProtocols=TLSv1.1", "zoo.cfg:6: ssl.enabledProtocols=TLSv1.1: TLSv1.1 is neither TLSv1.2 nor TLSv1.3"},
		{"unknown key of TLS", minimal + "ssl.keystore=/k.pem", "zoo.cfg:3: ssl.keystore=/k.pem: no such key in ZooKeeper 3.8 or 3.9"},

		{"no limits", minimal + "server.1=a:1:2\nserver.2=b:1:2", "zoo.cfg: initLimit is not set, which an ensemble needs\nzoo.cfg: syncLimit is not set, which an ensemble needs"},
		{"a server twice", ensemble + "server.1=a:1:2\nserver.1=b:1:2", "zoo.cfg:6: server.1=b:1:2: line 5 has this server already"},
		{"a server zero", ensemble + "server.0=a:1:2", `zoo.cfg:5: server.0=a:1:2: the id "0" is not a number from 1 to 9223372036854775807`},
		{"observers alone", ensemble + "server.1=a:1:2:observer", "zoo.cfg: all 1 servers are observers: at least one must vote"},
		{"an ensemble of nobody", ensemble + "standaloneEnabled=false", "zoo.cfg: standaloneEnabled=false needs a server.N line at least"},
		{"members in both files", ensemble + "server.1=a:1:2\ndynamicConfigFile=/d/zoo.dyn", "zoo.cfg:6: dynamicConfigFile=/d/zoo.dyn: the server.N lines must be in that file, and not in zoo.cfg"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := zoocfg.Parse("zoo.cfg", []byte(tt.text))
			if err == nil {
				t.Fatalf("%q was accepted", tt.text)
			}
			if got := sortedLines(err.Error()); got != sortedLines(tt.want) {
				t.Errorf("error\n%s\nwant\n%s", got, tt.want)
			}
			if _, ok := errors.AsType[*zoocfg.Error](err); !ok {
				t.Errorf("%v is no *Error", err)
			}
		})
	}
}

// TestEveryKeyIsKnown has the keys of ZooKeeper 3.8.0, as the constants of its jar have
// them, and those that the administrator's guide of 3.9 adds.
func TestEveryKeyIsKnown(t *testing.T) {
	data, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		key := strings.TrimSpace(line)
		if key == "" || key[0] == '#' {
			continue
		}
		_, err := zoocfg.Parse("zoo.cfg", []byte(minimal+key+"=1"))
		if err != nil && strings.Contains(err.Error(), "no such key") {
			t.Error(err)
		}
	}
}

func sortedLines(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestServerLines(t *testing.T) {
	tests := []struct{ line, want string }{
		{"a:2888:3888", "a:2888 3888 false "},
		{"a:2888:3888;2181", "a:2888 3888 false 0.0.0.0:2181"},
		{"a:2888:3888:PARTICIPANT;b:2181", "a:2888 3888 false b:2181"},
		{"a:2888:3888:observer", "a:2888 3888 true "},
		{"[::1]:2888:3888:observer;[fe80::1]:2181", "[::1]:2888 3888 true [fe80::1]:2181"},
		{"a_b.example:1:65535", "a_b.example:1 65535 false "},

		{"a:2888", "want " + form},
		{"a:2888:3888:participant:x", "want " + form},
		{"a:2888:3888:leader", `the role "leader" is neither participant nor observer`},
		{":2888:3888", `the host "" is no name of 1 to 253 bytes and no address`},
		{"a b:2888:3888", `the host "a b" is no name of 1 to 253 bytes and no address`},
		{"a:0:3888", `the peer port "0" is not a number from 1 to 65535`},
		{"a:2888:65536", `the election port "65536" is not a number from 1 to 65535`},
		{"a:2888:2888", "the peer port and the election port are both 2888"},
		{"a:2888:3888;", `the client port "" is not a number from 1 to 65535`},
		{"a:2888:3888;b:c:2181", "want " + form},
		{"a:2888:3888;2181;2281", "a part for the secure port is of ZooKeeper 3.10: use secureClientPort; want " + form},
		{"a:2888:3888|b:2889:3889", "a server has one address: members find each other by one, so several joined by | are refused"},
		{"[::1:2888:3888", "the bracket of the address is not closed"},
		{"[::1]2888:3888", `"2888:3888" follows the bracket, want a colon`},
		{"[10.0.0.1]:2888:3888", `"[10.0.0.1]" is not an IPv6 address`},
		{"::1:2888:3888", "want " + form},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			c, err := zoocfg.Parse("zoo.cfg", []byte(ensemble+"server.7="+tt.line+"\nserver.8=other:1:2"))
			if e, ok := errors.AsType[*zoocfg.Error](err); ok {
				if e.Reason != tt.want || e.Line != 5 || e.Key != "server.7" {
					t.Errorf("error %v, want %s", e, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s := c.Servers[0]
			if got := fmt.Sprint(s.PeerAddr(), " ", s.ElectionPort, " ", s.Observer, " ", s.ClientAddr); got != tt.want {
				t.Errorf("%s is %s, want %s", tt.line, got, tt.want)
			}
		})
	}
}

const form = "host:peerPort:electionPort[:participant|observer][;[clientAddress:]clientPort]"

// TestFaultsAreCounted has a file that is something else altogether.
func TestFaultsAreCounted(t *testing.T) {
	_, err := zoocfg.Parse("zoo.cfg", []byte(strings.Repeat("x\n", 1000)))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 21 || lines[20] != "zoo.cfg: has 981 more faults" {
		t.Errorf("%d lines, the last is %s", len(lines), lines[len(lines)-1])
	}
}

// TestKeyTwice has the last one count, as in Java, and says so.
func TestKeyTwice(t *testing.T) {
	c := parse(t, minimal+"tickTime=1000\ntickTime=3000")
	if c.TickTime != 3*time.Second || len(c.Notes) != 1 || c.Notes[0].Reason != "line 4 says it again, and the last one counts" {
		t.Errorf("tickTime is %v, notes %v", c.TickTime, c.Notes)
	}
}

// TestPropertiesOfTheCommandLine has what JVMFLAGS say count less than the file.
func TestPropertiesOfTheCommandLine(t *testing.T) {
	c, err := zoocfg.Parse("zoo.cfg", []byte(minimal+"enforceQuota=false"), "zookeeper.extendedTypesEnabled=true", "jute.maxbuffer=2097152", "zookeeper.enforceQuota=true")
	if err != nil {
		t.Fatal(err)
	}
	if !c.ExtendedTypes || c.MaxBuffer != 2<<20 || c.EnforceQuota || len(c.Notes) != 0 {
		t.Errorf("extended types %v, max buffer %d, quotas %v, notes %v", c.ExtendedTypes, c.MaxBuffer, c.EnforceQuota, c.Notes)
	}
	_, err = zoocfg.Parse("zoo.cfg", []byte(minimal), "zookeeper.nonsense=1")
	if err == nil || err.Error() != "-D: nonsense=1: no such key in ZooKeeper 3.8 or 3.9" {
		t.Errorf("error %v", err)
	}
}

// write makes a directory with the named files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	const three = "server.1=a:2888:3888;0.0.0.0:2191\nserver.2=b:2888:3888;c:2181\nserver.3=c:2888:3888\n"
	base := strings.ReplaceAll(ensemble, "/d", "DIR")
	tests := []struct {
		name  string
		files map[string]string
		want  string // client address and member, or the error
	}{
		{"alone", map[string]string{"zoo.cfg": base}, ":2181 0"},
		{"alone with a name", map[string]string{"zoo.cfg": base, "myid": " 7 \nrest"}, ":2181 7"},
		{"alone with a line", map[string]string{"zoo.cfg": base + "server.1=a:1:2"}, ":2181 0"},
		{"the third of three", map[string]string{"zoo.cfg": base + three, "myid": "3"}, ":2181 3"},
		{"a dynamic file", map[string]string{"zoo.cfg": base + "dynamicConfigFile=DIR/zoo.dyn", "zoo.dyn": three, "myid": "2"}, "c:2181 2"},
		{"no myid", map[string]string{"zoo.cfg": base + three}, "DIR/myid: is missing: it holds the N of this server's server.N line"},
		{"a strange myid", map[string]string{"zoo.cfg": base + three, "myid": "one"}, `DIR/myid:1: "one" is not a number from 1 to 9223372036854775807`},
		{"nobody's myid", map[string]string{"zoo.cfg": base + three, "myid": "4"}, "DIR/myid:1: DIR/zoo.cfg has no line server.4"},
		{"two client addresses", map[string]string{"zoo.cfg": base + three, "myid": "1"}, "DIR/zoo.cfg: server.1=a:2888:3888;0.0.0.0:2191: its client address is not that of clientPort in DIR/zoo.cfg, :2181"},
		{"no dynamic file", map[string]string{"zoo.cfg": base + "dynamicConfigFile=DIR/zoo.dyn"}, "open DIR/zoo.dyn: no such file or directory"},
		{"more in the dynamic file", map[string]string{"zoo.cfg": base + "dynamicConfigFile=DIR/zoo.dyn", "zoo.dyn": three + "tickTime=1"}, "DIR/zoo.dyn:4: tickTime=1: a dynamic file has server.N lines only"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, tt.files)
			var got string
			if c, err := zoocfg.Load(filepath.Join(dir, "zoo.cfg")); err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR")
			} else {
				got = fmt.Sprint(c.ClientAddr, " ", c.MyID)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// FuzzParse checks that whatever is accepted makes sense, and that faults name a file.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"zoo_sample.cfg", "everything.cfg"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(ensemble + "server.1=[::1]:1:2;[::1]:3\nserver.2=a:1:2:observer\nstandaloneEnabled=false\nsslQuorum=true"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := zoocfg.Parse("zoo.cfg", data)
		if err != nil {
			if said := err.Error(); !strings.Contains(said, "zoo.cfg") || !utf8.ValidString(said) || strings.ContainsFunc(strings.ReplaceAll(said, "\n", ""), unicode.IsControl) {
				t.Errorf("the error %q", err)
			}
			return
		}
		if c.DataDir == "" || c.TickTime <= 0 || c.MinSessionTimeout > c.MaxSessionTimeout || c.MaxBuffer < 1 || c.ClientAddr == ":0" {
			t.Errorf("accepted %+v", c)
		}
		for _, s := range c.Servers {
			if s.ID == 0 || s.Host == "" || s.PeerPort == 0 || s.PeerPort == s.ElectionPort {
				t.Errorf("accepted %+v", s)
			}
		}
	})
}
