package tables

import (
	"errors"
	"fmt"
	"time"

	"postamt/internal/addr"
	"postamt/internal/route"
	"postamt/internal/srs"
)

// returns is route.Returns by package srs.
type returns struct {
	codec  *srs.Codec
	domain string
	now    func() time.Time
}

func openSRS(path, domain string, now func() time.Time) (route.Returns, error) {
	text, info, err := read(path, 1<<20, 0o022)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o004 != 0 {
		return nil, fmt.Errorf("%s: readable by everyone (chmod o-r mends it)", path)
	}
	keys, err := srs.ParseKeys([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if domain, err = addr.ASCIIDomain(domain); err != nil {
		return nil, fmt.Errorf("srs_domain: %w", err)
	}
	codec, err := srs.New(domain, keys)
	return returns{codec, domain, now}, err
}

// Rewrite implements route.Returns.
func (r returns) Rewrite(sender addr.Mailbox) addr.Mailbox {
	m, err := r.codec.Forward(sender, r.now())
	if err != nil {
		return sender // too long: better a sender that SPF does not know than none
	}
	return m
}

// Token implements route.Returns.
func (r returns) Token(address, member addr.Mailbox) string {
	return r.codec.Token("unsubscribe", address.Key(), member.Key())
}

// Made implements route.Returns.
func (r returns) Made(token string, address, member addr.Mailbox) bool {
	return r.codec.Made(token, "unsubscribe", address.Key(), member.Key())
}

// Return implements route.Returns.
func (r returns) Return(local, domain string) (addr.Mailbox, bool, error) {
	if domain != r.domain {
		return addr.Mailbox{}, false, nil
	}
	m, err := r.codec.Reverse(local, r.now())
	if errors.Is(err, srs.ErrNotSRS) {
		return m, false, nil
	}
	if err == nil && m.Domain == r.domain { // it has come by us before
		if first, err := r.codec.Reverse(m.Local, r.now()); !errors.Is(err, srs.ErrNotSRS) {
			return first, err == nil, err
		}
	}
	return m, err == nil, err
}
