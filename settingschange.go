package coord

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Settings are what an ensemble decides by, on all members alike: a part of what is
// replicated, see [Coordinator.ChangeSettings]. [Config] has those that an ensemble
// starts with.
type Settings struct {
	// MaxDataBytes limits the data of one znode, in bytes, from 1 to 16 MiB. Znodes
	// that have more keep it. [Config.MaxDataBytes] is the first value.
	MaxDataBytes int

	// MinSessionTimeout and MaxSessionTimeout bound what a session is granted that is
	// opened or resumed from now on, in whole milliseconds: from twice the
	// [Config.ElectionTimeout] of the member that is asked, and not less than 100 ms,
	// to 365 days. The fields of the same names in [Config] are the first values.
	MinSessionTimeout, MaxSessionTimeout time.Duration

	// TTLNodes lets znodes with a time to live be created. It is true at first. Those
	// that exist are reaped in any case.
	TTLNodes bool

	// DefaultACL is that of znodes which are created without one where no template says
	// otherwise. An empty one is [MembersACL]. [Config.DefaultACL] is the first value.
	DefaultACL []ACL

	// SuperDigest is the digest of whoever may do everything, see [DigestID]; empty
	// is nobody. Where it is told, the hash is masked as x, and a value that is left so
	// keeps it. Sessions that were granted "super" keep it until they end.
	// [Config.SuperDigest] is the first value.
	SuperDigest string

	// Schemes are those of plug-in authenticators, at most 64, as
	// [Config.Authenticators] names them, which also gives the first ones. ACLs can
	// name their identities, and those of others count no more.
	Schemes []string

	// MaxEphemerals limits the ephemeral znodes of one session; 0 is no limit. A session
	// that has more keeps them. [Config.MaxEphemerals] is the first value.
	MaxEphemerals int

	// AdvisoryQuotas has hard quotas warn and not refuse. [Config.AdvisoryQuotas] is the
	// first value.
	AdvisoryQuotas bool

	_ struct{}
}

// public returns settings as they are told.
func (set *settings) public() Settings {
	name, _, _ := strings.Cut(set.superDigest, ":")
	s := Settings{
		MaxDataBytes:      int(set.maxDataBytes),
		MinSessionTimeout: time.Duration(set.minSessionTimeoutMS) * time.Millisecond,
		MaxSessionTimeout: time.Duration(set.maxSessionTimeoutMS) * time.Millisecond,
		TTLNodes:          set.ttlNodes,
		DefaultACL:        slices.Clone(set.defaultACL),
		Schemes:           slices.Clone(set.schemes),
		MaxEphemerals:     int(set.maxEphemerals),
		AdvisoryQuotas:    !set.enforceQuotas,
	}
	if set.superDigest != "" {
		s.SuperDigest = name + ":x"
	}
	return s
}

// changed returns settings that were told and then changed.
func (set *settings) changed(s Settings) settings {
	to := *set
	to.maxDataBytes = int64(s.MaxDataBytes)
	to.minSessionTimeoutMS = s.MinSessionTimeout.Milliseconds()
	to.maxSessionTimeoutMS = s.MaxSessionTimeout.Milliseconds()
	to.ttlNodes = s.TTLNodes
	to.defaultACL = slices.Clone(s.DefaultACL)
	to.schemes = slices.Compact(slices.Sorted(slices.Values(s.Schemes)))
	to.maxEphemerals = int64(s.MaxEphemerals)
	to.enforceQuotas = !s.AdvisoryQuotas
	if s.SuperDigest != set.public().SuperDigest {
		to.superDigest = s.SuperDigest
	}
	return to
}

// Settings returns the settings of the ensemble as this member knows them, and those
// of its Config while it knows none. They are the caller's.
func (c *Coordinator) Settings() Settings {
	if s := c.root.state(); s.started() {
		return s.settings.public()
	}
	set := c.cfg.settings()
	return set.public()
}

// ChangeSettings changes the settings of the whole ensemble while it runs. change is
// given those in force and changes what it wants to; if somebody else was faster it is
// called again, on what is in force then, so nobody's change is lost. It must not keep
// what it is given. What is written behind the change, on any member, is decided by
// the new settings; what exists already stays as it is. A change of nothing is neither
// written nor audited.
//
// Only code of the members can change settings. Errors: [ErrBadArguments], which names
// the setting, its value and its bounds, and those of every write, see [Client].
func (c *Coordinator) ChangeSettings(ctx context.Context, change func(*Settings)) error {
	fail := func(err error, detail string) error { return &OpError{Op: "changeSettings", Err: err, Detail: detail} }
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OperationTimeout, ErrTimeout)
	defer cancel()
	if err := c.root.awaitJoined(ctx); err != nil {
		return fail(err, "")
	}
	for caughtUp := false; ; {
		from := c.root.state().settings
		wanted := from.public()
		change(&wanted)
		to := from.changed(wanted)
		if fault := c.settingsFault(&to); fault != "" {
			return fail(ErrBadArguments, fault)
		}
		if to.equal(&from) {
			if caughtUp {
				return nil
			}
			// Somebody may have changed it elsewhere, which this member has yet to learn.
			if err := c.root.barrier(ctx); err != nil {
				return fail(err, "")
			}
			caughtUp = true
			continue
		}
		err := c.govern(ctx, request{kind: requestSettings, change: &settingsChange{from, to}})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrBadVersion):
			continue // what refused it is applied here
		}
		return fail(err, "")
	}
}

// settingsFault says what is wrong with settings, as far as this member can tell.
func (c *Coordinator) settingsFault(set *settings) string {
	if fault := set.fault(); fault != "" {
		return fault
	}
	if least := 2 * c.cfg.ElectionTimeout; set.minSessionTimeoutMS < least.Milliseconds() {
		return fmt.Sprintf("MinSessionTimeout %d ms is less than twice the ElectionTimeout of %v: a change of leader would expire sessions",
			set.minSessionTimeoutMS, c.cfg.ElectionTimeout)
	}
	return ""
}
