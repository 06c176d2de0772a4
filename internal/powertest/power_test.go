package powertest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lni/vfs"

	"coord"
	"coord/internal/bubble"
	"coord/internal/failpoint"
	"coord/internal/faultfs"
	"coord/internal/private"
	"coord/internal/raftnode"
	"coord/internal/raftnode/memnet"
)

var (
	cutsFlag = flag.Int("power.cuts", 30, "power cuts of TestPowerCuts, and of each round of the others")
	seedFlag = flag.Uint64("power.seed", 0, "seed; 0 picks one")
	allFlag  = flag.Bool("power.all", false, "leave nothing out under the race detector, which takes many times as long")
	logFlag  = flag.Bool("power.log", false, "write what the members log")
)

func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := *seedFlag
	for seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("-power.seed=%d", seed)
	return seed
}

// notRaced skips a test that is about what is on the disk, and not about who gets at
// memory when, under the race detector.
func notRaced(t *testing.T) {
	t.Helper()
	if bubble.RaceDetector && !*allFlag {
		t.Skip("it takes long, and shows nothing more: -power.all")
	}
}

const size = 3

// A plant is an ensemble whose power can be cut. Faults are put on its disks before
// it starts.
type plant struct {
	t   *testing.T
	rng *rand.Rand
	net *memnet.Net

	members [size]*site
	lost    faultfs.Loss
	cuts    int

	mu    sync.Mutex
	acked map[string]string // guarded by mu; path and data of the writes that were acknowledged
	next  int               // guarded by mu
	live  [size]*coord.Coordinator
}

// A site is what a member keeps when its power is cut.
type site struct {
	cfg    coord.Config
	memory *raftnode.Memory
	fs     *faultfs.FS
	points *failpoint.Set
}

func newPlant(t *testing.T, seed uint64, prepare func(*faultfs.FS)) *plant {
	t.Helper()
	p := &plant{t: t, rng: rand.New(rand.NewPCG(seed, 0)), net: memnet.New(), acked: map[string]string{}}
	var initial []coord.Member
	for i := range size {
		initial = append(initial, coord.Member{ID: coord.MemberID(i + 1), Addr: fmt.Sprintf("power-%d:1", i+1)})
	}
	logger := slog.New(slog.DiscardHandler)
	if *logFlag {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for i := range size {
		s := &site{fs: faultfs.New(vfs.NewMem()).InOrder(), points: &failpoint.Set{}}
		if prepare != nil {
			prepare(s.fs)
		}
		s.memory = &raftnode.Memory{Net: p.net, FS: s.fs, Failpoints: s.points}
		s.cfg = coord.Config{
			Name: "power", ID: initial[i].ID, InitialMembers: initial, Dir: "/var/lib/power",
			ElectionTimeout: 200 * time.Millisecond, SnapshotEntries: 40, Logger: logger,
		}
		private.SetMemory(&s.cfg, s.memory)
		p.members[i] = s
	}
	return p
}

// open starts a member.
func (p *plant) open(i int) error {
	c, err := coord.Open(context.Background(), p.members[i].cfg)
	if err != nil {
		return fmt.Errorf("member %d does not open: %w", i+1, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[i] = c
	return nil
}

func (p *plant) member(i int) *coord.Coordinator {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live[i]
}

func (p *plant) openAll() error {
	for i := range size {
		if err := p.open(i); err != nil {
			return err
		}
	}
	return p.ready()
}

func (p *plant) ready() error {
	for i := range size {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := p.member(i).Ready(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("member %d: %w", i+1, err)
		}
	}
	return nil
}

// write has a few writers write until the returned function is called.
func (p *plant) write() (finish func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for w := range 2 * size {
		wg.Go(func() {
			for ctx.Err() == nil {
				p.mu.Lock()
				n := p.next
				p.next++
				p.mu.Unlock()
				path, data := fmt.Sprintf("/n%d", n), fmt.Sprintf("%d by %d", n, w)
				attempt, done := context.WithTimeout(ctx, time.Second)
				_, _, err := p.member(w%size).Create(attempt, path, []byte(data))
				done()
				if err == nil {
					p.mu.Lock()
					p.acked[path] = data
					p.mu.Unlock()
				}
				pause(ctx, 20*time.Millisecond)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// verify looks for every acknowledged write on every member.
func (p *plant) verify() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range size {
		c := p.member(i)
		v, err := viewOf(ctx, c)
		if err != nil {
			return fmt.Errorf("member %d: %w", i+1, err)
		}
		for path, want := range p.acked {
			if data, _, err := v.Get(path); err != nil || string(data) != want {
				return fmt.Errorf("member %d: the acknowledged write of %s is lost: %q, %w", i+1, path, data, err)
			}
		}
		for _, err := range private.Violations(c) {
			return fmt.Errorf("member %d: %w", i+1, err)
		}
	}
	return nil
}

// viewOf returns what a member shows, with all that was acknowledged. A member whose
// leader has just lost its power may be suspended for a moment.
func viewOf(ctx context.Context, c *coord.Coordinator) (*coord.View, error) {
	for {
		err := c.Sync(ctx, "/")
		if err != nil {
			return nil, fmt.Errorf("sync: %w", err)
		}
		v, err := c.View(ctx)
		if err == nil || !errors.Is(err, coord.ErrSuspended) || ctx.Err() != nil {
			return v, err
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// end kills members whose power is off, gives them power again and starts them.
func (p *plant) end(victims []int) error {
	for _, i := range victims {
		_ = private.Kill(p.member(i)) // its disk may have failed it on the way out
	}
	for _, i := range victims {
		loss, err := p.members[i].fs.PowerOn(p.rng.Uint64())
		if err != nil {
			return err
		}
		p.cuts++
		p.lost.Names += loss.Names
		p.lost.Writes += loss.Writes
		p.lost.Torn += loss.Torn
		p.lost.Kept += loss.Kept
	}
	for _, i := range victims {
		if err := p.open(i); err != nil {
			return err
		}
	}
	return nil
}

// cut cuts the power of one member, or of all, at a random moment.
func (p *plant) cut() error {
	victims := p.rng.Perm(size)[:[]int{1, 1, 2, size}[p.rng.IntN(4)]]
	time.Sleep(time.Duration(p.rng.Int64N(int64(400 * time.Millisecond))))
	p.strike(victims)
	return p.end(victims)
}

// strike turns the power of running members off.
func (p *plant) strike(victims []int) {
	for _, i := range victims {
		defer slow(p.members[i].fs, p.rng.Uint64())()
	}
	if p.rng.IntN(2) == 0 {
		p.awaitChanges(victims)
	}
	for _, i := range victims {
		p.members[i].fs.PowerOff()
	}
	if p.rng.IntN(2) == 0 { // or the process is gone at once
		time.Sleep(time.Duration(p.rng.Int64N(int64(100 * time.Millisecond))))
	}
}

// awaitChanges has the power of the victims go off at the n-th change that one of
// them makes from now on, between any two.
func (p *plant) awaitChanges(victims []int) {
	timeout := time.After(2 * time.Second)
	for _, i := range victims {
		select {
		case <-p.members[i].fs.PowerOffAfter(1 + p.rng.IntN(100)):
		case <-timeout:
			return
		}
	}
}

// slow has half of the syncs of the log take their time until the returned function
// is called, so that a cut comes between a write and its sync. Not while a member
// starts: the library starts a replica under a lock, and in a bubble time stands
// still while somebody waits for a lock.
func slow(fs *faultfs.FS, seed uint64) (remove func()) {
	return fs.Inject(faultfs.Fault{Ops: faultfs.Sync, Path: "*.log", Share: 0.5, Seed: seed, Delay: 3 * time.Millisecond})
}

// shut kills all members, in no order.
func (p *plant) shut() {
	for i := range size {
		if c := p.member(i); c != nil {
			_ = private.Kill(c) // it may have been killed before
		}
	}
}

// run cuts the power so many times, with checks between. Nothing is closed in order
// before it.
func (p *plant) run(cuts int) error {
	defer p.shut()
	if err := p.openAll(); err != nil {
		return err
	}
	for p.cuts < cuts {
		finish := p.write()
		var err error
		for n := 1 + p.rng.IntN(3); n > 0 && err == nil; n-- {
			err = p.cut()
		}
		if err == nil {
			err = p.ready()
		}
		finish()
		if err == nil {
			err = p.verify()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestPowerCuts cuts the power of one, some or all members at any moment.
func TestPowerCuts(t *testing.T) {
	if *bugFlag == "" {
		notRaced(t)
	}
	seed := seedOf(t)
	for done := 0; done < *cutsFlag; seed++ {
		bubble.Run(t, func(t *testing.T) {
			p := newPlant(t, seed, bugs[*bugFlag])
			if err := p.run(min(*cutsFlag-done, *perPlant)); err != nil {
				t.Fatalf("-power.seed=%d: after %d cuts: %v", seed, p.cuts, err)
			}
			done += p.cuts
			t.Logf("%d cuts, %d writes acknowledged of %d; %v", p.cuts, len(p.acked), p.next, p.lost)
		})
		if t.Failed() {
			return
		}
	}
}

var (
	perPlant = flag.Int("power.plant", 100, "cut the power of one ensemble so often, then begin with another")

	bugFlag = flag.String("power.bug", "", "leave syncs out, by one of the names of TestPlantedBugs")
)

// bugs are programs that forget a sync.
var bugs = map[string]func(*faultfs.FS){
	"log":                       lie(faultfs.Sync, "*.log"),
	"manifest":                  lie(faultfs.Sync, "manifest.json.tmp"),
	"directory-of-the-manifest": lie(faultfs.SyncDir, "power"),
	"parent-of-the-directory":   lie(faultfs.SyncDir, "lib"),
}

func lie(ops faultfs.Op, path string) func(*faultfs.FS) {
	return func(fs *faultfs.FS) { fs.Inject(faultfs.Fault{Ops: ops, Path: path, Lie: true}) }
}

// TestPlantedBugs leaves out the syncs of one kind of file, or of a directory, and
// expects that this is found. Each runs in a process of its own, because the raft
// library ends it when it finds that the log has forgotten something. Most of them show
// only at the first cuts of an ensemble: a name that has survived one is durable.
func TestPlantedBugs(t *testing.T) {
	notRaced(t)
	seed := seedOf(t)
	for name := range bugs {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				found, hung := findBug(t, name, seed)
				if !hung {
					t.Logf("found: %s", found)
					return
				}
				seed += 1000
			}
			t.Fatal("it hung with ten seeds")
		})
	}
}

// findBug returns what power cuts show of a bug. A member whose log has forgotten much can
// also keep the raft library busy for ever, at an instant of virtual time: that proves
// nothing.
func findBug(t *testing.T, name string, seed uint64) (found string, hung bool) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPowerCuts$", "-test.timeout=20s",
		"-power.cuts=500", "-power.plant=5", "-power.bug="+name, fmt.Sprintf("-power.seed=%d", seed))
	out, err := cmd.CombinedOutput()
	found = string(regexp.MustCompile(`(?m)^(panic: .*|.*after [0-9]+ cuts: .*)$`).Find(out))
	if _, failed := errors.AsType[*exec.ExitError](err); !failed || found == "" {
		t.Fatalf("500 power cuts did not show the bug: %v\n%s", err, out)
	}
	return found, strings.HasPrefix(found, "panic: test timed out")
}

// TestPowerCutAtFailpoints cuts the power of a member when it is at a point, of each
// in turn.
func TestPowerCutAtFailpoints(t *testing.T) {
	if !failpoint.Enabled {
		t.Skip("points are not compiled in: run it with -race or -tags failpoint")
	}
	seed := seedOf(t)
	cuts := map[failpoint.Point]int{}
	for round := range max(*cutsFlag/len(failpoint.Points), 1) {
		bubble.Run(t, func(t *testing.T) {
			p := newPlant(t, seed+uint64(round), nil)
			defer p.shut()
			err := p.openAll()
			for _, point := range failpoint.Points {
				if point == failpoint.StartMark || point == failpoint.StartMarked {
					continue // see TestPowerCutAtFirstStart
				}
				if err == nil {
					err = p.cutAt(point, cuts)
				}
				if err != nil {
					t.Fatalf("-power.seed=%d: power cut at %s: %v", seed, point, err)
				}
			}
		})
	}
	t.Logf("cuts: %v", cuts)
	for _, point := range failpoint.Points {
		if cuts[point] == 0 && point != failpoint.StartMark && point != failpoint.StartMarked {
			t.Errorf("no member was ever at %s", point)
		}
	}
}

// cutAt cuts the power of one member, or of all, when it comes to a point.
func (p *plant) cutAt(point failpoint.Point, cuts map[failpoint.Point]int) error {
	finish := p.write()
	victims := p.rng.Perm(size)[:[]int{1, size}[p.rng.IntN(2)]]
	spare := p.rng.IntN(3)
	switch point { //nolint:exhaustive // the others need nothing
	case failpoint.SnapshotSend, failpoint.SnapshotReceive, failpoint.SnapshotArrived:
		victims = p.rng.Perm(size) // who sends and who receives is up to them
	}
	if asked[point] {
		spare = 0
	}
	there := make(chan struct{}, size)
	for _, i := range victims {
		s := p.members[i]
		s.points.On(point, failpoint.After(spare, failpoint.Call(func() {
			s.fs.PowerOff()
			there <- struct{}{}
		})))
	}
	p.provoke(point, victims)
	timeout := time.After(time.Second)
	if point == failpoint.AppliedNote {
		timeout = time.After(6 * time.Second) // it is passed every five
	}
	for range victims {
		select {
		case <-there:
			cuts[point]++
		case <-timeout:
			timeout = time.After(0)
		}
	}
	for _, i := range victims {
		p.members[i].points.Clear()
		p.members[i].fs.PowerOff()
	}
	err := p.end(victims)
	if err == nil {
		err = p.ready()
	}
	finish()
	if err == nil {
		err = p.verify()
	}
	return err
}

// asked are the points that are passed only when something is done for it, or now
// and then.
var asked = map[failpoint.Point]bool{
	failpoint.SessionClose: true, failpoint.Seal: true,
	failpoint.SnapshotSend: true, failpoint.SnapshotReceive: true, failpoint.SnapshotArrived: true,
	failpoint.SnapshotApply: true, failpoint.SnapshotApplied: true, failpoint.AppliedNote: true,
}

// provoke brings members to a point.
func (p *plant) provoke(point failpoint.Point, victims []int) {
	switch point { //nolint:exhaustive // the others need nothing
	case failpoint.SnapshotApply, failpoint.SnapshotApplied:
		for _, i := range victims {
			_ = p.restart(i) // its power may be off before it is open
		}
	case failpoint.SessionClose, failpoint.Seal:
		for _, i := range victims {
			_ = p.member(i).Close() // its power goes off on the way
		}
	case failpoint.SnapshotSend, failpoint.SnapshotReceive, failpoint.SnapshotArrived:
		// Away for long enough, it finds that the log of the others begins later.
		away := p.members[victims[0]].cfg.InitialMembers[victims[0]].Addr
		p.net.Isolate(away)
		time.Sleep(3 * time.Second)
		p.net.Heal()
		time.Sleep(time.Second)
	}
}

// restart kills a member and starts it again.
func (p *plant) restart(i int) error {
	if err := private.Kill(p.member(i)); err != nil {
		return err
	}
	return p.open(i)
}

// TestPowerCutAtFirstStart cuts the power of a member whose replica is started for
// the first time, when that is written down.
func TestPowerCutAtFirstStart(t *testing.T) {
	if !failpoint.Enabled {
		t.Skip("points are not compiled in: run it with -race or -tags failpoint")
	}
	seed := seedOf(t)
	rounds := uint64(10)
	if bubble.RaceDetector && !*allFlag {
		rounds = 1
	}
	for round := range rounds {
		for _, point := range []failpoint.Point{failpoint.StartMark, failpoint.StartMarked} {
			bubble.Run(t, func(t *testing.T) {
				p := newPlant(t, seed+round, nil)
				defer p.shut()
				s := p.members[0]
				s.points.On(point, failpoint.Call(s.fs.PowerOff))
				err := errors.Join(p.open(1), p.open(2))
				if p.open(0) == nil {
					time.Sleep(time.Second)
					err = errors.Join(err, private.Kill(p.member(0)))
				}
				if s.points.Hits(point) == 0 {
					t.Errorf("the member was never at %s", point)
				}
				s.points.Clear()
				_, lost := s.fs.PowerOn(seed + round)
				if err = errors.Join(err, lost); err == nil {
					err = p.open(0)
				}
				if err == nil {
					err = p.ready()
				}
				if err != nil {
					t.Errorf("-power.seed=%d: power cut at %s: %v", seed+round, point, err)
				}
			})
		}
	}
}
