package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"coord"
	"coord/internal/zoocfg"
	"coord/zkserver"
)

// Bounds that coord has and ZooKeeper does not.
const (
	leastElectionTimeout = 50 * time.Millisecond
	mostElectionTimeout  = time.Minute
	leastMaxDataBytes    = 1 << 20
	mostMaxDataBytes     = 16 << 20
	forEver              = time.Duration(math.MaxInt64)
)

// memberOf makes a member of what a zoo.cfg says.
func memberOf(cfg *zoocfg.Config, log *slog.Logger) (*member, error) {
	if err := unserved(cfg); err != nil {
		return nil, err
	}
	m := &member{log: log, config: coord.Config{
		ID:              coord.MemberID(cmp.Or(cfg.MyID, 1)),
		Dir:             filepath.Join(cfg.DataLogDir, "coord"),
		ElectionTimeout: min(max(min(cfg.TickTime, cfg.MinSessionTimeout/2), leastElectionTimeout), mostElectionTimeout),
		DefaultACL:      coord.OpenACL(),
		SuperDigest:     cfg.SuperDigest,
		AdvisoryQuotas:  !cfg.EnforceQuota,
		MaxDataBytes:    maxDataBytes(cfg),
		ReapInterval:    cfg.ContainerInterval,
		SnapshotEntries: uint64(cfg.SnapCount),
		Logger:          log,

		MinSessionTimeout: cfg.MinSessionTimeout,
		MaxSessionTimeout: cfg.MaxSessionTimeout,
	}}
	switch {
	case cfg.ContainerNeverUsed == 0:
		m.config.ContainerGrace = forEver
	case cfg.ContainerNeverUsed > 0:
		m.config.ContainerGrace = cfg.ContainerNeverUsed
	}
	if err := m.join(cfg); err != nil {
		return nil, err
	}
	m.settings = func(s *coord.Settings) {
		s.MinSessionTimeout, s.MaxSessionTimeout = cfg.MinSessionTimeout, cfg.MaxSessionTimeout
		s.MaxDataBytes, s.AdvisoryQuotas = maxDataBytes(cfg), !cfg.EnforceQuota
		s.TTLNodes, s.SuperDigest = cfg.ExtendedTypes, cfg.SuperDigest
	}
	return m, m.openDoors(cfg)
}

// maxDataBytes returns the limit of a znode's data: what fits into a frame does not
// exceed it, as far as coord goes.
func maxDataBytes(cfg *zoocfg.Config) int {
	return min(max(cfg.MaxBuffer, leastMaxDataBytes), mostMaxDataBytes)
}

// zooKeeperDirs returns where a ZooKeeper server with this file keeps its data.
func zooKeeperDirs(cfg *zoocfg.Config) []string {
	dirs := []string{filepath.Join(cfg.DataDir, "version-2"), filepath.Join(cfg.DataLogDir, "version-2")}
	return slices.Compact(dirs)
}

// unserved refuses what the file may say and this command does not do yet.
func unserved(cfg *zoocfg.Config) error {
	var errs []error
	if least := 2 * leastElectionTimeout; cfg.MinSessionTimeout < least {
		errs = append(errs, fmt.Errorf("minSessionTimeout is %v, and coord needs %v to elect a leader before sessions expire; it is twice tickTime if it is not given", cfg.MinSessionTimeout, least))
	}
	if cfg.X509SuperUser != "" {
		errs = append(errs, errors.New("X509AuthenticationProvider.superUser: only DigestAuthenticationProvider.superDigest makes a super user yet"))
	}
	if len(cfg.EnsembleNames) > 0 {
		errs = append(errs, errors.New("ensembleAuthName: the scheme ensemble is not there yet"))
	}
	if cfg.ClientAddr == "" && cfg.SecureClientAddr == "" {
		errs = append(errs, errors.New("neither clientPort nor secureClientPort is set: no client could connect"))
	}
	return errors.Join(errs...)
}

// join fills in the other members and how this one talks to them. An ensemble starts with
// those who vote. Observers join them, and so does whoever comes later: it is listed as an
// observer in its own file, as ZooKeeper recommends, and votes if reconfig has said so.
func (m *member) join(cfg *zoocfg.Config) error {
	if !cfg.Distributed() {
		return nil
	}
	for _, s := range cfg.Servers {
		if ip, err := netip.ParseAddr(s.Host); err == nil && ip.IsUnspecified() {
			return fmt.Errorf("server.%d has the host %s, at which no other member can reach it: name its own, the same in all files, and set quorumListenOnAllIPs if it must listen on all addresses", s.ID, s.Host)
		}
		other := coord.Member{ID: coord.MemberID(s.ID), Addr: s.PeerAddr(), ClientAddr: s.ClientAddr}
		if s.Observer {
			other.Role = coord.Observer
			m.observers = append(m.observers, other)
		} else {
			m.config.InitialMembers = append(m.config.InitialMembers, other)
		}
	}
	me, _ := cfg.Me()
	if me.Observer {
		for _, voter := range m.config.InitialMembers {
			m.config.Join = append(m.config.Join, voter.Addr)
		}
		m.config.InitialMembers, m.observers = nil, nil
		m.config.Addr, m.config.ClientAddr = me.PeerAddr(), me.ClientAddr
	}
	if cfg.ListenOnAll {
		m.config.Listen = net.JoinHostPort("", strconv.Itoa(me.PeerPort))
	}
	if !cfg.SSLQuorum {
		// ZooKeeper's way, which the file asks for by not saying otherwise.
		m.config.Insecure = true
		if others := reachable(cfg); len(others) > 0 {
			m.log.Warn("members talk in plaintext: whoever reaches their ports can read and write everything; set sslQuorum", slog.Any("addrs", others))
		}
		return nil
	}
	t, err := coord.TLSFiles{Cert: cfg.QuorumTLS.KeyStore, Key: cfg.QuorumTLS.KeyStore, CA: cfg.QuorumTLS.TrustStore, Logger: m.log}.Config()
	if err != nil {
		return fmt.Errorf("sslQuorum: %w", err)
	}
	m.config.TLS = t
	return nil
}

// reachable returns the addresses of members that other machines can reach.
func reachable(cfg *zoocfg.Config) []string {
	var addrs []string
	for _, s := range cfg.Servers {
		if ip, err := netip.ParseAddr(s.Host); s.Host != "localhost" && (err != nil || !ip.IsLoopback()) {
			addrs = append(addrs, s.PeerAddr())
		}
	}
	return addrs
}

// openDoors says where and how clients are served.
func (m *member) openDoors(cfg *zoocfg.Config) error {
	plain := zkserver.Options{
		MaxFrame: cfg.MaxBuffer, MaxConnsPerAddr: orUnlimited(cfg.MaxClientCnxns), MaxConns: orUnlimited(cfg.MaxCnxns),
		HandshakeTimeout: cfg.HandshakeTimeout, MaxOutstanding: cfg.OutstandingLimit,
		MinSessionTimeout: cfg.MinSessionTimeout, MaxSessionTimeout: cfg.MaxSessionTimeout,
		ReadOnly: cfg.ReadOnlyMode, Reconfig: cfg.Reconfig,
		// A session that would be upgraded when it needs to be is one of the ensemble from
		// the start: clients see no difference.
		LocalSessions:   cfg.LocalSessions && !cfg.LocalSessionUpgrades,
		FourLetterWords: cfg.Whitelist, Config: func() []string { return confLines(cfg, m.config.Dir) }, Logger: m.log,
	}
	secure := plain
	if cfg.SecureClientAddr != "" || cfg.PortUnification {
		var err error
		if secure.TLS, err = clientTLS(cfg.ClientTLS, m.log); err != nil {
			return err
		}
	}
	if cfg.ClientAddr != "" {
		o := plain
		o.TLS, o.PlaintextToo = secure.TLS, cfg.PortUnification
		if !cfg.PortUnification {
			o.TLS = nil
		}
		m.doors = append(m.doors, door{cfg.ClientAddr, o})
	}
	if cfg.SecureClientAddr != "" {
		m.doors = append(m.doors, door{cfg.SecureClientAddr, secure})
	}
	return nil
}

// orUnlimited returns a limit of ZooKeeper, where zero is none, as zkserver has it; what
// is not given, -1, is its default.
func orUnlimited(n int) int {
	switch n {
	case 0:
		return -1
	case -1:
		return 0
	}
	return n
}
