package queued

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"strings"

	"postamt/internal/addr"
	rfc5322 "postamt/internal/message"
	"postamt/internal/route"
	"postamt/internal/smtp"
)

// listFields are those that a mailing list puts on its mail, of which there may be one each (RFC 2369 section 3.5, RFC 2919 section 6): those of a list before it go.
var listFields = [...]string{"List-Id", "List-Post", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Help", "List-Subscribe", "List-Owner", "List-Archive", "Precedence"}

// asList makes a child the mail of a mailing list.
func (e *expansion) asList(c *child, f *route.Final) {
	l := f.List
	var b strings.Builder
	b.WriteString(c.head)
	b.WriteString("List-Id: ")
	if l.Name != "" {
		b.WriteString(phrase(l.Name) + " ")
	}
	b.WriteString("<" + l.ID + ">\r\nList-Post: <mailto:" + uri(f.ListAt) + ">\r\n")
	var ways []string
	if l.UnsubscribeURL != "" {
		ways = append(ways, l.UnsubscribeURL)
	}
	if !l.Unsubscribe.IsNull() {
		ways = append(ways, l.Unsubscribe.String())
	}
	if e.tables.Returns != nil {
		c.Unsub = strings.Join(ways, " ") // the field is each member's own, and added when it is sent
	} else {
		b.WriteString(unsubscribe(ways, addr.Mailbox{}, e.tables))
	}
	b.WriteString("Precedence: list\r\n")
	c.head, c.list = b.String(), true
	c.VERP = !l.Bounces.IsNull() && c.From == l.Bounces.String()
}

// listLoop is a reply when the message has been through one of the mailing lists before.
func (e *expansion) listLoop(finals []route.Final) error {
	for i := range finals {
		if l := finals[i].List; l != nil && e.way().lists[l.ID] {
			return smtp.NewReply(554, "5.4.6", "this message has been sent to the list before")
		}
	}
	return nil
}

// unsubscribe is the field by which the member leaves the list: a URL, in which "%t" stands for him, to which a POST is enough (RFC 8058), and an address of his own,
// to which any message is. Without keys, or for nobody, there are but those that are the same for all.
func unsubscribe(ways []string, member addr.Mailbox, tables *route.Tables) string {
	var l []string
	post := ""
	for _, way := range ways {
		if before, after, ok := strings.Cut(way, "%t"); ok && !member.IsNull() && tables.Returns != nil {
			list := addr.Mailbox{Local: "unsubscribe", Domain: before}
			l = append(l, "<"+before+escape(member.AsTag()+"="+tables.Returns.Token(list, member), "")+after+">")
			post = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
			continue
		}
		if strings.Contains(way, "://") {
			if !strings.Contains(way, "%t") {
				l = append(l, "<"+way+">")
			}
			continue
		}
		m, err := addr.Parse(way, true)
		if err != nil {
			continue
		}
		if !member.IsNull() && tables.Returns != nil {
			if own, ok := m.WithTag(tables.Delimiters, member.AsTag()+"="+tables.Returns.Token(m, member)); ok {
				m = own
			}
		}
		l = append(l, "<mailto:"+uri(m)+"?subject=unsubscribe>")
	}
	if l == nil {
		return ""
	}
	return "List-Unsubscribe: " + strings.Join(l, ",\r\n\t") + "\r\n" + post
}

// phrase is a display name, in quotes (RFC 5322 section 3.4).
func phrase(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// uri is an address in a mailto URI (RFC 6068 section 2).
func uri(m addr.Mailbox) string { return escape(m.String(), "!$'*+@=") }

// escape has what is neither unreserved (RFC 3986 section 2.3) nor one of more as "%" and two digits.
func escape(s, more string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0, strings.IndexByte(more, c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// trace is what the header of a message tells of its way: the mailboxes that have sent it on, and the lists.
type trace struct{ boxes, lists map[string]bool }

const (
	maxHeader = 1 << 20 // octets of a header that are looked at
	maxTraces = 1000    // fields
)

// way reads it, once for an expansion.
func (e *expansion) way() *trace {
	if e.trace != nil {
		return e.trace
	}
	e.trace = &trace{make(map[string]bool), make(map[string]bool)}
	r := e.m.file.Reader()
	header, _ := io.ReadAll(io.LimitReader(r, 64<<10))
	scan := rfc5322.Scan(header, false)
	for {
		if _, ok := scan.Next(); ok {
			continue
		}
		if scan.Body() < len(header) || len(header) < 64<<10 {
			break
		}
		more, _ := io.ReadAll(io.LimitReader(r, maxHeader-64<<10))
		header = append(header, more...)
		break
	}
	n := 0
	for scan := rfc5322.Scan(header, true); n < maxTraces; {
		f, ok := scan.Next()
		if !ok {
			break
		}
		switch {
		case f.Is(deliveredTo):
			m, err := addr.Parse(string(f.AppendText(nil)), true)
			if v := e.tables.ResolveFinal(m); err == nil && v.Kind == route.Mailbox {
				e.trace.boxes[v.Mailbox.Key()] = true
			}
			n++
		case f.Is("List-Id"):
			id := string(f.AppendText(nil))
			id, _, _ = strings.Cut(id[strings.LastIndexByte(id, '<')+1:], ">")
			e.trace.lists[strings.ToLower(strings.TrimSpace(id))] = true
			n++
		}
	}
	return e.trace
}

// withoutFields is a message without the fields of these names in its header.
func withoutFields(r io.Reader, names []string) io.Reader {
	return &fieldFilter{in: bufio.NewReaderSize(r, 32<<10), names: names, start: true}
}

type fieldFilter struct {
	in    *bufio.Reader
	names []string
	out   []byte // what is still to be given of the line at hand
	start bool   // a line begins
	drop  bool   // it belongs to a field that goes
	body  bool
	err   error
}

// Read implements io.Reader.
func (f *fieldFilter) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		if f.body {
			return f.in.Read(p)
		}
		var line []byte
		line, f.err = f.in.ReadSlice('\n')
		if f.err == bufio.ErrBufferFull {
			f.err = nil
		}
		if len(line) == 0 {
			continue
		}
		if f.start {
			switch {
			case len(bytes.TrimRight(line, "\r\n")) == 0:
				f.body, f.drop = true, false
			case line[0] != ' ' && line[0] != '\t':
				name, _, ok := bytes.Cut(line, []byte{':'})
				f.drop = ok && slices.ContainsFunc(f.names, func(s string) bool { return strings.EqualFold(s, string(bytes.TrimRight(name, " \t"))) })
			}
		}
		f.start = line[len(line)-1] == '\n'
		if !f.drop {
			f.out = line
		}
	}
	n := copy(p, f.out)
	f.out = f.out[n:]
	return n, nil
}
