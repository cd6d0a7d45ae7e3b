package imapd

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"postamt/internal/mailbox"
)

// run is a query that asks messages.
type run struct {
	*query
	ctx      context.Context
	progress func(done int) error
	done     int

	open []openMessage // that are undecided so far, ascending
	next int           // of these
	list []listed      // of some before that

	x    candidate // the one that is asked
	room scratch

	unread []candidate // of which only the file knows
	octets int         // of their facts
}

// listed is what the mailbox knows of an open message.
type listed struct {
	mailbox.Message
	number uint32
}

// openMessage is one of which the answer is undecided.
type openMessage struct{ uid, number uint32 }

// step is how many messages are looked at together.
const step = 4096

// run asks messages of the view, ascending; without freeze it must be all. Progress is called now and then.
func (q *query) run(ctx context.Context, uids []uint32, progress func(done int) error) error {
	r := &run{query: q, ctx: ctx, progress: progress}
	there := 0
	q.v.box.Each(uids[q.first:], func(i int, m *mailbox.Message) bool {
		there++
		r.x = candidate{m: m, number: uint32(q.first + i + 1), room: &r.room}
		switch q.ask(&q.root, &r.x) {
		case yes:
			r.found(m)
		case undecided:
			r.open = append(r.open, openMessage{m.UID, r.x.number})
		}
		return true
	})
	q.missing = q.missing || there < len(uids)-q.first
	r.done = len(uids) - len(r.open)
	err := r.closer()
	slices.Sort(q.matches)
	if err == nil {
		err = progress(len(uids))
	}
	return err
}

func (q *query) found(m *mailbox.Message) {
	q.matches = append(q.matches, m.UID)
	q.highest = max(q.highest, m.ModSeq)
}

// closer asks those that are open, with what costs more each time.
func (r *run) closer() error {
	box, validity := r.v.box, r.v.validity
	if len(r.open) > 0 && r.columns != 0 {
		var left []openMessage
		there := 0 // those that have gone are passed over
		if err := box.Columns(r.ctx, validity, r.uids(), r.columns, func(uid uint32, values [][]byte) error {
			there++
			x := r.candidate(uid)
			if x == nil {
				return nil
			}
			x.stage, x.values = stageColumns, values
			a := r.ask(&r.root, x)
			if a == undecided {
				left = append(left, openMessage{uid, x.number})
				return nil
			}
			return r.decided(x, a)
		}); err != nil {
			return err
		}
		r.missing = r.missing || there < len(r.open)
		r.open = left
	}
	if len(r.open) > 0 && (r.columns != 0 || r.facts) {
		there := 0
		err := box.Facts(r.ctx, validity, r.uids(), func(uid uint32, known []byte) error {
			there++
			x := r.candidate(uid)
			if x == nil {
				return nil
			}
			x.stage, x.known = stageFacts, known
			if a := r.ask(&r.root, x); a != undecided {
				return r.decided(x, a)
			}
			return r.readLater(x)
		})
		r.missing = r.missing || there < len(r.open)
		return errors.Join(r.read(), err)
	}
	for _, uid := range r.uids() {
		if x := r.candidate(uid); x != nil {
			x.stage = stageColumns
			if err := r.decided(x, r.ask(&r.root, x)); err != nil {
				return err
			}
		}
	}
	return nil
}

// uids are those that are open; they are asked from the first on.
func (r *run) uids() []uint32 {
	r.next, r.list = 0, r.list[:0]
	return uidsOf(r.open)
}

func uidsOf(open []openMessage) []uint32 {
	uids := make([]uint32, len(open))
	for i, o := range open {
		uids[i] = o.uid
	}
	return uids
}

// candidate is an open message, which is behind the last one that was asked for; nil: it is gone.
func (r *run) candidate(uid uint32) *candidate {
	for {
		for len(r.list) > 0 && r.list[0].UID < uid {
			r.list = r.list[1:]
		}
		if len(r.list) > 0 && r.list[0].UID == uid {
			r.x = candidate{m: &r.list[0].Message, number: r.list[0].number, room: &r.room}
			return &r.x
		}
		if len(r.list) > 0 || r.next == len(r.open) {
			r.missing = true
			return nil
		}
		part := r.open[r.next:min(r.next+step, len(r.open))]
		r.next += len(part)
		r.list = make([]listed, 0, len(part))
		r.v.box.Each(uidsOf(part), func(i int, m *mailbox.Message) bool {
			r.list = append(r.list, listed{*m, part[i].number})
			return true
		})
	}
}

// decided notes an answer.
func (r *run) decided(x *candidate, a answer) error {
	if x.err != nil && !errors.Is(x.err, mailbox.ErrExpunged) {
		return x.err
	}
	switch {
	case x.err != nil:
		r.missing = true
	case a == yes:
		r.found(x.m)
	}
	r.done++
	if r.done%step != 0 {
		return nil
	}
	return r.progress(r.done)
}

const (
	fileReaders  = 4       // files that are looked through at a time: two processors, and others that wait for a disk
	unreadMost   = 64      // messages that wait for that
	unreadOctets = 1 << 20 // of their facts
)

// readLater keeps a message until there are some to be read at a time.
func (r *run) readLater(x *candidate) error {
	y := *x
	y.known = bytes.Clone(x.known)
	r.unread = append(r.unread, y)
	if r.octets += len(y.known); len(r.unread) < unreadMost && r.octets < unreadOctets {
		return nil
	}
	return r.read()
}

// read opens the files of messages and asks once more.
func (r *run) read() error {
	list := r.unread
	answers := make([]answer, len(list))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(fileReaders, len(list)) {
		wg.Go(func() {
			var room scratch
			for k := int(next.Add(1)) - 1; k < len(list) && r.ctx.Err() == nil; k = int(next.Add(1)) - 1 {
				list[k].room = &room
				answers[k] = r.readOne(&list[k])
			}
		})
	}
	wg.Wait()
	r.unread, r.octets = list[:0], 0
	if err := r.ctx.Err(); err != nil {
		return err
	}
	for k := range list {
		if err := r.decided(&list[k], answers[k]); err != nil {
			return err
		}
	}
	return r.progress(r.done) // where each message is a file to be read, a step of them may take minutes
}

func (q *query) readOne(x *candidate) answer {
	f, err := q.v.box.File(x.m.UID)
	if err != nil {
		x.err = err
		return no
	}
	defer f.Close()
	x.stage, x.file = stageFile, f
	return q.ask(&q.root, x)
}
