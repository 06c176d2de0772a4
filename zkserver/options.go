package zkserver

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"coord"
)

// Options say how to serve. The zero value is ready for use.
type Options struct { //nolint:recvcheck // its defaults are a copy
	// TLS has clients connect by TLS. With ClientAuth and ClientCAs a client that shows
	// a certificate has the identity x509 of its subject. Nil means plaintext.
	TLS *tls.Config

	// PlaintextToo lets clients without TLS in by the same listener, as
	// ZooKeeper's client.portUnification. Without TLS it changes nothing.
	PlaintextToo bool

	// MaxFrame limits a request, in bytes, as ZooKeeper's jute.maxbuffer: whoever
	// sends more is disconnected. Zero means 1048575.
	MaxFrame int

	// MaxConnsPerAddr and MaxConns limit the connections from one IP address, as
	// ZooKeeper's maxClientCnxns, and in all. Zero means 60 and 16384; negative means
	// no limit.
	MaxConnsPerAddr, MaxConns int

	// HandshakeTimeout is how long a connection may take until it has said which
	// session it wants, TLS included. Zero means 10 s.
	HandshakeTimeout time.Duration

	// MaxOutstanding limits the requests of one connection that are under way:
	// while there are so many, no more are read from it. Zero means 1000.
	MaxOutstanding int

	// MaxOutstandingBytes limits what those requests take, in bytes; one that takes
	// more by itself is let through alone. It also limits the answer to a multiRead of
	// more than one znode: one that would be longer is refused. Zero means 4 MiB.
	MaxOutstandingBytes int

	// WriteTimeout is how long a client may take to accept what is written to it.
	// Zero means the timeout of its session.
	WriteTimeout time.Duration

	// MinSessionTimeout and MaxSessionTimeout bound what clients of this server are
	// granted, within what the ensemble grants. Zero means the ensemble's bounds.
	MinSessionTimeout, MaxSessionTimeout time.Duration

	// ReadOnly lets clients that ask for it read from this member while it has no
	// contact with a quorum, as ZooKeeper's readonlymode.enabled.
	ReadOnly bool

	// LocalSessions gives new clients a session that only this server knows, which
	// costs no write, as ZooKeeper's localSessionsEnabled: it ends with the server, cannot
	// be taken to another, and can have no ephemeral znodes.
	LocalSessions bool

	// Reconfig lets clients change the members of the ensemble, as ZooKeeper's
	// reconfigEnabled: those that may write /zookeeper/config, which is the super user
	// unless its ACL says otherwise.
	Reconfig bool

	// FourLetterWords are the four-letter words that are answered, as ZooKeeper's
	// 4lw.commands.whitelist; "*" stands for all. Nil means srvr alone.
	FourLetterWords []string

	// Config tells a four-letter word, conf, what it has to answer beyond what the
	// server knows: lines of the form key=value. Nil means nothing.
	Config func() []string

	// Logger receives the server's log. Nil means slog.Default().
	Logger *slog.Logger

	_ struct{}
}

// Defaults of Options.
const (
	defaultMaxFrame            = 0xfffff
	defaultMaxConnsPerAddr     = 60
	defaultMaxConns            = 16384
	defaultHandshakeTimeout    = 10 * time.Second
	defaultMaxOutstanding      = 1000
	defaultMaxOutstandingBytes = 4 << 20

	// maxMaxFrame is what a Multi can have at most.
	maxMaxFrame = 32 << 20
)

// withDefaults returns o with its zero fields set.
func (o Options) withDefaults() Options {
	o.MaxFrame = cmp.Or(o.MaxFrame, defaultMaxFrame)
	o.MaxConnsPerAddr = cmp.Or(o.MaxConnsPerAddr, defaultMaxConnsPerAddr)
	o.MaxConns = cmp.Or(o.MaxConns, defaultMaxConns)
	o.HandshakeTimeout = cmp.Or(o.HandshakeTimeout, defaultHandshakeTimeout)
	o.MaxOutstanding = cmp.Or(o.MaxOutstanding, defaultMaxOutstanding)
	o.MaxOutstandingBytes = cmp.Or(o.MaxOutstandingBytes, defaultMaxOutstandingBytes)
	if o.FourLetterWords == nil {
		o.FourLetterWords = []string{"srvr"}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// validate reports all fields that are wrong.
func (o *Options) validate() error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(o.MaxFrame < 0 || o.MaxFrame > maxMaxFrame, "MaxFrame %d is not between 1 and %d", o.MaxFrame, maxMaxFrame)
	wrong(o.HandshakeTimeout < 0, "HandshakeTimeout %v is negative", o.HandshakeTimeout)
	wrong(o.MaxOutstanding < 0, "MaxOutstanding %d is negative", o.MaxOutstanding)
	wrong(o.MaxOutstandingBytes < 0, "MaxOutstandingBytes %d is negative", o.MaxOutstandingBytes)
	wrong(o.WriteTimeout < 0, "WriteTimeout %v is negative", o.WriteTimeout)
	wrong(o.MinSessionTimeout < 0, "MinSessionTimeout %v is negative", o.MinSessionTimeout)
	wrong(o.MaxSessionTimeout < 0, "MaxSessionTimeout %v is negative", o.MaxSessionTimeout)
	wrong(o.MaxSessionTimeout > 0 && o.MinSessionTimeout > o.MaxSessionTimeout,
		"MinSessionTimeout %v is more than MaxSessionTimeout %v", o.MinSessionTimeout, o.MaxSessionTimeout)
	for _, w := range o.FourLetterWords {
		wrong(w != "*" && len(w) != 4, "FourLetterWords has %q", w)
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("zkserver: %w: %w", coord.ErrBadArguments, errors.Join(errs...))
}
