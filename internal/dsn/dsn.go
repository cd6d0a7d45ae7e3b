// Package dsn composes delivery status notifications: RFC 3464 in the multipart/report of RFC 6522, or as RFC 6533
// says when the message needed SMTPUTF8.
//
// A report has three parts: one for people, one for programs, and the headers of the message or all of it. It is a
// function of its Report alone, times and boundary included, so that composing it again after a crash gives the same bytes.
//
// Promises: lines end in CRLF and have at most 998 bytes; what comes from the message, an address or another
// server's reply cannot start a line, a field or a part of its own; of the message at most 50 kB are read, and
// returned only if all of it fits, its headers otherwise (R24). The report needs 8BITMIME or SMTPUTF8 only if it says so.
//
// It does not decide who gets a report (NOTIFY, null senders) and does not send it.
package dsn

import (
	"bytes"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-message/textproto"
)

// Kind is what a report is about.
type Kind int

// The kinds.
const (
	Failure Kind = iota // delivery to the recipients has failed for good
	Delay               // it has not succeeded yet
	Success             // it has succeeded, or the message is beyond what we can report about
)

// Action is the Action field of one recipient (RFC 3464 section 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"  // to a server that does not report
	Expanded  Action = "expanded" // to several recipients, of whom nothing more is reported
)

const (
	// MaxReturn is how much of a message is returned, in bytes.
	MaxReturn = 50 << 10
	// MaxRecipients is how many recipients one report may have. Who has more writes several.
	MaxRecipients = 1000
)

// Report is what a report says. Strings may hold any bytes.
type Report struct {
	Kind     Kind
	ID       string // of the report itself; its Message-ID and boundary follow from it
	Hostname string // ours
	To       string // the envelope sender of the message, in wire form
	Date     time.Time

	// The message it is about.
	MessageID string    // our id of it
	Arrived   time.Time // zero: not known
	EnvID     string    // ENVID, decoded; "" none
	Ret       string    // RET: "FULL", "HDRS" or ""
	UTF8      bool      // it came with SMTPUTF8
	Original  io.Reader // read once, at most MaxReturn+1 bytes; nil: nothing is returned

	Recipients []Recipient
}

// Recipient is what became of one recipient.
type Recipient struct {
	Address     string // as delivery was last tried
	Original    string // ORCPT: "type;address", decoded; "" none
	Action      Action
	Status      string // RFC 3463; one that is none becomes x.0.0
	RemoteMTA   string // the server that said Diagnostic; "" we did
	Diagnostic  string // "550 5.1.1 no such user"
	LastAttempt time.Time
	RetryUntil  time.Time // for Delayed
}

// Message is a report that is ready to be written.
type Message struct {
	EightBit bool // needs BODY=8BITMIME
	UTF8     bool // needs SMTPUTF8 (and has EightBit)

	r        Report
	full     bool   // original is the whole message
	original []byte // nil: no third part
	quoted   bool   // original, headers, is encoded
	boundary string
}

// Write composes the report and writes it.
func (r Report) Write(w io.Writer) error {
	m, err := Compose(r)
	if err != nil {
		return err
	}
	return m.Write(w)
}

// Compose reads the original and decides on the form. Errors are those of the reader, and of a report without
// recipients or with too many.
func Compose(r Report) (*Message, error) {
	switch n := len(r.Recipients); {
	case n == 0:
		return nil, errors.New("dsn: no recipients")
	case n > MaxRecipients:
		return nil, errors.New("dsn: too many recipients for one report")
	}
	m := &Message{r: r}
	if r.Original != nil {
		text, err := io.ReadAll(io.LimitReader(r.Original, MaxReturn+1))
		if err != nil {
			return nil, errors.New("dsn: read original: " + err.Error())
		}
		m.returned(text)
	}
	// RFC 6533 section 4: the internationalised types are for what is internationalised. A report to somebody who
	// speaks SMTPUTF8 but used nothing of it can take any way.
	m.UTF8 = !ascii(r.To)
	if r.UTF8 {
		for _, p := range r.Recipients {
			m.UTF8 = m.UTF8 || !ascii(p.Address) || strings.HasPrefix(strings.ToLower(p.Original), "utf-8;")
		}
		m.UTF8 = m.UTF8 || !ascii(string(headers(m.original)))
	}
	m.quoted = !m.full && (!clean(m.original) || !m.UTF8 && !ascii(string(m.original)) || !utf8.Valid(m.original))
	m.EightBit = m.UTF8 || m.full && !ascii(string(m.original))

	m.boundary = "=_report_" + token(r.ID)
	for bytes.Contains(m.original, []byte(m.boundary)) {
		m.boundary += "_" // nobody knows our ids in advance, but it costs nothing to be sure
	}
	return m, nil
}

// returned keeps what is returned of a message, of which text is the beginning.
func (m *Message) returned(text []byte) {
	// RFC 3461 section 4.3: a report that tells of no failure has the headers at most, whatever RET says.
	// message/rfc822 cannot be encoded: what is not text by RFC 5322 is not returned in full either.
	if m.r.Kind == Failure && m.r.Ret != "HDRS" && len(text) <= MaxReturn && clean(text) {
		m.full, m.original = true, text
		return
	}
	h := headers(text)
	if len(h) > MaxReturn {
		h = h[:MaxReturn]
		// Not half a line: it could look like another one.
		if i := bytes.LastIndexByte(h, '\n'); i >= 0 {
			h = h[:i+1]
		}
	}
	if h == nil {
		h = []byte{}
	}
	m.original = h
}

// headers is what stands before the first empty line, with the line end.
func headers(text []byte) []byte {
	for i := 0; i < len(text); {
		n := bytes.IndexByte(text[i:], '\n')
		if n < 0 {
			return text
		}
		if n == 0 || n == 1 && text[i] == '\r' {
			return text[:i]
		}
		i += n + 1
	}
	return text
}

// clean reports whether text is what SMTP calls text: CRLF line ends and no others, lines of bounded length, no NUL.
func clean(text []byte) bool {
	const maxLine = 998 // RFC 5322 section 2.1.1, without the CRLF
	start := 0
	for i, c := range text {
		switch c {
		case 0:
			return false
		case '\r':
			if i+1 == len(text) || text[i+1] != '\n' {
				return false
			}
		case '\n':
			if i == 0 || text[i-1] != '\r' || i-1-start > maxLine {
				return false
			}
			start = i + 1
		}
	}
	return len(text)-start <= maxLine
}

// Write writes the report. The output is the same each time.
func (m *Message) Write(w io.Writer) error {
	if err := m.write(w); err != nil {
		return errors.New("dsn: " + err.Error())
	}
	return nil
}

func (m *Message) write(w io.Writer) error {
	if err := textproto.WriteHeader(w, m.header()); err != nil {
		return err
	}
	mw := textproto.NewMultipartWriter(w)
	if err := mw.SetBoundary(m.boundary); err != nil {
		return err
	}
	part := func(contentType, description, encoding string, text []byte) error {
		p, err := mw.CreatePart(fields(
			field{"Content-Type", contentType},
			field{"Content-Description", description},
			field{"Content-Transfer-Encoding", encoding},
		))
		if err != nil {
			return err
		}
		if encoding != "quoted-printable" {
			_, err = p.Write(text)
			return err
		}
		q := quotedprintable.NewWriter(p)
		if _, err := q.Write(text); err != nil {
			return err
		}
		return q.Close()
	}
	if err := part("text/plain; charset="+m.either("us-ascii", "utf-8"), "Notification", m.bits(), m.person()); err != nil {
		return err
	}
	// RFC 3464 section 2, RFC 6533 section 4.
	if err := part("message/"+m.either("", "global-")+"delivery-status", "Delivery report", m.bits(), m.status()); err != nil {
		return err
	}
	if m.original != nil {
		var err error
		switch {
		case m.full:
			bits := "7bit"
			if !ascii(string(m.original)) {
				bits = "8bit"
			}
			err = part("message/"+m.either("rfc822", "global"), "Your message", bits, m.original)
		case m.quoted:
			err = part(m.either("text/rfc822-headers", "message/global-headers"), "Headers of your message", "quoted-printable", m.original)
		default:
			err = part(m.either("text/rfc822-headers", "message/global-headers"), "Headers of your message", m.bits(), m.original)
		}
		if err != nil {
			return err
		}
	}
	return mw.Close()
}

// either is a when the report is plain, b when it is internationalised.
func (m *Message) either(a, b string) string {
	if m.UTF8 {
		return b
	}
	return a
}

// bits is the encoding of the parts that we write.
func (m *Message) bits() string { return m.either("7bit", "8bit") }

// field is one header field with a value that is safe already.
type field struct{ name, value string }

// fields makes a header in the given order: go-message puts what is added later in front. Empty ones are left out.
func fields(l ...field) textproto.Header {
	var h textproto.Header
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].value != "" {
			h.Add(l[i].name, l[i].value)
		}
	}
	return h
}

func (m *Message) header() textproto.Header {
	subject := "Your message could not be delivered"
	switch m.r.Kind {
	case Delay:
		subject = "Your message is delayed"
	case Success:
		subject = "Your message was delivered"
	}
	// RFC 2045 section 6.4: a multipart says what its parts need.
	bits := "7bit"
	if m.EightBit {
		bits = "8bit"
	}
	to := ""
	if m.r.To != "" {
		to = "<" + m.address(m.r.To) + ">"
	}
	return fields(
		field{"Date", date(m.r.Date)},
		field{"From", "Mail Delivery System <MAILER-DAEMON@" + m.host() + ">"},
		field{"To", to},
		field{"Subject", subject},
		field{"Message-ID", "<" + token(m.r.ID) + ".report@" + m.host() + ">"},
		// RFC 3834 section 5.1: "auto-generated" is for what answers nothing.
		field{"Auto-Submitted", "auto-replied"},
		field{"MIME-Version", "1.0"},
		// RFC 6522 section 3.
		field{"Content-Type", `multipart/report; report-type=` + m.either("", "global-") + `delivery-status; boundary="` + m.boundary + `"`},
		field{"Content-Transfer-Encoding", bits},
	)
}
