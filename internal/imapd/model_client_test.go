package imapd

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// modelEntry is a message as a client knows it. What he has not been told is 0 or "".
type modelEntry struct {
	m      *modelMessage // whose number it is, which the client does not know: for the test to compare
	uid    uint32
	flags  string // as told, with a space around each; "" unknown
	modseq uint64
}

// client keeps a view of a mailbox exactly as RFC 9051 section 5 and RFC 7162 section 6 have it: from responses and nothing else.
type client struct {
	m    *model
	name string
	c    net.Conn
	r    *bufio.Reader
	tags int

	rev2, condstore, qresync, uidOnly bool

	folder   *modelFolder // selected
	readOnly bool
	view     []*modelEntry
	last     uint32           // the highest UID that a message has had
	highest  uint64           // of the folder, as RFC 7162 section 6 has a client calculate it
	told     uint64           // the highest MODSEQ since the last tagged response
	coded    bool             // since then there was HIGHESTMODSEQ
	caches   map[string]cache // of folders that were left
	saved    []*modelMessage
	unsure   bool // what is saved is not known
	idle     string
	late     bool // responses may have been sent a while ago

	// Of the command under way.
	expunge   bool            // EXPUNGE and VANISHED may come
	plain     []*modelMessage // of which FETCH responses need no UID
	selecting *selecting
	fetched   map[*modelMessage]*response1 // what FETCH has said, the items of all put together
	others    []response1
}

// cache is what a client has kept of a folder.
type cache struct {
	validity uint32
	modseq   uint64
	flags    map[uint32]string
}

// selecting is a SELECT under way.
type selecting struct {
	folder   *modelFolder
	closed   bool // the old mailbox is closed, or there is none
	earlier  []uint32
	fetched  []*modelEntry // by UIDFETCH
	validity uint32
	next     uint32
	modseq   uint64
	unseen   uint32
}

func (c *client) fail(format string, args ...any) {
	c.m.fail("%s: %s", c.name, fmt.Sprintf(format, args...))
}

// send sends a command without its literals, and returns its tag.
func (c *client) send(command string) string {
	c.tags++
	tag := c.name + strconv.Itoa(c.tags)
	c.m.note("%s> %s %s", c.name, tag, command)
	c.write(tag + " " + command + "\r\n")
	c.fetched, c.others = make(map[*modelMessage]*response1), nil
	return tag
}

func (c *client) write(s string) {
	c.c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c.c, s); err != nil {
		c.fail("send: %v", err)
	}
}

// next reads a response and checks its form.
func (c *client) next(wait time.Duration) response1 {
	c.c.SetDeadline(time.Now().Add(wait))
	raw, err := readRaw(c.r)
	if err != nil {
		c.fail("read: %v after %q", err, raw)
	}
	c.m.note("%s< %.400s", c.name, strings.TrimSuffix(raw, "\r\n"))
	r, err := parseResponse(raw, c.rev2)
	if err != nil {
		c.fail("%v", err)
	}
	return r
}

// do runs a command to its tagged response. Literals are sent when they are asked for.
func (c *client) do(command string, literals ...string) response1 {
	return c.finish(c.send(command), literals...)
}

func (c *client) finish(tag string, literals ...string) response1 {
	for {
		r := c.next(20 * time.Second)
		switch r.tag {
		case "+":
			if len(literals) == 0 {
				c.fail("a continuation that nobody wants: %q", r.raw)
			}
			c.write(literals[0])
			literals = literals[1:]
		case "*":
			c.apply(r)
		case tag:
			if n := c.r.Buffered(); n > 0 {
				b, _ := c.r.Peek(n)
				c.fail("more behind the tagged response: %q", b)
			}
			if r.code == "HIGHESTMODSEQ" {
				c.setHighest(r)
			}
			if !c.coded { // RFC 7162 section 6: the code counts even if higher ones were seen
				c.highest = max(c.highest, c.told)
			}
			c.told, c.coded, c.plain = 0, false, nil
			return r
		default:
			c.fail("another's tag: %q", r.raw)
		}
	}
}

func (c *client) setHighest(r response1) {
	n, err := strconv.ParseUint(r.args, 10, 63)
	if err != nil {
		c.fail("%q", r.raw)
	}
	c.highest, c.coded = n, true
	if f := c.selectedNow(); f != nil {
		f.bounded(c, n)
	}
}

func (c *client) selectedNow() *modelFolder {
	if c.selecting != nil {
		return c.selecting.folder
	}
	return c.folder
}

// apply takes note of an untagged response.
func (c *client) apply(r response1) {
	switch r.kind {
	case "EXISTS":
		c.exists(int(r.num))
	case "EXPUNGE":
		if c.qresync || c.uidOnly {
			c.fail("EXPUNGE instead of VANISHED")
		}
		c.mayExpunge(r)
		if int(r.num) > len(c.view) {
			c.fail("EXPUNGE %d of %d messages", r.num, len(c.view))
		}
		c.remove(int(r.num) - 1)
	case "VANISHED":
		c.vanished(r)
	case "FETCH":
		if c.uidOnly {
			c.fail("FETCH instead of UIDFETCH")
		}
		if int(r.num) > len(c.view) {
			c.fail("FETCH %d of %d messages", r.num, len(c.view))
		}
		c.learn(c.view[r.num-1], r)
	case "UIDFETCH":
		if !c.uidOnly {
			c.fail("UIDFETCH")
		}
		r.items["UID"] = node{kind: 'a', text: strconv.Itoa(int(r.num))}
		if c.selecting != nil {
			e := &modelEntry{}
			c.learn(e, r)
			c.selecting.fetched = append(c.selecting.fetched, e)
			return
		}
		i := c.place(r.num)
		if i < 0 {
			c.fail("UIDFETCH %d: the client knows of no such message", r.num)
		}
		c.learn(c.view[i], r)
	case "RECENT":
		if c.rev2 {
			c.fail("RECENT")
		}
	case "OK":
		c.ok(r)
	case "BYE", "BAD", "PREAUTH":
		c.fail("%q", r.raw)
	default:
		c.others = append(c.others, r)
	}
}

func (c *client) ok(r response1) {
	s := c.selecting
	number := func() uint64 {
		n, err := strconv.ParseUint(r.args, 10, 63)
		if err != nil {
			c.fail("%q", r.raw)
		}
		return n
	}
	switch r.code {
	case "HIGHESTMODSEQ":
		c.setHighest(r)
		if s != nil {
			s.modseq = c.highest
		}
	case "CLOSED":
		if s == nil || s.closed {
			c.fail("CLOSED")
		}
		s.closed = true
		c.leave()
	case "UIDVALIDITY":
		s.validity = uint32(number())
	case "UIDNEXT":
		s.next = uint32(number())
	case "UNSEEN":
		s.unseen = uint32(number())
	default:
		c.others = append(c.others, r)
	}
}

// only is the one response of that kind.
func (c *client) only(kind string) (r response1) {
	n := 0
	for _, o := range c.others {
		if o.kind == kind {
			r = o
			n++
		}
	}
	if n != 1 {
		c.fail("%d %s responses", n, kind)
	}
	return r
}

func (c *client) mayExpunge(r response1) {
	if !c.expunge {
		c.fail("RFC 9051 section 7.5.1: %q while this command is answered", r.raw)
	}
}

// exists: the new messages are the next ones of the folder.
func (c *client) exists(n int) {
	if c.selecting != nil {
		if !c.selecting.closed {
			c.fail("EXISTS before CLOSED")
		}
		for range n {
			c.view = append(c.view, &modelEntry{})
		}
		return
	}
	if n < len(c.view) {
		c.fail("EXISTS %d, there were %d", n, len(c.view))
	}
	for _, m := range c.folder.messages {
		if m.uid > c.last && !m.gone && len(c.view) < n {
			c.view = append(c.view, &modelEntry{m: m})
			c.last = m.uid
		}
	}
	if len(c.view) < n {
		c.fail("EXISTS %d, there are %d", n, len(c.view))
	}
}

func (c *client) remove(i int) {
	if m := c.view[i].m; !m.gone {
		c.fail("message %d, UID %d, is not gone", i+1, m.uid)
	}
	c.saved = slices.DeleteFunc(c.saved, func(m *modelMessage) bool { return m == c.view[i].m })
	c.view = slices.Delete(c.view, i, i+1)
}

// place is where the message with that UID is, or may be: then the client does not know of which of those in a row it is that he does not know the UIDs of. -1: nowhere.
func (c *client) place(uid uint32) int {
	for i, e := range c.view {
		switch {
		case e.uid == uid || e.uid == 0 && e.m != nil && e.m.uid == uid:
			return i
		case e.uid > uid:
			return -1
		}
	}
	return -1
}

func (c *client) vanished(r response1) {
	uids, err := numbersIn(r.values[0].text)
	if err != nil {
		c.fail("%v", err)
	}
	if r.args == "EARLIER" {
		if !c.qresync {
			c.fail("VANISHED (EARLIER)")
		}
		if c.selecting != nil {
			c.selecting.earlier = append(c.selecting.earlier, uids...)
		} else {
			c.others = append(c.others, r)
		}
		return
	}
	if !c.qresync && !c.uidOnly {
		c.fail("VANISHED instead of EXPUNGE")
	}
	c.mayExpunge(r)
	for _, uid := range uids {
		i := c.place(uid)
		if i < 0 {
			c.fail("VANISHED %d: the client knows of no such message", uid)
		}
		c.remove(i)
	}
}

// learn takes note of a FETCH.
func (c *client) learn(e *modelEntry, r response1) {
	if c.selecting != nil && !c.selecting.closed {
		c.fail("FETCH before CLOSED")
	}
	if v, ok := r.items["UID"]; ok {
		n, err := strconv.ParseUint(v.text, 10, 32)
		if err != nil || n == 0 || e.uid != 0 && uint32(n) != e.uid || e.m != nil && uint32(n) != e.m.uid {
			c.fail("UID %s, it was %d, and is %v", v.text, e.uid, e.m)
		}
		e.uid = uint32(n)
	} else if c.condstore && !slices.Contains(c.plain, e.m) {
		c.fail("RFC 7162 section 3.2.4: no UID in %q", r.raw)
	}
	if v, ok := r.items["FLAGS"]; ok {
		if v.kind != '(' {
			c.fail("FLAGS %v", v)
		}
		var list []string
		for _, f := range v.list {
			if f.text == `\Recent` {
				if c.rev2 {
					c.fail(`\Recent`)
				}
				continue
			}
			list = append(list, f.text)
		}
		e.flags = flagText(list)
		if _, ok := r.items["MODSEQ"]; c.condstore && !ok {
			c.fail("RFC 7162 section 3.1: FLAGS without MODSEQ: %q", r.raw)
		}
	}
	if v, ok := r.items["MODSEQ"]; ok {
		if !c.condstore {
			c.fail("MODSEQ: nobody has asked for it")
		}
		if v.kind != '(' || len(v.list) != 1 {
			c.fail("MODSEQ %v", v)
		}
		n, err := strconv.ParseUint(v.list[0].text, 10, 63)
		if err != nil || n == 0 {
			c.fail("MODSEQ %v", v)
		}
		e.modseq = n
		c.told = max(c.told, n)
		if e.m != nil {
			e.m.observe(c, n)
		}
	}
	if e.m != nil {
		if all := c.fetched[e.m]; all != nil {
			for k, v := range r.items {
				all.items[k] = v
			}
		} else {
			c.fetched[e.m] = &r
		}
	}
}

// leave closes the mailbox, of which the client keeps what he knows.
func (c *client) leave() {
	if c.folder != nil && c.qresync && c.highest > 0 {
		k := cache{validity: c.folder.validity, modseq: c.highest, flags: make(map[uint32]string)}
		for _, e := range c.view {
			if e.uid != 0 && e.flags != "" {
				k.flags[e.uid] = e.flags
			}
		}
		c.caches[c.folder.name] = k
	}
	c.folder, c.view, c.saved, c.unsure, c.highest, c.told = nil, nil, nil, false, 0, 0
}

// check compares the view with the truth.
func (c *client) check(expunge bool) {
	f := c.folder
	if f == nil {
		return
	}
	at := 0
	for i, e := range c.view {
		switch {
		case e.m.gone && expunge:
			c.fail("%d, UID %d, is gone, and that was not said", i+1, e.m.uid)
		case e.m.gone:
			continue
		case e.uid != 0 && e.uid != e.m.uid:
			c.fail("%d has the UID %d, not %d", i+1, e.m.uid, e.uid)
		case e.flags != "" && e.flags != e.m.flags:
			c.fail("%d, UID %d, has the flags%q, and was told%q", i+1, e.m.uid, e.m.flags, e.flags)
		case e.modseq != 0 && e.m.modseq != 0 && e.modseq != e.m.modseq && c.condstore:
			c.fail("%d, UID %d, has the mod-sequence %d, and was told %d", i+1, e.m.uid, e.m.modseq, e.modseq)
		}
		for at < len(f.messages) && f.messages[at] != e.m {
			if !f.messages[at].gone {
				c.fail("UID %d is there, and has no number", f.messages[at].uid)
			}
			at++
		}
		at++
	}
	for ; at < len(f.messages); at++ {
		if !f.messages[at].gone {
			c.fail("UID %d is there, and that was not said", f.messages[at].uid)
		}
	}
}

// current says whether the client knows all that there is to know.
func (c *client) current() bool {
	f := c.folder
	if f == nil {
		return true
	}
	n := 0
	for _, m := range f.messages {
		if !m.gone {
			n++
		}
	}
	if n != len(c.view) || len(f.pending) > 0 {
		return false
	}
	return !slices.ContainsFunc(c.view, func(e *modelEntry) bool { return e.m.gone || e.flags != "" && e.flags != e.m.flags })
}

// flagText is a set of flags as entries have them.
func flagText(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	return " " + strings.Join(slices.Compact(list), " ") + " "
}
