package pop3d

import (
	"context"
	"strconv"

	"postamt/internal/pop3"
)

// RFC 1939 section 5: "DELE" msg. Nothing is removed before QUIT.
func (t *transaction) cmdDele(cmd pop3.Command) *pop3.Response {
	w := cmd.Words()
	if len(w) != 1 {
		return t.fault("syntax: DELE message-number")
	}
	i, r := t.message(w[0])
	if r != nil {
		return r
	}
	if t.marked == nil {
		t.marked = make([]bool, t.drop.Len())
	}
	t.marked[i] = true
	t.marks++
	if t.octets >= 0 {
		t.removed += t.size(i)
	}
	return pop3.OK("marked")
}

// RFC 1939 section 5: "RSET".
func (t *transaction) cmdRset(cmd pop3.Command) *pop3.Response {
	if len(cmd.Words()) > 0 {
		return t.fault("no arguments")
	}
	t.marked, t.marks, t.removed = nil, 0, 0
	return pop3.OK(strconv.Itoa(t.drop.Len()) + " messages")
}

// RFC 1939 section 6: "QUIT", and UPDATE. The lock is released before +OK is said: a client that comes back at once finds it free.
func (t *transaction) cmdQuit(cmd pop3.Command) *pop3.Response {
	if len(cmd.Words()) > 0 {
		return t.fault("no arguments")
	}
	t.close("quit")
	left, err := t.update()
	t.leave()
	if err != nil {
		t.broken = err
		return pop3.Err(pop3.SysTemp, "some messages that were marked are not removed")
	}
	return pop3.OK("bye, " + strconv.Itoa(left) + " messages left")
}

// update removes what is marked; to be told to stop is no reason to do half of it.
func (t *transaction) update() (left int, err error) {
	if t.marks == 0 {
		return t.drop.Len(), nil
	}
	list := make([]int, 0, t.marks)
	for i, m := range t.marked {
		if m {
			list = append(list, i)
		}
	}
	failed, err := t.drop.Remove(context.WithoutCancel(t.ctx), list)
	t.deleted = len(list) - len(failed)
	if err == nil && len(failed) > 0 {
		err = errNotRemoved
	}
	return t.drop.Len() - t.deleted, err
}
