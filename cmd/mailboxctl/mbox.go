package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"time"

	"postamt/internal/mailbox"
	"postamt/internal/message"
)

// An mbox is, as mailboxctl(8) says, messages with a line "From sender date" before each, which stands at the beginning or after an empty line that
// is not the message's. Lines of a message that look like one have a ">" more. Others write a "From " line without one: only a line that has a
// date is a separator.

var errNoMbox = errors.New("this is no mbox: it does not begin with a line \"From sender date\"")

// mboxHeaderLimit is how much of a header is looked at for flags; what is beyond is copied.
const mboxHeaderLimit = 1 << 20

// mboxReader reads the messages of an mbox one by one: Next, then Read to io.EOF.
type mboxReader struct {
	r      *bufio.Reader
	mark   time.Time // of the next message
	marked bool      // there is one
	begun  bool
	within bool   // a message is being read
	cut    bool   // of a line only the beginning was read
	blank  bool   // the line before was empty
	held   []byte // an empty line, which is the message's only if more of it comes
	out    []byte // what is to be read
}

// status is what fields of an mbox say of a message.
type status struct {
	flags    mailbox.Flags
	keywords []string
	fresh    bool // no program has seen it
}

func newMbox(r io.Reader) *mboxReader {
	return &mboxReader{r: bufio.NewReaderSize(r, 64<<10), blank: true}
}

// Next goes to the next message; io.EOF: there is none.
func (m *mboxReader) Next() (date time.Time, s status, err error) {
	if !m.begun {
		m.begun = true
		line, err := m.r.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			return date, s, io.EOF
		}
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return date, s, err
		}
		if m.mark, m.marked = postmark(line); !m.marked {
			return date, s, errNoMbox
		}
	}
	if _, err := io.Copy(io.Discard, m); err != nil {
		return date, s, err
	}
	if !m.marked {
		return date, s, io.EOF
	}
	date, m.marked, m.within, m.blank, m.held = m.mark, false, true, false, nil
	h := headerFilter{status: status{fresh: true}}
	for m.within && !h.done {
		if err := m.line(&h); err != nil {
			return date, s, err
		}
		if len(m.out) > mboxHeaderLimit {
			h.done = true
		}
	}
	return date, h.status, nil
}

// Read reads from the message.
func (m *mboxReader) Read(p []byte) (int, error) {
	for len(m.out) == 0 {
		if !m.within {
			return 0, io.EOF
		}
		if err := m.line(nil); err != nil {
			return 0, err
		}
	}
	n := copy(p, m.out)
	m.out = m.out[n:]
	return n, nil
}

// line takes a line, or as much as fits of one, through h if that is not nil.
func (m *mboxReader) line(h *headerFilter) error {
	line, err := m.r.ReadSlice('\n')
	if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
		return err
	}
	rest := m.cut
	m.cut = err == bufio.ErrBufferFull
	if len(line) == 0 {
		m.within, m.held = false, nil
		return nil
	}
	if !rest {
		if m.blank {
			if at, ok := postmark(line); ok {
				m.within, m.held, m.marked, m.mark = false, nil, true, at
				return nil
			}
		}
		m.out = append(m.out, m.held...)
		m.held = m.held[:0]
		m.blank = len(bytes.TrimRight(line, "\r\n")) == 0
		if h == nil && m.blank {
			m.held = append(m.held, line...)
			return nil
		}
		if isQuoted(line, 1) {
			line = line[1:]
		}
	}
	if h == nil || h.keep(line, rest) {
		m.out = append(m.out, line...)
	}
	return nil
}

// isQuoted: at least n times ">", then "From ".
func isQuoted(line []byte, n int) bool {
	rest := bytes.TrimLeft(line, ">")
	return len(line)-len(rest) >= n && bytes.HasPrefix(rest, []byte("From "))
}

// postmark reads the date of a line "From sender date".
func postmark(line []byte) (time.Time, bool) {
	if !bytes.HasPrefix(line, []byte("From ")) {
		return time.Time{}, false
	}
	fields := strings.Fields(string(line))
	for i := 1; i+4 <= len(fields); i++ {
		if len(fields[i]) == 3 && len(fields[i+1]) == 3 {
			if at, ok := message.Date(strings.Join(fields[i:], " ")); ok {
				return at, true
			}
		}
	}
	return time.Time{}, false
}

// headerFilter takes the fields that only an mbox has out of a header.
type headerFilter struct {
	status
	done bool // the header is
	drop bool // the field is
}

// statusFlag is what a letter of Status or X-Status stands for.
func statusFlag(letter byte) mailbox.Flags {
	switch letter {
	case 'R':
		return mailbox.Seen
	case 'A':
		return mailbox.Replied
	case 'F':
		return mailbox.Flagged
	case 'T':
		return mailbox.Draft
	case 'D':
		return mailbox.Trashed
	}
	return 0
}

// keep takes a line, rest: what follows of a line, and says whether it is the message's.
func (h *headerFilter) keep(line []byte, rest bool) bool {
	switch {
	case h.done:
		return true
	case rest:
		return !h.drop
	case len(bytes.TrimRight(line, "\r\n")) == 0:
		h.done = true
		return true
	case line[0] == ' ' || line[0] == '\t':
		if h.drop {
			h.keywords = append(h.keywords, strings.Fields(string(line))...)
		}
		return !h.drop
	}
	name, value, _ := strings.Cut(string(line), ":")
	h.drop = true
	switch strings.ToLower(name) {
	case "status", "x-status":
		letters := strings.TrimSpace(value)
		if strings.Trim(letters, "ROAFTDN") != "" {
			h.drop = false // of some other meaning
			break
		}
		for i := range len(letters) {
			h.flags |= statusFlag(letters[i])
			h.fresh = h.fresh && letters[i] == 'N'
		}
	case "x-keywords":
		h.keywords = append(h.keywords, strings.Fields(value)...)
	case "content-length":
	default:
		h.drop = false
	}
	return !h.drop
}

// fields are what keep takes out.
func (s *status) fields() string {
	var b strings.Builder
	switch {
	case s.flags&mailbox.Seen != 0:
		b.WriteString("Status: RO\n")
	case !s.fresh:
		b.WriteString("Status: O\n")
	}
	letters := ""
	for _, c := range []byte("AFTD") {
		if s.flags&statusFlag(c) != 0 {
			letters += string(c)
		}
	}
	if letters != "" {
		b.WriteString("X-Status: " + letters + "\n")
	}
	if len(s.keywords) > 0 {
		b.WriteString("X-Keywords: " + strings.Join(s.keywords, " ") + "\n")
	}
	return b.String()
}

// writeMbox writes a message.
func writeMbox(w *bufio.Writer, r *bufio.Reader, date time.Time, s status) error {
	sender := returnPath(r)
	w.WriteString("From " + sender + " " + date.UTC().Format(time.ANSIC) + "\n")
	h := headerFilter{}
	rest, end := false, byte('\n')
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return err
		}
		if len(line) > 0 {
			header := !h.done
			keep := h.keep(line, rest)
			if header && h.done {
				w.WriteString(s.fields())
			}
			if keep && !rest && isQuoted(line, 0) {
				w.WriteByte('>')
			}
			if keep {
				w.Write(line)
				end = line[len(line)-1]
			}
		}
		if err == io.EOF {
			break
		}
		rest = err == bufio.ErrBufferFull
	}
	if end != '\n' {
		w.WriteByte('\n')
	}
	if !h.done {
		w.WriteString(s.fields())
	}
	return w.WriteByte('\n') // the error of any Write
}

// returnPath is the sender for a line "From ", from the field that deliveries put first.
func returnPath(r *bufio.Reader) string {
	head, _ := r.Peek(4 << 10)
	scan := message.Scan(head, false)
	for {
		f, ok := scan.Next()
		if !ok {
			return "MAILER-DAEMON"
		}
		if f.Is("Return-Path") {
			s := strings.Trim(strings.TrimSpace(string(f.AppendText(nil))), "<>")
			if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || !printable(r) }) {
				return "MAILER-DAEMON"
			}
			return s
		}
	}
}
