package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"postamt/internal/message"
	"postamt/internal/queue"
	"postamt/internal/trail"
)

// why tells what has become of a message.
func why(c *command) error {
	flags := c.flags()
	asJSON := flags.Bool("json", false, "")
	if err := c.parse(flags, 1, -1); err != nil {
		return err
	}
	asked, logs := c.args[0], c.args[1:]
	var s *trail.Story
	switch id, err := queue.ParseID(asked); {
	case err == nil:
		s = trail.New("", string(id))
	case strings.Contains(asked, "@") || strings.HasPrefix(asked, "<"):
		s = trail.New(asked)
	default:
		return exit{exUnavailable, err}
	}
	q, err := c.queue()
	switch {
	case err == nil:
		defer q.Close()
	case len(logs) == 0:
		return err
	default:
		fmt.Fprintln(os.Stderr, "queuectl: the queue is not looked at:", err)
	}
	if err := c.story(s, q, logs); err != nil {
		return err
	}
	if !s.Known() {
		return exit{exUnavailable, fmt.Errorf("nothing is known of %s", asked)}
	}
	if s.Cut() {
		fmt.Fprintln(os.Stderr, "queuectl: there are more events than are kept; the last ones are missing")
	}
	return c.writeStory(s, *asJSON)
}

// story reads the queue, then the logs, those that can be twice if need be, and the queue for what only they have named.
func (c *command) story(s *trail.Story, q *queue.Queue, logs []string) error {
	if q != nil {
		c.search(s, q)
	}
	regular := true
	for _, name := range logs {
		ok, err := c.log(s, name)
		if err != nil {
			return err
		}
		regular = regular && ok
	}
	if s.Missed() && regular {
		s.Again()
		for _, name := range logs {
			if _, err := c.log(s, name); err != nil {
				return err
			}
		}
	}
	if q == nil || c.code != 0 {
		return nil // that the queue cannot be read was told
	}
	if c.search(s, q); c.code == 0 {
		s.Looked()
	}
	return nil
}

// log reads one log file. regular: it can be read again.
func (c *command) log(s *trail.Story, name string) (regular bool, err error) {
	in := c.in
	if name != "-" {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrPermission) {
			return false, exit{exNoPerm, err}
		} else if err != nil {
			return false, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return false, err
		}
		in, regular = f, info.Mode().IsRegular()
	}
	p := &trail.Parser{Now: time.Now(), Born: born}
	if err := s.Read(in, p); err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	return regular, nil
}

func born(s string) (time.Time, bool) {
	id, err := queue.ParseID(s)
	if err != nil {
		return time.Time{}, false
	}
	return id.Time(), true
}

// search adds what the queue has: the messages that are meant, what came of them, and where nobody has read it in a log, by the origin that they name. What names
// another that is found later is found by the next round.
func (c *command) search(s *trail.Story, q *queue.Queue) {
	for more := true; more; {
		more = false
		err := q.List(func(l queue.Listed) bool {
			id := string(l.ID)
			e := &l.Envelope
			if s.Has(id) {
				return true
			}
			switch {
			case s.Wants(id):
			case e.Origin != l.ID && e.Origin != "" && s.Wants(string(e.Origin)):
				s.Want(id, string(e.Origin), false)
			case e.About != "" && s.Wants(string(e.About)):
				s.Want(id, string(e.About), e.Origin == l.ID)
			case s.Searches() && e.Origin == l.ID && s.IsMessageID(messageID(q, l.ID)):
				s.Ask(id)
			default:
				return true
			}
			more = true
			s.Add(file(q, &l))
			return true
		})
		if err != nil {
			c.failed(err)
			return
		}
	}
	for _, id := range s.Asked() {
		if s.Has(id) {
			continue
		}
		l, err := q.Look(queue.ID(id)) // also in corrupt
		if err == nil {
			s.Add(file(q, &l))
		} else if !errors.Is(err, queue.ErrNotExist) {
			c.failed(err)
		}
	}
}

// file is a message of the queue as the story has it.
func file(q *queue.Queue, l *queue.Listed) *trail.File {
	e := &l.Envelope
	f := &trail.File{ID: string(l.ID), Origin: string(e.Origin), About: string(e.About), Next: l.Next, Held: l.Held, Corrupt: l.Corrupt}
	note := func(at time.Time, event string, values ...string) {
		f.Notes = append(f.Notes, trail.Line{Time: at.UTC(), Program: "queue", ID: f.ID, Event: event, Values: trail.Values(values...)})
	}
	for i := range e.Rcpts {
		r := &e.Rcpts[i]
		f.Rcpts = append(f.Rcpts, trail.Rcpt{Addr: r.Addr, Target: r.Target, State: r.State})
	}
	if l.Err == nil {
		ip := ""
		if e.Client.IP.IsValid() {
			ip = e.Client.IP.String()
		}
		note(e.Arrived, "arrived", "from", "<"+e.From+">", "rcpts", fmt.Sprint(len(e.Rcpts)), "client", ip, "helo", e.Client.Helo, "proto", e.Client.Proto, "login", e.Client.Login)
	} else {
		note(l.ID.Time(), "damaged", "error", l.Err.Error())
		f.Corrupt = true
	}
	notes, _ := q.ReadLog(l.ID) // one that cannot be read says nothing
	for _, n := range notes {
		if n.Event != queue.EventAttempt {
			rcpt := ""
			if n.Rcpt != "" {
				rcpt = "<" + n.Rcpt + ">"
			}
			note(n.Time, n.Event, "rcpt", rcpt, "status", n.Status, "host", n.Host, "text", n.Text)
		}
	}
	return f
}

// maxHeader is how much of a header is looked at for a Message-ID, as by smtpd.
const maxHeader = 256 << 10

// begin keeps the beginning of what is written to it.
type begin struct{ bytes.Buffer }

func (b *begin) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxHeader {
		return 0, errEnough
	}
	return b.Buffer.Write(p)
}

// messageID is what the header of a message says; "" if nothing.
func messageID(q *queue.Queue, id queue.ID) string {
	var b begin
	w := bufio.NewWriter(&b)
	q.Copy(&headerWriter{w: w}, id) // as much as there is
	w.Flush()
	fields := message.Scan(b.Bytes(), false)
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		if f.Is("Message-ID") {
			return string(f.Value())
		}
	}
	return ""
}

// writeStory prints events and ends, and has the exit code say how it stands.
func (c *command) writeStory(s *trail.Story, asJSON bool) error {
	var b []byte
	for _, l := range s.Events() {
		if asJSON {
			values := make(map[string]string)
			for k, v := range l.All() {
				values[k] = v
			}
			b = appendJSON(b[:0], struct {
				Time    time.Time         `json:"time,omitzero"`
				Program string            `json:"program"`
				ID      string            `json:"id"`
				Event   string            `json:"event"`
				Values  map[string]string `json:"values,omitempty"`
			}{l.Time, l.Program, l.ID, l.Event, values})
		} else {
			b = b[:0]
			if l.Time.IsZero() {
				b = append(b, '-')
			} else {
				b = l.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
			}
			for _, f := range [...]string{l.Program, l.ID, l.Event, l.Values} {
				b = appendText(append(b, '\t'), f)
			}
			b = append(b, '\n')
		}
		if _, err := c.out.Write(b); err != nil {
			return err
		}
	}
	if !asJSON {
		io.WriteString(c.out, "\n")
	}
	for _, e := range s.Ends() {
		if !e.Report {
			c.code = max(c.code, endCode(e.State))
		}
		if asJSON {
			b = appendJSON(b[:0], struct {
				ID     string `json:"id"`
				Rcpt   string `json:"rcpt"`
				State  string `json:"state"`
				Detail string `json:"detail,omitempty"`
				Report bool   `json:"report,omitempty"`
			}{e.ID, e.Rcpt, e.State, e.Detail, e.Report})
		} else {
			b = append(appendText(append(b[:0], '<'), e.Rcpt), ">\t"...)
			b = append(append(b, e.State...), '\t')
			if e.Detail == "" {
				e.Detail = "-"
			}
			b = append(appendText(b, e.Detail), '\t')
			b = append(append(b, e.ID...), '\n')
		}
		if _, err := c.out.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func endCode(state string) int {
	switch state {
	case trail.Failed:
		return exFailed
	case trail.Unknown:
		return exUnavailable
	case trail.Waiting, trail.Held:
		return exTempFail
	}
	return 0
}
