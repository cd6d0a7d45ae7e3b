package imapd

import (
	"bufio"
	"compress/flate"
	"errors"
	"net"
	"sync"

	"postamt/internal/imap"
	"postamt/internal/inflate"
)

// RFC 4978 section 3: "COMPRESS" SP "DEFLATE". What follows the CRLF of OK is compressed, in both directions.
//
// Does it tell who listens what is in the mail, as compression below TLS does (CRIME)? That takes somebody who has text of his choice compressed together with the secret, many times. Here each piece
// that is sent is compressed for itself, so only what is in one message, or fetched at once, meets.
func (u *user) cmdCompress(cmd imap.Command, d *imap.Decoder) error {
	mechanism := d.SP().Keyword()
	if err := d.End(); err != nil {
		return err
	}
	switch {
	case mechanism != "DEFLATE":
		return imap.Bad("DEFLATE is all there is")
	case u.compressed: // section 3 has BAD for it, and for another layer NO [COMPRESSIONACTIVE], of which there is none: crypto/tls does not compress
		return &imap.Status{Condition: imap.ConditionBAD, Code: imap.CompressionActive, Text: "it is on"}
	case u.c.Buffered() > 0:
		return imap.Bad("nothing may be sent behind COMPRESS before its answer")
	}
	if err := u.tell(true); err != nil {
		return err
	}
	u.respond(cmd.Tag, imap.OK("", "DEFLATE active"))
	if u.c.Flush() != nil {
		return errGone
	}
	u.compressed = true
	if err := u.c.Replace(&compressed{Conn: u.c.Net()}); err != nil { // something has come since
		return connError{err}
	}
	return errSaid
}

// errSaid: the tagged response was said.
var errSaid = errors.New("imapd: said")

// compressed is a connection over which compressed octets go. It costs 40 KiB for what the client sends, and nothing for what is sent to him: the compressor is
// borrowed for each piece, of 16 to 64 KiB as a rule, and begins without a memory of the last one. That costs some compression of short responses. To keep it, as others
// do, is a megabyte for each session.
//
// Its deadlines are those of the connection below. Nothing is lost by one that passes in a Read.
type compressed struct {
	net.Conn
	z     inflate.Reader
	input [4096]byte
	r, w  int // input[r:w] has come
}

func (c *compressed) Read(p []byte) (int, error) {
	for {
		n, used, err := c.z.Inflate(p, c.input[c.r:c.w])
		c.r += used
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if c.r == c.w {
			c.r = 0
			if c.w, err = c.Conn.Read(c.input[:]); c.w == 0 && err != nil {
				return 0, err
			}
		}
	}
}

// compressor is what it takes to compress.
type compressor struct {
	*flate.Writer
	out *bufio.Writer
}

// compressors are for all sessions, like blocks.
var compressors = sync.Pool{New: func() any {
	out := bufio.NewWriterSize(nil, 16<<10)
	w, err := flate.NewWriter(out, flate.BestSpeed)
	if err != nil {
		panic(err) // there is that level
	}
	return &compressor{w, out}
}}

// Write sends octets so that all can be read when they have come.
func (c *compressed) Write(p []byte) (int, error) {
	z := compressors.Get().(*compressor)
	defer compressors.Put(z)
	z.out.Reset(c.Conn)
	z.Reset(z.out)
	if _, err := z.Writer.Write(p); err != nil {
		return 0, err
	}
	if err := z.Flush(); err != nil {
		return 0, err
	}
	if err := z.out.Flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// NetConn is the connection below, as of a tls.Conn.
func (c *compressed) NetConn() net.Conn { return c.Conn }
