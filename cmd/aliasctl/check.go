package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postamt/internal/alias"
	"postamt/internal/route"
)

// check prints what is wrong in all files.
func check(c *command) error {
	k := checker{command: c, seen: make(map[alias.Problem]bool)}
	k.modes()
	for _, t := range []*alias.Table{c.tables.Virtual, c.tables.Aliases} {
		for e := range t.Entries() {
			k.entry(t, e)
		}
	}
	for _, err := range c.wrong { // by now those of the list files too
		var p alias.Problem
		if !errors.As(err, &p) {
			p = alias.Problem{Text: err.Error()}
		}
		k.add(p)
	}
	slices.SortStableFunc(k.found, func(a, b alias.Problem) int {
		return cmp.Or(strings.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	for _, p := range k.found {
		if !p.Warning {
			c.code = exDataErr
		}
		if err := c.problem(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *command) problem(p alias.Problem) error {
	if c.out.json {
		kind := "error"
		if p.Warning {
			kind = "warning"
		}
		return c.out.record(0, field{"at", p.Pos.String()}, field{"kind", kind}, field{"text", p.Text})
	}
	if p.Pos.File == "" {
		return c.out.record(0, field{"", p.Text})
	}
	return c.out.record(0, field{"", p.Error()})
}

type checker struct {
	*command
	seen  map[alias.Problem]bool
	found []alias.Problem
}

func (k *checker) add(p alias.Problem) {
	if !k.seen[p] {
		k.seen[p] = true
		k.found = append(k.found, p)
	}
}

func (k *checker) error(at alias.Pos, format string, args ...any) {
	k.add(alias.Problem{Pos: at, Text: fmt.Sprintf(format, args...)})
}

func (k *checker) warn(at alias.Pos, format string, args ...any) {
	k.add(alias.Problem{Pos: at, Text: fmt.Sprintf(format, args...), Warning: true})
}

// modes: everybody may not write an alias file, or no program reads it. Its group may, and that may be meant.
func (k *checker) modes() {
	for _, path := range slices.Concat(k.conf.VirtualAliases, k.conf.Aliases) {
		if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o020 != 0 {
			k.warn(alias.Pos{File: path}, "its group may write it, and so say who gets whose mail (chmod g-w mends it)")
		}
	}
}

// entry follows one entry.
func (k *checker) entry(t *alias.Table, e alias.Entry) {
	all := strings.HasPrefix(e.Key(), "@")
	for _, x := range e.Targets() {
		k.target(&x)
	}
	_, err := k.tables.Explain(k.tables.KeyAddress(e.Key()), k.limits(), func(s route.Step) bool {
		if s.Depth == 0 && s.Source != e.Pos() {
			// Of one key twice in files of one kind it has been told where they are read.
			if strings.Contains(e.Key(), "@") || len(k.tables.LocalDomains) == 1 {
				if first, ok := lookup(e.Key(), t); !ok || first == e {
					k.warn(e.Pos(), "mail for %s goes by %v, which is asked first", e.Key(), s.Source)
				}
			}
			return false
		}
		if s.Kind == route.Refuse && s.Depth > 0 && !(all && s.Target.Kind == alias.Domain) {
			k.refused(&s)
		}
		return true
	})
	if route.TooMany(err) { // it is stopped there, and that is no step
		k.error(e.Pos(), "%s stands for more than alias_expansion (%d) targets", e.Key(), k.conf.AliasExpansion)
	}
}

// refused is a target of which nobody gets mail. That may be meant, or was told when its file was read.
func (k *checker) refused(s *route.Step) {
	switch s.Target.Kind {
	case alias.Bad, alias.Fail, alias.Defer:
	case alias.Pipe, alias.File:
		k.error(s.Target.Pos, "%v: %v", s.Target, s.Reply)
	default:
		if s.Reply.Permanent() {
			k.error(s.Target.Pos, "%v: %v", s.Target, s.Reply)
		}
	}
}

// target looks at what a target names outside of the tables.
func (k *checker) target(x *alias.Target) {
	switch x.Kind {
	case alias.Pipe:
		word, _, _ := strings.Cut(x.Text, " ")
		if !filepath.IsAbs(word) {
			return // the shell finds it, or knows it
		}
		if st, err := os.Stat(word); err != nil {
			k.warn(x.Pos, "%v", err)
		} else if !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 {
			k.warn(x.Pos, "%s is no executable file", word)
		}
	case alias.File:
		if _, err := os.Stat(filepath.Dir(filepath.Clean(x.Text))); err != nil {
			k.warn(x.Pos, "%v", err)
		}
	}
}
