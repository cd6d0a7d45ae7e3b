package imapd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// authenticated is a command that needs no selected mailbox.
func (m *model) authenticated(c *client) {
	switch m.r.IntN(12) {
	case 0, 1, 2:
		m.selectFolder(c, m.anyFolder(), false)
	case 3, 4:
		m.status(c)
	case 5, 6:
		m.appendTo(c)
	case 7:
		m.create(c)
	case 8:
		m.deleteFolder(c)
	case 9:
		m.rename(c)
	case 10:
		m.idleIn(c)
	default:
		m.do(c, "NOOP", true)
	}
}

// selectFolder opens a mailbox; plain: no more than that.
func (m *model) selectFolder(c *client, f *modelFolder, plain bool) {
	m.resolve(c)
	command, param := "SELECT", ""
	readOnly := m.chance(15) && !plain
	if readOnly {
		command = "EXAMINE"
	}
	s := &selecting{folder: f, closed: c.folder == nil}
	f.settle()
	f.looked()
	k, known := c.caches[f.name]
	if c.folder == f {
		known = false // it is filled only when the mailbox is left
	}
	resync, all := c.qresync && known && !plain && m.chance(80), true
	var old []uint32
	for uid := range k.flags {
		old = append(old, uid)
	}
	slices.Sort(old)
	switch {
	case resync:
		param = fmt.Sprintf(" (QRESYNC (%d %d", k.validity, k.modseq)
		if len(old) > 0 && m.chance(50) {
			all = false
			param += " " + setOf(old)
		}
		if len(old) > 0 && m.chance(50) {
			var numbers, uids []uint32
			for i := m.r.IntN(3); i < len(old); i += 1 + m.r.IntN(4) {
				numbers, uids = append(numbers, uint32(i+1)), append(uids, old[i])
			}
			if len(numbers) > 0 {
				param += " (" + setOf(numbers) + " " + setOf(uids) + ")"
			}
		}
		param += "))"
	case m.chance(15) && !plain:
		param = " (CONDSTORE)"
		c.condstore = true
	}
	c.selecting = s
	c.expunge = false
	r := c.do(command + " " + f.name + param)
	if r.kind != "OK" || !s.closed || r.code != map[bool]string{true: "READ-ONLY", false: "READ-WRITE"}[readOnly] {
		c.fail("SELECT: %q, closed %v", r.raw, s.closed)
	}
	alive := f.alive()
	if len(c.view) != len(alive) || s.next != f.next || s.validity == 0 || f.validity != 0 && f.validity != s.validity {
		c.fail("%s has %d messages, UIDNEXT %d, UIDVALIDITY %d, not %d, %d, %d", f.name, len(alive), f.next, f.validity, len(c.view), s.next, s.validity)
	}
	m.valid(c, f, s.validity)
	f.asked(c, s.modseq)
	unseen := uint32(0)
	for i, x := range alive {
		if !x.has(`\Seen`) && unseen == 0 {
			unseen = uint32(i + 1)
		}
	}
	if !c.rev2 && s.unseen != unseen {
		c.fail("UNSEEN %d, not %d", s.unseen, unseen)
	}
	if resync && k.validity == f.validity {
		m.resynchronized(c, s, k, old, all)
	} else if len(s.earlier) > 0 {
		c.fail("VANISHED (EARLIER)")
	}
	for i, e := range c.view {
		e.m = alive[i]
		if e.modseq != 0 {
			e.m.observe(c, e.modseq)
		}
	}
	c.folder, c.readOnly, c.selecting = f, readOnly, nil
	c.highest, c.last = s.modseq, f.next-1
	c.check(true)
	m.idlers()
	m.resolve(c)
}

// resynchronized: what the client has kept and what he was told now is all that there is.
func (m *model) resynchronized(c *client, s *selecting, k cache, old []uint32, all bool) {
	for _, uid := range s.earlier {
		if uid >= s.next {
			c.fail("VANISHED (EARLIER) %d, UIDNEXT is %d", uid, s.next)
		}
		delete(k.flags, uid)
	}
	for _, e := range append(s.fetched, c.view...) {
		if e.uid != 0 {
			if _, was := k.flags[e.uid]; !was && !all {
				c.fail("UID %d is none of those that were asked for", e.uid)
			}
			k.flags[e.uid] = e.flags
		}
	}
	var uids []uint32
	for uid := range k.flags {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	if len(uids) > len(c.view) || all && len(uids) < len(c.view) {
		c.fail("resynchronized the client has %d messages, there are %d", len(uids), len(c.view))
	}
	for i, uid := range uids {
		if e := c.view[i]; e.uid != 0 && e.uid != uid {
			c.fail("FETCH said that message %d has UID %d; it must be %d", i+1, e.uid, uid)
		}
		c.view[i].uid, c.view[i].flags = uid, k.flags[uid]
		for _, e := range s.fetched {
			if e.uid == uid {
				c.view[i].modseq = e.modseq
			}
		}
	}
}

// valid: a folder keeps its UIDVALIDITY, which no other folder has had under that name.
func (m *model) valid(c *client, f *modelFolder, n uint32) {
	if f.validity == 0 {
		f.validity = n
	}
	key := nameValidity{f.name, n}
	if was := m.validities[key]; was != nil && was != f {
		c.fail("UIDVALIDITY of %s is %d, as another's that had that name", f.name, n)
	}
	m.validities[key] = f
	if f.validity != n {
		c.fail("UIDVALIDITY of %s is %d, not %d", f.name, n, f.validity)
	}
}

func (m *model) status(c *client) {
	f := m.anyFolder()
	f.settle()
	items := "MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE"
	if c.rev2 {
		items += " DELETED"
	}
	modseq := m.chance(50)
	if modseq {
		items += " HIGHESTMODSEQ"
		c.condstore = true
	}
	f.looked()
	m.do(c, "STATUS "+f.name+" ("+items+")", true)
	want := map[string]int{}
	for _, x := range f.alive() {
		want["MESSAGES"]++
		want["SIZE"] += len(x.text)
		if !x.has(`\Seen`) {
			want["UNSEEN"]++
		}
		if x.has(`\Deleted`) {
			want["DELETED"]++
		}
	}
	want["UIDNEXT"] = int(f.next)
	got := c.only("STATUS").items
	for _, name := range strings.Fields(items) {
		n, err := strconv.ParseUint(got[name].text, 10, 63)
		switch {
		case err != nil:
			c.fail("STATUS without %s", name)
		case name == "HIGHESTMODSEQ":
			f.asked(c, n)
		case name == "UIDVALIDITY":
			m.valid(c, f, uint32(n))
		case int(n) != want[name]:
			c.fail("%s is %d, not %d", name, n, want[name])
		}
	}
}

var modelKeywords = []string{"$Forwarded", "$Junk", "Later", "work-2", "A.b", "$MDNSent"}

func (m *model) flags() []string {
	var list []string
	for _, f := range []string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`} {
		if m.chance(25) {
			list = append(list, f)
		}
	}
	for _, f := range modelKeywords {
		if m.chance(10) {
			list = append(list, f)
		}
	}
	m.r.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	return list
}

func (m *model) appendTo(c *client) {
	f := m.anyFolder()
	name := f.name
	missing := m.chance(5)
	if missing {
		name = "missing"
	}
	sync := m.chance(50)
	command := "APPEND " + name
	var literals []string
	var came []*modelMessage
	n := 1
	if m.chance(25) {
		n += m.r.IntN(3)
	}
	for i := range n {
		x := &modelMessage{flags: flagText(nil), text: m.newText()}
		text := ""
		if m.chance(60) {
			flags := m.flags()
			x.flags = flagText(flags)
			text += " (" + strings.Join(flags, " ") + ")"
		}
		if m.chance(40) {
			x.date = 1_700_000_000 + int64(m.r.IntN(50_000_000))
			text += " " + time.Unix(x.date, 0).In(time.FixedZone("", 3600*(m.r.IntN(20)-10))).Format(`"_2-Jan-2006 15:04:05 -0700"`)
		}
		if sync {
			text += fmt.Sprintf(" {%d}", len(x.text))
			if i == 0 {
				command += text
			} else {
				literals[i-1] += text + "\r\n"
			}
			literals = append(literals, x.text)
		} else {
			command += text + fmt.Sprintf(" {%d+}\r\n%s", len(x.text), x.text)
		}
		came = append(came, x)
	}
	if sync {
		literals[n-1] += "\r\n"
	}
	if missing {
		if sync {
			literals = nil // it is refused before
		}
		if r := m.run(c, command, true, literals...); r.kind != "NO" || r.code != "TRYCREATE" {
			c.fail("%q", r.raw)
		}
		return
	}
	m.notice(c, f)
	from := f.next
	for _, x := range came {
		f.add(x)
	}
	r := m.do(c, command, true, literals...)
	f.looked()
	m.uidCode(c, f, r, "APPENDUID", from, n)
}

// notice has the server look at a folder that others have changed. What puts messages into a folder, or leaves it, need not look at it first: then those that it has not
// seen get their UIDs later.
func (m *model) notice(c *client, f *modelFolder) {
	if len(f.pending) > 0 || f.dirty {
		m.run(c, "STATUS "+f.name+" (MESSAGES)", true)
	}
	f.settle()
}

// uidCode checks APPENDUID.
func (m *model) uidCode(c *client, f *modelFolder, r response1, code string, from uint32, n int) {
	validity, set, _ := strings.Cut(r.args, " ")
	v, err := strconv.ParseUint(validity, 10, 32)
	uids, serr := numbersIn(set)
	if r.code != code || err != nil || serr != nil || len(uids) != n || uids[0] != from || uids[n-1] != from+uint32(n)-1 {
		c.fail("%q, not %d UIDs from %d", r.raw, n, from)
	}
	m.valid(c, f, uint32(v))
}

var modelNames = []string{"A", "B", "B.c", "D", "A.e"}

func (m *model) create(c *client) {
	name := pick(m, modelNames)
	r := m.run(c, "CREATE "+name, true)
	switch _, there := m.folders[name]; {
	case there && (r.kind != "NO" || r.code != "ALREADYEXISTS"), !there && r.kind != "OK":
		c.fail("CREATE %s: %q", name, r.raw)
	case !there:
		m.folders[name] = m.newFolder(name)
	}
}

// selectedBy reports whether somebody has selected the folder, or one below it.
func (m *model) selectedBy(name string) bool {
	return slices.ContainsFunc(m.clients, func(c *client) bool {
		return c.folder != nil && (c.folder.name == name || strings.HasPrefix(c.folder.name, name+"."))
	})
}

func (m *model) deleteFolder(c *client) {
	name := pick(m, modelNames)
	if m.selectedBy(name) {
		return
	}
	if f := m.folders[name]; f != nil && len(f.alive())+len(f.pending) > 0 {
		// What a delivery puts into the folder in the very tick of the clock in which it is deleted goes to INBOX.
		time.Sleep(10 * time.Millisecond)
	}
	r := m.run(c, "DELETE "+name, true)
	switch _, there := m.folders[name]; {
	case !there && (r.kind != "NO" || r.code != "NONEXISTENT"), there && r.kind != "OK":
		c.fail("DELETE %s: %q", name, r.raw)
	}
	delete(m.folders, name)
}

func (m *model) rename(c *client) {
	from, to := pick(m, modelNames), pick(m, modelNames)
	if m.selectedBy(from) || from == to {
		return
	}
	moved := make(map[string]string)
	taken := false
	for name := range m.folders {
		if below, ok := strings.CutPrefix(name, from); ok && (below == "" || below[0] == '.') {
			moved[name] = to + below
			if m.folders[to+below] != nil {
				taken = true
			}
		}
	}
	r := m.run(c, "RENAME "+from+" "+to, true)
	switch {
	case strings.HasPrefix(to, from+"."), len(moved) == 0, taken:
		if r.kind != "NO" {
			c.fail("RENAME: %q", r.raw)
		}
		return
	case r.kind != "OK":
		c.fail("RENAME: %q", r.raw)
	}
	for name, new := range moved {
		f := m.folders[name]
		delete(m.folders, name)
		f.name, f.dir = new, m.newFolder(new).dir
		m.folders[new] = f
		if f.validity != 0 {
			m.valid(c, f, f.validity)
		}
	}
}

func (m *model) idleIn(c *client) {
	c.expunge = true
	c.idle = c.send("IDLE")
	for {
		r := c.next(5 * time.Second)
		if r.tag == "+" {
			break
		}
		c.apply(r)
	}
	m.idlers()
}

// inSelected is a command on the selected mailbox.
func (m *model) inSelected(c *client) {
	uid := c.uidOnly || m.chance(50)
	switch m.r.IntN(24) {
	case 0, 1, 2, 3, 4:
		m.fetch(c, uid)
	case 5, 6, 7, 8, 9:
		m.store(c, uid)
	case 10, 11:
		m.search(c, uid)
	case 12, 13:
		m.copyOrMove(c, uid, false)
	case 14, 15:
		m.copyOrMove(c, uid, true)
	case 16, 17:
		m.expungeIn(c)
	case 18:
		m.closeIn(c)
	case 19:
		m.idleIn(c)
	case 20:
		m.do(c, "CHECK", true)
	case 21:
		if c.uidOnly {
			r := m.run(c, pick(m, []string{"FETCH 1 FLAGS", "STORE 1 +FLAGS (\\Seen)", "SEARCH ALL", "COPY 1 INBOX"}), false)
			if r.kind != "BAD" || r.code != "UIDREQUIRED" {
				// The session may be read only, which is said first.
				if !c.readOnly {
					c.fail("%q", r.raw)
				}
			}
		}
		m.do(c, "NOOP", true)
	default:
		m.do(c, "NOOP", true)
	}
}

func (m *model) copyOrMove(c *client, uid, move bool) {
	to := m.anyFolder()
	m.notice(c, to) // before the set is chosen: it tells of messages
	set, list, valid := m.set(c, uid)
	name, verb := to.name, "COPY "
	if move {
		verb = "MOVE "
	}
	missing := m.chance(5)
	if missing {
		name = "missing"
	}
	command := prefix(uid) + verb + set + " " + name
	switch {
	case move && c.readOnly:
		if r := m.run(c, command, uid || move); r.kind != "NO" {
			c.fail("%q", r.raw)
		}
		return
	case !valid:
		m.bad(c, m.run(c, command, uid || move))
		return
	}
	gone := slices.ContainsFunc(list, func(x *modelMessage) bool { return x.gone })
	if missing {
		r := m.run(c, command, uid || move)
		if r.kind != "NO" || r.code != "TRYCREATE" && !(gone && r.code == "EXPUNGEISSUED") {
			c.fail("%q", r.raw)
		}
		return
	}
	if gone && (move || to == c.folder) {
		return // whether it is done comes too late
	}
	c.folder.settle()
	to.settle()
	from := to.next
	var alive []*modelMessage
	for _, x := range list {
		if !x.gone {
			alive = append(alive, x)
		}
	}
	effect := func() {
		for _, x := range alive {
			to.add(&modelMessage{flags: x.flags, text: x.text, date: x.date})
		}
		if move {
			for _, x := range alive {
				x.remove()
			}
		}
	}
	if !gone {
		effect()
	}
	c.expunge = uid || move
	r := c.do(command)
	to.looked()
	if gone && !uid && r.kind == "NO" && r.code == "EXPUNGEISSUED" { // all or none
		m.compare(c)
		return
	}
	m.partly(c, r, uid, list)
	if gone && r.kind == "OK" {
		effect()
	}
	if r.kind == "OK" && len(alive) > 0 {
		if move {
			for _, o := range c.others {
				if o.code == "COPYUID" {
					r = o
				}
			}
		}
		m.copyUID(c, to, r, alive, from)
	}
	m.compare(c)
}

func (m *model) copyUID(c *client, to *modelFolder, r response1, list []*modelMessage, from uint32) {
	f := strings.Fields(r.args)
	if r.code != "COPYUID" || len(f) != 3 {
		c.fail("%q, not COPYUID", r.raw)
	}
	v, _ := strconv.ParseUint(f[0], 10, 32)
	a, err1 := numbersIn(f[1])
	b, err2 := numbersIn(f[2])
	if err1 != nil || err2 != nil || len(a) != len(list) || len(b) != len(list) {
		c.fail("%q, of %d messages", r.raw, len(list))
	}
	for i, x := range list {
		if a[i] != x.uid || b[i] != from+uint32(i) {
			c.fail("%q: %v should have become %d", r.raw, x, from+uint32(i))
		}
	}
	m.valid(c, to, uint32(v))
}

// marked are the messages that EXPUNGE removes.
func marked(list []*modelMessage) (all []*modelMessage) {
	for _, x := range list {
		if !x.gone && x.has(`\Deleted`) {
			all = append(all, x)
		}
	}
	return all
}

func (c *client) known() (list []*modelMessage) {
	for _, e := range c.view {
		list = append(list, e.m)
	}
	return list
}

func (m *model) expungeIn(c *client) {
	command, list := "EXPUNGE", c.known()
	if m.chance(50) {
		set := ""
		set, list, _ = m.set(c, true)
		command = "UID EXPUNGE " + set
	}
	if c.readOnly {
		if r := m.run(c, command, true); r.kind != "NO" {
			c.fail("%q", r.raw)
		}
		return
	}
	n := 0
	for _, x := range marked(list) {
		x.remove()
		n++
	}
	r := m.do(c, command, true)
	if c.qresync && n > 0 && r.code != "HIGHESTMODSEQ" {
		c.fail("RFC 7162 section 3.2.9: %q", r.raw)
	}
}

func (m *model) closeIn(c *client) {
	f := c.folder
	command := "UNSELECT"
	m.notice(c, f)
	m.resolve(c)
	if m.chance(50) {
		command = "CLOSE"
		if !c.readOnly {
			for _, x := range marked(c.known()) {
				x.remove()
			}
		}
	}
	c.expunge = false
	if r := c.do(command); r.kind != "OK" || r.code == "HIGHESTMODSEQ" {
		c.fail("RFC 7162 section 3.2.8: %q", r.raw)
	}
	c.leave()
	m.idlers()
}

func setOf(list []uint32) string {
	var b strings.Builder
	for i := 0; i < len(list); {
		k := i
		for k+1 < len(list) && list[k+1] == list[k]+1 {
			k++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, list[i])
		if k > i {
			fmt.Fprintf(&b, ":%d", list[k])
		}
		i = k + 1
	}
	return b.String()
}
