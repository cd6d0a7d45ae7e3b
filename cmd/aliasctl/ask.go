package main

import (
	"errors"
	"strings"

	"postamt/internal/alias"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/tables"
)

// expand prints the steps of an expansion.
func expand(c *command) error {
	return c.each(func(arg string) error {
		m, err := tables.Mailbox(arg)
		if err != nil {
			c.fail(exDataErr, "expand: %v", err)
			return nil
		}
		var written error
		x, err := c.tables.Explain(m, c.limits(), func(s route.Step) bool {
			written = c.step(arg, &s)
			return written == nil
		})
		if written != nil {
			return written
		}
		var reply *smtp.Reply
		if errors.As(err, &reply) {
			c.refused(reply)
		}
		if route.TooMany(err) { // all else is in the steps
			c.fail(exNoUser, "expand: %s: %v", clean(arg), err)
		}
		for i := range x.Finals {
			if x.Finals[i].Kind == route.Refuse {
				c.refused(x.Finals[i].Reply)
			}
		}
		return nil
	})
}

func (c *command) refused(r *smtp.Reply) {
	code := exNoUser
	if r.Temporary() {
		code = exTempFail
	}
	c.code = max(c.code, code)
}

func (c *command) step(asked string, s *route.Step) error {
	name, kind, detail, at, from := s.Fields()
	fields := []field{{"address", name}, {"kind", kind}, {"detail", detail}, {"at", at}, {"from", from}}
	if c.out.json {
		fields = append([]field{{"asked", asked}, {"depth", s.Depth}}, fields...)
	}
	return c.out.record(2*s.Depth, fields...)
}

// who prints what leads to a target.
func who(c *command) error {
	return c.each(func(arg string) error {
		x, err := alias.ParseTarget(arg)
		if err == nil && x.Kind == alias.Domain {
			err = errors.New("not an address: " + arg)
		}
		if err != nil {
			c.fail(exDataErr, "who: %v", err)
			return nil
		}
		found := false
		var written error
		c.tables.Sources(x, c.limits(), func(s route.Source) bool {
			found = true
			var via []string
			for _, p := range s.Via {
				via = append(via, p.String())
			}
			written = c.out.record(0, field{"target", arg}, field{"key", s.Key}, field{"between", len(s.Via) - 1}, field{"via", via})
			return written == nil
		})
		if !found {
			c.code = max(c.code, exNone)
		}
		return written
	})
}

// list prints all entries.
func list(c *command) error { return c.entries(c.entry) }

func (c *command) entry(e alias.Entry) error {
	var targets []string
	for _, t := range e.Targets() {
		targets = append(targets, t.String())
	}
	if c.out.json {
		return c.out.record(0, field{"key", e.Key()}, field{"targets", targets}, field{"at", e.Pos().String()})
	}
	return c.out.record(0, field{"key", e.Key()}, field{"targets", strings.Join(targets, ", ")}, field{"at", e.Pos().String()})
}

// get prints the entries of keys.
func get(c *command) error {
	return c.each(func(arg string) error {
		e, ok := c.lookup(arg)
		if !ok {
			c.code = max(c.code, exNone)
			return nil
		}
		return c.entry(e)
	})
}

// lookup finds the entry that holds for a key.
func (c *command) lookup(key string) (alias.Entry, bool) {
	return lookup(key, c.tables.Virtual, c.tables.Aliases)
}

func lookup(key string, in ...*alias.Table) (alias.Entry, bool) {
	local, domain := key, ""
	if i := strings.LastIndexByte(key, '@'); i >= 0 {
		local, domain = key[:i], key[i+1:]
	}
	for _, t := range in {
		if e, ok := t.Lookup(local, domain); ok {
			return e, true
		}
	}
	return alias.Entry{}, false
}
