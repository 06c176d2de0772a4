package coord

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// This is the part of the model that knows quotas: it counts whenever it is asked.

// quotas returns the limits in force, by the path that they are for.
func (m *model) quotas() map[string]map[string]int64 {
	out := map[string]map[string]int64{}
	for path, n := range m.nodes {
		if of, name := modelQuotaPath(path); name == "zookeeper_limits" {
			limits, _ := modelLimits(n.data)
			out[of] = limits
		}
	}
	return out
}

// modelQuotaPath splits the path of a znode that belongs to a quota which counts.
func modelQuotaPath(path string) (of, name string) {
	parts := strings.Split(path, "/")
	if len(parts) < 5 || parts[1] != "zookeeper" || parts[2] != "quota" || parts[3] == "zookeeper" {
		return "", ""
	}
	last := len(parts) - 1
	return "/" + strings.Join(parts[3:last], "/"), parts[last]
}

var modelPair = regexp.MustCompile(`^(count|bytes|countHardLimit|byteHardLimit)=(-?\d+)?=?$`)

func modelLimits(text []byte) (map[string]int64, bool) {
	limits := map[string]int64{}
	for pair := range strings.SplitSeq(strings.ReplaceAll(string(text), ";", ","), ",") {
		if pair == "" {
			continue
		}
		found := modelPair.FindStringSubmatch(pair)
		if found == nil {
			return nil, false
		}
		delete(limits, found[1])
		if n, err := strconv.ParseInt(found[2], 10, 64); err == nil && n >= 0 {
			limits[found[1]] = n
		}
	}
	return limits, true
}

func (m *model) usage(of string) (count, bytes int64) {
	for path, n := range m.nodes {
		if path == of || strings.HasPrefix(path, of+"/") {
			count++
			bytes += int64(len(n.data))
		}
	}
	return count, bytes
}

func (m *model) usageText(of string) []byte {
	count, bytes := m.usage(of)
	return fmt.Appendf(nil, "count=%d,bytes=%d", count, bytes)
}

// overQuota returns the quota that does not let path change so, or nothing.
func (m *model) overQuota(path string, znodes, bytes int64) string {
	deepest, limits := "", map[string]int64(nil)
	for of, l := range m.quotas() {
		if (path == of || strings.HasPrefix(path, of+"/")) && len(of) > len(deepest) {
			deepest, limits = of, l
		}
	}
	if deepest == "" || !m.enforce {
		return ""
	}
	usedZnodes, usedBytes := m.usage(deepest)
	if most, ok := limits["countHardLimit"]; ok && znodes != 0 && usedZnodes+znodes > most {
		return deepest
	}
	if most, ok := limits["byteHardLimit"]; ok && bytes != 0 && usedBytes+bytes > most {
		return deepest
	}
	return ""
}

// showUsage has every stats znode beside limits show what is used now.
func (m *model) showUsage() {
	for of := range m.quotas() {
		if n := m.nodes["/zookeeper/quota"+of+"/zookeeper_stats"]; n != nil {
			n.data, n.isNull = m.usageText(of), false
		}
	}
}

// badLimits reports whether o would leave something else than limits where limits are.
func badLimits(o *op) bool {
	if _, name := modelQuotaPath(o.path); name != "zookeeper_limits" {
		return false
	}
	_, good := modelLimits(o.data)
	sequential := o.mode == 2 || o.mode == 3 || o.mode == 6
	return o.kind == opAdd || o.kind == opSetData && !good || o.kind == opCreate && !sequential && !good
}

// tooManyEphemerals reports whether r's session must not have another.
func (m *model) tooManyEphemerals(r *request, o *op) bool {
	owned := 0
	for _, n := range m.nodes {
		if n.isEphem && n.owner == r.session {
			owned++
		}
	}
	return (o.mode == 1 || o.mode == 3) && owned >= m.maxEphemerals
}

// quota draws an operation on the znodes of a quota.
func (g *generator) quota(o *op) {
	o.path = "/zookeeper/quota" + pick(g, "/a", "/a/b", "/b", "/a/b/c", "/c", "/d!/s-0000000000", "", "/zookeeper", "/a/zookeeper_limits") +
		"/" + pick(g, "zookeeper_limits", "zookeeper_limits", "zookeeper_stats", "x")
	limit := func() string { return strconv.Itoa(g.r.IntN(30) - 1) }
	text := "count=" + limit() + ",bytes=" + limit()
	if g.one(2) {
		text += "=;byteHardLimit=" + limit() + ";countHardLimit=" + limit()
	}
	o.data = []byte(pick(g, text, text, text, text, "countHardLimit="+limit(), "bytes=,,count="+limit(), "", "count=1;count=2", "nonsense", "count=x"))
	switch g.r.IntN(8) {
	case 0, 1, 2:
		o.kind, o.parents = opCreate, pick(g, noParents, persistentParents)
	case 3, 4:
		o.kind = opSetData
	case 5:
		o.kind, o.delta, o.data = opAdd, 1, nil
	default:
		o.kind, o.data = opDelete, nil
	}
}
