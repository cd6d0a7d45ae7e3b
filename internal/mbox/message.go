package mbox

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// copyMessage writes a message as it stands in an mbox: the header to head, and the empty line after it and all that follows to body.
func copyMessage(head, body io.Writer, e Entry) error {
	if _, err := e.Message.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(e.Header), e.Message), bufferSize)
	w, drop, rest, end := head, false, false, byte('\n')
	header := true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return err
		}
		if len(line) > 0 && !rest && header {
			switch line[0] {
			case '\n':
				w, header, drop = body, false, false
			case ' ', '\t': // as the line before
			default:
				drop = isState(line)
			}
		}
		if len(line) > 0 && !drop {
			end = line[len(line)-1]
			if !rest && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
				if _, err := io.WriteString(w, ">"); err != nil {
					return err
				}
			}
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		rest = err == bufio.ErrBufferFull
	}
	if end != '\n' {
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	last := "\n"
	if header {
		last = "\n\n"
	}
	_, err := io.WriteString(body, last)
	return err
}

// isState: a field that only readers of an mbox write.
func isState(line []byte) bool {
	name, _, _ := bytes.Cut(line[:min(len(line), 64)], []byte(":"))
	switch strings.ToLower(string(bytes.TrimRight(name, " \t"))) {
	case "content-length", "status", "x-status", "x-keywords", "x-uid", "x-imap", "x-imapbase":
		return true
	}
	return false
}

// search says whether the message is there, whole and perhaps not on disk. A part of it at the end is taken away.
func (f *file) search(e Entry) (bool, error) {
	if e.ID == "" {
		return false, errors.New("a suspect message without an id")
	}
	at := max(0, f.size-searchBack)
	r := bufio.NewReaderSize(io.NewSectionReader(f, at, f.size-at), bufferSize)
	var start int64 // of the message that is being read
	header, ours, rest := false, false, false
	blank := at == 0 // the line before was empty
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return false, err
		}
		if !rest {
			empty := len(bytes.TrimRight(line, "\r\n")) == 0
			switch {
			case blank && bytes.HasPrefix(line, []byte("From ")):
				start, header, ours = at, true, false
			case header && empty && len(line) > 0:
				header = false
				if !ours {
					break
				}
				switch err := f.compare(e, at); err {
				case nil:
					return true, nil
				case errPart:
					return false, f.cut(start)
				case errOther:
				default:
					return false, err
				}
			}
			blank = empty
		}
		ours = ours || header && bytes.Contains(line, []byte(e.ID))
		at += int64(len(line))
		if err == io.EOF {
			break
		}
		rest = err == bufio.ErrBufferFull
	}
	if header && ours {
		return false, f.cut(start)
	}
	return false, nil
}

func (f *file) cut(size int64) error {
	err := f.Truncate(size)
	if err == nil {
		f.size = size
	}
	return err
}

var (
	errPart  = errors.New("only a part")
	errOther = errors.New("another text")
)

// compare compares what stands in the file from at on, the end of a header, with what we would write there. The header itself is the readers', who add
// fields. nil: it is all there; errPart: as far as the file goes.
func (f *file) compare(e Entry, at int64) error {
	return copyMessage(io.Discard, &comparer{bufio.NewReaderSize(io.NewSectionReader(f, at, f.size-at), bufferSize)}, e)
}

type comparer struct{ r *bufio.Reader }

func (c *comparer) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		have, err := c.r.Peek(min(len(p)-n, bufferSize))
		if !bytes.HasPrefix(p[n:], have) {
			return n, errOther
		}
		n += len(have)
		c.r.Discard(len(have))
		if err == io.EOF && n < len(p) {
			return n, errPart
		}
		if err != nil && err != io.EOF {
			return n, err
		}
	}
	return len(p), nil
}
