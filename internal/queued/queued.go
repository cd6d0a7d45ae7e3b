// Package queued is the owner of the queue: it takes each message through one attempt after another until
// nobody waits for it.
//
//	wakeup, scan -> index -> active -> routed: jobs by destination -> carried -> settled
//	                  ^                                                            |
//	                  '------------------------- deferred -------------------------'
//
// What is on disk is the truth; everything here can be lost at any moment. The table says what a crash
// leaves of each step, and why that is right:
//
//	step                     on disk                        after a crash
//	accepted, no attempt     file, recipient '-'            found by the scan, attempted (suspect)
//	local delivery ran       maildir file, recipient '-'    attempted again, suspect: the agent finds its copy
//	command or file had it   recipient '-'                  done again: a command cannot be asked, a file is looked at
//	forward file told        child file, recipient '-'      as an alias
//	remote host has it       recipient '-'                  sent again: the one duplicate that no protocol prevents
//	alias expanded           child file, recipient '-'      expanded again: the child's derived id is there already
//	report queued            report file, recipient '-'     reported again: likewise
//	marked                   recipient 'D', 'F' or 'X'      never looked at again
//	all marked               file unlinked                  nothing; or, if the unlink was lost, as the rows above
//
// A child or report is attempted only after what it follows from is marked or removed; one that the scan finds
// looks for that first. Otherwise it could be sent and gone when its parent, not yet marked, makes it again.
//
// Memory: at most Options.Active messages are open at once, and some 70 bytes are kept for each of those that wait, up
// to 20 times that number; of more, the directory knows.
package queued

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/retry"
	"postamt/internal/route"
)

// Options of a Server; all are required.
type Options struct {
	Hostname       string
	LocalTransport route.Transport // where mailboxes are delivered
	Active         int             // messages open at once
	Scan           time.Duration   // between readings of the directory
	Retry          retry.Policy
	Limits         Limits
	ReportExpire   time.Duration // Retry.Expire for messages with the null reverse-path
	Expansion      route.Limits
}

// Server works on one queue, which it has locked.
type Server struct {
	conf   atomic.Pointer[Options]
	queue  *queue.Queue
	tables func() *route.Tables
	log    *maillog.Logger
	now    func() time.Time
	jitter func() float64

	sched *scheduler
	index *index
	fresh chan task     // announced, not yet taken up
	scan  chan struct{} // capacity 1: read the directory
	work  chan task

	start time.Time
	dirty chan struct{} // capacity 1: files were removed whose return would send mail twice

	filing chan struct{} // capacity filers: held while a result is recorded

	mu     sync.Mutex
	active map[queue.ID]bool
	room   chan struct{} // capacity 1: there may be room in active again

	traffic traffic

	toldHeld map[string]time.Time // logins whose held mail the postmaster was told of

	every time.Duration
	alive func()
	pulse <-chan time.Time // time for alive; nil without Watch
}

type task struct {
	id      queue.ID
	suspect bool
	now     bool // whatever time its file bears
	ours    bool // it follows from another, and did not come in
}

// New makes a Server; Run starts it. tables is asked once for each message.
func New(o Options, q *queue.Queue, tables func() *route.Tables, c Courier, log *maillog.Logger) *Server {
	// Enough that the directory is not read all the time, of a queue that is longer, for a few messages each.
	waiting := max(20*o.Active, 10_000)
	s := &Server{
		queue: q, tables: tables, log: log,
		now: time.Now, jitter: rand.Float64,
		index:  newIndex(waiting),
		fresh:  make(chan task, 1024),
		scan:   make(chan struct{}, 1),
		work:   make(chan task),
		dirty:  make(chan struct{}, 1),
		filing: make(chan struct{}, filers),
		active: make(map[queue.ID]bool),
		room:   make(chan struct{}, 1),
	}
	s.conf.Store(&o)
	s.sched = &scheduler{
		opt: s.opt, courier: c, log: log,
		now:   func() time.Time { return s.now() },
		slots: make(chan struct{}, o.Limits.Attempts),
		dests: make(map[Destination]*destination), parked: make(map[queue.ID]bool), room: waiting,
		back: func(t task) { s.index.put(t, s.now()) },
		done: s.jobDone, paused: &pauses{queue: q, log: log},
	}
	return s
}

func (s *Server) opt() *Options { return s.conf.Load() }

// Change has o and c hold from now on: for attempts that are judged and transactions that begin, not for times that were set. Active and
// Limits.Attempts stay those of New, which made room for so many.
func (s *Server) Change(o Options, c Courier) {
	old := s.opt()
	o.Active, o.Limits.Attempts = old.Active, old.Limits.Attempts
	s.conf.Store(&o)
	s.sched.mu.Lock()
	defer s.sched.mu.Unlock()
	s.sched.courier = c
	for _, d := range s.sched.dests {
		d.window = min(d.window, s.sched.maxWindow(d)) // a larger one is opened by successes
	}
}

// Watch has dispatch call alive so often, if every is not 0: as long as it goes round, be it that it waits for room. Before Run.
func (s *Server) Watch(every time.Duration, alive func()) { s.every, s.alive = every, alive }

// loaders is how many messages are opened, verified, routed and expanded at once. The work is reading
// files and, for aliases, writing children: a few more than there are processors keeps a disk busy.
const loaders = 8

// filers is how many results are recorded in files at once. More would be no faster, and each that waits for a disk that stalls is a
// thread: there would be as many as there are connections, and Go keeps them.
const filers = 8

// Run works until ctx ends, then finishes the attempts that run, for at most grace, and returns.
func (s *Server) Run(ctx context.Context, grace time.Duration) {
	s.start = s.now()
	// Attempts outlive ctx by the grace; new ones are not begun.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.sched.ctx = sending

	var load, others sync.WaitGroup
	for range loaders {
		load.Go(func() {
			for t := range s.work {
				s.take(t)
			}
		})
	}
	others.Go(func() { s.syncRemovals(ctx) })
	others.Go(func() { s.scanner(ctx) })
	others.Go(func() { s.writeTraffic(ctx) })
	s.dispatch(ctx)
	close(s.work)

	done := make(chan struct{})
	go func() {
		load.Wait()
		s.sched.finish()
		close(done)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		stop()
		<-done
	}
	others.Wait()
	if err := s.queue.SyncRemovals(); err != nil {
		s.log.Problem("", "sync removals", err)
	}
}

// Wake takes up a message that was announced. Never blocks: what does not fit is found by the next scan.
func (s *Server) Wake(id queue.ID) {
	select {
	case s.fresh <- task{id: id}:
	default:
		s.Rescan()
	}
}

// Rescan reads the directory now.
func (s *Server) Rescan() {
	select {
	case s.scan <- struct{}{}:
	default:
	}
}

// Flush forgets which destinations are dead, makes all that waits due, but for what the index had to leave out, and
// reads the directory.
func (s *Server) Flush() {
	s.index.hurry(s.now())
	s.Revive()
}

// Revive forgets which destinations are dead, and reads the directory.
func (s *Server) Revive() {
	s.sched.revive()
	s.Rescan()
}

// submit takes up the messages that followed from m, without the detour over the socket. What follows from
// new mail is new mail and does not wait behind the backlog.
func (s *Server) submit(m *message) {
	for _, id := range m.spawned {
		if !m.suspect {
			select {
			case s.fresh <- task{id: id, ours: true}:
				continue
			default:
			}
		}
		s.index.add(id, s.now(), m.suspect)
	}
	m.spawned = nil
}

// dispatch hands messages to the loaders: announced ones first, so that mail of this minute does not wait
// behind a backlog, but a waiting one after each, so that the backlog moves too.
func (s *Server) dispatch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	if s.every > 0 {
		t := time.NewTicker(s.every)
		defer t.Stop()
		s.pulse = t.C
	}
	for ctx.Err() == nil {
		if s.index.lacks(s.now(), s.sched.waiting()) {
			s.Rescan()
		}
		t, due, wait := s.index.due(s.now())
		if due && !s.claim(ctx, t.id, false) {
			due = false // active already: its attempt puts it back
		}
		if due && !s.hand(ctx, t) {
			return
		}
		if due {
			select {
			case f := <-s.fresh:
				s.takeFresh(ctx, f)
			default:
			}
			continue
		}
		if wait <= 0 {
			continue
		}
		timer.Reset(min(wait, time.Minute)) // a clock that was set, or a machine that slept, is noticed
		select {
		case f := <-s.fresh:
			s.takeFresh(ctx, f)
		case <-s.index.wake:
		case <-timer.C:
		case <-s.pulse:
			s.alive()
		case <-ctx.Done():
		}
	}
}

func (s *Server) takeFresh(ctx context.Context, t task) {
	if s.claim(ctx, t.id, true) {
		if !t.ours {
			s.traffic.arrived(t.id, s.now())
		}
		s.hand(ctx, s.doubt(t))
	}
}

// doubt makes an announced message suspect if it is known to be, or was accepted before we started: then the
// queued before us may have attempted it.
func (s *Server) doubt(t task) task {
	t.suspect = s.index.take(t.id) || t.id.Time().Before(s.start)
	return t
}

func (s *Server) hand(ctx context.Context, t task) bool {
	for {
		select {
		case s.work <- t:
			return true
		case <-s.pulse:
			s.alive()
		case <-ctx.Done():
			s.release(t.id)
			return false
		}
	}
}

// claim makes a message active, waiting for room; false if it is active already. A quarter of the room is
// kept for announced messages: a backlog that hangs on slow hosts cannot stop new mail.
func (s *Server) claim(ctx context.Context, id queue.ID, fresh bool) bool {
	limit := s.opt().Active
	if !fresh {
		limit -= limit / 4
	}
	for {
		s.mu.Lock()
		if s.active[id] {
			s.mu.Unlock()
			return false
		}
		if len(s.active) < limit {
			s.active[id] = true
			s.mu.Unlock()
			return true
		}
		s.mu.Unlock()
		if !fresh {
			// While the backlog waits for room, new mail goes by.
			select {
			case <-s.room:
			case f := <-s.fresh:
				s.takeFresh(ctx, f)
			case <-s.pulse:
				s.alive()
			case <-ctx.Done():
				return false
			}
			continue
		}
		select {
		case <-s.room:
		case <-s.pulse:
			s.alive()
		case <-ctx.Done():
			return false
		}
	}
}

func (s *Server) release(id queue.ID) {
	s.mu.Lock()
	delete(s.active, id)
	s.mu.Unlock()
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// Stats are for people: messages active and waiting.
func (s *Server) Stats() []maillog.KV {
	s.mu.Lock()
	active := len(s.active)
	s.mu.Unlock()
	s.sched.mu.Lock()
	dests, workers := len(s.sched.dests), 0
	for _, d := range s.sched.dests {
		workers += d.workers
	}
	s.sched.mu.Unlock()
	var list []maillog.KV
	for _, of := range []struct {
		key string
		n   int
	}{{"active", active}, {"waiting", s.index.len()}, {"destinations", dests}, {"connections", workers}} {
		list = append(list, maillog.KV{Key: of.key, Val: strconv.Itoa(of.n)})
	}
	return list
}

// scanAgain is when a directory is read again that could not be: for want of descriptors, say, which is soon over, while mail
// that nobody knows of waits.
const scanAgain = 5 * time.Second

// scanner reads the directory at start, at each interval, and when told.
func (s *Server) scanner(ctx context.Context) {
	timer := time.NewTimer(s.opt().Scan)
	defer timer.Stop()
	for {
		wait := s.opt().Scan
		if err := s.readQueue(ctx); err != nil {
			s.log.Problem("", "read queue", err)
			wait = min(wait, scanAgain)
		}
		s.sched.forget(s.now().Add(-time.Hour))
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.scan:
		}
	}
}

// readQueue adds to the index what it lacks. It takes nothing out: readdir may miss what is there
// (faults.md, finding 5), and an entry whose file is gone costs one failing open.
func (s *Server) readQueue(ctx context.Context) error {
	s.index.reading()
	s.sched.paused.now()
	if err := s.wishes(); err != nil {
		s.log.Problem("", "give up", err)
	}
	return s.queue.Scan(func(e queue.Entry) bool {
		if ctx.Err() != nil {
			return false
		}
		if e.Writing {
			adopted, err := s.queue.Recover(e.ID)
			if err != nil && !errors.Is(err, queue.ErrBusy) && !errors.Is(err, queue.ErrNotExist) {
				s.log.Problem(string(e.ID), "recover", err)
			}
			if !adopted {
				return true
			}
		}
		if !s.isActive(e.ID) && !s.sched.isParked(e.ID) {
			// A time that no policy sets is from a clock that was set back since (faults.md Q12). Every
			// reading looks for such, since in the index they hide behind those that come sooner.
			s.index.found(e.ID, s.opt().Retry.Clamp(e.Next, s.now()))
		}
		return true
	})
}

func (s *Server) isActive(id queue.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active[id]
}

// removed asks for a sync of what was unlinked. A remote host that got its mail must not get it again
// because the machine stopped before the unlink reached the disk; one sync for all that ended meanwhile
// keeps that window at some tens of milliseconds for the price of a few syncs a second.
func (s *Server) removed() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

func (s *Server) syncRemoved() {
	if err := s.queue.SyncRemovals(); err != nil {
		s.log.Problem("", "sync removals", err)
	}
}

func (s *Server) syncRemovals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
		}
		s.syncRemoved()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
