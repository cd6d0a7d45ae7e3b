package main

import (
	"errors"

	"postamt/internal/queue"
)

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

// hold keeps messages from being attempted.
func hold(c *command) error { return c.move((*queue.Queue).Hold, false) }

// release puts held messages back, and has them attempted.
func release(c *command) error { return c.move((*queue.Queue).Release, true) }

func (c *command) move(to func(*queue.Queue, queue.ID) error, wake bool) error {
	if err := c.parse(c.flags(), 1, -1); err != nil {
		return err
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	w, err := c.waker()
	if err != nil {
		return err
	}
	defer w.Close()
	for _, s := range c.args {
		id, err := queue.ParseID(s)
		if err == nil {
			err = to(q, id)
		}
		switch {
		case errors.Is(err, queue.ErrNotExist):
			c.fail(exUnavailable, err)
		case err != nil:
			c.fail(exOSErr, err)
		case wake:
			w.Wake(id)
		}
	}
	return nil
}
