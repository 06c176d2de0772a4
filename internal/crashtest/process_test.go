package crashtest_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coord"
	"coord/internal/faultfs"
)

// A process is one life of a member, as the parent sees it.
type process struct {
	n       int // of the test
	cfg     memberConfig
	cmd     *exec.Cmd
	logPath string
	began   time.Time
	onEvent func(*process, reply) // in the reader's goroutine

	opened chan struct{} // closed by eventOpened and eventOpenFailed
	ready  chan struct{} // closed by eventReady
	paused chan struct{} // closed by eventPausing
	failed chan struct{} // closed by eventFailed
	exited chan struct{} // closed when the process has been waited for

	ending  atomic.Bool   // by our hand
	mayFail atomic.Bool   // its log is made to
	removed atomic.Bool   // from the ensemble
	cut     sync.Once     // its power
	zxid    atomic.Uint64 // the highest that it has shown
	openErr string        // set before opened is closed
	exitErr error         // set before exited is closed

	mu      sync.Mutex
	stdin   io.WriteCloser
	seq     uint64                // guarded by mu
	waiting map[uint64]chan reply // guarded by mu; nil once the process is gone
}

// launch starts a process. It is killed when the test ends, if not before.
func launch(tb testing.TB, n int, cfg *memberConfig, logPath string, onEvent func(*process, reply)) *process {
	tb.Helper()
	text, err := json.Marshal(cfg) //nolint:musttag // this binary reads what it writes
	if err != nil {
		tb.Fatal(err)
	}
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer logFile.Close()
	p := &process{
		n: n, cfg: *cfg, logPath: logPath, began: time.Now(), onEvent: onEvent,
		opened: make(chan struct{}), ready: make(chan struct{}), paused: make(chan struct{}), failed: make(chan struct{}), exited: make(chan struct{}),
		waiting: map[uint64]chan reply{},
	}
	p.ending.Store(cfg.Point != "")
	command := cfg.command
	if command == nil {
		command = func(program string) *exec.Cmd { return exec.Command(program) }
	}
	p.cmd = command(executable(tb))
	// Each member takes a processor's worth at most, so that many fit on a small machine.
	p.cmd.Env = append(os.Environ(), memberEnv+"="+string(text), fmt.Sprint("GOMAXPROCS=", cmp.Or(cfg.Procs, 2)))
	p.cmd.Dir = filepath.Dir(logPath)
	p.cmd.Stderr = logFile
	leash(p.cmd, cfg)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go p.read(stdout)
	tb.Cleanup(p.kill)
	return p
}

func executable(tb testing.TB) string {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return exe
}

// read hands out what the process says, until it is gone.
func (p *process) read(stdout io.Reader) {
	lines := bufio.NewReaderSize(stdout, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // a torn line is one that was not said
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil { //nolint:musttag // this binary reads what it writes
			continue // torn by a kill, see member.close; a lost answer shows as an unknown outcome
		}
		p.heard(r)
	}
	p.exitErr = p.cmd.Wait()
	p.mu.Lock()
	for _, ch := range p.waiting {
		close(ch)
	}
	p.waiting = nil
	_ = p.stdin.Close()
	p.mu.Unlock()
	close(p.exited)
}

func (p *process) heard(r reply) {
	for z := uint64(r.ZXID); ; {
		was := p.zxid.Load()
		if z <= was || p.zxid.CompareAndSwap(was, z) {
			break
		}
	}
	switch r.Event {
	case eventOpened:
		close(p.opened)
	case eventOpenFailed:
		p.openErr = r.Error
		close(p.opened)
	case eventReady:
		close(p.ready)
	case eventPausing:
		close(p.paused)
	case eventFailed:
		close(p.failed)
	case eventClosed, "":
		p.mu.Lock()
		ch := p.waiting[r.Seq]
		delete(p.waiting, r.Seq)
		p.mu.Unlock()
		if ch != nil {
			ch <- r
		}
	}
	if p.onEvent != nil && r.Event != "" {
		p.onEvent(p, r)
	}
}

// send writes a request. The channel is given the answer, or closed without one
// when the process is gone. A nil channel says that nothing was sent.
func (p *process) send(r *request) (<-chan reply, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		return nil, 0
	}
	p.seq++
	r.Seq = p.seq
	line, err := json.Marshal(r) //nolint:musttag // this binary reads what it writes
	if err != nil {
		panic(err) // of our own making
	}
	ch := make(chan reply, 1)
	p.waiting[r.Seq] = ch
	// If this fails the process is going, and read closes ch.
	_, _ = p.stdin.Write(append(line, '\n'))
	return ch, r.Seq
}

// call sends a request and waits for the answer.
func (p *process) call(r request) (reply, error) {
	ch, _ := p.send(&r)
	if ch == nil {
		return reply{}, fmt.Errorf("process %d of member %v is gone", p.n, p.cfg.ID)
	}
	a, ok := <-ch
	switch {
	case !ok:
		return a, fmt.Errorf("process %d of member %v went without an answer to %s", p.n, p.cfg.ID, r.Op)
	case a.Outcome != acked:
		return a, fmt.Errorf("process %d of member %v: %s: %s", p.n, p.cfg.ID, r.Op, a.Error)
	}
	return a, nil
}

// kill ends the process without warning and waits until it is gone.
func (p *process) kill() {
	p.ending.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.exited
	if p.cfg.Journal != "" {
		p.cut.Do(p.revert)
	}
}

// revert takes what a power cut would have taken: the kernel has kept it.
func (p *process) revert() {
	text := "power cut: "
	if loss, err := faultfs.Revert(p.cfg.Journal, *seedFlag+uint64(p.n)); err != nil {
		p.onEvent(p, reply{Event: eventFailed, Error: text + err.Error()})
	} else {
		text += loss.String()
	}
	if f, err := os.OpenFile(p.logPath, os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		_, _ = fmt.Fprintf(f, "process %d: %s\n", p.n, text)
		_ = f.Close()
	}
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) isReady() bool {
	select {
	case <-p.ready:
		return p.alive()
	default:
		return false
	}
}

// status returns what the member says of itself, or nothing if it is gone.
func (p *process) status() coord.Status {
	if a, err := p.call(request{Op: opStatus}); err == nil && a.Status != nil {
		return *a.Status
	}
	return coord.Status{}
}

// awaitStart waits until the process is ready, refused or gone, and returns what
// Open said.
func (p *process) awaitStart(ctx context.Context) error {
	for {
		select {
		case <-p.opened:
			if p.openErr != "" {
				return &openError{p.openErr}
			}
		case <-p.exited:
			return p.exitError()
		case <-ctx.Done():
			return fmt.Errorf("process %d of member %v did not open in time; its log ends:\n%s", p.n, p.cfg.ID, tail(p.logPath))
		}
		select {
		case <-p.ready:
			return nil
		case <-p.exited:
			return p.exitError()
		case <-ctx.Done():
			return fmt.Errorf("process %d of member %v was not ready in time; its log ends:\n%s", p.n, p.cfg.ID, tail(p.logPath))
		}
	}
}

func (p *process) exitError() error {
	select {
	case <-p.opened:
		if p.openErr != "" {
			return &openError{p.openErr}
		}
	default:
	}
	return fmt.Errorf("process %d of member %v ended by itself: %w; its log ends:\n%s", p.n, p.cfg.ID, errorOr(p.exitErr, "exit status 0"), tail(p.logPath))
}

// triesToJoin reports whether a process gives up because no member has answered it. It may
// be started again.
func (p *process) triesToJoin(r *reply) bool {
	return r.Event == eventOpenFailed && len(p.cfg.Join) > 0 && strings.Contains(r.Error, "join: "+coord.ErrTimeout.Error())
}

func errorOr(err error, text string) error {
	if err == nil {
		return fmt.Errorf("%s", text)
	}
	return err
}

// An openError is what Open returned in another process.
type openError struct{ text string }

func (e *openError) Error() string { return e.text }

// tail returns the end of a log, and the first panic in it.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for i, l := range lines {
		if faulty(l) {
			return strings.Join(lines[i:min(i+30, len(lines))], "\n")
		}
	}
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// faulty reports whether a line of a log tells of a panic or a race.
func faulty(line string) bool {
	for _, s := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
		if strings.HasPrefix(line, s) {
			return true
		}
	}
	return false
}
