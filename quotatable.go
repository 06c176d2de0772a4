package coord

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// Quotas are kept where ZooKeeper keeps them, in znodes:
//
//	/zookeeper/quota<path>/zookeeper_limits   what the subtree at <path> may use
//	/zookeeper/quota<path>/zookeeper_stats    what it uses now
//
// The first puts the quota into force by being there. The second shows the usage
// and is for readers alone: whatever is written into it, it holds the usage, which
// moves no version, no time and no zxid of it and causes no event (ZooKeeper does
// the same). Quotas on the root and inside /zookeeper are ignored, so that no quota
// counts a znode that changes with the count.
const (
	quotaLimitsName = "zookeeper_limits"
	quotaStatsName  = "zookeeper_stats"
)

// A Usage is what a subtree takes.
type Usage struct {
	Znodes int64 // the znode at the path and all below it
	Bytes  int64 // their data
}

// text returns the form of a usage that ZooKeeper's tools read.
func (u Usage) text() []byte {
	b := strconv.AppendInt([]byte("count="), u.Znodes, 10)
	return strconv.AppendInt(append(b, ",bytes="...), u.Bytes, 10)
}

// noLimit stands for a limit that is not set.
const noLimit = -1

// quotaLimits are what a limits znode says.
type quotaLimits struct{ znodes, bytes, hardZnodes, hardBytes int64 }

var noLimits = quotaLimits{noLimit, noLimit, noLimit, noLimit}

// parseQuotaLimits reads ZooKeeper's text: count=N,bytes=N and, with hard limits,
// count=N,bytes=N=;byteHardLimit=N;countHardLimit=N. As ZooKeeper does, it takes the
// pairs in any order, of a repeated one the last, commas as well as semicolons, an
// equals sign behind a value, and what is negative or left out for no limit.
func parseQuotaLimits(text []byte) (quotaLimits, error) {
	l := noLimits
	for pair := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == ',' || r == ';' }) {
		key, value, _ := strings.Cut(pair, "=")
		value, rest, _ := strings.Cut(value, "=")
		field := map[string]*int64{
			"count": &l.znodes, "bytes": &l.bytes, "countHardLimit": &l.hardZnodes, "byteHardLimit": &l.hardBytes,
		}[key]
		n, err := strconv.ParseInt(value, 10, 64)
		if value == "" {
			n, err = noLimit, nil
		}
		if field == nil || err != nil || rest != "" {
			return noLimits, fmt.Errorf("%q is not one of count, bytes, countHardLimit and byteHardLimit, with = and a number behind it", cutText(pair))
		}
		*field = max(n, noLimit)
	}
	return l, nil
}

// text is the inverse of parseQuotaLimits, byte for byte as ZooKeeper writes it. The
// odd sign is there for its parsers of old.
func (l quotaLimits) text() []byte {
	b := fmt.Appendf(nil, "count=%d,bytes=%d", l.znodes, l.bytes)
	if l.hardZnodes == noLimit && l.hardBytes == noLimit {
		return b
	}
	b = append(b, '=')
	if l.hardBytes != noLimit {
		b = fmt.Appendf(b, ";byteHardLimit=%d", l.hardBytes)
	}
	if l.hardZnodes != noLimit {
		b = fmt.Appendf(b, ";countHardLimit=%d", l.hardZnodes)
	}
	return b
}

// A quota is a limit of one subtree and what the subtree uses. It is immutable.
type quota struct {
	path   string
	limits quotaLimits
	usage  Usage
	stats  treeKey // of the znode that shows the usage, whether or not it exists
}

// compared returns the limits that usage is compared with: a soft one counts only
// where there is no hard one.
func (q *quota) compared() (znodes, bytes int64) {
	znodes, bytes = q.limits.hardZnodes, q.limits.hardBytes
	if znodes == noLimit {
		znodes = q.limits.znodes
	}
	if bytes == noLimit {
		bytes = q.limits.bytes
	}
	return znodes, bytes
}

// refuses reports whether so much more is over a hard limit. What does not change is
// not compared, so that a quota over its bytes lets empty znodes be made.
func (q *quota) refuses(znodes, bytes int64) bool {
	return over(q.usage.Znodes+znodes, q.limits.hardZnodes) && znodes != 0 || over(q.usage.Bytes+bytes, q.limits.hardBytes) && bytes != 0
}

func over(value, limit int64) bool { return limit != noLimit && value > limit }

// A quotaTable holds the quotas that are in force.
//
// Invariants, checked by violations:
//
//	Q1  it has exactly the paths whose limits znodes exist and are not ignored, each
//	    with the limits that the znode says
//	Q2  the usage is that of the subtree
//	Q3  the stats znode of a quota in force shows its usage
type quotaTable struct{ byPath ordered[quotaItem] }

// A quotaItem is one quota under its path. The path is not looked for in the quota,
// so that a lookup allocates nothing.
type quotaItem struct {
	path  string
	quota *quota
}

func newQuotaTable() quotaTable {
	return quotaTable{newOrdered(func(a, b quotaItem) bool { return a.path < b.path })}
}

func (t *quotaTable) freeze() quotaTable { return quotaTable{t.byPath.freeze()} }

func (t *quotaTable) none() bool { return t.byPath.len() == 0 }

// get returns the quota of exactly this path, or nil.
func (t *quotaTable) get(path string) *quota {
	it, _ := t.byPath.get(quotaItem{path: path})
	return it.quota
}

// covering yields the quotas of path and of its ancestors, the deepest first.
func (t *quotaTable) covering(path string) iter.Seq[*quota] {
	return func(yield func(*quota) bool) {
		if t.none() {
			return
		}
		for p := path; p != pathRoot; p = parentPath(p) {
			if q := t.get(p); q != nil && !yield(q) {
				return
			}
		}
	}
}

// deepest returns the quota that decides for path: of those that cover it the
// deepest, or nil.
func (t *quotaTable) deepest(path string) *quota {
	for q := range t.covering(path) {
		return q
	}
	return nil
}

// A quotaZnode says what a znode below /zookeeper/quota is for.
type quotaZnode uint8

const (
	quotaNothing quotaZnode = iota // nothing, or for a quota that is ignored
	quotaLimit
	quotaStats
)

// quotaZnodeAt returns what the znode at path is for, and the path of the quota.
func quotaZnodeAt(path string) (role quotaZnode, of string) {
	below, ok := strings.CutPrefix(path, pathQuota)
	if !ok || below == "" || below[0] != '/' {
		return quotaNothing, ""
	}
	i := strings.LastIndexByte(below, '/')
	switch below[i+1:] {
	case quotaLimitsName:
		role = quotaLimit
	case quotaStatsName:
		role = quotaStats
	}
	if of = below[:i]; ignoresQuota(of) {
		return quotaNothing, ""
	}
	return role, of
}

// ignoresQuota reports whether quotas on path are ignored: on the root, which is
// empty here, and on what belongs to the ensemble.
func ignoresQuota(path string) bool {
	return path == "" || path == pathSystem || strings.HasPrefix(path, pathSystem+"/")
}

// quotaTextFault says what is wrong with an operation that would leave a limits znode
// with something else than limits, or nothing.
func quotaTextFault(o *op) string {
	if !strings.HasPrefix(o.path, pathQuota) || o.mode.sequential() {
		return ""
	}
	if role, _ := quotaZnodeAt(o.path); role != quotaLimit {
		return ""
	}
	switch o.kind {
	case opCreate, opSetData:
		if _, err := parseQuotaLimits(o.data); err != nil {
			return err.Error()
		}
	case opAdd:
		return "limits of a quota are not a number"
	case opDelete, opSetACL, opCheck, opCheckAbsent, opCheckChildren, opCheckFewerChildren:
	}
	return ""
}

// refusingQuota returns the quota that refuses to have path created, with so many
// bytes of data and everything that is missing between it and up; nil if none does.
// Each znode is up to the deepest quota that covers it.
func (s *state) refusingQuota(up, path string, bytes int64) *quota {
	if s.quotas.none() || !s.settings.enforceQuotas {
		return nil
	}
	q, made := s.quotas.deepest(up), int64(0)
	for end := len(strings.TrimSuffix(up, "/")); end < len(path); {
		end++
		if i := strings.IndexByte(path[end:], '/'); i >= 0 {
			end += i
		} else {
			end = len(path)
		}
		if own := s.quotas.get(path[:end]); own != nil {
			q, made = own, 0
		}
		made++
		data := int64(0) // of parents
		if end == len(path) {
			data = bytes
		}
		if q != nil && q.refuses(made, data) {
			return q
		}
	}
	return nil
}

// refusingBytes returns the quota that refuses to have the data at path become so
// much longer, or nil.
func (s *state) refusingBytes(path string, more int) *quota {
	if s.quotas.none() || !s.settings.enforceQuotas {
		return nil
	}
	if q := s.quotas.deepest(path); q != nil && q.refuses(0, int64(more)) {
		return q
	}
	return nil
}

// storedData returns what a znode gets that is to have data.
func (s *state) storedData(path string, data []byte) []byte {
	if role, of := quotaZnodeAt(path); role == quotaStats {
		return s.usage(of).text()
	}
	return data
}

// usage returns what the subtree at path uses. It counts if there is no quota.
func (s *state) usage(path string) Usage {
	if q := s.quotas.get(path); q != nil {
		return q.usage
	}
	return s.countUsage(path)
}

// countUsage walks the subtree at path.
func (s *state) countUsage(path string) Usage {
	k, ok := keyOf(path)
	if !ok {
		return Usage{}
	}
	n, ok := s.tree.lookup(k)
	if !ok {
		return Usage{}
	}
	u := Usage{Znodes: 1, Bytes: int64(len(n.data))}
	for _, n := range s.tree.descendants(k) {
		u.Znodes++
		u.Bytes += int64(len(n.data))
	}
	return u
}

// account keeps the quotas right when the znode at path has changed from old to n,
// where nil is none. It returns the quota that decides for the path if a limit that
// is not enforced is exceeded by now, unless that can only have become better.
func (s *state) account(path string, old, n *znode) (exceeded *quota) {
	if role, of := quotaZnodeAt(path); role == quotaLimit {
		s.limit(of, n)
		return nil
	}
	if s.quotas.none() {
		return nil
	}
	var znodes, bytes int64
	if old != nil {
		znodes, bytes = znodes-1, bytes-int64(len(old.data))
	}
	if n != nil {
		znodes, bytes = znodes+1, bytes+int64(len(n.data))
	}
	if znodes == 0 && bytes == 0 {
		return nil
	}
	deepest := true
	for q := range s.quotas.covering(path) {
		changed := *q
		changed.usage.Znodes += znodes
		changed.usage.Bytes += bytes
		s.putQuota(&changed)
		if deepest && n != nil {
			most, mostBytes := changed.compared()
			if znodes != 0 && over(changed.usage.Znodes, most) || bytes != 0 && over(changed.usage.Bytes, mostBytes) {
				exceeded = &changed
			}
		}
		deepest = false
	}
	return exceeded
}

// limit puts the quota of path into force as its limits znode says, or out of force
// if n is nil. The first time it walks the subtree.
func (s *state) limit(path string, n *znode) {
	if n == nil {
		s.quotas.byPath.remove(quotaItem{path: path})
		return
	}
	s.putQuota(s.quotaOf(path, n))
}

// quotaOf returns the quota of path as its limits znode n says.
func (s *state) quotaOf(path string, n *znode) *quota {
	stats, _ := keyOf(joinPath(pathQuota+path, quotaStatsName))
	limits, _ := parseQuotaLimits(n.data) // apply stores nothing else than limits
	return &quota{path: path, limits: limits, usage: s.usage(path), stats: stats}
}

// putQuota adds or replaces a quota and has its stats znode show the usage.
func (s *state) putQuota(q *quota) {
	s.quotas.byPath.put(quotaItem{q.path, q})
	if n, ok := s.tree.lookup(q.stats); ok {
		m := *n
		m.data = q.usage.text()
		s.tree.replace(q.stats, &m)
	}
}

// limitsZnodes yields the limits znodes of the tree that put a quota into force, with
// the path of the quota.
func (s *state) limitsZnodes() iter.Seq2[string, *znode] {
	return func(yield func(string, *znode) bool) {
		k, _ := keyOf(pathQuota)
		for k, n := range s.tree.descendants(k) {
			if role, of := quotaZnodeAt(k.path()); role == quotaLimit && !yield(of, n) {
				return
			}
		}
	}
}

// deriveQuotas makes the table anew from the tree.
func (s *state) deriveQuotas() {
	s.quotas = newQuotaTable()
	for path, n := range s.limitsZnodes() {
		s.quotas.byPath.put(quotaItem{path, s.quotaOf(path, n)})
	}
}

func (s *state) quotaViolations() iter.Seq[error] {
	return func(yield func(error) bool) {
		limited := 0
		for path, n := range s.limitsZnodes() {
			limited++
			for _, err := range s.quotaFaults(path, n) {
				if !yield(err) {
					return
				}
			}
		}
		if limited != s.quotas.byPath.len() {
			yield(fmt.Errorf("Q1: %d limits znodes but %d quotas", limited, s.quotas.byPath.len()))
		}
	}
}

// quotaFaults compares the quota of path with its limits znode n and with the tree.
func (s *state) quotaFaults(path string, n *znode) []error {
	q := s.quotas.get(path)
	if q == nil {
		return []error{fmt.Errorf("Q1: no quota for the limits of %s", path)}
	}
	var errs []error
	if limits, err := parseQuotaLimits(n.data); err != nil || q.limits != limits || q.path != path {
		errs = append(errs, fmt.Errorf("Q1: the quota of %s is %+v, its limits are %q", path, q, n.data))
	}
	if u := s.countUsage(path); u != q.usage {
		errs = append(errs, fmt.Errorf("Q2: the quota of %s has %+v, counted %+v", path, q.usage, u))
	}
	if stats, ok := s.tree.lookup(q.stats); ok && string(stats.data) != string(q.usage.text()) {
		errs = append(errs, fmt.Errorf("Q3: the quota of %s shows %q, its usage is %+v", path, stats.data, q.usage))
	}
	return errs
}
