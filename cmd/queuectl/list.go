package main

import (
	"fmt"
	"slices"

	"postamt/internal/queue"
)

// list prints a line for each message, as it finds them: a queue of any length needs no memory.
func list(c *command) error {
	if err := c.parse(c.flags(), 0, 0); err != nil {
		return err
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	var line []byte
	var written error
	err = q.List(func(l queue.Listed) bool {
		line = appendLine(line[:0], l, lastNote(q, l.ID))
		_, written = c.out.Write(line)
		return written == nil
	})
	if written != nil {
		return fmt.Errorf("list: %w", written)
	}
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	return nil
}

// lastNote is what was last noted of a message that says why it is here; a log that cannot be read says nothing.
func lastNote(q *queue.Queue, id queue.ID) queue.Note {
	notes, _ := q.ReadLog(id)
	for _, n := range slices.Backward(notes) {
		if n.Event != queue.EventAttempt && n.Event != queue.EventWarned {
			return n
		}
	}
	return queue.Note{}
}
