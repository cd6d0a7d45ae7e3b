package queued

import (
	"errors"
	"io"

	"postamt/internal/addr"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
)

// expansion turns the recipients of one message that are aliases into child messages, in one pass.
//
// Each alias becomes one child whose id is derived from the parent's and the alias: after a crash
// between the child and the parent's mark, the second pass finds the first one's child. What the message
// already reaches, directly or through an earlier alias, is left out, so that a person on two lists of
// one message gets one copy. (Should that be seen differently after a crash, the maildir name, which
// derives from the accepted message, still makes it one.)
type expansion struct {
	s      *Server
	m      *message
	tables *route.Tables
	seen   map[string]bool
}

func (s *Server) newExpansion(m *message, tables *route.Tables) *expansion {
	e := &expansion{s: s, m: m, tables: tables, seen: make(map[string]bool)}
	for i := range m.env.Rcpts {
		if a, err := addr.Parse(m.env.Rcpts[i].Addr, true); err == nil {
			if f := (route.Final{Verdict: tables.Resolve(a)}); f.Kind == route.Mailbox || f.Kind == route.Remote {
				e.seen[f.Key()] = true
			}
		}
	}
	return e
}

// expand answers recipient i, an alias.
func (e *expansion) expand(i int, rcpt addr.Mailbox, v route.Verdict) {
	s, m, r := e.s, e.m, &e.m.results[i]
	x, err := e.tables.Expand(rcpt, s.opt.Expansion)
	if err != nil {
		reply := asReply(err)
		*r = result{kind: kindOf(reply), reply: reply}
		return
	}
	parent := &m.env.Rcpts[i]
	child := queue.Envelope{
		ID: m.id.Derive("expand", parent.Addr), Origin: m.env.Origin, Arrived: m.env.Arrived,
		From: m.env.From, Body: m.env.Body, UTF8: m.env.UTF8, Ret: m.env.Ret, EnvID: m.env.EnvID, Client: m.env.Client,
	}
	if !x.Owner.IsNull() && m.env.From != "" {
		// conventions of sendmail and Postfix: errors of a list go to its owner. The null path stays null.
		child.From = x.Owner.String()
	}
	orcpt := parent.ORcpt
	if orcpt == "" {
		orcpt = "rfc822;" + parent.Addr
	}
	for _, f := range x.Finals {
		if f.Reply != nil && f.Reply.Temporary() {
			// A member that cannot be told now (an unreadable list file) puts the alias off as a whole:
			// the child is written once, and must name everyone.
			*r = result{kind: remote.Temp, reply: f.Reply}
			return
		}
		// A member that is refused for good is named too: it fails in the child and its report goes
		// to the child's sender, the owner of the list if there is one.
		if f.Kind == route.Discard {
			continue
		}
		if key := f.Key(); !e.seen[key] {
			e.seen[key] = true
			child.Rcpts = append(child.Rcpts, queue.Rcpt{
				State: queue.Pending, Addr: f.Addr.String(), Notify: parent.Notify, ORcpt: orcpt, Via: parent.Addr,
			})
		}
	}
	if len(child.Rcpts) == 0 {
		*r = result{kind: remote.Done, expand: true} // everyone it stands for gets the message another way
		return
	}
	if err := s.spawn(&child, m.file.Reader); err != nil {
		s.log.Problem(string(m.id), "expand "+parent.Addr, err)
		*r = result{kind: remote.Temp, reply: errLocal}
		return
	}
	*r = result{kind: remote.Done, expand: true}
	s.log.Expanded(string(m.id), parent.Addr, string(child.ID), len(child.Rcpts), v.Source.String())
	s.submit(child.ID, m.suspect)
}

// spawn queues a message of our own making: a child or a report. Its id is derived, so the file may be
// there from before a crash: whole, then it is the same message; or cut short, then Recover removes it.
func (s *Server) spawn(e *queue.Envelope, body func() io.Reader) error {
	err := s.write(e, body())
	if !errors.Is(err, queue.ErrExists) {
		return err
	}
	switch _, err := s.queue.Recover(e.ID); {
	case err == nil, errors.Is(err, queue.ErrNotExist):
	default:
		return err
	}
	if err := s.write(e, body()); !errors.Is(err, queue.ErrExists) {
		return err
	}
	return nil
}

func (s *Server) write(e *queue.Envelope, body io.Reader) error {
	w, err := s.queue.Create(e)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, body); err != nil {
		w.Abort()
		return err
	}
	return w.Commit()
}
