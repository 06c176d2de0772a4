package sim_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"coord"
)

// Below vanishDir are containers, and znodes with a time to live, all with children, which
// the ensemble deletes when they are due. A hard quota bounds how many there are.
const (
	vanishDir = "/v"
	quotaDir  = "/zookeeper/quota" + vanishDir

	nContainers    = 4 // that are used often; as many more are made and hardly used
	containerGrace = 15 * time.Second
	maxTTL         = 40 * time.Second
	vanishQuota    = 45 // znodes, vanishDir included
)

func container(i int) string { return fmt.Sprintf("%s/c%d", vanishDir, i) }

func isContainer(path string) bool {
	return strings.HasPrefix(path, vanishDir+"/c") && parent(path) == vanishDir
}

func isTTL(path string) bool {
	return strings.HasPrefix(path, vanishDir+"/t") && parent(path) == vanishDir
}

func inVanishDir(path string) bool { return strings.HasPrefix(path, vanishDir+"/") }

func (w *world) setupVanishing(c *coord.Coordinator) {
	w.mustCreate(c, vanishDir, nil)
	if err := c.SetQuota(context.Background(), vanishDir, coord.Quota{HardZnodes: vanishQuota}); err != nil {
		w.t.Fatal(err)
	}
}

// keep makes one call that has to do with what vanishes.
func (c *client) keep() {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience())
	defer cancel()
	switch n := c.dice.IntN(100); {
	case n < 3:
		c.createContainer(ctx)
	case n < 20:
		c.createTTL(ctx)
	case n < 35:
		c.refreshTTL(ctx)
	case n < 60:
		c.createChild(ctx)
	case n < 90:
		c.deleteChild(ctx)
	default:
		c.viewAll(ctx)
	}
}

// createContainer makes a container without anything in it, which somebody else may have
// made before.
func (c *client) createContainer(ctx context.Context) {
	path := container(nContainers + c.dice.IntN(nContainers))
	_, _, err := c.api.Create(ctx, path, nil, coord.Container)
	if !excusedRecipe(err, nil, coord.ErrNodeExists, coord.ErrQuotaExceeded) {
		c.w.violate("reaping: %s was not made: %v", path, err)
	}
}

func (c *client) createTTL(ctx context.Context) {
	q := c.beginCall(call{kind: createTTL, path: vanishDir, ttl: between(c.dice, time.Millisecond, maxTTL)})
	path, stat, err := c.api.Create(ctx, vanishDir+"/t-", []byte(q.data()), coord.PersistentSequentialTTL, coord.WithTTL(q.ttl))
	if err == nil {
		q.path = path
		c.ttls = append(c.ttls, path)
	}
	c.wrote(q, stat, err)
}

// someTTL returns one of the last znodes with a time to live that were made here, which
// may be gone.
func (c *client) someTTL() string {
	const few = 5
	c.ttls = c.ttls[max(0, len(c.ttls)-few):]
	if len(c.ttls) == 0 {
		return ""
	}
	return c.ttls[c.dice.IntN(len(c.ttls))]
}

func (c *client) refreshTTL(ctx context.Context) {
	path := c.someTTL()
	if path == "" {
		return
	}
	q := c.begin(refreshTTL, path)
	stat, err := c.api.SetData(ctx, path, []byte(q.data()))
	c.wrote(q, stat, err)
}

func (c *client) createChild(ctx context.Context) {
	dir, opts := container(c.dice.IntN(nContainers)), []coord.CreateOption{coord.WithContainers()}
	switch r := c.dice.IntN(30); {
	case r == 0:
		dir = container(nContainers + c.dice.IntN(nContainers))
	case r < 10:
		if dir, opts = c.someTTL(), nil; dir == "" {
			return
		}
	}
	q := c.beginCall(call{kind: createChild, path: dir})
	path, stat, err := c.api.Create(ctx, dir+"/k"+q.data(), []byte(q.data()), opts...)
	if err == nil {
		q.path = path
		c.children = append(c.children, path)
	}
	c.wrote(q, stat, err)
}

func (c *client) deleteChild(ctx context.Context) {
	last := len(c.children) - 1
	if last < 0 {
		return
	}
	q := c.begin(deleteChild, c.children[last])
	c.children = c.children[:last]
	c.wrote(q, coord.Stat{}, c.api.Delete(ctx, q.path))
}

// checkUsage compares what the quota says is used with what is there.
func (c *client) checkUsage(q *call, v *coord.View) {
	if c.dice.IntN(4) != 0 || !c.w.o.script.anyOf(keepers...) {
		return
	}
	znodes, bytes := 0, 0
	for z := range v.Walk(vanishDir) {
		znodes++
		bytes += len(z.Data)
	}
	want := fmt.Sprintf("count=%d,bytes=%d", znodes, bytes)
	if data, _, err := v.Get(quotaDir + "/zookeeper_stats"); err != nil || string(data) != want || znodes > vanishQuota {
		c.w.violate("quota: %v shows %q (%v), and there are %d znodes of %d bytes; at most %d may be", q, data, err, znodes, bytes, vanishQuota)
	}
}

// vanished checks that containers and znodes with a time to live vanish when they are due
// and not before, nothing else below vanishDir does, and that the quota is kept.
func (c *checker) vanished() {
	deleted := map[string]*call{}
	for _, q := range c.calls {
		if q.kind == deleteChild {
			deleted[q.path] = q
		}
	}
	for _, path := range c.past.paths {
		switch {
		case isContainer(path), isTTL(path):
			c.reapedInTime(path)
		case inVanishDir(path):
			c.onlyDeleted(path, deleted[path])
		}
	}
	c.quota()
}

// onlyDeleted checks a child, which nobody but a call deletes.
func (c *checker) onlyDeleted(path string, q *call) {
	vs := c.past.versions[path]
	last := vs[len(vs)-1]
	switch gone := last.deleted; {
	case gone && (q == nil || q.outcome == refused):
		c.violate("G1, G3: %s was deleted at %v, which nobody was told (%v)", path, last.zxid, q)
	case !gone && q != nil && q.outcome == acked:
		c.violate("G1: %s is there, and was deleted by %v", path, q)
	case len(vs) > 2:
		c.violate("G2: %s has %d versions", path, len(vs))
	}
}

// reapedInTime checks each end of a container, or of a znode with a time to live.
func (c *checker) reapedInTime(path string) {
	vs := c.past.versions[path]
	for i, v := range vs {
		if !v.deleted {
			continue
		}
		was := vs[i-1]
		c.found.reaped++
		left, had := c.childrenAt(path, was.stat.Czxid, v.zxid)
		if left > 0 {
			c.violate("reaping: %s was deleted at %v with %d children", path, v.zxid, left)
		}
		if due := c.dueAt(path, was, had); c.clock(v.seen) <= due {
			c.violate("reaping: %s, modified at %v, was deleted at %v, seen at %v, %d ms too early", path, was.zxid, v.zxid, v.seen, due-c.clock(v.seen))
		}
	}
	const slack = time.Minute
	last := vs[len(vs)-1]
	if last.deleted || c.rested == 0 {
		return
	}
	left, had := c.childrenAt(path, last.stat.Czxid, never)
	if due := c.dueAt(path, last, had); left == 0 && c.clock(c.rested-slack) > due {
		c.violate("reaping: %s, modified at %v, is there at the end, %d ms after it was due", path, last.zxid, c.clock(c.rested)-due)
	}
}

// clock returns what a clock says, in milliseconds.
func (c *checker) clock(at time.Duration) int64 { return c.start.Add(at).UnixMilli() }

// dueAt returns what the clock says when a znode without children that has a version, and
// has had children or not, may be deleted.
func (c *checker) dueAt(path string, v version, had bool) int64 {
	switch {
	case !isTTL(path) && had:
		return math.MinInt64
	case !isTTL(path):
		return v.stat.Mtime + containerGrace.Milliseconds()
	}
	q := c.maker(path)
	if q == nil {
		return math.MinInt64 // another checker says that nobody has made it
	}
	return v.stat.Mtime + int64((q.ttl+time.Millisecond-1)/time.Millisecond)
}

// maker returns the call that has made a znode, by the data that it was made with.
func (c *checker) maker(path string) *call {
	if c.byID == nil {
		c.byID = map[string]*call{}
		for _, q := range c.calls {
			c.byID[q.data()] = q
		}
	}
	return c.byID[c.past.versions[path][0].data]
}

// childrenAt returns how many children a znode that was made at one zxid had at another,
// and whether it had had any.
func (c *checker) childrenAt(path string, since, at coord.ZXID) (left int, had bool) {
	i, _ := slices.BinarySearch(c.past.paths, path+"/")
	for ; i < len(c.past.paths) && strings.HasPrefix(c.past.paths[i], path+"/"); i++ {
		vs := c.past.versions[c.past.paths[i]]
		if vs[0].zxid < since || vs[0].zxid >= at {
			continue
		}
		had = true
		if end := vs[len(vs)-1]; !end.deleted || end.zxid > at {
			left++
		}
	}
	return left, had
}

// quota checks that there were never too many znodes, and that whoever was refused for
// that, or because a znode was not there, was told so while it was true.
func (c *checker) quota() {
	type level struct {
		zxid  coord.ZXID
		count int
	}
	levels := []level{{0, 0}}
	count := 0
	for _, w := range c.past.writes {
		before := count
		for _, e := range w.events {
			switch {
			case !inVanishDir(e.path) && e.path != vanishDir:
			case e.typ == coord.NodeCreated:
				count++
			case e.typ == coord.NodeDeleted:
				count--
			}
		}
		if count > vanishQuota {
			c.violate("quota: %d znodes are below %s at %v, at most %d may be", count, vanishDir, w.zxid, vanishQuota)
		}
		if count != before {
			levels = append(levels, level{w.zxid, count})
		}
	}
	decided := c.decided()
	for _, q := range c.calls {
		if q.outcome != refused || !q.kind.writes() {
			continue
		}
		from, to := decided(q)
		switch {
		case q.code == coord.ErrQuotaExceeded:
			c.found.full++
			i, _ := slices.BinarySearchFunc(levels, from+1, func(l level, z coord.ZXID) int { return cmp.Compare(l.zxid, z) })
			full := false
			for i = max(i-1, 0); i < len(levels) && levels[i].zxid < to; i++ {
				full = full || levels[i].count+2 > vanishQuota // a container may come with it
			}
			if !full {
				c.violate("quota: %v was refused, and there were never more than %d znodes from %v to %v", q, vanishQuota-2, from, to)
			}
		case q.code == coord.ErrNoNode && (q.kind == refreshTTL || q.kind == createChild):
			vs := c.past.versions[q.path]
			if len(vs) == 0 || !vs[len(vs)-1].deleted || vs[len(vs)-1].zxid >= to {
				c.violate("reaping: %v was told that %s is gone, which was there until %v", q, q.path, to)
			}
		}
	}
}

// decided returns a function that returns between which zxids a refused write was refused:
// that of the state was not below from, and below to.
func (c *checker) decided() func(q *call) (from, to coord.ZXID) {
	var before, after climb // writes that had ended, with their zxids, and those that began, with the negative ones
	for z, w := range c.writers {
		if w.end != 0 && w.outcome == acked && !w.late {
			before.add(w.end, int64(z))
		}
		after.add(math.MaxUint64-w.begin, -int64(z))
	}
	before.sort()
	after.sort()
	return func(q *call) (from, to coord.ZXID) {
		from, to = coord.ZXID(before.at(q.begin, 0)), never
		if !q.late {
			to = coord.ZXID(-after.at(math.MaxUint64-q.end, -int64(never)))
		}
		return from, to
	}
}

// A climb is something that only grows, by ticks.
type climb []rung

type rung struct {
	tick  uint64
	value int64
}

func (c *climb) add(tick uint64, value int64) { *c = append(*c, rung{tick, value}) }

// sort is called when all was added.
func (c *climb) sort() {
	all := *c
	slices.SortFunc(all, func(a, b rung) int { return cmp.Or(cmp.Compare(a.tick, b.tick), cmp.Compare(a.value, b.value)) })
	for i := 1; i < len(all); i++ {
		all[i].value = max(all[i].value, all[i-1].value)
	}
}

// at returns how high it was just before a tick, or least.
func (c *climb) at(tick uint64, least int64) int64 {
	i, _ := slices.BinarySearchFunc(*c, tick, func(r rung, tick uint64) int { return cmp.Compare(r.tick, tick) })
	if i == 0 {
		return least
	}
	return max((*c)[i-1].value, least)
}
