//go:build linux && (amd64 || arm64)

package killpoint

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Call is a counted system call.
type Call struct {
	N        int    // 1 is the first
	Name     string // of the system call
	Path, To string // what it is about; To is the second name of a rename or link
	Looks    bool   // it changes nothing
}

func (c Call) String() string {
	s := fmt.Sprintf("%d: %s %s", c.N, c.Name, c.Path)
	if c.To != "" {
		s += " to " + c.To
	}
	return s
}

// Syncs tells a call that makes something permanent.
func (c Call) Syncs() bool {
	switch c.Name {
	case "fsync", "fdatasync", "syncfs":
		return true
	}
	return false
}

// Fault is what becomes of a call. The zero value lets it be carried out.
type Fault struct {
	kill  bool
	errno syscall.Errno
}

// Kill ends the program before the call.
func Kill() Fault { return Fault{kill: true} }

// Errno makes the call fail.
func Errno(e syscall.Errno) Fault { return Fault{errno: e} }

// KillAt kills the program at its n-th call.
func KillAt(n int) func(Call) Fault {
	return func(c Call) Fault { return Fault{kill: c.N == n} }
}

// ErrnoAt makes the n-th call fail, and none after it.
func ErrnoAt(n int, e syscall.Errno) func(Call) Fault {
	return func(c Call) Fault {
		if c.N != n {
			return Fault{}
		}
		return Errno(e)
	}
}

// Plan says what is counted and what is done.
type Plan struct {
	Below []string         // directories; none: everything counts
	Looks bool             // count also the calls that only look
	Fault func(Call) Fault // asked before each counted call, one at a time; nil: no fault, only the count
}

// Need skips a test where this package cannot work.
func Need(t testing.TB) {
	t.Helper()
	if err := available(); err != nil {
		t.Skipf("seccomp user notification is not available: %v", err)
	}
}

// Run is a program under a plan.
type Run struct {
	plan     Plan
	main     int // process id
	listener int
	null     int // open on /dev/null, for close
	done     chan struct{}

	mu    sync.Mutex
	calls []Call
	hit   int // index of the first call with a fault, -1
	dead  bool
	err   error
}

// Start starts a command as cmd.Start would, with its calls counted from the first one on. The command is waited for as usual.
func Start(cmd *exec.Cmd, p Plan) (*Run, error) {
	below := make([]string, len(p.Below))
	for i, dir := range p.Below {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return nil, fmt.Errorf("killpoint: %w", err)
		}
		below[i] = real
	}
	p.Below = below
	r := &Run{plan: p, hit: -1, done: make(chan struct{})}
	if err := r.launch(cmd); err != nil {
		return nil, fmt.Errorf("killpoint: %w", err)
	}
	go r.supervise()
	return r, nil
}

// Calls returns the calls that were counted so far.
func (r *Run) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[:len(r.calls):len(r.calls)]
}

// Hit returns the first call that had a fault.
func (r *Run) Hit() (Call, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hit < 0 {
		return Call{}, false
	}
	return r.calls[r.hit], true
}

// Done is closed when the program and all its children have ended.
func (r *Run) Done() <-chan struct{} { return r.done }

// Wait returns when the program and all its children have ended. The error is ours, not the program's.
func (r *Run) Wait() error {
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// count gives the call its number if it is one of those that count, and asks the plan.
func (r *Run) count(c Call) Fault {
	if c.Looks && !r.plan.Looks || !r.below(c.Path) && !r.below(c.To) {
		return Fault{}
	}
	r.mu.Lock()
	c.N = len(r.calls) + 1
	r.calls = append(r.calls, c)
	r.mu.Unlock()
	if r.plan.Fault == nil {
		return Fault{}
	}
	f := r.plan.Fault(c)
	if f != (Fault{}) {
		r.mu.Lock()
		if r.hit < 0 {
			r.hit = c.N - 1
		}
		r.mu.Unlock()
	}
	return f
}

func (r *Run) below(path string) bool {
	if path == "" {
		return false
	}
	for _, dir := range r.plan.Below {
		if rest, ok := strings.CutPrefix(path, dir); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return len(r.plan.Below) == 0
}
