package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/maillog"
	"postamt/internal/privilege"
)

// reloadTime is how long the front may take to read what a new configuration names: certificates, for which it asks keyd.
const reloadTime = 10 * time.Second

// crashTime is how long workers may take to finish when the front has died: until they have, a supervisor starts no other, and nobody is served.
const crashTime = 2 * time.Second

// How long somebody who has logged in waits: for room for a worker; for one that has not read the connections before his.
const (
	roomTime = 5 * time.Second
	busyTime = time.Second
)

// taken is what the front says of a configuration.
type taken struct {
	serial uint32 // of the reload
	yes    bool
}

// Monitor is the root of a program that is split.
type Monitor struct {
	opt   Options
	forks chan func()

	front      *child
	ended      chan struct{} // the front exited
	taken      chan taken    // what it has said of a new configuration, the newest only
	reloads    uint32        // of Reload
	reloadTime time.Duration // reloadTime, but in tests
	slots      chan struct{} // requests with a lookup that may wait (homes on a dead file server, tickets)
	homes      homes

	mu       sync.Mutex
	lookup   func(string) (Account, error)
	text     string           // the configuration, for workers to come
	workers  map[post]*worker // those that take connections
	alive    map[*worker]bool // and those that are leaving
	deaths   map[post]*deaths
	said     map[string]time.Time // refusals that were logged
	hurried  time.Time
	stopping bool
	allGone  chan struct{} // closed when no worker is alive; nil before somebody waits
}

// child is a process of ours.
type child struct {
	cmd  *exec.Cmd
	sock *socket
}

// Start executes the front. The text of the configuration is for it and for the workers.
func Start(o Options, text string) (*Monitor, error) {
	m := &Monitor{opt: o, forks: make(chan func()), ended: make(chan struct{}), taken: make(chan taken, 1), reloadTime: reloadTime, slots: make(chan struct{}, 32),
		homes: make(homes, 16), lookup: o.Lookup, text: text,
		workers: map[post]*worker{}, alive: map[*worker]bool{}, deaths: map[post]*deaths{}, said: map[string]time.Time{}}
	go m.fork()
	c, err := m.execute("front", o.Front.UID, o.Front.GID, []uint32{o.Front.GID}, o.Listeners, o.Names)
	if err != nil {
		return nil, fmt.Errorf("monitor: start the front: %w", err)
	}
	m.front = c
	if err := c.configure(0, text); err != nil {
		return nil, fmt.Errorf("monitor: start the front: %w", err)
	}
	return m, nil
}

// fork starts processes. PDEATHSIG comes when the thread that forked ends, not the process: this one never does.
func (m *Monitor) fork() {
	runtime.LockOSThread()
	for f := range m.forks {
		f()
	}
}

// execute starts this program again in a role, as a user with these groups, with nothing open but the null device, our stderr,
// files and its end of a socketpair, and nothing in its environment but what says so.
func (m *Monitor) execute(role string, uid, gid uint32, groups []uint32, files []*os.File, names []string) (*child, error) {
	ours, theirs, err := pair(seqpacket)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	sock, err := newSocket(ours)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: self(), Args: []string{m.opt.Program + ": " + role}, Dir: "/", Stderr: os.Stderr,
		ExtraFiles: append(append([]*os.File{}, files...), theirs), SysProcAttr: attributes(uid, gid, groups)}
	cmd.Env = []string{roleVariable + "=" + role + " " + strconv.Itoa(firstFD+len(files)), "PATH=/usr/bin:/bin"}
	if len(files) > 0 {
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
		if m.opt.Watchdog > 0 {
			cmd.Env = append(cmd.Env, "WATCHDOG_USEC="+strconv.FormatInt(m.opt.Watchdog.Microseconds(), 10))
		}
	}
	done := make(chan error)
	m.forks <- func() { done <- cmd.Start() }
	if err := <-done; err != nil {
		sock.close()
		return nil, err
	}
	return &child{cmd, sock}, nil
}

// credential is who a child is to be. Without root it is who we are.
func credential(uid, gid uint32, groups []uint32) *syscall.Credential {
	if !privilege.Root() {
		return nil
	}
	return &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}
}

// configure sends a child the configuration.
func (c *child) configure(serial uint32, text string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := c.tell(order{kind: kindConfiguration, serial: serial}, r); err != nil {
		w.Close()
		return err
	}
	go func() { // a child that does not read it holds nobody up
		io.WriteString(w, text)
		w.Close()
	}()
	return nil
}

func (c *child) tell(o order, f *os.File) error {
	b, err := o.encode()
	if err != nil {
		return err
	}
	return c.sock.sendNow(b, f)
}

// Reload gives front and workers another configuration, and looks users up by another table from now on; or, if the front cannot follow it, which has more to
// open than we, neither. One Reload at a time.
func (m *Monitor) Reload(text string, lookup func(string) (Account, error)) error {
	m.reloads++
	if err := m.front.configure(m.reloads, text); err != nil {
		return fmt.Errorf("monitor: the front: %w", err)
	}
	late := time.NewTimer(m.reloadTime)
	defer late.Stop()
	for answer := (taken{}); answer.serial != m.reloads; { // or it is of one that it was too late for
		select {
		case answer = <-m.taken:
		case <-m.ended:
			return errors.New("monitor: the front has ended")
		case <-late.C:
			return fmt.Errorf("monitor: the front has not said in %v whether it follows; the workers have kept the old one", m.reloadTime)
		}
		if answer.serial == m.reloads && !answer.yes {
			return errors.New("monitor: the front has kept the old one: its line says why")
		}
	}
	m.mu.Lock()
	m.text, m.lookup = text, lookup
	var workers []*child
	for w := range m.alive {
		workers = append(workers, w.child)
	}
	m.mu.Unlock()
	for _, c := range workers {
		if err := c.configure(0, text); err != nil {
			m.problem("reload", err)
		}
	}
	return nil
}

// Run serves the children until ctx ends and they have finished, at most for Grace. The error says that the front ended by itself;
// nothing is left then either, after crashTime at most.
func (m *Monitor) Run(ctx context.Context) error {
	var exit error
	go func() {
		exit = m.front.cmd.Wait()
		close(m.ended)
	}()
	serving := make(chan error, 1)
	go func() { serving <- m.serveFront() }()
	var err error
	ended, grace := false, m.opt.Grace
	select {
	case <-ctx.Done():
		m.front.tell(order{kind: kindStop}, nil)
		if m.opt.Tickets != nil { // what the front still carries ends with the workers' sessions; it has no more to give them
			m.stopWorkers(m.opt.Grace)
		}
		m.await(m.ended, m.opt.Grace)
	case <-m.ended:
		ended = true
	case err = <-serving:
		// ECONNRESET: it died with answers unread.
		if ended = errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET); ended {
			m.await(m.ended, crashTime)
		}
	}
	m.front.cmd.Process.Kill()
	if ended {
		how := "it has closed its link"
		select {
		case <-m.ended:
			how = state(exit)
		default:
		}
		err = fmt.Errorf("monitor: the front ended: %s", how)
		grace = min(grace, crashTime)
	}
	m.stopWorkers(grace)
	m.front.sock.close()
	return err
}

func (m *Monitor) await(done <-chan struct{}, most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// serveFront answers the front until that ends.
func (m *Monitor) serveFront() error {
	return m.serve(m.front, func(r request, f *os.File) error {
		switch r.kind {
		case kindReady:
			if f != nil {
				return errRecord
			}
			m.opt.Ready()
			return nil
		case kindAlive:
			if f != nil || m.opt.Alive == nil {
				return errRecord
			}
			m.opt.Alive()
			return nil
		case kindDial:
			if f != nil || m.opt.Dial == nil {
				return errRecord
			}
			m.slots <- struct{}{}
			go func() {
				defer func() { <-m.slots }()
				o := order{kind: kindAnswer, serial: r.serial}
				theirs, err := m.opt.Dial()
				if err == nil {
					defer theirs.Close()
				}
				m.outcome(&o, "the server of logins", err)
				if err := m.front.tell(o, theirs); err != nil {
					m.problem("answer the front", err)
				}
			}()
			return nil
		case kindTaken, kindKept:
			if f != nil {
				return errRecord
			}
			select {
			case <-m.taken: // nobody has waited for it
			default:
			}
			m.taken <- taken{r.serial, r.kind == kindTaken}
			return nil
		case kindWho, kindConnect, kindHand:
			if (f != nil) != (r.kind == kindHand) || r.name == "" && m.opt.Tickets == nil {
				return errRecord
			}
			m.slots <- struct{}{}
			go func() {
				a := m.forFront(r, f)
				<-m.slots
				if a != nil {
					// The front keeps count of what it asks: its socket has room for every answer.
					m.problem("answer the front", a)
				}
			}()
			return nil
		}
		return errRecord
	})
}

// serve reads a child's requests. An error ends the child: it is not ours any more.
func (m *Monitor) serve(c *child, answer func(request, *os.File) error) error {
	b := make([]byte, requestSize+1)
	for {
		n, f, err := c.sock.receive(b)
		if err != nil {
			return err
		}
		r, err := decodeRequest(b[:n])
		if err == nil {
			err = answer(r, f)
		}
		if err != nil {
			if f != nil {
				f.Close()
			}
			return err
		}
	}
}

// forFront answers one request of the front. f is the client to hand over; it is closed.
func (m *Monitor) forFront(r request, f *os.File) error {
	if f != nil {
		defer f.Close()
	}
	o := order{kind: kindAnswer, serial: r.serial}
	name, err := r.name, error(nil)
	if m.opt.Tickets != nil && r.kind != kindWho {
		if name, err = m.opt.Tickets.Redeem(r.ticket); err == nil && strings.Contains(name, "\x00") {
			name, err = "", errors.New("a user's name with a NUL in it")
		}
	}
	var a Account
	if err == nil {
		a, err = m.account(name)
	}
	var theirs *os.File
	if err == nil && r.kind != kindWho {
		o := order{kind: kindSession, uid: a.UID}
		if m.opt.Tickets != nil {
			o.value = name + "\x00" + a.Value + r.name
			if o.serial = uint32(len(a.Value)); len(o.value) > MaxValue { // then the worker asks
				o.serial, o.value = 0, name+"\x00"+r.name
			}
		} else if f != nil {
			o.value = name
		}
		theirs, err = m.connect(a, o, f)
		// A ticket cannot be shown again, so it is we who wait until those that are idle have made room; and, not as long, until a worker has read what it was given:
		// some forty connections find room while it starts, and after a restart all of a user's clients come at once.
		begun := time.Now()
		for wait := roomTime; m.opt.Tickets != nil && time.Since(begun) < wait; {
			if errors.Is(err, unix.EAGAIN) {
				wait = busyTime
			} else if !errors.Is(err, errFull) {
				break
			}
			time.Sleep(20 * time.Millisecond)
			theirs, err = m.connect(a, o, f)
		}
	}
	if theirs != nil {
		defer theirs.Close()
	}
	m.outcome(&o, name, err)
	o.uid = a.UID
	return m.front.tell(o, theirs)
}

// account is who is behind a name, by our own rules.
func (m *Monitor) account(name string) (Account, error) {
	m.mu.Lock()
	lookup := m.lookup
	m.mu.Unlock()
	a, err := lookup(name)
	if err == nil && privilege.Root() {
		err = m.opt.judge(name, a)
	} else if err == nil {
		err = judgeAlone(name, a)
	}
	if err == nil {
		err = m.homes.own(name, a)
	}
	return a, err
}

// outcome puts an error into an answer, and into the log what the answer does not say.
func (m *Monitor) outcome(o *order, name string, err error) {
	var refusal Refusal
	switch {
	case err == nil:
	case errors.As(err, &refusal):
		o.status, o.value = statusRefused, string(refusal)[:min(len(refusal), MaxValue)]
	case errors.Is(err, errFull):
		o.status = statusFull
	default:
		o.status = statusFailed
		m.complain(name, err)
	}
}

// complain logs why a name is not acted for, once a minute for each name.
func (m *Monitor) complain(name string, err error) {
	m.mu.Lock()
	now := time.Now()
	last, ok := m.said[name]
	quiet := ok && now.Sub(last) < time.Minute
	if !quiet {
		if len(m.said) > 1000 {
			clear(m.said)
		}
		m.said[name] = now
	}
	m.mu.Unlock()
	if !quiet {
		m.problem("act for user", err)
	}
}

func (m *Monitor) problem(op string, err error) { m.opt.Log.Problem("", op, err) }

func (m *Monitor) event(what string, w *worker, why string) {
	kv := []maillog.KV{{Key: "state", Val: what}, {Key: "uid", Val: strconv.FormatUint(uint64(w.uid), 10)},
		{Key: "pid", Val: strconv.Itoa(w.cmd.Process.Pid)}}
	if w.runs {
		kv = append(kv, maillog.KV{Key: "role", Val: Runner})
	}
	if why != "" {
		kv = append(kv, maillog.KV{Key: "why", Val: why})
	}
	m.opt.Log.Event("", "worker", kv...)
}

// state is how a process ended, for people.
func state(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
