package peernet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"

	"coord/internal/replica"
)

// The limits of what one end says about itself in a [Hello].
const (
	maxEnsembleBytes = 256
	maxAddrBytes     = 512
)

// ErrClosed says that the network is not running: the raft library has closed
// it or has not started it yet.
var ErrClosed = errors.New("peernet: closed")

// A Config says who this end is and whom it admits. A zero field that is not
// said to be optional is an error.
type Config struct {
	// Ensemble names the ensemble; members of another one are refused. At most
	// 256 bytes of UTF-8.
	Ensemble string

	// Member is this member.
	Member replica.MemberID

	// Directory is the UUID of this member's data directory, in its canonical
	// form of 36 characters. Peers may pin it, see Admit.
	Directory string

	// Addr is what peers dial, host:port; see [ValidAddress].
	Addr string

	// Listen is what to listen on, as Addr or with an empty host for all
	// interfaces. Default: Addr.
	Listen string

	// TLS is the certificate of this member and the authorities that it trusts,
	// for both directions; nil means plaintext. It is not modified. What holds
	// whatever it says:
	//
	//   - both ends show a certificate, for clientAuth and serverAuth
	//   - RootCAs and ClientCAs stand in for each other if one is nil; both nil
	//     is an error, since the system's authorities know no members
	//   - TLS 1.3, or what MinVersion says, which may not be below 1.2
	//   - the peer's certificate is valid for the host of the address that
	//     AddrOf knows of it, or for ServerName if that is set
	//   - each connection makes a handshake of its own; none is resumed
	//   - InsecureSkipVerify needs VerifyConnection, which then verifies the
	//     chain instead; the host is still checked here
	//
	// Certificates rotate through its callbacks: GetCertificate,
	// GetClientCertificate and GetConfigForClient are asked at each connection.
	TLS *tls.Config

	// AddrOf returns the address of a member, and whether there is such a
	// member; nobody else is admitted. It may be called concurrently and must
	// not wait.
	AddrOf func(replica.MemberID) (addr string, known bool)

	// Admit is asked about every peer that has passed all other checks, on both
	// ends of a connection and before anything else of it is believed. An error
	// refuses the connection, and its text is told to the peer. It may be
	// called concurrently and may do disk I/O. Optional.
	Admit func(Hello) error

	// Unknown gives the reason to refuse a member that AddrOf does not know, such as
	// that it was removed. "" means that nothing is known of it. It may be called
	// concurrently and must not wait. Optional.
	Unknown func(replica.MemberID) string

	// Refused is told of connections that this end has accepted and refused: as
	// which member the peer came, 0 if it did not show that it is one, from where,
	// and why. Of each it is told as often as the log is, which is not every time. It
	// may be called concurrently and must not wait. Optional.
	Refused func(member replica.MemberID, from net.Addr, reason string)

	// Serve answers calls of other members; its error reaches the caller as
	// text. ctx ends when the caller gives up, its deadline comes or this end
	// is closed. It may be called concurrently. Nil answers none.
	Serve func(ctx context.Context, from replica.MemberID, method string, body []byte) ([]byte, error)

	// Strangers answers a process that is no member of the ensemble, see [Introduce].
	// The method is [JoinMethod]. Its Hello has passed the checks that can be made:
	// the ensemble and, with TLS, that its certificate is valid for the host of the
	// address that it names. For the rest it is as Serve. Nil lets no strangers in.
	Strangers func(ctx context.Context, from Hello, method string, body []byte) ([]byte, error)

	// Logger gets what is refused and what breaks. It should name this member.
	// Optional.
	Logger *slog.Logger
}

// validate reports everything that is wrong with c, joined.
func (c *Config) validate() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("peernet: "+format, args...))
	}
	if c.Member == 0 {
		wrong("Config.Member is zero")
	}
	if err := c.validateIdentity(); err != nil {
		errs = append(errs, err)
	}
	if err := ValidListen(c.Listen); err != nil {
		wrong("Config.Listen: %w", err)
	}
	if c.AddrOf == nil {
		wrong("Config.AddrOf is nil")
	}
	return errors.Join(errs...)
}

// validateIdentity reports everything that is wrong with what c says of this end,
// joined.
func (c *Config) validateIdentity() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("peernet: "+format, args...))
	}
	if c.Ensemble == "" || len(c.Ensemble) > maxEnsembleBytes || !utf8.ValidString(c.Ensemble) {
		wrong("Config.Ensemble %q is not 1 to %d bytes of UTF-8", c.Ensemble, maxEnsembleBytes)
	}
	if !canonicalUUID(c.Directory) {
		wrong("Config.Directory %q is no UUID in its canonical form", c.Directory)
	}
	if err := ValidAddress(c.Addr); err != nil {
		wrong("Config.Addr: %w", err)
	}
	if err := validTLS(c.TLS); err != nil {
		wrong("Config.TLS: %w", err)
	}
	return errors.Join(errs...)
}

func canonicalUUID(s string) bool {
	u, err := uuid.Parse(s)
	return err == nil && u.String() == s
}

// A Net is one member's end of the network. It is made by [New] and runs from
// when the raft library starts it as its transport until the library closes
// it. All methods may be called concurrently.
type Net struct {
	cfg   Config
	log   *slog.Logger
	tls   *tlsEnds // nil: plaintext
	links links

	// What tests replace.
	lim    limits
	listen func(ctx context.Context, addr string) (net.Listener, error)

	mu       sync.Mutex
	endpoint *endpoint // guarded by mu; nil unless running
}

var _ config.TransportFactory = (*Net)(nil)

// New checks cfg and returns a Net that does not run yet. Its error names
// every problem.
func New(cfg Config) (*Net, error) {
	if cfg.Listen == "" {
		cfg.Listen = cfg.Addr
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Net{
		cfg: cfg,
		log: cfg.Logger,
		tls: newTLSEnds(cfg.TLS),
		lim: defaultLimits,
		listen: func(ctx context.Context, addr string) (net.Listener, error) {
			lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: setUserTimeout}
			return lc.Listen(ctx, "tcp", addr)
		},
	}, nil
}

// Create returns the transport of one NodeHost. The raft library calls it, and
// Start and Close of what it returns. One Net serves one NodeHost at a time:
// Start fails while another one runs.
func (n *Net) Create(_ config.NodeHostConfig, onBatch raftio.MessageHandler, onChunk raftio.ChunkHandler) raftio.ITransport {
	return newEndpoint(n, onBatch, onChunk)
}

// Validate reports whether addr is an address to dial or to listen on.
func (n *Net) Validate(addr string) bool { return ValidListen(addr) == nil }

// Call asks member to and returns its answer. It opens a connection for it and
// waits no longer than ctx. Errors: [*RemoteError] if the member answered with
// one, [*RefusedError] if either end refused the other, ErrClosed if this Net
// does not run, the cause of ctx if that ended, or what is wrong with the
// network. Unless the member answered, or was not reached at all, it may have
// served the call. A member serves some calls of another at a time and refuses
// those above, and none for longer than a minute. Method and body are at most [MaxMethodBytes] and
// [MaxBodyBytes] long.
func (n *Net) Call(ctx context.Context, to replica.MemberID, method string, body []byte) ([]byte, error) {
	ep := n.running()
	if ep == nil {
		return nil, ErrClosed
	}
	return ep.call(ctx, to, method, body)
}

// Refresh is to be called when AddrOf has begun to answer otherwise. It closes the
// connections with members that are not known any more, or not where they were, and
// forgets the counters of the former.
func (n *Net) Refresh() {
	if ep := n.running(); ep != nil {
		ep.closeMoved()
	}
	n.links.retain(func(id replica.MemberID) bool {
		_, known := n.cfg.AddrOf(id)
		return known || id == 0
	})
}

// Links returns the counters of all links, ordered by member and direction.
func (n *Net) Links() []Link { return n.links.list() }

func (n *Net) running() *endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.endpoint
}
