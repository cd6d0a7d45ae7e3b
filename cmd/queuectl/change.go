package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/queue"
)

// each does something with each message that is named, on the command line or, by "-", on the standard input; and last, if not nil, at the end of those that were done.
func (c *command) each(flags *flag.FlagSet, do func(*queue.Queue, queue.ID) error, last func(*queue.Queue) error) error {
	null := flags.Bool("0", false, "")
	if err := c.parse(flags, 1, -1); err != nil {
		return err
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	done := 0
	err = c.ids(*null, func(id queue.ID) error {
		err := do(q, id)
		if err == nil {
			done++
		}
		return err
	})
	if last != nil && done > 0 {
		if lerr := last(q); err == nil {
			err = lerr
		}
	}
	return err
}

// change is each for what queued is to act on.
func (c *command) change(flags *flag.FlagSet, do func(*queue.Queue, queue.ID) error, last func(*queue.Queue) error) error {
	var w *wakeups
	err := c.each(flags, func(q *queue.Queue, id queue.ID) (err error) {
		if w == nil {
			w, err = c.wakeups()
		}
		if err == nil {
			err = do(q, id)
		}
		if err == nil {
			w.about(id)
		}
		return err
	}, last)
	if w != nil {
		w.end()
	}
	return err
}

// ids goes on after what cannot be done with one, and tells it.
func (c *command) ids(null bool, f func(queue.ID) error) error {
	one := func(s string) error {
		id, err := queue.ParseID(s)
		if err != nil {
			c.fail(exUnavailable, err)
			return nil
		}
		switch err := f(id); {
		case errors.Is(err, syscall.EPIPE):
			return err
		case errors.Is(err, queue.ErrNotExist):
			c.fail(exUnavailable, err)
		case err != nil:
			c.failed(err)
		}
		return nil
	}
	for _, s := range c.args {
		if s != "-" {
			if err := one(s); err != nil {
				return err
			}
			continue
		}
		lines := bufio.NewScanner(c.in)
		lines.Buffer(nil, 16<<20) // of list, with all recipients
		if null {
			lines.Split(splitNull)
		}
		for lines.Scan() {
			words := bytes.Fields(lines.Bytes())
			if len(words) == 0 {
				continue
			}
			if err := one(string(words[0])); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
	}
	return nil
}

func splitNull(data []byte, end bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return i + 1, data[:i], nil
	}
	if end && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// wakeups tells queued of what was done: of a few messages each, of many that there is something to read. If it is not there, it will read
// when it starts.
type wakeups struct {
	*queue.Waker
	n int
}

const few = 16

func (w *wakeups) about(id queue.ID) {
	if w.n++; w.n <= few {
		w.Wake(id)
	}
}

// end waits for room in the socket, for a moment.
func (w *wakeups) end() {
	defer w.Close()
	for range 100 {
		if w.n <= few {
			return
		}
		if err := w.Scan(); !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *command) wakeups() (*wakeups, error) {
	w, err := c.waker()
	return &wakeups{Waker: w}, err
}

// hold keeps messages from being attempted.
func hold(c *command) error { return c.each(c.flags(), (*queue.Queue).Hold, nil) }

// release puts held messages back, and has them attempted.
func release(c *command) error { return c.change(c.flags(), (*queue.Queue).Release, nil) }

// requeue has them treated as if they had just arrived.
func requeue(c *command) error {
	return c.change(c.flags(), func(q *queue.Queue, id queue.ID) error { return q.Requeue(id, time.Now()) }, nil)
}

// remove is "delete".
func remove(c *command) error {
	return c.each(c.flags(), (*queue.Queue).Delete, (*queue.Queue).SyncRemovals)
}

// bounce has queued give messages up.
func bounce(c *command) error {
	flags := c.flags()
	text := flags.String("m", "", "")
	return c.change(flags, func(q *queue.Queue, id queue.ID) error { return q.GiveUp(id, *text) }, (*queue.Queue).SyncGiveUps)
}

// expire is bounce of what passes a filter.
func expire(c *command) error {
	flags := c.flags()
	var f filter
	f.addTo(flags)
	text := flags.String("m", "", "")
	if err := c.parse(flags, 0, 0); err != nil {
		return err
	}
	if err := f.done(flags); err != nil || !f.given {
		return errUsage
	}
	return c.changeThose(&f, func(q *queue.Queue, id queue.ID) error { return q.GiveUp(id, *text) }, func(q *queue.Queue, w *wakeups) error {
		err := q.SyncGiveUps()
		w.end()
		return err
	})
}

// changeThose does something with all that pass.
func (c *command) changeThose(f *filter, do func(*queue.Queue, queue.ID) error, last func(*queue.Queue, *wakeups) error) error {
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	w, err := c.wakeups()
	if err != nil {
		return err
	}
	defer w.Close()
	err = f.look(q, false, func(l *queue.Listed, _ []queue.Note) error {
		if l.Err != nil { // damaged: nothing can be done for it
			return nil
		}
		switch err := do(q, l.ID); {
		case errors.Is(err, queue.ErrNotExist): // it has just left
		case err != nil:
			c.failed(err)
		default:
			w.about(l.ID)
		}
		return nil
	})
	if w.n == 0 && err != nil {
		return err
	}
	return errors.Join(err, last(q, w))
}

// retry makes messages due, and has queued try what it found dead.
func retry(c *command) error {
	flags := c.flags()
	var f filter
	f.addTo(flags)
	all := flags.Bool("all", false, "")
	null := flags.Bool("0", false, "")
	if err := c.parse(flags, 0, -1); err != nil {
		return err
	}
	if err := f.done(flags); err != nil {
		return err
	}
	ways := 0
	for _, way := range []bool{len(c.args) > 0, f.given, *all} {
		if way {
			ways++
		}
	}
	if ways != 1 {
		return errUsage
	}
	now := time.Now()
	if len(c.args) == 0 {
		if f.state == "" {
			f.state = "active"
		}
		return c.changeThose(&f, func(q *queue.Queue, id queue.ID) error { return q.Due(id, now) }, func(_ *queue.Queue, w *wakeups) error {
			w.Revive() // and reads
			return nil
		})
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	w, err := c.wakeups()
	if err != nil {
		return err
	}
	defer w.end()
	w.Revive() // first, lest they are told that their destination is dead
	return c.ids(*null, func(id queue.ID) error {
		err := q.Due(id, now)
		if err == nil {
			w.about(id)
		}
		return err
	})
}

// flush makes everything due.
func flush(c *command) error {
	if err := c.parse(c.flags(), 0, 0); err != nil {
		return err
	}
	w, err := c.waker()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Flush(); err != nil {
		return exit{exUnavailable, err}
	}
	return nil
}
