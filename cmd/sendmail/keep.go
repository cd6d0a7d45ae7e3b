package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"postamt/internal/mbox"
	"postamt/internal/submit"
)

// keep appends a message to an mbox file, which it makes if there is none.
func keep(path, from string, header []byte, body *submit.Spool) error {
	return mbox.Append(context.Background(), path, mbox.Entry{Sender: from, Date: time.Now(), Message: &lines{header: header, body: body}}, mbox.Options{})
}

// lines is a message, of which each CR is one of CR LF, in lines that end in LF.
type lines struct {
	header []byte
	body   *submit.Spool
	r      *bufio.Reader
}

// Seek goes to the beginning, and nowhere else.
func (l *lines) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, errors.ErrUnsupported
	}
	l.r = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(l.header), strings.NewReader("\r\n"), l.body.Reader()), 64<<10)
	return 0, nil
}

func (l *lines) Read(p []byte) (n int, err error) {
	for n == 0 && len(p) > 0 && err == nil {
		var read int
		read, err = l.r.Read(p)
		for _, c := range p[:read] {
			if c != '\r' {
				p[n] = c
				n++
			}
		}
	}
	return n, err
}
