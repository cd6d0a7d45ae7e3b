package smtp

import (
	"strconv"
	"strings"
)

// Extensions is what a server offers in its reply to EHLO or LHLO.
type Extensions struct {
	Size       bool // RFC 1870
	Pipelining bool // RFC 2920
	EightBit   bool // RFC 6152, 8BITMIME
	BinaryMIME bool // RFC 3030, with Chunking
	Chunking   bool // RFC 3030
	UTF8       bool // RFC 6531
	DSN        bool // RFC 3461
	StartTLS   bool // RFC 3207
	Enhanced   bool // RFC 2034
	XQID       bool // our own, see the package comment

	SizeMax int64 // octets, 0: no limit declared
	RcptMax int   // RFC 9422, recipients of a transaction, 0: none declared
	MailMax int   // RFC 9422, transactions of a session, 0: none declared
}

// EHLO is the reply to EHLO or LHLO by which the host of that name offers e; more are further keywords, with their parameters.
func (e Extensions) EHLO(name string, more ...string) *Reply {
	lines := make([]string, 1, 14+len(more))
	lines[0] = name
	add := func(on bool, keyword string) {
		if on {
			lines = append(lines, keyword)
		}
	}
	add(e.Pipelining, "PIPELINING")
	if e.Size {
		add(e.SizeMax > 0, "SIZE "+strconv.FormatInt(e.SizeMax, 10))
		add(e.SizeMax <= 0, "SIZE")
	}
	add(e.EightBit, "8BITMIME")
	add(e.UTF8, "SMTPUTF8")
	add(e.Enhanced, "ENHANCEDSTATUSCODES")
	add(e.Chunking, "CHUNKING")
	add(e.BinaryMIME, "BINARYMIME")
	add(e.DSN, "DSN")
	if e.RcptMax > 0 || e.MailMax > 0 {
		l := "LIMITS"
		if e.RcptMax > 0 {
			l += " RCPTMAX=" + strconv.Itoa(e.RcptMax)
		}
		if e.MailMax > 0 {
			l += " MAILMAX=" + strconv.Itoa(e.MailMax)
		}
		add(true, l)
	}
	add(e.StartTLS, "STARTTLS")
	add(e.XQID, "XQID")
	return &Reply{Code: 250, Lines: append(lines, more...)}
}

// ParseEHLO reads the lines of an EHLO or LHLO reply into what the server offers, and the name it gives itself. What it does not know, or is malformed, is no offer.
func ParseEHLO(r *Reply) (name string, e Extensions) {
	if len(r.Lines) == 0 {
		return "", e
	}
	name, _, _ = strings.Cut(r.Lines[0], " ")
	for _, l := range r.Lines[1:] {
		keyword, params, _ := strings.Cut(l, " ")
		switch strings.ToUpper(keyword) {
		case "PIPELINING":
			e.Pipelining = true
		case "SIZE":
			e.Size = true
			e.SizeMax, _ = parseNumber(strings.TrimSpace(params))
		case "8BITMIME":
			e.EightBit = true
		case "SMTPUTF8":
			e.UTF8 = true
		case "ENHANCEDSTATUSCODES":
			e.Enhanced = true
		case "CHUNKING":
			e.Chunking = true
		case "BINARYMIME":
			e.BinaryMIME = true
		case "DSN":
			e.DSN = true
		case "STARTTLS":
			e.StartTLS = true
		case "XQID":
			e.XQID = true
		case "LIMITS":
			for p := range strings.FieldsSeq(params) {
				k, v, _ := strings.Cut(p, "=")
				n, ok := parseNumber(v)
				if !ok || n > 1<<30 {
					continue
				}
				switch strings.ToUpper(k) {
				case "RCPTMAX":
					e.RcptMax = int(n)
				case "MAILMAX":
					e.MailMax = int(n)
				}
			}
		}
	}
	// RFC 3030 section 3: BINARYMIME cannot be used with DATA.
	e.BinaryMIME = e.BinaryMIME && e.Chunking
	return name, e
}
