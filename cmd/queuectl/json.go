package main

import (
	"bytes"
	"encoding/json"
	"time"

	"postamt/internal/queue"
)

// Objects have the keys of queuectl(8), in this order. What JSON cannot hold, it shows as U+FFFD.

type head struct {
	ID      queue.ID  `json:"id"`
	State   string    `json:"state"`
	Arrived time.Time `json:"arrived,omitzero"`
	Next    time.Time `json:"next,omitzero"`
	Size    int64     `json:"size"`
	From    string    `json:"from"`
	Error   string    `json:"error,omitempty"`
}

type listed struct {
	head
	To       []string `json:"to,omitempty"`
	Attempts int      `json:"attempts,omitempty"`
	note
}

type note struct {
	Event  string `json:"event,omitempty"`
	Status string `json:"status,omitempty"`
	Host   string `json:"host,omitempty"`
	Text   string `json:"text,omitempty"`
}

type shown struct {
	head
	Origin queue.ID   `json:"origin,omitempty"`
	About  queue.ID   `json:"about,omitempty"`
	Client client     `json:"client,omitzero"`
	Rcpts  []rcpt     `json:"rcpts,omitempty"`
	Log    []logEntry `json:"log,omitempty"`
}

type client struct {
	IP    string `json:"ip,omitempty"`
	Name  string `json:"name,omitempty"`
	Helo  string `json:"helo,omitempty"`
	Proto string `json:"proto,omitempty"`
	Login string `json:"login,omitempty"`
}

type rcpt struct {
	Addr    string `json:"address"`
	State   string `json:"state"`
	Notify  string `json:"notify,omitempty"`
	ORcpt   string `json:"orcpt,omitempty"`
	Via     string `json:"via,omitempty"`
	Target  string `json:"target,omitempty"`
	Refused string `json:"refused,omitempty"`
}

type logEntry struct {
	Time time.Time `json:"time"`
	Rcpt string    `json:"rcpt,omitempty"`
	note
}

func headJSON(l *queue.Listed) head {
	h := head{ID: l.ID, State: state(l), Arrived: l.Envelope.Arrived, Next: l.Next, Size: l.Size, From: l.Envelope.From}
	if l.Err != nil {
		h.Error = l.Err.Error()
	}
	return h
}

func listedJSON(l *queue.Listed, notes []queue.Note) any {
	o := listed{head: headJSON(l), Attempts: attempts(notes), note: noteJSON(reason(notes))}
	for i := range l.Envelope.Rcpts {
		if r := &l.Envelope.Rcpts[i]; r.State == queue.Pending {
			o.To = append(o.To, r.Addr)
		}
	}
	return o
}

func noteJSON(n queue.Note) note { return note{n.Event, n.Status, n.Host, n.Text} }

func shownJSON(l *queue.Listed, notes []queue.Note) any {
	e := &l.Envelope
	c := &e.Client
	o := shown{head: headJSON(l), About: e.About, Client: client{Name: c.Name, Helo: c.Helo, Proto: c.Proto, Login: c.Login}}
	if e.Origin != e.ID {
		o.Origin = e.Origin
	}
	if c.IP.IsValid() {
		o.Client.IP = c.IP.String()
	}
	for i := range e.Rcpts {
		r := &e.Rcpts[i]
		o.Rcpts = append(o.Rcpts, rcpt{r.Addr, rcptState(r.State), r.Notify, r.ORcpt, r.Via, r.Target, r.Refused})
	}
	for _, n := range notes {
		o.Log = append(o.Log, logEntry{n.Time, n.Rcpt, noteJSON(n)})
	}
	return o
}

// appendJSON writes an object and a line end.
func appendJSON(b []byte, object any) []byte {
	w := bytes.NewBuffer(b)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // addresses stand in < >
	if err := e.Encode(object); err != nil {
		panic(err) // strings, numbers and times
	}
	return w.Bytes()
}
