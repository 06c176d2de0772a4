package zoocfg

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A rule says what becomes of a key. One of use, passed and refused is set.
type rule struct {
	use func(c *Config, value string) error

	// passed is why the key means nothing here.
	passed string

	// refused is why coord does not do what the key asks for. harmless are the values
	// that ask for nothing, compared without regard to case: these pass.
	refused  string
	harmless []string
	also     func(c *Config) // done for a harmless value

	secret bool // errors must not show its value
}

// set applies one property.
func (c *Config) set(file string, p property) error {
	r, known := ruleOf(p.key)
	if !known {
		return fault(file, p, unknown(p.key))
	}
	value := p.value
	if r.secret {
		p.value = strings.Repeat("x", min(len(value), 8))
	}
	if before, twice := c.given[p.key]; twice {
		if strings.HasPrefix(p.key, "server.") {
			return fault(file, p, fmt.Sprintf("line %d has this server already", before.line))
		}
		c.note(file, before, fmt.Sprintf("line %d says it again, and the last one counts", p.line))
	}
	c.given[p.key] = p
	switch {
	case r.use != nil:
		if err := r.use(c, value); err != nil {
			return fault(file, p, err.Error())
		}
	case r.passed != "":
		c.note(file, p, r.passed)
	case slices.ContainsFunc(r.harmless, func(s string) bool { return strings.EqualFold(s, value) }):
		if r.also != nil {
			r.also(c)
		}
		c.note(file, p, "asks for nothing that coord does otherwise")
	default:
		return fault(file, p, r.refused)
	}
	return nil
}

func (c *Config) note(file string, p property, reason string) {
	c.Notes = append(c.Notes, Note{File: file, Line: p.line, Key: p.key, Reason: reason})
}

func fault(file string, p property, reason string) error {
	return &Error{File: file, Line: p.line, Key: p.key, Value: p.value, Reason: reason}
}

// ruleOf finds the rule of a key, or of the family it belongs to.
func ruleOf(key string) (rule, bool) {
	if r, ok := rules[key]; ok {
		return r, true
	}
	for _, f := range families {
		if rest, ok := strings.CutPrefix(key, f.prefix); ok && rest != "" {
			r := f.rule(rest)
			return r, r.use != nil || r.passed != "" || r.refused != ""
		}
	}
	return rule{}, false
}

// unknown says why a key is refused, and what was probably meant.
func unknown(key string) string {
	for other := range rules {
		if strings.EqualFold(other, key) || strings.EqualFold("zookeeper."+other, key) {
			return "no such key: did you mean " + other + "?"
		}
	}
	return "no such key in ZooKeeper 3.8 or 3.9"
}

// The functions below make rules that put a value into a field.

func text(field func(*Config) *string) rule {
	return rule{use: func(c *Config, v string) error {
		if v == "" {
			return errors.New("is empty")
		}
		*field(c) = v
		return nil
	}}
}

func flag(field func(*Config) *bool) rule {
	return rule{use: func(c *Config, v string) error {
		switch {
		case strings.EqualFold(v, "true"):
			*field(c) = true
		case strings.EqualFold(v, "false"):
			*field(c) = false
		default:
			return errors.New("want true or false")
		}
		return nil
	}}
}

func number(least, most int, field func(*Config) *int) rule {
	return rule{use: func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want a number from %d to %d", least, most)
		}
		*field(c) = n
		return nil
	}}
}

// javaInteger is a number as Java's system properties have it: decimal, 0x…, #… or octal.
func javaInteger(least, most int, field func(*Config) *int) rule {
	return rule{use: func(c *Config, v string) error {
		digits := v
		if hex, ok := strings.CutPrefix(v, "#"); ok {
			digits = "0x" + hex
		}
		n, err := strconv.ParseInt(digits, 0, 64)
		if err != nil || strings.Contains(v, "_") || n < int64(least) || n > int64(most) {
			return fmt.Errorf("want a number from %d to %d", least, most)
		}
		*field(c) = int(n)
		return nil
	}}
}

// milliseconds is a time in milliseconds. Java keeps them in 32 bits.
func milliseconds(least int64, field func(*Config) *time.Duration) rule {
	return rule{use: func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < least || n > math.MaxInt32 {
			return fmt.Errorf("want a number of milliseconds from %d to %d", least, math.MaxInt32)
		}
		*field(c) = time.Duration(n) * time.Millisecond
		return nil
	}}
}

// words is a list with commas between.
func words(field func(*Config) *[]string) rule {
	return rule{use: func(c *Config, v string) error {
		var list []string
		for word := range strings.SplitSeq(v, ",") {
			if word = strings.TrimSpace(word); word != "" {
				list = append(list, word)
			}
		}
		*field(c) = list
		return nil
	}}
}

// address is a host to listen on, without a port.
func address(field func(*Config) *string) rule {
	return rule{use: func(c *Config, v string) error {
		if strings.Contains(v, ":") && !strings.HasPrefix(v, "[") {
			v = "[" + v + "]"
		}
		h, err := host(v)
		if err != nil {
			return err
		}
		*field(c) = h
		return nil
	}}
}
