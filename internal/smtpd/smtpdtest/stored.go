// Package smtpdtest is what the tests of smtpd and of the program around it share.
package smtpdtest

import (
	"bytes"
	"fmt"
	"strings"

	"postamt/internal/queue"
	"postamt/internal/transcript"
)

// Check compares a queued message with the block of a transcript: what is "queued" below our Received field, as
// lines; the same as "octets" with escapes; our "trace" field; the "envelope".
func Check(what string, e *queue.Envelope, body []byte, block []string, n transcript.Names) error {
	trace, rest := SplitTrace(body)
	switch what {
	case "queued":
		return n.SameLines(crlfLines(rest), block)
	case "octets":
		if got := escape(rest); got != strings.Join(block, "") {
			return fmt.Errorf("is %s", got)
		}
		return nil
	case "trace":
		return n.SameLines(crlfLines(trace), block)
	case "envelope":
		return n.SameLines(envelopeLines(e), block)
	}
	return fmt.Errorf("no check %q", what)
}

// SplitTrace divides a message behind our Received field.
func SplitTrace(b []byte) (trace, rest []byte) {
	for i := 0; ; {
		j := bytes.Index(b[i:], []byte("\r\n"))
		if j < 0 {
			return b, nil
		}
		i += j + 2
		if i == len(b) || b[i] != '\t' && b[i] != ' ' {
			return b[:i], b[i:]
		}
		// Our field is folded with tabs; what begins with a space would be the message's.
		if b[i] == ' ' {
			return nil, b
		}
	}
}

func crlfLines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\r\n"), "\r\n")
}

func escape(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		switch {
		case c == '\r':
			s.WriteString(`\r`)
		case c == '\n':
			s.WriteString(`\n`)
		case c == 0:
			s.WriteString(`\0`)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&s, `\x%02x`, c)
		default:
			s.WriteByte(c)
		}
	}
	return s.String()
}

func envelopeLines(e *queue.Envelope) []string {
	add := func(l, k, v string) string {
		if v != "" {
			l += " " + k + "=" + v
		}
		return l
	}
	l := strings.TrimSuffix("from "+e.From, " ")
	l = add(l, "BODY", e.Body)
	if e.UTF8 {
		l += " SMTPUTF8"
	}
	l = add(add(l, "RET", e.Ret), "ENVID", e.EnvID)
	lines := []string{l}
	for _, r := range e.Rcpts {
		lines = append(lines, add(add("rcpt "+r.Addr, "NOTIFY", r.Notify), "ORCPT", r.ORcpt))
	}
	return lines
}
