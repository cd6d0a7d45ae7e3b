package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"postamt/internal/queue"
)

// show prints what is known of messages.
func show(c *command) error {
	flags := c.flags()
	asJSON := flags.Bool("json", false, "")
	return c.each(flags, func(q *queue.Queue, id queue.ID) error {
		l, err := q.Look(id)
		if err != nil {
			return err
		}
		if l.Err != nil {
			c.fail(exOSErr, fmt.Errorf("%s: %w", id, l.Err)) // and what can be shown of it is
		}
		notes, err := q.ReadLog(id)
		if err != nil {
			c.fail(exOSErr, err)
		}
		if *asJSON {
			_, err = c.out.Write(appendJSON(nil, shownJSON(&l, notes)))
			return err
		}
		_, err = c.out.Write(appendShown(nil, &l, notes, time.Now()))
		return err
	}, nil)
}

// appendShown is for people.
func appendShown(b []byte, l *queue.Listed, notes []queue.Note, now time.Time) []byte {
	e := &l.Envelope
	b = append(append(append(b, l.ID...), ": "...), state(l)...)
	field := func(name string, values ...string) {
		b = fmt.Appendf(b, "\n    %-9s", name)
		for _, v := range values {
			if v != "" {
				b = appendText(append(b, ' '), v)
			}
		}
	}
	named := func(name, value string) string {
		if value == "" {
			return ""
		}
		return name + "=" + value
	}
	field("size", strconv.FormatInt(l.Size, 10))
	if !l.Next.IsZero() && !l.Held && !l.Corrupt {
		field("next", string(appendTime(nil, l.Next)), in(l.Next.Sub(now)))
	}
	if l.Err == nil {
		field("arrived", string(appendTime(nil, e.Arrived)), in(e.Arrived.Sub(now)))
		field("from", "<"+e.From+">", named("BODY", e.Body), map[bool]string{true: "SMTPUTF8"}[e.UTF8], named("RET", e.Ret), named("ENVID", e.EnvID))
		if e.Hold != "" {
			field("hold", e.Hold)
		}
		if e.Origin != e.ID {
			field("origin", string(e.Origin))
		}
		if e.About != "" {
			field("about", string(e.About))
		}
		ip, port := "-", ""
		if e.Client.IP.IsValid() {
			ip = e.Client.IP.String()
		}
		if e.Client.Port != 0 {
			port = strconv.Itoa(int(e.Client.Port))
		}
		field("client", ip, named("port", port), named("name", e.Client.Name), named("helo", e.Client.Helo), named("proto", e.Client.Proto),
			named("login", e.Client.Login), named("listener", e.Client.Listener), named("tls", e.Client.TLS))
		for i := range e.Rcpts {
			r := &e.Rcpts[i]
			field(rcptState(r.State), "<"+r.Addr+">", named("NOTIFY", r.Notify), named("ORCPT", r.ORcpt), named("VIA", r.Via), named("TARGET", r.Target), named("REFUSED", r.Refused))
		}
	} else {
		field("damaged", l.Err.Error())
	}
	for _, n := range notes {
		b = append(b, "\n    "...)
		b = append(appendTime(b, n.Time), ' ')
		if n.Rcpt != "" {
			b = append(appendText(append(b, '<'), n.Rcpt), "> "...)
		}
		b = appendReason(b, n)
	}
	return append(b, '\n')
}

// in is a time from now in words, to two digits or so.
func in(d time.Duration) string {
	form := "(in %s)"
	if d < 0 {
		d, form = -d, "(%s ago)"
	}
	text := d.Round(time.Second).String()
	if d > 48*time.Hour {
		text = strconv.Itoa(int(d.Hours()/24)) + " days"
	}
	return fmt.Sprintf(form, text)
}

func state(l *queue.Listed) string {
	switch {
	case l.Corrupt:
		return "corrupt"
	case l.Held:
		return "hold"
	}
	return "active"
}

func rcptState(c byte) string {
	switch c {
	case queue.Pending:
		return "pending"
	case queue.Done:
		return "delivered"
	case queue.Failed:
		return "failed"
	}
	return "expanded"
}

// cat prints messages as they were accepted.
func cat(c *command) error {
	flags := c.flags()
	header := flags.Bool("H", false, "")
	return c.each(flags, func(q *queue.Queue, id queue.ID) error {
		if !*header {
			return q.Copy(c.out, id)
		}
		h := &headerWriter{w: c.out}
		if err := q.Copy(h, id); err != nil && !errors.Is(err, errEnough) {
			return err
		}
		return nil
	}, nil)
}

// headerWriter passes on what it is given up to and with the first empty line, or the end.
type headerWriter struct {
	w    *bufio.Writer
	line bytes.Buffer
}

var errEnough = errors.New("the header has ended")

func (h *headerWriter) Write(p []byte) (int, error) {
	rest := p
	for len(rest) > 0 {
		i := bytes.IndexByte(rest, '\n') + 1
		if i == 0 {
			i = len(rest)
		}
		if _, err := h.w.Write(rest[:i]); err != nil {
			return 0, err
		}
		if h.line.Len() < 2 {
			h.line.Write(rest[:min(i, 3)])
		}
		if rest[i-1] == '\n' {
			if s := h.line.String(); s == "\n" || s == "\r\n" {
				return 0, errEnough
			}
			h.line.Reset()
		}
		rest = rest[i:]
	}
	return len(p), nil
}
