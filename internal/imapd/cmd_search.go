package imapd

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
)

// RFC 9051 section 6.4.4: "SEARCH" [SP "RETURN" ...] SP search-program. RFC 3501 has another response, which clients of it get.
func (u *user) cmdSearch(cmd imap.Command, d *imap.Decoder) error {
	r := d.SearchReturn()
	charset, key := d.SP().SearchProgram()
	if err := d.End(); err != nil {
		return err
	}
	if charset != "" && u.utf8 {
		return errCharset
	}
	q, err := u.matching(cmd, r, charset, &key)
	if err != nil {
		return err
	}
	u.found(cmd, r, q, q.matches)
	return cmp.Or(u.update(cmd, r, q, nil, q.matches), q.end(cmd))
}

// errCharset: RFC 6855 section 3. SORT and THREAD cannot do without one.
var errCharset = imap.Bad("no CHARSET after ENABLE UTF8=ACCEPT: it is UTF-8")

// matching runs the search of SEARCH, SORT and THREAD.
func (u *user) matching(cmd imap.Command, r imap.SearchReturn, charset string, key *imap.SearchKey) (*query, error) {
	if err := u.mayReturn(cmd, r); err != nil {
		return nil, err
	}
	var q *query
	err := decodeKey(charset, key)
	if err == nil {
		q, err = u.newQuery(key)
	}
	if err == nil {
		q.bound()
		if u.limited && cmd.Name != "SEARCH" { // an order of some is none of all
			err = u.refuseLimited()
		}
	}
	if err == nil {
		err = q.run(u.ctx, u.view.uids, u.progress(cmd, u.view))
	}
	u.unsave(r, err)
	return q, err
}

// unsave: a search that was to be saved and has failed leaves nothing saved, but one that was BAD what was saved before (RFC 5182 section 2.1).
func (u *user) unsave(r imap.SearchReturn, err error) {
	var s *imap.Status
	if bad := errors.As(err, &s) && s.Condition == imap.ConditionBAD; r.Save && err != nil && !bad {
		u.saved = nil
	}
}

// found sends the result of SEARCH or SORT, UIDs in their order.
func (u *user) found(cmd imap.Command, r imap.SearchReturn, q *query, uids []uint32) {
	if q.modseq {
		u.enableCondstore()
	}
	if r.Save {
		u.save(r, uids)
	}
	if !r.Given && !u.rev2 || cmd.Name == "SORT" && !r.Given {
		u.plainResult(cmd, q, uids)
		return
	}
	if !r.Given {
		r.All = true
	}
	if silent(r) {
		return
	}
	b := append(imap.AppendString(append(u.buf[:0], "* ESEARCH (TAG "...), cmd.Tag, u.c.Mode), ')')
	if cmd.UID {
		b = append(b, " UID"...)
	}
	u.extendedResult(b, r, q, uids, u.numbers(uids, cmd.UID))
}

// silent: RFC 5182 section 2.4, of SAVE alone nothing is said.
func silent(r imap.SearchReturn) bool {
	return r.Save && !(r.Min || r.Max || r.All || r.Count || r.Partial != nil)
}

// plainResult is "* SEARCH" or "* SORT" with numbers.
func (u *user) plainResult(cmd imap.Command, q *query, uids []uint32) {
	b := append(append(u.buf[:0], "* "...), cmd.Name...)
	for _, n := range u.numbers(uids, cmd.UID) {
		b = imap.AppendNumber(append(b, ' '), uint64(n))
	}
	if q.modseq && len(uids) > 0 { // RFC 7162 section 3.1.5
		b = append(imap.AppendNumber(append(b, " (MODSEQ "...), q.highest), ')')
	}
	u.send(append(b, crlf...))
}

// extendedResult ends an ESEARCH response (RFC 9051 section 7.3.4) with UIDs in their order, as the numbers that they have there. MIN and MAX are the ends of that order
// (RFC 5267 section 3.1).
func (u *user) extendedResult(b []byte, r imap.SearchReturn, q *query, uids, numbers []uint32) {
	n := len(numbers)
	if n > 0 {
		if r.Min {
			b = imap.AppendNumber(append(b, " MIN "...), uint64(numbers[0]))
		}
		if r.Max {
			b = imap.AppendNumber(append(b, " MAX "...), uint64(numbers[n-1]))
		}
		if r.All {
			b = imap.AppendNumbers(append(b, " ALL "...), numbers)
		}
	}
	if r.Count {
		b = imap.AppendNumber(append(b, " COUNT "...), uint64(n))
	}
	if r.Partial != nil {
		from, to := r.Partial.Of(n)
		b = append(imap.AppendPartialRange(append(b, " PARTIAL ("...), *r.Partial), ' ')
		if from == to {
			b = append(b, "NIL)"...)
		} else {
			b = append(imap.AppendNumbers(b, numbers[from:to]), ')')
		}
	}
	if q.modseq && n > 0 {
		b = imap.AppendNumber(append(b, " MODSEQ "...), q.highestOf(r, uids))
	}
	u.send(append(b, crlf...))
}

// highestOf is the highest mod-sequence of what is returned: with MIN and MAX alone, of these (RFC 4731 section 3.2).
func (q *query) highestOf(r imap.SearchReturn, uids []uint32) (n uint64) {
	if r.All || r.Count || r.Partial != nil {
		return q.highest
	}
	var ends []uint32
	if r.Min {
		ends = append(ends, uids[0])
	}
	if r.Max {
		ends = append(ends, uids[len(uids)-1])
	}
	slices.Sort(ends)
	q.v.box.Each(ends, func(_ int, m *mailbox.Message) bool {
		n = max(n, m.ModSeq)
		return true
	})
	return cmp.Or(n, q.highest)
}

// save keeps a result for "$": all of it, or what MIN, MAX and PARTIAL leave (RFC 5182 section 2.4, RFC 9394 section 3.2).
func (u *user) save(r imap.SearchReturn, uids []uint32) {
	switch n := len(uids); {
	case r.All || r.Count || n == 0:
	case r.Partial != nil:
		from, to := r.Partial.Of(n)
		uids = uids[from:to]
	case r.Min && r.Max:
		uids = []uint32{uids[0], uids[n-1]}
	case r.Min:
		uids = uids[:1]
	case r.Max:
		uids = uids[n-1:]
	}
	u.saved = slices.Compact(slices.Sorted(slices.Values(uids)))
}

// progressTime is the time after which a client is told that a command still goes on (RFC 9585 section 4).
const progressTime = 10 * time.Second

// progress tells of a command that takes long, and ends it when its client has gone.
func (u *user) progress(cmd imap.Command, v *view) func(done int) error {
	interval := cmp.Or(u.conf.progressTime, progressTime)
	next := time.Now().Add(interval)
	total := len(v.uids)
	return func(done int) error {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		if now := time.Now(); now.After(next) {
			next = now.Add(interval)
			b := append(imap.AppendString([]byte("INPROGRESS ("), cmd.Tag, u.c.Mode), ' ')
			b = append(imap.AppendNumber(append(imap.AppendNumber(b, uint64(done)), ' '), uint64(total)), ')')
			u.say(imap.OK(string(b), "still at it"))
			if u.c.Flush() != nil {
				return errGone
			}
		}
		return nil
	}
}
