package lineio

import (
	"bytes"
	"strconv"
)

// Newlines looks through a message for line ends other than CRLF, and for NUL. The zero value is ready. It serves for messages that come in chunks (BDAT); DotReader has one of its own.
type Newlines struct {
	cr   bool  // the last byte was a CR
	nul  bool  //
	line int64 // complete lines so far
	bad  error // the first fault, ErrBareCR or ErrBareLF
	at   int64 // and its line, counted from 1
}

// NewlineError is a bare CR or LF in a message.
type NewlineError struct {
	Line int64 // counted from 1
	Kind error // ErrBareCR or ErrBareLF
}

func (e *NewlineError) Error() string {
	return e.Kind.Error() + " in line " + strconv.FormatInt(e.Line, 10)
}
func (e *NewlineError) Unwrap() error { return e.Kind }

// Scan looks at the next part of the message.
func (n *Newlines) Scan(b []byte) {
	n.scanNUL(b)
	for len(b) > 0 {
		j := bytes.IndexByte(b, '\n')
		if j < 0 {
			n.span(b, false)
			return
		}
		n.span(b[:j], true)
		b = b[j+1:]
	}
}

// Err is the first bare CR or LF of what was scanned, a *NewlineError; a CR at the very end counts.
func (n *Newlines) Err() error {
	switch {
	case n.bad != nil:
		return &NewlineError{n.at, n.bad}
	case n.cr:
		return &NewlineError{n.line + 1, ErrBareCR}
	}
	return nil
}

// NUL reports whether a NUL byte was among it.
func (n *Newlines) NUL() bool { return n.nul }

func (n *Newlines) scanNUL(b []byte) {
	if !n.nul {
		n.nul = bytes.IndexByte(b, 0) >= 0
	}
}

// span looks at b, which has no LF; lf: one follows. It reports whether that LF ends a line. b is not empty unless lf.
func (n *Newlines) span(b []byte, lf bool) bool {
	cr := n.cr // the CR that may be the first half of a CRLF: before b, or its last byte
	if len(b) > 0 {
		if cr {
			n.fault(ErrBareCR)
		}
		k := bytes.IndexByte(b, '\r')
		cr = k >= 0 && b[len(b)-1] == '\r'
		if k >= 0 && k < len(b)-1 {
			n.fault(ErrBareCR)
		}
	}
	if !lf {
		n.cr = cr
		return false
	}
	n.cr = false
	if !cr {
		n.fault(ErrBareLF)
		return false
	}
	n.line++
	return true
}

func (n *Newlines) fault(kind error) {
	if n.bad == nil {
		n.bad, n.at = kind, n.line+1
	}
}
