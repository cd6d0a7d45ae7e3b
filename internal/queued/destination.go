package queued

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
	"postamt/internal/smtp"
)

// A Courier carries one transaction to a destination, over a connection of its choice: one outcome for
// each recipient, in order. That there is no connection is an outcome too (remote.StageConnect). Safe for
// concurrent use.
type Courier interface {
	Deliver(ctx context.Context, to Destination, tx *remote.Transaction) []remote.Outcome
}

// Destination is where one connection can carry many messages: a transport, and the domain if it goes by MX.
type Destination struct {
	Next   route.Transport
	Domain string // for transports by MX; "" otherwise
	Local  bool   // final delivery, by our own agent
	Target string // a command or file of an alias, or the user whose commands and files are meant, "" for mailboxes: a command that hangs holds up no other
}

func (d Destination) String() string {
	if d.Domain != "" {
		return d.Domain
	}
	if d.Target != "" {
		return d.Next.String() + " " + d.Target
	}
	return d.Next.String()
}

// A job is what one transaction carries: some recipients of one message.
type job struct {
	msg   *message
	rcpts []int // indices into the envelope
}

// destination is the queue of jobs for one Destination.
//
//	state    window  means
//	open     >= 1    up to window transactions at once
//	dead     1       until the time in dead: jobs are answered with reason, no connection is made
//	probing  1       after that: one transaction; the other jobs wait for what it finds
//
// All fields are guarded by the scheduler's mutex.
type destination struct {
	Destination
	jobs     []*job
	parked   []task // messages that wait until jobs are few
	room     int
	workers  int // transactions that run
	window   int
	dead     time.Time
	since    time.Time   // when it was first found dead
	failures int         // times found dead in a row
	reason   *smtp.Reply // why
}

// scheduler spreads jobs over destinations.
type scheduler struct {
	opt  func() *Options
	now  func() time.Time
	log  *maillog.Logger
	back func(task)                   // gives a parked message back to the index
	done func(*job, []remote.Outcome) // called once for each job, by the goroutine that carried it

	paused *pauses

	ctx     context.Context
	closing atomic.Bool   // no further transaction is to begin
	slots   chan struct{} // transactions at once, over all destinations but the local one
	wg      sync.WaitGroup

	mu      sync.Mutex
	courier Courier
	dests   map[Destination]*destination
	parked  map[queue.ID]bool // all that are, wherever
	room    int               // how many may be
}

// Limits of the scheduler; all are at least 1.
type Limits struct {
	Attempts        int // transactions at once to other hosts, in all
	Window          int // transactions at once to one destination
	WindowStart     int // how many of them before the first success
	Local           int // transactions at once to the local delivery agent
	Recipients      int // recipients a transaction to other hosts
	LocalRecipients int // and to the local delivery agent
}

// maxWindow is how far a window may open. The caller holds the mutex.
func (s *scheduler) maxWindow(d *destination) int {
	switch {
	case d.Target != "":
		return min(commands, s.opt().Limits.Local)
	case d.Local:
		return s.opt().Limits.Local
	}
	return s.opt().Limits.Window
}

// commands is how many of one Target run at once.
const commands = 4

// enqueue hands a job to its destination. It never waits for the network.
func (s *scheduler) enqueue(to Destination, j *job) {
	if s.paused.any() { // before a connection is made it is looked at again
		if j = s.divert(to, j); j == nil {
			return
		}
	}
	s.mu.Lock()
	d := s.dests[to]
	if d == nil {
		d = &destination{Destination: to, window: min(s.opt().Limits.WindowStart, s.opt().Limits.Window)}
		if to.Local {
			d.window = s.maxWindow(d)
		}
		s.dests[to] = d
	}
	if s.now().Before(d.dead) {
		r := d.reason
		s.mu.Unlock()
		s.done(j, unreachable(j, r))
		return
	}
	d.jobs = append(d.jobs, j)
	s.fill(d)
	s.mu.Unlock()
}

// fill starts as many workers as the window lets and the jobs need. The caller holds the mutex.
func (s *scheduler) fill(d *destination) {
	for n := len(d.jobs); n > 0 && d.workers < d.window; n-- {
		d.workers++
		s.wg.Add(1)
		go s.work(d)
	}
}

// crowded: more than room jobs wait for to, which may be slow. Mailboxes are not. The caller holds the mutex.
func (s *scheduler) crowded(to Destination, room int) bool {
	d := s.dests[to]
	return (!to.Local || to.Target != "") && d != nil && len(d.jobs) > room && !s.now().Before(d.dead)
}

func (s *scheduler) isCrowded(to Destination, room int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crowded(to, room)
}

// park keeps a message that is not active and whose only destination is crowded: its id, not its
// open file, so that a host that answers slowly cannot fill the room for active messages. It comes back
// when the jobs have become few, and at once if they have already. false: as many as may be are parked.
func (s *scheduler) park(to Destination, t task, room int) bool {
	s.mu.Lock()
	crowded := s.crowded(to, room)
	full := len(s.parked) >= s.room
	if crowded && !full && !s.parked[t.id] {
		d := s.dests[to]
		d.parked, d.room = append(d.parked, t), room
		s.parked[t.id] = true
	}
	s.mu.Unlock()
	if !crowded {
		s.back(t)
	}
	return !crowded || !full
}

// waiting is how many are parked.
func (s *scheduler) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.parked)
}

func (s *scheduler) isParked(id queue.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parked[id]
}

// unpark takes the first n that are parked. The caller holds the mutex, and gives them back without it.
func (s *scheduler) unpark(d *destination, n int) []task {
	n = min(n, len(d.parked))
	back := d.parked[:n:n]
	if d.parked = d.parked[n:]; len(d.parked) == 0 {
		d.parked = nil
	}
	for _, t := range back {
		delete(s.parked, t.id)
	}
	return back
}

// work carries jobs until there are none, or the window has become smaller.
func (s *scheduler) work(d *destination) {
	defer s.wg.Done()
	for {
		s.mu.Lock()
		if len(d.jobs) == 0 || d.workers > d.window {
			d.workers--
			var back []task
			if d.workers == 0 && len(d.jobs) == 0 {
				back = s.unpark(d, len(d.parked)) // nobody else would
				if d.failures == 0 {
					delete(s.dests, d.Destination)
				}
			}
			s.mu.Unlock()
			for _, t := range back {
				s.back(t)
			}
			return
		}
		j := d.jobs[0]
		d.jobs[0] = nil
		d.jobs = d.jobs[1:]
		var back []task
		if len(d.jobs) <= d.room/2 {
			back = s.unpark(d, d.room/2+1)
		}
		s.mu.Unlock()
		for _, t := range back {
			s.back(t)
		}

		// Paused since it was queued.
		if j = s.divert(d.Destination, j); j == nil {
			continue
		}
		outcomes := s.carry(d, j)
		if s.closing.Load() {
			// What ends now says little about the destination, and nothing more goes there.
		} else if r := noConnection(outcomes); r != nil {
			s.unreached(d, r)
		} else {
			s.reached(d)
		}
		s.done(j, outcomes)
	}
}

// carry makes one transaction. The delivery agent needs no slot: its own limit bounds it, and hosts that hang
// must not stop local mail.
func (s *scheduler) carry(d *destination, j *job) []remote.Outcome {
	if !d.Local {
		s.slots <- struct{}{}
		defer func() { <-s.slots }()
	}
	if s.closing.Load() {
		return unreachable(j, shuttingDown)
	}
	s.mu.Lock()
	courier := s.courier
	s.mu.Unlock()
	outcomes := courier.Deliver(s.ctx, d.Destination, j.transaction(d.Local))
	if s.ctx.Err() != nil {
		for i := range outcomes {
			if o := &outcomes[i]; o.Kind == remote.Temp && o.Local && !o.MaybeDelivered {
				o.Reply = shuttingDown // we cut it short
			}
		}
	}
	return outcomes
}

// noConnection is why the destination could not be reached, nil if it was. A permanent answer of this
// stage (no such domain, null MX) concerns the address: the destination needs no rest.
func noConnection(outcomes []remote.Outcome) *smtp.Reply {
	for _, o := range outcomes {
		if o.Stage != remote.StageConnect || o.Kind != remote.Temp {
			return nil
		}
	}
	return outcomes[0].Reply
}

// reached opens the window by one.
func (s *scheduler) reached(d *destination) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.failures > 0 {
		s.log.DestinationAlive(d.String(), s.now().Sub(d.since))
	}
	d.failures, d.dead, d.reason = 0, time.Time{}, nil
	d.window = min(d.window+1, s.maxWindow(d))
	s.fill(d)
}

// unreached halves the window. If nothing else is under way to the destination it is dead for a while,
// and what waits for it is answered with the same reply: ten thousand messages for a dead host cost one
// connection an interval, not ten thousand.
func (s *scheduler) unreached(d *destination, reply *smtp.Reply) {
	s.mu.Lock()
	d.window = max(1, d.window/2)
	if d.workers > 1 {
		s.mu.Unlock()
		return
	}
	if d.failures == 0 {
		d.since = s.now()
	}
	d.failures++
	d.window, d.reason = 1, reply
	// The shortest that chance could make of it, so that the message which found the destination dead does
	// not come back too early and miss its turn.
	wait := s.opt().Retry.Next(d.failures, 1)
	if d.Local {
		wait = min(wait, localRetry)
	}
	d.dead = s.now().Add(wait)
	drained, parked := d.jobs, s.unpark(d, len(d.parked))
	d.jobs = nil
	s.log.DestinationDead(d.String(), reply.Error(), len(drained)+len(parked), wait)
	s.mu.Unlock()
	for _, t := range parked {
		s.back(t) // each comes to the same answer by itself
	}
	for _, j := range drained {
		s.done(j, unreachable(j, reply))
	}
}

// revive forgets which destinations were dead.
func (s *scheduler) revive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.dests {
		d.dead = time.Time{}
	}
}

// forget drops destinations that have been unused since they died.
func (s *scheduler) forget(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, d := range s.dests {
		if d.workers == 0 && len(d.jobs) == 0 && d.dead.Before(before) {
			delete(s.dests, k)
		}
	}
}

// finish waits for the workers. Jobs that were not begun are answered too: other recipients of their messages
// may be done, and that must be recorded.
func (s *scheduler) finish() {
	s.closing.Store(true)
	var left []*job
	s.mu.Lock()
	for _, d := range s.dests {
		left = append(left, d.jobs...)
		d.jobs = nil
	}
	s.mu.Unlock()
	for _, j := range left {
		s.done(j, unreachable(j, shuttingDown))
	}
	s.wg.Wait()
}

func unreachable(j *job, r *smtp.Reply) []remote.Outcome {
	o := make([]remote.Outcome, len(j.rcpts))
	for i := range o {
		o[i] = remote.Outcome{Kind: remote.Temp, Stage: remote.StageConnect, Reply: r, Local: true}
	}
	return o
}
