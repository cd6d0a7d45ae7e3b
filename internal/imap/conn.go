// Package imap speaks the server's side of the wire of IMAP, of revision 2 (RFC 9051) and 1 (RFC 3501) at once, with its extensions: commands and their arguments come in as
// values, responses go out from values. It knows no files, no mailbox and no state of a session.
//
//	Conn      reads commands, literals and all, and writes responses
//	Decoder   pulls the arguments of a command, one grammar production a method
//	NumSet    sequence sets and UID sets
//	Append…   functions that append one production of a response to a buffer
//	Status    OK, NO, BAD, BYE, PREAUTH with a response code; also the error of a command that is wrong
//
// A command pulls its arguments, asks once for the error, and acts:
//
//	cmd, d, err := c.ReadCommand()     // a *Status as the error is the answer
//	set := d.SP().NumSet()
//	f := d.SP().Fetch()
//	if err := d.End(); err != nil { …  // here too
//	set.Resolve(last)
//
// What it promises:
//   - It reads strictly, and nothing unbounded: a line, the literals and all of a command have limits (Limits), lists and nesting too. A literal is refused before anything is
//     allocated for it; those of messages are streamed and never held.
//   - A wrong command costs its sender one BAD and no more: what is left of it, with the non-synchronizing literals in it, is read and dropped before the next one. Where that would
//     be too much, or where its end cannot be told, the error is one after which the connection is to be closed. So a literal is never taken for a command.
//   - A NUL is nowhere accepted but in a literal8. Nothing the peer sent is in the text of an error.
//   - What it writes is within the grammar, whatever it is given.
//
// Where it differs from the RFCs:
//   - One space separates arguments, no more (as the grammar has it; some servers take several).
//   - A count of octets has no leading zeros; RFC 9051 number64 allows them.
//   - In mailbox names "INBOX" is of any case, the names of its children are as they come.
//   - Numbers are of 32 or 63 bits; more is BAD.
//   - A tag has at most 64 octets.
package imap

import (
	"errors"
	"math"
	"net"

	"postamt/internal/lineio"
)

// Limits bound what one command may cost. The zero value is not useful.
type Limits struct {
	Line    int   // octets of a line with CRLF; at most lineio.MaxLine
	Literal int64 // octets of a literal that is held: all but those of messages
	Command int64 // octets of a command that are held at a time: its lines and literals together
	NonSync int64 // octets of a non-synchronizing literal: 4096 for LITERAL- (RFC 7888 section 5), anything for LITERAL+
	Skip    int64 // octets of a non-synchronizing literal that is read and dropped after an error; beyond, the connection is to be closed
	Discard int64 // the same of all of a command, and its lines
}

// BeforeLogin are the limits for a stranger. The longest line is ID with 30 fields of 30 octets, and values of 1,024 (RFC 2971 section 3.3); that of AUTHENTICATE has a
// token, of which 12,288 octets are enough (RFC 4954 section 4, for SMTP).
func BeforeLogin() Limits {
	return Limits{Line: 32 << 10, Literal: 4 << 10, Command: 48 << 10, NonSync: 4096, Skip: 16 << 10, Discard: 16 << 10}
}

// AfterLogin are the limits for a user whose messages may have so many octets; 0: any number.
//
// A message that comes unasked (LITERAL+) and is refused is read to its end: a session that ended in its place would lead the client to come back and send it
// again (RFC 7888 section 4), and what is dropped costs no memory; so it is with each of many (MULTIAPPEND). More than a message could have is not waited for.
//
// Why are his literals bounded so low? The largest that a program sends is a text to search for; messages are no part of this.
// RFC 2683 section 3.2.1.5 asks for lines of 8,000 octets; large sets of UIDs are longer, and 64 KiB is what other servers take.
func AfterLogin(message int64) Limits {
	if message == 0 {
		message = 1 << 40
	}
	return Limits{Line: lineio.MaxLine, Literal: 64 << 10, Command: 512 << 10, NonSync: math.MaxInt64, Skip: message + 1<<20, Discard: math.MaxInt64}
}

// Mode is what ENABLE changes on the wire.
type Mode uint8

const (
	// UTF8: quoted strings may have UTF-8 in them, mailbox names are UTF-8 (after ENABLE UTF8=ACCEPT, RFC 6855, or ENABLE IMAP4rev2). Without it 8-bit
	// characters travel in literals, and mailbox names are modified UTF-7 (RFC 3501 section 5.1.3).
	UTF8 Mode = 1 << iota
)

// The errors of reading after which the connection is to be closed, with an untagged BYE. (Those of the connection itself are others.)
var (
	ErrLineTooLong   = lineio.ErrLineTooLong                                        // what followed it cannot be told from commands
	ErrTooMuchToSkip = errors.New("more literals in a wrong command than are read") // Limits.Discard
)

// Conn is the server's side of a connection. Reads are bounded and strict: a line ends in CRLF only. Writes are gathered, and sent when a read would wait, so that the responses to
// pipelined commands travel together; so does a "+" before the literal that is waited for. Not safe for concurrent use.
//
// From lineio come Net, the timeouts, Buffered, Wait, Take, ReadLine (DONE of IDLE), Write, Flush, StartTLS, TLS and Close.
type Conn struct {
	*lineio.Conn
	Mode   Mode
	Limits Limits
	d      Decoder
}

// NewConn makes a Conn of nc with the limits BeforeLogin. Timeouts are off.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{Conn: lineio.New(nc), Limits: BeforeLogin()}
	c.d.c = c
	return c
}

// Command is the beginning of a command.
type Command struct {
	Tag  string
	Name string // upper case
	UID  bool   // "UID FETCH" is FETCH with UID
}

// maxTag is the longest tag; maxName the longest name of a command.
const (
	maxTag  = 64
	maxName = 32
)

// ReadCommand drops what is left of the command before, and reads tag and name of the next one. Its arguments are pulled from the Decoder, which is valid until the next call.
//
// A *Status as the error tells of a wrong line: it is to be sent, tagged when Command.Tag is not "", and the next command can be read. With any other error that can not be done;
// net.Error Timeout() tells timeouts, after which it may be called again.
func (c *Conn) ReadCommand() (Command, *Decoder, error) {
	d := &c.d
	if err := d.finish(); err != nil {
		return Command{}, nil, err
	}
	*d = Decoder{c: c}
	if err := d.nextLine(); err != nil {
		return Command{}, nil, err
	}
	bad := d.err
	d.err = nil
	cmd := Command{Tag: d.tag()}
	if cmd.Tag == "" {
		d.err = Bad("a command begins with a tag and a space")
	} else {
		cmd.Name = d.SP().name()
		if cmd.UID = cmd.Name == "UID"; cmd.UID {
			cmd.Name = d.SP().name()
		}
	}
	if bad != nil {
		d.err = bad
	}
	if d.err != nil {
		return cmd, nil, d.err
	}
	return cmd, d, nil
}

// tag = 1*<any ASTRING-CHAR except "+">
func (d *Decoder) tag() string {
	i := 0
	for i < len(d.line) && i <= maxTag && isAstringChar(d.line[i]) && d.line[i] != '+' {
		i++
	}
	if i > maxTag || i == len(d.line) || d.line[i] != ' ' {
		return ""
	}
	d.pos = i
	return string(d.line[:i])
}

// name is the name of a command, upper case, without an allocation for those that are sent much.
func (d *Decoder) name() string {
	w := d.word()
	switch string(w) {
	case "UID":
		return "UID"
	case "FETCH":
		return "FETCH"
	case "STORE":
		return "STORE"
	case "SEARCH":
		return "SEARCH"
	case "NOOP":
		return "NOOP"
	case "IDLE":
		return "IDLE"
	case "SELECT":
		return "SELECT"
	case "STATUS":
		return "STATUS"
	case "":
		d.Fail("no command")
	}
	return string(w)
}
