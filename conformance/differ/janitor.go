package differ

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coord/internal/jute"

	"coord/conformance/script"
)

// A janitor makes room for a script on a server, and afterwards removes what it left.
// It is bound by no ACL.
type janitor struct {
	conn *conn
}

// newJanitor connects to a server whose super digest is [zookeeper.SuperDigest].
func newJanitor(addr string) (*janitor, error) {
	c, err := dial(nil, addr, "janitor", 0)
	if err != nil {
		return nil, err
	}
	j := &janitor{conn: c}
	response, err := c.handshake(jute.ConnectRequest{TimeoutMS: 60000, Password: make([]byte, jute.PasswordBytes)})
	if err != nil || response == nil || response.SessionID == 0 {
		return nil, fmt.Errorf("differ: no session for the janitor: %+v %w", response, err)
	}
	if _, err := j.do(script.Op{Kind: "auth", Scheme: "digest", Data: "super:super"}, nil); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *janitor) close() { closeSession(j.conn) }

// do carries out one operation. The code of a failure is no error.
func (j *janitor) do(o script.Op, response jute.Record) (jute.Code, error) {
	body, err := encoder{}.body(o)
	if err != nil {
		return 0, err
	}
	j.conn.send(j.conn.request(nil, xids[o.Kind], opcodes[o.Kind], body))
	for {
		content, err := j.conn.receive(answerTimeout)
		if err != nil || content == nil {
			return 0, fmt.Errorf("differ: %v: the janitor's connection ended: %w", o, err)
		}
		var h jute.ReplyHeader
		h.DecodeFrom(jute.NewDecoder(content))
		if h.Xid == jute.XidNotification {
			continue
		}
		if h.Err == jute.OK && response != nil {
			err = jute.Unmarshal(content[jute.ReplyHeaderBytes:], response)
		}
		return h.Err, err
	}
}

// must carries out an operation that has to succeed, or to fail with one of the codes.
func (j *janitor) must(o script.Op, codes ...jute.Code) error {
	code, err := j.do(o, nil)
	if err == nil && code != jute.OK && !slices.Contains(codes, code) {
		err = fmt.Errorf("differ: the janitor's %v: %v", o, code)
	}
	return err
}

// base is above what scripts stand on, so that the root does not change with each.
const base = "/c"

// prepare makes the znodes that a script stands on.
func (j *janitor) prepare(prefix string) error {
	for _, path := range []string{prefix, "/zookeeper/quota" + prefix} {
		if err := j.must(script.Op{Kind: "create", Path: path}); err != nil {
			return err
		}
	}
	return nil
}

// reserved are the znodes that are there before a script, but for the configuration,
// which scripts may not change.
var reserved = []string{"/", "/zookeeper", "/zookeeper/quota", base, "/zookeeper/quota" + base}

// level gives the reserved znodes of both servers the same versions, so that a script
// that was answered differently leaves nothing to be found by the next one.
func level(janitors [2]*janitor) error {
	for _, path := range reserved {
		var stats [2]jute.StatResponse
		for {
			for i, j := range janitors {
				if _, err := j.do(script.Op{Kind: "exists", Path: path}, &stats[i]); err != nil {
					return err
				}
			}
			a, b := stats[0].Stat, stats[1].Stat
			ahead := max(a.Version-b.Version, b.Version-a.Version, a.Aversion-b.Aversion, b.Aversion-a.Aversion, a.Cversion-b.Cversion, b.Cversion-a.Cversion)
			const most = 10000
			if ahead == 0 {
				break
			}
			if ahead > most {
				return fmt.Errorf("differ: stats of %s are too far apart: %+v and %+v", path, a, b)
			}
			if err := errors.Join(janitors[0].raise(path, a, b), janitors[1].raise(path, b, a)); err != nil {
				return err
			}
		}
	}
	return nil
}

// raise brings a znode's versions nearer to those of another.
func (j *janitor) raise(path string, from, to jute.Stat) error {
	for range to.Version - from.Version {
		if err := j.must(script.Op{Kind: "setData", Path: path, Version: -1}); err != nil {
			return err
		}
	}
	for range to.Aversion - from.Aversion {
		if err := j.must(script.Op{Kind: "setACL", Path: path, Version: -1}); err != nil {
			return err
		}
	}
	for range (to.Cversion - from.Cversion + 1) / 2 {
		child := strings.TrimSuffix(path, "/") + "/level"
		if err := errors.Join(j.must(script.Op{Kind: "create", Path: child}), j.must(script.Op{Kind: "delete", Path: child, Version: -1})); err != nil {
			return err
		}
	}
	return nil
}

// clean removes everything but what a server begins with.
func (j *janitor) clean(ctx context.Context) error {
	if err := j.must(script.Op{Kind: "sync", Path: "/"}); err != nil {
		return err
	}
	// Quotas go first, lest they refuse anything.
	for _, keep := range [][]string{{"/zookeeper/quota" + base}, {base}, {"/zookeeper/quota", "c"}, {"/zookeeper", "quota", "config"}, {"/", "zookeeper", "c"}} {
		if err := j.must(script.Op{Kind: "create", Path: keep[0]}, jute.NodeExists, jute.NoNode); err != nil {
			return err
		}
		names, err := j.children(keep[0])
		if err != nil {
			return err
		}
		for _, name := range names {
			if slices.Contains(keep[1:], name) {
				continue
			}
			if err := j.remove(ctx, strings.TrimSuffix(keep[0], "/")+"/"+name); err != nil {
				return err
			}
		}
		var acl jute.GetACLResponse
		if _, err := j.do(script.Op{Kind: "getACL", Path: keep[0]}, &acl); err != nil {
			return err
		}
		open := jute.ACL{Perms: 31, Scheme: "world", ID: "anyone"}
		if len(acl.ACL) != 1 || acl.ACL[0] != open {
			if err := j.must(script.Op{Kind: "setACL", Path: keep[0], Version: -1}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *janitor) children(path string) ([]string, error) {
	var r jute.StringsResponse
	_, err := j.do(script.Op{Kind: "getChildren", Path: path}, &r)
	slices.Sort(r.Strings)
	return r.Strings, err
}

// remove removes a tree. A container may vanish by itself.
func (j *janitor) remove(ctx context.Context, path string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	names, err := j.children(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := j.remove(ctx, path+"/"+name); err != nil {
			return err
		}
	}
	return j.must(script.Op{Kind: "delete", Path: path, Version: -1}, jute.NoNode)
}
