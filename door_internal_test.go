package coord

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"coord/internal/raftnode"
	"coord/internal/raftnode/memnet"
	"coord/internal/replica"
)

// The addresses of three members, of which the second is addr.
func threeWith(addr string) Config {
	return Config{Dir: "x", ID: 1, InitialMembers: []Member{{ID: 1, Addr: "127.0.0.1:7001"}, {ID: 2, Addr: addr}, {ID: 3, Addr: "localhost:7003"}}}
}

func fault(cfg Config) string {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return err.Error()
	}
	return ""
}

func TestPlaintextStaysOnThisMachine(t *testing.T) {
	for addr, open := range map[string]bool{
		"127.0.0.1:7000": false, "127.8.9.10:7000": false, "localhost:7000": false, "LocalHost:7000": false,
		"[::1]:7000": false, "[::ffff:127.0.0.1]:7000": false,
		":7000": true, "0.0.0.0:7000": true, "[::]:7000": true, "10.0.0.1:7000": true, "a:7000": true,
		"localhost.example:7000": true, "127.0.0.1.example:7000": true, "[fe80::1%lo]:7000": true, "[::ffff:10.0.0.1]:7000": true,
	} {
		listening := threeWith("127.0.0.1:7002")
		listening.Listen = addr
		alone := Config{Dir: "x", Listen: addr}
		for where, cfg := range map[string]Config{"among InitialMembers": threeWith(addr), "as Listen": listening, "as Listen of one": alone} {
			err := fault(cfg)
			if open != (err != "") {
				t.Errorf("%s %s: %q", addr, where, err)
			}
			for _, want := range []string{`"` + addr + `"`, "TLS", "Insecure"} {
				if open && !strings.Contains(err, want) {
					t.Errorf("%s %s: the error does not name %s: %s", addr, where, want, err)
				}
			}
			cfg.Insecure = true
			undialled := addr == ":7000" && len(cfg.InitialMembers) > 0 && cfg.InitialMembers[1].Addr == addr
			if err := fault(cfg); undialled != strings.Contains(err, "has no host") || !undialled && err != "" {
				t.Errorf("%s %s, Insecure: %s", addr, where, err)
			}
		}
	}
	if err := fault(Config{Dir: "x"}); err != "" {
		t.Errorf("one member without a port: %s", err)
	}
	inMemory := threeWith("a:1")
	inMemory.memory = raftnode.NewMemory(memnet.New())
	if err := fault(inMemory); err != "" {
		t.Errorf("in memory: %s", err)
	}
}

// What a directory remembers of the other members is an address as well.
func TestRememberedAddressesAreNoWayOut(t *testing.T) {
	cfg := Config{Dir: "x", ID: 1, InitialMembers: []Member{{ID: 1, Addr: "127.0.0.1:7001"}}}
	if err := errors.Join(cfg.doorFaults()...); err != nil {
		t.Errorf("one member on this machine: %v", err)
	}
	cfg.InitialMembers = firstMembers(cfg.InitialMembers, map[replica.MemberID]string{1: "127.0.0.1:7001", 2: "a:7002"})
	if err := errors.Join(cfg.doorFaults()...); err == nil || !strings.Contains(err.Error(), `"a:7002"`) {
		t.Errorf("with what the directory adds: %v", err)
	}
}

func TestTLSIsComplete(t *testing.T) {
	full := func() *tls.Config {
		return &tls.Config{Certificates: make([]tls.Certificate, 1), ClientCAs: x509.NewCertPool(), RootCAs: x509.NewCertPool()}
	}
	refuse := func(tls.ConnectionState) error { return errors.New("no") }
	for _, test := range []struct {
		name   string
		change func(*tls.Config)
		says   []string // nil: accepted
	}{
		{"full", func(*tls.Config) {}, nil},
		{"empty", func(c *tls.Config) { *c = tls.Config{} }, []string{"GetCertificate", "GetClientCertificate", "ClientCAs", "RootCAs"}},
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }, []string{"GetCertificate", "GetClientCertificate"}},
		{"no ClientCAs", func(c *tls.Config) { c.ClientCAs = nil }, []string{"ClientCAs"}},
		{"no RootCAs", func(c *tls.Config) { c.RootCAs = nil }, []string{"RootCAs"}},
		{"believes all", func(c *tls.Config) { c.InsecureSkipVerify = true }, []string{"InsecureSkipVerify"}},
		{"own check", func(c *tls.Config) { c.InsecureSkipVerify, c.VerifyConnection = true, refuse }, nil},
		{"own check beside none", func(c *tls.Config) { c.RootCAs, c.VerifyConnection = nil, refuse }, []string{"RootCAs"}},
		{"old", func(c *tls.Config) { c.MinVersion = tls.VersionTLS11 }, []string{"MinVersion TLS 1.1"}},
		{"callbacks", func(c *tls.Config) {
			c.Certificates, c.ClientCAs = nil, nil
			c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return full(), nil }
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		}, nil},
	} {
		cfg := threeWith("a:7000")
		cfg.TLS = full()
		test.change(cfg.TLS)
		err := fault(cfg)
		if (err == "") != (test.says == nil) {
			t.Errorf("%s: %q", test.name, err)
		}
		for _, want := range test.says {
			if !strings.Contains(err, want) {
				t.Errorf("%s: the error does not name %s: %s", test.name, want, err)
			}
		}
	}
	cfg := threeWith("a:7000")
	cfg.TLS, cfg.Insecure = full(), true
	if err := fault(cfg); !strings.Contains(err, "exclude") {
		t.Errorf("TLS and Insecure: %q", err)
	}
	cfg.setDefaults()
	given := cfg.TLS
	cfg.setDefaults()
	if cfg.TLS == given {
		t.Error("TLS was not copied")
	}
}
