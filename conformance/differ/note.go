package differ

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coord/internal/jute"
)

// writes has the operations whose answers carry the zxid of a write of their own.
var writes = map[jute.Op]bool{
	jute.OpCreate: true, jute.OpCreate2: true, jute.OpCreateContainer: true, jute.OpCreateTTL: true,
	jute.OpDelete: true, jute.OpSetData: true, jute.OpSetACL: true, jute.OpMulti: true,
	jute.OpReconfig: true, jute.OpCloseSession: true,
}

// note writes down what a server has sent.
func (r *run) note(c *conn, content []byte) error {
	d := jute.NewDecoder(content)
	var h jute.ReplyHeader
	h.DecodeFrom(d)
	if err := d.Err(); err != nil {
		return err
	}
	body := content[jute.ReplyHeaderBytes:]
	if h.Xid == jute.XidNotification {
		r.noteEvent(c, h, body)
		return nil
	}
	r.zxidSeen(c, h.Zxid)
	op, ok := c.ops[h.Xid]
	if !ok {
		r.broken("an answer to xid %d, which nothing was sent with", h.Xid)
		return nil
	}
	l := r.step.line().text("%s %v %v", c.name, op, h.Err)
	if h.Zxid <= 0 {
		l.text(" zxid=%d", h.Zxid)
	}
	if h.Err != jute.OK {
		if len(body) > 0 {
			l.text(" and %d bytes", len(body))
		}
		return nil
	}
	r.noteBody(l, op, h, body)
	return nil
}

func (r *run) noteBody(l *line, op jute.Op, h jute.ReplyHeader, body []byte) {
	response := jute.NewResponse(op)
	if response == nil {
		if len(body) > 0 {
			r.broken("%d bytes where none mean anything", len(body))
		}
		if writes[op] {
			l.zxid("zxid", h.Zxid)
		}
		return
	}
	if err := jute.Unmarshal(body, response); err != nil {
		r.broken("%v in %x", err, body)
		return
	}
	if again := jute.Marshal(response); !bytes.Equal(again, body) {
		r.broken("an answer with bytes that mean nothing: %x", body)
	}
	failed := false
	if m, ok := response.(*jute.MultiResponse); ok {
		failed = slices.ContainsFunc(m.Results, func(res jute.MultiResult) bool { return res.Op == jute.OpError })
	}
	if writes[op] && !failed {
		l.zxid("zxid", h.Zxid)
	}
	r.record(l, response)
}

// eventNames has the types of events.
var eventNames = map[int32]string{1: "created", 2: "deleted", 3: "changed", 4: "children"}

func (r *run) noteEvent(c *conn, h jute.ReplyHeader, body []byte) {
	var e jute.WatcherEvent
	if err := jute.Unmarshal(body, &e); err != nil {
		r.broken("%v in an event: %x", err, body)
		return
	}
	r.step.line().text("%s event %s %s state=%d err=%v", c.name, eventNames[e.Type], r.tilde(e.Path), e.State, h.Err)
	// ZooKeeper 3.8 has -1 here, 3.9 the zxid of the change.
	if h.Zxid >= 0 && h.Zxid < c.last {
		r.broken("%s: an event of zxid %#x after an answer of %#x", c.name, h.Zxid, c.last)
	}
}

// tilde returns a path of the server as the script has it.
func (r *run) tilde(path string) string {
	return strconv.Quote(strings.ReplaceAll(path, r.prefix, "~"))
}

// record adds an answer's body to a line.
func (r *run) record(l *line, response jute.Record) {
	switch x := response.(type) {
	case *jute.CreateResponse:
		l.text(" path=%s", r.tilde(x.Path))
	case *jute.Create2Response:
		l.text(" path=%s", r.tilde(x.Path))
		r.stat(l, x.Stat)
	case *jute.StatResponse:
		r.stat(l, x.Stat)
	case *jute.GetDataResponse:
		r.data(l, x.Data)
		r.stat(l, x.Stat)
	case *jute.GetACLResponse:
		l.text(" acl=%v", x.ACL)
		r.stat(l, x.Stat)
	case *jute.StringsResponse:
		r.list(l, x.Strings)
	case *jute.GetChildren2Response:
		r.list(l, x.Children)
		r.stat(l, x.Stat)
	case *jute.IntResponse:
		l.text(" %d", x.Value)
	case *jute.SyncRecord:
		if x.Path == nil {
			l.text(" path=null")
		} else {
			l.text(" path=%s", r.tilde(*x.Path))
		}
	case *jute.WhoAmIResponse:
		var who []string
		for _, c := range x.Clients {
			who = append(who, c.Scheme+":"+c.User)
		}
		slices.Sort(who)
		l.text(" %q", who)
	case *jute.SASLRecord:
		l.text(" token=%q", x.Token)
	case *jute.MultiResponse:
		for _, res := range x.Results {
			l.text(" {%v", res.Op)
			if res.Op == jute.OpError {
				l.text(" %v", res.Err)
			}
			if res.Response != nil {
				r.record(l, res.Response)
			}
			l.text("}")
		}
	default:
		panic(fmt.Sprintf("differ: unreachable: answer of type %T", response))
	}
}

func (r *run) data(l *line, data []byte) {
	const most = 200
	switch {
	case data == nil:
		l.text(" data=null")
	case len(data) > most:
		l.text(" data=%d bytes", len(data))
	default:
		l.text(" data=%q", data)
	}
}

// list adds names whose order means nothing.
func (r *run) list(l *line, names []string) {
	if names == nil {
		l.text(" null")
		return
	}
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, r.tilde(name))
	}
	slices.Sort(quoted)
	l.text(" [%s]", strings.Join(quoted, " "))
}

// stat adds a stat. Its times are not compared, but have to be those of its zxids.
func (r *run) stat(l *line, s jute.Stat) {
	l.zxid("c", s.Czxid).zxid("m", s.Mzxid).zxid("p", s.Pzxid)
	r.time(l, "ctime", s.Czxid, s.Ctime)
	r.time(l, "mtime", s.Mzxid, s.Mtime)
	owner := "none"
	if s.EphemeralOwner != 0 {
		if owner = r.sessions[s.EphemeralOwner]; owner == "" {
			owner = "unknown"
		}
	}
	l.text(" v=%d cv=%d av=%d owner=%s length=%d children=%d", s.Version, s.Cversion, s.Aversion, owner, s.DataLength, s.NumChildren)
}

func (r *run) time(l *line, name string, z, ms int64) {
	const early = 1577836800000 // 2020, in ms
	if ms == 0 {
		l.text(" %s=0", name)
		return
	}
	if ms < early {
		r.broken("%s=%d", name, ms)
	}
	if was, ok := r.times[z]; ok && was != ms {
		r.broken("%s=%d, but zxid %#x was at %d", name, ms, z, was)
	}
	r.times[z] = ms
}
