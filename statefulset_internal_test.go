package coord

import (
	"strings"
	"testing"
)

func TestStatefulSet(t *testing.T) {
	cfg, err := statefulSet("billing-2.billing.prod.svc", "billing", 3, 7000)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ID != 3 || cfg.Name != "billing" || len(cfg.InitialMembers) != 3 || cfg.InitialMembers[0] != (Member{ID: 1, Addr: "billing-0.billing:7000"}) {
		t.Errorf("statefulSet = %+v", cfg)
	}
	cfg.Dir = "x"
	cfg.setDefaults()
	if err := cfg.validate(); err == nil || !strings.Contains(err.Error(), "billing-0.billing:7000") || !strings.Contains(err.Error(), "0.0.0.0:7000") {
		t.Errorf("in plaintext: %v", err)
	}
	cfg.Insecure = true
	if err := cfg.validate(); err != nil {
		t.Errorf("it does not validate: %v", err)
	}
	for _, test := range []struct {
		host           string
		replicas, port int
		says           string
	}{
		{"billing-3", 3, 7000, `pod "billing-3" is not among the 3 initial members`},
		{"billing", 3, 7000, `the host is called "billing", want billing-0 to billing-2`},
		{"billing-01", 3, 7000, "billing-01"},
		{"billing--1", 3, 7000, "billing--1"},
		{"other-0", 3, 7000, "other-0"},
		{"billing-0", 0, 7000, "0 replicas"},
		{"billing-0", 3, 70000, "port 70000"},
	} {
		if _, err := statefulSet(test.host, "billing", test.replicas, test.port); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("statefulSet(%q, %d, %d) = %v, want %q", test.host, test.replicas, test.port, err, test.says)
		}
	}
}
