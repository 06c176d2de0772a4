package coord_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/internal/loopback"
)

// An onSockets is an ensemble as it is outside of tests: members with directories
// and ports of their own, in one process.
type onSockets struct {
	t    *testing.T
	dir  string
	cfgs []coord.Config // by member, from 0 for member 1
}

func newOnSockets(t *testing.T, n int) *onSockets {
	t.Helper()
	o := &onSockets{t: t, dir: t.TempDir()}
	var members []coord.Member
	for i, addr := range freeAddrs(t, n) {
		members = append(members, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	for _, m := range members {
		o.cfgs = append(o.cfgs, coord.Config{
			Name: "door", ID: m.ID, Dir: filepath.Join(o.dir, m.ID.String()), InitialMembers: slices.Clone(members),
			ElectionTimeout: 500 * time.Millisecond, CloseTimeout: time.Second, Logger: slog.New(slog.DiscardHandler),
		})
	}
	return o
}

func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	addrs, err := loopback.FreeAddrs(n)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

// start opens a member, which is closed when the test ends.
func (o *onSockets) start(id int) *coord.Coordinator {
	o.t.Helper()
	return o.startAs(o.cfgs[id-1])
}

func (o *onSockets) startAs(cfg coord.Config) *coord.Coordinator {
	o.t.Helper()
	c, err := coord.Open(o.t.Context(), cfg)
	if err != nil {
		o.t.Fatalf("Open = %v", err)
	}
	o.t.Cleanup(func() { _ = c.Close() })
	return c
}

// startAll opens all members and waits until they are ready.
func (o *onSockets) startAll() []*coord.Coordinator {
	o.t.Helper()
	var all []*coord.Coordinator
	for i := range o.cfgs {
		all = append(all, o.start(i+1))
	}
	o.ready(all...)
	return all
}

func (o *onSockets) ready(all ...*coord.Coordinator) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*time.Minute)
	defer cancel()
	for _, c := range all {
		for {
			err := c.Ready(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil || c.Context().Err() != nil {
				o.t.Fatalf("member %v: Ready = %v, Health = %v", c.Status().Member, err, c.Health())
			}
		}
	}
}

func (o *onSockets) stop(all ...*coord.Coordinator) {
	o.t.Helper()
	var closing sync.WaitGroup
	for _, c := range all {
		closing.Go(func() {
			if err := c.Close(); err != nil {
				o.t.Errorf("Close of member %v = %v", c.Status().Member, err)
			}
		})
	}
	closing.Wait()
}

// wipe empties the directory of a member.
func (o *onSockets) wipe(id int) {
	o.t.Helper()
	if err := os.RemoveAll(o.cfgs[id-1].Dir); err != nil {
		o.t.Fatal(err)
	}
}

// wantFailed waits until a member has failed, for reasons that it names.
func wantFailed(t *testing.T, c *coord.Coordinator, reasons ...string) {
	t.Helper()
	eventually(t, "the member to fail", func() bool { return c.Context().Err() != nil })
	err := c.Health()
	if !errors.Is(err, coord.ErrFailed) || !errors.Is(context.Cause(c.Context()), coord.ErrFailed) {
		t.Errorf("Health = %v", err)
	}
	for _, want := range reasons {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("Health does not say %q: %v", want, err)
		}
	}
	if err := c.Ready(t.Context()); !errors.Is(err, coord.ErrFailed) {
		t.Errorf("Ready = %v", err)
	}
}

// TestWipedMemberNeverVotes brings about what loses writes where a member may come
// back empty: of three, two have acknowledged a write, one of them is down, and the
// other one comes back empty and meets the third, which was away. If it voted, the
// two would go on without the write.
func TestWipedMemberNeverVotes(t *testing.T) {
	o := newOnSockets(t, 3)
	all := o.startAll()
	o.stop(all[0])
	mustCreate(t, all[1], "/acknowledged", "by 2 and 3")
	o.stop(all[2], all[1])
	o.wipe(2)

	one, two := o.start(1), o.start(2)
	wantFailed(t, two, "member 1 refuses this one", "strange directory", "member 2 was first seen with directory", "new member id")
	if st := two.Status(); st.Role != coord.Looking || st.Znodes > 0 && st.ZXID > 0 {
		t.Errorf("the member without a memory shows %+v", st)
	}
	o.stop(two)
	again := o.start(2) // it must not be let in for having been there
	wantFailed(t, again, "member 1 refuses this one")
	if err := one.Health(); !errors.Is(err, coord.ErrSuspended) {
		t.Errorf("one of three has a quorum: Health = %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, _, err := one.Create(ctx, "/lost", nil); err == nil {
		t.Error("a write was acknowledged by one of three")
	}

	three := o.start(3)
	o.ready(one, three)
	for _, c := range []*coord.Coordinator{one, three} {
		if data, _ := mustGet(t, c, "/acknowledged", coord.Linearizable()); data != "by 2 and 3" {
			t.Errorf("member %v has %q", c.Status().Member, data)
		}
	}
	mustCreate(t, three, "/goes-on", "")
	if err := again.Close(); err != nil {
		t.Errorf("Close of the failed member = %v", err)
	}
}

// TestFirstStartWaitsForTheLastMember starts two of three: they do nothing without
// the third, the first time.
func TestFirstStartWaitsForTheLastMember(t *testing.T) {
	o := newOnSockets(t, 3)
	one := o.start(1)
	eventually(t, "member 1 to wait for both", func() bool {
		text := fmt.Sprint(one.Health())
		return strings.Contains(text, "member 2 (") && strings.Contains(text, "member 3 (") && strings.Contains(text, o.cfgs[2].InitialMembers[2].Addr)
	})
	o.stop(one) // while it waits
	one, two := o.start(1), o.start(2)
	for _, c := range []*coord.Coordinator{one, two} {
		eventually(t, "member 3 to be the only one missing", func() bool {
			err := c.Health()
			if !errors.Is(err, coord.ErrSuspended) {
				t.Fatalf("Health = %v", err)
			}
			text := err.Error()
			return strings.Contains(text, "first start") && strings.Contains(text, "member 3 (") && !strings.Contains(text, "member 1 (") && !strings.Contains(text, "member 2 (")
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := one.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "member 3 (") {
		t.Errorf("Ready = %v", err)
	}
	if st, err := one.MemberStatus(t.Context(), 2); err != nil || !strings.Contains(st.Health, "first start waits for an answer of member 3") || st.Role != coord.Looking {
		t.Errorf("MemberStatus = %+v, %v", st, err)
	}
	three := o.start(3)
	o.ready(one, two, three)

	o.stop(one, two, three)
	one, three = o.start(1), o.start(3)
	o.ready(one, three) // they have started before, and need no more than a quorum
}

// TestTwoProcessesWithOneID starts a second process under the id of a running one. It is
// refused, and the audit log tells.
func TestTwoProcessesWithOneID(t *testing.T) {
	o := newOnSockets(t, 3)
	log := &lockedBuffer{}
	for i := range o.cfgs {
		o.cfgs[i].AuditLogger = slog.New(slog.NewTextHandler(log, nil))
	}
	all := o.startAll()
	if c, err := coord.Open(t.Context(), o.cfgs[1]); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Open of a directory in use = %v, %v", c, err)
	}
	// With a directory of its own, it is another member that has forgotten all.
	second := o.cfgs[1]
	second.Dir += "-second"
	second.InitialMembers = slices.Clone(second.InitialMembers)
	second.InitialMembers[1].Addr = freeAddrs(t, 1)[0]
	wantFailed(t, o.startAs(second), "refuses this one: strange directory", "another process uses its id")
	if audit := `act="admit peer" outcome=refused peer=2 from=127.0.0.1:`; !strings.Contains(log.String(), audit) {
		t.Errorf("the audit log does not tell of the refusal: %s", log)
	}
	for _, c := range all {
		mustCreate(t, c, "/still-"+c.Status().Member.String(), "")
	}
}

// TestCopiedDirectory starts a copy of a member beside the original. What it says is
// let in, for its directory is the right one; but nobody dials it, so that it gets no
// entry and gives no vote.
func TestCopiedDirectory(t *testing.T) {
	o := newOnSockets(t, 3)
	all := o.startAll()
	mustCreate(t, all[0], "/n", "")
	o.stop(all[1])
	duplicate := o.cfgs[1]
	duplicate.Dir += "-copy"
	if err := os.CopyFS(duplicate.Dir, os.DirFS(o.cfgs[1].Dir)); err != nil {
		t.Fatal(err)
	}
	all[1] = o.start(2)
	o.ready(all...)

	// The copy of a directory under another id is refused at once.
	other := o.cfgs[2]
	other.Dir = duplicate.Dir
	if c, err := coord.Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), "another member") {
		t.Errorf("Open = %v, %v", c, err)
	}
	duplicate.InitialMembers = slices.Clone(duplicate.InitialMembers)
	duplicate.InitialMembers[1].Addr = freeAddrs(t, 1)[0]
	c := o.startAs(duplicate)
	eventually(t, "the copy to ask for votes", func() bool {
		n := 0
		for _, l := range c.Links() {
			if !l.Incoming && l.Batches > 2 {
				n++
			}
		}
		return n == 2
	})
	if err := c.Health(); !errors.Is(err, coord.ErrSuspended) {
		t.Errorf("Health of the copy = %v", err)
	}
	for _, m := range all {
		mustCreate(t, m, "/still-"+m.Status().Member.String(), "")
	}
	if st := c.Status(); st.Leader != 0 || st.HasQuorum {
		t.Errorf("the copy has heard from the others: %+v", st)
	}
}

// TestDirectoryOfAnotherEnsemble brings a member the directory of its namesake in an
// ensemble that is called alike: sound, and full of another history.
func TestDirectoryOfAnotherEnsemble(t *testing.T) {
	o, other := newOnSockets(t, 3), newOnSockets(t, 3)
	all, others := o.startAll(), other.startAll()
	mustCreate(t, all[0], "/ours", "")
	mustCreate(t, others[0], "/theirs", "")
	o.stop(all[1])
	other.stop(others...)
	strange := o.cfgs[1]
	strange.Dir = other.cfgs[1].Dir
	c := o.startAs(strange)
	eventually(t, "the member to say that it is refused", func() bool {
		err := c.Health()
		return errors.Is(err, coord.ErrSuspended) && strings.Contains(err.Error(), "strange directory: member 2 was first seen with")
	})
	mustCreate(t, all[0], "/goes-on", "")
	for _, m := range []*coord.Coordinator{all[0], all[2]} {
		if _, there, err := m.Exists(t.Context(), "/theirs", coord.Linearizable()); there || err != nil {
			t.Errorf("member %v: Exists = %v, %v", m.Status().Member, there, err)
		}
	}
	o.stop(c)
	o.ready(o.start(2))
}

// TestSwappedAddresses has a member take each of two others for the other one.
func TestSwappedAddresses(t *testing.T) {
	o := newOnSockets(t, 3)
	wrong := o.cfgs[0]
	wrong.InitialMembers = slices.Clone(wrong.InitialMembers)
	wrong.InitialMembers[1].Addr, wrong.InitialMembers[2].Addr = wrong.InitialMembers[2].Addr, wrong.InitialMembers[1].Addr
	one, two, three := o.startAs(wrong), o.start(2), o.start(3)
	o.ready(two, three)
	eventually(t, "member 1 to say what is wrong", func() bool {
		text := fmt.Sprint(one.Health())
		return strings.Contains(text, "looking for member 2, this is member 3") && strings.Contains(text, "looking for member 3, this is member 2")
	})
	if one.Context().Err() != nil {
		t.Errorf("it failed, but only its configuration is wrong: %v", one.Health())
	}
	o.stop(one)
	one = o.start(1)
	o.ready(one)

	// One that has started before does not talk to the wrong member either. It hears
	// from the leader, and may need to answer nobody else.
	o.stop(one)
	one = o.startAs(wrong)
	eventually(t, "member 1 to say what is wrong", func() bool {
		text := fmt.Sprint(one.Health())
		return strings.Contains(text, "looking for member 2, this is member 3") || strings.Contains(text, "looking for member 3, this is member 2")
	})
	mustCreate(t, two, "/goes-on", "")
}

// TestInitialMembersMustAgree has a member start with another list than the others.
// Nobody starts, and its list can be put right.
func TestInitialMembersMustAgree(t *testing.T) {
	o := newOnSockets(t, 3)
	wrong := o.cfgs[2]
	wrong.InitialMembers = append(slices.Clone(wrong.InitialMembers), coord.Member{ID: 4, Addr: freeAddrs(t, 1)[0]})
	one, two, three := o.start(1), o.start(2), o.startAs(wrong)
	for _, c := range []*coord.Coordinator{one, two, three} {
		eventually(t, "all to name both lists", func() bool {
			text := fmt.Sprint(c.Health())
			return strings.Contains(text, "[1 2 3 4]") && strings.Contains(text, "[1 2 3]")
		})
	}
	o.stop(three)
	three = o.start(3)
	o.ready(one, two, three)
}

// sameMember compares what does not change by itself.
func sameMember(a, b coord.MemberState) bool {
	return a.ID == b.ID && a.Addr == b.Addr && a.Role == b.Role && (a.SinceTouch < 0) == (b.SinceTouch < 0)
}

// TestMemberStatus has every member asked by every other one.
func TestMemberStatus(t *testing.T) {
	o := newOnSockets(t, 3)
	all := o.startAll()
	mustCreate(t, all[0], "/n", "")
	for _, asker := range all {
		for _, asked := range all {
			eventually(t, "both to tell the same", func() bool {
				id := asked.Status().Member
				st, err := asker.MemberStatus(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				want := asked.Status()
				return st.Member == id && st.Role == want.Role && st.Leader == want.Leader && st.Term == want.Term && st.ZXID == want.ZXID &&
					st.HasQuorum && st.EnsembleID == want.EnsembleID && st.Znodes == want.Znodes && st.Sessions == want.Sessions &&
					slices.EqualFunc(st.Members, want.Members, sameMember) && len(st.Groups) == 1 && st.Groups[0].ZXID == want.ZXID && st.Lag >= 0 && st.MaxSessionTimeout == want.MaxSessionTimeout && st.Health == ""
			})
		}
	}
	if _, err := all[0].MemberStatus(t.Context(), 4); err == nil || !strings.Contains(err.Error(), "member 4") {
		t.Errorf("MemberStatus of nobody = %v", err)
	}
	o.stop(all[2])
	if _, err := all[0].MemberStatus(t.Context(), 3); err == nil || !strings.Contains(err.Error(), o.cfgs[2].InitialMembers[2].Addr) {
		t.Errorf("MemberStatus of one that is down = %v", err)
	}
	if _, err := all[2].MemberStatus(t.Context(), 1); !errors.Is(err, coord.ErrClosed) {
		t.Errorf("MemberStatus after Close = %v", err)
	}
}

// TestMemberStatusInMemory asks members of an ensemble without sockets.
func TestMemberStatusInMemory(t *testing.T) {
	inBubble(t, func(t *testing.T, e *coordtest.Ensemble) {
		c := e.Member(1)
		for _, id := range []coord.MemberID{1, 2} {
			if st, err := c.MemberStatus(t.Context(), id); err != nil || st.Member != id || st.Health != "" {
				t.Errorf("MemberStatus(%v) = %+v, %v", id, st, err)
			}
		}
		if links := c.Links(); links != nil {
			t.Errorf("Links = %v", links)
		}
		e.Isolate(e.Member(2))
		if _, err := c.MemberStatus(t.Context(), 2); !errors.Is(err, coord.ErrTimeout) {
			t.Errorf("MemberStatus over a cut link = %v", err)
		}
	})
}

// TestLinks looks at what the first start and the leader's heartbeats leave.
func TestLinks(t *testing.T) {
	o := newOnSockets(t, 3)
	for _, c := range o.startAll() {
		eventually(t, "all links to be in use", func() bool { return linksInUse(c) })
		for _, l := range c.Links() {
			if l.Peer == c.Status().Member || l.Refused > 0 || l.Dropped > 0 {
				t.Errorf("member %v: %+v", c.Status().Member, l)
			}
		}
	}
}

// linksInUse reports whether on all links of c has been counted what must have been
// there: the calls of the first start, and raft's messages from the leader and to it.
func linksInUse(c *coord.Coordinator) bool {
	st, links := c.Status(), c.Links()
	for _, id := range []coord.MemberID{1, 2, 3} {
		for _, incoming := range []bool{false, true} {
			if id == st.Member {
				continue
			}
			i := slices.IndexFunc(links, func(l coord.Link) bool { return l.Peer == id && l.Incoming == incoming })
			if i < 0 {
				return false
			}
			l, busy := links[i], id == st.Leader || st.Member == st.Leader
			if l.Handshakes == 0 || l.Bytes == 0 || l.Calls == 0 || busy && (l.Connections == 0 || l.Batches == 0) {
				return false
			}
		}
	}
	return true
}

// TestTLSBetweenMembers replaces certificates and their authority under a running
// ensemble, and keeps a member out that has others.
func TestTLSBetweenMembers(t *testing.T) {
	o := newOnSockets(t, 3)
	var dirs []string
	for i := range o.cfgs {
		dirs = append(dirs, t.TempDir())
		o.cfgs[i].ID = coord.MemberID(i + 1)
	}
	coord.IssueTLS(t, dirs...)
	for i := range o.cfgs {
		tls, err := coord.TLSIn(dirs[i]).Config()
		if err != nil {
			t.Fatal(err)
		}
		o.cfgs[i].TLS = tls
	}
	all := o.startAll()
	mustCreate(t, all[0], "/n", "over TLS")

	coord.IssueTLS(t, dirs...)
	o.stop(all[1])
	all[1] = o.start(2)
	o.ready(all[1])
	if data, _ := mustGet(t, all[1], "/n", coord.Linearizable()); data != "over TLS" {
		t.Errorf("read %q", data)
	}

	o.stop(all[1])
	stranger, plain := o.cfgs[1], o.cfgs[1]
	elsewhere := t.TempDir()
	coord.IssueTLS(t, elsewhere)
	tls, err := coord.TLSIn(elsewhere).Config()
	if err != nil {
		t.Fatal(err)
	}
	stranger.TLS, plain.TLS = tls, nil
	for name, cfg := range map[string]coord.Config{"another authority": stranger, "plaintext": plain} {
		c := o.startAs(cfg)
		eventually(t, name+" to be refused by both", func() bool {
			n := 0
			for _, l := range c.Links() {
				if !l.Incoming && l.Refused > 0 && l.Handshakes == 0 {
					n++
				}
			}
			return n == 2
		})
		if err := c.Health(); !errors.Is(err, coord.ErrSuspended) || !strings.Contains(err.Error(), "refused: member 1:") {
			t.Errorf("%s: Health = %v", name, err)
		}
		o.stop(c)
	}
	mustCreate(t, all[0], "/goes-on", "")
}

// TestLogOfTheDoorHasNoKeys greps the log of members that meet trouble at the door.
func TestLogOfTheDoorHasNoKeys(t *testing.T) {
	o := newOnSockets(t, 2)
	dirs := []string{t.TempDir(), t.TempDir()}
	coord.IssueTLS(t, dirs[0])
	coord.IssueTLS(t, dirs[1])
	var out lockedBuffer
	for i := range o.cfgs {
		files := coord.TLSIn(dirs[i])
		files.Logger = slog.New(slog.NewTextHandler(&out, nil))
		tls, err := files.Config()
		if err != nil {
			t.Fatal(err)
		}
		o.cfgs[i].TLS, o.cfgs[i].Logger = tls, files.Logger
	}
	one, two := o.start(1), o.start(2)
	for _, c := range []*coord.Coordinator{one, two} {
		eventually(t, "the refusal to be told", func() bool { return strings.Contains(fmt.Sprint(c.Health()), "certificate") })
	}
	o.stop(one, two)
	key, err := os.ReadFile(filepath.Join(dirs[0], "key"))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Split(string(key), "\n")[1][:20]
	if log := out.String(); strings.Contains(log, secret) || strings.Contains(log, "PRIVATE") || !strings.Contains(log, "certificate") {
		t.Errorf("the log:\n%s", log)
	}
}
