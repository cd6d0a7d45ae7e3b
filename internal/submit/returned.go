package submit

import (
	"bytes"
	"fmt"
	"strings"
)

// Returned is what stands around a message that goes back to whom it came from: it wraps the message, whole, in one of its own that says why. Lines end in CR LF, and why has none.
func Returned(a Author, to, host string, why []string) (before, after []byte) {
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
	line("The message below was sent to nobody:")
	line("")
	for _, w := range why {
		line("%s", w)
	}
	line("")
	line("--%s", boundary)
	line("Content-Type: message/rfc822")
	line("Content-Transfer-Encoding: 8bit")
	line("")
	return b.Bytes(), fmt.Appendf(nil, "\r\n--%s--\r\n", boundary)
}
