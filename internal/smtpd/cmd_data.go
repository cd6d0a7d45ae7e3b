package smtpd

import (
	"errors"
	"io"
	"time"

	"postamt/internal/maillog"
	"postamt/internal/message"
	"postamt/internal/queue"
	"postamt/internal/smtp"
)

// RFC 5321 section 4.1.1.4: "DATA", then the message up to CR LF . CR LF.
func (s *session) cmdData(args string) *smtp.Reply {
	switch {
	case args != "":
		return noArguments()
	case s.tx == nil:
		return smtp.NewReply(503, "5.5.1", "say MAIL first")
	case s.tx.in != nil || s.tx.failed:
		// RFC 3030 section 2: DATA and BDAT cannot be used in the same transaction.
		return smtp.NewReply(503, "5.5.1", "the message has begun with BDAT")
	case s.tx.env.Body == "BINARYMIME":
		return smtp.NewReply(503, "5.5.1", "BODY=BINARYMIME wants BDAT") // RFC 3030 section 3
	case len(s.tx.env.Rcpts) == 0:
		return smtp.NewReply(554, "5.5.1", "no valid recipients") // RFC 2920 section 3.1
	}
	in, r := s.begin()
	if r != nil {
		return r
	}
	if s.c.WriteReply(smtp.NewReply(354, "", "end data with <CR><LF>.<CR><LF>")) != nil {
		s.close("lost")
		in.abort()
		return nil
	}
	s.tx.in = in
	d := s.c.Data()
	if !s.stream(d.Next) {
		s.reset()
		return nil
	}
	if d.Err() != nil {
		in.refuse(bareNewline())
	}
	return s.accept(in)
}

// RFC 3030 section 2: "BDAT" SP chunk-size [ SP "LAST" ], then so many octets.
func (s *session) cmdBdat(args string) *smtp.Reply {
	n, last, err := smtp.ParseBDAT(args)
	if err != nil {
		// The octets that follow cannot be told from commands.
		s.close("protocol")
		return asReply(err)
	}
	if s.conf.SizeLimit > 0 && n/2 > s.conf.SizeLimit {
		s.close("limit")
		return tooBig()
	}
	// From here on the chunk is read, whatever becomes of it.
	var r *smtp.Reply
	switch {
	case s.tx == nil:
		r = smtp.NewReply(503, "5.5.1", "say MAIL first")
	case s.tx.failed:
		r = smtp.NewReply(503, "5.5.1", "the transaction has failed, say RSET")
	case len(s.tx.env.Rcpts) == 0:
		r = smtp.NewReply(554, "5.5.1", "no valid recipients")
	case s.tx.in == nil:
		s.tx.in, r = s.begin()
		if s.tx.in != nil && s.tx.env.Body != "BINARYMIME" {
			s.tx.in.lines = &smtp.Newlines{}
		}
	}
	if !s.stream(s.c.Chunk(n).Next) {
		s.reset()
		return nil
	}
	if r != nil {
		s.fail()
		return r
	}
	in := s.tx.in
	if last {
		return s.accept(in)
	}
	if in.refused != nil {
		s.fail()
		return in.refused
	}
	return smtp.NewReply(250, "2.0.0", "ok")
}

// fail makes a transaction refuse its further chunks: a client may have sent them already.
func (s *session) fail() {
	if s.tx != nil {
		if s.tx.in != nil {
			s.tx.in.abort()
			s.tx.in = nil
		}
		s.tx.failed = true
	}
}

// stream reads blocks of the message until next says io.EOF. False: the connection is lost, or was slow; where the
// data ends will never be known, so nothing that follows may be read as a command.
func (s *session) stream(next func() ([]byte, error)) bool {
	s.c.SetReadTimeout(s.conf.TimeoutData)
	s.deadline(0)
	var in *intake
	if s.tx != nil {
		in = s.tx.in
	}
	start, got := s.srv.now(), int64(0)
	for {
		b, err := next()
		if err == io.EOF {
			return true
		}
		if err != nil {
			s.lost(err)
			return false
		}
		if in != nil {
			in.write(b)
		}
		got += int64(len(b))
		if s.tooSlow(got, start) {
			s.send(smtp.NewReply(421, "4.4.2", s.conf.Hostname+" too slow"))
			s.close("slow")
			return false
		}
	}
}

// rateAfter is when the data rate begins to count.
const rateAfter = time.Minute

func (s *session) tooSlow(octets int64, start time.Time) bool {
	if s.conf.MinRate <= 0 {
		return false
	}
	t := s.srv.now().Sub(start)
	return t > rateAfter && octets < s.conf.MinRate*int64(t/time.Second)
}

// begin makes the message: from here on it has an id.
func (s *session) begin() (*intake, *smtp.Reply) {
	e := &s.tx.env
	now := s.srv.now()
	e.ID = queue.NewID(now)
	e.Origin, e.Arrived = e.ID, now.UTC()
	e.Client = queue.Client{IP: s.peer.IP, Port: s.peer.Port, Helo: s.helo, Proto: s.protocol(), Login: s.peer.Login, Listener: s.kind, TLS: s.tls}
	if r := s.count(e); r != nil {
		return nil, r
	}
	w, err := s.srv.Queue.Create(e)
	if err != nil {
		s.srv.Log.Problem(string(e.ID), "create", err)
		return nil, storeReply(err)
	}
	in := &intake{w: w, trace: s.trace(), limit: s.conf.SizeLimit, hops: s.conf.Hops, finals: s.tx.finals}
	if s.kind != MX {
		in.missing = func(have fieldSet) []byte {
			if !have.messageID {
				in.id = messageID(e, s.conf.Hostname)
			}
			return missingFields(e, s.conf.Hostname, have)
		}
	}
	if s.authed && s.conf.Senders != nil {
		in.author = s.author
	}
	return in, nil
}

// accept makes the message permanent and ends the transaction. RFC 1047: the reply follows at once, for a client that does
// not get it sends the message again.
func (s *session) accept(in *intake) *smtp.Reply {
	tx, client := s.tx, s.client()
	s.tx = nil
	start := s.srv.now()
	if !in.finish() {
		in.abort()
		if in.err != nil {
			s.srv.Log.Problem(string(tx.env.ID), "write", in.err)
		}
		return in.refused
	}
	late, err := s.commit(in.w)
	if err != nil {
		s.srv.Log.Problem(string(tx.env.ID), "commit", err)
		if late {
			return nil // the client has had its reply
		}
		return storeReply(err)
	}
	if s.srv.Wake != nil {
		s.srv.Wake(tx.env.ID)
	}
	s.messages++
	s.errors, s.junk, s.overshoot = 0, 0, 0
	s.srv.Log.Accepted(string(tx.env.ID), maillog.Acceptance{Session: s.id, Client: client, From: tx.env.From, Size: in.size,
		Rcpts: len(tx.env.Rcpts), MessageID: in.id, Took: s.srv.now().Sub(start)})
	return smtp.NewReply(250, "2.0.0", "ok: queued as "+string(tx.env.ID))
}

// count adds the message to what its sender has sent. What is over a limit is taken all the same, and held until somebody
// has looked at it: a person with a newsletter loses nothing, a thief of passwords gets nothing out.
func (s *session) count(e *queue.Envelope) *smtp.Reply {
	e.Hold = ""
	if !s.authed || s.conf.Usage == nil {
		return nil
	}
	over, err := s.conf.Usage.Count(s.peer.Login, len(e.Rcpts), e.Arrived)
	if err != nil {
		s.srv.Log.Problem(string(e.ID), "count", err)
		return storeReply(err)
	}
	e.Hold = over
	return nil
}

// maxAuthors is how many mailboxes the From field of a message from a user of ours may have.
const maxAuthors = 20

// author says whether the user who is logged in may write these From fields.
func (s *session) author(from []string) *smtp.Reply {
	switch len(from) {
	case 0:
		return nil // ours will be the reverse-path, which was judged
	case 1:
	default:
		return smtp.NewReply(550, "5.7.1", "more than one From field") // RFC 5322 section 3.6
	}
	list, ok := message.Mailboxes(from[0], maxAuthors)
	if !ok {
		return smtp.NewReply(550, "5.7.1", "From is not a list of addresses")
	}
	if err := s.conf.Senders.Header(s.peer.Login, list); err != nil {
		return s.ourFault("judge From", err)
	}
	return nil
}

// ourFault is the reply that err is, or the one for a fault of ours, which is logged.
func (s *session) ourFault(op string, err error) *smtp.Reply {
	if r, ok := err.(*smtp.Reply); ok {
		return r
	}
	s.srv.Log.Problem(s.id, op, err)
	return smtp.NewReply(451, "4.3.0", "error of this system, try again later")
}

func tooLongHeader() *smtp.Reply {
	return smtp.NewReply(552, "5.3.4", "the header is too long")
}

// commit makes the message permanent, in the time for it. Late: it took longer, the client was told 451, and the message is
// removed when the disk comes back (S30): a client that waits too long for a reply goes away, and sends the message again.
// One of the two, 451 or a message that others see, has happened first, and then the other does not.
func (s *session) commit(w Writer) (late bool, err error) {
	limit := s.conf.TimeoutCommit
	if limit <= 0 {
		return false, s.srv.commit(w, nil)
	}
	p := &pending{due: time.Now().Add(limit), refuse: func() {
		r := smtp.NewReply(451, "4.3.0", "storage does not answer, try again later")
		s.rejected("", r, "timeout of commit")
		if s.c.WriteReply(r) != nil || s.c.Flush() != nil {
			s.close("lost")
		}
	}}
	s.srv.late.watch(p, limit/8)
	err = s.srv.commit(w, p.keep)
	s.srv.late.unwatch(p)
	return p.wasLate(), err
}

func bareNewline() *smtp.Reply {
	return smtp.NewReply(550, "5.5.2", "message has a CR or LF that is not part of CR LF")
}

var errAborted = errors.New("smtpd: message aborted")
