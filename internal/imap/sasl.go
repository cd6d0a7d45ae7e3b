package imap

import "encoding/base64"

// InitialResponse reads [SP initial-resp] of AUTHENTICATE (RFC 9051 section 6.2.2, RFC 4959): base64, or "=" for one that is empty. False: there is none.
func (d *Decoder) InitialResponse() ([]byte, bool) {
	if !d.More() {
		return nil, false
	}
	p := d.SP().take(isAtomChar)
	if string(p) == "=" {
		return []byte{}, true
	}
	return d.base64(p), d.err == nil
}

func (d *Decoder) base64(p []byte) []byte {
	b, err := base64.StdEncoding.Strict().AppendDecode([]byte{}, p)
	if err != nil {
		d.Fail("not base64")
		return nil
	}
	return b
}

// ReadResponse reads the response to a challenge, a line of base64 of at most max octets with its CRLF. A "*" cancels: the error is BAD, as it is for what is no base64.
// Errors that are no *Status are those of the connection.
func (c *Conn) ReadResponse(max int) ([]byte, error) {
	d := Decoder{c: c}
	line, err := c.ReadLine(max)
	if err != nil {
		if len(line) > 0 { // a wrong character in it
			return nil, Bad("not base64")
		}
		return nil, err
	}
	if string(line) == "*" {
		return nil, Bad("the client gives up")
	}
	return d.base64(line), d.err
}
