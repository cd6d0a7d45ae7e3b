package facts

import (
	"io"
	"strings"
	"unicode/utf8"

	"postamt/internal/message"
)

// previewRead is how much of a part is read for a preview: the style sheets in front of a newsletter's text fit in.
const previewRead = 128 << 10

// Preview is the preview of a message (RFC 8970). It is not kept: with 200 octets a record would be a tenth longer, and as much slower to make and to read, for what few programs
// ask, and each but once. It is read from the file: of the first part that is text and no attachment, and of the plain one of alternatives. "": it has
// none, or only white space.
func (f Facts) Preview(file io.ReaderAt) (string, error) {
	var plain, html Part
	texts(f.Root(), &plain, &html)
	for _, p := range []Part{plain, html} {
		if p.at == 0 {
			continue
		}
		if s, err := p.preview(file); s != "" || err != nil {
			return s, err
		}
	}
	return "", nil
}

// texts looks for the first text, and among alternatives for the plain one and that in HTML. True: it is found.
func texts(p Part, plain, html *Part) bool {
	if p.IsMultipart() {
		alternative := is(p.Subtype(), "alternative")
		for c, ok := p.First(); ok; c, ok = c.Next(p) {
			if texts(c, plain, html) && !alternative {
				return true
			}
		}
		return plain.at != 0 || html.at != 0
	}
	if !is(p.Type(), "text") || is(p.Disposition(), "attachment") {
		return false
	}
	at := plain
	if is(p.Subtype(), "html") {
		at = html
	}
	if at.at == 0 {
		*at = p
	}
	return true
}

// preview reads no more than it needs: 2 KiB of text are mostly enough.
func (p Part) preview(file io.ReaderAt) (string, error) {
	body := p.Body()
	var r io.Reader = io.NewSectionReader(file, body.Offset, min(body.Octets, previewRead))
	if c := p.Charset(); c == nil || is(c, "utf-8") || is(c, "us-ascii") {
		r, _ = message.Transfer(r, string(p.Encoding())) // Preview replaces what is no UTF-8
	} else {
		r = message.Decode(r, string(p.Encoding()), string(c))
	}
	html := is(p.Subtype(), "html")
	text := make([]byte, 0, 2<<10)
	for {
		n, err := io.ReadFull(r, text[len(text):cap(text)])
		text = text[:len(text)+n]
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return "", err
		}
		if s := message.Preview(text, html, end); end || utf8.RuneCountInString(s) >= message.PreviewLength-1 {
			return s, nil
		}
		text = append(make([]byte, 0, 8*cap(text)), text...)
	}
}

// Charset is the parameter of that name; nil: there is none.
func (p Part) Charset() []byte {
	for i, params := 0, p.Params(); i < params.Len(); i++ {
		if name, value := params.At(i); is(name, "charset") {
			return value
		}
	}
	return nil
}

func is(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }
