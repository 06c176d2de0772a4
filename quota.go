package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// A Quota limits what the subtree at a path uses. Zero is no limit.
//
// Quotas are znodes, as in ZooKeeper, whose tools can set and list them:
// /zookeeper/quota<path>/zookeeper_limits is the quota, zookeeper_stats beside it
// shows the usage. Who may set quotas is decided by the ACLs there.
//
//   - Soft limits warn: each member's log says so, once a minute for each quota.
//   - Hard limits refuse: a create, setData or add that would leave more is refused
//     with [ErrQuotaExceeded], also inside a Multi. Equal is allowed. A soft limit is
//     not looked at where there is a hard one. [Config.AdvisoryQuotas] makes them warn
//     instead.
//   - What does not change is not compared: a subtree with too many bytes takes empty
//     znodes. What shrinks is compared, so data that becomes a little shorter can be
//     refused while the subtree is over its limit; deletes never are.
//   - If quotas are nested, the deepest one decides, and each counts all of its
//     subtree. A quota on the root or inside /zookeeper would be ignored.
//
// A write in a subtree with a quota costs a lookup for each component of its path and
// a change of the znode that shows the usage, one without any quota nothing. Setting
// the first quota of a path counts its subtree while nothing else is applied.
type Quota struct {
	Znodes, Bytes         int64 // soft; see [Usage] for what is counted
	HardZnodes, HardBytes int64
}

// limits returns what a limits znode says for q.
func (q Quota) limits() quotaLimits {
	l := quotaLimits{q.Znodes, q.Bytes, q.HardZnodes, q.HardBytes}
	for _, field := range []*int64{&l.znodes, &l.bytes, &l.hardZnodes, &l.hardBytes} {
		if *field == 0 {
			*field = noLimit
		}
	}
	return l
}

// public is the inverse of Quota.limits. A limit of zero, which only the text can say,
// becomes -1.
func (l quotaLimits) public() Quota {
	swap := func(n int64) int64 {
		switch n {
		case noLimit:
			return 0
		case 0:
			return noLimit
		}
		return n
	}
	return Quota{Znodes: swap(l.znodes), Bytes: swap(l.bytes), HardZnodes: swap(l.hardZnodes), HardBytes: swap(l.hardBytes)}
}

// SetQuota sets the quota of the subtree at path, or changes it. The path need not
// exist. A quota that is below what is used lets the subtree only shrink.
//
// Errors: [ErrBadArguments] for a path that has no quota (the root, what is inside
// /zookeeper, and what is longer than 4063 bytes) and for a negative limit; those of
// [Session.Create] and [Session.SetData] on the znodes of the quota.
func (c *Coordinator) SetQuota(ctx context.Context, path string, q Quota) error {
	fault := quotaPathFault(path)
	if min(q.Znodes, q.Bytes, q.HardZnodes, q.HardBytes) < 0 {
		fault = fmt.Sprintf("%+v has a negative limit; zero is none", q)
	}
	if fault != "" {
		return &OpError{Op: "setQuota", Path: path, Err: ErrBadArguments, Detail: fault}
	}
	limits, stats := quotaPaths(path)
	err := c.changeQuota(ctx, path, func(hasLimits, hasStats bool) []Op {
		ops := []Op{SetDataOp(limits, q.limits().text())}
		if !hasLimits {
			ops[0] = CreateOp(limits, q.limits().text(), WithParents())
		}
		if !hasStats {
			ops = append(ops, CreateOp(stats, nil))
		}
		return ops
	})
	if err != nil {
		return &OpError{Op: "setQuota", Path: path, Err: err}
	}
	return nil
}

// Quota returns the quota of the subtree at path and what the subtree uses. It fails
// with [ErrNoNode] if there is none, and with [ErrSuspended]. A limit of -1 in what it
// returns is one of zero, which SetQuota does not set but a client of ZooKeeper can.
func (c *Coordinator) Quota(ctx context.Context, path string, opts ...ReadOption) (Quota, Usage, error) {
	if fault := quotaPathFault(path); fault != "" {
		return Quota{}, Usage{}, &OpError{Op: "quota", Path: path, Err: ErrBadArguments, Detail: fault}
	}
	st, err := c.anonymous.read(ctx, "quota", path, readOptionsOf(opts))
	if err != nil {
		return Quota{}, Usage{}, err
	}
	limits, _ := quotaPaths(path)
	if _, code := st.readable(limits, nil); code != codeOK {
		return Quota{}, Usage{}, &OpError{Op: "quota", Path: path, Err: code}
	}
	q := st.quotas.get(path)
	return q.limits.public(), q.usage, nil
}

// RemoveQuota removes the quota of the subtree at path. It fails with [ErrNoNode] if
// there is none, and as [Session.Delete] on the znodes of the quota does.
func (c *Coordinator) RemoveQuota(ctx context.Context, path string) error {
	if fault := quotaPathFault(path); fault != "" {
		return &OpError{Op: "removeQuota", Path: path, Err: ErrBadArguments, Detail: fault}
	}
	limits, stats := quotaPaths(path)
	err := c.changeQuota(ctx, path, func(_, hasStats bool) []Op {
		ops := []Op{DeleteOp(limits)} // refused if there is none
		if hasStats {
			ops = append(ops, DeleteOp(stats))
		}
		return ops
	})
	if err != nil {
		return &OpError{Op: "removeQuota", Path: path, Err: err}
	}
	c.tidyQuota(ctx, pathQuota+path)
	return nil
}

// tidyQuota deletes the znodes that led to a quota, as far as they are empty and we may.
// One that is named like those of a quota is another's.
func (c *Coordinator) tidyQuota(ctx context.Context, path string) {
	for ; path != pathQuota; path = parentPath(path) {
		if role, _ := quotaZnodeAt(path); role != quotaNothing || c.Delete(ctx, path) != nil {
			return
		}
	}
}

// changeQuota executes what change returns for the znodes that a quota has. If it was
// refused and others have made or deleted some of them meanwhile, it tries again.
func (c *Coordinator) changeQuota(ctx context.Context, path string, change func(hasLimits, hasStats bool) []Op) error {
	limits, stats := quotaPaths(path)
	var refused error
	var tried [2]bool
	for {
		v, err := c.View(ctx)
		if err != nil {
			return err
		}
		_, hasLimits := v.s.tree.find(limits)
		_, hasStats := v.s.tree.find(stats)
		found := [2]bool{hasLimits, hasStats}
		if refused != nil && found == tried {
			return refused
		}
		_, err = c.Multi(ctx, change(hasLimits, hasStats)...)
		if !errors.Is(err, ErrNoNode) && !errors.Is(err, ErrNodeExists) {
			return err
		}
		refused, tried = err, found
	}
}

// quotaPaths returns the paths of the znodes of a quota.
func quotaPaths(path string) (limits, stats string) {
	return joinPath(pathQuota+path, quotaLimitsName), joinPath(pathQuota+path, quotaStatsName)
}

// quotaPathFault says why path can have no quota, or nothing.
func quotaPathFault(path string) string {
	if fault := pathFault(path); fault != "" {
		return fault
	}
	if path == pathRoot || ignoresQuota(path) {
		return "the root and " + pathSystem + " have no quota"
	}
	limits, _ := quotaPaths(path)
	if len(limits) > maxPathBytes {
		return fmt.Sprintf("it has %d bytes, the limit for a path with a quota is %d", len(path), maxPathBytes-len(limits)+len(path))
	}
	return ""
}

// quotaDetail says how a quota stands, to whoever may read its limits.
func (s *state) quotaDetail(path string, identities []ID) string {
	limits, _ := quotaPaths(path)
	q := s.quotas.get(path)
	if _, code := s.readable(limits, identities); q == nil || code != codeOK {
		return ""
	}
	return q.String()
}

// String tells the usage, and the limits that it is compared with.
func (q *quota) String() string {
	parts := []string{}
	tell := func(what string, used, limit int64) {
		if limit != noLimit {
			parts = append(parts, fmt.Sprintf("%d %s, the limit is %d", used, what, limit))
		}
	}
	znodes, bytes := q.compared()
	tell("znodes", q.usage.Znodes, znodes)
	tell("bytes", q.usage.Bytes, bytes)
	return "the quota of " + quotePath(q.path) + " has " + strings.Join(parts, " and ")
}

// quotaWarnings says when this member last warned of each quota, in time since the
// group was made. It is owned by the goroutine of the machine.
type quotaWarnings struct {
	last    map[string]time.Duration
	sweepAt int // the number of quotas that has old ones forgotten
}

const (
	quotaWarnEvery = time.Minute // and for each quota
	quotaWarnMany  = 1024        // the least number that is worth a sweep
)

func newQuotaWarnings() quotaWarnings {
	return quotaWarnings{map[string]time.Duration{}, quotaWarnMany}
}

// warn logs that limits are exceeded which are not enforced.
func (w *quotaWarnings) warn(log *slog.Logger, now time.Duration, exceeded []*quota) {
	for _, q := range exceeded {
		if last, warned := w.last[q.path]; warned && now-last < quotaWarnEvery {
			continue
		}
		if len(w.last) >= w.sweepAt {
			w.forget(now)
		}
		w.last[q.path] = now
		log.Warn("quota exceeded", slog.String("path", q.path), slog.Int64("znodes", q.usage.Znodes), slog.Int64("bytes", q.usage.Bytes),
			slog.String("limits", string(q.limits.text())))
	}
}

// forget drops what is so old that it makes no difference. The next sweep is due when
// there are twice as many as it leaves: apply waits for it, and there may be a quota for
// each of very many tenants.
func (w *quotaWarnings) forget(now time.Duration) {
	for path, last := range w.last {
		if now-last >= quotaWarnEvery {
			delete(w.last, path)
		}
	}
	w.sweepAt = max(2*len(w.last), quotaWarnMany)
}
