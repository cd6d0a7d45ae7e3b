package monitor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/privilege"
)

// post is what a worker is for: a user id, and what its owner has executed, or all else.
type post struct {
	uid  uint32
	runs bool
}

func (a *Account) post() post { return post{a.UID, a.Runs} }

// role is what a worker at this post is called.
func (p post) role() string {
	if p.runs {
		return Runner
	}
	return Worker
}

// worker is a process for one user id.
type worker struct {
	*child
	post
	sent uint32 // connections that it was given
	left bool   // it may go
}

// deaths is what is remembered of a post whose workers die.
type deaths struct {
	last  time.Time
	delay time.Duration // from then on
}

const (
	minDelay = time.Second
	maxDelay = time.Minute
	forgiven = 10 * time.Minute
)

// errFull: there are as many workers as there may be.
var errFull = errors.New("monitor: too many workers")

// connect gives the worker of an account a connection, and returns the other end of it; or, with a client, gives it that.
func (m *Monitor) connect(a Account, o order, client *os.File) (*os.File, error) {
	if client != nil {
		return nil, m.give(a, o, client)
	}
	ours, theirs, err := pair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	if err := m.give(a, o, theirs); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}

// give sends the worker of an account a connection; it is started if there is none.
func (m *Monitor) give(a Account, o order, f *os.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[a.post()]
	if w == nil {
		var err error
		if w, err = m.start(a); err != nil {
			return err
		}
	}
	if err := w.tell(o, f); err != nil {
		// EAGAIN: it is stopped, or hangs; EPIPE: it has just died.
		return fmt.Errorf("worker of uid %d: %w", a.UID, err)
	}
	w.sent++
	return nil
}

// start executes a worker; m is locked.
func (m *Monitor) start(a Account) (*worker, error) {
	if m.stopping {
		return nil, errors.New("monitor: stopping")
	}
	now := time.Now()
	if d := m.deaths[a.post()]; d != nil {
		switch age := now.Sub(d.last); {
		case age < 0 || age > forgiven:
			delete(m.deaths, a.post())
		case age < d.delay:
			return nil, fmt.Errorf("uid %d: its worker has died, another is started in %v", a.UID, (d.delay - age).Round(time.Millisecond))
		}
	}
	if len(m.alive) >= m.opt.Workers {
		if now.Sub(m.hurried) > 100*time.Millisecond {
			m.hurried = now
			for w := range m.alive {
				w.tell(order{kind: kindHurry}, nil) // if it does not read, it does not idle either
			}
		}
		return nil, errFull
	}
	groups := []uint32{a.GID}
	if a.Member {
		var err error
		if groups, err = privilege.GroupsOf(a.UID, a.GID); err != nil {
			m.problem("start a worker", err) // it can do less
		}
	}
	c, err := m.execute(a.post().role(), a.UID, a.GID, groups, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("start a worker for uid %d: %w", a.UID, err)
	}
	w := &worker{child: c, post: a.post()}
	// Before any connection: it is what the worker reads first.
	if err := c.configure(0, m.text); err != nil {
		m.problem("configure a worker", err)
	}
	m.workers[a.post()] = w
	m.alive[w] = true
	m.event("started", w, "")
	go m.attend(w)
	return w, nil
}

// attend serves a worker until it ends.
func (m *Monitor) attend(w *worker) {
	err := m.serve(w.child, func(r request, f *os.File) error {
		if f != nil {
			return errRecord
		}
		switch r.kind {
		case kindMailbox:
			return m.forWorker(w, r)
		case kindLeave:
			m.mu.Lock()
			defer m.mu.Unlock()
			if w.left || r.serial != w.sent {
				return nil
			}
			w.left = true
			if m.workers[w.post] == w {
				delete(m.workers, w.post)
			}
			return w.tell(order{kind: kindGo}, nil)
		}
		return errRecord
	})
	if errors.Is(err, errRecord) {
		m.problem("worker", fmt.Errorf("uid %d: %w: it is ended", w.uid, err))
	}
	// No more records: it is dead, or as good as dead. Without CAP_KILL it is not we who end it, but it cannot do anything for us.
	m.lost(w)
	w.sock.close()
	if errors.Is(err, errRecord) {
		w.cmd.Process.Kill()
	}
	exit := w.cmd.Wait()
	m.buried(w, exit)
}

// forWorker answers a worker that asks who is behind a name: only if it is the user whose worker it is.
func (m *Monitor) forWorker(w *worker, r request) error {
	o := order{kind: kindAnswer, serial: r.serial, uid: w.uid}
	a, err := m.account(r.name)
	if err == nil && a.post() != w.post {
		err = fmt.Errorf("%s: uid %d: the %s of uid %d asks for it", r.name, a.UID, w.role(), w.uid)
	}
	m.outcome(&o, r.name, err)
	if err == nil {
		o.value = a.Value
	}
	err = w.tell(o, nil)
	// Connections may fill his socket as fast as he reads it, and wait for him themselves (forFront). Without this answer he is of no use to any of them.
	for begun := time.Now(); errors.Is(err, unix.EAGAIN) && time.Since(begun) < roomTime; err = w.tell(o, nil) {
		time.Sleep(time.Millisecond)
	}
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

// lost takes a worker out of those that serve, and remembers that it died unless it was let go. Both at once: its successor must not
// slip in before the death counts.
func (m *Monitor) lost(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.workers[w.post] == w {
		delete(m.workers, w.post)
	}
	if w.left || m.stopping {
		return
	}
	if len(m.deaths) > 10000 {
		clear(m.deaths)
	}
	now := time.Now()
	d := m.deaths[w.post]
	if d == nil || now.Sub(d.last) > forgiven {
		d = &deaths{delay: minDelay / 2}
		m.deaths[w.post] = d
	}
	d.last, d.delay = now, min(2*d.delay, maxDelay)
}

// buried notes that a worker's process is gone.
func (m *Monitor) buried(w *worker, exit error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.alive, w)
	if len(m.alive) == 0 && m.allGone != nil {
		close(m.allGone)
		m.allGone = nil
	}
	if w.left || m.stopping {
		m.event("left", w, "")
		return
	}
	m.event("died", w, state(exit))
}

// stopWorkers tells them to finish and waits for them, but not for ever; then it ends those that we may end.
func (m *Monitor) stopWorkers(grace time.Duration) {
	m.mu.Lock()
	m.stopping = true
	var gone chan struct{}
	if len(m.alive) > 0 {
		gone = make(chan struct{})
		m.allGone = gone
	}
	for w := range m.alive {
		w.tell(order{kind: kindStop}, nil)
	}
	m.mu.Unlock()
	if gone == nil {
		return
	}
	m.await(gone, grace)
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.alive {
		w.cmd.Process.Kill()
	}
}
