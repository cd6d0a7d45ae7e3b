package imapd

import (
	"errors"
	"sync"
	"time"

	"postamt/internal/imap"
	"postamt/internal/lineio"
	"postamt/internal/watch"
)

// attention is what wakes a session for what happens elsewhere, while it waits for its client and at no other time: a command that waits for a literal is not to be disturbed.
type attention struct {
	mu    sync.Mutex
	c     *imap.Conn
	waits bool
	due   bool // something has happened that was not looked at
}

// call is what mailboxes call.
func (a *attention) call() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = true
	if a.waits {
		a.c.Wake()
	}
}

// take says whether something is due, and that it is looked at now.
func (a *attention) take() (due bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	due, a.due = a.due, false
	return due
}

// begin says that the session waits; false: it need not, something is due.
func (a *attention) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waits = !a.due
	return a.waits
}

// end is the end of waiting.
func (a *attention) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waits = false
	a.c.ClearWake()
}

// wait returns when there is something to be read from the client, or nothing will be, which the next read says. Until then it tells the client what happens, whenever something does.
func (u *user) wait(tell func() error) error {
	if u.view != nil && u.notify.ofSelected() {
		defer u.view.box.Follow(u.attention.call)()
	}
	u.idle.Set(true)
	defer u.idle.Set(false)
	for {
		if err := tell(); err != nil {
			return err
		}
		u.c.Flush() // a wait that was ended before it began sends nothing
		told := time.Now()
		var err error = lineio.ErrWoken
		if u.attention.begin() {
			err = u.c.Wait()
		}
		u.attention.end()
		if !errors.Is(err, lineio.ErrWoken) || u.ctx.Err() != nil {
			return nil
		}
		time.Sleep(watch.Interval - time.Since(told)) // where something happens all the time it is told now and then
	}
}
