package authwire

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// state says whose turn it is.
type state uint8

const (
	judging     state = iota // the Authenticator's
	waiting                  // the client's: a challenge was sent
	binding                  // the client's: it was asked for the channel's data
	collectable              // whoever has the Ticket
)

// request is one AUTH, from its line until it is decided and, where Tickets are kept, collected. What stands below the line s.mu is guarded by it.
type request struct {
	s          *session
	id         uint32
	r          *Request
	ctx        context.Context
	cancel     context.CancelFunc
	stopExpiry func() bool
	input      chan input // from the session to run; never full, for state allows one at a time

	// s.mu
	state   state
	removed bool
	login   *Login
}

// input is what CONT brings.
type input struct {
	data      []byte
	binding   []byte
	outOfBand bool
}

var errLifetime = errors.New("authentication took too long")

// remove takes the request out: no reply to it is sent any more, and its exchange is told. s.mu is held.
func (q *request) remove() {
	if !q.removed {
		q.removed = true
		delete(q.s.requests, q.id)
		q.stopExpiry()
		q.cancel()
	}
}

// abort answers for the exchange. s.mu is held.
func (q *request) abort(r Reply) error {
	q.remove()
	return q.s.refuse(q.id, r)
}

// expire is called when ctx ends before the request is decided, or when nobody has collected it in time.
func (q *request) expire() {
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	if q.removed {
		return
	}
	if q.state == judging && context.Cause(q.ctx) == errLifetime {
		// Somebody waits for this reply.
		q.abort(Reply{Code: TempFail, Err: errLifetime})
		return
	}
	// Nobody does; a CONT that comes yet is answered then.
	q.remove()
}

// run is the goroutine of a request until it is decided.
func (q *request) run(data []byte) {
	defer q.s.running.Done()
	exchange := q.s.srv.Authenticator.Begin(q.ctx, q.r)
	defer exchange.End()
	for {
		r := exchange.Next(q.ctx, data)
		if r.Status != Continue && len(r.Data) > 0 && !q.r.finalOK {
			// The client has no place for data in the last reply, so it goes as a challenge, and the response to it is of no account.
			if _, ok := q.ask(r.Data, waiting, ""); !ok {
				return
			}
			r.Data = nil
		}
		if r.Status != Continue {
			q.decide(r)
			return
		}
		in, ok := q.ask(r.Data, waiting, "")
		if !ok {
			return
		}
		data = in.data
		if data == nil {
			data = []byte{}
		}
	}
}

// ask sends a challenge, or the question for the channel's data, and waits for the response.
func (q *request) ask(challenge []byte, then state, kind string) (input, bool) {
	b := append(command("CONT", q.id), '\t')
	if then == binding {
		b = appendField(append(b, '#'), "channel_binding", kind)
	} else {
		b = appendBase64(b, challenge)
	}
	q.s.mu.Lock()
	if q.removed {
		q.s.mu.Unlock()
		return input{}, false
	}
	q.state = then
	err := q.s.w.write(append(b, '\n'))
	q.s.mu.Unlock()
	if err != nil {
		return input{}, false
	}
	select {
	case in := <-q.input:
		return in, true
	case <-q.ctx.Done():
		return input{}, false
	}
}

// channelBinding is the ChannelBinding of the Request: out of band, so that no mechanism need know at which of its steps the wire would carry the question.
func (q *request) channelBinding(ctx context.Context, kind string) ([]byte, error) {
	in, ok := q.ask(nil, binding, kind)
	if !ok {
		return nil, errors.New("the client went away when asked for channel binding data")
	}
	if in.binding == nil {
		return nil, errors.New("the client has no channel binding data")
	}
	return in.binding, nil
}

// decide sends the last reply.
func (q *request) decide(r Reply) {
	s := q.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.removed {
		return
	}
	if r.Status == OK && r.User == "" {
		r = Reply{Code: TempFail, Err: errors.New("the authenticator allows a login without saying whose")}
	}
	if r.Status != OK {
		r.Status = Failed
		q.remove()
		if len(r.Data) > 0 {
			s.w.write(r.append(q.id, q.r.finalOK))
			return
		}
		s.refuse(q.id, r)
		return
	}
	if s.srv.Tickets == nil || q.r.NoLogin || r.Fields.Has("nologin") {
		q.remove()
	} else {
		// A second time of its own: who was slow to type a password should not be late for the mailbox.
		q.stopExpiry()
		q.stopExpiry = time.AfterFunc(cmp.Or(s.srv.Collectable, Collectable), q.expire).Stop
		q.state = collectable
		q.login = &Login{User: r.User, Request: q.r, Fields: r.Fields}
	}
	s.w.write(r.append(q.id, q.r.finalOK))
}
