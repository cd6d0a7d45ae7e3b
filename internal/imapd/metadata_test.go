package imapd

import (
	"fmt"
	"strings"
	"testing"

	"postamt/internal/maildir"
)

// I23: the limits of annotations have their codes (RFC 5464 section 4.3), and what is refused leaves nothing.
func TestMetadataLimits(t *testing.T) {
	value := strings.Repeat("x", maildir.MaxAnnotation)
	in := enter + fmt.Sprintf("a2 SETMETADATA INBOX (/private/a \"1\" /private/b {%d}\r\n%s)\r\n", len(value)+1, value+"x") +
		"a3 GETMETADATA INBOX (/private/a /private/b)\r\n" +
		fmt.Sprintf("a4 SETMETADATA INBOX (/private/b {%d}\r\n%s)\r\n", len(value), value)
	for i := 0; i < maildir.MaxAnnotations; i += 100 {
		in += fmt.Sprintf("b%d SETMETADATA INBOX (", i)
		for k := range 100 {
			in += fmt.Sprintf("/private/%d \"x\" ", i+k)
		}
		in = strings.TrimSuffix(in, " ") + ")\r\n"
	}
	in += "c1 SETMETADATA INBOX (/private/" + strings.Repeat("n", maxEntry) + " \"x\")\r\n" + "c2 NOOP\r\n"
	out := talk(t, testConfig(), in)
	for _, want := range []string{
		"\r\na2 NO [METADATA MAXSIZE 32768] ", "\r\n* METADATA INBOX (/private/a NIL /private/b NIL)\r\na3 OK ", "\r\na4 OK ",
		"\r\nb800 OK ", "\r\nb900 NO [METADATA TOOMANY] ", "\r\nc1 BAD ", "\r\nc2 OK ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%.3000q", want, out)
		}
	}
}
