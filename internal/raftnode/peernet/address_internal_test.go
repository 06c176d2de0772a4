package peernet

import (
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	const dial, listen = 1, 2
	for addr, use := range map[string]int{
		"127.0.0.1:7000":                  dial | listen,
		"[::1]:7000":                      dial | listen,
		"[fe80::1%eth0]:7000":             dial | listen,
		"member-1.orders.svc:7000":        dial | listen,
		"member_1.example.:65535":         dial | listen,
		"localhost:1":                     dial | listen,
		"1and1.example:7000":              dial | listen,
		":7000":                           listen,
		"":                                0,
		"localhost":                       0,
		"localhost:":                      0,
		"localhost:0":                     0,
		"localhost:65536":                 0,
		"localhost:http":                  0,
		"localhost:07000":                 0,
		"localhost:+7":                    0,
		"::1:7000":                        0,
		"[127.0.0.1]:7000":                0,
		"[localhost]:7000":                0,
		"[]:7000":                         0,
		"300.1.1.1:7000":                  0,
		"1.2.3:7000":                      0,
		"a b:7000":                        0,
		"a..b:7000":                       0,
		"-a:7000":                         0,
		"a-:7000":                         0,
		"ü:7000":                          0,
		"a/b:7000":                        0,
		"1@a:7000":                        0,
		strings.Repeat("a", 64) + ":7000": 0,
		strings.Repeat("a.", 128) + ":70": 0,
		strings.Repeat("a", 600) + ":700": 0,
	} {
		if err := ValidAddress(addr); (err == nil) != (use&dial != 0) {
			t.Errorf("ValidAddress(%q) = %v", addr, err)
		}
		if err := ValidListen(addr); (err == nil) != (use&listen != 0) {
			t.Errorf("ValidListen(%q) = %v", addr, err)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, addr := range []string{"a:7000", "[::1]:7000"} {
		id, got, err := parseTarget(Target(1<<63, addr))
		if id != 1<<63 || got != addr || err != nil {
			t.Errorf("parseTarget(Target(1<<63, %q)) = %d, %q, %v", addr, id, got, err)
		}
	}
	for _, bad := range []string{"", "a:7000", "@a:7000", "0@a:7000", "-1@a:7000", "1@", "1@a", "18446744073709551616@a:7000"} {
		if _, _, err := parseTarget(bad); err == nil {
			t.Errorf("parseTarget(%q) succeeded", bad)
		}
	}
}

// Members reach each other by names and by IPv6 addresses.
func TestDialOtherAddresses(t *testing.T) {
	ca := newAuthority(t)
	for name, host := range map[string]string{"name": "localhost", "IPv6": "[::1]"} {
		t.Run(name, func(t *testing.T) {
			bare := strings.Trim(host, "[]")
			f := newFabric(t, 2, ca.secured, func(_ int, nd *node) {
				_, port, _ := strings.Cut(nd.cfg.Addr, ":")
				nd.cfg.Addr = host + ":" + port
				nd.f.setAddr(nd.cfg.Member, nd.cfg.Addr)
				nd.cfg.TLS.Certificates[0] = ca.issue(nil, bare)
			})
			a, b := f.nodes[0], f.nodes[1]
			if err := a.mustConnect(b).SendMessageBatch(batch(a, b, nil)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the batch", func() bool { return b.received() == 1 })
		})
	}
}
