package zoocfg

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Config is what a zoo.cfg says, with ZooKeeper's defaults filled in.
type Config struct {
	File string

	TickTime                             time.Duration
	InitLimit, SyncLimit                 int // ticks; 0 if not given
	MinSessionTimeout, MaxSessionTimeout time.Duration

	DataDir    string
	DataLogDir string // DataDir if not given

	// ClientAddr and SecureClientAddr are where clients connect, in plaintext and by
	// TLS: host:port with an empty host for all addresses. Empty is none.
	ClientAddr, SecureClientAddr string
	PortUnification              bool // ClientAddr takes TLS as well
	MaxClientCnxns               int  // of one address; 0 is no limit
	MaxCnxns                     int  // in all; 0 is no limit, -1 not given
	OutstandingLimit             int
	HandshakeTimeout             time.Duration // 0 if not given
	MaxBuffer                    int           // bytes of a frame
	Whitelist                    []string      // of four-letter words; "*" is all

	ExtendedTypes        bool // znodes with a time to live
	EnforceQuota         bool
	ReadOnlyMode         bool
	LocalSessions        bool
	LocalSessionUpgrades bool
	Reconfig             bool
	SuperDigest          string
	X509SuperUser        string
	EnsembleNames        []string // of the scheme ensemble
	SnapCount            int      // 0 if not given

	ContainerInterval time.Duration // 0 if not given
	// ContainerNeverUsed is how long a container may wait for its first child; 0 is
	// for ever, negative is not given.
	ContainerNeverUsed time.Duration

	ClientTLS   TLS
	QuorumTLS   TLS // counts if SSLQuorum is set
	SSLQuorum   bool
	ListenOnAll bool // addresses of the machine, at the peer port
	AutoCreate  bool // the directories
	Standalone  bool // one server is no ensemble
	DynamicFile string
	Servers     []Server // by id
	MyID        uint64   // 0 if there is no file

	Notes []Note // what is passed, in the order of the lines

	given              map[string]property // by key, as far as the file was read
	clientIP, secureIP string              // clientPortAddress and secureClientPortAddress
	port, secure       int                 // clientPort and secureClientPort, 0 if not given
	minMS, maxMS       int                 // minSessionTimeout and maxSessionTimeout, -1 if not given
	membersFile        string              // where Servers are from
}

// A TLS names the PEM files of one side's keys.
type TLS struct {
	KeyStore   string   // a certificate chain and its key
	TrustStore string   // authorities
	ClientAuth string   // "need", "want" or "none"
	Protocols  []string // TLSv1.2 and TLSv1.3; none for both

	keyIsPEM, trustIsPEM bool // by their types
}

// faults checks the files of one side, whose keys begin with prefix.
func (t *TLS) faults(c *Config, prefix string) []error {
	var errs []error
	wrong := func(key, reason string) {
		p := c.given[prefix+key]
		errs = append(errs, &Error{File: c.File, Line: p.line, Key: prefix + key, Value: p.value, Reason: reason})
	}
	if t.KeyStore == "" {
		wrong("keyStore.location", "is not set")
	} else if !t.keyIsPEM && filepath.Ext(t.KeyStore) != ".pem" {
		wrong("keyStore.location", notPEM)
	}
	if t.TrustStore == "" && t.ClientAuth != "none" {
		wrong("trustStore.location", "is not set")
	} else if t.TrustStore != "" && !t.trustIsPEM && filepath.Ext(t.TrustStore) != ".pem" {
		wrong("trustStore.location", notPEM)
	}
	for _, version := range t.Protocols {
		if version != "TLSv1.2" && version != "TLSv1.3" {
			wrong("enabledProtocols", short(version)+" is neither TLSv1.2 nor TLSv1.3")
		}
	}
	return errs
}

// A Server is a member, as a server.N line names it.
type Server struct {
	ID           uint64
	Host         string // without brackets
	PeerPort     int
	ElectionPort int
	Observer     bool
	ClientAddr   string // host:port; empty if the line names none
	Line         string // its value as it was given
}

// PeerAddr returns host:port of the peer port.
func (s Server) PeerAddr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.PeerPort)) }

// Distributed reports whether the file makes an ensemble, not a server by itself.
func (c *Config) Distributed() bool {
	return len(c.Servers) > 1 || len(c.Servers) == 1 && !c.Standalone
}

// Me returns this member's line, or false if there is none.
func (c *Config) Me() (Server, bool) {
	i := slices.IndexFunc(c.Servers, func(s Server) bool { return s.ID == c.MyID })
	if i < 0 {
		return Server{}, false
	}
	return c.Servers[i], true
}

// defaults returns what ZooKeeper does if the file says nothing.
func defaults(name string) *Config {
	return &Config{
		File: name, TickTime: 3 * time.Second, MaxClientCnxns: 60, MaxCnxns: -1, OutstandingLimit: 1000, MaxBuffer: 0xfffff,
		Whitelist: []string{"srvr"}, ContainerNeverUsed: -1, Standalone: true, AutoCreate: true,
		ClientTLS: TLS{ClientAuth: "need"}, QuorumTLS: TLS{ClientAuth: "need"},
		minMS: -1, maxMS: -1, given: map[string]property{},
	}
}

// Parse reads a zoo.cfg. properties are settings as the command line of Java has them,
// each "key=value" with or without the prefix "zookeeper."; those of the file count more.
//
// The error joins the faults that were found, each an [*Error]. Of a file that names a
// dynamic one the members are missing until [Config.ParseDynamic].
func Parse(name string, data []byte, properties ...string) (*Config, error) {
	list, err := parseProperties(name, data)
	if err != nil {
		return nil, err
	}
	c := defaults(name)
	var errs []error
	for _, text := range properties {
		key, value, _ := strings.Cut(text, "=")
		p := property{key: strings.TrimPrefix(key, "zookeeper."), value: value}
		errs = append(errs, c.set("-D", p))
	}
	clear(c.given) // the file may say the same again
	for _, p := range list {
		errs = append(errs, c.set(name, p))
	}
	errs = append(errs, c.complete()...)
	if err := joined(name, errs); err != nil {
		return nil, err
	}
	return c, nil
}

// joined is errors.Join of as many faults as somebody may want to read: of a file that
// is something else every line is one.
func joined(name string, errs []error) error {
	const most = 20
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if more := len(errs) - most; more > 0 {
		errs = append(errs[:most], &Error{File: name, Reason: fmt.Sprintf("has %d more faults", more)})
	}
	return errors.Join(errs...)
}

// complete derives what several keys decide together.
func (c *Config) complete() []error {
	var errs []error
	wrong := func(broken bool, key, format string, args ...any) {
		if broken {
			p := c.given[key]
			errs = append(errs, &Error{File: c.File, Line: p.line, Key: key, Value: p.value, Reason: fmt.Sprintf(format, args...)})
		}
	}
	if c.DataDir == "" {
		errs = append(errs, &Error{File: c.File, Reason: "dataDir is not set"})
	}
	if c.DataLogDir == "" {
		c.DataLogDir = c.DataDir
	}
	tick := int(c.TickTime / time.Millisecond)
	least, most := c.minMS, c.maxMS
	if least == -1 {
		least = 2 * tick
	}
	if most == -1 {
		most = 20 * tick
	}
	wrong(least > most, "minSessionTimeout", "is more than maxSessionTimeout, %d", most)
	c.MinSessionTimeout, c.MaxSessionTimeout = time.Duration(least)*time.Millisecond, time.Duration(most)*time.Millisecond
	wrong(c.clientIP != "" && c.port == 0, "clientPortAddress", "clientPort is not set")
	wrong(c.secureIP != "" && c.secure == 0, "secureClientPortAddress", "secureClientPort is not set")
	if c.port != 0 {
		c.ClientAddr = net.JoinHostPort(c.clientIP, strconv.Itoa(c.port))
	}
	if c.secure != 0 {
		c.SecureClientAddr = net.JoinHostPort(c.secureIP, strconv.Itoa(c.secure))
	}
	wrong(c.secure != 0 && c.secure == c.port && c.clientIP == c.secureIP, "secureClientPort", "is clientPort as well: set client.portUnification for both on one port")
	wrong(c.DynamicFile != "" && len(c.Servers) > 0, "dynamicConfigFile", "the server.N lines must be in that file, and not in %s", c.File)
	wrong(c.LocalSessionUpgrades && !c.LocalSessions, "localSessionsUpgradingEnabled", "localSessionsEnabled is not set")
	if c.secure != 0 || c.PortUnification {
		errs = append(errs, c.ClientTLS.faults(c, "ssl.")...)
	}
	if c.SSLQuorum {
		errs = append(errs, c.QuorumTLS.faults(c, "ssl.quorum.")...)
	}
	if len(errs) == 0 && c.DynamicFile == "" {
		errs = append(errs, c.completeMembers(c.File)...)
	}
	return errs
}

// ParseDynamic reads the file that dynamicConfigFile names: members and nothing else.
func (c *Config) ParseDynamic(name string, data []byte) error {
	list, err := parseProperties(name, data)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range list {
		switch {
		case strings.HasPrefix(p.key, "server."):
			errs = append(errs, c.set(name, p))
		case p.key == "version":
			errs = append(errs, fault(name, p, "ZooKeeper has the version in the file's name, and here it means nothing: leave it out"))
		default:
			errs = append(errs, fault(name, p, "a dynamic file has server.N lines only"))
		}
	}
	errs = append(errs, c.completeMembers(name)...)
	return joined(name, errs)
}

// completeMembers checks the members, which the named file lists.
func (c *Config) completeMembers(file string) []error {
	slices.SortFunc(c.Servers, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	c.membersFile = file
	var errs []error
	voters := 0
	for _, s := range c.Servers {
		if !s.Observer {
			voters++
		}
	}
	if voters == 0 && len(c.Servers) > 0 {
		errs = append(errs, &Error{File: file, Reason: fmt.Sprintf("all %d servers are observers: at least one must vote", len(c.Servers))})
	}
	if voters == 0 && !c.Standalone {
		errs = append(errs, &Error{File: file, Reason: "standaloneEnabled=false needs a server.N line at least"})
	}
	if c.Distributed() {
		for key, n := range map[string]int{"initLimit": c.InitLimit, "syncLimit": c.SyncLimit} {
			if n == 0 {
				errs = append(errs, &Error{File: c.File, Reason: key + " is not set, which an ensemble needs"})
			}
		}
	}
	return errs
}

// ParseMyID reads the file myid and finds out which of the members this is.
func (c *Config) ParseMyID(name string, data []byte) error {
	text, _ := cutLine(string(data))
	id, err := strconv.ParseUint(strings.TrimSpace(text), 10, 63)
	if err != nil || id == 0 {
		return &Error{File: name, Line: 1, Reason: fmt.Sprintf("%s is not a number from 1 to 9223372036854775807", short(strconv.Quote(text)))}
	}
	c.MyID = id
	me, ok := c.Me()
	if !ok {
		if c.Distributed() {
			return &Error{File: name, Line: 1, Reason: fmt.Sprintf("%s has no line server.%d", c.membersFile, id)}
		}
		return nil
	}
	if me.ClientAddr == "" {
		return nil
	}
	if host, port, _ := net.SplitHostPort(me.ClientAddr); c.port != 0 && (port != strconv.Itoa(c.port) || c.clientIP != "" && !anyAddress(c.clientIP) && host != c.clientIP) {
		return &Error{File: c.membersFile, Key: fmt.Sprintf("server.%d", id), Value: me.Line, Reason: fmt.Sprintf("its client address is not that of clientPort in %s, %s", c.File, c.ClientAddr)}
	}
	c.ClientAddr = me.ClientAddr
	return nil
}

// anyAddress reports whether a host stands for all addresses of the machine.
func anyAddress(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}
