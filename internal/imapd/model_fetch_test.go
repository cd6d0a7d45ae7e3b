package imapd

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// set chooses messages: their text, and which they are. Those that are gone and have a number are among them.
func (m *model) set(c *client, uid bool) (text string, list []*modelMessage, valid bool) {
	in := make(map[int]bool)
	n := len(c.view)
	if m.chance(8) && !c.unsure {
		for _, x := range c.saved {
			list = append(list, x)
		}
		return "$", list, true
	}
	last := uint32(1)
	if uid && n > 0 {
		last = c.view[n-1].m.uid
	}
	valid = uid || n > 0
	number := func() (text string, n uint32) {
		switch {
		case m.chance(12):
			if uid {
				return "*", last
			}
			return "*", uint32(len(c.view))
		case uid && len(c.view) > 0 && m.chance(80):
			n = pick(m, c.view).m.uid
		case uid:
			n = uint32(1 + m.r.IntN(int(last)+3))
		case len(c.view) == 0 || m.chance(3):
			n = uint32(len(c.view) + 1 + m.r.IntN(3))
		default:
			n = uint32(1 + m.r.IntN(len(c.view)))
		}
		if !uid && int(n) > len(c.view) {
			valid = false
		}
		return strconv.Itoa(int(n)), n
	}
	for i := range 1 + m.r.IntN(3) {
		a, from := number()
		b, to := a, from
		if m.chance(50) {
			b, to = number()
		}
		if i > 0 {
			text += ","
		}
		text += a
		if a != b {
			text += ":" + b
		}
		if from > to {
			from, to = to, from
		}
		if n == 0 && strings.Contains(a+b, "*") {
			continue
		}
		for k, e := range c.view {
			if v := uint32(k + 1); !uid && v >= from && v <= to || uid && e.m.uid >= from && e.m.uid <= to {
				in[k] = true
			}
		}
	}
	for k, e := range c.view {
		if in[k] {
			list = append(list, e.m)
		}
	}
	return text, list, valid
}

// partly: of numbers of messages that are gone [EXPUNGEISSUED] may be said; RFC 9051 section 6.4.9: of UIDs nothing.
func (m *model) partly(c *client, r response1, uid bool, list []*modelMessage) {
	gone := !uid && slices.ContainsFunc(list, func(x *modelMessage) bool { return x.gone })
	if r.kind == "OK" && (gone || r.code != "EXPUNGEISSUED") {
		return
	}
	c.fail("%q, gone %v", r.raw, gone)
}

// bad checks that a command with a wrong set is BAD.
func (m *model) bad(c *client, r response1) {
	if r.kind != "BAD" {
		c.fail("%q, not BAD", r.raw)
	}
}

func prefix(uid bool) string {
	if uid {
		return "UID "
	}
	return ""
}

func (m *model) fetch(c *client, uid bool) {
	set, list, valid := m.set(c, uid)
	f := c.folder
	var items []string
	for _, i := range []string{"FLAGS", "UID", "BODY.PEEK[]", "RFC822.SIZE", "INTERNALDATE", "SAVEDATE", "MODSEQ", "BODY[]"} {
		if m.chance(35) && !(i == "BODY[]" && (f.dirty || m.chance(60))) {
			if i == "BODY[]" && slices.Contains(items, "BODY.PEEK[]") {
				continue
			}
			items = append(items, i)
		}
	}
	if len(items) == 0 {
		items = []string{"FLAGS"}
	}
	m.r.Shuffle(len(items), func(i, k int) { items[i], items[k] = items[k], items[i] })
	since, vanished := uint64(0), false
	command := prefix(uid) + "FETCH " + set + " (" + strings.Join(items, " ") + ")"
	if m.chance(25) && f.high > 0 {
		since = m.since(c)
		command += fmt.Sprintf(" (CHANGEDSINCE %d", since)
		if uid && c.qresync && m.chance(60) && set != "$" {
			vanished = true
			command += " VANISHED"
		}
		command += ")"
	}
	if !valid {
		m.bad(c, m.run(c, command, uid))
		return
	}
	dirty := f.dirty
	type fact struct{ changed, open bool }
	facts := make(map[*modelMessage]fact)
	for _, x := range list {
		facts[x] = fact{changed: x.modseq > since || x.modseq == 0 && x.after >= since, open: x.modseq == 0 && x.after < since || dirty}
	}
	if since > 0 && slices.Contains(items, "BODY[]") && slices.ContainsFunc(list, func(x *modelMessage) bool { return facts[x].open }) {
		return // which will be seen is not to be told
	}
	if slices.Contains(items, "MODSEQ") || since > 0 {
		c.condstore = true
	}
	plain := slices.Clone(list)
	if slices.Contains(items, "BODY[]") && !c.readOnly {
		plain = slices.DeleteFunc(plain, func(x *modelMessage) bool { return !x.has(`\Seen`) })
		for _, x := range list {
			if !x.gone && (since == 0 || facts[x].changed) {
				x.set(flagText(append(strings.Fields(x.flags), `\Seen`)))
			}
		}
	}
	if !uid {
		c.plain = plain
	}
	r := m.run(c, command, uid)
	m.partly(c, r, uid, list)
	for _, x := range list {
		got := c.fetched[x]
		if x.gone || since > 0 && (facts[x].open || !facts[x].changed) {
			continue
		}
		if got == nil {
			c.fail("no FETCH of %v", x)
		}
		want := slices.Clone(items)
		if uid {
			want = append(want, "UID")
		}
		if since > 0 {
			want = append(want, "MODSEQ")
		}
		for _, i := range want {
			i = strings.Replace(i, ".PEEK", "", 1)
			if _, ok := got.items[i]; !ok {
				c.fail("%v: FETCH has no %s", x, i)
			}
		}
	}
	m.contents(c)
	if !vanished {
		return
	}
	var gone []uint32
	for _, o := range c.others {
		if o.kind == "VANISHED" {
			more, err := numbersIn(o.values[0].text)
			if err != nil {
				c.fail("%v", err)
			}
			gone = append(gone, more...)
		}
	}
	for _, x := range f.messages {
		told := slices.Contains(gone, x.uid)
		if told && !x.gone {
			c.fail("VANISHED (EARLIER) %d, which is there", x.uid)
		}
		if !told && x.gone && !dirty && x.after >= since && inSet(set, x.uid) {
			c.fail("no VANISHED (EARLIER) %d", x.uid)
		}
	}
}

// inSet: "*" does not count.
func inSet(set string, uid uint32) bool {
	for _, part := range strings.Split(set, ",") {
		if strings.Contains(part, "*") {
			continue
		}
		a, b, ok := strings.Cut(part, ":")
		if !ok {
			b = a
		}
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		if int(uid) >= min(x, y) && int(uid) <= max(x, y) {
			return true
		}
	}
	return false
}

// since is a mod-sequence that a client may have seen.
func (m *model) since(c *client) uint64 {
	list := []uint64{c.folder.high, cmp.Or(c.folder.status, c.folder.high)}
	for _, x := range c.folder.messages {
		if x.modseq != 0 {
			list = append(list, x.modseq)
		}
	}
	return pick(m, list)
}

func (m *model) store(c *client, uid bool) {
	set, list, valid := m.set(c, uid)
	flags := m.flags()
	op := pick(m, []string{"", "+", "-"})
	silent := m.chance(50)
	command := prefix(uid) + "STORE " + set + " "
	since := uint64(0)
	conditional := m.chance(20) && c.folder.high > 0
	if conditional {
		since = m.since(c)
		command += fmt.Sprintf("(UNCHANGEDSINCE %d) ", since)
	}
	command += op + "FLAGS"
	if silent {
		command += ".SILENT"
	}
	command += " (" + strings.Join(flags, " ") + ")"
	if c.readOnly {
		if r := m.run(c, command, uid); r.kind != "NO" {
			c.fail("%q", r.raw)
		}
		return
	}
	if !valid {
		m.bad(c, m.run(c, command, uid))
		return
	}
	if conditional && slices.ContainsFunc(list, func(x *modelMessage) bool { return !x.gone && x.modseq == 0 && x.after < since }) {
		return // which will be refused is not to be told
	}
	if conditional {
		c.condstore = true
	}
	applied := func(old string) string {
		fields := strings.Fields(old)
		switch op {
		case "+":
			fields = append(fields, flags...)
		case "-":
			fields = slices.DeleteFunc(fields, func(s string) bool { return slices.Contains(flags, s) })
		default:
			fields = flags
		}
		return flagText(fields)
	}
	var refused, wanted []*modelMessage
	// The server looks at the directories when a file has not the name that it knows, or there is a condition. A flag that is as it should be, as far as it knows, stays.
	looked := conditional
	for _, x := range list {
		stays := !looked && x.seen != "" && applied(x.seen) == x.seen
		looked = looked || x.seen != "" && !stays
		switch {
		case x.gone:
		case conditional && (x.modseq > since || x.modseq == 0 && x.after >= since):
			refused = append(refused, x)
		default:
			wanted = append(wanted, x)
			if !stays {
				x.set(applied(x.flags))
			}
			if silent {
				for _, e := range c.view {
					if e.m == x && (e.flags != "" || op == "") {
						e.flags = applied(e.flags)
					}
				}
			}
		}
	}
	r := m.run(c, command, uid)
	modified := r.kind == "OK" && r.code == "MODIFIED"
	if modified {
		set, err := numbersIn(r.args)
		var want []uint32
		for _, x := range refused {
			for i, e := range c.view {
				if e.m == x && uid {
					want = append(want, x.uid)
				} else if e.m == x {
					want = append(want, uint32(i+1))
				}
			}
		}
		slices.Sort(set)
		// Of those that are gone MODIFIED may speak.
		if err != nil || uid && slices.ContainsFunc(want, func(n uint32) bool { return !slices.Contains(set, n) }) || !uid && !slices.Equal(set, want) && !slices.ContainsFunc(list, func(x *modelMessage) bool { return x.gone }) {
			c.fail("%q, not %d", r.raw, want)
		}
	} else if len(refused) > 0 {
		c.fail("%q, not MODIFIED", r.raw)
	}
	m.partly(c, r, uid, list)
	for _, x := range wanted {
		switch got := c.fetched[x]; {
		case silent:
		case got == nil:
			c.fail("no FETCH of %v", x)
		case got.items["FLAGS"].kind == 0 || uid && got.items["UID"].kind == 0:
			c.fail("%v: FETCH has no FLAGS or UID", x)
		}
		if conditional && silent && x.modseq == 0 && x.after > 0 && c.fetched[x] == nil && x.after >= since && x.was != 0 {
			c.fail("RFC 7162 section 3.1.3: no MODSEQ of %v", x)
		}
	}
}
