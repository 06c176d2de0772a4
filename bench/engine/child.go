package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
)

// Every subject runs in a process of its own, so that the heap of one is not
// marked, and does not slow the garbage collector down, for the other. The
// processes live side by side and only one of them is loaded at a time: that is
// how two subjects are compared on a machine whose speed changes by the minute.
//
// A process is told its settings in JSON on its standard input, answers "null"
// when it is up, is told loads, and answers with figures. It ends when its input
// does.

// An answer is what a child says.
type answer struct {
	Figures figures
	Err     string
}

// A child is a subject in another process.
type child struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
}

// startChild starts the program at path, a build of this tool, as a subject.
func startChild(ctx context.Context, name, path string, s settings, profiles []string) (*child, error) {
	cmd := exec.CommandContext(ctx, path, append(profiles, "-child")...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{name, cmd, in, json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))}
	if _, err := c.ask(s); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *child) ask(question any) (figures, error) {
	if err := c.enc.Encode(question); err != nil {
		return figures{}, fmt.Errorf("%s: %w", c.name, err)
	}
	var a answer
	if err := c.dec.Decode(&a); err != nil {
		return figures{}, fmt.Errorf("%s: %w", c.name, err)
	}
	if a.Err != "" {
		return figures{}, fmt.Errorf("%s: %s", c.name, a.Err)
	}
	return a.Figures, nil
}

func (c *child) close() error {
	return errors.Join(c.in.Close(), c.cmd.Wait())
}

// serve is what a child does.
func serve(ctx context.Context, r io.Reader, w io.Writer, cpuProfile, memProfile string) (err error) {
	in, out := json.NewDecoder(r), json.NewEncoder(w)
	var s settings
	if err := in.Decode(&s); err != nil {
		return err
	}
	sub, err := openSubject(ctx, s)
	if err != nil {
		return errors.Join(err, out.Encode(answer{Err: err.Error()}))
	}
	defer func() { err = errors.Join(err, sub.close()) }()
	if err := out.Encode(answer{}); err != nil {
		return err
	}
	if cpuProfile != "" {
		f, err := os.Create(cpuProfile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	for {
		var l load
		if err := in.Decode(&l); errors.Is(err, io.EOF) {
			return writeAllocs(memProfile)
		} else if err != nil {
			return err
		}
		a := answer{}
		if a.Figures, err = run(sub, l); err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func writeAllocs(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return pprof.Lookup("allocs").WriteTo(f, 0)
}
