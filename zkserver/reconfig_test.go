package zkserver_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"coord"
	"coord/internal/jute"
	"coord/zkserver"
)

// configOf returns the lines of a configuration and its version.
func configOf(t *testing.T, text []byte) (lines []string, version int64) {
	t.Helper()
	members, v, ok := strings.Cut(string(text), "version=")
	n, err := strconv.ParseInt(v, 16, 64)
	if !ok || err != nil {
		t.Fatalf("%q has no version", text)
	}
	return strings.Fields(members), n
}

// administrator connects as the super user, who may change members.
func (w *world) administrator(c *coord.Coordinator) *client {
	w.t.Helper()
	cl := w.connect(c, 30*time.Second)
	cl.must(jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("super:secret")}, nil)
	return cl
}

// TestReconfig has clients change members in all the ways of ZooKeeper, with a watch on
// what tells of them.
func TestReconfig(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Follower(t.Context())
		cl := w.administrator(c)
		var watched, added, same, changed jute.GetDataResponse
		cl.must(jute.OpGetData, get("/zookeeper/config", true), &watched)
		before, _ := configOf(t, watched.Data)

		joining := "server.4=d:2888:3888:observer;2181, 5=[::1]:2888:3888:observer;h:2182"
		xid := cl.send(jute.OpReconfig, &jute.ReconfigRequest{Joining: &joining, Leaving: new("77"), ConfigID: -1})
		cl.wantNotification(coord.NodeDataChanged, "/zookeeper/config")
		added.DecodeFrom(jute.NewDecoder(cl.wantReply(xid, jute.OK).body))
		lines, version := configOf(t, added.Data)
		want := strings.Join(append(before, "server.4=d:2888:2889:observer;0.0.0.0:2181", "server.5=[::1]:2888:2889:observer;h:2182"), " ")
		if got := strings.Join(lines, " "); got != want || added.Stat.Mzxid != version || added.Stat.Version != -1 {
			t.Errorf("reconfig says %s at %d with %+v, want %s", got, version, added.Stat, want)
		}

		// Nothing changes but the version, of which a write behind sees nothing yet when it begins.
		xid = cl.send(jute.OpReconfig, &jute.ReconfigRequest{Leaving: new(" 77,"), ConfigID: version})
		behind := cl.send(jute.OpCreate, create("/behind", ""))
		r := cl.wantReply(xid, jute.OK)
		same.DecodeFrom(jute.NewDecoder(r.body))
		if _, newer := configOf(t, same.Data); newer <= version {
			t.Errorf("the version is %d behind %d", newer, version)
		}
		cl.wantReply(behind, jute.OK)
		var stat jute.StatResponse
		cl.must(jute.OpExists, get("/behind", false), &stat)
		if stat.Stat.Czxid <= same.Stat.Mzxid {
			t.Errorf("a write behind a reconfig at %d is at %d", same.Stat.Mzxid, stat.Stat.Czxid)
		}

		// A list of all: 4 has another address, 5 is gone.
		all := strings.Join(before, ",") + ",server.4=e:2888:3888:observer\nversion=0"
		cl.must(jute.OpReconfig, &jute.ReconfigRequest{NewMembers: &all, ConfigID: -1}, &changed)
		lines, _ = configOf(t, changed.Data)
		want = strings.Join(append(before, "server.4=e:2888:2889:observer;0.0.0.0:2181"), " ")
		if got := strings.Join(lines, " "); got != want {
			t.Errorf("the list of all makes %s, want %s", got, want)
		}
		cl.must(jute.OpReconfig, &jute.ReconfigRequest{Leaving: new("4"), ConfigID: -1}, &changed)
		if conf := w.Leader(t.Context()).Configuration(); len(conf.Members) != 3 {
			t.Errorf("the members are %+v, want three", conf.Members)
		}
	}, zkserver.Options{Reconfig: true})
}

// TestReconfigRefused has what cannot be refused with ZooKeeper's codes, and nothing changed.
func TestReconfigRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		admin, anybody := w.administrator(c), w.connect(c, 30*time.Second)
		observer := new("server.4=d:2888:3888:observer;2181")
		if h := anybody.call(jute.OpReconfig, &jute.ReconfigRequest{Joining: observer, ConfigID: -1}, nil); h.Err != jute.NoAuth {
			t.Errorf("anybody's reconfig = %v", h.Err)
		}
		admin.must(jute.OpReconfig, &jute.ReconfigRequest{Joining: new("server.9=i:2888:3888:observer;2181"), ConfigID: -1}, &jute.GetDataResponse{})
		admin.must(jute.OpReconfig, &jute.ReconfigRequest{Leaving: new("9"), ConfigID: -1}, &jute.GetDataResponse{})
		before := c.Configuration()
		for _, q := range []struct {
			name string
			req  jute.ReconfigRequest
			want jute.Code
		}{
			{"another version", jute.ReconfigRequest{Joining: observer, ConfigID: 7}, jute.BadVersion},
			{"no server", jute.ReconfigRequest{Joining: new("d:2888:3888"), ConfigID: -1}, jute.BadArguments},
			{"two equals signs", jute.ReconfigRequest{Joining: new("server.4=d:1:2;3=4"), ConfigID: -1}, jute.BadArguments},
			{"no ports", jute.ReconfigRequest{Joining: new("server.4=d;2181"), ConfigID: -1}, jute.BadArguments},
			{"no port of clients", jute.ReconfigRequest{Joining: new("server.4=d:2888:3888"), ConfigID: -1}, jute.BadArguments},
			{"an id of none", jute.ReconfigRequest{Joining: new("server.0=d:2888:3888;2181"), ConfigID: -1}, jute.BadArguments},
			{"an id that joins and is no number", jute.ReconfigRequest{Joining: new("server.x=d:2888:3888;2181"), ConfigID: -1}, jute.MarshallingError},
			{"an id that leaves and is no number", jute.ReconfigRequest{Leaving: new("x"), ConfigID: -1}, jute.MarshallingError},
			{"an id that was removed", jute.ReconfigRequest{Joining: new("server.9=i:2888:3888:observer;2181"), ConfigID: -1}, jute.BadArguments},
			{"nobody", jute.ReconfigRequest{NewMembers: new(""), ConfigID: -1}, jute.BadArguments},
			{"a list with a weight", jute.ReconfigRequest{NewMembers: new("server.1=a:1:2,weight.1=1"), ConfigID: -1}, jute.BadArguments},
			{"nobody who votes", jute.ReconfigRequest{Leaving: new("1,2,3"), ConfigID: -1}, jute.BadArguments},
			{"an address that is taken", jute.ReconfigRequest{Joining: new("server.4=" + spec(t, before.Members[0].Addr)), ConfigID: -1}, jute.BadArguments},
		} {
			if h := admin.call(jute.OpReconfig, &q.req, nil); h.Err != q.want || h.Zxid <= 0 {
				t.Errorf("%s = %v at %d, want %v", q.name, h.Err, h.Zxid, q.want)
			}
		}
		if after := c.Configuration(); after.ZXID != before.ZXID {
			t.Errorf("the configuration is %+v, was %+v", after, before)
		}

		// One that never comes: others wait, and it can be taken back.
		admin.must(jute.OpReconfig, &jute.ReconfigRequest{Joining: new("server.4=d:2888:3888;2181"), ConfigID: -1}, &jute.GetDataResponse{})
		if h := admin.call(jute.OpReconfig, &jute.ReconfigRequest{Joining: new("server.5=e:2888:3888;2181"), ConfigID: -1}, nil); h.Err != jute.ReconfigInProgress {
			t.Errorf("a second one = %v", h.Err)
		}
		admin.must(jute.OpReconfig, &jute.ReconfigRequest{Leaving: new("4"), ConfigID: -1}, &jute.GetDataResponse{})

		// A voter that leaves is waited for.
		follower := w.Follower(t.Context())
		for _, r := range []jute.ReconfigRequest{
			{Leaving: new(follower.Status().Member.String())}, {Joining: new("server.6=f:2888:3888;2181")}, {Leaving: new("6")},
		} {
			r.ConfigID = -1
			admin.must(jute.OpReconfig, &r, &jute.GetDataResponse{})
		}
		w.Remove(t.Context(), follower)
	}, zkserver.Options{Reconfig: true})
}

// spec returns an address as a server with two ports and one for clients.
func spec(t *testing.T, addr string) string {
	t.Helper()
	host, port, ok := strings.Cut(addr, ":")
	if !ok {
		t.Fatalf("%q has no port", addr)
	}
	return host + ":" + port + ":1:observer;2181"
}

// TestReconfigWithoutQuorum wants a change refused that would leave too few voters that
// are there.
func TestReconfigWithoutQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := w.Leader(t.Context())
		cl := w.administrator(c)
		var away, other coord.MemberID
		for _, m := range c.Configuration().Members {
			switch {
			case m.ID == c.Status().Member:
			case away == 0:
				away = m.ID
			default:
				other = m.ID
			}
		}
		w.Stop(w.Member(int(away)))
		cl.keepAlive(time.Minute)
		if h := cl.call(jute.OpReconfig, &jute.ReconfigRequest{Leaving: new(other.String()), ConfigID: -1}, nil); h.Err != jute.NewConfigNoQuorum {
			t.Errorf("reconfig = %v", h.Err)
		}
		cl.must(jute.OpReconfig, &jute.ReconfigRequest{Leaving: new(away.String()), ConfigID: -1}, &jute.GetDataResponse{})
	}, zkserver.Options{Reconfig: true})
}

// TestReconfigsAtOnce has clients of all members add one each at the same time: none is
// told of a version that it has not asked for.
func TestReconfigsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		xids := map[*client]int32{}
		for _, c := range w.Running() {
			xids[w.administrator(c)] = 0
		}
		n := 10
		for cl := range xids {
			n++
			joining := "server." + strconv.Itoa(n) + "=h" + strconv.Itoa(n) + ":2888:3888:observer;2181"
			xids[cl] = cl.send(jute.OpReconfig, &jute.ReconfigRequest{Joining: &joining, ConfigID: -1})
		}
		for cl, xid := range xids {
			cl.wantReply(xid, jute.OK)
		}
		if conf := w.Leader(t.Context()).Configuration(); len(conf.Members) != 6 {
			t.Errorf("the members are %+v, want six", conf.Members)
		}
	}, zkserver.Options{Reconfig: true})
}
