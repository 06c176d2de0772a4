// Package script is a language of operations that clients of ZooKeeper send, by
// connections with names, one operation a line:
//
//	a connect
//	a create path="~/x" data="1"
//	b connect
//	b getData path="~/x" watch &
//	b exists path="~/y" watch
//	a multi { setData path="~/x" version=-1 ; delete path="~/x" version=1 }
//	b drop
//	c resume from="b"
//
// What an operation does not name is zero, empty or false; an ACL that is not named is
// open to everyone. Null strings and buffers are written as null. The first "~" in a path
// stands for a znode that is the script's own, so that many scripts may run against one
// server. A line that ends in "&" is sent together with the next one, which must be
// of the same connection. Lines that begin with "#" and empty ones mean nothing.
package script

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Null is the string or buffer that is not there.
const Null = "\x00"

// A Script is operations in the order in which they are carried out.
type Script []Step

// A Step is an operation of a connection.
type Step struct {
	Conn string
	Op   Op
	More bool // whether the next step is sent before an answer to this one is awaited
}

// An Op is what a connection does. Fields that its kind has no use for are zero.
type Op struct { //nolint:recvcheck // the parser sets fields of what is a value otherwise
	Kind    string
	Path    string `arg:"path"`
	Data    string `arg:"data"`
	Size    int64  `arg:"size"` // of data, which is repeated until it has so many bytes
	ACL     string `arg:"acl"`  // "perms:scheme:id", several separated by "|"; or Null, or "empty"
	Flags   int64  `arg:"flags"`
	TTL     int64  `arg:"ttl"`
	Version int64  `arg:"version"`
	Watch   bool   `arg:"watch"`
	Type    int64  `arg:"type"` // of a watch, of an auth packet, or of a request of kind raw
	Mode    int64  `arg:"mode"` // of addWatch
	Scheme  string `arg:"scheme"`
	Xid     int64  `arg:"xid"` // of the request, if it is not that which clients of Java send

	// Of setWatches and setWatches2.
	Since      string   `arg:"since"` // "" for zero, "now", or the name of a mark
	DataList   []string `arg:"dataWatches"`
	ExistList  []string `arg:"existWatches"`
	ChildList  []string `arg:"childWatches"`
	PersList   []string `arg:"persistentWatches"`
	RecursList []string `arg:"recursiveWatches"`

	// Of connect and resume.
	From     string `arg:"from"`    // the connection whose session is taken over
	Server   int64  `arg:"server"`  // its index
	Timeout  int64  `arg:"timeout"` // milliseconds; 30 s if zero
	Password string `arg:"password"`
	ReadOnly bool   `arg:"readOnly"`
	Old      bool   `arg:"old"`  // whether the handshake lacks the byte for read-only clients
	Seen     string `arg:"seen"` // the last zxid seen: as Since, or "future"

	// Of reconfig.
	Joining string `arg:"joining"`
	Leaving string `arg:"leaving"`
	Members string `arg:"members"`

	Ops []Op // of multi and multiRead
}

// String returns the script in its language.
func (s Script) String() string {
	var b strings.Builder
	for _, step := range s {
		b.WriteString(step.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String returns the step in the script's language.
func (s Step) String() string {
	text := s.Conn + " " + s.Op.String()
	if s.More {
		text += " &"
	}
	return text
}

// String returns the operation in the script's language.
func (o Op) String() string {
	words := []string{o.Kind}
	for i, arg := range args(&o) {
		if word := printArg(argNames[i], arg); word != "" {
			words = append(words, word)
		}
	}
	if o.Ops != nil {
		var ops []string
		for _, op := range o.Ops {
			ops = append(ops, op.String())
		}
		words = append(words, "{")
		if len(ops) > 0 {
			words = append(words, strings.Join(ops, " ; "))
		}
		words = append(words, "}")
	}
	return strings.Join(words, " ")
}

func printArg(name string, v reflect.Value) string {
	if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return ""
	}
	switch x := v.Interface().(type) {
	case bool:
		return name
	case int64:
		return name + "=" + strconv.FormatInt(x, 10)
	case string:
		return name + "=" + quote(x)
	case []string:
		var b strings.Builder
		for i, s := range x {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(quote(s))
		}
		return name + "=" + b.String()
	default:
		panic("script: unreachable: argument of type " + v.Type().String())
	}
}

func quote(s string) string {
	if s == Null {
		return "null"
	}
	return strconv.Quote(s)
}

// argNames has the names of an operation's arguments, in the order of args.
var argNames = func() []string {
	var names []string
	for f := range reflect.TypeFor[Op]().Fields() {
		if name := f.Tag.Get("arg"); name != "" {
			names = append(names, name)
		}
	}
	return names
}()

// args returns the arguments of an operation, to be read or set.
func args(o *Op) []reflect.Value {
	var values []reflect.Value
	for f, v := range reflect.ValueOf(o).Elem().Fields() {
		if f.Tag.Get("arg") != "" {
			values = append(values, v)
		}
	}
	return values
}

// Parse reads a script.
func Parse(text string) (Script, error) {
	var s Script
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		step, err := parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("script: line %d: %w", n+1, err)
		}
		if last := len(s) - 1; last >= 0 && s[last].More && s[last].Conn != step.Conn {
			return nil, fmt.Errorf("script: line %d: of %s, but sent together with one of %s", n+1, step.Conn, s[last].Conn)
		}
		s = append(s, step)
	}
	return s, nil
}

func parseStep(line string) (Step, error) {
	p := &parser{rest: line}
	step := Step{Conn: p.word()}
	op, err := p.op()
	if err != nil {
		return Step{}, err
	}
	step.Op = op
	if p.peek() == "&" {
		p.word()
		step.More = true
	}
	if rest := p.word(); rest != "" {
		return Step{}, fmt.Errorf("what is %q?", rest)
	}
	return step, nil
}

// A parser walks a line. Words are separated by blanks; quoted strings may hold blanks.
type parser struct{ rest string }

func (p *parser) peek() string {
	q := *p
	return q.word()
}

func (p *parser) word() string {
	p.rest = strings.TrimLeft(p.rest, " \t")
	i, quoted := 0, false
	for ; i < len(p.rest); i++ {
		c := p.rest[i]
		if quoted && c == '\\' {
			i++
			continue
		}
		if c == '"' {
			quoted = !quoted
		}
		if !quoted && (c == ' ' || c == '\t') {
			break
		}
	}
	i = min(i, len(p.rest))
	word := p.rest[:i]
	p.rest = p.rest[i:]
	return word
}

func (p *parser) op() (Op, error) {
	o := Op{Kind: p.word()}
	if !kinds[o.Kind] {
		return Op{}, fmt.Errorf("no operation is called %q", o.Kind)
	}
	for {
		switch word := p.peek(); word {
		case "", "&", ";", "}":
			return o, nil
		case "{":
			p.word()
			if err := p.ops(&o); err != nil {
				return Op{}, err
			}
			return o, nil
		default:
			p.word()
			if err := o.set(word); err != nil {
				return Op{}, err
			}
		}
	}
}

func (p *parser) ops(o *Op) error {
	o.Ops = []Op{}
	for p.peek() != "}" {
		sub, err := p.op()
		if err != nil {
			return err
		}
		o.Ops = append(o.Ops, sub)
		switch p.peek() {
		case ";":
			p.word()
		case "}":
		default:
			return fmt.Errorf("%q where an operation should end", p.peek())
		}
	}
	p.word()
	return nil
}

// set sets one argument from its text.
func (o *Op) set(word string) error {
	name, text, _ := strings.Cut(word, "=")
	for i, v := range args(o) {
		if argNames[i] != name {
			continue
		}
		return setArg(v, text)
	}
	return fmt.Errorf("no argument is called %q", name)
}

func setArg(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case bool:
		v.SetBool(true)
		return nil
	case int64:
		n, err := strconv.ParseInt(text, 0, 64)
		v.SetInt(n)
		return err
	case string:
		s, rest, err := unquote(text)
		if err != nil || rest != "" {
			return fmt.Errorf("not a string: %s", text)
		}
		v.SetString(s)
		return nil
	default:
		list := []string{}
		for more := true; more; {
			s, rest, err := unquote(text)
			if err != nil {
				return fmt.Errorf("not a string: %s", text)
			}
			list = append(list, s)
			text, more = strings.CutPrefix(rest, ",")
		}
		v.Set(reflect.ValueOf(list))
		return nil
	}
}

// unquote takes a string from the beginning of text.
func unquote(text string) (s, rest string, err error) {
	if after, ok := strings.CutPrefix(text, "null"); ok {
		return Null, after, nil
	}
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", err
	}
	s, err = strconv.Unquote(quoted)
	return s, text[len(quoted):], err
}
