package lmtpd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"postamt/internal/smtp"
)

func notStored() *smtp.Reply { return smtp.NewReply(451, "4.3.0", "Mailbox not available now") }

// perhapsStored tells our own queued that the next attempt must be suspect: RFC
// 3463 section 3.5, X.4.2: the connection broke and could not complete the
// message transaction.
func perhapsStored() *smtp.Reply {
	return smtp.NewReply(451, "4.4.2", "Mailbox not available now, it may have the message")
}

// run takes the message to the worker and finds a reply for each recipient.
func (l *leg) run(i int) {
	defer close(l.done)
	defer l.d.leave(i)
	l.replies = make([]*smtp.Reply, len(l.rcpts))
	whole, err := l.send(i)
	if err == errAborted {
		return
	}
	reply := notStored()
	var known *smtp.Reply
	switch {
	case errors.As(err, &known):
		reply = known
	case whole:
		reply = perhapsStored()
	}
	for k := range l.replies {
		if l.replies[k] == nil {
			l.replies[k] = reply
		}
	}
	if err != nil && known == nil {
		l.d.r.Log.Problem(l.d.params.QID, "worker", fmt.Errorf("uid %d: %w", l.post.uid, err))
	}
}

var errAborted = errors.New("lmtpd: the message is not to be sent")

// send has the conversation. whole: the end of the message may have been
// received, so that replies that are missing are unknown. An error that is a
// *smtp.Reply is for all recipients that have none.
func (l *leg) send(i int) (whole bool, err error) {
	d := l.d
	w := d.r.take(l.post)
	if w == nil {
		ctx, cancel := context.WithTimeout(context.Background(), d.r.patience())
		defer cancel()
		if w, err = d.r.dial(ctx, l.post, d.tx.rcpts[l.rcpts[0]].rcpt()); err != nil {
			return false, err
		}
	}
	good := false
	defer func() {
		if good {
			d.r.give(w)
		} else {
			w.Close()
		}
	}()
	if !d.attach(i, func() { w.Net().Close() }) {
		return false, errStalled
	}
	if err := w.WriteLine("MAIL FROM:<", d.tx.from, ">", string(d.params.Append(nil))); err != nil {
		return false, err
	}
	for _, k := range l.rcpts {
		r := &d.tx.rcpts[k]
		if err := w.WriteLine("RCPT TO:<", r.to.String(), ">", string(smtp.RcptParams{Target: r.target}.Append(nil))); err != nil {
			return false, err
		}
	}
	for first := true; ; first = false {
		chunk, last, err := d.next(i)
		if err != nil {
			return false, err
		}
		end := ""
		if last {
			end = " LAST"
		}
		whole = last
		if err := w.WriteLine("BDAT ", strconv.Itoa(len(chunk)), end); err != nil {
			return whole, err
		}
		if _, err := w.Write(chunk); err != nil {
			return whole, err
		}
		if first {
			if err := l.envelope(w); err == errNobody {
				good = w.reset()
				return false, notStored() // each has his own reply
			} else if err != nil {
				return whole, err
			}
		}
		if last {
			break
		}
		r, err := reply(w)
		if err != nil {
			return false, err
		}
		if r.Code != 250 {
			return false, r
		}
		d.took(i)
	}
	if l.post.runs {
		w.SetReadTimeout(d.r.patience() + d.r.Commands)
		defer w.SetReadTimeout(d.r.patience())
	}
	for k := range l.replies {
		if l.replies[k] != nil {
			continue
		}
		r, err := reply(w)
		if err != nil {
			return true, err
		}
		l.replies[k] = r
	}
	good = true
	return true, nil
}

// envelope reads the replies to MAIL and RCPT. The error is for all recipients
// if none was accepted.
func (l *leg) envelope(w *wire) error {
	r, err := reply(w)
	if err != nil {
		return err
	}
	if r.Code != 250 {
		return r
	}
	accepted := false
	for k := range l.rcpts {
		r, err := reply(w)
		if err != nil {
			return err
		}
		if r.Code != 250 {
			l.replies[k] = r
		}
		accepted = accepted || r.Code == 250
	}
	if !accepted {
		return errNobody
	}
	return nil
}

var errNobody = errors.New("lmtpd: no recipient was accepted")

// reset reads the reply to a chunk that nobody wanted, and makes the connection good for another message.
func (w *wire) reset() bool {
	if _, err := reply(w); err != nil || w.WriteLine("RSET") != nil {
		return false
	}
	r, err := reply(w)
	return err == nil && r.Code == 250
}

// reply is the worker's next; 421 is its last.
func reply(w *wire) (*smtp.Reply, error) {
	r, err := w.ReadReply()
	if err == nil && r.Code == 421 {
		err = fmt.Errorf("it ends: %s", r.Error())
	}
	return r, err
}

const (
	chunkSize = 256 << 10
	maxChunks = 4 // of one message, in memory
)

// stream is a message that comes once and is read by several legs.
type stream struct {
	mu       sync.Mutex
	moved    sync.Cond
	patience time.Duration
	chunks   [][]byte // those that not all have taken
	base     int      // number of the first of them
	ended    bool     // the last one is there
	aborted  bool
	legs     []reader
}

// reader is where a leg stands.
type reader struct {
	at    int    // number of its next chunk
	off   bool   // it takes no more
	close func() // ends a wait of its own
}

var errStalled = errors.New("it takes too little")

func (s *stream) init(n int, patience time.Duration) {
	s.moved.L = &s.mu
	s.patience = patience
	s.legs = make([]reader, n)
}

// put appends a chunk. While there are too many it waits for the slowest leg,
// and drops it when it does not take one in time.
func (s *stream) put(chunk []byte, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.chunks) >= maxChunks {
		late := false
		t := time.AfterFunc(s.patience, func() {
			s.mu.Lock()
			late = true
			s.moved.Broadcast()
			s.mu.Unlock()
		})
		for len(s.chunks) >= maxChunks && !late {
			s.moved.Wait()
		}
		t.Stop()
		if len(s.chunks) >= maxChunks {
			for i := range s.legs {
				if r := &s.legs[i]; r.at == s.base && !r.off {
					r.off = true
					if r.close != nil {
						r.close()
					}
				}
			}
			s.trim()
		}
	}
	s.chunks = append(s.chunks, chunk)
	s.ended = last
	s.trim()
	s.moved.Broadcast()
}

// attach gives the way to end a leg's waits. False: it was dropped already.
func (s *stream) attach(i int, close func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.legs[i].close = close
	return !s.legs[i].off
}

// next waits for the chunk that a leg is to send.
func (s *stream) next(i int) (chunk []byte, last bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.legs[i]
	for {
		switch n := s.base + len(s.chunks); {
		case s.aborted:
			return nil, false, errAborted
		case r.off:
			return nil, false, errStalled
		case r.at < n:
			return s.chunks[r.at-s.base], s.ended && r.at == n-1, nil
		}
		s.moved.Wait()
	}
}

// took: the leg has the chunk behind it.
func (s *stream) took(i int) {
	s.mu.Lock()
	s.legs[i].at++
	s.trim()
	s.mu.Unlock()
}

// leave: the leg reads no more.
func (s *stream) leave(i int) {
	s.mu.Lock()
	s.legs[i].off = true
	s.trim()
	s.mu.Unlock()
}

// trim forgets what every leg has taken.
func (s *stream) trim() {
	least := s.base + len(s.chunks)
	for i := range s.legs {
		if !s.legs[i].off {
			least = min(least, s.legs[i].at)
		}
	}
	if least > s.base {
		clear(s.chunks[:least-s.base])
		s.chunks = s.chunks[least-s.base:]
		s.base = least
		s.moved.Broadcast()
	}
}

// abort ends all legs; those that are at work on the connection lose it.
func (s *stream) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = true
	for i := range s.legs {
		if c := s.legs[i].close; c != nil {
			c()
		}
	}
	s.moved.Broadcast()
}
