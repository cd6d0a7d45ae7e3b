package remote

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"postamt/internal/smtp"
)

// transact speaks the transaction. An error means that the conversation broke off; who has no outcome then is for fail.
func (s *send) transact(paths []string) error {
	small := s.p.chunk && s.t.Size <= smallBody
	var body []byte
	if small {
		// Before a word is said: a message that cannot be read costs the connection nothing.
		var err error
		if body, err = s.load(); err != nil {
			s.setAll(StageData, &unreadable{err})
			return nil
		}
	}
	depth := 1
	if s.ext.Pipelining {
		depth = window
	}
	if err := s.envelope(depth, paths); err != nil {
		return err
	}
	// RFC 2920 section 3.1 lets DATA end the flight of the envelope; of BDAT it may be the whole message (RFC 3030 section 4.2).
	// A large one waits for the word that somebody wants it.
	ahead := depth > 1 && (small || !s.p.chunk) && !s.refusedMail()
	if !ahead {
		if err := s.drain(0); err != nil || len(s.good) == 0 {
			return err
		}
		s.stage = StageData
	}
	if s.p.chunk {
		return s.bdat(body, small)
	}
	return s.data()
}

// envelope writes RSET if it is needed, MAIL and the RCPTs, with at most depth replies outstanding. At its end up to depth are.
func (s *send) envelope(depth int, paths []string) error {
	if s.dirty {
		s.reset = true
		if err := s.write(depth, "RSET"); err != nil {
			return err
		}
	}
	if err := s.write(depth, "MAIL FROM:<", s.p.from, ">", string(s.p.mail.Append(nil))); err != nil {
		return err
	}
	for k, path := range paths {
		params := ""
		r := &s.t.Rcpts[s.list[k]]
		p := smtp.RcptParams{Target: r.Target}
		if s.p.dsn {
			p.Notify, p.ORcpt = r.Notify, r.ORcpt
		}
		if p != (smtp.RcptParams{}) {
			params = string(p.Append(nil))
		}
		if err := s.drain(depth - 1); err != nil {
			return err
		}
		if s.refusedMail() {
			break
		}
		if err := s.write(depth, "RCPT TO:<", path, ">", params); err != nil {
			return err
		}
	}
	return nil
}

func (s *send) refusedMail() bool { return s.mail != nil && s.mail.Code/100 != 2 }

func (s *send) write(depth int, parts ...string) error {
	if err := s.drain(depth - 1); err != nil {
		return err
	}
	if err := s.c.WriteLine(parts...); err != nil {
		return err
	}
	s.written++
	return nil
}

// drain reads replies until at most n are outstanding.
func (s *send) drain(n int) error {
	for s.written-s.read > n {
		if err := s.step(); err != nil {
			return err
		}
	}
	return nil
}

// step reads the next reply of the envelope and gives it its meaning.
func (s *send) step() error {
	if s.mail != nil {
		s.stage = StageRcpt
	}
	r, err := s.reply(s.opt.Timeouts.Command)
	if err != nil {
		return err
	}
	k := s.read
	s.read++
	positive, negative := r.Code/100 == 2, r.Temporary() || r.Permanent()
	if !positive && !negative {
		return errOutOfPlace
	}
	if s.reset {
		k--
	}
	switch {
	case k < 0: // RSET
		if !positive {
			return errOutOfPlace
		}
		s.dirty = false
	case k == 0:
		s.mail = r
		if positive {
			s.dirty = true
			break
		}
		for _, i := range s.list {
			s.settle(i, StageMail, r, false)
		}
	case s.refusedMail():
		// Sent before MAIL was answered; whatever the peer says, it has no transaction.
	case positive:
		s.good = append(s.good, s.list[k-1])
	default:
		i := s.list[k-1]
		s.settle(i, StageRcpt, r, false)
		if tooMany(r) {
			// RFC 5321 section 4.5.3.1.10: 452, and 552 in the sense of 452. Another transaction, if this one got some recipients rid of.
			s.out[i].Kind = Temp
			s.out[i].Again = len(s.good) > 0
		}
	}
	return s.broken // by 421
}

// tooMany: the reply to RCPT is about the number of recipients. Without an enhanced code that has to be believed of the codes for it.
func tooMany(r *smtp.Reply) bool {
	if r.Code != 452 && r.Code != 552 {
		return false
	}
	e := r.Enhanced
	return e == smtp.EnhancedCode{} || e[1] == 5 && e[2] == 3
}

// data sends the message by DATA. With pipelining DATA ends the flight of the envelope, whose replies are read here.
func (s *send) data() error {
	if err := s.c.WriteLine("DATA"); err != nil {
		return err
	}
	if err := s.drain(0); err != nil {
		return err
	}
	s.stage = StageData
	r, err := s.reply(s.opt.Timeouts.Init)
	if err != nil {
		return err
	}
	switch {
	case r.Code == 354:
	case r.Temporary() || r.Permanent():
		// With no recipient left this is the expected 503 or 554.
		for _, i := range s.good {
			s.settle(i, StageData, r, false)
		}
		return s.broken
	default:
		return errOutOfPlace
	}
	w := s.c.DataWriter()
	if len(s.good) == 0 {
		// RFC 2920 section 3.1: DATA was accepted although no recipient was, so end it with the dot alone. Nobody gets what it says to that.
		if err := w.Close(); err != nil {
			return err
		}
		if s.ep.LMTP {
			return errOutOfPlace // RFC 2033 section 4.2 wants 503: how many replies come now nobody knows
		}
		_, err := s.reply(s.opt.Timeouts.Done)
		s.dirty = false
		return err
	}
	if err := s.body(w); err != nil {
		return s.late(err)
	}
	if err := w.Close(); err != nil {
		return s.late(err)
	}
	s.maybe = true
	return s.results()
}

// bdat sends the message as one chunk, the last. body is it if small, and then the replies to the envelope may be outstanding.
func (s *send) bdat(body []byte, small bool) error {
	size := s.t.Size
	if small {
		size = int64(len(body))
	}
	if err := s.c.WriteLine("BDAT ", strconv.FormatInt(size, 10), " LAST"); err != nil {
		return err
	}
	if small {
		if _, err := s.c.Write(body); err != nil {
			return s.late(err)
		}
	} else if err := s.body(s.c); err != nil {
		return s.late(err)
	}
	s.maybe = true
	if err := s.drain(0); err != nil {
		return err
	}
	s.stage = StageData
	if len(s.good) > 0 {
		return s.results()
	}
	s.maybe = false
	if s.ep.LMTP {
		return errOutOfPlace // RFC 2033 section 4.3 says that no reply comes; servers exist that send 503
	}
	_, err := s.reply(s.opt.Timeouts.Done)
	return err
}

// results reads what became of the message: one reply, or with LMTP one for each accepted recipient in their order (RFC 2033 section 4.2).
func (s *send) results() error {
	for k, i := range s.good {
		r, err := s.reply(s.opt.Timeouts.Done)
		if err != nil {
			return err
		}
		if r.Code/100 == 3 {
			return errOutOfPlace
		}
		if !s.ep.LMTP {
			for _, i := range s.good {
				s.settle(i, StageData, r, false)
			}
			break
		}
		s.settle(i, StageData, r, false)
		// RFC 3463 section 3.5, X.4.2: behind the peer a connection broke. Our own deliver says it of a worker that has the whole message.
		s.out[i].MaybeDelivered = s.ext.XQID && r.Temporary() && r.Enhanced == smtp.EnhancedCode{4, 4, 2}
		if s.broken != nil && k < len(s.good)-1 {
			return s.broken
		}
	}
	s.dirty = false
	return s.broken
}

// late looks for the reply of a peer that has closed its side in the middle of the message: it may have said why.
func (s *send) late(err error) error {
	var u *unreadable
	if errors.As(err, &u) || errors.Is(err, os.ErrDeadlineExceeded) || err == errSlow {
		return err
	}
	if s.drain(0) != nil {
		return err
	}
	s.stage = StageData
	if r, rerr := s.reply(s.opt.Timeouts.Quit); rerr == nil && (r.Temporary() || r.Permanent()) {
		for _, i := range s.good {
			s.settle(i, StageData, r, false)
		}
	}
	s.broken = err
	return err
}

var errSlow = errors.New("it takes the message too slowly") // never assigned to

// body copies the message to w block by block: each within Timeouts.Block, all of them at MinRate or better. All of it, or an error.
func (s *send) body(w io.Writer) error {
	r, err := s.t.open()
	if err != nil {
		return &unreadable{err}
	}
	defer closeReader(r)
	buf := s.block(min(s.t.Size, 32<<10))
	start := time.Now()
	var total int64
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			if total += int64(n); total > s.t.Size {
				return &unreadable{sizeError(total, s.t.Size)}
			}
			limit := s.until(s.opt.Timeouts.Block)
			slow := s.slow(start, total)
			if slow.Before(limit) {
				limit = slow
			}
			s.c.SetDeadline(limit)
			if _, err := w.Write(buf[:n]); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) && limit == slow {
					return errSlow
				}
				return err
			}
		}
		if rerr == io.EOF {
			break
		}
		if rerr != nil {
			return &unreadable{rerr}
		}
	}
	if total < s.t.Size {
		return &unreadable{sizeError(total, s.t.Size)}
	}
	return nil
}

// slow is when a peer that has taken no more than n bytes since start is too slow.
func (s *send) slow(start time.Time, n int64) time.Time {
	if s.opt.MinRate <= 0 {
		return start.Add(s.opt.Timeouts.Total)
	}
	return start.Add(max(s.opt.MinRateGrace, time.Duration(float64(n)/float64(s.opt.MinRate)*float64(time.Second))))
}

// load reads a small message as it will be sent by BDAT.
func (s *send) load() ([]byte, error) {
	r, err := s.t.open()
	if err != nil {
		return nil, err
	}
	defer closeReader(r)
	buf := s.block(s.t.Size + 1)[:s.t.Size+1]
	n, err := io.ReadFull(r, buf)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	if int64(n) != s.t.Size {
		return nil, sizeError(int64(n), s.t.Size)
	}
	if s.p.raw {
		return buf[:n], nil
	}
	return crlf(buf[:n]), nil
}

// block is the connection's buffer, of at least n bytes.
func (c *Conn) block(n int64) []byte {
	if n = max(n, 4<<10); int64(cap(c.buf)) < n {
		c.buf = make([]byte, n)
	}
	return c.buf[:cap(c.buf)]
}

// crlf is b with every line end written as CRLF, the last one too; b itself if it is so already.
func crlf(b []byte) []byte {
	pairs := bytes.Count(b, []byte("\r\n"))
	if bytes.Count(b, []byte("\n")) == pairs && bytes.Count(b, []byte("\r")) == pairs && (len(b) == 0 || b[len(b)-1] == '\n') {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/16+2)
	for i, c := range b {
		switch {
		case c == '\r', c == '\n' && (i == 0 || b[i-1] != '\r'):
			out = append(out, '\r', '\n')
		case c == '\n': // written with its CR
		default:
			out = append(out, c)
		}
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\r', '\n')
	}
	return out
}
