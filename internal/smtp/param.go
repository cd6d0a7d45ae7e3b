package smtp

import (
	"strconv"
	"strings"

	"postamt/internal/addr"
)

// MailParams is what the extensions put on MAIL.
type MailParams struct {
	Size  int64  // -1 not declared (RFC 1870)
	Body  string // "", "7BIT", "8BITMIME", "BINARYMIME"
	UTF8  bool   // SMTPUTF8 (RFC 6531)
	Ret   string // "", "FULL", "HDRS" (RFC 3461)
	EnvID string // decoded xtext; printable ASCII
	Auth  string // RFC 4954 AUTH=, decoded; accepted and ignored

	// Our own, on the LMTP socket only.
	QID     string // letters and digits
	Arrived int64  // microseconds since 1970
	Suspect bool
	Origin  Origin
	Expand  bool // the client takes 551 5.1.6 with what a recipient stands for
}

// Origin is where a message came from, for commands. Each may be "".
type Origin struct{ IP, Name, Helo, Login string }

// parseOrigin reads what Append writes: xtext of four words, each xtext or "-".
func parseOrigin(value string) (o Origin, ok bool) {
	text, err := ParseXtext(value)
	words := strings.Split(text, " ")
	if err != nil || len(words) != 4 {
		return o, false
	}
	for i, to := range []*string{&o.IP, &o.Name, &o.Helo, &o.Login} {
		if words[i] == "-" {
			continue
		}
		if *to, err = ParseXtext(words[i]); err != nil || words[i] == "" {
			return Origin{}, false
		}
	}
	return o, true
}

func appendOrigin(b []byte, o Origin) []byte {
	var words []byte
	for i, s := range []string{o.IP, o.Name, o.Helo, o.Login} {
		if i > 0 {
			words = append(words, ' ')
		}
		switch s {
		case "":
			words = append(words, '-')
		case "-":
			words = append(words, "+2D"...)
		default:
			words = AppendXtext(words, s)
		}
	}
	return AppendXtext(b, string(words))
}

// RcptParams is what they put on RCPT.
type RcptParams struct {
	Notify string // "", "NEVER", or a comma list of SUCCESS,FAILURE,DELAY in that order
	ORcpt  string // "type;address", the address decoded: printable ASCII, or UTF-8 for type utf-8 (RFC 6533)

	Target string // our own, on the LMTP socket only: what of the address is meant; letters, digits, "-" and ":"
}

// ParseMail reads the arguments of MAIL ("FROM:<a@b> SIZE=1"). allow says which extensions are on offer. The error is a *Reply: 501 (syntax, or a parameter that is
// repeated or has a bad value), 552 (SIZE above SizeMax), 553 (an address that needs SMTPUTF8) or 555 (a parameter that is not on offer).
func ParseMail(args string, allow Extensions) (addr.Mailbox, MailParams, error) {
	p := MailParams{Size: -1}
	m, rest, err := parsePath(args, "FROM:", "5.1.7", allow.UTF8)
	if err == nil && m.Domain == "" && !m.IsNull() {
		err = NewReply(501, "5.1.7", "the sender has no domain") // "postmaster" alone is for RCPT
	}
	if err == nil {
		err = eachParam(rest, mailKeywords[:], func(key int, value string) *Reply { return p.set(key, value, allow) })
	}
	if err == nil && !p.UTF8 && !(m.IsASCII() && isASCII(m.Domain)) {
		err = notASCII()
	}
	if err != nil {
		return addr.Mailbox{}, MailParams{}, err
	}
	return m, p, nil
}

// ParseRcpt reads the arguments of RCPT ("TO:<a@b> NOTIFY=NEVER"). allow says which extensions are on offer; allow.UTF8 is to be set only if MAIL had SMTPUTF8.
// The recipient <postmaster> has no domain. The error is a *Reply, 501, 553 or 555.
func ParseRcpt(args string, allow Extensions) (addr.Mailbox, RcptParams, error) {
	var p RcptParams
	m, rest, err := parsePath(args, "TO:", "5.1.3", allow.UTF8)
	if err == nil && m.IsNull() {
		err = NewReply(501, "5.1.3", "the recipient is empty")
	}
	if err == nil {
		err = eachParam(rest, rcptKeywords[:], func(key int, value string) *Reply { return p.set(key, value, allow) })
	}
	if err != nil {
		return addr.Mailbox{}, RcptParams{}, err
	}
	return m, p, nil
}

func notASCII() *Reply {
	// RFC 6531 section 3.5: 553 where the mailbox name may not have non-ASCII characters; 5.6.7 of section 4.4.
	return NewReply(553, "5.6.7", "the address is not ASCII and SMTPUTF8 is not in use")
}

// parsePath reads keyword and path, and returns the parameters behind, of which the first begins with a space.
func parsePath(args, keyword, status string, utf8 bool) (addr.Mailbox, string, error) {
	if len(args) < len(keyword) || !strings.EqualFold(args[:len(keyword)], keyword) {
		return addr.Mailbox{}, "", NewReply(501, "5.5.4", "syntax: "+keyword+"<address>")
	}
	m, rest, err := addr.ParsePath(strings.TrimLeft(args[len(keyword):], " "), utf8)
	switch {
	case err == addr.ErrNotASCII:
		return m, "", notASCII()
	case err != nil:
		return m, "", NewReply(501, status, err.Error())
	case rest != "" && rest[0] != ' ':
		return m, "", NewReply(501, status, addr.ErrSyntax.Error())
	}
	return m, rest, nil
}

// The parameters, in the order of their bits in eachParam.
const (
	keySize = iota
	keyBody
	keyUTF8
	keyRet
	keyEnvID
	keyAuth
	keyQID
	keyArrived
	keySuspect
	keyExpand
	keyOrigin
)
const (
	keyNotify = iota
	keyORcpt
	keyTarget
)

var (
	mailKeywords = [...]string{"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "XQID", "XARRIVED", "XSUSPECT", "XEXPAND", "XORIGIN"}
	rcptKeywords = [...]string{"NOTIFY", "ORCPT", "XTARGET"}
)

// eachParam calls set for each parameter in s, by its place in keywords; value is "" when there is none. RFC 5321 section 4.1.2:
// esmtp-param = esmtp-keyword ["=" esmtp-value], each after a space.
func eachParam(s string, keywords []string, set func(key int, value string) *Reply) error {
	seen := 0
	for s != "" {
		var param string
		if param, s, _ = strings.Cut(strings.TrimLeft(s, " "), " "); param == "" {
			continue
		}
		keyword, value, hasValue := strings.Cut(param, "=")
		if !isKeyword(keyword) || hasValue && value == "" || !isValue(value) {
			return NewReply(501, "5.5.4", "syntax error in a parameter")
		}
		key := 0
		for key < len(keywords) && !strings.EqualFold(keyword, keywords[key]) {
			key++
		}
		if key == len(keywords) {
			return unsupported(keyword)
		}
		if seen&(1<<key) != 0 {
			return NewReply(501, "5.5.4", keywords[key]+" is given twice")
		}
		seen |= 1 << key
		if r := set(key, value); r != nil {
			return r
		}
	}
	return nil
}

// unsupported: RFC 5321 section 4.1.1.11, a parameter that is not recognized or not implemented is 555.
func unsupported(keyword string) *Reply {
	return NewReply(555, "5.5.4", "parameter not supported: "+strings.ToUpper(keyword))
}

func badValue(keyword string) *Reply { return NewReply(501, "5.5.4", "bad value of "+keyword) }

// isKeyword: (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
func isKeyword(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && (s[i] != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// isValue: %d33-60 / %d62-126, and (RFC 6531 section 3.4, RFC 6533 section 3) what is not ASCII; the parameters other than ORCPT refuse that later.
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < '!' || c == '=' || c == 0x7f {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isPrintable: %d32-126 only.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (p *MailParams) set(key int, value string, allow Extensions) *Reply {
	name := mailKeywords[key]
	offered := [...]bool{
		keySize: allow.Size, keyBody: allow.EightBit || allow.BinaryMIME, keyUTF8: allow.UTF8, keyRet: allow.DSN, keyEnvID: allow.DSN,
		keyAuth: true, keyQID: allow.XQID, keyArrived: allow.XQID, keySuspect: allow.XQID, keyExpand: allow.XQID, keyOrigin: allow.XQID,
	}
	if !offered[key] {
		return unsupported(name)
	}
	ok := value != ""
	switch key {
	case keySize:
		p.Size, ok = parseNumber(value)
		if ok && allow.SizeMax > 0 && p.Size > allow.SizeMax {
			// RFC 1870 section 6.1
			return NewReply(552, "5.3.4", "message too large, the limit is "+strconv.FormatInt(allow.SizeMax, 10)+" octets")
		}
	case keyBody:
		// RFC 6152 section 2, RFC 3030 section 3.
		switch p.Body = strings.ToUpper(value); p.Body {
		case "7BIT", "8BITMIME":
			ok = allow.EightBit || p.Body == "7BIT"
		case "BINARYMIME":
			ok = allow.BinaryMIME
		default:
			ok = false
		}
	case keyUTF8:
		ok = value == ""
		p.UTF8 = true
	case keyRet:
		p.Ret = strings.ToUpper(value)
		ok = p.Ret == "FULL" || p.Ret == "HDRS"
	case keyEnvID:
		// RFC 3461 section 4.4: up to 100 characters; printable ASCII before the encoding.
		id, err := ParseXtext(value)
		ok = ok && err == nil && len(value) <= 100 && isPrintable(id)
		p.EnvID = id
	case keyAuth:
		// RFC 4954 section 5: "<>" or a mailbox, in xtext.
		a, err := ParseXtext(value)
		ok = ok && err == nil && len(value) <= 500 && isPrintable(a)
		p.Auth = a
	case keyQID:
		ok = ok && len(value) <= 64
		for i := range len(value) {
			ok = ok && isAlnum(value[i])
		}
		p.QID = value
	case keyArrived:
		p.Arrived, ok = parseNumber(value)
	case keySuspect:
		ok = value == ""
		p.Suspect = true
	case keyExpand:
		ok = value == ""
		p.Expand = true
	case keyOrigin:
		p.Origin, ok = parseOrigin(value)
	}
	if !ok {
		return badValue(name)
	}
	return nil
}

func (p *RcptParams) set(key int, value string, allow Extensions) *Reply {
	name := rcptKeywords[key]
	if offered := key == keyTarget && allow.XQID || key != keyTarget && allow.DSN; !offered {
		return unsupported(name)
	}
	ok := false
	switch key {
	case keyNotify:
		p.Notify, ok = parseNotify(value)
	case keyORcpt:
		p.ORcpt, ok = parseORcpt(value, allow.UTF8)
	case keyTarget:
		p.Target, ok = value, isTarget(value)
	}
	if !ok {
		return badValue(name)
	}
	return nil
}

// isTarget: 1*64(ALPHA / DIGIT / "-" / ":")
func isTarget(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != ':' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// parseNotify reads RFC 3461 section 4.1: "NEVER" / 1#("SUCCESS" / "FAILURE" / "DELAY"), each once.
func parseNotify(s string) (string, bool) {
	if strings.EqualFold(s, "NEVER") {
		return "NEVER", true
	}
	var success, failure, delay bool
	for e := range strings.SplitSeq(s, ",") {
		var which *bool
		switch strings.ToUpper(e) {
		case "SUCCESS":
			which = &success
		case "FAILURE":
			which = &failure
		case "DELAY":
			which = &delay
		}
		if which == nil || *which {
			return "", false
		}
		*which = true
	}
	out := ""
	for _, e := range [...]struct {
		on   bool
		name string
	}{{success, ",SUCCESS"}, {failure, ",FAILURE"}, {delay, ",DELAY"}} {
		if e.on {
			out += e.name
		}
	}
	return out[1:], true
}

// parseORcpt reads RFC 3461 section 4.2: addr-type ";" xtext, up to 500 characters; for the type utf-8 RFC 6533 section 3.
func parseORcpt(s string, utf8 bool) (string, bool) {
	kind, a, ok := strings.Cut(s, ";")
	if !ok || len(s) > 500 || !isKeyword(kind) || a == "" {
		return "", false
	}
	var err error
	if strings.EqualFold(kind, "utf-8") {
		a, err = parseUnitext(a, utf8)
	} else {
		a, err = ParseXtext(a)
		ok = isPrintable(a)
	}
	return kind + ";" + a, ok && err == nil
}

// Append appends the parameters as a client sends them, " SIZE=1 BODY=8BITMIME". The caller clears what the server does not offer. A Size of 0 or less is left out, and Auth always.
func (p MailParams) Append(b []byte) []byte {
	if p.Size > 0 {
		b = strconv.AppendInt(append(b, " SIZE="...), p.Size, 10)
	}
	if p.Body != "" {
		b = append(append(b, " BODY="...), p.Body...)
	}
	if p.UTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if p.Ret != "" {
		b = append(append(b, " RET="...), p.Ret...)
	}
	if p.EnvID != "" {
		b = AppendXtext(append(b, " ENVID="...), p.EnvID)
	}
	if p.QID != "" {
		b = append(append(b, " XQID="...), p.QID...)
	}
	if p.Arrived > 0 {
		b = strconv.AppendInt(append(b, " XARRIVED="...), p.Arrived, 10)
	}
	if p.Suspect {
		b = append(b, " XSUSPECT"...)
	}
	if p.Expand {
		b = append(b, " XEXPAND"...)
	}
	if p.Origin != (Origin{}) {
		b = appendOrigin(append(b, " XORIGIN="...), p.Origin)
	}
	return b
}

// Append appends the parameters as a client sends them to a server that offers DSN, " NOTIFY=NEVER ORCPT=rfc822;a@b". All of it is ASCII.
func (p RcptParams) Append(b []byte) []byte {
	if p.Notify != "" {
		b = append(append(b, " NOTIFY="...), p.Notify...)
	}
	if kind, a, ok := strings.Cut(p.ORcpt, ";"); ok {
		b = append(append(append(b, " ORCPT="...), kind...), ';')
		if strings.EqualFold(kind, "utf-8") {
			b = appendUnitext(b, a)
		} else {
			b = AppendXtext(b, a)
		}
	}
	if p.Target != "" {
		b = append(append(b, " XTARGET="...), p.Target...)
	}
	return b
}
