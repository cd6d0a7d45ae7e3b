package facts

import (
	"io"
	"strings"

	"postamt/internal/message"
)

// previewRead is how much of a part is read for a preview: the style sheets in front of a newsletter's text fit in.
const previewRead = 128 << 10

// Preview is the preview of a message (RFC 8970), read from its file: of the first part that is text and no attachment, and of the plain one of alternatives. "": it has
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

func (p Part) preview(file io.ReaderAt) (string, error) {
	body := p.Body()
	r := message.Decode(io.NewSectionReader(file, body.Offset, min(body.Octets, previewRead)), string(p.Encoding()), string(p.Charset()))
	text, err := io.ReadAll(r)
	return message.Preview(text, is(p.Subtype(), "html")), err
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
