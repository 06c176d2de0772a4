package zkserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"coord"
	"coord/internal/jute"
	"coord/internal/zoocfg"
)

// pathConfig is the znode that tells who the members are. Its ACL says who may change them.
const pathConfig = "/zookeeper/config"

// A refusal is a reconfig that asks for what cannot be, by what it says and what the
// configuration is.
type refusal struct {
	code   jute.Code
	reason string
}

// Error tells the reason, which no client learns.
func (r *refusal) Error() string { return r.reason }

func refuse(code jute.Code, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// beginReconfig begins a change of members, behind the writes that were begun before.
// Those that come behind it wait until it is done (see [backlog.fixViews]).
func (c *conn) beginReconfig(r *request) error {
	if !c.s.o.Reconfig {
		r.code = jute.ReconfigDisabled
		return nil
	}
	if err := c.fixViews(); err != nil {
		return err
	}
	b := &barrier{done: make(chan struct{})}
	r.sync = b
	req := r.body.(*jute.ReconfigRequest)
	c.s.wg.Go(func() {
		defer close(b.done)
		if err := c.reconfigure(req); err != nil {
			b.code, b.err = c.refusedReconfig(err)
			return
		}
		b.config, b.err = c.config()
	})
	return nil
}

// refusedReconfig returns what the client is told of a reconfig that failed, or the
// error that ends its connection.
func (c *conn) refusedReconfig(err error) (jute.Code, error) {
	code, ok := codeOf(err)
	if r, refused := errors.AsType[*refusal](err); refused {
		code, ok = r.code, true
	}
	if !ok {
		return jute.OK, err
	}
	// The client is told a number, and whoever helps it needs the reason.
	c.s.log.Info("reconfig refused", slog.String("session", c.id.String()), slog.Any("err", err))
	return code, nil
}

// reconfigure has the ensemble change its members, and waits until that is decided. As
// with ZooKeeper it does not wait for new members to take part.
//
// What the client asks for is said in relation to a configuration, so the change is
// proposed for that one only. If there is another by then, and the client does not
// mind, it is worked out again: each time somebody else's change has gone through.
//
// ZooKeeper's answer to a change means that the next one can begin. Here a voter that
// leaves does so behind the answer, in a moment; so who comes in that moment waits for
// it, once and for no longer than its session bears without answers.
func (c *conn) reconfigure(req *jute.ReconfigRequest) error {
	if err := c.session.Sync(c.ctx, ""); err != nil {
		return err
	}
	for waited := false; ; {
		rc, err := reconfigurationOf(req, c.s.c.Configuration())
		if err != nil {
			return err
		}
		_, err = c.session.Reconfigure(c.ctx, rc)
		switch {
		case errors.Is(err, coord.ErrBadVersion) && req.ConfigID == anyConfig:
		case errors.Is(err, coord.ErrReconfigInProgress) && !waited:
			ctx, cancel := context.WithTimeout(c.ctx, c.timeout/3)
			_ = c.s.c.AwaitSettled(ctx) // what is refused then says why
			cancel()
			waited = true
		default:
			return err
		}
	}
}

// config returns what the znode of the configuration says. It is read by the rights of
// this member: whoever may change the members is told who they are.
func (c *conn) config() (*jute.GetDataResponse, error) {
	v, err := c.s.c.View(c.ctx)
	if err != nil {
		return nil, err
	}
	data, stat, err := v.Get(pathConfig)
	if err != nil {
		return nil, err
	}
	return &jute.GetDataResponse{Data: data, Stat: statOf(stat)}, nil
}

// anyConfig is a ConfigID that stands for whatever the configuration is.
const anyConfig = -1

// reconfigurationOf returns what a request wants to be changed about a configuration, with
// ZooKeeper's rules: who leaves and is no member does not matter, a list of all members
// replaces them, and a change that changes nothing is one.
func reconfigurationOf(req *jute.ReconfigRequest, conf coord.Configuration) (coord.Reconfiguration, error) {
	if req.ConfigID != anyConfig && coord.ZXID(req.ConfigID) != conf.ZXID {
		return coord.Reconfiguration{}, refuse(jute.BadVersion, "the configuration is that of zxid %v, not of %v", conf.ZXID, coord.ZXID(req.ConfigID))
	}
	joining, leaving, err := membersOf(req, conf)
	if err != nil {
		return coord.Reconfiguration{}, err
	}
	rc := coord.Reconfiguration{Follows: &conf.ZXID, Members: joining}
	for _, m := range conf.Members {
		stays := slices.ContainsFunc(joining, func(j coord.Member) bool { return j.ID == m.ID })
		if slices.Contains(leaving, m.ID) && !stays {
			rc.Remove = append(rc.Remove, m.ID)
		}
	}
	if len(rc.Members)+len(rc.Remove) == 0 && len(conf.Members) > 0 {
		same := conf.Members[0]
		rc.Members = []coord.Member{{ID: same.ID, Role: same.Role}}
	}
	return rc, nil
}

// membersOf returns who joins, or is changed, and who leaves but for those.
func membersOf(req *jute.ReconfigRequest, conf coord.Configuration) (joining []coord.Member, leaving []coord.MemberID, err error) {
	if req.NewMembers != nil {
		servers, err := zoocfg.ParseMembers(*req.NewMembers)
		if err != nil {
			return nil, nil, refuse(jute.BadArguments, "%v", err)
		}
		for _, s := range servers {
			joining = append(joining, memberOf(s))
		}
		for _, m := range conf.Members {
			leaving = append(leaving, m.ID)
		}
		return joining, leaving, nil
	}
	for _, text := range listOf(req.Leaving) {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, nil, refuse(jute.MarshallingError, "the id %.100q of who leaves is no number", text)
		}
		leaving = append(leaving, coord.MemberID(id))
	}
	for _, text := range listOf(req.Joining) {
		m, err := joiningMember(text)
		if err != nil {
			return nil, nil, err
		}
		joining = append(joining, m)
	}
	return joining, leaving, nil
}

// joiningMember reads server.N=…, or N=…, of one that joins, where ZooKeeper wants to
// know about its clients, too.
func joiningMember(text string) (coord.Member, error) {
	name, spec, ok := strings.Cut(text, "=")
	id := name[strings.LastIndex(name, ".")+1:]
	if !ok || spec == "" || strings.Contains(spec, "=") {
		return coord.Member{}, refuse(jute.BadArguments, "%.200q is not server.N=…", text)
	}
	if _, err := strconv.ParseInt(id, 10, 64); err != nil {
		return coord.Member{}, refuse(jute.MarshallingError, "the id %.100q of who joins is no number", id)
	}
	s, err := zoocfg.ParseServer(id, spec)
	switch {
	case err != nil:
		return coord.Member{}, refuse(jute.BadArguments, "server.%s: %v", id, err)
	case s.ClientAddr == "":
		return coord.Member{}, refuse(jute.BadArguments, "server.%s: %.200q has no ;clientPort at its end", id, spec)
	}
	return memberOf(s), nil
}

// memberOf returns a server as a member of an ensemble.
func memberOf(s zoocfg.Server) coord.Member {
	m := coord.Member{ID: coord.MemberID(s.ID), Addr: s.PeerAddr(), ClientAddr: s.ClientAddr}
	if s.Observer {
		m.Role = coord.Observer
	}
	return m
}

// listOf returns what stands between the commas of a text that may be absent.
func listOf(text *string) []string {
	if text == nil {
		return nil
	}
	var list []string
	for part := range strings.SplitSeq(*text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
