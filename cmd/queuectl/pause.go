package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"postamt/internal/addr"
	"postamt/internal/config"
	"postamt/internal/post"
	"postamt/internal/queue"
	"postamt/internal/route"
)

// destination is a name as queued has it: a domain, or a next hop.
func destination(c *config.Config, s string) (string, error) {
	if s == "local" {
		return post.Local(c).String(), nil
	}
	if strings.ContainsAny(s, ":[/") {
		t, err := route.ParseTransport(s)
		return t.String(), err
	}
	domain, err := addr.ParseDomain(s, true)
	if err == nil {
		domain, err = addr.ASCIIDomain(strings.ToLower(domain))
	}
	if err != nil {
		return "", fmt.Errorf("%q: %w", s, err)
	}
	return domain, nil
}

// pause has mail for a destination wait, or prints what does.
func pause(c *command) error {
	if err := c.parse(c.flags(), 0, 2); err != nil {
		return err
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	if len(c.args) == 0 {
		list, err := q.Pauses()
		for _, p := range list {
			line := append(appendText(nil, p.Destination), '\t')
			line = append(appendTime(line, p.Since), '\t')
			if p.Text == "" {
				p.Text = "-"
			}
			c.out.Write(append(appendText(line, p.Text), '\n'))
		}
		return err
	}
	name, err := destination(c.conf, c.args[0])
	if err != nil {
		return exit{exUsage, err}
	}
	text := ""
	if len(c.args) > 1 {
		text = c.args[1]
	}
	if err := q.Pause(name, text); err != nil {
		return err
	}
	w, err := c.waker()
	if err != nil {
		return err
	}
	defer w.Close()
	w.Scan() // so that it is in the log now, not with the next message
	return nil
}

// resume ends it, and makes due what waited.
func resume(c *command) error {
	if err := c.parse(c.flags(), 1, 1); err != nil {
		return err
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	name, err := destination(c.conf, c.args[0])
	if err != nil {
		return exit{exUsage, err}
	}
	if err := q.Resume(name); errors.Is(err, queue.ErrNotExist) {
		return exit{exUnavailable, fmt.Errorf("%s is not paused", name)}
	} else if err != nil {
		return err
	}
	w, err := c.waker()
	if err != nil {
		return err
	}
	defer w.Close()
	f := filter{state: "active", now: time.Now()}
	err = f.look(q, true, func(l *queue.Listed, notes []queue.Note) error {
		if waitsFor(notes, name) {
			if err := q.Due(l.ID, f.now); err != nil && !errors.Is(err, queue.ErrNotExist) {
				c.failed(err)
			}
		}
		return nil
	})
	w.Scan()
	return err
}

// waitsFor says that since the last attempt a message was found to wait for a destination.
func waitsFor(notes []queue.Note, destination string) bool {
	for i := len(notes) - 1; i >= 0 && notes[i].Event != queue.EventAttempt; i-- {
		if notes[i].Event == queue.EventPaused && notes[i].Host == destination {
			return true
		}
	}
	return false
}
