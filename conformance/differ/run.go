package differ

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"coord/internal/jute"

	"coord/conformance/script"
)

// A run is one script on its way through one server or ensemble.
type run struct {
	from     net.IP // what clients connect from; nil leaves it to the system
	addrs    []string
	prefix   string
	conns    map[string]*conn
	sessions map[int64]string   // names of sessions, by id
	saved    map[string]session // the last session of each connection's name
	known    map[int64]session  // every session that was opened
	marks    map[string]int64   // zxids by the names of marks
	times    map[int64]int64    // when the write with this zxid happened, in ms since 1970
	lookouts []*conn            // one at each server, if there are several
	barriers int32
	step     *seen
	steps    []*seen
}

// Run carries out a script against servers at these addresses, from an address of this
// machine, nil being any, and returns what they answered. Its "~" stands for prefix. It
// ends the sessions it has opened.
func Run(ctx context.Context, from net.IP, addrs []string, prefix string, s script.Script) (Trace, error) {
	r := &run{
		from: from, addrs: addrs, prefix: prefix,
		conns: map[string]*conn{}, sessions: map[int64]string{}, saved: map[string]session{},
		known: map[int64]session{}, marks: map[string]int64{}, times: map[int64]int64{},
		step: &seen{},
	}
	defer r.end()
	if err := r.man(); err != nil {
		return nil, err
	}
	for i := 0; i < len(s); {
		n := 1
		for s[i+n-1].More && i+n < len(s) {
			n++
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := r.carryOut(s[i : i+n]); err != nil {
			return nil, fmt.Errorf("differ: step %d, %v: %w", i+1, s[i], err)
		}
		i += n
	}
	return ranked(r.steps), nil
}

// man has a lookout at each of several servers, by which it is brought up to what the
// others have answered: what a client is told must not depend on how far behind it is.
func (r *run) man() error {
	if len(r.addrs) == 1 {
		return nil
	}
	for i, addr := range r.addrs {
		c, err := dial(r.from, addr, "lookout", i)
		if err != nil {
			return err
		}
		r.lookouts = append(r.lookouts, c)
		response, err := c.handshake(jute.ConnectRequest{TimeoutMS: 60000, Password: make([]byte, jute.PasswordBytes)})
		if err != nil || response == nil {
			return fmt.Errorf("no session for the lookout at server %d: %w", i, err)
		}
	}
	return r.catchUp()
}

// catchUp has every server know what any has answered.
func (r *run) catchUp() error {
	for _, c := range r.lookouts {
		if err := r.look(c, nil); err != nil {
			return err
		}
		if c.closed {
			return fmt.Errorf("server %d has closed the connection of the lookout", c.server)
		}
	}
	return nil
}

// carryOut carries out steps that are sent together, and then looks at what the other
// connections have been told.
func (r *run) carryOut(steps []script.Step) error {
	r.step = &seen{step: steps[len(steps)-1]}
	for _, step := range steps[:len(steps)-1] {
		r.steps = append(r.steps, &seen{step: step})
	}
	r.steps = append(r.steps, r.step)
	steps = slices.Clone(steps)
	for i := range steps {
		if o := &steps[i].Op; o.Size > 0 && o.Data != "" {
			o.Data = strings.Repeat(o.Data, int(o.Size)/len(o.Data)+1)[:o.Size]
		}
	}
	last := steps[len(steps)-1]
	acting := r.conns[last.Conn]
	if err := r.act(acting, steps); err != nil {
		return err
	}
	if err := r.catchUp(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(r.conns)) {
		if name == last.Conn && acting == r.conns[name] && acting != nil {
			continue // act has looked
		}
		if err := r.look(r.conns[name], nil); err != nil {
			return err
		}
	}
	if last.Op.Kind == "close" || last.Op.Kind == "awaitGone" {
		r.sortEvents()
	}
	return nil
}

func (r *run) act(c *conn, steps []script.Step) error {
	last := steps[len(steps)-1]
	switch o := last.Op; o.Kind {
	case "connect", "resume":
		return r.connect(last.Conn, o)
	case "frame":
		if c == nil {
			return r.rawConnection(last)
		}
		return r.look(c, []byte(o.Data))
	case "drop":
		if c != nil {
			_ = c.Close()
			delete(r.conns, c.name)
		}
		return nil
	case "mark":
		if c != nil {
			r.marks[o.Since] = c.last
			return r.look(c, nil)
		}
		return nil
	case "awaitGone":
		return r.awaitGone(c, o)
	}
	if c == nil {
		r.step.line().text("%s is not connected", last.Conn)
		return nil
	}
	var b []byte
	for _, step := range steps {
		body, xid, op, err := r.request(c, step.Op)
		if err != nil {
			return err
		}
		b = c.request(b, xid, op, body)
	}
	return r.look(c, b)
}

// request returns a request of a script.
func (r *run) request(c *conn, o script.Op) (body []byte, xid int32, op jute.Op, err error) {
	if o.Kind == "raw" {
		return []byte(o.Data), 0, jute.Op(o.Type), nil
	}
	e := encoder{prefix: r.prefix, zxid: func(name string) int64 { return r.zxidOf(c, name) }}
	body, err = e.body(o)
	xid = xids[o.Kind]
	if o.Xid != 0 {
		xid = int32(o.Xid)
	}
	return body, xid, opcodes[o.Kind], err
}

// zxidOf returns the zxid that a script names.
func (r *run) zxidOf(c *conn, name string) int64 {
	const ahead = 1 << 40
	var last int64
	if c != nil {
		last = c.last
	}
	switch name {
	case "":
		return 0
	case "now":
		return last
	case "future":
		for _, c := range r.conns {
			last = max(last, c.last)
		}
		return last + ahead
	default:
		return r.marks[name]
	}
}

// connect opens a connection under a name, in place of the one that had it.
func (r *run) connect(name string, o script.Op) error {
	if old := r.conns[name]; old != nil {
		_ = old.Close()
		delete(r.conns, name)
	}
	const usual = 30000
	timeout := o.Timeout
	if timeout == 0 {
		timeout = usual
	}
	request := jute.ConnectRequest{
		TimeoutMS: int32(timeout), Password: make([]byte, jute.PasswordBytes),
		ReadOnly: o.ReadOnly, Short: o.Old, LastZxidSeen: r.zxidOf(nil, o.Seen),
	}
	if o.Kind == "resume" {
		session := r.saved[o.From]
		request.SessionID = session.id
		request.Password = slices.Clone(session.password)
		if o.Password == "wrong" && len(request.Password) > 0 {
			request.Password[0] ^= 1
		}
		if session.id == 0 {
			r.step.line().text("%s has no session", o.From)
			return nil
		}
	}
	// A server learns of a session that was moved to another one when its client says
	// something, or sooner. Real clients do not go elsewhere before they have lost their
	// connection.
	for _, old := range r.conns {
		if old.session.id == request.SessionID && old.server != int(o.Server) {
			_ = old.Close()
			delete(r.conns, old.name)
		}
	}
	c, err := dial(r.from, r.addrs[o.Server], name, int(o.Server))
	if err != nil {
		return err
	}
	response, err := c.handshake(request)
	if err != nil {
		_ = c.Close()
		return err
	}
	return r.handshaken(c, request, response)
}

// handshaken tells what a server answered to a handshake.
func (r *run) handshaken(c *conn, request jute.ConnectRequest, response *jute.ConnectResponse) error {
	l := r.step.line()
	if response == nil {
		l.text("%s closed in place of a handshake", c.name)
		return c.Close()
	}
	refused := response.TimeoutMS == 0
	if response.Short != request.Short {
		r.broken("the answer to a handshake is of another form than the request")
	}
	if len(response.Password) != jute.PasswordBytes || bytes.Equal(response.Password, make([]byte, jute.PasswordBytes)) != refused {
		r.broken("a password of %d bytes", len(response.Password))
	}
	if refused {
		l.text("%s refused session=%d", c.name, response.SessionID)
		if content, err := c.receive(answerTimeout); err != nil || content != nil {
			r.broken("a refused connection stays open")
		}
		return c.Close()
	}
	id := response.SessionID
	if request.SessionID != 0 && id != request.SessionID {
		r.broken("another session than was asked for")
	}
	if request.SessionID == 0 {
		if r.sessions[id] != "" {
			r.broken("session %#x was opened twice", id)
		}
		r.sessions[id] = fmt.Sprintf("session%d", len(r.sessions)+1)
	}
	l.text("%s connected %s timeout=%d readOnly=%v", c.name, r.sessions[id], response.TimeoutMS, response.ReadOnly)
	r.conns[c.name] = c
	r.saved[c.name] = c.session
	r.known[id] = c.session
	return nil
}

// rawConnection sends bytes where a server awaits a handshake.
func (r *run) rawConnection(step script.Step) error {
	c, err := dial(r.from, r.addrs[step.Op.Server], step.Conn, int(step.Op.Server))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	c.send([]byte(step.Op.Data))
	content, err := c.receive(time.Second)
	switch {
	case err != nil:
		r.step.line().text("%s silent", step.Conn)
	case content == nil:
		r.step.line().text("%s closed", step.Conn)
	default:
		r.step.line().text("%s got %d bytes", step.Conn, len(content))
	}
	return nil
}

// A server may close the connection after one of these, and what follows them would be
// lost then, with the answer. This is how long that may take: what is no proper request may
// get none.
var mayClose = map[string]time.Duration{
	"close": answerTimeout, "auth": answerTimeout, "sasl": answerTimeout,
	"raw": quiet, "frame": quiet,
}

const quiet = time.Second

// look sends frames, and notes all that the server says on the connection until it has
// said all that belongs to what went before.
func (r *run) look(c *conn, b []byte) error {
	if b != nil {
		if wait := mayClose[r.step.step.Op.Kind]; wait > 0 {
			c.send(b)
			b = nil
			if err := r.linger(c, wait); err != nil {
				return err
			}
		}
	}
	barrier := r.barrier()
	b = c.request(b, barrier, jute.OpExists, jute.Marshal(&jute.ReadRequest{Path: "/"}))
	if len(r.addrs) > 1 {
		barrier = r.barrier()
		path := "/"
		b = c.request(b, barrier, jute.OpSync, jute.Marshal(&jute.SyncRecord{Path: &path}))
	}
	if !c.closed {
		c.send(b)
	}
	for !c.closed {
		content, err := c.receive(answerTimeout)
		if err != nil {
			return fmt.Errorf("connection %s: %w", c.name, err)
		}
		if content == nil {
			break
		}
		var h jute.ReplyHeader
		h.DecodeFrom(jute.NewDecoder(content))
		if h.Xid >= firstBarrier {
			r.zxidSeen(c, h.Zxid)
			if h.Xid == barrier {
				return nil
			}
			continue
		}
		if err := r.note(c, content); err != nil {
			return err
		}
	}
	r.step.line().text("%s closed", c.name)
	_ = c.Close()
	delete(r.conns, c.name)
	return nil
}

// linger reads the answer to something after which a server may close the connection,
// and waits until it has, if the answer says so.
func (r *run) linger(c *conn, wait time.Duration) error {
	for !c.closed {
		content, err := c.receive(wait)
		if err != nil || content == nil {
			return nil //nolint:nilerr // silence is an answer, too
		}
		if err := r.note(c, content); err != nil {
			return err
		}
		var h jute.ReplyHeader
		h.DecodeFrom(jute.NewDecoder(content))
		ended := h.Err == jute.Unimplemented || h.Err == jute.AuthFailed || r.step.step.Op.Kind == "close"
		switch {
		case h.Xid == jute.XidNotification:
		case ended:
			wait = answerTimeout
		default:
			return nil
		}
	}
	return nil
}

const firstBarrier = 1 << 30

func (r *run) barrier() int32 {
	r.barriers++
	return firstBarrier + r.barriers
}

// zxidSeen checks the zxid in a header: those of one connection never go back.
func (r *run) zxidSeen(c *conn, z int64) {
	if z <= 0 {
		return
	}
	if z < c.last {
		r.broken("%s: zxid %#x after %#x", c.name, z, c.last)
	}
	c.last = z
}

func (r *run) broken(format string, args ...any) {
	r.step.broken = append(r.step.broken, "broken: "+fmt.Sprintf(format, args...))
}

// awaitGone looks at a path until there is nothing. What was seen on the way is noted,
// but not how long it was.
func (r *run) awaitGone(c *conn, o script.Op) error {
	if c == nil {
		return nil
	}
	e := encoder{prefix: r.prefix}
	deadline := time.Now().Add(2 * answerTimeout)
	for time.Now().Before(deadline) {
		barrier := r.barrier()
		c.send(c.request(nil, barrier, jute.OpExists, jute.Marshal(&jute.ReadRequest{Path: e.path(o.Path)})))
		for {
			content, err := c.receive(answerTimeout)
			if err != nil || content == nil {
				return errors.Join(err, errors.New("the connection ended"))
			}
			var h jute.ReplyHeader
			h.DecodeFrom(jute.NewDecoder(content))
			if h.Xid == barrier && h.Err == jute.NoNode {
				return r.look(c, nil)
			}
			if h.Xid == barrier {
				break
			}
			if err := r.note(c, content); err != nil {
				return err
			}
		}
		time.Sleep(20 * time.Millisecond) // nothing but asking again tells when a real server reaps
	}
	r.step.line().text("%s is still there", o.Path)
	return nil
}

// sortEvents orders the events that a connection was told in one step, for those of an
// ended session come in no order.
func (r *run) sortEvents() {
	event := func(l *line) string {
		if text, ok := l.parts[0].(string); ok && strings.Contains(text, " event ") {
			return text
		}
		return ""
	}
	lines := r.step.lines
	for i := 0; i < len(lines); i++ {
		n := 0
		for i+n < len(lines) && event(lines[i+n]) != "" {
			n++
		}
		slices.SortStableFunc(lines[i:i+n], func(a, b *line) int { return strings.Compare(event(a), event(b)) })
		i += n
	}
}

// end ends the sessions of the run, so that nothing of them is left.
func (r *run) end() {
	for _, c := range r.lookouts {
		closeSession(c)
	}
	for _, c := range r.conns {
		delete(r.known, c.session.id)
		closeSession(c)
	}
	for id, s := range r.known {
		c, err := dial(r.from, r.addrs[0], "", 0)
		if err != nil {
			continue
		}
		response, err := c.handshake(jute.ConnectRequest{TimeoutMS: s.timeout, SessionID: id, Password: s.password})
		if err != nil || response == nil || response.TimeoutMS == 0 {
			_ = c.Close()
			continue
		}
		closeSession(c)
	}
}

func closeSession(c *conn) {
	defer func() { _ = c.Close() }()
	c.send(c.request(nil, 0, jute.OpCloseSession, nil))
	for {
		if content, err := c.receive(answerTimeout); err != nil || content == nil {
			return
		}
	}
}
