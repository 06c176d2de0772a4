package raftnode

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/logger"
)

// The library has one logger factory per process, which may be set once, and
// its loggers do not say which host they speak for. So one factory is
// installed for all hosts, and what it is told goes to the Logger of the host
// that was opened first among those still open. Without an open host nobody is
// told anything.
//
// An embedding program that has set a factory of its own keeps it: then Config
// loggers get nothing from the library, Dropped counts nothing, and it is that
// program's duty that Panicf panics.
var library = new(libraryLog)

// A libraryLog is where all messages of the library come together.
type libraryLog struct {
	install sync.Once
	dropped atomic.Uint64 // messages from peers that the library dropped

	mu    sync.Mutex
	hosts []*slog.Logger // of the open hosts, oldest first; guarded by mu

	// out is hosts[0], or nil: the loggers ask for it with every message.
	out atomic.Pointer[slog.Logger]
}

// attach installs the factory the first time, and adds the logger of a host.
// The caller calls the returned function once when the host is closed.
func (l *libraryLog) attach(out *slog.Logger) (detach func()) {
	l.install.Do(func() {
		// A panic says that the program has set a factory itself.
		defer func() { _ = recover() }()
		logger.SetLoggerFactory(func(pkg string) logger.ILogger {
			return &packageLog{lib: l, pkg: pkg}
		})
	})
	own := new(*out) // two hosts may share a Logger; each takes out its own
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts = append(l.hosts, own)
	l.out.Store(l.hosts[0])
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.hosts = slices.DeleteFunc(l.hosts, func(h *slog.Logger) bool { return h == own })
		if len(l.hosts) == 0 {
			l.out.Store(nil)
		} else {
			l.out.Store(l.hosts[0])
		}
	}
}

// levelWhisper is for what the library itself calls debugging.
const levelWhisper = slog.LevelDebug - 4

// A packageLog is the logger of one package of the library.
type packageLog struct {
	lib *libraryLog
	pkg string
}

var _ logger.ILogger = (*packageLog)(nil)

// A panicfError is what Panicf panics with. It is an error because NewNodeHost
// swallows panics with any other value and returns (nil, nil).
type panicfError struct{ text string }

func (p *panicfError) Error() string { return p.text }

// SetLevel does nothing: what is logged is up to the Logger's handler.
func (p *packageLog) SetLevel(logger.LogLevel) {}

func (p *packageLog) Debugf(format string, args ...any) {
	p.log(levelWhisper, format, args)
}

func (p *packageLog) Infof(format string, args ...any) {
	p.log(slog.LevelDebug, format, args)
}

// Warningf is quiet: the library writes some fifteen warnings for each election and each
// leader that hands over, of votes that were refused and requests that were not taken,
// whose callers are told. The words below are about trouble that an operator can act on.
func (p *packageLog) Warningf(format string, args ...any) {
	level := slog.LevelDebug
	switch {
	case strings.Contains(format, "dropped an incoming message"):
		// Under load there are thousands a second. They are counted, and
		// logged when the count reaches a power of two.
		n := p.lib.dropped.Add(1)
		if n&(n-1) == 0 {
			p.log(slog.LevelWarn, format+", %d so far", append(args, n))
		}
		return
	case strings.Contains(format, "LocalTick"), // it had no processor for so long
		strings.Contains(format, "invalid snapshot"),
		strings.Contains(format, "message dropped"): // of another deployment
		level = slog.LevelWarn
	}
	p.log(level, format, args)
}

// Errorf keeps the transport's errors down: a peer that is down is one, twice a
// second, for as long as it is.
func (p *packageLog) Errorf(format string, args ...any) {
	level := slog.LevelError
	if p.pkg == "transport" {
		level = slog.LevelDebug
	}
	p.log(level, format, args)
}

// Panicf logs and panics. The library relies on it not returning: a logger that
// only logs turns corruption that was noticed into silent damage.
func (p *packageLog) Panicf(format string, args ...any) {
	if strings.Contains(format, "invalid commitTo index") {
		format += wentBack
	}
	p.log(slog.LevelError, format, args)
	panic(&panicfError{strings.TrimSpace(fmt.Sprintf(format, args...))})
}

// wentBack explains the panic of a member that the leader tells of entries
// which it has acknowledged and does not have.
const wentBack = ": the log of this member lacks entries that it has acknowledged to its peers: the end of its " +
	"directory was damaged or cut, or replaced by an older copy. Remove this member from the ensemble and let it " +
	"join again under a new member id with an empty directory"

// log formats only what somebody wants to read: raft says a lot.
func (p *packageLog) log(level slog.Level, format string, args []any) {
	out := p.lib.out.Load()
	if out == nil || !out.Enabled(context.Background(), level) {
		return
	}
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	out.LogAttrs(context.Background(), level, "raft library", slog.String("package", p.pkg), slog.String("text", text))
}
