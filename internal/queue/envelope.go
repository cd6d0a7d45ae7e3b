package queue

import (
	"fmt"
	"hash"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// States of a recipient: the first byte of its line.
const (
	Pending  = '-' // to be attempted
	Done     = 'D' // delivered, or handed to another host
	Failed   = 'F' // given up, and the sender has been told as far as wanted
	Expanded = 'X' // replaced by the recipients of a message of their own
)

func validState(c byte) bool {
	return c == Pending || c == Done || c == Failed || c == Expanded
}

// Client is where a message came from.
type Client struct {
	IP       netip.Addr // the zero Addr: a Unix socket, or made here
	Port     uint16
	Name     string // by reverse lookup
	Helo     string
	Proto    string // RFC 3848 keyword
	Login    string // authenticated user
	Listener string
	TLS      string // version and cipher
}

// Rcpt is one recipient.
type Rcpt struct {
	State  byte   // 0 is taken for Pending at Create
	Addr   string // RFC 5321 wire form, parsed before it came here
	Notify string // "", NEVER, or a list of SUCCESS, FAILURE, DELAY
	ORcpt  string // "type;address", decoded
	Via    string // of a message that follows from another: the recipient of that one
	Target string // what of Addr is meant, if not its mailbox: the name of a command or file in an alias or forward file
	// Refused is why this recipient is named only to be reported: a member of a list that could not be reached.
	Refused string
}

// Envelope is what was said about a message when it was accepted: facts, never
// decisions. Its strings may hold any bytes.
type Envelope struct {
	ID      ID
	Origin  ID        // the accepted message this one descends from; equals ID when it is one
	About   ID        // of a report: the message whose recipients it tells of; of a child's child: the child; else ""
	Arrived time.Time // UTC, microseconds
	From    string    // "" is <>
	Body    string    // "", 7BIT, 8BITMIME, BINARYMIME
	UTF8    bool      // SMTPUTF8
	Ret     string    // "", FULL, HDRS
	EnvID   string
	Hold    string // not "": to be held until somebody releases it, and why
	VERP    bool   // of a mailing list: From goes out with the recipient as a tag
	Unsub   string // of a mailing list: the URL and the address by which members leave it, of which each is sent his own
	Client  Client
	Rcpts   []Rcpt
}

// The limits of a header. Each is far above what a session accepts.
const (
	maxHeader = 64 << 20
	maxRcpts  = 1 << 20
	maxValue  = 64 << 10 // bytes of one value, encoded
)

const (
	magic    = "postamt-queue "
	version  = "1"
	lenWidth = 13
	sumWidth = 32
	// The line of length and sum has a fixed width, so that it can be filled in
	// when the message has ended. Dashes stand for "not yet".
	lenLine   = "length ------------- sum --------------------------------\n"
	lenOffset = len("length ")
	sumOffset = lenOffset + lenWidth + len(" sum ")
)

// header is an encoded header and the places in it that are not as the others.
type header struct {
	line   int     // offset of the line of length and sum
	states []int32 // offsets of the state bytes
	end    int     // offset after the empty line: the message proper
}

// append encodes e to the end of b, which must be empty but for capacity.
func (h *header) append(b []byte, e *Envelope) ([]byte, error) {
	if !validID(string(e.ID)) {
		return b, fmt.Errorf("%.40q is not a message id", string(e.ID))
	}
	if e.Origin != "" && !validID(string(e.Origin)) {
		return b, fmt.Errorf("origin %.40q is not a message id", string(e.Origin))
	}
	if e.About != "" && !validID(string(e.About)) {
		return b, fmt.Errorf("about %.40q, which is not a message id", string(e.About))
	}
	if len(e.Rcpts) == 0 {
		return b, fmt.Errorf("no recipient")
	}
	if len(e.Rcpts) > maxRcpts {
		return b, fmt.Errorf("%d recipients, more than %d", len(e.Rcpts), maxRcpts)
	}
	if e.From == "<>" {
		return b, fmt.Errorf("the sender %q is not an address", e.From)
	}
	micros := e.Arrived.UnixMicro()
	if micros < 0 || micros >= maxMicros {
		return b, fmt.Errorf("arrival time %v out of range", e.Arrived)
	}
	long := ""
	value := func(key, s string) {
		if s == "" {
			return
		}
		b = append(append(b, ' '), key...)
		n := len(b)
		b = appendXtext(b, s)
		if len(b)-n > maxValue {
			long = key
		}
	}
	b = append(b, magic+version+"\nid "...)
	b = append(b, e.ID...)
	if e.Origin != e.ID {
		value("origin=", string(e.Origin))
	}
	value("about=", string(e.About))
	b = append(b, "\narrived "...)
	b = appendTime(b, micros)
	b = append(b, '\n')
	h.line = len(b)
	b = append(b, lenLine...)

	b = append(b, "from"...)
	if e.From == "" {
		b = append(b, " <>"...)
	}
	value("", e.From)
	value("BODY=", e.Body)
	if e.UTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	value("RET=", e.Ret)
	value("ENVID=", e.EnvID)
	value("HOLD=", e.Hold)
	if e.VERP {
		b = append(b, " VERP"...)
	}
	value("UNSUB=", e.Unsub)

	c := &e.Client
	b = append(b, "\nclient "...)
	if c.IP.IsValid() {
		b = appendXtext(b, c.IP.String())
	} else {
		b = append(b, '-')
	}
	if c.Port != 0 {
		b = strconv.AppendUint(append(b, " port="...), uint64(c.Port), 10)
	}
	value("name=", c.Name)
	value("helo=", c.Helo)
	value("proto=", c.Proto)
	value("login=", c.Login)
	value("listener=", c.Listener)
	value("tls=", c.TLS)
	b = append(b, '\n')

	h.states = h.states[:0]
	for i := range e.Rcpts {
		r := &e.Rcpts[i]
		state := r.State
		if state == 0 {
			state = Pending
		}
		if !validState(state) {
			return b, fmt.Errorf("recipient %d has the state %q", i, state)
		}
		if r.Addr == "" {
			return b, fmt.Errorf("recipient %d has no address", i)
		}
		h.states = append(h.states, int32(len(b)))
		b = append(b, state)
		b = append(b, " rcpt"...)
		value("", r.Addr)
		value("NOTIFY=", r.Notify)
		value("ORCPT=", r.ORcpt)
		value("VIA=", r.Via)
		value("TARGET=", r.Target)
		value("REFUSED=", r.Refused)
		b = append(b, '\n')
		if len(b) > maxHeader {
			return b, fmt.Errorf("the envelope is longer than %d bytes", maxHeader)
		}
	}
	b = append(b, '\n')
	h.end = len(b)
	if long != "" {
		return b, fmt.Errorf("a value of %s is longer than %d bytes", long, maxValue)
	}
	return b, nil
}

// Times are seconds and six digits of microseconds; maxMicros is in the year 5138.
const maxMicros = 99_999_999_999 * 1_000_000

func appendTime(b []byte, micros int64) []byte {
	b = strconv.AppendInt(b, micros/1e6, 10)
	b = append(b, '.')
	return appendPadded(b, micros%1e6, 6)
}

func appendPadded(b []byte, n int64, width int) []byte {
	start := len(b)
	for range width {
		b = append(b, '0')
	}
	for i := start + width - 1; i >= start; i-- {
		b[i] += byte(n % 10)
		n /= 10
	}
	return b
}

func parseTime(s string) (time.Time, bool) {
	sec, micro, ok := strings.Cut(s, ".")
	if !ok || len(micro) != 6 || len(sec) > 11 {
		return time.Time{}, false
	}
	a, ok1 := parseDigits(sec)
	b, ok2 := parseDigits(micro)
	return time.UnixMicro(a*1e6 + b).UTC(), ok1 && ok2
}

// parseDigits takes one to eighteen decimal digits.
func parseDigits(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// sumHeader feeds the header b to the sum: all of it but the line of length and
// sum, and the state bytes.
func (h *header) sumHeader(sum hash.Hash, b []byte) {
	sum.Write(b[:h.line])
	at := h.line + len(lenLine)
	for _, s := range h.states {
		sum.Write(b[at:s])
		at = int(s) + 1
	}
	sum.Write(b[at:h.end])
}

// finishSum feeds the length, which is known last, and puts both values into
// line, a line of length and sum.
func finishSum(sum hash.Hash, line []byte, length int64) {
	appendPadded(line[lenOffset:lenOffset], length, lenWidth)
	sum.Write(line[:lenOffset+lenWidth])
	sum.Write([]byte{'\n'})
	var buf [32]byte
	const hex = "0123456789abcdef"
	for i, c := range sum.Sum(buf[:0])[:sumWidth/2] {
		line[sumOffset+2*i] = hex[c>>4]
		line[sumOffset+2*i+1] = hex[c&15]
	}
}

// parsed is a header that was read.
type parsed struct {
	header
	env    Envelope
	length int64
	sum    string
}

// parseHeader reads a header up to and with the empty line. What it returns
// shares one copy of b.
func parseHeader(b []byte) (*parsed, error) {
	s := string(b)
	p := &parsed{header: header{end: len(b)}}
	e := &p.env
	at := 0
	line := func(prefix string) (fields, bool) {
		end := strings.IndexByte(s[at:], '\n')
		if end < 0 || !strings.HasPrefix(s[at:at+end], prefix) {
			return fields{}, false
		}
		f := fields{rest: s[at+len(prefix) : at+end]}
		at += end + 1
		return f, true
	}
	if f, ok := line(magic); !ok {
		return nil, fmt.Errorf("it does not begin with %q", strings.TrimSpace(magic))
	} else if v, ok := parseDigits(f.rest); !ok {
		return nil, fmt.Errorf("version %.20q", f.rest)
	} else if f.rest != version {
		return nil, &versionError{v}
	}

	f, ok := line("id ")
	id := f.word()
	if !ok || !validID(id) {
		return nil, fmt.Errorf("bad id")
	}
	e.ID, e.Origin = ID(id), ID(id)
	for key, value, more := f.next(); more; key, value, more = f.next() {
		switch key {
		case "origin":
			if !validID(value) {
				return nil, fmt.Errorf("bad origin")
			}
			e.Origin = ID(value)
		case "about":
			if !validID(value) {
				return nil, fmt.Errorf("bad id of what it is about")
			}
			e.About = ID(value)
		}
	}
	if f.bad {
		return nil, fmt.Errorf("bad id line")
	}

	if f, ok = line("arrived "); ok {
		e.Arrived, ok = parseTime(f.rest)
	}
	if !ok {
		return nil, fmt.Errorf("bad arrival time")
	}

	p.line = at
	if f, ok = line("length "); !ok || len(f.rest) != len(lenLine)-lenOffset-1 {
		return nil, fmt.Errorf("bad length")
	}
	if strings.IndexByte(f.rest, '-') >= 0 {
		return nil, errUnfinished // in part, even: a crash can cut a write in two
	}
	p.length, ok = parseDigits(f.rest[:lenWidth])
	p.sum = f.rest[sumOffset-lenOffset:]
	if !ok || f.rest[lenWidth:sumOffset-lenOffset] != " sum " {
		return nil, fmt.Errorf("bad length")
	}

	f, ok = line("from ")
	if e.From, ok = f.text(ok); !ok {
		return nil, fmt.Errorf("bad sender")
	}
	if e.From == "<>" {
		e.From = ""
	}
	for key, value, more := f.next(); more; key, value, more = f.next() {
		switch key {
		case "BODY":
			e.Body = value
		case "SMTPUTF8":
			e.UTF8 = true
		case "RET":
			e.Ret = value
		case "ENVID":
			e.EnvID = value
		case "HOLD":
			e.Hold = value
		case "VERP":
			e.VERP = true
		case "UNSUB":
			e.Unsub = value
		}
	}
	if f.bad {
		return nil, fmt.Errorf("bad sender parameters")
	}

	c := &e.Client
	f, ok = line("client ")
	ip, ok := f.text(ok)
	if ok && ip != "-" {
		var err error
		c.IP, err = netip.ParseAddr(ip)
		ok = err == nil
	}
	if !ok {
		return nil, fmt.Errorf("bad client address")
	}
	for key, value, more := f.next(); more; key, value, more = f.next() {
		switch key {
		case "port":
			n, ok := parseDigits(value)
			if !ok || n > 65535 {
				return nil, fmt.Errorf("bad client port")
			}
			c.Port = uint16(n)
		case "name":
			c.Name = value
		case "helo":
			c.Helo = value
		case "proto":
			c.Proto = value
		case "login":
			c.Login = value
		case "listener":
			c.Listener = value
		case "tls":
			c.TLS = value
		}
	}
	if f.bad {
		return nil, fmt.Errorf("bad client line")
	}

	n := strings.Count(s[at:], "\n") - 1
	if n < 1 {
		return nil, fmt.Errorf("no recipient")
	}
	if n > maxRcpts {
		return nil, fmt.Errorf("%d recipients, more than %d", n, maxRcpts)
	}
	e.Rcpts = make([]Rcpt, n)
	p.states = make([]int32, n)
	for i := range e.Rcpts {
		r := &e.Rcpts[i]
		p.states[i] = int32(at)
		r.State = s[at]
		at++
		f, ok := line(" rcpt ")
		if r.Addr, ok = f.text(ok); !ok || r.Addr == "" {
			return nil, fmt.Errorf("bad recipient %d", i)
		}
		if !validState(r.State) {
			return nil, fmt.Errorf("recipient %d has the state %q", i, r.State)
		}
		for key, value, more := f.next(); more; key, value, more = f.next() {
			switch key {
			case "NOTIFY":
				r.Notify = value
			case "ORCPT":
				r.ORcpt = value
			case "VIA":
				r.Via = value
			case "TARGET":
				r.Target = value
			case "REFUSED":
				r.Refused = value
			}
		}
		if f.bad {
			return nil, fmt.Errorf("bad parameters of recipient %d", i)
		}
	}
	if s[at:] != "\n" {
		return nil, fmt.Errorf("no empty line after the recipients")
	}
	return p, nil
}

// fields are what is left of a line: words with one space between them.
type fields struct {
	rest string
	bad  bool
}

func (f *fields) word() string {
	w, rest, more := strings.Cut(f.rest, " ")
	if more && rest == "" {
		f.bad = true // a space at the end
	}
	f.rest = rest
	return w
}

// text is the next word, decoded.
func (f *fields) text(ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	w := f.word()
	if w == "" || len(w) > maxValue {
		return "", false
	}
	return parseXtext(w)
}

// next is the next "key=value" or "KEY", decoded. Keys that a later version has
// added are the caller's to ignore.
func (f *fields) next() (key, value string, more bool) {
	if f.rest == "" || f.bad {
		return "", "", false
	}
	key, value, _ = strings.Cut(f.word(), "=")
	value, ok := parseXtext(value)
	if _, keyOK := parseXtext(key); !ok || !keyOK || key == "" || len(value) > maxValue {
		f.bad = true
		return "", "", false
	}
	return key, value, true
}
