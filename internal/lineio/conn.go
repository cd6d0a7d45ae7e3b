// Package lineio reads and writes the text of the mail protocols over a connection: lines that end in CRLF, with a limit, and dot-transparent
// messages (RFC 5321 section 4.5.2, RFC 1939 section 3), strictly and in blocks. Idle is the wait for a command that a server may end.
//
// What it promises:
//   - CRLF alone ends a line, and CRLF "." CRLF alone ends a message. A bare CR or LF never does; it is an error of its own, found without losing
//     the place in the stream: a line runs on to its CRLF, a message to its CRLF "." CRLF. So no two readers of the same bytes can disagree
//     about where the next command begins (RFC 5321 section 2.3.8; the attack is called smuggling).
//   - A connection uses at most 64 KiB to read and 16 KiB to write, whatever the peer sends, and neither while it waits for a command:
//     a plain connection that waits with nothing received holds no read buffer, one with TLS half a kilobyte (TLS itself needs more).
//   - A body (message or chunk) that was not read to its end blocks ReadLine, so its rest can never be taken for a command.
//   - A wait that timed out lost nothing: the call can be made again.
//   - Writes are gathered, and sent when the buffer is full, at Flush, or when a read is about to wait: the replies to pipelined commands travel together.
//
// It knows no protocol beyond that. StartTLS, or Replace, exchanges the transport under it.
package lineio

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// MaxLine is the most that ReadLine may be asked for, in octets with CRLF.
const MaxLine = 64 << 10

// ErrPlaintext: bytes arrived before the transport was exchanged; to use them afterwards would be to trust them (CVE-2011-0411).
var ErrPlaintext = errors.New("input was received before the start of TLS")

// ErrWoken is the timeout of a wait that Wake has ended.
var ErrWoken error = woken{}

type woken struct{}

func (woken) Error() string   { return "woken" }
func (woken) Timeout() bool   { return true }
func (woken) Temporary() bool { return true }

// errBody: see the third promise.
var errBody = errors.New("the body before was not read to its end")

// Conn is a connection with its buffers. It belongs to one goroutine; another one may only close Net(), which ends every wait, and Wake it.
type Conn struct {
	nc  net.Conn
	raw syscall.RawConn       // reads of nc without a buffer in hand; nil where nc is not a plain descriptor
	try func(fd uintptr) bool // c.tryRead, bound once so that a read allocates nothing

	in   *block // in.b[r:w] was received and not consumed
	r, w int
	size size  // of the next read buffer
	stop error // why no line can be read: in a body, or lost in an endless line

	out  *block // out.b[:n] is to be sent
	n    int
	bulk bool  // more was written at once than fits into a medium block: the next is a large one
	werr error // the first failure to write; after it nothing is written

	readTimeout, writeTimeout time.Duration
	deadline                  time.Time
	readArmed, writeArmed     time.Time // the deadlines that nc has
	woken                     atomic.Bool

	tryN   int // results of tryRead
	tryErr error
}

// New makes a Conn of nc. Timeouts are off.
func New(nc net.Conn) *Conn {
	c := &Conn{}
	c.use(nc)
	return c
}

func (c *Conn) use(nc net.Conn) {
	c.nc = nc
	c.raw, c.try = nil, nil
	// By name and not by syscall.Conn: a wrapper that embeds one of these has that method too, and reads past its own Read would miss what it holds.
	switch nc := nc.(type) {
	case *net.TCPConn:
		c.raw, _ = nc.SyscallConn()
	case *net.UnixConn:
		c.raw, _ = nc.SyscallConn()
	case *pair:
		c.raw, _ = nc.r.SyscallConn()
	}
	if c.raw != nil {
		c.try = c.tryRead
	}
}

// Net is the transport: what New or Replace was given last.
func (c *Conn) Net() net.Conn { return c.nc }

// Replace goes on with nc, which carries the same conversation (TLS over the old transport). ErrPlaintext when something is received and not consumed.
// What is to be sent must be flushed before.
func (c *Conn) Replace(nc net.Conn) error {
	if c.Buffered() > 0 {
		return ErrPlaintext
	}
	c.dropIn()
	c.use(nc)
	c.readArmed, c.writeArmed = unknown, unknown
	return nil
}

// unknown is a deadline that no Conn sets.
var unknown = time.Unix(1, 0)

// SetReadTimeout bounds each wait for bytes. Zero: no bound. A wait may last up to a sixteenth longer, so that a busy connection need not set its timer each time.
func (c *Conn) SetReadTimeout(d time.Duration) { c.readTimeout = d }

// SetWriteTimeout bounds each wait for the peer to take bytes, likewise.
func (c *Conn) SetWriteTimeout(d time.Duration) { c.writeTimeout = d }

// SetDeadline bounds every wait, in addition; zero: no bound.
func (c *Conn) SetDeadline(t time.Time) { c.deadline = t }

// Buffered is the number of bytes received and not yet consumed.
func (c *Conn) Buffered() int { return c.w - c.r }

// Take returns what was received and not consumed, consumes it, and takes the deadlines off the transport: for who goes on with the conversation on
// Net(). An error of that shows in what he does next.
func (c *Conn) Take() []byte {
	b := bytes.Clone(c.unread())
	c.r = c.w
	c.dropIn()
	c.nc.SetDeadline(time.Time{})
	c.readArmed, c.writeArmed = time.Time{}, time.Time{}
	return b
}

// Close closes the transport. What was gathered and not flushed is not sent.
func (c *Conn) Close() error {
	c.r = c.w
	c.dropIn()
	c.dropOut()
	return c.nc.Close()
}

// Wait returns when at least one byte is there to be read: io.EOF, a timeout or another error if there will be none.
func (c *Conn) Wait() error {
	if c.Buffered() > 0 {
		return nil
	}
	return c.fill()
}

// Wake ends the wait for bytes that is under way, or the next one: it returns ErrWoken, and lost nothing. Any goroutine may call it, but not while the transport is
// exchanged.
func (c *Conn) Wake() {
	c.woken.Store(true)
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// ClearWake forgets a Wake that has ended no wait. Nobody may call Wake meanwhile.
func (c *Conn) ClearWake() {
	c.woken.Store(false)
	c.readArmed = unknown // its deadline may be there still, when its flag has ended a wait
}

// wokenUp is the error of a wait that has begun, and of which err is what came of it. A timeout before the deadline is of a Wake that came late: its
// flag ended an earlier wait, or it set the deadline after the next one had.
func (c *Conn) wokenUp(err error) error {
	var ne net.Error
	early := err != nil && errors.As(err, &ne) && ne.Timeout() && (c.readArmed.IsZero() || time.Now().Before(c.readArmed))
	if c.woken.Load() || early {
		c.woken.Store(false)
		c.readArmed = unknown
		return ErrWoken
	}
	return err
}

// limits is the span in which the deadline of a wait that begins now may lie; zero times: no deadline.
func (c *Conn) limits(timeout time.Duration) (earliest, latest time.Time) {
	if timeout > 0 {
		earliest = time.Now().Add(timeout)
		latest = earliest.Add(timeout / 16)
	}
	if !c.deadline.IsZero() {
		if earliest.IsZero() || c.deadline.Before(earliest) {
			earliest = c.deadline
		}
		if latest.IsZero() || c.deadline.Before(latest) {
			latest = c.deadline
		}
	}
	return earliest, latest
}

func within(t, earliest, latest time.Time) bool {
	if latest.IsZero() {
		return t.IsZero()
	}
	return !t.IsZero() && !t.Before(earliest) && !t.After(latest)
}

func (c *Conn) armRead() error {
	earliest, latest := c.limits(c.readTimeout)
	if !within(c.readArmed, earliest, latest) {
		c.readArmed = latest
		if err := deadlineError(c.nc.SetReadDeadline(latest)); err != nil {
			return err
		}
	}
	return c.wokenUp(nil) // who was woken before that has lost his deadline in it
}

func (c *Conn) armWrite() error {
	earliest, latest := c.limits(c.writeTimeout)
	if within(c.writeArmed, earliest, latest) {
		return nil
	}
	c.writeArmed = latest
	return deadlineError(c.nc.SetWriteDeadline(latest))
}

// deadlineError lets pass that a descriptor cannot have deadlines: an inherited pipe or terminal in blocking mode.
func deadlineError(err error) error {
	if errors.Is(err, os.ErrNoDeadline) {
		return nil
	}
	return err
}

// fill waits for at least one byte more and appends what there is to the read buffer. What is to be sent goes first, if the read would wait.
func (c *Conn) fill() error {
	if c.raw == nil {
		return c.fillOrdinary()
	}
	if err := c.armRead(); err != nil {
		return err
	}
	c.tryN, c.tryErr = 0, nil
	err := c.raw.Read(c.try)
	switch {
	case c.tryErr != nil:
		err = c.tryErr
	case err == nil && c.tryN == 0:
		err = io.EOF
	}
	if err != nil {
		c.dropIn()
		return c.wokenUp(err)
	}
	return nil
}

// tryRead is called by raw.Read until it returns true; between calls the goroutine waits until fd is readable, without a buffer.
func (c *Conn) tryRead(fd uintptr) bool {
	room := c.room()
	var n int
	var err error
	for {
		n, err = syscall.Read(int(fd), room)
		if err != syscall.EINTR {
			break
		}
	}
	if err == syscall.EAGAIN {
		c.dropIn()
		if c.n > 0 {
			if c.tryErr = c.Flush(); c.tryErr != nil {
				return true
			}
			// The peer took its time perhaps; the wait for its bytes begins now.
			if c.tryErr = c.armRead(); c.tryErr != nil {
				return true
			}
		}
		return false
	}
	if err != nil {
		c.tryErr = &net.OpError{Op: "read", Net: c.nc.LocalAddr().Network(), Source: c.nc.LocalAddr(), Addr: c.nc.RemoteAddr(), Err: os.NewSyscallError("read", err)}
		return true
	}
	c.took(n, len(room))
	c.tryN = n
	return true
}

func (c *Conn) fillOrdinary() error {
	if err := c.Flush(); err != nil {
		return err
	}
	if err := c.armRead(); err != nil {
		return err
	}
	for range 100 {
		room := c.room()
		n, err := c.nc.Read(room)
		if n > 0 {
			c.took(n, len(room))
			return nil // an error with it comes again
		}
		if err != nil {
			c.dropIn()
			return c.wokenUp(err)
		}
	}
	return io.ErrNoProgress
}

// took counts n bytes read into the room. A body that fills the buffer is read in larger blocks from then on.
func (c *Conn) took(n, room int) {
	c.w += n
	if n == room && c.stop == errBody {
		c.size = large
	}
}

// room is the free part of the read buffer, at least one byte, after a buffer was taken, emptied or exchanged for a larger one if need be.
func (c *Conn) room() []byte {
	if c.r == c.w {
		c.r, c.w = 0, 0
		if c.in != nil && c.in.size != c.size {
			c.dropIn()
		}
		if c.in == nil {
			c.in = getBlock(c.size)
		}
	}
	if c.w == len(c.in.b) {
		if c.r == 0 { // a line longer than the buffer; ReadLine stops at the large one
			b := getBlock(c.in.size + 1)
			copy(b.b, c.in.b)
			c.in.put()
			c.in = b
			c.size = b.size
		} else {
			c.w = copy(c.in.b, c.in.b[c.r:c.w])
			c.r = 0
		}
	}
	return c.in.b[c.w:]
}

// dropIn gives the read buffer back if nothing is in it.
func (c *Conn) dropIn() {
	if c.in != nil && c.r == c.w {
		c.in.put()
		c.in, c.r, c.w = nil, 0, 0
	}
}

// unread is what was received and not consumed.
func (c *Conn) unread() []byte {
	if c.in == nil {
		return nil
	}
	return c.in.b[c.r:c.w]
}

// lineSize is the size of the buffer in which to wait for a command. A transport that wants its buffer before the bytes are there gets a small one.
func (c *Conn) lineSize() size {
	if c.raw == nil {
		return small
	}
	return medium
}

// Cap is the time after d, or the deadline of the connection if that is earlier: for what is done on Net() itself.
func (c *Conn) Cap(d time.Duration) time.Time {
	t := time.Now().Add(d)
	if !c.deadline.IsZero() && c.deadline.Before(t) {
		return c.deadline
	}
	return t
}
