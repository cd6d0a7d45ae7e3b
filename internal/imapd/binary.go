package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/message"
)

// content is a section without its transfer encoding (RFC 9051 section 6.4.5, RFC 3516 section 4.2).
type content struct {
	offset, octets int64
	encoding       string
	raw            bool // its octets are in the file as they are
}

// contentOf finds a section. RFC 9051 has it be a leaf; anything else, and the message with its header, has no encoding and is given as BODY gives it. False: there is none.
func contentOf(known facts.Facts, s *imap.Section) (c content, ok bool, err error) {
	root := known.Root()
	if len(s.Part) == 0 {
		return content{octets: 1 << 62}, true, nil
	}
	p, ok := findPart(root, s.Part)
	if !ok {
		return c, false, nil
	}
	body := p.Body()
	c = content{offset: body.Offset, octets: body.Octets}
	if p.IsMultipart() {
		return c, true, nil
	}
	c.encoding = string(p.Encoding())
	// RFC 9051 section 7.5.2: lines of text end in CRLF, however they are stored. A message that was stored as it came shows it in its header: lines end in CRLF there. In any
	// other an LF stands for CRLF.
	text := equalFold(p.Type(), "text") && !isWide(p)
	header := root.Header()
	c.raw = equalFold(p.Encoding(), "binary") && !text && header.Octets == header.Wire
	if _, known := message.Transfer(nil, c.encoding); !known {
		return c, true, imap.No(imap.UnknownCTE, "a part is in an encoding that is not known here")
	}
	return c, true, nil
}

// isWide: the charset has octets of 10 that are no line ends.
func isWide(p facts.Part) bool {
	name := bytes.ToLower(p.Charset())
	return bytes.HasPrefix(name, []byte("utf-16")) || bytes.HasPrefix(name, []byte("utf-32")) || bytes.HasPrefix(name, []byte("utf16"))
}

// open reads the section from the beginning. The file has LF or CRLF; an encoding is of lines that end in CRLF, of text in base64 too (RFC 2045 section 6.8). An LF that comes
// out of an encoding alone is no line end but an octet (section 6.7 rule 4, RFC 2046 section 4.1.1), and who takes a file from it wants it as it went in.
func (c *content) open(f io.ReaderAt) io.Reader {
	var r io.Reader = io.NewSectionReader(f, c.offset, c.octets)
	if !c.raw {
		r = message.Lines(r)
	}
	r, _ = message.Transfer(r, c.encoding)
	return r
}

// measure counts octets from skip on, at most count of them, and looks for a NUL.
func measure(r io.Reader, skip, count int64) (n int64, nul bool, err error) {
	b := blocks.Get().(*[block]byte)
	defer blocks.Put(b)
	for n < count {
		k, err := r.Read(b[:])
		p := b[:k]
		if cut := min(skip, int64(k)); cut > 0 {
			skip -= cut
			p = p[cut:]
		}
		p = p[:min(int64(len(p)), count-n)]
		n += int64(len(p))
		nul = nul || bytes.IndexByte(p, 0) >= 0
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, nul, err
		}
	}
	return n, nul, nil
}

// undecodable: a section that is asked for has an encoding that nobody here knows. It is found out before anything of the response is sent: the command fails
// then (RFC 9051 section 7.5.2), and no response is broken off.
func undecodable(items []imap.FetchItem, known facts.Facts) error {
	for i := range items {
		if k := items[i].Kind; k == imap.FetchBinary || k == imap.FetchBinarySize {
			if _, _, err := contentOf(known, &items[i].Section); err != nil {
				return err
			}
		}
	}
	return nil
}

// binary appends BINARY or BINARY.SIZE. How long it is is not known before it was decoded, so it is decoded twice, and never held.
func (r *response) binary(b []byte, item *imap.FetchItem) ([]byte, error) {
	s := &item.Section
	c, ok, err := contentOf(r.known, s)
	if err != nil {
		return b, err
	}
	if !ok {
		if item.Kind == imap.FetchBinarySize { // a number is needed
			return append(b, "0 "...), nil
		}
		return append(b, "NIL "...), nil
	}
	skip, count := int64(0), int64(1<<62)
	if s.Partial {
		skip, count = s.Offset, s.Count
	}
	f, err := r.open()
	if err != nil {
		return b, err
	}
	n, nul, err := measure(c.open(f), skip, count)
	if err != nil {
		return b, fmt.Errorf("imapd: decode message %d: %w", r.m.UID, err)
	}
	if item.Kind == imap.FetchBinarySize {
		return append(imap.AppendNumber(b, uint64(n)), ' '), nil
	}
	if n == 0 {
		return append(b, `"" `...), nil
	}
	r.u.send(imap.AppendLiteralSize(b, n, nul)) // RFC 9051 section 7.5.2: a literal8 only for a NUL
	r.sent = true
	body := c.open(f)
	if _, err = io.CopyN(io.Discard, body, skip); err == nil {
		_, err = io.CopyN(r.u.c, body, n)
	}
	if errors.Is(err, io.EOF) { // M12, as for a section
		r.u.view.box.Measure(r.m.UID)
		err = fmt.Errorf("imapd: message %d has become shorter", r.m.UID)
	}
	return append(r.u.buf[:0], ' '), err
}
