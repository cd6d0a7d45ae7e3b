package queued

import (
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/dsn"
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
	attempt int        // which it is, once that is known
	spawned []queue.ID // children and reports that are queued, not yet taken up

	tables *route.Tables // by which its recipients were routed
	sender addr.Mailbox  // towards other hosts, if it is not that of env

	mu       sync.Mutex
	open     int        // jobs not yet answered
	results  []result   // by recipient
	forwards *expansion // of those whose forward files have been told; nil: nobody's yet
}

// result is what one attempt says about one recipient. The zero value: not attempted, or still open.
type result struct {
	kind    remote.Kind
	reply   *smtp.Reply
	host    string   // the other side, for the log; "" when there was none
	mta     string   // the server that said so, for reports; "" when we did
	maybe   bool     // the end of the message went out, no answer came back
	local   bool     // final delivery, by our own agent
	command bool     // of those, one to a command or file: the agent does not recognise what it has delivered
	offline bool     // no connection: nothing was attempted
	box     string   // key of the mailbox; "" when it is none of ours
	expand  bool     // an alias, or a user with a forward file: its child is queued
	forward []string // what the forward file of the user says, in the words of deliver; its child is to be queued
	expired bool     // temporary, for too long
	tls     string
	source  alias.Pos  // what decided where it goes
	success dsn.Action // of Done: what a sender is told who asked; "" nothing, others will
}

// recognised: what is delivered is found to be so by the next attempt, if this one is not recorded.
func (r *result) recognised() bool { return r.local && !r.command }

// status is what the reply says, but of what has expired, that it has (RFC 3463 section 3.5). The reply stays what the last host
// has said: RFC 3464 section 2.3.6 wants the diagnostic code as it was issued. It is not nil.
func (r *result) status() string {
	if r.expired {
		return "4.4.7"
	}
	return r.reply.Enhanced.String()
}

// attempt takes one message from its file to its destinations. It runs in one of a few goroutines;
// the network is the scheduler's business.
func (s *Server) attempt(t task) {
	id, suspect := t.id, t.suspect
	file, err := s.queue.Message(id)
	if err != nil {
		again := false
		switch {
		case errors.Is(err, queue.ErrNotExist), errors.Is(err, queue.ErrBusy):
			// Delivered, held or deleted since the index was told of it; or still being written, and then
			// we are told again.
			s.forgetLog(id)
		default:
			s.log.Problem(string(id), "open", err)
			var damaged *queue.DamagedError
			again = !errors.As(err, &damaged) // no descriptors, no memory, an I/O error
		}
		s.release(id)
		if again {
			s.index.add(id, s.now().Add(s.opt().Retry.Min), suspect)
		}
		return
	}
	m := &message{id: id, file: file, env: &file.Envelope, suspect: suspect, begun: s.now()}
	m.results = make([]result, len(m.env.Rcpts))
	if next := file.Next; !t.now && !s.opt().Retry.Due(next, m.begun) {
		// Someone put the attempt off since, by touch or by our own deferral.
		file.Close()
		s.release(id)
		s.index.add(id, next, suspect)
		return
	}

	if s.early(m) {
		file.Close()
		s.release(id)
		s.index.add(id, m.begun.Add(min(localRetry, s.opt().Retry.Min)), suspect)
		return
	}
	if s.hold(m) {
		file.Close()
		s.release(id)
		s.submit(m)
		return
	}

	jobs := s.routeAll(m)
	if len(jobs) == 0 {
		s.settle(m)
		return
	}
	s.recordExpanded(m)
	s.submit(m)
	if to, room := jobs[0].to, s.opt().Active/4; len(jobs) == 1 && s.sched.isCrowded(to, room) {
		s.release(id) // before it is parked: an entry that comes back while its message is active is dropped
		if !s.sched.park(to, t, room) {
			// Put off in its file, lest each reading of the directory finds it before what is for other hosts.
			next := s.now().Add(s.opt().Retry.Min)
			if err := file.Defer(next); err != nil {
				s.log.Problem(string(id), "defer", err)
			}
			s.index.add(id, next, suspect)
		}
		file.Close()
		return
	}
	m.open = len(jobs)
	for _, p := range jobs {
		s.sched.enqueue(p.to, p.job)
	}
}

// early tells that what m follows from has not been marked yet. Then m was left by a crash, or a scan was quicker than
// the attempt that made it, and it waits: that attempt, or the one to come, finds it, marks, and takes it up. Of a
// child the mark itself can be asked for. Of a report it is enough that nothing is being recorded now and that the next
// attempt is not due: the last one has come to its end.
func (s *Server) early(m *message) bool {
	parent, child := m.env.About, m.env.Origin != m.id
	if child && parent == "" {
		parent = m.env.Origin
	}
	if !m.suspect || parent == "" {
		return false
	}
	if !child && s.isActive(parent) {
		return true
	}
	p, err := s.queue.Message(parent)
	if err != nil {
		// Gone, held, damaged: it will not make this one again soon. An error of the moment is no answer.
		var damaged *queue.DamagedError
		return !errors.Is(err, queue.ErrNotExist) && !errors.Is(err, queue.ErrVersion) && !errors.As(err, &damaged)
	}
	defer p.Close()
	if !child {
		return s.opt().Retry.Due(p.Next, m.begun)
	}
	for i := range p.Envelope.Rcpts {
		r := &p.Envelope.Rcpts[i]
		if expands := r.Target == "" || r.Target == smtp.WholeFile; expands && r.State == queue.Pending && r.Addr == m.env.Rcpts[0].Via {
			return true
		}
	}
	return false
}

type placed struct {
	to  Destination
	job *job
}

// routeAll asks the tables about each pending recipient, answers what needs no connection, and gathers
// the others into jobs by destination. The children of its aliases are queued, to be submitted by the caller.
func (s *Server) routeAll(m *message) []placed {
	tables := s.tables()
	m.tables = tables
	var jobs []placed
	var e *expansion
	filling := make(map[Destination]*job) // a list can have as many destinations as members
	// What goes to one mailbox by several addresses is one copy only if one transaction, or one after the other, has them: its name says how long it is, with the address on top.
	var together map[string]*job
	if len(m.env.Rcpts) > s.opt().Limits.LocalRecipients {
		together = make(map[string]*job)
	}
	place := func(to Destination, i int) {
		box := m.results[i].box
		if j := together[box]; j != nil {
			j.rcpts = append(j.rcpts, i)
			return
		}
		limit := s.opt().Limits.Recipients
		switch {
		case m.env.VERP || m.env.Unsub != "":
			limit = 1 // each has an envelope of his own
		case to.Target != "":
			limit = 1 // what one has done is recorded while others, as slow as commands are, have not ended
		case to.Local:
			limit = s.opt().Limits.LocalRecipients
		}
		j := filling[to]
		if j == nil || len(j.rcpts) >= limit {
			j = &job{msg: m}
			filling[to] = j
			jobs = append(jobs, placed{to, j})
		}
		j.rcpts = append(j.rcpts, i)
		if together != nil && box != "" && to.Local {
			together[box] = j
		}
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
		if why := m.env.Rcpts[i].Refused; why != "" {
			*r = result{kind: remote.Perm, reply: refusal(why)}
			continue
		}
		if target := m.env.Rcpts[i].Target; target != "" && target != smtp.JustMailbox {
			r.local, r.command = true, true
			if !strings.HasPrefix(target, smtp.InAlias) {
				v := tables.ResolveFinal(rcpt)
				target = v.Mailbox.Key()
			}
			place(commandAt(target, s.opt().LocalTransport), i)
			continue
		}
		resolve := tables.Resolve
		if m.env.Rcpts[i].Via != "" {
			resolve = tables.ResolveFinal // a child names what its alias stood for, to the end
		}
		switch v := resolve(rcpt); v.Kind {
		case route.Mailbox:
			d := DestinationOf(&v, s.opt().LocalTransport)
			r.local, r.box, r.source = d.Local, v.Mailbox.Key(), v.Source
			place(d, i)
		case route.Remote:
			m.sendOn(tables)
			r.source = v.Source
			place(DestinationOf(&v, s.opt().LocalTransport), i)
		case route.Alias:
			if e == nil {
				e = s.newExpansion(m, tables)
			}
			e.expand(i, rcpt, v)
		case route.Discard:
			*r = result{kind: remote.Done, reply: smtp.NewReply(250, "2.0.0", "discarded by "+v.Source.String())}
		default:
			*r = result{kind: kindOf(v.Reply), reply: v.Reply, source: v.Source}
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
		r.kind, r.reply, r.tls, r.maybe, r.forward = o.Kind, o.Reply, o.TLS, o.MaybeDelivered, o.Expanded
		if o.Peer != nil {
			r.host = o.Peer.String()
			if !o.Local {
				r.mta = o.Peer.MTA()
			}
		}
		r.offline = o.Stage == remote.StageConnect
		switch {
		case r.local:
			r.success = dsn.Delivered
		case !o.DSN:
			// RFC 3461 section 5.2.2: the next host will not report, so we say where our knowledge ends.
			r.success = dsn.Relayed
		}
	}
	others := m.open > 1
	m.mu.Unlock()
	s.filing <- struct{}{}
	m.mu.Lock() // of another job's recipients a forward file may be expanded meanwhile
	s.noteRoom(m, j.rcpts)
	if others {
		s.recordSent(m, j.rcpts)
		s.forwardNow(m)
	}
	<-s.filing
	m.open--
	last := m.open == 0
	m.mu.Unlock()
	if last {
		s.settle(m)
	}
}

// noteRoom remembers which mailboxes are full, so that smtpd can say so before a message is sent.
func (s *Server) noteRoom(m *message, rcpts []int) {
	for _, i := range rcpts {
		switch r := &m.results[i]; {
		case r.box == "":
		case r.kind == remote.Done:
			s.queue.NoteRoom(r.box, m.file.Size)
		case r.reply != nil && r.reply.Enhanced[1] == 2 && r.reply.Enhanced[2] == 2: // RFC 3463 section 3.3: mailbox full
			if err := s.queue.NoteFull(r.box, m.file.Size, s.now()); err != nil {
				s.log.Problem(string(m.id), "note", err)
			}
		}
	}
}

// sendOn settles the sender of a message towards other hosts.
func (m *message) sendOn(tables *route.Tables) {
	if m.env.Rcpts[0].Via != "" && m.sender.IsNull() {
		m.sender = SentOnAs(tables, m.env.From)
	}
}

// transaction is the job in the words of the SMTP client; agent: it is for our own delivery agent.
func (j *job) transaction(agent bool) *remote.Transaction {
	e := j.msg.env
	from, _ := addr.Parse(e.From, true)                                          // "" is the null path
	if !agent && j.msg.results[j.rcpts[0]].box == "" && !j.msg.sender.IsNull() { // a mailbox behind a route is ours, too
		from = j.msg.sender
	}
	tx := &remote.Transaction{
		From: from, Body: e.Body, UTF8: e.UTF8, Ret: e.Ret, EnvID: e.EnvID,
		Size: j.msg.file.Size,
		Open: func() (io.Reader, error) { return j.msg.file.Reader(), nil },
		// The delivery agent names the maildir file after the message that was accepted, so that two
		// ways of one message to one mailbox are one copy.
		QID: string(e.Origin), Arrived: e.Arrived.UnixMicro(), Suspect: j.msg.suspect,
		Expand: agent, // another host may have no say in whom we send mail to
		Rcpts:  make([]remote.Rcpt, len(j.rcpts)),
	}
	if len(j.rcpts) == 1 {
		j.personal(tx)
	}
	for k, i := range j.rcpts {
		r := &e.Rcpts[i]
		to, _ := addr.Parse(r.Addr, true)
		tx.Rcpts[k] = remote.Rcpt{Addr: to, Notify: r.Notify, ORcpt: r.ORcpt, Target: r.Target}
		if c := &e.Client; r.Target != "" && r.Target != smtp.JustMailbox {
			tx.Origin = smtp.Origin{Name: c.Name, Helo: c.Helo, Login: c.Login}
			if c.IP.IsValid() {
				tx.Origin.IP = c.IP.String()
			}
		}
	}
	return tx
}

// personal puts into the transaction what a mailing list has for its recipient alone.
func (j *job) personal(tx *remote.Transaction) {
	e, m := j.msg.env, j.msg
	member, err := addr.Parse(e.Rcpts[j.rcpts[0]].Addr, true)
	if err != nil || m.tables == nil {
		return
	}
	if e.VERP {
		if from, ok := tx.From.WithTag(m.tables.Delimiters, member.AsTag()); ok {
			tx.From = from
		}
	}
	if field := unsubscribe(strings.Fields(e.Unsub), member, m.tables); field != "" {
		tx.Size += int64(len(field))
		tx.Open = func() (io.Reader, error) { return io.MultiReader(strings.NewReader(field), m.file.Reader()), nil }
	}
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
