// Package pop3 speaks the server's side of the wire of POP3 (RFC 1939, extended by RFC 2449): commands, responses, listings and messages. It knows no
// files and no maildrop. The package lineio below it says what holds for lines.
//
// Where it differs from the RFCs:
//   - More than one space between arguments, and spaces at the end of a command, are accepted; but not in what follows PASS, which is all of it
//     the password (RFC 1939 section 7 allows that).
//   - A message-number has no leading zeros and no sign: RFC 1939 gives no grammar, and this is what there is one of.
//   - A CR of a message that is not part of a CRLF is sent as a space; see Message.
package pop3

import (
	"net"

	"postamt/internal/lineio"
)

// MaxCommand is the longest command line with its CRLF (RFC 2449 section 4), but for AUTH.
const MaxCommand = 255

// MaxResponse is the longest line of a response with its CRLF, but for the text of messages (RFC 1939 section 3).
const MaxResponse = 512

// Conn is the server's side of a connection. Reads are bounded and strict: a line ends in CRLF only. Writes are gathered, and sent when a read would wait,
// so that the responses to pipelined commands travel together. Not safe for concurrent use.
//
// From lineio come Net, the timeouts, Buffered, Take, ReadLine (the responses of AUTH), Write, Flush, StartTLS, TLS and Close.
type Conn struct {
	*lineio.Conn
	digits [40]byte // of a line of a listing
}

// The errors of ReadCommand about a line. After all but ErrEndlessLine the next line can be read.
var (
	ErrLineTooLong = lineio.ErrLineTooLong
	ErrEndlessLine = lineio.ErrEndlessLine // errors.Is(err, ErrLineTooLong) too
	ErrBareNewline = lineio.ErrBareNewline
	ErrNUL         = lineio.ErrNUL
)

// NewConn makes a Conn of nc. Timeouts are off.
func NewConn(nc net.Conn) *Conn { return &Conn{Conn: lineio.New(nc)} }

// ReadCommand reads one command line of at most max octets with its CRLF. Other errors than those about lines are of the connection.
func (c *Conn) ReadCommand(max int) (Command, error) {
	line, err := c.ReadLine(max)
	if err != nil {
		return Command{}, err
	}
	return parseCommand(line), nil
}
