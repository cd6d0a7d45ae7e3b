package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"postamt/internal/config"
	"postamt/internal/queue"
)

// mailq lists the queue as Postfix's does, which programs read: one block a message, as it is found, and a last line that sums up.
func mailq(c *config.Config) int {
	q, err := queue.Open(c.QueueDir, queue.Options{})
	if err != nil {
		return queueError(c, err)
	}
	defer q.Close()
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	var b []byte
	var count, octets int64
	var written error
	err = q.List(func(l queue.Listed) bool {
		b = b[:0]
		if count == 0 {
			b = append(b, "----Queue ID-------- --Size-- ----Arrival Time---- -Sender/Recipient-------\n"...)
		}
		count++
		octets += l.Size
		notes, _ := q.ReadLog(l.ID)
		b = append(appendBlock(b, l, notes), '\n')
		_, written = out.Write(b)
		return written == nil
	})
	switch {
	case err != nil:
	case count == 0:
		out.WriteString("Mail queue is empty\n")
	case count == 1:
		fmt.Fprintf(out, "-- %d Kbytes in 1 Request.\n", (octets+1023)/1024)
	default:
		fmt.Fprintf(out, "-- %d Kbytes in %d Requests.\n", (octets+1023)/1024, count)
	}
	if written == nil {
		written = out.Flush()
	}
	switch {
	case errors.Is(written, syscall.EPIPE): // head(1) has seen enough
		return 0
	case written != nil:
		return fail(exIOErr, written)
	case err != nil:
		return queueError(c, err)
	}
	return 0
}

func queueError(c *config.Config, err error) int {
	if errors.Is(err, fs.ErrPermission) {
		return fail(exNoPerm, fmt.Errorf("the queue may be read by root and %s only: %w", cmp.Or(c.QueueUser, "its owner"), err))
	}
	return fail(exOSErr, err)
}

// appendBlock writes one message: a line of its own, then why it is here, and those it is still for.
func appendBlock(b []byte, l queue.Listed, notes []queue.Note) []byte {
	b = append(b, l.ID...)
	mark := byte(' ')
	if l.Held {
		mark = '!'
	}
	e := &l.Envelope
	b = fmt.Appendf(b, "%c%8d ", mark, l.Size)
	arrived := e.Arrived
	if arrived.IsZero() {
		arrived = l.Next
	}
	b = arrived.Local().AppendFormat(b, time.ANSIC[:len("Mon Jan _2 15:04:05")])
	b = append(b, "  "...)
	if l.Err != nil {
		b = append(b, "(damaged)\n("...)
		return append(appendText(b, l.Err.Error()), ")\n"...)
	}
	from := e.From
	if from == "" {
		from = "MAILER-DAEMON"
	}
	b = append(appendText(b, from), '\n')
	told := ""
	for i := range e.Rcpts {
		r := &e.Rcpts[i]
		if r.State != queue.Pending {
			continue
		}
		if why := reason(notes, r.Addr); why != "" && why != told {
			told = why
			b = append(b, '(')
			b = append(appendText(b, why), ")\n"...)
		}
		b = fmt.Appendf(b, "%51s", "")
		b = append(appendText(b, r.Addr), '\n')
	}
	return b
}

// reason is what was last noted of a recipient, or of the message.
func reason(notes []queue.Note, rcpt string) string {
	for _, n := range slices.Backward(notes) {
		if n.Event == queue.EventAttempt || n.Event == queue.EventWarned || n.Rcpt != "" && n.Rcpt != rcpt {
			continue
		}
		s := n.Event
		for _, t := range [...]string{n.Status, n.Host, n.Text} {
			if t != "" {
				s += " " + t
			}
		}
		return s
	}
	return ""
}

// appendText lets no octet of an address, or of what another server said, end a line or move a terminal's cursor.
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
