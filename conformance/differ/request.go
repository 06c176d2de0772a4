package differ

import (
	"fmt"
	"strconv"
	"strings"

	"coord/internal/jute"

	"coord/conformance/script"
)

// opcodes has the opcode of each operation that is a request.
var opcodes = map[string]jute.Op{
	"create": jute.OpCreate, "create2": jute.OpCreate2, "createContainer": jute.OpCreateContainer, "createTTL": jute.OpCreateTTL,
	"delete": jute.OpDelete, "deleteContainer": jute.OpDeleteContainer, "check": jute.OpCheck,
	"setData": jute.OpSetData, "setACL": jute.OpSetACL,
	"exists": jute.OpExists, "getData": jute.OpGetData, "getACL": jute.OpGetACL, "getChildren": jute.OpGetChildren, "getChildren2": jute.OpGetChildren2,
	"getEphemerals": jute.OpGetEphemerals, "getAllChildrenNumber": jute.OpGetAllChildrenNumber,
	"sync": jute.OpSync, "ping": jute.OpPing, "whoAmI": jute.OpWhoAmI,
	"multi": jute.OpMulti, "multiRead": jute.OpMultiRead, "auth": jute.OpAuth, "sasl": jute.OpSASL, "reconfig": jute.OpReconfig,
	"addWatch": jute.OpAddWatch, "removeWatches": jute.OpRemoveWatches, "checkWatches": jute.OpCheckWatches,
	"setWatches": jute.OpSetWatches, "setWatches2": jute.OpSetWatches2, "close": jute.OpCloseSession,
}

// xids has the operations that are sent with an xid of their own.
var xids = map[string]int32{"ping": jute.XidPing, "auth": jute.XidAuth, "setWatches": jute.XidSetWatches, "setWatches2": jute.XidSetWatches}

// An encoder writes the bodies of requests by the primitives of jute, not by its
// records: it has to write what no record holds, and a record that is written and read
// wrongly in the same way would not be noticed.
type encoder struct {
	prefix string                  // what "~" stands for
	zxid   func(name string) int64 // the zxid of a mark
}

// path returns what a path of the script is on the server.
func (e encoder) path(p string) string { return strings.Replace(p, "~", e.prefix, 1) }

// body returns the body of a request.
func (e encoder) body(o script.Op) ([]byte, error) {
	var b []byte
	switch o.Kind {
	case "create", "create2", "createContainer", "createTTL":
		b = e.text(b, o.Path)
		b = data(b, o.Data)
		acl, err := acl(o.ACL)
		if err != nil {
			return nil, err
		}
		b = jute.AppendInt(append(b, acl...), int32(o.Flags))
		if o.Kind == "createTTL" {
			b = jute.AppendLong(b, o.TTL)
		}
	case "delete", "check":
		b = jute.AppendInt(e.text(b, o.Path), int32(o.Version))
	case "exists", "getData", "getChildren", "getChildren2":
		b = jute.AppendBool(e.text(b, o.Path), o.Watch)
	case "setData":
		b = jute.AppendInt(data(e.text(b, o.Path), o.Data), int32(o.Version))
	case "setACL":
		acl, err := acl(o.ACL)
		if err != nil {
			return nil, err
		}
		b = jute.AppendInt(append(e.text(b, o.Path), acl...), int32(o.Version))
	case "getACL", "sync", "getEphemerals", "getAllChildrenNumber", "deleteContainer":
		b = e.text(b, o.Path)
	case "removeWatches", "checkWatches":
		b = jute.AppendInt(e.text(b, o.Path), int32(o.Type))
	case "addWatch":
		b = jute.AppendInt(e.text(b, o.Path), int32(o.Mode))
	case "setWatches", "setWatches2":
		b = e.setWatches(o)
	case "auth":
		b = jute.AppendInt(b, int32(o.Type))
		b = data(e.text(b, o.Scheme), o.Data)
	case "sasl":
		b = data(b, o.Data)
	case "reconfig":
		b = e.text(e.text(e.text(b, o.Joining), o.Leaving), o.Members)
		b = jute.AppendLong(b, o.Version)
	case "multi", "multiRead":
		return e.multi(o)
	case "ping", "whoAmI", "close":
	default:
		return nil, fmt.Errorf("differ: %s is no request", o.Kind)
	}
	return b, nil
}

func (e encoder) multi(o script.Op) ([]byte, error) {
	var b []byte
	header := func(op jute.Op, done bool) {
		b = jute.AppendInt(b, int32(op))
		b = jute.AppendBool(b, done)
		b = jute.AppendInt(b, -1)
	}
	for _, sub := range o.Ops {
		body, err := e.body(sub)
		if err != nil {
			return nil, err
		}
		header(opcodes[sub.Kind], false)
		b = append(b, body...)
	}
	header(jute.OpError, true)
	return b, nil
}

func (e encoder) setWatches(o script.Op) []byte {
	b := jute.AppendLong(nil, e.zxid(o.Since))
	lists := [][]string{o.DataList, o.ExistList, o.ChildList, o.PersList, o.RecursList}
	if o.Kind == "setWatches" {
		lists = lists[:3]
	}
	for _, list := range lists {
		b = jute.AppendInt(b, int32(len(list)))
		for _, path := range list {
			b = e.text(b, path)
		}
	}
	return b
}

func (e encoder) text(b []byte, s string) []byte {
	if s == script.Null {
		return jute.AppendNullString(b, nil)
	}
	return jute.AppendString(b, e.path(s))
}

func data(b []byte, s string) []byte {
	if s == script.Null {
		return jute.AppendBuffer(b, nil)
	}
	return jute.AppendBuffer(b, []byte(s))
}

// acl encodes the text of an ACL.
func acl(text string) ([]byte, error) {
	switch text {
	case "":
		text = "31:world:anyone"
	case "empty":
		return jute.AppendInt(nil, 0), nil
	case script.Null:
		return jute.AppendInt(nil, -1), nil
	}
	entries := strings.Split(text, "|")
	b := jute.AppendInt(nil, int32(len(entries)))
	for _, entry := range entries {
		parts := strings.SplitN(entry, ":", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("differ: %q in an ACL is not perms:scheme:id", entry)
		}
		perms, err := strconv.ParseInt(parts[0], 0, 32)
		if err != nil {
			return nil, fmt.Errorf("differ: permissions in an ACL: %w", err)
		}
		b = jute.AppendInt(b, int32(perms))
		b = jute.AppendString(jute.AppendString(b, parts[1]), parts[2])
	}
	return b, nil
}
