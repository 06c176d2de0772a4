package coord

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"coord/internal/raftnode/peernet"
)

// A Reconfiguration is a change of who the members are: all of it, or nothing.
type Reconfiguration struct {
	// Members are added, or changed if they are members already: an observer that is
	// to vote, or another address; an empty address stays as it is. A new member
	// starts with [Config.Join]. A voter cannot become an observer.
	Members []Member

	// Remove names members that are to go. Their ids are never used again, and their
	// processes stop with [ErrNotMember]. If 128 members with chosen ids
	// were removed, lesser ids than theirs are refused, too, whether anybody had them or not.
	Remove []MemberID

	// Follows is the zxid of the configuration that this changes, see
	// [Configuration.ZXID]: the change is refused with [ErrBadVersion] if there was
	// another since. Nil is any.
	Follows *ZXID

	// Force makes a change after which too few voters would be left that were heard of
	// lately. Writes then wait until enough of them are back.
	Force bool

	_ struct{}
}

// A Configuration is who the members of the ensemble are, as the ensemble wants it.
type Configuration struct {
	ZXID    ZXID // of the last change; 0 if there was none
	Members []Member
	// Settled says that who votes in raft is what the configuration says. Until then
	// no other change of voters begins.
	Settled bool
}

// Configuration returns who the members are, as far as this member knows.
func (c *Coordinator) Configuration() Configuration { return c.root.state().configuration() }

func (s *state) configuration() Configuration {
	conf := Configuration{ZXID: s.configured, Settled: s.started()}
	for _, m := range s.members {
		if m.unsettled {
			conf.Settled = false
		}
		if !m.removed {
			conf.Members = append(conf.Members, m.public())
		}
	}
	return conf
}

func (m *memberRecord) public() Member {
	return Member{ID: m.id, Addr: m.addr, Role: m.role, ClientAddr: m.clientAddr}
}

// Reconfigure changes who the members of the ensemble are, while it runs. When it
// returns nil the change is decided; members come to vote, and cease to, one after the
// other behind it, see [Coordinator.AwaitSettled]. A new member votes once it has
// joined, has caught up, and every voter knows its directory; until it does, the others
// are as many as before.
//
// Errors: [ErrReconfigInProgress] while an earlier change of voters has not come to its
// end, unless this one only removes members that are being added, [ErrBadVersion],
// [ErrBadArguments], which names what is wrong, [ErrNewConfigNoQuorum],
// [ErrUnimplemented] while a format version before 2 is in force, and those of every
// write, see [Client].
func (c *Coordinator) Reconfigure(ctx context.Context, rc Reconfiguration) (Configuration, error) {
	return c.reconfigure(ctx, c.governs, rc)
}

// Reconfigure is [Coordinator.Reconfigure] with the rights of the session: it needs
// [PermWrite] on /zookeeper/config if it is External, or else [ErrNoAuth] is the answer.
func (s *Session) Reconfigure(ctx context.Context, rc Reconfiguration) (Configuration, error) {
	return s.c.reconfigure(ctx, s.submit, rc, slog.String("session", s.id.String()), auditIDs(s.ids()))
}

// AddMember adds a voter, or an observer. Its process may be started then, with
// [Config.Join]. Errors are those of [Coordinator.Reconfigure].
func (c *Coordinator) AddMember(ctx context.Context, m Member) error {
	_, err := c.Reconfigure(ctx, Reconfiguration{Members: []Member{m}})
	return err
}

// RemoveMember removes a member and waits until raft does without it. Errors are those
// of [Coordinator.Reconfigure] and [Coordinator.AwaitSettled].
func (c *Coordinator) RemoveMember(ctx context.Context, id MemberID) error {
	if _, err := c.Reconfigure(ctx, Reconfiguration{Remove: []MemberID{id}}); err != nil || id == c.cfg.ID {
		return err // who has removed itself does not see the end of it
	}
	return c.AwaitSettled(ctx)
}

// AwaitSettled waits until every group's raft is what the configuration says, as far as
// this member knows the configuration. The error names whom it waits for, and satisfies
// errors.Is for the cause of ctx, or for [ErrTimeout] when [Config.OperationTimeout] has
// passed. What is under way goes on.
func (c *Coordinator) AwaitSettled(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	for {
		changed := c.root.membersChange()
		s := c.root.state()
		if s.configuration().Settled {
			return nil
		}
		var err error
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-c.ctx.Done():
			err = context.Cause(c.ctx)
		}
		return &OpError{Op: "awaitSettled", Err: err, Detail: s.waitingFor()}
	}
}

// waitingFor says which members are not settled and why, as far as the state tells.
func (s *state) waitingFor() string {
	var told []string
	for _, m := range s.members {
		switch {
		case !m.unsettled:
		case m.removed:
			told = append(told, fmt.Sprintf("member %v is still part of raft", m.id))
		case m.incarnation == 0:
			told = append(told, fmt.Sprintf("member %v has not joined", m.id))
		case !s.heardOf(m):
			told = append(told, fmt.Sprintf("member %v was not heard of lately", m.id))
		default:
			told = append(told, fmt.Sprintf("member %v does not vote yet", m.id))
		}
	}
	return strings.Join(told, "; ")
}

// governs proposes a request of the ensemble's own code.
func (c *Coordinator) governs(ctx context.Context, r request) (*result, error) {
	if err := c.awaitJoined(ctx); err != nil {
		return nil, err
	}
	return c.root.submit(ctx, c.root.ctx, r, c.cfg.OperationTimeout)
}

// reconfigure proposes a change by submit. The audit log is told whose it is by about.
func (c *Coordinator) reconfigure(ctx context.Context, submit func(context.Context, request) (*result, error), rc Reconfiguration, about ...slog.Attr) (Configuration, error) {
	asked := &reconfiguration{follows: anyConfiguration, force: rc.Force}
	if rc.Follows != nil {
		asked.follows = *rc.Follows
	}
	detail := ""
	for _, m := range rc.Members {
		asked.changes = append(asked.changes, memberChange{id: m.ID, role: m.Role, addr: m.Addr, clientAddr: m.ClientAddr})
		if m.Addr != "" {
			if err := peernet.ValidAddress(m.Addr); err != nil {
				detail = cmp.Or(detail, fmt.Sprintf("member %v: %v", m.ID, err))
			}
		}
		if m.Role > Observer {
			detail = cmp.Or(detail, fmt.Sprintf("member %v: %v is no role", m.ID, m.Role))
		}
	}
	for _, id := range rc.Remove {
		asked.changes = append(asked.changes, memberChange{id: id, remove: true})
	}
	if n := len(asked.changes); n == 0 {
		detail = "nothing is to change"
	} else if n > maxMembers {
		detail = fmt.Sprintf("%d changes, the limit is %d", n, maxMembers)
	}
	err := error(ErrBadArguments)
	if detail == "" {
		detail, err = c.proposeReconfiguration(ctx, submit, asked)
	}
	about = append(about, auditChanges(asked), slog.Bool("force", rc.Force))
	c.auditResult(actReconfigure, err, append(about, auditDetail(detail)...)...)
	if err != nil {
		return Configuration{}, &OpError{Op: "reconfigure", Err: err, Detail: detail}
	}
	return c.Configuration(), nil
}

// proposeReconfiguration proposes a change, and says what is wrong with one that was
// refused: what refused it is known here by then.
func (c *Coordinator) proposeReconfiguration(ctx context.Context, submit func(context.Context, request) (*result, error), rc *reconfiguration) (detail string, err error) {
	if s := c.root.state(); s.started() {
		_, _, detail = s.reconfigured(rc)
	}
	res, err := submit(ctx, request{kind: requestReconfigure, reconfiguration: rc})
	if err == nil {
		err = res.code.err()
	}
	if _, refused := errors.AsType[Code](err); !refused || errors.Is(err, ErrNoAuth) {
		return "", err
	}
	_, code, why := c.root.state().reconfigured(rc)
	if errors.Is(err, code) {
		detail = why
	}
	return detail, err
}

// auditChanges tells what a change does to whom.
func auditChanges(rc *reconfiguration) slog.Attr {
	return auditList("changes", rc.changes, func(c memberChange) string {
		if c.remove {
			return fmt.Sprintf("remove %v", c.id)
		}
		return fmt.Sprintf("%v %v at %s", c.role, c.id, c.addr)
	})
}

// membersChange returns a channel that is closed when something about the members has
// changed. It has to be asked for before the state is looked at.
func (g *group) membersChange() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.membersChanged
}

// tellMembers wakes those who wait for a change of the members. It is called behind the
// publication of the state that has it.
func (g *group) tellMembers() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.membersChanged)
	g.membersChanged = make(chan struct{})
}
