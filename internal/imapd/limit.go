package imapd

import (
	"postamt/internal/imap"
	"postamt/internal/mailbox"
)

// RFC 9738, MESSAGELIMIT: of more messages than CommandLimit a command works on those with the highest UIDs, and says so, for its client to go on with the others;
// what is all or none is refused.

// beyond says whether so many messages are too many for one command.
func (u *user) beyond(n uint64) bool {
	return u.conf.CommandLimit > 0 && n > uint64(u.conf.CommandLimit)
}

// bounded are those of the messages, whose UIDs ascend, that the command under way works on.
func (u *user) bounded(uids []uint32) []uint32 {
	if u.beyond(uint64(len(uids))) {
		uids = uids[len(uids)-u.conf.CommandLimit:]
		u.limited, u.lowest = true, uids[0]
	}
	return uids
}

// bound leaves out what is too much for one command. RFC 9738 section 3.1: what counts is the messages that are searched, by the sets on the top level of the program, and not
// those that are found.
func (q *query) bound() {
	if !q.u.beyond(uint64(len(q.v.uids))) {
		return
	}
	n := 0
	for i := len(q.v.uids) - 1; i >= 0; i-- {
		if !q.searches(&candidate{m: &mailbox.Message{UID: q.v.uids[i]}, number: uint32(i + 1)}) {
			continue
		}
		if n++; n > q.u.conf.CommandLimit {
			q.u.limited, q.u.lowest = true, q.v.uids[q.first]
			return
		}
		q.first = i
	}
	q.first = 0
}

// searches: no set on the top level says that the message is none.
func (q *query) searches(x *candidate) bool {
	keys := q.root.keys
	if q.root.Op != imap.SearchAnd || q.root.Not {
		keys = []condition{q.root}
	}
	for i := range keys {
		if c := &keys[i]; (c.Op == imap.SearchSeq || c.Op == imap.SearchUID) && q.ask(c, x) == no {
			return false
		}
	}
	return true
}

// refuseLimited is the response of a command that does nothing rather than a part.
func (u *user) refuseLimited() *imap.Status {
	return imap.No(imap.CodeMessageLimit(u.conf.CommandLimit, u.lowest), "too many messages, try fewer")
}

// sayLimited tells of what was left out by a command that has done the rest: in its response, or before that if it has another code.
func (u *user) sayLimited(s *imap.Status) *imap.Status {
	if !u.limited || s.Condition != imap.ConditionOK && s.Code != imap.ExpungeIssued {
		return s
	}
	left := imap.OK(imap.CodeMessageLimit(u.conf.CommandLimit, u.lowest), "completed for the last of the messages")
	if s.Code == "" {
		return left
	}
	left.Condition = imap.ConditionNO
	u.say(left)
	return s
}
