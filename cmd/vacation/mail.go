package main

import (
	"bufio"
	"bytes"
	"io"
	"strings"

	"postamt/internal/message"
)

const maxHeader = 256 << 10

// mail is what stands on standard input, as far as it matters.
type mail struct {
	sender string // of Return-Path, or of a line "From " in front; "" also if there is neither
	header []byte // empty if it is too long
}

// readMail reads the header. The text is read to its end too: some delivery agents mind when nobody does.
func readMail(r io.Reader) (*mail, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	m := &mail{}
	if first, _ := b.Peek(5); string(first) == "From " {
		line, err := b.ReadString('\n')
		if err != nil && err != io.EOF {
			return nil, err
		}
		if words := strings.Fields(line); len(words) > 1 {
			m.sender = words[1]
		}
	}
	for rest := false; ; {
		line, err := b.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return nil, err
		}
		if !rest && len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		m.header = append(m.header, line...)
		if len(m.header) > maxHeader {
			m.header = nil
			break
		}
		if err == io.EOF {
			break
		}
		rest = err == bufio.ErrBufferFull
	}
	s := message.Scan(m.header, true)
	for f, ok := s.Next(); ok; f, ok = s.Next() {
		if f.Is("Return-Path") {
			m.sender = strings.Trim(string(f.AppendText(nil)), "<>")
			break
		}
	}
	_, err := io.Copy(io.Discard, b)
	return m, err
}
