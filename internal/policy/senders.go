// Package policy decides what users of ours may do, from values: no files, no clock, no network.
package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postamt/internal/addr"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/userdb"
)

// Senders says which addresses a login may write as the sender: its own, with any tag; those of aliases that stand for it,
// alone or among others; and those that Rules gives it. Zero Rules give nobody anything.
type Senders struct {
	Tables *route.Tables
	Limits route.Limits
	Rules  Rules
}

// May is nil if it may, else the refusal; or a temporary one, when a table cannot tell.
func (s *Senders) May(login string, from addr.Mailbox) *smtp.Reply {
	if s.Rules.allow(login, from) {
		return nil
	}
	x, err := s.Tables.Expand(from, s.Limits)
	if err != nil {
		var r *smtp.Reply
		if errors.As(err, &r) && r.Temporary() {
			return r
		}
		return notYours(login, from)
	}
	for i := range x.Finals {
		if f := &x.Finals[i]; f.Kind == route.Mailbox && f.User == login {
			return nil
		}
	}
	return notYours(login, from)
}

// RFC 6409 section 6.1: a server may refuse a return path that the user may not use; 5.7.1 of RFC 3463.
func notYours(login string, from addr.Mailbox) *smtp.Reply {
	return smtp.NewReply(553, "5.7.1", "<"+from.String()+"> is not an address of "+login)
}

// Rules are the lines of a senders(5) file.
type Rules map[string][]pattern

// pattern is one address, a domain, or any.
type pattern struct {
	key    string // of the address
	domain string
	any    bool
}

func (r Rules) allow(login string, from addr.Mailbox) bool {
	domain := from.Domain
	if a, err := addr.ASCIIDomain(domain); err == nil { // rules have A-labels
		domain = a
	}
	for _, p := range r[login] {
		if p.any || p.domain != "" && strings.EqualFold(p.domain, domain) || p.key != "" && p.key == from.Key() {
			return true
		}
	}
	return false
}

// MaxRules bounds a senders file, in octets.
const MaxRules = 64 << 20

// ParseRules reads a senders file: a login, and the addresses that it may use besides its own, as ADDRESS, @DOMAIN or *. A file
// with an error is refused as a whole, with all of them: half of the rules would be another policy.
func ParseRules(file, text string) (Rules, error) {
	r := Rules{}
	var errs []error
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		bad := func(err error) { errs = append(errs, fmt.Errorf("%s:%d: %w", file, n, err)) }
		login, err := userdb.Canonical(f[0])
		if err != nil {
			bad(err)
			continue
		}
		if len(f) == 1 {
			bad(fmt.Errorf("%s: which addresses?", login))
		}
		for _, w := range f[1:] {
			p, err := parsePattern(w)
			if err != nil {
				bad(err)
				continue
			}
			r[login] = append(r[login], p)
		}
		if len(errs) > 100 {
			break
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, nil
}

func parsePattern(w string) (pattern, error) {
	if w == "*" {
		return pattern{any: true}, nil
	}
	if d, ok := strings.CutPrefix(w, "@"); ok {
		domain, err := addr.ParseDomain(d, true)
		if err == nil {
			domain, err = addr.ASCIIDomain(domain)
		}
		if err != nil {
			return pattern{}, fmt.Errorf("%s: not a domain", strconv.Quote(w))
		}
		return pattern{domain: domain}, nil
	}
	m, err := addr.Parse(w, true)
	if err != nil || m.Domain == "" {
		return pattern{}, fmt.Errorf("%s is none of ADDRESS, @DOMAIN and *", strconv.Quote(w))
	}
	return pattern{key: m.Key()}, nil
}
