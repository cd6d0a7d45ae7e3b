package vacation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	gomessage "github.com/emersion/go-message"

	"postamt/internal/message"
)

// MaxText is how long a text may be. RFC 3834 section 3.2: brief.
const MaxText = 64 << 10

// Text is what the user has written: the text, and perhaps fields in front of it, From, Subject and Reply-To.
type Text struct {
	From, ReplyTo *mail.Address // nil: not given
	Subject       string
	Body          string
}

// ParseText reads a user's text, in UTF-8, or else ISO 8859-1. It begins with fields if all lines up to an empty one are such and From or Subject
// is among them; fields that are no business of the user's are left out: ours are To, Date, Auto-Submitted and so on.
func ParseText(b []byte) (t Text, err error) {
	if len(b) > MaxText {
		return t, fmt.Errorf("longer than %d octets", MaxText)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return t, errors.New("NUL in it")
	}
	s := strings.ReplaceAll(string(b), "\r\n", "\n")
	if !utf8.ValidString(s) {
		var latin strings.Builder
		for i := range len(s) {
			latin.WriteRune(rune(s[i]))
		}
		s = latin.String()
	}
	scan := message.Scan([]byte(s), true)
	var from, replyTo string
	header := false
	for f, ok := scan.Next(); ok; f, ok = scan.Next() {
		switch value := string(f.AppendText(nil)); {
		case f.Is("From"):
			from, header = value, true
		case f.Is("Subject"):
			t.Subject, header = oneLine(message.Text(value)), true
		case f.Is("Reply-To"):
			replyTo = value
		}
	}
	if t.Body = s; !header || scan.Body() == scan.Offset() && scan.Offset() < len(s) {
		return Text{Body: s}, nil
	}
	t.Body = s[scan.Body():]
	if t.From, err = parseAddress("From", from); err == nil {
		t.ReplyTo, err = parseAddress("Reply-To", replyTo)
	}
	return t, err
}

func parseAddress(name, value string) (*mail.Address, error) {
	if value == "" {
		return nil, nil
	}
	a, err := mail.ParseAddress(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

// Stamp is what makes one notice different from the next.
type Stamp struct {
	From string // an address, as addr prints it, if the text names none; one without a domain gets it by sendmail
	Now  time.Time
	ID   string // of the notice, without brackets
}

// Compose makes the notice: RFC 3834 section 3. Its lines end with LF. $SUBJECT and $FROM in the text are replaced by the subject and the sender of
// the message that is answered.
func Compose(a Answer, t Text, s Stamp) ([]byte, error) {
	from := s.From
	if t.From != nil {
		from = format(t.From)
	}
	put := strings.NewReplacer("$SUBJECT", a.Subject, "$FROM", a.To.String())
	subject := put.Replace(t.Subject)
	if t.Subject == "" {
		// Section 3.1.5. What is an answer already may be one to us.
		subject = "Auto: " + a.Subject
		if a.Subject == "" {
			subject = "Auto: your message"
		}
	}
	body := put.Replace(t.Body)
	if !strings.HasSuffix(body, "\n") {
		body += "\n"
	}
	encoding := "7bit"
	if !plain(body) {
		encoding = "quoted-printable"
	}
	var h gomessage.Header
	for _, f := range [][2]string{ // from the last to the first: what is added later stands in front
		{"Content-Transfer-Encoding", encoding}, {"Content-Type", "text/plain; charset=utf-8"}, {"Mime-Version", "1.0"},
		{"Precedence", "bulk"}, // section 3.1.8: for responders that are older than the next field
		{"Auto-Submitted", "auto-replied"},
		{"References", brackets(a.References)}, {"In-Reply-To", brackets([]string{a.MessageID})},
		{"Message-Id", brackets([]string{s.ID})}, {"Date", s.Now.Format(time.RFC1123Z)},
		{"Subject", mime.QEncoding.Encode("utf-8", oneLine(subject))}, {"Reply-To", format(t.ReplyTo)},
		{"To", a.To.String()}, {"From", from},
	} {
		if f[1] != "" {
			h.Add(f[0], f[1])
		}
	}
	var b bytes.Buffer
	w, err := gomessage.CreateWriter(&b, h)
	if err == nil {
		_, err = io.WriteString(w, body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n")), nil
}

func format(a *mail.Address) string {
	if a == nil {
		return ""
	}
	return a.String()
}

func brackets(ids []string) string {
	if len(ids) == 0 || ids[0] == "" {
		return ""
	}
	return "<" + strings.Join(ids, "> <") + ">"
}

// plain: can be sent as it is. RFC 5322 section 2.1.1: 998 characters a line, without the end.
func plain(s string) bool {
	for line := range strings.Lines(s) {
		if len(line) > 900 || strings.ContainsFunc(line, func(r rune) bool { return r >= 0x7f || r < ' ' && r != '\n' && r != '\t' }) {
			return false
		}
	}
	return true
}
