package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"coord/internal/raftnode"
	"coord/internal/raftnode/peernet"
	"coord/internal/raftnode/raftdir"
	"coord/internal/replica"
)

// methodJoin is what a process calls that is to become a member; others may not call
// anything else. It is asked with a joining; the answer is a welcome.
const methodJoin = peernet.JoinMethod

// A welcome is what a process is told that asks to join: who it is, and who the others
// are. It has a code other than OK if the ensemble refuses it, and says why.
type welcome struct {
	code     Code
	detail   string
	id       MemberID
	contacts contactList
}

// join makes this process a member of the ensemble at cfg.Join, if its directory does
// not say that it is one already. Each address is asked in turn until one answers. The
// directory's id goes with it, so that whoever asks again, because an answer was lost or
// because the process ended, is given the same.
func (d *disk) join(ctx context.Context, cfg *Config, log *slog.Logger) error {
	if len(cfg.Join) == 0 {
		return nil
	}
	if id := d.dir.Member(); id != 0 && len(d.dir.Members()) > 0 {
		cfg.ID = MemberID(id)
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	for wait := askPause; ; wait = min(2*wait, maxAskPause) {
		var last error
		for _, at := range cfg.Join {
			w, err := d.askToJoin(ctx, cfg, log, at)
			switch {
			case err == nil:
				log.Info("joined", slog.Uint64("as", uint64(w.id)), slog.String("at", at), slog.Int("members", len(w.contacts.members)))
				cfg.ID = w.id
				return d.become(w)
			case definite(err):
				return fmt.Errorf("join at %s: %w", at, err)
			}
			log.Info("cannot join yet", slog.String("at", at), slog.Any("err", err))
			last = fmt.Errorf("at %s: %w", at, err)
		}
		if pause(ctx, wait); ctx.Err() != nil {
			return fmt.Errorf("join: %w: not taken in: %w", context.Cause(ctx), last)
		}
	}
}

// definite reports whether the ensemble, or the member that was asked, has refused this
// process, so that there is no sense in asking again. There is if its address is still
// that of a member that has ended only just now.
func definite(err error) bool {
	code, answered := errors.AsType[Code](err)
	refused, ok := errors.AsType[*peernet.RefusedError](err)
	return answered && code != ErrReconfigInProgress || ok && refused.ByPeer
}

// askToJoin asks the member at one address.
func (d *disk) askToJoin(ctx context.Context, cfg *Config, log *slog.Logger, at string) (*welcome, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, ErrTimeout)
	defer cancel()
	e := newEncoder()
	e.joining(&joining{id: cfg.ID, directory: d.dir.ID(), addr: cfg.Addr, clientAddr: cfg.ClientAddr})
	me := raftnode.Config{Ensemble: cfg.Name, Directory: d.dir.ID(), Addr: cfg.Addr, TLS: cfg.TLS, Logger: log, Net: d.memory.Net}
	answer, err := raftnode.Introduce(ctx, me, at, methodJoin, e.buf.Bytes())
	if err != nil {
		return nil, err
	}
	w, err := decodeWelcome(answer)
	switch {
	case err != nil:
		return nil, err
	case w.code != codeOK:
		return nil, &OpError{Op: "join", Err: w.code, Detail: w.detail}
	}
	return w, nil
}

// become writes down who this member is and who the others are.
func (d *disk) become(w *welcome) error {
	if err := d.dir.Become(replica.MemberID(w.id)); err != nil {
		return err
	}
	noted := map[replica.MemberID]raftdir.Member{}
	for id, m := range w.contacts.members {
		noted[replica.MemberID(id)] = raftdir.Member{Addr: m.addr, Directory: m.directory}
	}
	return d.dir.NoteMembers(noted)
}

// serveStranger answers a process that asks to join.
func (c *Coordinator) serveStranger(ctx context.Context, from peernet.Hello, _ string, body []byte) ([]byte, error) {
	d := newDecoder(body)
	j := d.joining()
	if err := d.done(); err != nil {
		return nil, err
	}
	if j.directory != from.Directory || j.addr != from.Addr {
		return nil, errors.New("it introduces itself with another directory or address than it asks for")
	}
	select {
	case <-c.hosted:
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	w := &welcome{}
	res, err := c.governs(ctx, request{kind: requestJoin, joining: j})
	if err == nil {
		err = res.firstError().err()
	}
	c.auditResult(actJoin, err, slog.Uint64("peer", uint64(j.id)), slog.String("directory", cutText(j.directory)), slog.String("addr", cutText(j.addr)))
	code, refused := errors.AsType[Code](err)
	switch {
	case refused:
		_, _, why := c.root.state().joined(j)
		w.code, w.detail = code, why
	case err != nil:
		return nil, err
	default:
		w.id, w.contacts = MemberID(res.ops[0].value), c.root.state().contacts()
	}
	e := newEncoder()
	e.welcome(w)
	return e.buf.Bytes(), nil
}

// welcomeVersion is that of what joining processes are told.
const welcomeVersion = 1

func (e *encoder) welcome(w *welcome) {
	e.array(5)
	e.uint(welcomeVersion)
	e.int(int64(w.code))
	e.string(w.detail)
	e.member(w.id)
	e.contacts(w.contacts)
}

func decodeWelcome(b []byte) (*welcome, error) {
	d := newDecoder(b)
	d.record("welcome", 5)
	w := &welcome{code: Code(d.int32()), detail: d.string(), id: MemberID(d.uint())}
	w.contacts = d.contacts()
	if d.err == nil && w.code == codeOK && w.id == 0 {
		d.fail("a welcome to member 0")
	}
	return w, d.done()
}
