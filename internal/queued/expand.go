package queued

import (
	"errors"
	"io"
	"slices"
	"strings"

	"postamt/internal/addr"
	"postamt/internal/dsn"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
	"postamt/internal/smtp"
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
	e.see(m.env.Rcpts, tables.Resolve)
	return e
}

// see notes that rcpts get the message.
func (e *expansion) see(rcpts []queue.Rcpt, resolve func(addr.Mailbox) route.Verdict) {
	for i := range rcpts {
		if a, err := addr.Parse(rcpts[i].Addr, true); err == nil && rcpts[i].Refused == "" {
			if f := (route.Final{Verdict: resolve(a)}); f.Kind == route.Mailbox || f.Kind == route.Remote {
				e.seen[f.Key()] = true
			}
		}
	}
}

// expand answers recipient i, an alias.
func (e *expansion) expand(i int, rcpt addr.Mailbox, v route.Verdict) {
	s, m, r := e.s, e.m, &e.m.results[i]
	x, err := e.tables.Expand(rcpt, s.opt().Expansion)
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
	orcpt, notify, success := parent.ORcpt, parent.Notify, dsn.Expanded
	if orcpt == "" {
		orcpt = "rfc822;" + parent.Addr
	}
	switch {
	case child.From != m.env.From:
		// RFC 3461 section 5.2.7.1: a mailing list is where delivery ends.
		orcpt, notify, success = "", "", dsn.Delivered
		child.EnvID, child.Ret = "", ""
	case len(x.Finals) == 1:
		success = "" // section 5.2.7.2: what was asked for goes on to the one that the alias stands for
	default:
		notify = withoutSuccess(notify) // section 5.2.7.3 (c)
	}
	var added []string // to seen; taken back where there is no such child
	forget := func() {
		for _, key := range added {
			delete(e.seen, key)
		}
	}
	for _, f := range x.Finals {
		if f.Reply != nil && f.Reply.Temporary() {
			// A member that cannot be told now (an unreadable list file) puts the alias off as a whole:
			// the child is written once, and must name everyone.
			*r = result{kind: remote.Temp, reply: f.Reply}
			forget()
			return
		}
		// A member that is refused for good is named too: it fails in the child and its report goes
		// to the child's sender, the owner of the list if there is one.
		if f.Kind == route.Discard {
			continue
		}
		key := f.Key()
		if f.Kind == route.Refuse {
			key = "refused " + key // no address: the mailbox of that name may be reached another way
		}
		if !e.seen[key] {
			e.seen[key] = true
			added = append(added, key)
			member := queue.Rcpt{State: queue.Pending, Addr: f.Addr.String(), Notify: notify, ORcpt: orcpt, Via: parent.Addr}
			if f.Kind == route.Refuse {
				member.Refused = f.Reply.Error()
			}
			child.Rcpts = append(child.Rcpts, member)
		}
	}
	if len(child.Rcpts) == 0 {
		// Everyone it stands for gets the message another way, or nobody is meant to get it.
		*r = result{kind: remote.Done, expand: true, success: success}
		s.log.Expanded(string(m.id), parent.Addr, "-", 0, v.Source.String())
		return
	}
	adopted, err := s.spawn(&child, m.file.Reader)
	if err != nil {
		s.log.Problem(string(m.id), "expand "+parent.Addr, err)
		*r = result{kind: remote.Temp, reply: errLocal}
		forget()
		return
	}
	if adopted {
		// It names whom the alias stood for then. Who was added since may get the message by another alias.
		forget()
		e.adopt(child.ID)
	}
	*r = result{kind: remote.Done, expand: true, success: success}
	s.log.Expanded(string(m.id), parent.Addr, string(child.ID), len(child.Rcpts), v.Source.String())
	m.spawned = append(m.spawned, child.ID)
}

// adopt notes who gets the message by a child that was there. If that cannot be read now, some may get a
// second copy, but nobody none.
func (e *expansion) adopt(child queue.ID) {
	if file, err := e.s.queue.Message(child); err == nil {
		e.see(file.Envelope.Rcpts, e.tables.ResolveFinal)
		file.Close()
	}
}

// withoutSuccess is a NOTIFY parameter less its SUCCESS.
func withoutSuccess(notify string) string {
	words := slices.DeleteFunc(strings.Split(notify, ","), func(w string) bool { return w == "SUCCESS" })
	if len(words) == 0 {
		return "NEVER" // it asked for nothing else
	}
	return strings.Join(words, ",")
}

// refusal is the reply that a child names for one of its recipients. The alias refused it: by itself the address may well be a
// user's, whom the alias is there to hide.
func refusal(text string) *smtp.Reply {
	_, text, _ = strings.Cut(text, " ")
	enhanced, rest, _ := strings.Cut(text, " ")
	if _, ok := smtp.ParseEnhanced(enhanced); !ok {
		enhanced, rest = "5.1.1", text
	}
	return smtp.NewReply(550, enhanced, rest)
}

// spawn queues a message of our own making: a child or a report. Its id is derived, so the file may be
// there from before a crash: whole, then it is adopted; or cut short, then Recover removes it.
func (s *Server) spawn(e *queue.Envelope, body func() io.Reader) (adopted bool, err error) {
	err = s.write(e, body())
	if !errors.Is(err, queue.ErrExists) {
		return false, err
	}
	switch _, err := s.queue.Recover(e.ID); {
	case err == nil, errors.Is(err, queue.ErrNotExist):
	default:
		return false, err
	}
	if err = s.write(e, body()); errors.Is(err, queue.ErrExists) {
		return true, nil
	}
	return false, err
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
