package remote

import (
	"errors"
	"fmt"
	"io"

	"postamt/internal/addr"
	"postamt/internal/smtp"
)

// Transaction is one message for some recipients. It belongs to one goroutine at a time.
type Transaction struct {
	From    addr.Mailbox
	Body    string // "", "7BIT", "8BITMIME", "BINARYMIME": as it was declared on the way in
	UTF8    bool   // it came with SMTPUTF8
	Ret     string // RFC 3461: "", "FULL", "HDRS"
	EnvID   string
	QID     string      // for deliver: sent when the peer offers XQID
	Arrived int64       // microseconds since 1970
	Suspect bool        // an earlier attempt may have delivered it
	Origin  smtp.Origin // for deliver, whose commands are told
	Expand  bool        // deliver may answer with what a recipient stands for: Outcome.Expanded
	Rcpts   []Rcpt
	Size    int64 // of what Open reads, exactly

	// Open gives the message from its first byte. It is called again for a look at the bytes, a second connection, or a further batch of recipients.
	// If the reader is an io.Closer it is closed.
	Open func() (io.Reader, error)

	seen *content
}

// Rcpt is one recipient.
type Rcpt struct {
	Addr   addr.Mailbox
	Notify string // RFC 3461
	ORcpt  string
	Target string // for deliver: what of Addr is meant; no other peer is given such a recipient
}

// Kind is what became of a recipient.
type Kind int

const (
	Temp Kind = iota // not delivered: try again later
	Done             // the peer has taken responsibility
	Perm             // failed for good
)

func (k Kind) String() string { return [...]string{"deferred", "done", "failed"}[k] }

// Outcome is what became of one recipient.
type Outcome struct {
	Kind           Kind
	Stage          Stage
	Reply          *smtp.Reply // never nil
	Local          bool        // Reply was made here and is not the peer's
	MaybeDelivered bool        // Temp, but the peer has the whole message and did not say what it did with it
	Again          bool        // Temp, but only for want of room in this transaction: send another at once
	Expanded       []string    // Perm, and no failure: deliver says what the recipient stands for, a target a line
	DSN            bool        // the peer offers DSN and was given the recipient's parameters: reports are its duty (RFC 3461 section 5.2)
	Peer           *Endpoint   // who answered or should have; nil if nobody was asked
	TLS            string      // as Conn.TLS
	Err            error       // what is behind a Local reply, for the log: it may name files
}

// content is what a look at all bytes of a message found.
type content struct {
	eight       bool // a byte above 127
	eightHeader bool // one of them in the header
	binary      bool // NUL, bare CR or LF, or a line above 998 octets: cannot be sent as lines (RFC 2045 section 2.8)
}

// look reads the message once; the result is kept for further peers.
func (t *Transaction) look() (*content, error) {
	if t.seen != nil {
		return t.seen, nil
	}
	r, err := t.open()
	if err != nil {
		return nil, err
	}
	defer closeReader(r)
	var (
		c      content
		buf    = make([]byte, min(max(t.Size, 512), 16<<10))
		header = true
		column = 0 // octets of this line so far
		prev   byte
		total  int64
	)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if prev == '\r' && b != '\n' {
				c.binary = true
			}
			switch {
			case b == '\n':
				if prev != '\r' {
					c.binary = true
					column++ // as if the CR had been there
				}
				if column <= 1 {
					header = false
				}
				column = -1
			case b == 0:
				c.binary = true
			case b >= 0x80:
				c.eight = true
				c.eightHeader = c.eightHeader || header
			}
			// RFC 5321 section 4.5.3.1.6: 1,000 octets with CRLF. The CR is counted here.
			if column++; column > 999 {
				c.binary = true
			}
			prev = b
		}
		total += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if prev == '\r' {
		c.binary = true
	}
	if total != t.Size {
		return nil, sizeError(total, t.Size)
	}
	t.seen = &c
	return &c, nil
}

func sizeError(got, want int64) error {
	return fmt.Errorf("message has %d bytes instead of %d", got, want)
}

func (t *Transaction) open() (io.Reader, error) {
	if t.Open == nil {
		return nil, errors.New("no message")
	}
	return t.Open()
}

func closeReader(r io.Reader) {
	if c, ok := r.(io.Closer); ok {
		c.Close()
	}
}

// plan is how a message travels to one peer.
type plan struct {
	mail  smtp.MailParams
	from  string
	utf8  bool // addresses may be sent as they are
	dsn   bool
	chunk bool // BDAT
	raw   bool // without a touch of line ends
}

// prepare settles how t travels to a peer that offers ext. The error is a *smtp.Reply of 5yz when it cannot, an *unreadable when the message cannot be read.
func (t *Transaction) prepare(ext *smtp.Extensions, lmtp, preferChunking bool) (plan, error) {
	p := plan{dsn: ext.DSN, chunk: ext.Chunking && preferChunking, raw: lmtp}
	p.mail.Size = -1
	if ext.Size {
		// RFC 1870 section 6.1: the peer said what it would not take.
		if ext.SizeMax > 0 && t.Size > ext.SizeMax {
			return p, smtp.NewReply(552, "5.3.4", fmt.Sprintf("message of %d bytes is too large for this host, which takes %d", t.Size, ext.SizeMax))
		}
		p.mail.Size = t.Size
	}
	if err := t.planBody(&p, ext, lmtp); err != nil {
		return p, err
	}
	if err := t.planUTF8(&p, ext); err != nil {
		return p, err
	}
	if ext.DSN {
		p.mail.Ret, p.mail.EnvID = t.Ret, t.EnvID
	}
	if ext.XQID {
		p.mail.QID, p.mail.Arrived, p.mail.Suspect, p.mail.Expand, p.mail.Origin = t.QID, t.Arrived, t.Suspect, t.Expand, t.Origin
	}
	return p, nil
}

func (t *Transaction) planBody(p *plan, ext *smtp.Extensions, lmtp bool) error {
	body := t.Body
	if body == "BINARYMIME" {
		if ext.BinaryMIME && ext.Chunking {
			p.mail.Body, p.chunk, p.raw = body, true, true
			return nil
		}
		c, err := t.look()
		if err != nil {
			return &unreadable{err}
		}
		// RFC 3030 section 3: convert it or return it. Declared binary and in fact made of lines, it needs neither.
		if c.binary {
			return smtp.NewReply(554, "5.6.3", "message is binary (BINARYMIME), which this host does not take")
		}
		body = "8BITMIME"
		if !c.eight {
			body = ""
		}
	}
	switch {
	case body == "7BIT":
		if ext.EightBit {
			p.mail.Body = body
		}
		return nil
	case body == "8BITMIME" && ext.EightBit:
		p.mail.Body = body
		return nil
	case lmtp && ext.EightBit:
		return nil // the last hop: nobody reads the label
	}
	c, err := t.look()
	if err != nil {
		return &unreadable{err}
	}
	if c.eight && !ext.EightBit {
		// RFC 6152 section 3: convert it or return it.
		return smtp.NewReply(554, "5.6.3", "message has 8-bit characters, which this host does not take (no 8BITMIME)")
	}
	if c.eight {
		p.mail.Body = "8BITMIME"
	}
	return nil
}

func (t *Transaction) planUTF8(p *plan, ext *smtp.Extensions) error {
	p.utf8 = t.UTF8 || !t.From.IsASCII()
	for i := range t.Rcpts {
		p.utf8 = p.utf8 || ext.UTF8 && !t.Rcpts[i].Addr.IsASCII()
	}
	if p.utf8 && !ext.UTF8 {
		// RFC 6531 section 3.6: what in fact is ASCII may go on.
		if !t.From.IsASCII() {
			return smtp.NewReply(550, "5.6.7", "internationalised sender address, which this host does not take (no SMTPUTF8)")
		}
		c, err := t.look()
		if err != nil {
			return &unreadable{err}
		}
		if c.eightHeader {
			return smtp.NewReply(550, "5.6.7", "internationalised header, which this host does not take (no SMTPUTF8)")
		}
		p.utf8 = false
	}
	p.mail.UTF8 = p.utf8
	var err error
	if p.from, err = wirePath(t.From, p.utf8); err != nil {
		return smtp.NewReply(550, "5.1.7", "sender address: "+err.Error())
	}
	return nil
}

// rcptPath is the recipient as it is sent, or why it cannot be.
func (p *plan) rcptPath(m addr.Mailbox) (string, *smtp.Reply) {
	if !p.utf8 && !m.IsASCII() {
		return "", smtp.NewReply(550, "5.6.7", "internationalised recipient address, which this host does not take (no SMTPUTF8)")
	}
	s, err := wirePath(m, p.utf8)
	if err != nil {
		return "", smtp.NewReply(550, "5.1.3", "recipient address: "+err.Error())
	}
	return s, nil
}

// wirePath is m as it stands between the brackets. Without SMTPUTF8 the domain is written in A-labels (RFC 6531 section 3.2).
func wirePath(m addr.Mailbox, utf8 bool) (string, error) {
	if !utf8 {
		d, err := addr.ASCIIDomain(m.Domain)
		if err != nil {
			return "", err
		}
		m.Domain = d
	}
	return m.String(), nil
}

// unreadable: the message could not be read here. The cause is for the log and not for a sender.
type unreadable struct{ err error }

func (u *unreadable) Error() string { return "message cannot be read: " + u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }
