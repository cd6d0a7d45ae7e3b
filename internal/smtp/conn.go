// Package smtp speaks the wire of SMTP (RFC 5321) and LMTP (RFC 2033), for servers and clients: commands, parameters, replies, DATA and BDAT.
// It knows no files and no policy.
//
// What it reads it takes strictly, after the grammar; what it writes is always within it. The package lineio below it says what holds for lines and messages.
//
// Where it differs from the RFCs:
//   - Spaces after the colon ("MAIL FROM: <a@b>") and white space at the end of a command are accepted: much is sent so. Angle brackets are not optional.
//   - XARRIVED, XEXPAND, XORIGIN, XQID and XSUSPECT, our own parameters of MAIL, and XTARGET of RCPT, are offered as XQID: they are for the socket between queued and deliver.
//   - A SIZE of more than 2^63-1 is a bad number.
//   - The second digit of a reply may be any (RFC 5321 section 4.2 has 0 to 5): "571" is seen, and only the first digit decides.
//   - A host name after HELO, EHLO or LHLO may have underscores and a final dot.
//   - \x{...} in the ORCPT of RFC 6533 may not stand for a control character, nor may +XX in one of type rfc822: the address ends in a header field.
package smtp

import (
	"net"
	"strings"

	"postamt/internal/lineio"
)

// HandshakeTimeout bounds a TLS handshake as a whole.
const HandshakeTimeout = lineio.HandshakeTimeout

// Conn is one side of a connection. Reads are bounded and strict: a line ends in CRLF only.
// Writes are gathered and sent when a read would block or at Flush. Not safe for concurrent use.
// While nothing has arrived a plain connection holds no read buffer (lineio): an idle session costs its goroutine and a few hundred bytes.
//
// From lineio come Net, SetReadTimeout, SetWriteTimeout, SetDeadline, Buffered, Wait, Write (raw bytes, for BDAT), Flush and Close, StartTLS and TLS, ReadLine (the continuation lines of AUTH), and
// Chunk: it reads exactly n bytes of BDAT, io.ErrUnexpectedEOF when the connection ends early.
type Conn struct {
	*lineio.Conn
}

// DataReader reads a message after 354: blocks are unstuffed; io.EOF at CRLF.CRLF. A bare CR or LF never ends it; Err reports the first one after io.EOF,
// so that the caller can refuse the message with the stream in step. NUL bytes are only flagged.
type DataReader = lineio.DotReader

// DataWriter sends a message under DATA: every line end becomes CRLF (bare CR and bare LF too), dots stuffed; Close writes the final CRLF.CRLF.
type DataWriter = lineio.DotWriter

// Newlines judges the line ends of a message that comes by BDAT, as DataReader does under DATA.
type Newlines = lineio.Newlines

// The errors of ReadCommand, ReadLine and ReadReply about a line. After all but ErrEndlessLine the stream is in step and the next line can be read.
var (
	ErrLineTooLong = lineio.ErrLineTooLong // the line was discarded
	ErrEndlessLine = lineio.ErrEndlessLine // it was not, the connection is to be closed; errors.Is(err, ErrLineTooLong) too
	ErrBareNewline = lineio.ErrBareNewline // CR or LF without the other
	ErrNUL         = lineio.ErrNUL
)

// NewConn makes a Conn of nc. Timeouts are off.
func NewConn(nc net.Conn) *Conn { return &Conn{lineio.New(nc)} }

// ReadCommand reads one command line of at most max bytes with its CRLF. ErrLineTooLong, ErrEndlessLine, ErrBareNewline and ErrNUL tell of a bad line;
// other errors are of the connection: net.Error Timeout() tells timeouts, after which it may be called again.
func (c *Conn) ReadCommand(max int) (Command, error) {
	line, err := c.ReadLine(max)
	if err != nil {
		return Command{}, err
	}
	return parseCommand(line), nil
}

// Data begins the reading of a message after 354. No command can be read before its io.EOF.
func (c *Conn) Data() *DataReader { return c.DotReader() }

// DataWriter begins a message after 354 was read.
func (c *Conn) DataWriter() *DataWriter { return c.DotWriter() }

// WriteLine sends one command line, the parts without anything between them, and CRLF. CR, LF or NUL in a part is ErrBareNewline or ErrNUL and nothing is sent.
func (c *Conn) WriteLine(parts ...string) error {
	for _, p := range parts {
		if strings.ContainsAny(p, "\r\n") {
			return ErrBareNewline
		}
		if strings.IndexByte(p, 0) >= 0 {
			return ErrNUL
		}
	}
	for _, p := range parts {
		if _, err := c.WriteString(p); err != nil {
			return err
		}
	}
	_, err := c.WriteString("\r\n")
	return err
}
