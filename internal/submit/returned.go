package submit

import (
	"bytes"
	"fmt"
	"strings"
)

// Returned is what stands around a message that goes back to whom it came from: it wraps the message, whole, in one of its own. Lines end in CR LF.
func Returned(a Author, to, host string, refused []Refusal) (before, after []byte) {
	boundary := "=_returned_" + a.MessageID[:strings.IndexByte(a.MessageID, '@')]
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: Mail Delivery System <MAILER-DAEMON@%s>", host)
	line("To: <%s>", to)
	line("Date: %s", a.Now.Format(timeFormat))
	line("Message-ID: <%s>", a.MessageID)
	line("Subject: Returned mail: not sent")
	line("Auto-Submitted: auto-replied") // RFC 3834 section 5
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/mixed; boundary=%q", boundary)
	line("Content-Transfer-Encoding: 8bit")
	line("")
	line("--%s", boundary)
	line("Content-Type: text/plain; charset=utf-8")
	line("Content-Transfer-Encoding: 8bit")
	line("")
	line("The message below was not sent, to nobody, because of these recipients:")
	line("")
	for _, r := range refused {
		line("<%s>", r.To)
		line("    %s", r.Reply)
	}
	line("")
	line("--%s", boundary)
	line("Content-Type: message/rfc822")
	line("Content-Transfer-Encoding: 8bit")
	line("")
	return b.Bytes(), fmt.Appendf(nil, "\r\n--%s--\r\n", boundary)
}
