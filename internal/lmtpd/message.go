package lmtpd

import (
	"io"
	"time"

	"postamt/internal/lineio"
	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/smtp"
)

// body is a message that comes in.
type body struct {
	id    string
	start time.Time
	d     delivery
	limit int64
	size  int64
	lines *lineio.Newlines // looks for bare CR and LF in chunks; DATA has its own check
	bare  bool
}

// delivery is a message on its way into maildirs, or to who has them.
type delivery interface {
	Write([]byte) (int, error)
	Abort()
}

// Write takes everything: the client's stream must be read to the end of the
// message, whatever becomes of it.
func (b *body) Write(p []byte) (int, error) {
	b.size += int64(len(p))
	if b.limit == 0 || b.size <= b.limit {
		if b.lines != nil {
			b.lines.Scan(p)
		}
		b.d.Write(p)
	}
	return len(p), nil
}

// begin starts the delivery to all recipients.
func (s *session) begin() *body {
	p := &s.tx.params
	m := maildir.Message{ID: p.QID, Suspect: p.Suspect, Binary: p.Body == "BINARYMIME", Arrived: s.srv.now()}
	trace := ""
	if p.QID == "" {
		m.ID = string(queue.NewID(m.Arrived))
		trace = s.received(m.ID, m.Arrived)
	} else if p.Arrived > 0 {
		m.Arrived = time.UnixMicro(p.Arrived)
	}
	b := &body{id: m.ID, start: s.srv.now(), limit: s.conf.SizeLimit}
	if s.srv.Router != nil {
		b.d = s.srv.Router.begin(s.tx, m, trace)
		return b
	}
	b.d = s.newMixed(m, trace)
	return b
}

// Header is what stands above a stored message. RFC 5321 section 4.4: the
// server that makes the final delivery puts the reverse-path on top.
// Delivered-To is what mail loops are found by. Addresses come from the parser
// and so have no line ends. trace is a Received field, or empty.
func Header(from, to, trace string) []byte {
	b := make([]byte, 0, len("Return-Path: <>\nDelivered-To: \n")+len(from)+len(to)+len(trace))
	b = append(b, "Return-Path: <"...)
	b = append(b, from...)
	b = append(b, ">\nDelivered-To: "...)
	b = append(b, to...)
	b = append(b, '\n')
	return append(b, trace...)
}

// received is the trace field for messages that do not come from our queue,
// which has put its own. RFC 3848: the protocol is LMTP.
func (s *session) received(id string, now time.Time) string {
	proto := "LMTP"
	if s.tx.params.UTF8 {
		proto = "UTF8LMTP" // RFC 6531 section 4.3
	}
	return "Received: from " + s.lhlo + "\n\tby " + s.conf.Hostname + " (postamt) with " + proto + " id " + id + ";\n\t" + stamp(now) + "\n"
}

// RFC 5321 section 4.1.1.4, with the replies of RFC 2033 section 4.2.
func (s *session) cmdData(args string) *smtp.Reply {
	switch {
	case args != "":
		return smtp.NewReply(501, "5.5.4", "DATA has no arguments")
	case s.tx == nil:
		return smtp.NewReply(503, "5.5.1", "Say MAIL first")
	case s.tx.body != nil || s.tx.failed:
		return smtp.NewReply(503, "5.5.1", "The message has begun with BDAT") // RFC 3030 section 2
	case s.tx.params.Body == "BINARYMIME":
		return smtp.NewReply(503, "5.5.1", "BODY=BINARYMIME wants BDAT") // RFC 3030 section 3
	case len(s.tx.rcpts) == 0:
		return smtp.NewReply(503, "5.5.1", "No valid recipients") // RFC 2033 section 4.2
	}
	s.tx.body = s.begin()
	s.send(smtp.NewReply(354, "", "End data with <CR><LF>.<CR><LF>"))
	d := s.c.Data()
	if !s.stream(d) {
		return nil
	}
	s.tx.body.bare = d.Err() != nil
	s.accept()
	return nil
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
		s.close("limit") // so much is not read for nothing
		return tooBig()
	}
	var r *smtp.Reply
	switch {
	case s.tx == nil:
		r = smtp.NewReply(503, "5.5.1", "Say MAIL first")
	case s.tx.failed:
		r = smtp.NewReply(503, "5.5.1", "The transaction has failed, say RSET")
	case len(s.tx.rcpts) == 0:
		r = smtp.NewReply(503, "5.5.1", "No valid recipients")
		if s.tx.told {
			if s.stream(s.c.Conn.Chunk(n)) {
				s.send(r) // as the client knows
			}
			return nil
		}
	case s.tx.body == nil:
		s.tx.body = s.begin()
		if s.tx.params.Body != "BINARYMIME" {
			s.tx.body.lines = new(lineio.Newlines)
		}
	}
	if !s.stream(s.c.Conn.Chunk(n)) || r != nil {
		return r
	}
	b := s.tx.body
	if last {
		b.bare = b.lines != nil && b.lines.Err() != nil
		s.accept()
		return nil
	}
	if b.limit > 0 && b.size > b.limit {
		b.d.Abort()
		s.tx.body, s.tx.failed = nil, true
		return tooBig()
	}
	return smtp.NewReply(250, "2.0.0", "Ok")
}

// stream reads the message, or a chunk, to its end. False: the connection is
// lost, and nothing that follows may be taken for a command.
func (s *session) stream(from io.WriterTo) bool {
	s.c.SetReadTimeout(s.conf.TimeoutData)
	to := io.Discard
	if s.tx != nil && s.tx.body != nil {
		to = s.tx.body
	}
	if _, err := from.WriteTo(to); err != nil {
		s.lost(err)
		s.reset()
		return false
	}
	return true
}

// acceptRouted is the rest of accept for a message that went to the workers, who
// have logged what became of it.
func (s *session) acceptRouted(tx *transaction, d *routed) {
	d.commit(func() { s.c.Flush() }, func(i int, r *smtp.Reply) {
		if r.Code >= 400 && !(tx.params.Expand && r.Enhanced == smtp.EnhancedCode{5, 1, 6}) {
			s.rejected++
			s.srv.Log.Reject(s.id, maillog.Rejected{Client: s.client(), Verb: "DATA", From: tx.from, Rcpt: tx.rcpts[i].to.String(), Reply: r.Error()})
		}
		s.rcpts++
		s.send(r)
	})
	s.messages++
	s.faults = 0
}

// accept ends the transaction with a reply for each recipient.
func (s *session) accept() {
	tx := s.tx
	b := tx.body
	s.tx = nil
	var refusal *smtp.Reply
	switch {
	case b.limit > 0 && b.size > b.limit:
		refusal = tooBig()
	case b.bare:
		refusal = smtp.NewReply(550, "5.5.2", "Message has a CR or LF that is not part of CR LF")
	}
	if refusal != nil {
		b.d.Abort()
		s.refused("DATA", refusal, nil)
		s.faults++
		for range tx.rcpts {
			s.send(refusal)
		}
		return
	}
	if d, ok := b.d.(*routed); ok {
		s.acceptRouted(tx, d)
		return
	}
	s.acceptMixed(tx, b, b.d.(*mixed))
}
