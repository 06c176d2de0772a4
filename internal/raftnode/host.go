package raftnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/lni/dragonboat/v4"

	"coord/internal/raftnode/peernet"
	"coord/internal/replica"
)

// A Host runs this member's replicas. It is made by [Open].
//
// Lock order: gate before mu and before group.moving. Everything else is a leaf.
type Host struct {
	cfg     Config
	nh      *dragonboat.NodeHost
	book    *addressBook
	peers   *peernet.Net // nil if the member is on another network
	roles   *roles
	fuse    *fuse
	logs    *logFactory
	log     *slog.Logger
	detach  func() // from the library's log
	release func() // of the claim on cfg.Dir
	dropped uint64 // what the library's counter showed at Open

	// gate keeps calls of the library and its Close apart, for Close takes
	// away what they use without a lock. Callers hold it for reading during a
	// call, never while they wait for a result.
	gate   sync.RWMutex
	closed bool // guarded by gate

	// life ends when Close is called, before it takes anything away. Add of the two
	// below only under gate while not closed.
	life    context.Context
	end     context.CancelFunc
	starts  sync.WaitGroup // StartGroup and RemoveGroup calls
	lookups sync.WaitGroup // calls of the library that wait for life; before it is closed

	mu      sync.RWMutex
	groups  map[replica.GroupID]*group // guarded by mu
	removed map[replica.GroupID]bool   // guarded by mu; those that this member was removed from since Open
	stored  map[replica.GroupID]bool   // guarded by mu; those that the log has, or may have

	closeOnce sync.Once
	closeErr  error
	ended     chan struct{}  // closed when the library is closed
	workers   sync.WaitGroup // roles.run, reportRemoval
}

var _ replica.Host = (*Host)(nil)

// Open locks cfg.Dir, opens the log and starts to listen. It starts no group.
// Every way in which the library fails to start comes back as an error, see
// [ErrDirLocked], [ErrDirMismatch] and [ErrAddressInUse].
func Open(cfg Config) (*Host, error) {
	cfg = withDefaults(cfg)
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	book := cfg.newBook()
	peers, err := cfg.newPeers(book)
	if err != nil {
		return nil, fmt.Errorf("raftnode: %w", err)
	}
	release, err := opened.claim(&cfg)
	if err != nil {
		return nil, err
	}
	h := &Host{
		cfg:     cfg,
		book:    book,
		peers:   peers,
		roles:   newRoles(cfg.OnRole),
		log:     cfg.Logger,
		release: release,
		groups:  make(map[replica.GroupID]*group),
		removed: make(map[replica.GroupID]bool),
		stored:  make(map[replica.GroupID]bool),
		ended:   make(chan struct{}),
	}
	h.life, h.end = context.WithCancel(context.Background())
	h.fuse = newFuse(h.log, cfg.OnFailure)
	h.book.closed = h.fuse.release
	h.logs = &logFactory{fs: cfg.FS, fuse: h.fuse, points: cfg.Failpoints}
	h.detach = library.attach(cfg.Logger)
	h.dropped = library.dropped.Load()
	if h.nh, err = newNodeHost(&h.cfg, h.cfg.nodeHostConfig(h.book, h.roles, h.cfg.transport(peers, book), h.logs)); err != nil {
		h.end()
		h.detach()
		h.release()
		return nil, err
	}
	if err := h.readStored(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.fuse.armed.Store(true)
	h.serveInMemory()
	if cfg.OnRole != nil {
		h.workers.Go(h.roles.run)
	}
	return h, nil
}

// Close stops all groups and waits for every goroutine of the Host, OnRole
// included. Proposals under way end with replica.ErrUnknownOutcome, other
// calls with replica.ErrClosed. It may be called any number of times, also
// concurrently: each call returns when the Host is closed.
func (h *Host) Close() error {
	h.closeOnce.Do(func() {
		h.gate.Lock()
		h.closed = true
		h.gate.Unlock()
		h.end()
		h.lookups.Wait()
		if h.cfg.Net != nil {
			h.cfg.Net.Serve(h.cfg.Addr, nil)
			h.cfg.Net.Welcome(h.cfg.Addr, nil)
		}
		h.closeErr = h.closeLibrary()
		h.fuse.release()
		h.fuse.reports.Wait()
		close(h.ended)
		h.starts.Wait()
		close(h.roles.stop)
		h.workers.Wait()
		h.detach()
		h.release()
	})
	return h.closeErr
}

// closeLibrary closes the NodeHost, once: a second time is a panic, and so is
// any error on the way.
func (h *Host) closeLibrary() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("raftnode: close %s: %w", h.cfg.Dir, panicError(r))
		}
	}()
	h.nh.Close()
	return nil
}

// Call asks another member, whose Config.Serve answers; see peernet.Net.Call
// for its errors and limits. It returns replica.ErrClosed if this Host is
// closed.
func (h *Host) Call(ctx context.Context, member replica.MemberID, method string, body []byte) ([]byte, error) {
	select {
	case <-h.ended:
		return nil, replica.ErrClosed
	default:
	}
	if h.peers == nil {
		return h.callInMemory(ctx, member, method, body)
	}
	answer, err := h.peers.Call(ctx, member, method, body)
	if errors.Is(err, peernet.ErrClosed) {
		return nil, replica.ErrClosed
	}
	return answer, err
}

// Links returns the counters of the connections with other members, or nil on a
// network for tests.
func (h *Host) Links() []peernet.Link {
	if h.peers == nil {
		return nil
	}
	return h.peers.Links()
}

// Role returns this member's view of who leads g.
func (h *Host) Role(g replica.GroupID) replica.Role { return h.roles.of(g) }

// Dropped returns how many messages from peers have been dropped since Open
// because a queue was full: proposals and reads that other members forwarded to
// this one may be among them, and end there without an answer. The library
// does not say whose messages they were, so hosts in one process count each
// other's.
func (h *Host) Dropped() uint64 { return library.dropped.Load() - h.dropped }

// enter opens the gate for one call of the library, unless the Host is closed.
// The caller calls h.gate.RUnlock after it.
func (h *Host) enter() bool {
	h.gate.RLock()
	if h.closed {
		h.gate.RUnlock()
		return false
	}
	return true
}
