package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// ErrVersionRefused is returned by [Coordinator.ActivateVersion] while it is not
// certain that every member can read the version. The error names the members.
var ErrVersionRefused = errors.New("not every member is known to read this version")

// MemberVersions are the format versions that the binary of one member reads.
type MemberVersions struct {
	Member         MemberID
	Oldest, Newest FormatVersion // 0 if Err is set

	// Err says why the member has not answered.
	Err error
}

// Versions are the format versions of an ensemble and of its members.
type Versions struct {
	// Active is the version in force, as far as this member has caught up.
	Active FormatVersion

	// Members holds all members that were not removed, by id.
	Members []MemberVersions
}

// Versions asks every member, all at once, which format versions its binary reads. It
// waits no longer than ctx and [Config.OperationTimeout] for those that do not answer,
// and returns what the others say.
//
// The error satisfies errors.Is for [ErrSuspended] if this member has never caught up,
// so that it does not know who the members are, and for [ErrClosed] and [ErrFailed].
func (c *Coordinator) Versions(ctx context.Context) (Versions, error) {
	if c.ctx.Err() != nil {
		return Versions{}, &OpError{Op: "versions", Err: context.Cause(c.ctx)}
	}
	s := c.root.state()
	if !s.started() {
		return Versions{}, &OpError{Op: "versions", Err: ErrSuspended}
	}
	v := Versions{Active: s.version}
	for _, m := range s.members {
		if !m.removed {
			v.Members = append(v.Members, MemberVersions{Member: m.id})
		}
	}
	var asking sync.WaitGroup
	for i := range v.Members {
		m := &v.Members[i]
		asking.Go(func() {
			var st Status
			if st, m.Err = c.MemberStatus(ctx, m.Member); m.Err == nil {
				m.Oldest, m.Newest = st.OldestFormat, st.NewestFormat
			}
		})
	}
	asking.Wait()
	return v, nil
}

// lacking says which members are not known to read a version, and why, or "".
func (v *Versions) lacking(version FormatVersion) string {
	var told []string
	for _, m := range v.Members {
		switch {
		case m.Err != nil:
			told = append(told, fmt.Sprintf("member %v has not answered: %v", m.Member, m.Err))
		case version < m.Oldest || version > m.Newest:
			told = append(told, fmt.Sprintf("member %v reads %d to %d", m.Member, m.Oldest, m.Newest))
		}
	}
	return strings.Join(told, "; ")
}

// ActivateVersion puts a format version into force, and with it what only that version
// has. There is no way back: a member whose binary does not read it can only be started
// again with one that does. Until then every member can go back to the binary that it
// had. New ensembles start with the newest version that their first member's binary
// reads. [Coordinator.Versions] tells what is in force and what could be.
//
// It does nothing if the version is in force. All members that were not removed are
// asked first, and each has to answer that it reads the version: if not, nothing was
// done, and the error, which satisfies errors.Is for [ErrVersionRefused], names them. A
// member that goes back to an older binary at the very moment stops with an error that
// says so; the others go on. ErrBadArguments is the answer to a version that this binary
// does not read, and to one below that in force. Otherwise the error is as with any
// write: [ErrUnknownOutcome] says that the version may or may not be in force.
//
// Calls may be concurrent; the highest version wins. It waits no longer than ctx and
// twice [Config.OperationTimeout].
func (c *Coordinator) ActivateVersion(ctx context.Context, version FormatVersion) error {
	err := c.activateVersion(ctx, version)
	if err == nil {
		return nil
	}
	if op, ok := errors.AsType[*OpError](err); ok && op.Op == activateOp {
		return err
	}
	return &OpError{Op: activateOp, Err: err}
}

const activateOp = "activateVersion"

func (c *Coordinator) activateVersion(ctx context.Context, version FormatVersion) error {
	refuse := func(err error, format string, args ...any) error {
		return &OpError{Op: activateOp, Err: err, Detail: fmt.Sprintf(format, args...)}
	}
	if version < oldestFormat || version > formatVersion {
		return refuse(ErrBadArguments, "version %d is not among those that this binary reads, %d to %d", version, oldestFormat, formatVersion)
	}
	if err := c.awaitJoined(ctx); err != nil {
		return err
	}
	if err := c.catchUp(ctx); err != nil { // whoever has joined or activated is known then
		return err
	}
	switch active := c.root.state().version; {
	case version == active:
		return nil
	case version < active:
		return refuse(ErrBadArguments, "version %d is in force, and %d is below it: no version is ever taken back", active, version)
	}
	v, err := c.Versions(ctx)
	if err != nil {
		return err
	}
	if lacking := v.lacking(version); lacking != "" {
		err := refuse(ErrVersionRefused, "version %d: %s", version, lacking)
		c.auditResult(actActivate, err, auditVersion(version))
		return err
	}
	return c.govern(ctx, request{kind: requestActivate, version: version})
}

// catchUp waits until this member shows all that was acknowledged before the call.
func (c *Coordinator) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	return c.root.barrier(ctx)
}

func auditVersion(v FormatVersion) slog.Attr { return slog.Uint64("version", uint64(v)) }

// tellVersions says what could be activated now that this member has joined.
func (g *group) tellVersions() {
	if v := g.state().version; v < formatVersion {
		g.log.Info("a newer format version can be activated once all members read it",
			slog.Uint64("inForce", uint64(v)), slog.Uint64("newest", formatVersion))
	}
}
