// Package srs rewrites the envelope sender of forwarded mail into an address of ours, and back when a report comes to it: the
// Sender Rewriting Scheme, so that a forwarded message passes SPF where it goes, and a bounce of it still reaches who sent it.
//
//	alice@a.example             SRS0=HHHH=TT=a.example=alice@ours
//	SRS0=hhhh=tt=...@b.example  SRS1=HHHH=b.example==hhhh=tt=...@ours
//	SRS1=xxxx=b.example==...@c  SRS1=HHHH=b.example==...@ours
//
// HHHH is the beginning of an HMAC-SHA1, in base64, of what follows it, in lower case; TT the day, in base32. This is the Guarded scheme of
// Mail::SRS and libsrs2, which postsrsd, Exim and python3-srs have too: with their keys a host moves here or there, and
// what either has signed the other reverses. An SRS1 address names the first forwarder and not each, so it does not grow.
//
//   - Mail systems fold the case of local parts: neither the hash nor the day depends on it. Of a folded address the
//     sender comes back folded.
//   - Four characters of base64 without case are some 20 bits. Who guesses one makes us send to one address for 21 days; the
//     limits of smtpd on wrong recipients stand before that. A longer hash would be paid for by the next point.
//   - RFC 5321 section 4.5.3.1.1: a local part has 64 octets at most, and SRS0 needs 14 of them and the sender's domain. What does not fit is
//     ErrLong; a forwarder then keeps the sender. The mail may fail SPF there, which is better than a return path that hosts
//     refuse, ours among them. The other programs send longer ones.
//   - A day that comes is good too: of two hosts with one key one may be past midnight already.
//   - SRS1 in its form before the hash was added ("SRS1=host==...") is no SRS1 here.
//
// The package is pure: keys and times go in. A Codec may be used by several goroutines.
package srs

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	b32 "encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"postamt/internal/addr"
)

// The errors of this package. The texts are fit to be shown to a peer.
var (
	ErrNotSRS  = errors.New("not an SRS address")
	ErrHash    = errors.New("SRS address with a wrong hash")
	ErrExpired = errors.New("SRS address is too old")
	ErrLong    = errors.New("SRS address would be longer than 64 octets")
)

const (
	maxAge     = 21 // days, as with the others
	days       = 1024
	hashLength = 4  // of what we sign, and the least that we take
	maxHash    = 27 // base64 of 20 octets
	minKey     = 16
	maxKeys    = 32
	base32     = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

// Codec signs and verifies for one domain.
type Codec struct {
	domain string
	keys   [][]byte
}

// New makes a Codec that rewrites to domain, which is as addr has it. The first of the keys signs, each verifies: a new key is put in front, and
// the old one taken out after 21 days. They are not copied.
func New(domain string, keys [][]byte) (*Codec, error) {
	ascii, err := addr.ASCIIDomain(domain)
	if err != nil || domain == "" {
		return nil, fmt.Errorf("srs: domain %q: %w", domain, addr.ErrDomain)
	}
	if len(keys) == 0 {
		return nil, errors.New("srs: no key")
	}
	return &Codec{domain: ascii, keys: keys}, nil
}

// ParseKeys reads the keys of a file: one a line, as postsrsd has them. Empty lines and those that begin with "#" are none.
// What anybody can see of a hash must not be enough to find the key: the first has 16 octets at least. Older ones may be shorter,
// since what they have signed is out already.
func ParseKeys(text []byte) (keys [][]byte, err error) {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		switch {
		case bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }):
			err = errors.New("control character in a key")
		case line[0] == ' ' || line[len(line)-1] == ' ':
			err = errors.New("space at the beginning or end of a key")
		case len(keys) == 0 && len(line) < minKey:
			err = fmt.Errorf("the first key is shorter than %d octets", minKey)
		case len(keys) == maxKeys:
			err = fmt.Errorf("more than %d keys", maxKeys)
		}
		if err != nil {
			return nil, fmt.Errorf("srs: line %d: %w", n, err)
		}
		keys = append(keys, bytes.Clone(line))
	}
	if len(keys) == 0 {
		return nil, errors.New("srs: no key")
	}
	return keys, nil
}

// Forward is the sender of a message of sender that we forward. The null path, a sender without a domain and one of our domain stay as they are.
// The error is ErrLong.
func (c *Codec) Forward(sender addr.Mailbox, now time.Time) (addr.Mailbox, error) {
	host, err := addr.ASCIIDomain(sender.Domain)
	if err != nil {
		return addr.Mailbox{}, err
	}
	if host == "" || strings.EqualFold(host, c.domain) {
		return sender, nil
	}
	local := ""
	if _, first, rest, ok := parse1(sender.Local); ok {
		local = c.srs1(first, rest)
	} else if rest, ok := cutTag(sender.Local, "SRS0"); ok {
		local = c.srs1(host, rest)
	} else {
		day := int(now.Unix()/(24*60*60)) & (days - 1)
		stamp := string([]byte{base32[day>>5], base32[day&31]})
		local = "SRS0=" + hash(c.keys[0], stamp, host, sender.Local)[:hashLength] + "=" + stamp + "=" + host + "=" + sender.Local
	}
	if len(local) > addr.MaxLocal {
		return addr.Mailbox{}, ErrLong
	}
	return addr.Mailbox{Local: local, Domain: c.domain}, nil
}

func (c *Codec) srs1(host, rest string) string {
	return "SRS1=" + hash(c.keys[0], host, rest)[:hashLength] + "=" + host + "=" + rest
}

// Reverse is who the report is for that comes to local at our domain: the sender of an SRS0 address, the first forwarder's SRS0
// address of an SRS1 one. ErrNotSRS: it is neither and means something else, or nothing. ErrHash and ErrExpired: nobody.
func (c *Codec) Reverse(local string, now time.Time) (addr.Mailbox, error) {
	if mac, host, inner, ok := parse1(local); ok {
		if !c.verify(mac, host, inner) {
			return addr.Mailbox{}, ErrHash
		}
		return checked("SRS0"+inner, host)
	}
	rest, ok := cutTag(local, "SRS0")
	if !ok {
		return addr.Mailbox{}, ErrNotSRS
	}
	part := strings.SplitN(rest[1:], "=", 4)
	if len(part) != 4 {
		return addr.Mailbox{}, ErrNotSRS
	}
	host, ok := parseHost(part[2])
	day, fine := parseDay(part[1])
	if !ok || !fine {
		return addr.Mailbox{}, ErrNotSRS
	}
	if !c.verify(part[0], part[1], part[2], part[3]) {
		return addr.Mailbox{}, ErrHash
	}
	// From tomorrow's, which is 0, on.
	if age := (int(now.Unix()/(24*60*60)) + 1 - day) & (days - 1); age > maxAge+1 {
		return addr.Mailbox{}, ErrExpired
	}
	return checked(part[3], host)
}

// checked is the mailbox if addr reads what it prints of it. That we have signed it does not say that: another program has, perhaps.
func checked(local, domain string) (addr.Mailbox, error) {
	m, err := addr.Parse(addr.Mailbox{Local: local, Domain: domain}.String(), true)
	if err != nil {
		return addr.Mailbox{}, ErrNotSRS
	}
	return m, nil
}

// parse1 takes an SRS1 address apart: hash, the host of the first forwarder, and what stands after "SRS0" there, with the separator.
func parse1(local string) (mac, host, inner string, ok bool) {
	rest, ok := cutTag(local, "SRS1")
	if !ok {
		return "", "", "", false
	}
	part := strings.SplitN(rest[1:], "=", 3)
	// Without a separator the host would get mail for any address of it that begins with SRS0.
	if len(part) != 3 || len(part[2]) < 2 || !isSeparator(part[2][0]) {
		return "", "", "", false
	}
	host, ok = parseHost(part[1])
	return part[0], host, part[2], ok
}

// cutTag cuts the tag from an address that has it, in any case, and behind it one of three separators and something more.
func cutTag(local, tag string) (rest string, ok bool) {
	if len(local) < len(tag)+2 || !strings.EqualFold(local[:len(tag)], tag) || !isSeparator(local[len(tag)]) {
		return "", false
	}
	return local[len(tag):], true
}

func isSeparator(c byte) bool { return c == '=' || c == '-' || c == '+' }

func parseHost(s string) (string, bool) {
	host, err := addr.ParseDomain(s, false)
	if strings.HasPrefix(s, "[") {
		host, err = addr.ParseLiteral(s)
	}
	return host, err == nil
}

func parseDay(s string) (day int, ok bool) {
	if len(s) != 2 {
		return 0, false
	}
	for _, c := range []byte(s) {
		if 'a' <= c && c <= 'z' {
			c &^= 0x20
		}
		i := strings.IndexByte(base32, c)
		if i < 0 {
			return 0, false
		}
		day = day<<5 | i
	}
	return day, true
}

// verify says whether a key has signed the fields, in a time that does not depend on where a hash differs.
func (c *Codec) verify(mac string, fields ...string) bool {
	if len(mac) < hashLength || len(mac) > maxHash {
		return false
	}
	good := 0
	for _, k := range c.keys {
		good |= subtle.ConstantTimeCompare([]byte(lower(mac)), []byte(lower(hash(k, fields...)[:len(mac)])))
	}
	return good == 1
}

// Token is a word of 10 letters and digits that only who has the first key can make for these fields, whose case does not matter.
func (c *Codec) Token(fields ...string) string { return token(c.keys[0], fields) }

// Made says whether a key has made a token for the fields.
func (c *Codec) Made(word string, fields ...string) bool {
	good := 0
	for _, k := range c.keys {
		good |= subtle.ConstantTimeCompare([]byte(lower(word)), []byte(token(k, fields)))
	}
	return good == 1
}

func token(key []byte, fields []string) string {
	h := hmac.New(sha256.New, key)
	for _, f := range fields {
		h.Write(append([]byte(lower(f)), 0))
	}
	return strings.ToLower(b32.HexEncoding.EncodeToString(h.Sum(nil)[:10])[:10])
}

func hash(key []byte, fields ...string) string {
	h := hmac.New(sha1.New, key)
	for _, f := range fields {
		h.Write([]byte(lower(f)))
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// lower folds ASCII alone, octet by octet, as the others do.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}
