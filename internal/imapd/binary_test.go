package imapd

import (
	"fmt"
	"strings"
	"testing"
)

// appending is an APPEND to INBOX with a literal, or with "~" a literal8.
func appending(tag, kind, message string) string {
	return fmt.Sprintf("%s APPEND INBOX %s{%d+}\r\n%s\r\n", tag, kind, len(message), message)
}

// RFC 3516 section 4.3: what BINARY gives of a body, however it came and however long it is.
func TestBinary(t *testing.T) {
	long := strings.Repeat("0123456789abcde\n", 10_000)
	encoded := strings.Repeat("MDEyMzQ1Njc4OWFiY2RlCjAxMjM0NTY3ODlhYmNkZQowMTIzNDU2Nzg5YWJjZGUK\r\n", 10_000/3)
	for _, x := range []struct{ kind, typ, encoding, body, want string }{
		{"", "application/x", "base64", "AAEKDQ==\r\n", "~{4}\r\n\x00\x01\n\r"},
		{"", "application/x", "base64", encoded, fmt.Sprintf("{%d}\r\n%s", 48*(10_000/3), long[:48*(10_000/3)])},
		{"", "text/plain", "base64", "YQpi\r\n", "{3}\r\na\nb"},
		{"", "text/plain; charset=UTF-16LE", "base64", "YQAKAA==\r\n", "~{4}\r\na\x00\n\x00"},
		{"", "application/x", "quoted-printable", "a=0Ab=\r\nc\r\n", "{6}\r\na\nbc\r\n"},
		{"", "text/plain", "quoted-printable", "a=0Ab=\r\nc\r\n", "{6}\r\na\nbc\r\n"},
		{"", "text/plain", "8bit", "\xe4\r\nb\r\n", "{6}\r\n\xe4\r\nb\r\n"},
		{"~", "application/x", "binary", "a\x00b\nc\rd\r\n", "~{9}\r\na\x00b\nc\rd\r\n"},
		{"~", "text/plain", "binary", "a\nb\r\n", "{6}\r\na\r\nb\r\n"},
		{"", "application/x", "binary", "a\r\nb", "{4}\r\na\r\nb"}, // stored with LF, of which there was none
		{"", "application/x", "BASE64", "", `""`},
	} {
		message := "Content-Type: " + x.typ + "\r\nContent-Transfer-Encoding: " + x.encoding + "\r\n\r\n" + x.body
		say := appending("a2", x.kind, message)
		if len(message) > 4096 {
			say = strings.Replace(say, "+}", "}", 1)
		}
		got := talk(t, testConfig(), enter+say+"a3 SELECT INBOX\r\na4 FETCH 1 BINARY.PEEK[1]\r\n")
		if want := "\r\n* 1 FETCH (BINARY[1] " + x.want + ")\r\n"; !strings.Contains(got, want) {
			t.Errorf("%q %s %s: %.2000q, want %.2000q", x.typ, x.encoding, x.kind, got[strings.Index(got, "a3 OK"):], want)
		}
	}
}
