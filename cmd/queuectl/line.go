package main

import (
	"strconv"
	"time"

	"postamt/internal/queue"
)

// appendLine writes a message as queuectl(8) says: fields with tabs between them, in this order for ever; new ones come
// last.
func appendLine(b []byte, l *queue.Listed, n queue.Note) []byte {
	b = append(b, l.ID...)
	if l.Held {
		b = append(b, "\thold\t"...)
	} else {
		b = append(b, "\tactive\t"...)
	}
	e := &l.Envelope
	b = appendTime(b, e.Arrived)
	b = append(b, '\t')
	b = appendTime(b, l.Next)
	b = append(b, '\t')
	b = strconv.AppendInt(b, l.Size, 10)
	if l.Err != nil {
		b = append(b, "\t-\t-\tdamaged: "...)
		return append(appendText(b, l.Err.Error()), '\n')
	}
	b = append(b, "\t<"...)
	b = appendText(b, e.From)
	b = append(b, ">\t"...)
	first := true
	for i := range e.Rcpts {
		if r := &e.Rcpts[i]; r.State == queue.Pending {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(b, '<')
			b = appendText(b, r.Addr)
			b = append(b, '>')
		}
	}
	if first {
		b = append(b, '-')
	}
	b = append(b, '\t')
	b = appendReason(b, n)
	return append(b, '\n')
}

func appendReason(b []byte, n queue.Note) []byte {
	if n.Event == "" {
		return append(b, '-')
	}
	b = appendText(b, n.Event)
	for _, s := range [...]string{n.Status, n.Host, n.Text} {
		if s != "" {
			b = append(b, ' ')
			b = appendText(b, s)
		}
	}
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, '-')
	}
	return t.UTC().AppendFormat(b, time.RFC3339)
}

// appendText lets no byte of an address or of another server's reply end a field, a line, or move a terminal's cursor.
func appendText(b []byte, s string) []byte {
	for _, c := range s {
		if strconv.IsPrint(c) && c != '\ufffd' {
			b = append(b, string(c)...)
		} else {
			b = append(b, '?')
		}
	}
	return b
}
