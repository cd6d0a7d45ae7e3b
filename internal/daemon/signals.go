package daemon

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Hooks are what signals ask a program for. They are called one at a time; nil ones are not called, and their
// signals do nothing.
type Hooks struct {
	Reload func() // HUP: read the configuration again; keep the old one if it is wrong
	Dump   func() // USR1: write the state to the log
	Flush  func() // ALRM: try the queue now
}

// ErrStopped is why the context of Signals ended (context.Cause).
var ErrStopped = errors.New("stopped by a signal")

// Signals starts obeying signals. The context ends at the first TERM or INT: stop accepting, let sessions finish their
// transaction, exit 0. A second TERM or INT ends the program at once, as it would one that catches nothing.
func (p *Process) Signals(h Hooks) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGALRM)
	// What a hook waits for holds up no end.
	hooks := make(chan os.Signal, cap(c))
	go func() {
		for s := range hooks {
			switch s {
			case syscall.SIGHUP:
				if h.Reload != nil && ctx.Err() == nil {
					p.Reloading()
					h.Reload()
					p.Ready()
				}
			case syscall.SIGUSR1:
				call(h.Dump)
			case syscall.SIGALRM:
				call(h.Flush)
			}
		}
	}()
	go func() {
		for s := range c {
			switch s {
			case syscall.SIGTERM, syscall.SIGINT:
				// Not signal.Stop: a HUP that comes while we drain must not kill us.
				signal.Reset(syscall.SIGTERM, syscall.SIGINT)
				cancel(ErrStopped)
			default:
				select {
				case hooks <- s:
				default: // those that wait will do the same
				}
			}
		}
	}()
	return ctx
}

func call(f func()) {
	if f != nil {
		f()
	}
}
