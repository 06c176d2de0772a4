package crashtest_test

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// judgeFor is how long the linearizability of one register may be thought about.
const judgeFor = 30 * time.Second

// An access is a write of a value to a register, or a read.
type access struct {
	write bool
	value string
}

// A shown is what an access was told: version -1 if nothing.
type shown struct {
	version int32
	value   string
}

// A cell is the state of a register.
type cell struct {
	version int32
	value   string
}

// registerFrom is a register as one processor without a network has it.
func registerFrom(first cell) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(cell), input.(access), output.(shown)
			if in.write {
				s = cell{s.version + 1, in.value}
				return out.version < 0 || out.version == s.version, s
			}
			return out.version == s.version && out.value == s.value, s
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

// linearizable has porcupine, which knows nothing of zxids, judge the calls on each
// register since the last check.
func (c *checker) linearizable(h *history) {
	for i := range nReg {
		path := fmt.Sprint(regDir, "/", i)
		was := c.l.values[path]
		var ops []porcupine.Operation
		for _, e := range c.fresh(path, regWrite, regRead) {
			if op, ok := c.operation(h, e); ok {
				ops = append(ops, op)
			}
		}
		switch result := porcupine.CheckOperationsTimeout(registerFrom(cell{was.version, was.data}), ops, judgeFor); result {
		case porcupine.Illegal:
			c.wrong("linearizability: porcupine finds no order for the %d calls on %s", len(ops), path)
		case porcupine.Unknown:
			c.l.undecided++
		case porcupine.Ok:
			c.l.judged += len(ops)
		}
	}
}

// operation returns an entry as porcupine wants it, if it can have taken effect. A
// write whose answer was lost has, if a recorder was told of it, and had when it was.
func (c *checker) operation(h *history, e *entry) (porcupine.Operation, bool) {
	op := porcupine.Operation{ClientId: int(e.ID % math.MaxInt32), Call: int64(e.Begin), Return: int64(e.End)}
	told := e.Outcome == acked && !e.Late && e.Reply.Stat != nil
	switch {
	case e.Kind == regRead:
		if !told {
			return op, false
		}
		op.Input, op.Output = access{}, shown{e.Reply.Stat.Version, e.Reply.Data}
	case told:
		op.Input, op.Output = access{true, e.data()}, shown{e.Reply.Stat.Version, ""}
	case e.Outcome == refused:
		return op, false
	default:
		at, seen := h.seen(e.Path, e.data())
		if !seen {
			return op, false
		}
		op.Input, op.Output, op.Return = access{true, e.data()}, shown{version: -1}, int64(max(at, e.Begin))
	}
	return op, true
}
