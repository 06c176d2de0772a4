package zkserver_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"coord/internal/jute"
)

// An attacker is one connection of a storm. What it is answered, and whether it is
// disconnected, is nothing to it.
type attacker struct {
	*rand.Rand

	nc net.Conn
}

// attacks are what attackers do, by name. Each ends with its connection.
var attacks = map[string]func(*attacker){
	"nothing":            (*attacker).nothing,
	"noise":              func(a *attacker) { a.write(a.bytes(5000)) },
	"lengths that lie":   (*attacker).lieOfLength,
	"half a handshake":   func(a *attacker) { a.write(connectFrame[:a.IntN(len(connectFrame))]) },
	"a wrong handshake":  (*attacker).wrongHandshake,
	"somebody's session": (*attacker).guess,
	"a session":          func(a *attacker) { a.open() },
	"half a request":     func(a *attacker) { a.open(); f := a.valid(); a.write(f[:a.IntN(len(f))]) },
	"a slow sender":      (*attacker).trickle,
	"a slow reader":      (*attacker).deaf,
	"wrong requests":     (*attacker).wrongRequests,
	"any request":        (*attacker).anyRequests,
	"watches":            (*attacker).watches,
	"auths":              (*attacker).auths,
	"a dropped pipeline": (*attacker).pipeline,
	"bombs":              (*attacker).bombs,
	"behind the end":     (*attacker).behindTheEnd,
	"words":              (*attacker).words,
	"other protocols":    (*attacker).otherProtocols,
}

// run makes one attack, and ends the connection in one of the ways there are.
func (a *attacker) run(attack func(*attacker)) {
	_ = a.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	attack(a)
	if tcp, ok := a.nc.(*net.TCPConn); ok && a.IntN(2) == 0 {
		_ = tcp.SetLinger(0) // a reset
	}
	_ = a.nc.Close()
}

func (a *attacker) write(b []byte) { _, _ = a.nc.Write(b) }

// hear reads so many bytes, or to the end, or for a while.
func (a *attacker) hear(n int64) {
	_ = a.nc.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	_, _ = io.CopyN(io.Discard, a.nc, n)
}

func (a *attacker) bytes(most int) []byte {
	b := make([]byte, a.IntN(most))
	for i := range b {
		b[i] = byte(a.Uint32())
	}
	return b
}

// mutate returns a frame with something changed behind its length, and the length that it
// has then.
func (a *attacker) mutate(frame []byte) []byte {
	b := slices.Clone(frame)
	for range 1 + a.IntN(4) {
		switch a.IntN(3) {
		case 0:
			b = b[:4+a.IntN(len(b)-3)]
		case 1:
			b = append(b, a.bytes(50)...)
		case 2:
			if len(b) > 4 {
				b[4+a.IntN(len(b)-4)] = byte(a.Uint32())
			}
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// open opens a session, which need not last.
func (a *attacker) open() {
	a.write(shortSession(connectFrame))
	a.hear(40)
}

// shortSession returns a handshake that asks for the least timeout that there is.
func shortSession(handshake []byte) []byte {
	b := slices.Clone(handshake)
	if len(b) >= 20 {
		binary.BigEndian.PutUint32(b[16:], 1)
	}
	return b
}

func (a *attacker) wrongHandshake() {
	a.write(shortSession(a.mutate(connectFrame)))
	a.hear(100)
}

// frame returns a request.
func (a *attacker) frame(o jute.Op, req jute.Record) []byte {
	h := jute.RequestHeader{Xid: int32(a.Uint32()), Op: o}
	b := h.AppendTo(make([]byte, 4))
	if req != nil {
		b = req.AppendTo(b)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// valid returns a request that there is nothing wrong with.
func (a *attacker) valid() []byte {
	path := fmt.Sprint("/pit/", a.IntN(50))
	ops := []struct {
		op  jute.Op
		req jute.Record
	}{
		{jute.OpCreate, create(path, "x")},
		{jute.OpCreate2, ephemeral(path + "e")},
		{jute.OpCreateTTL, &jute.CreateTTLRequest{CreateRequest: *create(path+"t", ""), TTL: 5}},
		{jute.OpDelete, &jute.VersionRequest{Path: path, Version: -1}},
		{jute.OpExists, get(path, true)},
		{jute.OpGetData, get(path, true)},
		{jute.OpGetChildren2, get("/pit", true)},
		{jute.OpGetAllChildrenNumber, &jute.PathRequest{Path: "/"}},
		{jute.OpGetEphemerals, &jute.PrefixRequest{Prefix: "/"}},
		{jute.OpSetData, &jute.SetDataRequest{Path: path, Data: a.bytes(2000), Version: -1}},
		{jute.OpSetACL, &jute.SetACLRequest{Path: path, ACL: open, Version: -1}},
		{jute.OpMulti, multi(jute.OpCreate, create(path, ""))},
		{jute.OpMultiRead, multi(jute.OpGetData, get("/big", false))},
		{jute.OpSetWatches2, &jute.SetWatches2Request{Persistent: []string{path}, PersistentRecursive: []string{"/"}}},
		{jute.OpAddWatch, &jute.WatchRequest{Path: path, Type: jute.ModePersistentRecursive}},
		{jute.OpRemoveWatches, &jute.WatchRequest{Path: path, Type: 3}},
		{jute.OpSync, &jute.SyncRecord{}},
		{jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("u:p")}},
		{jute.OpWhoAmI, nil},
		{jute.OpPing, nil},
	}
	o := ops[a.IntN(len(ops))]
	return a.frame(o.op, o.req)
}

// nothing says nothing, for as long as it is let, or not even that.
func (a *attacker) nothing() {
	if a.IntN(2) == 0 {
		a.hear(1)
	}
}

func (a *attacker) lieOfLength() {
	if a.IntN(2) == 0 {
		a.open()
	}
	lengths := []uint32{0, 1, 7, 1 << 16, 0xfffff, 0x100000, 1<<31 - 1, 1 << 31, 1<<32 - 1, a.Uint32()}
	a.write(append(binary.BigEndian.AppendUint32(nil, lengths[a.IntN(len(lengths))]), a.bytes(300)...))
}

// guess wants a session that it does not know the password of, or that is nobody's.
func (a *attacker) guess() {
	req := jute.ConnectRequest{TimeoutMS: int32(a.Uint32()), SessionID: 1 + a.Int64N(1000), Password: make([]byte, jute.PasswordBytes)}
	switch a.IntN(3) {
	case 0:
		req.SessionID = int64(a.Uint64())
	case 1:
		req.LastZxidSeen, req.Password = int64(a.Uint64()), a.bytes(100)
	}
	a.write(append(binary.BigEndian.AppendUint32(nil, uint32(len(jute.Marshal(&req)))), jute.Marshal(&req)...))
	a.hear(41)
}

func (a *attacker) trickle() {
	a.open()
	pace := time.NewTicker(time.Duration(1+a.IntN(10)) * time.Millisecond)
	defer pace.Stop()
	for _, b := range a.valid()[:8] {
		a.write([]byte{b})
		<-pace.C
	}
}

// deaf asks for more than it reads, which is nothing, until it is disconnected.
func (a *attacker) deaf() {
	a.open()
	request := a.frame(jute.OpGetData, get("/big", false))
	for range 10_000 {
		if _, err := a.nc.Write(request); err != nil {
			return
		}
	}
}

func (a *attacker) wrongRequests() {
	a.open()
	for range 1 + a.IntN(30) {
		a.write(a.mutate(a.valid()))
	}
	a.hear(a.Int64N(1000))
}

func (a *attacker) anyRequests() {
	a.open()
	for range 1 + a.IntN(10) {
		body := rawBytes(a.bytes(200))
		a.write(a.frame(jute.Op(a.IntN(125)-12), &body))
	}
}

func (a *attacker) watches() {
	a.open()
	req := &jute.SetWatches2Request{}
	for i := range 1000 {
		path := fmt.Sprint("/pit/w", i)
		req.Exist, req.Persistent, req.PersistentRecursive = append(req.Exist, path), append(req.Persistent, path), append(req.PersistentRecursive, path)
	}
	a.write(a.frame(jute.OpSetWatches2, req))
	a.write(a.frame(jute.OpCreate, ephemeral("/pit/w0")))
	a.hear(a.Int64N(1000))
}

func (a *attacker) auths() {
	a.open()
	for i := range 100 {
		a.write(a.frame(jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: fmt.Append(nil, "u", i, ":", a.Uint64())}))
	}
	bad := []jute.AuthRequest{{Scheme: "digest", Auth: []byte("super:guess")}, {Scheme: "nope"}, {Scheme: "user", Auth: []byte("a:b")}, {Scheme: "digest", Auth: make([]byte, 70_000)}}
	a.write(a.frame(jute.OpAuth, &bad[a.IntN(len(bad))]))
	a.hear(a.Int64N(2000)) // the last may have to wait
}

// pipeline begins writes and is gone before they are answered.
func (a *attacker) pipeline() {
	a.open()
	var all []byte
	for range 200 {
		all = append(all, a.frame(jute.OpCreate, &jute.CreateRequest{Path: "/pit/s-", ACL: open, Flags: 3})...)
		all = append(all, a.frame(jute.OpSync, &jute.SyncRecord{})...)
	}
	a.write(all)
}

// bombs are small for what they ask for, or large for what they are.
func (a *attacker) bombs() {
	a.open()
	deep := strings.Repeat("/x", 2000)
	many := func(o jute.Op, req jute.Record, n int) *jute.MultiRequest {
		return &jute.MultiRequest{Ops: slices.Repeat([]jute.MultiOp{{Op: o, Request: req}}, n)}
	}
	bombs := [][]byte{
		a.frame(jute.OpMulti, many(jute.OpCheck, &jute.VersionRequest{Path: "/", Version: -1}, 10_001)),
		a.frame(jute.OpMultiRead, many(jute.OpGetData, get("/big", false), 10_000)),
		a.frame(jute.OpCreate, create(deep, "")),
		a.frame(jute.OpGetData, get("/"+strings.Repeat("x", 500_000), true)),
		a.frame(jute.OpCreate, &jute.CreateRequest{Path: "/pit/acl", ACL: slices.Repeat(open, 20_000)}),
		a.frame(jute.OpSetData, &jute.SetDataRequest{Path: "/pit", Data: make([]byte, 900_000), Version: -2}),
		a.frame(jute.OpSetWatches, &jute.SetWatchesRequest{Data: make([]string, 50_000)}),
	}
	a.write(bombs[a.IntN(len(bombs))])
	a.hear(a.Int64N(10_000))
}

// behindTheEnd goes on behind what ends a connection.
func (a *attacker) behindTheEnd() {
	a.open()
	ends := []jute.Op{jute.OpCloseSession, jute.OpSASL, 999}
	a.write(a.frame(ends[a.IntN(len(ends))], nil))
	for range 20 {
		a.write(a.valid())
	}
	a.hear(1 << 20)
}

func (a *attacker) words() {
	a.write([]byte(words[a.IntN(len(words))]))
	if a.IntN(2) == 0 {
		a.write(a.bytes(3000))
	}
	if a.IntN(2) == 0 {
		a.hear(1 << 20)
	}
}

func (a *attacker) otherProtocols() {
	for _, b := range [][]byte{[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), {0x16, 3, 1, 0, 200, 1}, []byte("SSH-2.0-x\r\n")} {
		if a.IntN(2) == 0 {
			a.write(b)
		}
	}
	a.hear(1)
}

// rawBytes are a body that no record would make.
type rawBytes []byte

func (r *rawBytes) AppendTo(b []byte) []byte   { return append(b, *r...) }
func (r *rawBytes) DecodeFrom(d *jute.Decoder) { *r = d.Rest() }
