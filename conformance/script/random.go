package script

import (
	"math/rand/v2"
	"strings"
)

// A Profile is a kind of random script. They differ because a watch and an ACL that
// withholds reading together are answered by 3.8.0 otherwise than by 3.9.
type Profile struct {
	Name    string
	Servers int  // connections go to servers with indices below this
	Secrets bool // ACLs instead of watches
}

// Profiles returns the profiles for an ensemble of this size.
func Profiles(servers int) []Profile {
	return []Profile{
		{Name: "watches", Servers: servers},
		{Name: "secrets", Servers: servers, Secrets: true},
	}
}

// Random returns the portable script of n operations, besides those that begin it, that
// belongs to a seed and a number.
//
// It draws evenly, which libraries for property tests do not: they prefer the first and
// small values for the sake of shrinking. Here scripts are shrunk as scripts; see
// [Shrink].
func Random(p Profile, seed, number uint64, n int) Script {
	g := &generator{profile: p, rand: rand.New(rand.NewPCG(seed, number))}
	var s Script
	for i, conn := range []string{"a", "b", "c"} {
		s = append(s, Step{Conn: conn, Op: Op{Kind: "connect", Server: int64(i % p.Servers)}})
	}
	for _, path := range []string{"~/a", "~/b"} {
		s = append(s, Step{Conn: "a", Op: Op{Kind: "create", Path: path}})
	}
	if !g.oneIn(3) {
		g.quotas = true
		for _, name := range []string{"", "/zookeeper_limits", "/zookeeper_stats"} {
			s = append(s, Step{Conn: "a", Op: Op{Kind: "create", Path: quotaDir + name, Data: "count=3,bytes=-1"}})
		}
	}
	for range n {
		s = append(s, Step{Conn: one(g, conns...), Op: g.op(), More: g.oneIn(6)})
	}
	return Portable(connected(s))
}

var conns = []string{"a", "a", "b", "b", "c", "d"}

// connected returns the script with a connect in place of what a connection without one
// would do.
func connected(s Script) Script {
	open := map[string]bool{}
	for i, step := range s {
		switch step.Op.Kind {
		case "connect":
			open[step.Conn] = true
		case "resume":
			open[step.Op.From] = false
			open[step.Conn] = true
		default:
			if !open[step.Conn] {
				s[i] = Step{Conn: step.Conn, Op: Op{Kind: "connect"}}
			}
			open[step.Conn] = step.Op.Kind != "drop" && step.Op.Kind != "close"
		}
	}
	return s
}

// A generator draws operations.
type generator struct {
	profile Profile
	rand    *rand.Rand
	quotas  bool // whether there may be quotas
}

// one draws one of the values, each as often as the others.
func one[T any](g *generator, values ...T) T { return values[g.rand.IntN(len(values))] }

// word draws one of the words in text, each as often as it is there.
func (g *generator) word(text string) string { return one(g, strings.Fields(text)...) }

// oneIn draws true once in n times.
func (g *generator) oneIn(n int) bool { return g.rand.IntN(n) == 0 }

// list draws at most most values.
func list[T any](g *generator, most int, draw func() T) []T {
	values := []T{}
	for range g.rand.IntN(most + 1) {
		values = append(values, draw())
	}
	return values
}

// A weight says how often a kind of operation is drawn, without and with secrets.
type weight struct {
	kind           string
	watch, secrets int
}

var weights = []weight{
	{"create", 14, 14},
	{"create2", 8, 8},
	{"createContainer", 2, 2},
	{"createTTL", 3, 3},
	{"delete", 8, 8},
	{"setData", 8, 8},
	{"setACL", 2, 9},
	{"getData", 6, 6},
	{"exists", 7, 7},
	{"getChildren", 4, 4},
	{"getChildren2", 4, 4},
	{"getACL", 2, 8},
	{"getEphemerals", 2, 2},
	{"getAllChildrenNumber", 2, 2},
	{"sync", 1, 1},
	{"ping", 1, 1},
	{"whoAmI", 1, 3},
	{"multi", 12, 12},
	{"multiRead", 4, 4},
	{"auth", 1, 8},
	{"raw", 1, 1},
	{"addWatch", 5, 0},
	{"removeWatches", 3, 0},
	{"checkWatches", 2, 0},
	{"setWatches", 2, 0},
	{"setWatches2", 2, 0},
	{"mark", 2, 2},
	{"close", 1, 1},
	{"drop", 1, 1},
	{"resume", 3, 3},
	{"connect", 1, 1},
	{"quota", 3, 1},
	{"reserved", 2, 2},
}

func (g *generator) kind() string {
	weigh := func(w weight) int {
		if g.profile.Secrets {
			return w.secrets
		}
		return w.watch
	}
	sum := 0
	for _, w := range weights {
		sum += weigh(w)
	}
	at := g.rand.IntN(sum)
	for _, w := range weights {
		if at -= weigh(w); at < 0 {
			return w.kind
		}
	}
	panic("script: unreachable: weights were summed up wrongly")
}

func (g *generator) path() string {
	if g.oneIn(25) {
		return one(g, "", "/", "~/", "~/a/", "~//a", "~/.", "~/a/../b", "~/a..b/...", "a", Null, "~\x00", "~/\x01", "~/\u009f",
			"~/\ue000", "~/\ufffd", "~/missing/x", "~~")
	}
	return one(g, "~/a", "~/a", "~/b", "~/b", "~/a/b", "~/a/b", "~/a/c", "~/a/b/c", "~/b/d", "~", "~/a/s0000000000", "~/a/s0000000001", "~/a/0000000002", "~/b/s0000000001", "~/é")
}

// The ids that digest:u:p and digest:v:q give a connection.
const (
	digestU = "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="
	digestV = "v:Mfy8apI9YguGKmh+AxUmAFSwkII="
)

func (g *generator) acl() string {
	switch {
	case g.oneIn(8):
		return one(g, "empty", Null, "31:world:bob", "31:digest:u", "31:ip:300.1.1.1", "31:nobody:x", "31:super:x", "1:world:anyone|31::x")
	case !g.profile.Secrets || g.oneIn(2):
		return ""
	default:
		return one(g, "1:world:anyone", "30:world:anyone", "4:world:anyone|31:digest:"+digestU, "31:digest:"+digestU+"|1:digest:"+digestV,
			"31:auth:", "1:auth:|12:world:anyone", "31:ip:127.0.0.1", "31:ip:127.0.0.0/8", "31:ip:10.0.0.0/8|17:world:anyone",
			"0:world:anyone", "255:world:anyone", "16:world:anyone", "2:world:anyone", "31:world:anyone|31:world:anyone|1:world:anyone")
	}
}

func (g *generator) version() int64 { return one[int64](g, -1, -1, -1, -1, 0, 0, 1, 2, -2) }

func (g *generator) op() Op {
	kind := g.kind()
	switch kind {
	case "quota":
		return g.quota()
	case "reserved":
		path := one(g, "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")
		return Op{Kind: g.word("delete exists getACL getChildren2 getAllChildrenNumber setData create"), Path: path, Version: one[int64](g, -1, -2)}
	case "connect", "resume":
		return g.connection(kind)
	case "multi":
		return Op{Kind: kind, Ops: list(g, 4, func() Op {
			if g.oneIn(20) {
				return g.request(g.word("exists getData setACL sync"))
			}
			return g.request(g.word("create create create create2 setData setData delete delete check check createContainer createTTL"))
		})}
	case "multiRead":
		return Op{Kind: kind, Ops: list(g, 4, func() Op {
			if g.oneIn(20) {
				return g.request(g.word("exists setData"))
			}
			return g.request(g.word("getData getChildren"))
		})}
	case "raw":
		// Types that no release knows, and bodies that end too soon.
		return Op{
			Kind: kind,
			Type: one[int64](g, 1, 2, 3, 4, 5, 6, 7, 8, 12, 15, 17, 18, 19, 21, 22, 14, 106, 0, 10, 999, -2),
			Data: string(list(g, 12, func() byte { return one[byte](g, 0, 0, 1, 4, 255) })),
		}
	case "mark":
		return Op{Kind: kind, Since: g.word("m n")}
	case "auth":
		return one(g,
			Op{Kind: kind, Scheme: "digest", Data: "u:p"},
			Op{Kind: kind, Scheme: "digest", Data: "u:p"},
			Op{Kind: kind, Scheme: "digest", Data: "v:q"},
			Op{Kind: kind, Scheme: "digest", Data: "v:q"},
			Op{Kind: kind, Scheme: "digest", Data: "u"},
			Op{Kind: kind, Scheme: "ip", Data: ""},
			Op{Kind: kind, Scheme: "world", Data: "anyone"},
			Op{Kind: kind, Scheme: "unknown", Data: "x"},
		)
	case "setWatches", "setWatches2":
		return g.setWatches(kind)
	default:
		return g.request(kind)
	}
}

// request draws an operation on a path.
func (g *generator) request(kind string) Op {
	o := Op{Kind: kind}
	switch kind {
	case "ping", "whoAmI", "close", "drop":
		return o
	}
	o.Path = g.path()
	switch kind {
	case "create", "create2":
		o.Flags = one[int64](g, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4)
		if g.oneIn(20) {
			o.Flags = one[int64](g, 5, 6, 7, -1)
		}
	case "createContainer":
		o.Flags = one[int64](g, 4, 4, 4, 4, 4, 4, 0, 5)
	case "createTTL":
		o.Flags = one[int64](g, 5, 5, 5, 5, 6, 6, 6, 0, 4)
		o.TTL = one[int64](g, 1e9, 1e9, 1e9, 1e9, 1e9, 1099511627775, 0, -1, 1099511627776)
	case "delete", "setData", "check", "setACL":
		o.Version = g.version()
	case "exists", "getData", "getChildren", "getChildren2":
		o.Watch = !g.profile.Secrets && g.oneIn(2)
	case "addWatch":
		o.Mode = one[int64](g, 0, 0, 0, 1, 1, 1, 2)
	case "removeWatches", "checkWatches":
		o.Type = one[int64](g, 1, 2, 3, 3, 3, 6)
	}
	switch kind {
	case "create", "create2", "createContainer", "createTTL":
		o.ACL = g.acl()
		if g.oneIn(4) {
			o.Path = one(g, "~/a/", "~/a/s", "~/b/s", "~/")
			if o.Flags < 2 {
				o.Flags += 2
			}
		}
	case "setACL":
		o.ACL = g.acl()
	}
	switch kind {
	case "create", "create2", "createContainer", "createTTL", "setData":
		o.Data = one(g, "", "x", "data", Null, strings.Repeat("long", 30))
	}
	return o
}

func (g *generator) setWatches(kind string) Op {
	o := Op{
		Kind: kind, Since: one(g, "", "now", "m", "n"),
		DataList: list(g, 2, g.path), ExistList: list(g, 2, g.path), ChildList: list(g, 2, g.path),
	}
	if kind == "setWatches2" {
		o.PersList, o.RecursList = list(g, 2, g.path), list(g, 2, g.path)
	}
	return o
}

func (g *generator) connection(kind string) Op {
	o := Op{
		Kind:    kind,
		Server:  int64(g.rand.IntN(g.profile.Servers)),
		Timeout: one[int64](g, 0, 0, 0, 1<<30, 40000),
		Old:     g.oneIn(10),
		Seen:    one(g, "", "", "", "", "m", "m", "future"),
	}
	if kind == "resume" {
		o.From = one(g, conns...)
		o.Password = one(g, "", "", "", "", "", "wrong")
	}
	return o
}

const quotaDir = "/zookeeper/quota~/a"

// quota draws an operation on the znodes that limit a subtree. Their counters are kept
// by the server: by ZooKeeper only as long as there are both znodes, which are therefore
// there from the beginning.
func (g *generator) quota() Op {
	if !g.quotas {
		return Op{Kind: "getEphemerals", Path: "/"}
	}
	o := Op{Kind: g.word("getData setData"), Path: quotaDir + "/zookeeper_limits", Version: -1}
	if o.Kind == "getData" {
		o.Path = quotaDir + g.word("/zookeeper_limits /zookeeper_stats /zookeeper_stats")
	}
	if o.Kind == "setData" {
		o.Data = one(g, "count=3,bytes=-1", "count=-1,bytes=-1=;byteHardLimit=500;countHardLimit=3", "count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2")
	}
	return o
}
