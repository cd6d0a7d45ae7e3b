package imap

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// URL is an IMAP URL of a message or of a part of it (RFC 5092 section 6): imapurl, inetwork-path or iabsolute-path, with imessagepart behind it. There is none of
// URLAUTH's, and no relative-path, which section 7.2 forbids to accept.
type URL struct {
	Server      bool   // it names one: with User, Host and Port
	User        string // "": nobody
	Host, Port  string
	Mailbox     string // UTF-8
	UIDValidity uint32 // 0: not given
	UID         uint32
	Section     // with its partial; Count is 0 for all that follows the offset
}

// MaxURL is the most octets of a URL: mailbox names and sections have fewer.
const MaxURL = 4 << 10

// ParseURL parses one.
func ParseURL(s string) (u URL, ok bool) {
	if len(s) > MaxURL {
		return u, false
	}
	if len(s) > 5 && strings.EqualFold(s[:5], "imap:") {
		if s = s[5:]; !strings.HasPrefix(s, "//") {
			return u, false
		}
	}
	if rest, found := strings.CutPrefix(s, "//"); found {
		authority, _, _ := strings.Cut(rest, "/")
		s = rest[len(authority):]
		if !u.authority(authority) {
			return u, false
		}
	}
	s, ok = strings.CutPrefix(s, "/")
	if !ok {
		return u, false
	}
	// In what is encoded there is no ";" (bchar).
	i := strings.IndexByte(s, ';')
	if i < 0 {
		return u, false
	}
	name, s := s[:i], s[i:]
	validity := ""
	if validity, s, ok = cutField(s, ";UIDVALIDITY="); ok {
		if u.UIDValidity, ok = nonZero(validity); !ok {
			return u, false
		}
	} else if name, ok = strings.CutSuffix(name, "/"); !ok {
		return u, false
	}
	uid, s, ok := cutField(s, ";UID=")
	if !ok {
		return u, false
	}
	if u.UID, ok = nonZero(uid); !ok {
		return u, false
	}
	if u.Mailbox, ok = unescape(name); !ok || u.Mailbox == "" || !isName(u.Mailbox) {
		return u, false
	}
	if strings.EqualFold(u.Mailbox, "INBOX") {
		u.Mailbox = "INBOX"
	}
	return u, u.part(s)
}

// authority reads iserver = [iuserinfo "@"] host [":" port]. How somebody has logged in is nothing that a URL changes.
func (u *URL) authority(s string) (ok bool) {
	u.Server = true
	if info, host, found := strings.Cut(s, "@"); found {
		s = host
		info, _, _ = cutFold(info, ";AUTH=")
		if u.User, ok = unescape(info); !ok {
			return false
		}
	}
	u.Host, u.Port, _ = strings.Cut(s, ":")
	return u.Host != ""
}

// part reads [isection] [ipartial].
func (u *URL) part(s string) (ok bool) {
	section, partial, isPartial := cutFold(s, ";PARTIAL=")
	if section != "" {
		if section, ok = strings.CutPrefix(strings.TrimSuffix(section, "/"), ";"); !ok {
			return false
		}
		name, spec, _ := strings.Cut(section, "=")
		if spec, ok = unescape(spec); !ok || spec == "" || !strings.EqualFold(name, "SECTION") {
			return false
		}
		d := Decoder{c: &Conn{}, line: []byte("[" + spec + "]")}
		if u.Section = d.section(false); d.End() != nil {
			return false
		}
	}
	if !isPartial {
		return section == "" || !strings.HasSuffix(s, "/")
	}
	offset, count, bounded := strings.Cut(partial, ".")
	var err error
	u.Partial = true
	if u.Offset, err = strconv.ParseInt(offset, 10, 63); err != nil || u.Offset < 0 {
		return false
	}
	if bounded {
		u.Count, err = strconv.ParseInt(count, 10, 63)
		return err == nil && u.Count > 0
	}
	return true
}

// cutField takes ";NAME=value" off the front, up to the next "/".
func cutField(s, name string) (value, rest string, ok bool) {
	if len(s) < len(name) || !strings.EqualFold(s[:len(name)], name) {
		return "", s, false
	}
	value, rest, _ = strings.Cut(s[len(name):], "/")
	return value, rest, true
}

// cutFold is strings.Cut at a separator of any case.
func cutFold(s, sep string) (before, after string, found bool) {
	for i := 0; i+len(sep) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sep)], sep) {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
}

func nonZero(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && s[0] != '0' && s[0] != '+'
}

// unescape takes the percent-encoding off. RFC 5092 section 8: what it stands for is UTF-8.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			if i+3 > len(s) {
				return "", false
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c = byte(n)
			i += 2
		case c <= ' ' || c == '?' || c == '#' || c == ';' || c >= 0x7f:
			return "", false
		}
		b.WriteByte(c)
	}
	return b.String(), utf8.ValidString(b.String())
}

// CodeBadURL is the code of RFC 4469, with the URL that led nowhere.
func CodeBadURL(url string) string { return "BADURL " + url }
