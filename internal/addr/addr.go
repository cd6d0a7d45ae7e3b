// Package addr parses, prints and compares mail addresses (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
//
// The grammar is taken strictly: what does not match is an error, and nothing is repaired or truncated. The length limits of
// RFC 5321 section 4.5.3.1 are part of it: 64 octets of local part (the characters themselves, without quoting), 255 of domain,
// 256 of path with its brackets and source route, 63 of a label (RFC 1035). There is no meaning in any character of a local part: "%", "!" and "+" are
// ordinary here, and nothing that this package returns is fit for a shell or a file name.
//
// Where this differs from the RFCs:
//   - An IPv4 literal with leading zeros ("[010.0.0.1]") is refused: half of the world reads it as octal.
//   - Of the tagged literals only IPv6 is known; no other tag was ever registered. IPv6 literals are rewritten in the form of RFC 5952.
//   - A control character of ISO 8859-1 (U+0080 to U+009F) is refused in an internationalised local part, although RFC 6531 lets
//     every non-ASCII character pass: on a terminal it is an escape sequence.
package addr

import (
	"errors"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 5321 section 4.5.3.1, in octets.
const (
	MaxLocal  = 64
	MaxDomain = 255
	MaxPath   = 256 // with the brackets

	maxLabel = 63 // RFC 1035 section 2.3.4
)

// Mailbox is one mail address. The zero value is the null reverse-path <>.
// Domain is empty only for the null path and for the bare <postmaster> of RFC 5321 section 4.5.1.
// Two mailboxes are compared by Key, not with ==. Parse does not read a bare "postmaster": who stores one gives it a domain first.
type Mailbox struct {
	Local  string // local part, unquoted: the characters themselves, as written (case kept)
	Domain string // lower case; or an address literal with its brackets, "[192.0.2.1]" or "[IPv6:2001:db8::1]"
}

// The errors of this package; their texts are fit to be shown to a peer.
var (
	ErrSyntax      = errors.New("syntax error in address")
	ErrLocalSyntax = errors.New("syntax error in local part of address")
	ErrDomain      = errors.New("syntax error in domain of address")
	ErrLocalLong   = errors.New("local part longer than 64 octets")
	ErrDomainLong  = errors.New("domain longer than 255 octets, or a label of it longer than 63")
	ErrPathLong    = errors.New("address longer than 256 octets")
	ErrNotASCII    = errors.New("address is not ASCII") // it needs RFC 6531, which the caller did not admit
	ErrUTF8        = errors.New("address is not valid UTF-8")
)

// Parse reads "local@domain", strictly; no angle brackets, no source route. utf8 admits RFC 6531 addresses.
func Parse(s string, utf8 bool) (Mailbox, error) {
	if len(s) > MaxPath-len("<>") {
		return Mailbox{}, ErrPathLong
	}
	m, rest, err := mailbox(s, utf8)
	if err == nil && rest != "" {
		err = ErrSyntax
	}
	if err != nil {
		return Mailbox{}, err
	}
	return m, nil
}

// ParsePath reads a path "<...>" at the start of s (source routes are dropped, RFC 5321 appendix C) and returns what follows it.
// "<>" is the null path; "<postmaster>" in any case has no domain.
func ParsePath(s string, utf8 bool) (m Mailbox, rest string, err error) {
	if s == "" || s[0] != '<' {
		return Mailbox{}, s, ErrSyntax
	}
	p := s[1:]
	if strings.HasPrefix(p, "@") {
		// RFC 5321 section 4.1.2: A-d-l = At-domain *( "," At-domain ), then ":".
		if p, err = sourceRoute(p, utf8); err != nil {
			return Mailbox{}, s, err
		}
	} else {
		if strings.HasPrefix(p, ">") {
			return Mailbox{}, p[1:], nil
		}
		// RFC 5321 section 4.5.1: "RCPT TO:<postmaster>", without a domain, is for us.
		const pm = "postmaster"
		if len(p) > len(pm) && p[len(pm)] == '>' && strings.EqualFold(p[:len(pm)], pm) {
			return Mailbox{Local: p[:len(pm)]}, p[len(pm)+1:], nil
		}
	}
	m, p, err = mailbox(p, utf8)
	if err != nil {
		return Mailbox{}, s, err
	}
	if !strings.HasPrefix(p, ">") {
		return Mailbox{}, s, ErrSyntax
	}
	p = p[1:]
	if len(s)-len(p) > MaxPath {
		return Mailbox{}, s, ErrPathLong
	}
	return m, p, nil
}

// sourceRoute skips "@a,@b:" and returns what follows the colon.
func sourceRoute(p string, utf8 bool) (string, error) {
	for {
		if !strings.HasPrefix(p, "@") {
			return p, ErrSyntax
		}
		_, rest, err := domain(p[1:], utf8)
		if err != nil {
			return p, err
		}
		switch {
		case strings.HasPrefix(rest, ":"):
			return rest[1:], nil
		case strings.HasPrefix(rest, ","):
			p = rest[1:]
		default:
			return p, ErrSyntax
		}
	}
}

// mailbox reads Local-part "@" ( Domain / address-literal ) and returns what follows.
func mailbox(s string, utf8 bool) (m Mailbox, rest string, err error) {
	if m.Local, rest, err = localPart(s, utf8); err != nil {
		return Mailbox{}, s, err
	}
	after, ok := strings.CutPrefix(rest, "@")
	if !ok {
		return Mailbox{}, s, ErrSyntax
	}
	if m.Domain, rest, err = domain(after, utf8); err != nil {
		return Mailbox{}, s, err
	}
	// What we print must be short enough to be read again: a few letters and some IPv6 literals are longer in our form than in theirs.
	if len(m.Domain) > len(after)-len(rest) && len(m.String()) > MaxPath-len("<>") {
		return Mailbox{}, s, ErrPathLong
	}
	return m, rest, nil
}

// localPart reads Dot-string / Quoted-string (RFC 5321 section 4.1.2, with the atext and qtextSMTP of RFC 6531 section 3.3).
func localPart(s string, utf8 bool) (local, rest string, err error) {
	n := 0
	if strings.HasPrefix(s, `"`) {
		local, n, err = quotedString(s)
	} else {
		for n < len(s) && (s[n] >= 0x80 || s[n] == '.' || is(s[n], atext)) {
			n++
		}
		local = s[:n]
		if local == "" || local[0] == '.' || local[n-1] == '.' || strings.Contains(local, "..") {
			err = ErrLocalSyntax
		}
	}
	if err != nil {
		return "", s, err
	}
	if err := checkUTF8(local, utf8); err != nil {
		return "", s, err
	}
	if len(local) > MaxLocal {
		return "", s, ErrLocalLong
	}
	return local, s[n:], nil
}

// quotedString reads DQUOTE *QcontentSMTP DQUOTE at the start of s; n is its length there.
func quotedString(s string) (local string, n int, err error) {
	var b []byte // used from the first quoted-pair on
	start := 1
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			if b == nil {
				return s[1:i], i + 1, nil
			}
			return string(append(b, s[start:i]...)), i + 1, nil
		case c == '\\':
			// quoted-pairSMTP = %d92 %d32-126
			if i+1 == len(s) || s[i+1] < ' ' || s[i+1] > '~' {
				return "", 0, ErrLocalSyntax
			}
			b = append(b, s[start:i]...)
			i++
			start = i
			if b == nil {
				b = make([]byte, 0, len(s)-i)
			}
		case c < 0x80 && !is(c, qtext):
			return "", 0, ErrLocalSyntax
		}
	}
	return "", 0, ErrLocalSyntax
}

// checkUTF8 says whether the non-ASCII characters in s may stand in a local part.
func checkUTF8(s string, admit bool) error {
	if isASCII(s) {
		return nil
	}
	if !admit {
		return ErrNotASCII
	}
	if !utf8.ValidString(s) {
		return ErrUTF8
	}
	for _, r := range s {
		if r >= 0x80 && unicode.IsControl(r) {
			return ErrLocalSyntax
		}
	}
	return nil
}

// domain reads Domain / address-literal at the start of s and returns it in lower case, and what follows.
func domain(s string, utf8 bool) (name, rest string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", s, ErrDomain
		}
		name, err = ParseLiteral(s[:end+1])
		return name, s[end+1:], err
	}
	n := 0
	for n < len(s) && (s[n] >= 0x80 || s[n] == '.' || is(s[n], letDigHyphen)) {
		n++
	}
	name, err = ParseDomain(s[:n], utf8)
	return name, s[n:], err
}

// ParseDomain checks a domain name (not a literal) by RFC 5321 section 4.1.2 and returns it in lower case: letters, digits and inner hyphens,
// no underscore, no final dot. utf8 admits U-labels (RFC 6531 section 3.3), which stay as they are but for case.
func ParseDomain(s string, utf8 bool) (string, error) {
	if len(s) > MaxDomain {
		return "", ErrDomainLong
	}
	ascii := isASCII(s)
	if !ascii && !utf8 {
		return "", ErrNotASCII
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return "", ErrDomain
		}
		if ascii && len(label) > maxLabel {
			return "", ErrDomainLong
		}
		for i := range len(label) {
			if label[i] < 0x80 && !is(label[i], letDigHyphen) {
				return "", ErrDomain
			}
		}
	}
	if ascii {
		return strings.ToLower(s), nil // no copy when it is so already
	}
	s = strings.ToLower(s)
	if len(s) > MaxDomain { // a few letters are longer in lower case
		return "", ErrDomainLong
	}
	a, err := ASCIIDomain(s)
	if err != nil {
		return "", err
	}
	// Mapping can leave nothing to look up: a full-width dot becomes a dot, and labels of ignored characters become empty.
	if _, err := ParseDomain(a, false); err != nil {
		return "", err
	}
	return s, nil
}

// ParseLiteral checks an address literal with its brackets (RFC 5321 section 4.1.3) and returns it in its one form.
func ParseLiteral(s string) (string, error) {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return "", ErrDomain
	}
	const tag = "IPv6:"
	in := s[1 : len(s)-1]
	if len(in) > len(tag) && strings.EqualFold(in[:len(tag)], tag) {
		ip, err := netip.ParseAddr(in[len(tag):])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", ErrDomain
		}
		return "[" + tag + ip.String() + "]", nil
	}
	if ip, err := netip.ParseAddr(in); err != nil || !ip.Is4() {
		return "", ErrDomain
	}
	return s, nil
}

// ASCIIDomain writes the U-labels of a domain as A-labels (RFC 5891), as a name goes into the DNS, a certificate check or an ASCII message.
// A literal and a name of ASCII are returned as they are; the error is ErrDomain.
func ASCIIDomain(domain string) (string, error) {
	if isASCII(domain) {
		return domain, nil
	}
	a, err := idna.Lookup.ToASCII(domain)
	if err != nil || a == "" || !isASCII(a) {
		return "", ErrDomain
	}
	return a, nil
}

// UnicodeDomain writes the A-labels of a domain as U-labels, for people. Labels that stand for nothing are left as they are.
func UnicodeDomain(domain string) string {
	if !strings.Contains(domain, "xn--") {
		return domain
	}
	u, err := idna.Lookup.ToUnicode(domain)
	if err != nil {
		return domain
	}
	return u
}

// String is the wire form, local part quoted where the grammar needs it; "" for the null path.
func (m Mailbox) String() string {
	if m.IsNull() {
		return ""
	}
	if isDotString(m.Local) {
		if m.Domain == "" {
			return m.Local
		}
		return m.Local + "@" + m.Domain
	}
	b := make([]byte, 0, 2*len(m.Local)+len(m.Domain)+3)
	b = append(b, '"')
	for i := range len(m.Local) {
		if c := m.Local[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, m.Local[i])
	}
	b = append(b, '"')
	if m.Domain != "" {
		b = append(b, '@')
		b = append(b, m.Domain...)
	}
	return string(b)
}

// IsNull reports whether m is the null reverse-path.
func (m Mailbox) IsNull() bool { return m == Mailbox{} }

// Key is the form by which mailboxes of ours are compared and looked up: the local part folded to lower case, and the domain as A-labels.
// The local part is not quoted: the last "@" divides it from the domain.
func (m Mailbox) Key() string {
	m.Local = strings.ToLower(m.Local)
	return m.ForeignKey()
}

// ForeignKey is the form by which mailboxes of other hosts are compared: only they know whether the case of a local part means
// anything (RFC 5321 section 2.4).
func (m Mailbox) ForeignKey() string {
	if m.Domain == "" {
		return m.Local
	}
	domain := m.Domain
	if a, err := ASCIIDomain(domain); err == nil {
		domain = a
	}
	return m.Local + "@" + domain
}

// IsASCII: can travel without SMTPUTF8 once the domain is written as A-labels.
func (m Mailbox) IsASCII() bool { return isASCII(m.Local) }

// SplitTag splits local at the first of the characters in delims ("+"): "bob+lists" -> "bob", "lists", true. A leading delimiter does not split.
func SplitTag(local, delims string) (base, tag string, ok bool) {
	if delims == "" || local == "" {
		return local, "", false
	}
	i := strings.IndexAny(local[1:], delims)
	if i < 0 {
		return local, "", false
	}
	_, n := utf8.DecodeRuneInString(local[i+1:])
	return local[:i+1], local[i+1+n:], true
}

// WithTag is the mailbox with a tag behind its local part, after the first of delims. ok is false where it would be longer than MaxLocal, there are no delims, or SplitTag
// would split it elsewhere.
func (m Mailbox) WithTag(delims, tag string) (tagged Mailbox, ok bool) {
	if delims == "" {
		return m, false
	}
	_, n := utf8.DecodeRuneInString(delims)
	tagged = Mailbox{m.Local + delims[:n] + tag, m.Domain}
	base, _, _ := SplitTag(tagged.Local, delims)
	return tagged, len(tagged.Local) <= MaxLocal && base == m.Local
}

// AsTag is the mailbox as a tag of another, "user=domain" (VERP).
func (m Mailbox) AsTag() string { return m.Local + "=" + m.Domain }

// FromTag reads what AsTag writes.
func FromTag(tag string) (Mailbox, error) {
	i := strings.LastIndexByte(tag, '=')
	if i <= 0 {
		return Mailbox{}, ErrSyntax
	}
	return Parse(Mailbox{Local: tag[:i], Domain: tag[i+1:]}.String(), true)
}

func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x80 && c != '.' && !is(c, atext) {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
