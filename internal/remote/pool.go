package remote

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"time"

	"postamt/internal/smtp"
)

// maxSessions is how many hosts are spoken to about one message; hosts that do not get as far as EHLO do not count.
const maxSessions = 2

// Pool sends messages over connections that it keeps for a while after each. Safe for concurrent use.
type Pool struct {
	opt *Options

	mu     sync.Mutex
	idle   map[Endpoint][]*parked // by endpoint without Pref; the last one parked is the last one
	n      int                    // of all
	closed bool
	bye    sync.WaitGroup // farewells under way
}

type parked struct {
	c     *Conn
	timer *time.Timer
}

// NewPool makes a Pool. TLS sessions are resumed within it.
func NewPool(o Options) *Pool {
	opt := o.withDefaults()
	if opt.TLS != TLSNo {
		conf := &tls.Config{}
		if opt.TLSConfig != nil {
			conf = opt.TLSConfig.Clone()
		}
		if conf.ClientSessionCache == nil {
			conf.ClientSessionCache = tls.NewLRUClientSessionCache(256)
		}
		opt.TLSConfig = conf
	}
	return &Pool{opt: opt, idle: make(map[Endpoint][]*parked)}
}

// Deliver sends t by the endpoints, in their order, and gives an Outcome for each recipient. It tries
//   - the next endpoint when there is no connection or no welcome, a 5yz one included, for all of Timeouts.Total together;
//   - one endpoint more for recipients whose MAIL or RCPT got 4yz, or who lost the connection before the end of the message was sent;
//   - a fresh connection to the same endpoint, once, when a kept one turns out to have ended;
//   - further transactions while a peer limits the recipients of one.
//
// A recipient fails for good for want of a welcome only if every endpoint answered 5yz (5.4.1 and the like are the peers' own codes).
func (p *Pool) Deliver(ctx context.Context, eps []Endpoint, t *Transaction) []Outcome {
	ctx, cancel := context.WithTimeout(ctx, p.opt.Timeouts.Total)
	defer cancel()
	d := &delivery{p: p, t: t, out: make([]Outcome, len(t.Rcpts)), pending: make([]int, len(t.Rcpts))}
	for i := range d.pending {
		d.pending[i] = i
	}
	sessions := 0
	for _, ep := range p.preferIdle(eps) {
		if len(d.pending) == 0 || sessions == maxSessions {
			break
		}
		if ctx.Err() != nil {
			d.soft = true // the others were not asked
			break
		}
		if d.try(ctx, ep) {
			sessions++
		}
	}
	for i := range d.out {
		if d.out[i].Reply != nil {
			continue
		}
		switch {
		case d.refused != nil && !d.soft:
			d.out[i] = *d.refused
			d.out[i].Kind = Perm
		case d.unreached != nil:
			d.out[i] = *d.unreached
		default:
			d.out[i] = Outcome{Reply: smtp.NewReply(451, "4.4.1", "no host to connect to"), Local: true}
		}
	}
	return d.out
}

// Send is Deliver for one endpoint.
func (p *Pool) Send(ctx context.Context, ep Endpoint, t *Transaction) []Outcome {
	return p.Deliver(ctx, []Endpoint{ep}, t)
}

// delivery is one call of Deliver.
type delivery struct {
	p       *Pool
	t       *Transaction
	out     []Outcome
	pending []int // recipients to be tried at the next endpoint

	refused   *Outcome // the last 5yz welcome
	unreached *Outcome // the last other failure to connect
	last      *Outcome // of the two
	soft      bool     // one of the failures was not 5yz
}

// try attempts the pending recipients at ep; true if it got as far as a conversation.
func (d *delivery) try(ctx context.Context, ep Endpoint) bool {
	batch := d.pending
	d.pending = nil
	suspect := d.t.Suspect
	defer func() { d.t.Suspect = suspect }()
	spoke, fresh := false, false
	var doubtful []int // who may have it from a connection that turned out to have ended
	for len(batch) > 0 {
		c := d.p.take(ep, fresh)
		kept := c != nil
		if !kept {
			var err error
			if c, err = dial(ctx, ep, d.p.opt); err != nil {
				d.unwelcome(ep, err)
				d.pending = append(d.pending, batch...)
				break
			}
		}
		sub := *d.t
		if len(batch) != len(d.t.Rcpts) {
			sub.Rcpts = make([]Rcpt, len(batch))
			for k, i := range batch {
				sub.Rcpts[k] = d.t.Rcpts[i]
			}
		}
		outs, err := c.Send(ctx, &sub)
		d.t.seen = sub.seen
		if err != nil && kept && !c.heard && ctx.Err() == nil {
			// It had ended before we began. With deliver even a message that was sent whole may be sent again, for it looks before it stores twice.
			maybe := slices.ContainsFunc(outs, func(o Outcome) bool { return o.MaybeDelivered })
			if !maybe || c.ext.XQID && d.t.QID != "" {
				d.p.opt.Log(Event{Peer: ep, What: "stale", Err: err})
				if maybe {
					d.t.Suspect, doubtful = true, batch
				}
				fresh = true
				continue
			}
		}
		spoke = true
		d.p.give(c)
		if batch = d.sort(batch, outs, err); len(batch) > 0 && d.t.QID != "" {
			d.t.Suspect = true // a mailbox of theirs may have it already, by another of its addresses
		}
	}
	d.doubt(doubtful)
	return spoke
}

// doubt: whatever the second try came to, a connection refused or a reply to MAIL, what the first may have done is still so. Nor is
// another host to do it again.
func (d *delivery) doubt(list []int) {
	for _, i := range list {
		o := &d.out[i]
		if o.Reply == nil {
			*o = *d.last
		}
		o.MaybeDelivered = o.Kind == Temp
	}
	d.pending = slices.DeleteFunc(d.pending, func(i int) bool { return slices.Contains(list, i) })
}

// sort files the outcomes of one transaction, and returns the recipients for another one with the same peer.
func (d *delivery) sort(batch []int, outs []Outcome, err error) (again []int) {
	progress := false // somebody is off the list
	for k, i := range batch {
		o := outs[k]
		d.out[i] = o
		progress = progress || o.Kind != Temp
		switch {
		case o.Kind != Temp, o.MaybeDelivered:
		case o.Again:
			again = append(again, i)
		case o.Stage == StageMail && !o.Local, o.Stage == StageRcpt && !o.Local:
			d.pending = append(d.pending, i) // RFC 5321 section 5.1: a temporary failure moves on to the next host
		case o.Local && err != nil && !isUnreadable(err):
			d.pending = append(d.pending, i) // the connection was lost before the peer had the message
		}
	}
	if !progress {
		// Not on and on with a peer that settles nothing.
		d.pending = append(d.pending, again...)
		return nil
	}
	return again
}

func isUnreadable(err error) bool {
	_, ok := err.(*unreadable)
	return ok
}

// unwelcome notes why ep was not spoken to.
func (d *delivery) unwelcome(ep Endpoint, err error) {
	e := err.(*Error)
	o := &Outcome{Kind: Temp, Stage: StageConnect, Reply: e.Reply, Local: !e.Peer, Peer: &ep, Err: e.Err}
	d.last = o
	if e.Peer && e.Reply.Permanent() {
		d.refused = o
	} else {
		d.soft = true
	}
	if d.unreached == nil || e.Peer || d.unreached.Local {
		d.unreached = o // what a peer said tells more than a connection that failed
	}
}

// preferIdle moves an endpoint to the front that is as good as the first and has an idle connection.
func (p *Pool) preferIdle(eps []Endpoint) []Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range eps {
		if eps[i].Pref != eps[0].Pref {
			break
		}
		if len(p.idle[key(eps[i])]) > 0 {
			if i == 0 {
				break
			}
			out := slices.Clone(eps)
			copy(out[1:], eps[:i])
			out[0] = eps[i]
			return out
		}
	}
	return eps
}

func key(ep Endpoint) Endpoint {
	ep.Pref = 0
	return ep
}

// take gives an idle connection that is alive, the youngest; nil if there is none. fresh: those there are are given up.
func (p *Pool) take(ep Endpoint, fresh bool) *Conn {
	k := key(ep)
	for {
		p.mu.Lock()
		list := p.idle[k]
		if len(list) == 0 {
			p.mu.Unlock()
			return nil
		}
		it := list[len(list)-1]
		p.unlist(k, len(list)-1)
		p.mu.Unlock()
		it.timer.Stop()
		if !fresh && it.c.Alive() {
			return it.c
		}
		it.c.Close()
	}
}

// unlist takes the i-th idle connection of k off the list. Under p.mu.
func (p *Pool) unlist(k Endpoint, i int) {
	list := slices.Delete(p.idle[k], i, i+1)
	if p.idle[k] = list; len(list) == 0 {
		delete(p.idle, k)
	}
	p.n--
}

// give parks a connection for the next message, or takes leave of it.
func (p *Pool) give(c *Conn) {
	if c.broken != nil {
		return // closed by Send
	}
	p.mu.Lock()
	if p.closed {
		go c.Quit()
		p.mu.Unlock()
		return
	}
	if p.opt.IdleTimeout < 0 || !c.Usable() || c.sent >= p.opt.MaxMessages || p.n >= p.opt.MaxIdle {
		p.leave(c)
		p.mu.Unlock()
		return
	}
	k := key(c.ep)
	it := &parked{c: c}
	it.timer = time.AfterFunc(p.opt.IdleTimeout, func() { p.expire(k, it) })
	p.idle[k] = append(p.idle[k], it)
	p.n++
	p.mu.Unlock()
}

// expire ends a connection that was idle for too long. If it is in use again the list no longer has it.
func (p *Pool) expire(k Endpoint, it *parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle[k], it); i >= 0 {
		p.unlist(k, i)
		p.leave(it.c)
	}
}

// leave says QUIT without making anybody wait. Under p.mu and not after Close, which waits for all farewells.
func (p *Pool) leave(c *Conn) {
	p.bye.Go(func() { c.Quit() })
}

// Idle is the number of idle connections.
func (p *Pool) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// Close takes leave of all idle connections and waits for that, at most Timeouts.Quit. Messages under way go on; their connections are not kept.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for k, list := range p.idle {
		for _, it := range list {
			it.timer.Stop()
			p.leave(it.c)
		}
		delete(p.idle, k)
	}
	p.n = 0
	p.mu.Unlock()
	p.bye.Wait()
}
