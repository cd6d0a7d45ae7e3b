package remote

import (
	"context"
	"errors"
	"time"

	"postamt/internal/smtp"
)

const (
	// window is how many commands may be on their way without a reply. RFC 2920 section 3.1: their replies must fit into the
	// peer's send buffer, or it stops reading us while we have not begun to read it.
	window = 64
	// smallBody is the largest message that is sent by BDAT in one flight with its envelope. It is held in memory.
	smallBody = 64 << 10
)

// send is the state of one transaction on the wire.
type send struct {
	*Conn
	t    *Transaction
	p    plan
	out  []Outcome
	list []int // the recipients in this transaction, by index into t.Rcpts

	stage   Stage       // of the command whose reply is waited for
	reset   bool        // RSET went first; its reply is to be read first
	written int         // commands out of RSET, MAIL and RCPTs written
	read    int         // replies to them read
	mail    *smtp.Reply // to MAIL
	good    []int       // recipients accepted by RCPT
	maybe   bool        // the end of the message was sent
}

// Send sends t in one transaction and gives an Outcome for each of its recipients. Of more than fit into a transaction those left over are Temp with Again.
// The error says why the connection is no longer usable (it is closed then); nil means it can take another. ctx ends everything by closing the connection.
func (c *Conn) Send(ctx context.Context, t *Transaction) ([]Outcome, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	c.total = time.Now().Add(c.opt.Timeouts.Total)
	if d, ok := ctx.Deadline(); ok && d.Before(c.total) {
		c.total = d
	}
	c.heard = false
	s := &send{Conn: c, t: t, stage: StageMail, out: make([]Outcome, len(t.Rcpts))}
	ep := c.ep
	for i := range s.out {
		s.out[i] = Outcome{Peer: &ep, TLS: c.tls, DSN: c.ext.DSN}
	}
	s.run()
	stop()
	if c.broken == nil && c.c.Buffered() > 0 {
		// Replies that nothing asked for: from here on none could be trusted to belong to its command.
		c.broken = errOutOfPlace
	}
	if err := ctx.Err(); err != nil {
		c.broken = err
	}
	if c.broken != nil {
		err := c.broken
		c.Close()
		return s.out, err
	}
	return s.out, nil
}

func (s *send) run() {
	p, err := s.t.prepare(&s.ext, s.ep.LMTP, s.opt.PreferChunking || s.ep.LMTP && s.ep.Socket != "")
	if err != nil {
		s.setAll(StageMail, err)
		return
	}
	s.p = p
	limit := s.opt.MaxRcpts
	if s.ext.RcptMax > 0 {
		limit = min(limit, s.ext.RcptMax)
	}
	paths := make([]string, 0, min(len(s.t.Rcpts), limit))
	for i := range s.t.Rcpts {
		path, r := p.rcptPath(s.t.Rcpts[i].Addr)
		if r == nil && s.t.Rcpts[i].Target != "" && !s.ext.XQID {
			r = smtp.NewReply(451, "4.3.5", "this delivery agent knows nothing of commands and files in aliases")
		}
		switch {
		case r != nil:
			s.settle(i, StageRcpt, r, true)
		case len(paths) == limit:
			s.settle(i, StageRcpt, smtp.NewReply(451, "4.5.3", "more recipients than fit into one transaction"), true)
			s.out[i].Again = true
		default:
			s.list = append(s.list, i)
			paths = append(paths, path)
		}
	}
	if len(s.list) == 0 {
		return
	}
	s.sent++
	if err := s.transact(paths); err != nil {
		s.fail(err)
	}
}

// setAll gives all recipients that have no outcome yet the one of err, which arose here.
func (s *send) setAll(stage Stage, err error) {
	var u *unreadable
	var r *smtp.Reply
	switch {
	case errors.As(err, &u):
		r = smtp.NewReply(451, "4.3.0", "message cannot be read")
	case errors.As(err, &r):
		err = nil
	}
	for _, i := range s.open() {
		s.settle(i, stage, r, true)
		s.out[i].Err = err
	}
}

// settle writes down what became of recipient i.
func (s *send) settle(i int, stage Stage, r *smtp.Reply, local bool) {
	o := &s.out[i]
	o.Stage, o.Reply, o.Local = stage, r, local
	switch {
	case r.Permanent():
		o.Kind = Perm
		if r.Code == 551 && r.Enhanced == (smtp.EnhancedCode{5, 1, 6}) && s.p.mail.Expand && !local {
			o.Expanded = r.Lines
		}
	case r.Code/100 == 2 && stage == StageData:
		o.Kind = Done
	default:
		o.Kind = Temp
	}
}

// fail ends the transaction for the recipients that have no outcome yet: the conversation broke off.
func (s *send) fail(err error) {
	if s.broken == nil {
		s.broken = err
	}
	var u *unreadable
	if errors.As(err, &u) {
		s.setAll(StageData, err)
		return
	}
	// The peer's 421 is its last word for all that it leaves open.
	if r, ok := errors.AsType[*smtp.Reply](err); ok {
		for _, i := range s.open() {
			s.settle(i, s.stage, r, false)
			s.out[i].Kind = Temp
			s.out[i].MaybeDelivered = s.maybe
		}
		return
	}
	what := "conversation with " + s.ep.String()
	if s.maybe {
		what = "end of message sent, no clear answer from " + s.ep.String() + ", it may be delivered twice"
	}
	enhanced := "4.4.2"
	if errors.Is(err, smtp.ErrProtocol) || errors.Is(err, errOutOfPlace) {
		enhanced = "4.5.0"
	}
	e := localError(enhanced, what, err)
	for _, i := range s.open() {
		s.settle(i, s.stage, e.Reply, true)
		s.out[i].Err = err
		s.out[i].MaybeDelivered = s.maybe
	}
}

// open is the recipients that have no outcome yet.
func (s *send) open() (list []int) {
	for i := range s.out {
		if s.out[i].Reply == nil {
			list = append(list, i)
		}
	}
	return list
}
