package coord

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"strings"

	"coord/internal/replica"
)

// An auditAct is something that concerns security. docs/SECURITY.md lists all with
// their attributes.
type auditAct string

const (
	actAuthenticate  auditAct = "authenticate"   // a credential was shown
	actOpenSession   auditAct = "open session"   // for somebody outside
	actResumeSession auditAct = "resume session" // with a token
	actHandOver      auditAct = "hand over session"
	actSetACL        auditAct = "set ACL"
	actSetUser       auditAct = "set user" // by name and password
	actRemoveUser    auditAct = "remove user"
	actSetTemplate   auditAct = "set ACL template" // or remove it
	actSettings      auditAct = "change settings"
	actActivate      auditAct = "activate format version"
	actReconfigure   auditAct = "change members"
	actMount         auditAct = "mount"
	actUnmount       auditAct = "unmount"
	actJoin          auditAct = "join"       // a process asks to be a member
	actAdmitPeer     auditAct = "admit peer" // another member, or who says so; refusals alone
)

// An auditOutcome says what came of an act.
type auditOutcome string

const (
	auditOK      auditOutcome = "ok"
	auditRefused auditOutcome = "refused" // by the ensemble or this member
	auditFailed  auditOutcome = "failed"  // for another reason; nothing was done
	auditUnknown auditOutcome = "unknown" // it may have been done, or may still be
)

// auditMessage is the message of every event of the audit log. Nothing else that
// coord logs has it.
const auditMessage = "audit"

// newAuditLogger returns the logger of audit events.
func (c *Config) newAuditLogger() *slog.Logger {
	return cmp.Or(c.AuditLogger, c.Logger).With(slog.Uint64("member", uint64(c.ID)))
}

// audit logs one event. No attribute may hold a secret: identities go through
// auditIDs, and lists through auditACL.
func (c *Coordinator) audit(act auditAct, outcome auditOutcome, attrs ...slog.Attr) {
	level := slog.LevelInfo
	if outcome != auditOK {
		level = slog.LevelWarn
	}
	all := append([]slog.Attr{slog.String("act", string(act)), slog.String("outcome", string(outcome))}, attrs...)
	c.auditLog.LogAttrs(context.Background(), level, auditMessage, all...)
}

// auditResult logs an act that ended with err. If its outcome is not known it is
// logged again when it is, unless this member is closed before.
func (c *Coordinator) auditResult(act auditAct, err error, attrs ...slog.Attr) {
	c.audit(act, outcomeOf(err), append(attrs, reasonOf(err)...)...)
	if unknown, ok := errors.AsType[*OutcomeError](err); ok {
		c.root.spawn(func() { c.runAuditLate(act, unknown.p, attrs) })
	}
}

// runAuditLate logs what became of an act whose caller has left.
func (c *Coordinator) runAuditLate(act auditAct, q *pending, attrs []slog.Attr) {
	select {
	case <-q.done:
	case <-c.root.ctx.Done():
		return
	}
	err := q.err
	if err == nil {
		err = q.result.firstError().err()
	}
	switch {
	case errors.Is(err, ErrUnknownOutcome):
		return
	case err == nil && act == actResumeSession && q.result.session == 0:
		err = errNotWaitedFor
	case err == nil && act == actOpenSession:
		attrs = append(attrs, slog.String("session", q.result.session.String()))
	}
	c.audit(act, outcomeOf(err), append(append(attrs, reasonOf(err)...), slog.Bool("late", true))...)
}

// errNotWaitedFor is why a session was claimed and not resumed.
var errNotWaitedFor = errors.New("nobody waited until the session was free")

// auditGoverned tells what a request of the ensemble's own code is.
func (c *Coordinator) auditGoverned(r *request) (auditAct, []slog.Attr) {
	switch t := r.template; {
	case r.kind == requestSetUser:
		return actSetUser, []slog.Attr{slog.String("user", cutText(r.user.name))}
	case r.kind == requestActivate:
		return actActivate, []slog.Attr{auditVersion(r.version)}
	case r.kind == requestRemoveUser:
		return actRemoveUser, []slog.Attr{slog.String("user", cutText(r.user.name))}
	case t != nil:
		return actSetTemplate, []slog.Attr{slog.String("path", cutText(t.path)), c.auditACL(t.list), slog.Bool("enforced", t.enforced)}
	}
	return actSettings, []slog.Attr{auditSettings(r.change)}
}

// auditSettings tells which settings change, from what to what. A new digest of the
// super user looks like the old one.
func auditSettings(c *settingsChange) slog.Attr {
	from, to := reflect.ValueOf(c.from.public()), reflect.ValueOf(c.to.public())
	var changes []string
	for field := range reflect.TypeFor[Settings]().Fields() {
		was, is := fmt.Sprint(from.FieldByIndex(field.Index)), fmt.Sprint(to.FieldByIndex(field.Index))
		if was != is {
			changes = append(changes, fmt.Sprintf("%s: %s, was %s", field.Name, is, was))
		}
	}
	if c.from.superDigest != c.to.superDigest && c.from.public().SuperDigest == c.to.public().SuperDigest {
		changes = append(changes, "SuperDigest: another hash for the same name")
	}
	return auditList("changes", changes, strings.Clone)
}

// auditPeer logs that somebody who came to the door between members was turned away.
func (c *Coordinator) auditPeer(peer replica.MemberID, from net.Addr, reason string) {
	c.audit(actAdmitPeer, auditRefused, slog.Uint64("peer", uint64(peer)), slog.String("from", from.String()), slog.String("reason", cutText(reason)))
}

// outcomeOf sorts what ends an act. A Code is the answer of the ensemble, or this
// member's in its name.
func outcomeOf(err error) auditOutcome {
	_, answered := errors.AsType[Code](err)
	switch {
	case err == nil:
		return auditOK
	case errors.Is(err, ErrUnknownOutcome):
		return auditUnknown
	case answered:
		return auditRefused
	}
	return auditFailed
}

func reasonOf(err error) []slog.Attr {
	if err == nil {
		return nil
	}
	return []slog.Attr{slog.String("reason", cutText(err.Error()))}
}

// auditDetail tells what a refusal says beyond its reason.
func auditDetail(detail string) []slog.Attr {
	if detail == "" {
		return nil
	}
	return []slog.Attr{slog.String("detail", cutText(detail))}
}

// auditIDs tells who somebody is, without the hashes of passwords. Nil is the
// ensemble's own code.
func auditIDs(ids []ID) slog.Attr {
	if ids == nil {
		ids = []ID{member}
	}
	return auditList("identities", ids, ID.String)
}

// audit tells for whom a session is to speak.
func (o *SessionOptions) audit() slog.Attr {
	if !o.External {
		return auditIDs(nil)
	}
	return auditIDs(append([]ID{}, o.Identities...))
}

// auditACL tells an access control list as somebody asks for it, likewise. In an entry
// of no scheme that the ensemble knows, anything may be anywhere.
func (c *Coordinator) auditACL(list []ACL) slog.Attr {
	settings := c.root.state().settings
	return auditList("acl", list, func(a ACL) string {
		if !builtInSchemes[a.ID.Scheme] && !settings.hasScheme(a.ID.Scheme) {
			a.ID = ID{"unknown", "x"}
		}
		return fmt.Sprintf("%d %v", a.Perms, a.ID)
	})
}

// auditList bounds what callers can write into the log.
func auditList[T any](key string, list []T, text func(T) string) slog.Attr {
	const most = 64
	texts := make([]string, 0, min(len(list), most+1))
	for _, e := range list[:min(len(list), most)] {
		texts = append(texts, cutText(text(e)))
	}
	if more := len(list) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("… and %d more", more))
	}
	return slog.Any(key, texts)
}
