package zookeeper

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// A process is a child that dies with this process.
type process struct {
	log  string        // the file with what it printed
	done chan struct{} // closed when it has ended
	err  error         // how it ended; set before done is closed
	cmd  *exec.Cmd
}

// startProcess starts a program whose output goes to a file.
func startProcess(log, name string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	p := &process{log: log, done: make(chan struct{}), cmd: exec.Command(name, args...)}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = dieWithParent()
	started := make(chan error)
	go func() {
		// The kernel's notion of a parent is the thread that started the child, which
		// therefore has to live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = out.Close() }()
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process, if it has not ended, and waits until it has.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// tail returns the last lines that the process printed.
func (p *process) tail() string {
	const most = 20
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
