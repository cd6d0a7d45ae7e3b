package pop3d

import (
	"strconv"

	"postamt/internal/pop3"
)

// RFC 1939 section 5: "STAT", a drop listing.
func (t *transaction) cmdStat(cmd pop3.Command) *pop3.Response {
	if len(cmd.Words()) > 0 {
		return t.fault("no arguments")
	}
	n, octets := t.total()
	return pop3.OK(strconv.Itoa(n) + " " + strconv.FormatInt(octets, 10))
}

// RFC 1939 section 5: "LIST" [msg], scan listings.
func (t *transaction) cmdList(cmd pop3.Command) *pop3.Response {
	return t.list(cmd, "LIST", func(i int) string { return strconv.FormatInt(t.size(i), 10) },
		func(i int) error { return t.c.WriteSize(i+1, t.size(i)) })
}

// RFC 1939 section 7: "UIDL" [msg], unique-id listings.
func (t *transaction) cmdUidl(cmd pop3.Command) *pop3.Response {
	return t.list(cmd, "UIDL", t.drop.UIDL, func(i int) error { return t.c.WriteUIDL(i+1, t.drop.UIDL(i)) })
}

// list responds with one listing, or with those of all messages that are not marked.
func (t *transaction) list(cmd pop3.Command, keyword string, one func(int) string, write func(int) error) *pop3.Response {
	switch w := cmd.Words(); len(w) {
	case 0:
	case 1:
		i, r := t.message(w[0])
		if r != nil {
			return r
		}
		return pop3.OK(w[0] + " " + one(i))
	default:
		return t.fault("syntax: " + keyword + " [message-number]")
	}
	t.c.WriteResponse(pop3.OK(strconv.Itoa(t.drop.Len()-t.marks) + " messages"))
	for i := range t.drop.Len() {
		if t.isMarked(i) {
			continue
		}
		if write(i) != nil {
			t.close("lost")
			return nil
		}
	}
	t.c.End()
	return nil
}
