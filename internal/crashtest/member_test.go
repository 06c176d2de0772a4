package crashtest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coord"
	"coord/internal/failpoint"
	"coord/internal/faultfs"
	"coord/internal/private"
	"coord/internal/raftnode"
	"coord/recipes"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(memberEnv); text != "" {
		os.Exit(runMember(text))
	}
	os.Exit(m.Run())
}

// A member is this process as one of an ensemble.
type member struct {
	c      *coord.Coordinator
	disk   *faultfs.FS // nil if what is not synced is not noted
	points *failpoint.Set
	out    chan<- reply

	mu       sync.Mutex
	sessions map[string]*coord.Session            // guarded by mu
	held     map[string]*recipes.Held             // guarded by mu
	taken    map[string]*recipes.Delivery[string] // guarded by mu
	mounts   map[coord.GroupID]string             // guarded by mu; what groups serve or served, as far as was seen
}

// runMember serves requests until its input ends.
func runMember(text string) int {
	var cfg memberConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil { //nolint:musttag // this binary reads what it writes
		fmt.Fprintln(os.Stderr, "crashtest:", err)
		return 2
	}
	if err := become(&cfg); err != nil {
		fmt.Fprintln(os.Stderr, "crashtest:", err)
		return 3
	}
	out, written := make(chan reply, 64), make(chan struct{})
	go func() {
		defer close(written)
		enc := json.NewEncoder(os.Stdout)
		for r := range out {
			if enc.Encode(&r) != nil { //nolint:musttag // this binary reads what it writes
				os.Exit(1) // nobody listens any more
			}
		}
	}()
	code := serve(&cfg, out)
	close(out)
	<-written
	return code
}

func serve(cfg *memberConfig, out chan<- reply) int {
	c, err := cfg.coord()
	c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	var disk *faultfs.FS
	below := &raftnode.Memory{Failpoints: &failpoint.Set{}} // on the disk, and on sockets
	if cfg.Point != "" {
		killAt(below.Failpoints, cfg.Point, cfg.Spare)
	}
	if cfg.Journal != "" {
		var err error
		if disk, err = faultfs.OnDisk(cfg.Journal); err != nil {
			fmt.Fprintln(os.Stderr, "crashtest:", err)
			return 4
		}
		below.FS = disk
	}
	if disk != nil || failpoint.Enabled && len(c.InitialMembers)+len(c.Join) > 0 {
		private.SetMemory(&c, below) // otherwise all is as in production
	}
	var co *coord.Coordinator
	if err == nil {
		co, err = coord.Open(context.Background(), c)
	}
	if err != nil {
		out <- reply{Event: eventOpenFailed, Error: err.Error()}
		return 0
	}
	out <- reply{Event: eventOpened}
	m := &member{
		c: co, disk: disk, points: below.Failpoints, out: out, sessions: map[string]*coord.Session{},
		held: map[string]*recipes.Held{}, taken: map[string]*recipes.Delivery[string]{}, mounts: map[coord.GroupID]string{},
	}
	go m.tellReady()
	go m.tellFailure()
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "crashtest: stdin:", err)
			}
			os.Exit(0) // the parent is gone: no farewell
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil { //nolint:musttag // this binary reads what it writes
			fmt.Fprintln(os.Stderr, "crashtest: request:", err)
			return 2
		}
		if r.Op == opClose {
			return m.close(r)
		}
		go m.answer(r)
	}
}

func (m *member) tellReady() {
	for m.c.Context().Err() == nil {
		if m.c.Ready(context.Background()) == nil {
			m.out <- reply{Event: eventReady, ZXID: m.c.Status().ZXID}
			return
		}
	}
}

func (m *member) tellFailure() {
	<-m.c.Context().Done()
	if err := context.Cause(m.c.Context()); !errors.Is(err, coord.ErrClosed) {
		m.out <- reply{Event: eventFailed, Error: err.Error()}
	}
}

func (m *member) close(r request) int {
	p := reply{Seq: r.Seq, Event: eventClosed, Outcome: acked}
	if err := m.c.Close(); err != nil {
		p.Outcome, p.Error = refused, err.Error()
	}
	// Answers that are on their way get out first: nothing of this process is
	// decided after Close, but some may still wait to be written.
	line, err := json.Marshal(&p) //nolint:musttag // this binary reads what it writes
	if err != nil {
		return 2
	}
	_, _ = os.Stdout.Write(append([]byte("\n"), append(line, '\n')...))
	os.Exit(0)
	return 0
}

// answer executes one request.
func (m *member) answer(r request) {
	ctx := context.Background()
	if r.Timeout > 0 && r.Op != opSession && r.Op != opClient && r.Op != opMove && r.Op != opSkip && r.Op != opSlow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	p := reply{Seq: r.Seq, Outcome: acked}
	if err := m.execute(ctx, &r, &p); err != nil {
		m.fault(r.Seq, err, &p)
	}
	if p.Digest == "" {
		p.ZXID = m.c.Status().ZXID
	}
	if s := m.session(r.Session); s != nil {
		p.State = s.State()
	}
	m.out <- p
}

// fault fills in what an error means. An unknown outcome is followed up.
func (m *member) fault(seq uint64, err error, p *reply) {
	p.Outcome, p.Error = refused, err.Error()
	if code, ok := errors.AsType[coord.Code](err); ok {
		p.Code = code
	}
	late, ok := errors.AsType[*coord.OutcomeError](err)
	if ok != errors.Is(err, coord.ErrUnknownOutcome) {
		p.Error = "ErrUnknownOutcome and OutcomeError do not go together: " + p.Error
	}
	if !ok {
		return
	}
	p.Outcome = unknown
	go func() {
		e := reply{Event: eventOutcome, Seq: seq, Outcome: acked}
		if err := late.Outcome(context.Background()); errors.Is(err, coord.ErrUnknownOutcome) {
			return
		} else if err != nil {
			e.Outcome, e.Error = refused, err.Error()
		}
		m.out <- e
	}()
}

func (m *member) session(name string) *coord.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[name]
}

// client returns what the request is to go through.
func (m *member) client(r *request) (coord.Client, error) {
	if r.Session == "" {
		return m.c, nil
	}
	if s := m.session(r.Session); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("crashtest: no session %q", r.Session)
}

func (m *member) execute(ctx context.Context, r *request, p *reply) error {
	c, err := m.client(r)
	if err != nil {
		return err
	}
	var st coord.Stat
	switch r.Op {
	case opCreate:
		p.Path, st, err = c.Create(ctx, r.Path, []byte(r.Data), r.Mode)
	case opSetData:
		st, err = c.SetData(ctx, r.Path, []byte(r.Data), versions(r)...)
	case opDelete:
		return c.Delete(ctx, r.Path)
	case opAdd:
		p.Value, st, err = c.Add(ctx, r.Path, r.Delta)
	case opMulti:
		p.Results, err = c.Multi(ctx, multiOps(r.Ops)...)
		return err
	case opGet:
		var data []byte
		data, st, err = c.Get(ctx, r.Path, coord.Linearizable())
		p.Data = string(data)
	default:
		return m.recipe(ctx, r, p)
	}
	if err == nil {
		p.Stat = &st
	}
	return err
}

// killAt has this process be killed at a failpoint, when it was spared there so many
// times.
func killAt(points *failpoint.Set, at failpoint.Point, spare int64) {
	points.On(at, failpoint.After(int(spare), failpoint.Kill))
}

// harmDisk has the disk be slow, or fail.
func (m *member) harmDisk(r *request) error {
	fault := faultfs.Fault{Ops: faultfs.Sync, Delay: r.Timeout}
	if r.Op == opFailLog {
		fault = faultfs.Fault{Ops: faultfs.Sync, Path: "*.log", Count: 1}
	}
	switch r.Data {
	case "write":
		fault.Ops = faultfs.Write
	case "space":
		fault.Ops, fault.Err = faultfs.Write, syscall.ENOSPC
	}
	m.disk.ClearFaults()
	if fault.Delay > 0 || fault.Count > 0 {
		m.disk.Inject(fault)
	}
	return nil
}

// inspect executes what is asked for the checker's sake.
func (m *member) inspect(ctx context.Context, r *request, p *reply) error {
	switch r.Op {
	case opChildren:
		var err error
		p.Children, _, err = m.c.Children(ctx, r.Path, coord.Linearizable())
		return err
	case opStatus:
		st := m.c.Status()
		p.Status = &st
		return nil
	case opVersions:
		return m.versions(ctx, p)
	case opActivate:
		return m.c.ActivateVersion(ctx, coord.FormatVersion(r.Delta)) //nolint:gosec // 1 or 2
	case opState:
		return nil // answer adds it
	case opSession:
		s, err := m.c.NewSession(ctx, coord.SessionOptions{Timeout: r.Timeout})
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.sessions[r.Path] = s
		m.mu.Unlock()
		p.ID, p.Timeout, p.State = s.ID(), s.Timeout(), s.State()
		return nil
	case opClient, opMove:
		return m.receive(ctx, r, p)
	case opDrain:
		return m.c.Drain(ctx)
	case opMount:
		return m.c.Mount(ctx, r.Path)
	case opUnmount:
		return m.c.Unmount(ctx, r.Path)
	case opReplace:
		var change coord.Reconfiguration
		if r.Member.ID != 0 {
			change.Members = []coord.Member{r.Member}
		}
		if r.ID != 0 {
			change.Remove = []coord.MemberID{r.ID}
		}
		_, err := m.c.Reconfigure(ctx, change)
		return err
	case opMembers:
		conf := m.c.Configuration()
		p.Members, p.Settled = conf.Members, conf.Settled
		return nil
	case opPause:
		return m.pause(ctx, r, p)
	case opSkip:
		private.SkipClock(m.c, r.Timeout)
		return nil
	case opSlow, opFailLog:
		return m.harmDisk(r)
	case opSpace:
		m.disk.SetSpace(r.Delta)
		private.CheckDisk(m.c)
		return nil
	case opPoint:
		killAt(m.points, failpoint.Point(r.Data), r.Delta)
		return nil
	case opRecord:
		from, err := coord.ParsePosition(r.Data)
		if err == nil {
			go m.record(from)
		}
		return err
	case opView, opDump:
		v, err := m.c.View(ctx, coord.Linearizable())
		if err != nil {
			return err
		}
		p.ZXID, p.Digest, p.Position = zxidOf(v.Position()), v.Digest().String(), v.Position().String()
		if r.Op == opDump {
			for z := range v.Walk("/") {
				p.Nodes = append(p.Nodes, node{Path: z.Path, Data: string(z.Data), Stat: z.Stat})
			}
		}
		return nil
	}
	return fmt.Errorf("crashtest: unknown request %q", r.Op)
}

// versions tells which format versions the members read.
func (m *member) versions(ctx context.Context, p *reply) error {
	v, err := m.c.Versions(ctx)
	p.Value, p.Newest = int64(v.Active), map[string]uint64{}
	for _, of := range v.Members {
		p.Newest[of.Member.String()] = uint64(of.Newest)
		err = errors.Join(err, of.Err)
	}
	return err
}

// receive opens a session of a client outside, or goes on with one that comes from another
// member.
func (m *member) receive(ctx context.Context, r *request, p *reply) error {
	o := coord.SessionOptions{External: true, Timeout: r.Timeout}
	var s *coord.Session
	var err error
	if r.Op == opClient {
		s, err = m.c.NewSession(ctx, o)
	} else {
		var t coord.Token
		if t, err = coord.ParseToken(r.Data); err == nil {
			s, err = m.c.Resume(ctx, t, o)
		}
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.sessions[r.Path] = s
	m.mu.Unlock()
	p.ID, p.Data = s.ID(), s.Token().Text()
	return nil
}

// pause asks the session's context all the time, and returns when the process was
// stopped meanwhile for longer than the session's timeout: then with what the first
// question was answered, and what came of writes that are guarded by the ephemeral
// at r.Path, through the session and past it.
func (m *member) pause(ctx context.Context, r *request, p *reply) error {
	s := m.session(r.Session)
	_, st, err := s.Get(ctx, r.Path)
	if err != nil {
		return err
	}
	m.out <- reply{Event: eventPausing}
	for last := time.Now(); ; {
		asked := time.Now()
		err := s.Context().Err()
		if asked.Sub(last) < s.Timeout() {
			last = asked
			continue
		}
		p.Error = fmt.Sprint(err)
		ops := []coord.Op{coord.CheckOp(r.Path, coord.WithCzxid(st.Czxid)), coord.SetDataOp(r.Data, []byte("by one who was paused"))}
		_, inside := s.Multi(ctx, ops...)
		_, outside := m.c.Multi(ctx, ops...)
		p.Guarded = []string{fmt.Sprint(inside), fmt.Sprint(outside)}
		return nil
	}
}

func versions(r *request) []coord.SetDataOption {
	if r.Version == nil {
		return nil
	}
	return []coord.SetDataOption{coord.WithVersion(*r.Version)}
}

func multiOps(list []request) []coord.Op {
	var ops []coord.Op
	for i := range list {
		r := &list[i]
		switch r.Op {
		case opCreate:
			ops = append(ops, coord.CreateOp(r.Path, []byte(r.Data), r.Mode))
		case opAdd:
			ops = append(ops, coord.AddOp(r.Path, r.Delta))
		case opCheck:
			ops = append(ops, coord.CheckOp(r.Path, coord.WithVersion(*r.Version)))
		}
	}
	return ops
}

// environmental reports whether a refusal is for want of a quorum, a session, a
// disk or a process, and not because of the tree.
func environmental(p *reply) bool {
	if p.Code == coord.ErrSessionExpired || p.Code == coord.ErrNoSpace {
		return true
	}
	if p.Code != 0 {
		return false
	}
	for _, text := range []string{
		coord.ErrSuspended.Error(), coord.ErrTimeout.Error(), coord.ErrClosed.Error(),
		context.DeadlineExceeded.Error(), coord.ErrSessionExpired.Error(),
	} {
		if strings.HasSuffix(p.Error, text) {
			return true
		}
	}
	if strings.Contains(p.Error, coord.ErrNotMember.Error()+": ") && strings.Contains(p.Error, " was removed") {
		return true
	}
	return strings.Contains(p.Error, coord.ErrFailed.Error()+": "+logFailed)
}

// removedBeforeItJoined is what a process is told that asks to be the member that it was
// added as, when that was removed meanwhile.
const removedBeforeItJoined = "was removed: ids are never used again"

// logFailed is what a member says that has stopped itself because of its log. The other
// reasons to do so are violations.
const logFailed = "the log cannot be written"

// poll waits for a condition. It asks at once and then with every tick.
func poll(tb testing.TB, within time.Duration, what string, done func() bool) bool {
	tb.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			if done() {
				return true
			}
			tb.Errorf("waited %v for %s", within, what)
			return false
		}
	}
	return true
}
