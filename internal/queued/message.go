package queued

import (
	"errors"
	"io"
	"sync"
	"time"

	"postamt/internal/addr"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
	"postamt/internal/smtp"
)

var (
	shuttingDown = smtp.NewReply(451, "4.3.2", "the mail system is being stopped")
	badAddress   = smtp.NewReply(553, "5.1.3", "bad recipient address syntax")
)

// message is one queue file during one attempt: opened, verified, its recipients on their way.
type message struct {
	id      queue.ID
	file    *queue.Message
	env     *queue.Envelope
	suspect bool
	begun   time.Time
	attempt int // which it is, once that is known

	mu      sync.Mutex
	open    int      // jobs not yet answered
	results []result // by recipient
}

// result is what one attempt says about one recipient. The zero value: not attempted, or still open.
type result struct {
	kind    remote.Kind
	reply   *smtp.Reply
	host    string // who said so; "" when we did
	maybe   bool   // the end of the message went out, no answer came back
	local   bool
	offline bool // no connection: nothing was attempted
	expand  bool // an alias, its child is queued
	expired bool // temporary, for too long
	tls     string
	relayed bool // accepted by a host that does not take DSN parameters over
}

// attempt takes one message from its file to its destinations. It runs in one of a few goroutines;
// the network is the scheduler's business.
func (s *Server) attempt(id queue.ID, suspect bool) {
	file, err := s.queue.Message(id)
	if err != nil {
		again := false
		switch {
		case errors.Is(err, queue.ErrNotExist):
			// Delivered, held or deleted since the index was told of it.
		default:
			s.log.Problem(string(id), "open", err)
			var damaged *queue.DamagedError
			again = !errors.As(err, &damaged) // no descriptors, no memory, an I/O error
		}
		s.release(id)
		if again {
			s.index.add(id, s.now().Add(s.opt.Retry.Min), suspect)
		}
		return
	}
	m := &message{id: id, file: file, env: &file.Envelope, suspect: suspect, begun: s.now()}
	m.results = make([]result, len(m.env.Rcpts))
	if next := file.Next; next.After(m.begun) && !s.opt.Retry.Due(next, m.begun) {
		// Someone put the attempt off since, by touch or by our own deferral.
		file.Close()
		s.release(id)
		s.index.add(id, next, suspect)
		return
	}

	jobs := s.routeAll(m)
	if len(jobs) == 0 {
		s.settle(m)
		return
	}
	if s.crowded(jobs) {
		file.Close()
		s.release(id)
		s.index.add(id, s.now().Add(s.opt.Retry.Min/4), suspect)
		return
	}
	m.open = len(jobs)
	for _, p := range jobs {
		s.sched.enqueue(p.to, p.job)
	}
}

// crowded: all that this message has to do waits for one destination, for which a good part of the room
// for active messages waits already. It steps back, so that a host that answers slowly cannot fill the
// room; nothing is recorded, since nothing was attempted.
func (s *Server) crowded(jobs []placed) bool {
	return len(jobs) == 1 && !jobs[0].to.Local && s.sched.waiting(jobs[0].to) > s.opt.Active/4
}

type placed struct {
	to  Destination
	job *job
}

// routeAll asks the tables about each pending recipient, answers what needs no connection, and gathers
// the others into jobs by destination.
func (s *Server) routeAll(m *message) []placed {
	tables := s.tables()
	var jobs []placed
	var e *expansion
	place := func(to Destination, i int) {
		for k := len(jobs) - 1; k >= 0; k-- {
			if jobs[k].to == to {
				limit := s.opt.Limits.Recipients
				if to.Local {
					limit = s.opt.Limits.LocalRecipients
				}
				if len(jobs[k].job.rcpts) < limit {
					jobs[k].job.rcpts = append(jobs[k].job.rcpts, i)
					return
				}
				break
			}
		}
		jobs = append(jobs, placed{to, &job{msg: m, rcpts: []int{i}}})
	}
	for i := range m.env.Rcpts {
		if m.env.Rcpts[i].State != queue.Pending {
			continue
		}
		r := &m.results[i]
		rcpt, err := addr.Parse(m.env.Rcpts[i].Addr, true)
		if err != nil {
			*r = result{kind: remote.Perm, reply: badAddress}
			continue
		}
		resolve := tables.Resolve
		if m.env.Rcpts[i].Via != "" {
			resolve = tables.ResolveFinal // a child names what its alias stood for, to the end
		}
		switch v := resolve(rcpt); v.Kind {
		case route.Mailbox:
			next, local := v.Next, false
			if next.IsZero() {
				next, local = s.opt.LocalTransport, true
			}
			r.local = local
			place(Destination{Next: next, Local: local}, i)
		case route.Remote:
			d := Destination{Next: v.Next}
			if v.Next.ByDomain() {
				d.Domain = rcpt.Domain
			}
			place(d, i)
		case route.Alias:
			if e == nil {
				e = s.newExpansion(m, tables)
			}
			e.expand(i, rcpt, v)
		case route.Discard:
			*r = result{kind: remote.Done, reply: smtp.NewReply(250, "2.0.0", "discarded by "+v.Source.String())}
		default:
			*r = result{kind: kindOf(v.Reply), reply: v.Reply}
		}
	}
	return jobs
}

// jobDone is the scheduler's answer to one job.
func (s *Server) jobDone(j *job, outcomes []remote.Outcome) {
	m := j.msg
	m.mu.Lock()
	for k, i := range j.rcpts {
		o := outcomes[k]
		r := &m.results[i]
		r.kind, r.reply, r.tls, r.maybe = o.Kind, o.Reply, o.TLS, o.MaybeDelivered
		if o.Peer != nil {
			r.host = o.Peer.String()
		}
		r.offline = o.Stage == remote.StageConnect
		r.relayed = o.Kind == remote.Done && !o.DSN
	}
	m.open--
	last := m.open == 0
	m.mu.Unlock()
	if last {
		s.settle(m)
	}
}

// transaction is the job in the words of the SMTP client.
func (j *job) transaction() *remote.Transaction {
	e := j.msg.env
	from, _ := addr.Parse(e.From, true) // "" is the null path
	tx := &remote.Transaction{
		From: from, Body: e.Body, UTF8: e.UTF8, Ret: e.Ret, EnvID: e.EnvID,
		Size: j.msg.file.Size,
		Open: func() (io.Reader, error) { return j.msg.file.Reader(), nil },
		// The delivery agent names the maildir file after the message that was accepted, so that two
		// ways of one message to one mailbox are one copy.
		QID: string(e.Origin), Arrived: e.Arrived.UnixMicro(), Suspect: j.msg.suspect,
		Rcpts: make([]remote.Rcpt, len(j.rcpts)),
	}
	for k, i := range j.rcpts {
		r := &e.Rcpts[i]
		to, _ := addr.Parse(r.Addr, true)
		tx.Rcpts[k] = remote.Rcpt{Addr: to, Notify: r.Notify, ORcpt: r.ORcpt}
	}
	return tx
}

func kindOf(r *smtp.Reply) remote.Kind {
	switch {
	case r.Permanent():
		return remote.Perm
	case r.Positive():
		return remote.Done
	}
	return remote.Temp
}
