package main

import (
	"cmp"
	"fmt"
	"slices"

	"postamt/internal/queue"
)

// list prints a line for each message, as it finds them: a queue of any length needs no memory.
func list(c *command) error {
	var f filter
	flags := c.flags()
	f.addTo(flags)
	key := flags.String("sort", "", "")
	reverse := flags.Bool("r", false, "")
	ids := flags.Bool("ids", false, "")
	null := flags.Bool("0", false, "")
	asJSON := flags.Bool("json", false, "")
	if err := c.parse(flags, 0, 0); err != nil {
		return err
	}
	if err := f.done(flags); err != nil || *null && *asJSON || *ids && *asJSON || *reverse && *key == "" || *key != "" && sortKeys[*key] == nil {
		return errUsage
	}
	q, err := c.queue()
	if err != nil {
		return err
	}
	defer q.Close()
	var line []byte
	print := func(l *queue.Listed, notes []queue.Note) error {
		switch {
		case *ids:
			line = append(append(line[:0], l.ID...), '\n')
		case *asJSON:
			line = appendJSON(line[:0], listedJSON(l, notes))
		default:
			line = appendLine(line[:0], l, reason(notes))
		}
		if *null {
			line[len(line)-1] = 0
		}
		_, err := c.out.Write(line)
		return err
	}
	if *key != "" {
		err = listSorted(q, &f, *key, *reverse, print)
	} else {
		err = f.look(q, !*ids, print)
	}
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	return nil
}

// sortKeys say by what messages are ordered.
var sortKeys = map[string]func(*queue.Listed, []queue.Note) int64{
	"arrived":  func(l *queue.Listed, _ []queue.Note) int64 { return l.Envelope.Arrived.UnixMicro() },
	"size":     func(l *queue.Listed, _ []queue.Note) int64 { return l.Size },
	"next":     func(l *queue.Listed, _ []queue.Note) int64 { return l.Next.UnixMicro() },
	"attempts": func(_ *queue.Listed, notes []queue.Note) int64 { return int64(attempts(notes)) },
}

// listSorted looks twice: it keeps of each message what orders it, and then reads those again that are still there.
func listSorted(q *queue.Queue, f *filter, key string, reverse bool, print func(*queue.Listed, []queue.Note) error) error {
	type place struct {
		by int64
		id [20]byte
	}
	var places []place
	unread := f.look(q, key == "attempts", func(l *queue.Listed, notes []queue.Note) error {
		p := place{by: sortKeys[key](l, notes)}
		copy(p.id[:], l.ID)
		places = append(places, p)
		return nil
	})
	slices.SortFunc(places, func(a, b place) int {
		order := cmp.Or(cmp.Compare(a.by, b.by), slices.Compare(a.id[:], b.id[:]))
		if reverse {
			return -order
		}
		return order
	})
	for i := range places {
		id := queue.ID(places[i].id[:])
		l, err := q.Look(id)
		if err != nil || l.Corrupt {
			continue // gone
		}
		notes, _ := q.ReadLog(id)
		if err := print(&l, notes); err != nil {
			return err
		}
	}
	return unread
}
