package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"coord"
	"coord/zkserver"
)

// A member is a Coordinator and where its clients connect.
type member struct {
	config coord.Config
	doors  []door

	// settings changes those of the ensemble to what the file says. The file of the
	// member that was started last counts, as that of ZooKeeper's leader does. Nil if
	// there is no file.
	settings func(*coord.Settings)

	// observers are those of the file, if this member is one of those that the ensemble
	// starts with.
	observers []coord.Member

	log *slog.Logger
}

// A door is an address for clients and how they are served there.
type door struct {
	addr    string
	options zkserver.Options
}

// What is done in good order at the end is bounded: leadership goes, then requests of
// clients that are under way are answered, then the member ends.
const (
	leaveTimeout = 5 * time.Second
	drainTimeout = 10 * time.Second // for the clients, and again for the member
)

// run opens the member and serves its clients until ctx ends, or until it fails.
func (m *member) run(ctx context.Context) error {
	// Clients' addresses first: a port that is taken is the most common fault.
	listeners, err := m.listen(ctx)
	if err != nil {
		return err
	}
	c, err := m.open(ctx)
	if err != nil {
		closeAll(listeners)
		if ctx.Err() != nil && len(m.config.Join) > 0 {
			return nil // it was told to end while it waited for the ensemble
		}
		return err
	}
	err = m.serve(ctx, c, listeners)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	failed := c.Health()
	if !errors.Is(failed, coord.ErrFailed) {
		failed = nil // that it has no quorum, say, is no fault of this process
	}
	return errors.Join(err, failed, c.Shutdown(ending))
}

// open opens the member. One that joins waits until the ensemble runs and somebody has added
// it: ZooKeeper's servers are started before that, and so may this one be.
func (m *member) open(ctx context.Context) (*coord.Coordinator, error) {
	for {
		c, err := coord.Open(ctx, m.config)
		if err == nil || ctx.Err() != nil || !notYetMember(err) {
			return c, err
		}
		m.log.Warn("not a member yet: it waits until reconfig adds it", slog.Any("err", err))
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(joinPause):
		}
	}
}

// joinPause is how long a member that joins waits before it asks again. It is a server of its
// own that asks, and not often one.
const joinPause = 2 * time.Second

// notYetMember reports whether a member could not join because the ensemble does not know
// it, or because nobody answered.
func notYetMember(err error) bool {
	refused, ok := errors.AsType[*coord.OpError](err)
	return ok && refused.Op == "join" && errors.Is(err, coord.ErrBadArguments) || errors.Is(err, coord.ErrTimeout)
}

func (m *member) listen(ctx context.Context) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, d := range m.doors {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", d.addr)
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("clients' address %s: %w", d.addr, err)
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, ln := range listeners {
		_ = ln.Close()
	}
}

// serve serves clients until stop ends, the member fails, or a listener does. When stop ends
// it still does until leadership is with another member: the clients lose nobody's answer
// by that, and find a leader wherever they go on.
func (m *member) serve(stop context.Context, c *coord.Coordinator, listeners []net.Listener) error {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(stop))
	defer cancel(nil)
	defer context.AfterFunc(c.Context(), func() { cancel(context.Cause(c.Context())) })()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-stop.Done():
			m.drain(ctx, c)
			cancel(context.Cause(stop))
		case <-ctx.Done():
		}
	})
	errs := make([]error, len(m.doors))
	for i, d := range m.doors {
		s, err := zkserver.New(c, d.options)
		if err != nil {
			closeAll(listeners)
			cancel(err)
			wg.Wait()
			return err
		}
		wg.Go(func() {
			errs[i] = serveDoor(ctx, s, listeners[i])
			cancel(errs[i])
		})
	}
	wg.Go(func() { m.settle(ctx, c) })
	wg.Wait()
	return errors.Join(errs...)
}

// drain has another member lead. That there is nobody who could is nothing that the end
// of this one waits for.
func (m *member) drain(ctx context.Context, c *coord.Coordinator) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := c.Drain(ctx); err != nil && len(c.Status().Members) > 1 {
		m.log.Warn("leadership not handed over", slog.Any("err", err))
	}
}

// serveDoor serves one listener until ctx ends, and then has what is under way answered.
func serveDoor(ctx context.Context, s *zkserver.Server, ln net.Listener) error {
	err := s.Serve(ctx, ln)
	if ctx.Err() != nil || errors.Is(err, zkserver.ErrServerClosed) {
		err = nil // it was told to end, by a signal or by the word kill
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if e := s.Shutdown(ending); e != nil && !errors.Is(e, context.DeadlineExceeded) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, s.Close())
}

// settle waits until the member takes part, and puts the settings of the file into force.
func (m *member) settle(ctx context.Context, c *coord.Coordinator) {
	for ctx.Err() == nil {
		err := c.Ready(ctx)
		if err == nil && m.settings != nil {
			err = c.ChangeSettings(ctx, m.settings)
		}
		if err == nil {
			err = m.admit(ctx, c)
		}
		if err == nil {
			st := c.Status()
			m.log.Info("takes part", slog.Uint64("member", uint64(st.Member)), slog.Int("members", len(st.Members)), slog.String("role", st.Role.String()), slog.String("zxid", st.ZXID.String()))
			return
		}
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("does not take part yet", slog.Any("err", err))
		if errors.Is(err, coord.ErrBadArguments) {
			return // it will not change
		}
		select { // a call that waited is its own pause; one that was refused is not
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// admit makes members of the observers of the file, as long as nobody has changed who the
// members are: from then on the ensemble knows better than any file.
func (m *member) admit(ctx context.Context, c *coord.Coordinator) error {
	first := c.Configuration().ZXID
	if len(m.observers) == 0 || first != 0 {
		return nil
	}
	_, err := c.Reconfigure(ctx, coord.Reconfiguration{Members: m.observers, Follows: &first})
	if errors.Is(err, coord.ErrBadVersion) {
		return nil // another member of the same file was first, as a rule
	}
	return err
}
