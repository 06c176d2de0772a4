package coord

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzDecodeResult reads the answers that a state keeps for a member.
func FuzzDecodeResult(f *testing.F) {
	for _, m := range goldenState(formatVersion).members {
		for i := range m.results {
			e := newEncoder()
			e.result(&m.results[i])
			f.Add(bytes.Clone(e.buf.Bytes()))
		}
	}
	f.Add([]byte{0x96, 0, 1, 0, 0, 0, 0xdd, 0, 0, 0xff, 0xff}) // announces 65535 answers
	read := func(b []byte) (result, error) {
		var r result
		d := newDecoder(b)
		d.result(&r)
		return r, d.done()
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := read(b)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("result = %v, which is not errMalformed", err)
			}
			return
		}
		e := newEncoder()
		e.result(&r)
		if again, err := read(e.buf.Bytes()); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("round trip: %+v, %v; want %+v", again, err, r)
		}
	})
}

// FuzzACL sets ACLs of arbitrary entries for arbitrary callers. What is stored can be
// stored again by anybody and means what its entries mean, one by one.
func FuzzACL(f *testing.F) {
	for _, id := range []ID{
		anyone, member,
		{"digest", "u:h"},
		{"digest", "a:b:"},
		{"ip", "10.0.0.1/8"},
		{"ip", "::ffff:10.0.0.1"},
		{"ip", "fe80::1%x"},
		{"x509", "CN=a,O=b"},
		{"user", "eve"},
		{"auth", ""},
		{"super", ""},
		{"jwt", "x"},
		{"", ""},
		{"ip", "10.0.0.1/8"},
		{"ip", "2001:db8::/32"},
	} {
		f.Add(uint32(PermAll), id.Scheme, id.ID, "ip", "10.1.1.1")
		f.Add(uint32(PermRead), id.Scheme, id.ID, id.Scheme, id.ID)
	}
	f.Fuzz(func(t *testing.T, perms uint32, scheme, id, callerScheme, callerID string) {
		s := newState(rootGroup)
		s.settings.schemes = []string{"jwt"}
		s.users.byName.put(&user{name: "eve"})
		caller := []ID{{callerScheme, callerID}}
		entry := ACL{Perm(perms), ID{scheme, id}}
		list, code := s.settings.normalizeACL([]ACL{entry, entry}, caller)
		if code != codeOK {
			if code != ErrInvalidACL || list != nil {
				t.Fatalf("normalizeACL = %v, %v", list, code)
			}
			return
		}
		want := entry
		if scheme == schemeAuth {
			want.ID = caller[0]
		}
		if !slices.Equal(list, []ACL{want}) {
			t.Fatalf("normalizeACL(%v) = %v, want %v", entry, list, want)
		}
		if scheme == schemeAuth {
			return // what a caller claims is for whoever opens its session to check
		}
		again, code := s.settings.normalizeACL(list, []ID{})
		if code != codeOK || !slices.Equal(again, list) {
			t.Fatalf("normalizeACL of what is stored = %v, %v, want %v", again, code, list)
		}
		e := newEncoder()
		e.acl(list)
		d := newDecoder(e.buf.Bytes())
		if back := d.acl(); d.done() != nil || !slices.Equal(back, list) {
			t.Fatalf("%v is read as %v, %v", list, back, d.done())
		}
		e1 := s.acls.intern(list)
		for p := PermRead; p <= PermAdmin; p <<= 1 {
			allowed := s.permits(e1, caller, p)
			if allowed && entry.Perms&p == 0 && callerScheme != schemeSuper {
				t.Fatalf("%v lets %v do %d", list, caller, p)
			}
			same := entry.ID == anyone || callerScheme == scheme && (scheme == schemeIP || callerID == id) || callerScheme == schemeSuper
			if allowed && !same {
				t.Fatalf("%v lets %v do %d", list, caller, p)
			}
		}
		for _, a := range redactACL(list) {
			if _, hash, ok := strings.Cut(id, ":"); ok && scheme == schemeDigest && hash != "x" && strings.Contains(a.ID.ID, ":"+hash) {
				t.Fatalf("%v is shown as %v", list, a)
			}
		}
	})
}

// FuzzNetwork compares addresses and networks with package net's own parser and
// arithmetic on numbers.
func FuzzNetwork(f *testing.F) {
	for _, s := range []string{
		"10.0.0.1", "10.0.0.0/8", "10.0.0.1/0", "10.0.0.1/32", "10.0.0.1/33", "010.0.0.1", "10.0.0", "::1", "2001:db8::/32", "::/0", "::ffff:1.2.3.4",
		"::ffff:10.0.0.0/104", "fe80::1%eth0", "fe80::%eth0/10", "1.2.3.4/", "/8", "", "1.2.3.4/+8", "1.2.3.4/08",
	} {
		f.Add(s, "10.1.2.3")
		f.Add(s, "2001:db8::1")
		f.Add(s, "::ffff:10.1.2.3")
	}
	f.Fuzz(func(t *testing.T, network, addr string) {
		p, ok := parseNetwork(network)
		host, bits, masked := strings.Cut(network, "/")
		ip := net.ParseIP(host)
		if !ok {
			_, _, err := net.ParseCIDR(network)
			padded := len(bits) > 1 && bits[0] == '0' // which package net alone takes
			if masked && err == nil && !padded && !strings.Contains(host, ".") || !masked && ip != nil {
				t.Fatalf("parseNetwork(%q) refuses what package net takes", network)
			}
			return
		}
		if ip == nil {
			t.Fatalf("parseNetwork(%q) = %v, which package net refuses", network, p)
		}
		s := newState(rootGroup)
		have, err := netip.ParseAddr(addr)
		if got := s.matches(ID{schemeIP, addr}, ID{schemeIP, network}); got {
			if err != nil || have.Is4() != p.Addr().Is4() {
				t.Fatalf("%q matches %q", addr, network)
			}
			length := uint(p.Addr().BitLen() - p.Bits())
			a, b := new(big.Int).SetBytes(have.AsSlice()), new(big.Int).SetBytes(p.Addr().AsSlice())
			if a.Rsh(a, length).Cmp(b.Rsh(b, length)) != 0 {
				t.Fatalf("%q matches %q with %q bits", addr, network, bits)
			}
		}
	})
}

// FuzzDistinguishedName sees that a name which is accepted falls into attributes that
// are accepted one by one, and that none has a character which could end a line.
func FuzzDistinguishedName(f *testing.F) {
	for _, s := range []string{
		"CN=a", "CN=web-1.example.org,OU=web,O=Example\\, Inc.,C=DE", "CN=a+UID=b", "2.5.4.3=#0c0161", `CN=a\2Cb\ `, "CN=", "", "CN=a,", "=a", `CN="a"`, "CN=\\", "CN=é",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !validDistinguishedName(name) {
			return
		}
		if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q has a control character", name)
		}
		for rest, more := name, true; more; {
			var attribute string
			attribute, rest, more = cutAttribute(rest)
			if !validDistinguishedName(attribute) {
				t.Fatalf("%q is accepted and its part %q is not", name, attribute)
			}
		}
		if !validDistinguishedName(name+","+name) || !validDistinguishedName(name+"+"+name) {
			t.Fatalf("%q is accepted and twice is not", name)
		}
	})
}

// FuzzCredential makes identities of arbitrary digest credentials.
func FuzzCredential(f *testing.F) {
	for _, s := range []string{"u:p", "u", "", ":", "u:", "a:b:c", "u\x00:p"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, credential string) {
		id := DigestID(credential)
		name, _, _ := strings.Cut(credential, ":")
		hash, ok := strings.CutPrefix(id.ID, name+":")
		if id.Scheme != schemeDigest || !ok || len(hash) != 28 || strings.Contains(hash, ":") {
			t.Fatalf("DigestID(%q) = %q", credential, id.ID)
		}
		if name != "" && strings.Count(name, ":") == 0 && len(id.ID) <= maxIDBytes && !new(settings).validACLID(id) {
			t.Fatalf("DigestID(%q) cannot stand in an ACL", credential)
		}
	})
}

// FuzzConfig validates configurations that are arbitrary where text and numbers are.
// What is valid starts a state, also one that was read from the log.
func FuzzConfig(f *testing.F) {
	valid, _ := json.Marshal(fuzzedConfig{ //nolint:musttag // the names of fields will do
		Name: "n", ID: 1, Dir: "d", Listen: "a:1", Members: []Member{{ID: 1, Addr: "a:1"}, {ID: 2, Addr: "b:1"}}, Election: int64(time.Second),
		SuperDigest: "super:h", DefaultACL: []ACL{{PermAll, ID{"digest", "u:h"}}}, Schemes: []string{"jwt"},
	})
	f.Add(valid)
	f.Add([]byte(`{"ID":3,"Dir":"d"}`))
	f.Add([]byte(`{"Dir":"d","Listen":":http","Schemes":["ip",""],"DefaultACL":[{}]}`))
	f.Add([]byte(`{"Dir":"d","MinSession":-1,"MaxSession":9223372036854775807,"MaxData":-9,"Watch":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in fuzzedConfig
		if json.Unmarshal(b, &in) != nil { //nolint:musttag // as above
			return
		}
		cfg := in.config()
		cfg.setDefaults()
		if cfg.validate() != nil {
			return
		}
		_ = cfg.timing()
		_ = cfg.advertised()
		e := newEncoder()
		e.command(&command{kind: commandInit, group: rootGroup, member: cfg.ID, init: cfg.initCommand()}, formatVersion)
		cmd, err := decodeCommand(e.buf.Bytes())
		if err != nil {
			t.Fatalf("%s is valid and its first command is not: %v", b, err)
		}
		s := newState(rootGroup)
		s.apply(cmd, 0)
		if err := s.firstViolation(); err != nil || !s.started() {
			t.Fatalf("%s starts a state with %v", b, err)
		}
	})
}

// A fuzzedConfig is what FuzzConfig varies of a Config.
type fuzzedConfig struct {
	Name, Dir, Listen, SuperDigest                string
	ID                                            MemberID
	Members                                       []Member
	Election, Session, MinSession, MaxSession     int64
	Operation, Close, Reap, Grace                 int64
	MaxData, Watch, Watches, History, HistorySize int
	Shards                                        uint64
	DefaultACL                                    []ACL
	Schemes                                       []string
}

func (in *fuzzedConfig) config() Config {
	d := func(n int64) time.Duration { return time.Duration(n) }
	cfg := Config{
		Name: in.Name, ID: in.ID, Dir: in.Dir, InitialMembers: in.Members, Listen: in.Listen, SuperDigest: in.SuperDigest,
		ElectionTimeout: d(in.Election), SessionTimeout: d(in.Session), MinSessionTimeout: d(in.MinSession), MaxSessionTimeout: d(in.MaxSession),
		OperationTimeout: d(in.Operation), CloseTimeout: d(in.Close), ReapInterval: d(in.Reap), ContainerGrace: d(in.Grace),
		MaxDataBytes: in.MaxData, WatchBuffer: in.Watch, MaxWatches: in.Watches, HistoryEvents: in.History, HistoryBytes: in.HistorySize,
		LogShards: in.Shards, DefaultACL: in.DefaultACL, Authenticators: map[string]Authenticator{}, Logger: slog.New(slog.DiscardHandler),
	}
	for _, scheme := range in.Schemes {
		cfg.Authenticators[scheme] = noAuthenticator{}
	}
	return cfg
}

// noAuthenticator is there to be listed.
type noAuthenticator struct{ Authenticator }

// FuzzStatefulSet sees that a pod which is accepted is the member of its number and
// gets a valid configuration if its name can stand in an address.
func FuzzStatefulSet(f *testing.F) {
	f.Add("billing-2.billing.prod.svc", "billing", 3, 7000)
	f.Add("billing-01", "billing", 3, 7000)
	f.Add("billing--1", "billing", 3, 7000)
	f.Add("-0", "", 1, 65535)
	f.Add("a:b-0", "a:b", 1, 1)
	f.Fuzz(func(t *testing.T, host, name string, replicas, port int) {
		cfg, err := statefulSet(host, name, replicas, port)
		if err != nil {
			return
		}
		if cfg.ID < 1 || uint64(cfg.ID) > uint64(replicas) || len(cfg.InitialMembers) != replicas {
			t.Fatalf("statefulSet(%q, %q, %d, %d) = %v of %v", host, name, replicas, port, cfg.ID, cfg.InitialMembers)
		}
		pod, _, _ := strings.Cut(host, ".")
		if addr := cfg.InitialMembers[cfg.ID-1].Addr; !strings.HasPrefix(addr, pod+"."+name+":") {
			t.Fatalf("statefulSet(%q, %q, %d, %d) is reached at %q", host, name, replicas, port, addr)
		}
	})
}

// FuzzParseIDs sees that the texts of numbers are read back as what they are, and
// that nothing else is read.
func FuzzParseIDs(f *testing.F) {
	for _, s := range []string{"0x2a", "0x000000000000002a", "42", "0", "-1", "+1", "0x", "0X1", "1_0", "18446744073709551616", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if z, err := ParseZXID(text); err == nil {
			if again, err := ParseZXID(z.String()); err != nil || again != z {
				t.Errorf("%q is the zxid %v, which is read as %v, %v", text, z, again, err)
			}
		}
		if id, err := ParseSessionID(text); err == nil {
			if again, err := ParseSessionID(id.String()); err != nil || again != id {
				t.Errorf("%q is the session %v, which is read as %v, %v", text, id, again, err)
			}
		}
		if id, err := ParseMemberID(text); err == nil {
			if again, err := ParseMemberID(id.String()); err != nil || again != id || id == 0 {
				t.Errorf("%q is the member %v, which is read as %v, %v", text, id, again, err)
			}
		}
	})
}
