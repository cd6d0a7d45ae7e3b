package imapd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// modelKey is a search key and what it means: of a message with its sequence number.
type modelKey struct {
	text string
	seqs bool // there are sequence numbers in it
	is   func(x *modelMessage, number int) bool
}

// key makes a search key.
func (m *model) key(c *client, depth int) modelKey {
	has := func(text, flag string, want bool) modelKey {
		return modelKey{text, false, func(x *modelMessage, _ int) bool { return x.has(flag) == want }}
	}
	switch n := m.r.IntN(14); {
	case n == 0 && depth > 0:
		k := m.key(c, depth-1)
		return modelKey{"NOT " + k.text, k.seqs, func(x *modelMessage, n int) bool { return !k.is(x, n) }}
	case n == 1 && depth > 0:
		a, b := m.key(c, depth-1), m.key(c, depth-1)
		return modelKey{"OR " + a.text + " " + b.text, a.seqs || b.seqs, func(x *modelMessage, n int) bool { return a.is(x, n) || b.is(x, n) }}
	case n == 2 && depth > 0:
		a, b := m.key(c, depth-1), m.key(c, depth-1)
		return modelKey{"(" + a.text + " " + b.text + ")", a.seqs || b.seqs, func(x *modelMessage, n int) bool { return a.is(x, n) && b.is(x, n) }}
	case n == 3:
		w := pick(m, modelWords)
		return modelKey{"SUBJECT " + strings.ToUpper(w[:3]), false, func(x *modelMessage, _ int) bool {
			_, s, _ := strings.Cut(x.text, "Subject: ")
			s, _, _ = strings.Cut(s, "\r\n")
			return strings.Contains(s, w[:3])
		}}
	case n == 4:
		w := pick(m, modelWords)
		return modelKey{`BODY "` + w + `"`, false, func(x *modelMessage, _ int) bool {
			_, s, _ := strings.Cut(x.text, "\r\n\r\n")
			return strings.Contains(s, w)
		}}
	case n == 5:
		size := 90 + m.r.IntN(40)
		return modelKey{fmt.Sprintf("LARGER %d", size), false, func(x *modelMessage, _ int) bool { return len(x.text) > size }}
	case n == 6 || n == 7:
		uid := c.uidOnly || m.chance(50)
		set, list, valid := m.set(c, uid)
		if !valid || set == "$" && !uid && c.uidOnly {
			return modelKey{"ALL", false, func(*modelMessage, int) bool { return true }}
		}
		seqs := !uid && set != "$"
		if uid && set != "$" {
			set = "UID " + set
		}
		return modelKey{set, seqs, func(x *modelMessage, _ int) bool { return slices.Contains(list, x) }}
	case n == 8:
		k := pick(m, modelKeywords)
		return has("KEYWORD "+k, k, true)
	case n == 9:
		k := pick(m, modelKeywords)
		return has("UNKEYWORD "+k, k, false)
	case n == 10:
		return modelKey{pick(m, []string{"ALL", "SAVEDATESUPPORTED"}), false, func(*modelMessage, int) bool { return true }}
	}
	switch m.r.IntN(6) {
	case 0:
		return has("SEEN", `\Seen`, true)
	case 1:
		return has("UNSEEN", `\Seen`, false)
	case 2:
		return has("DELETED", `\Deleted`, true)
	case 3:
		return has("UNANSWERED", `\Answered`, false)
	case 4:
		return has("FLAGGED", `\Flagged`, true)
	}
	return has("UNDRAFT", `\Draft`, false)
}

// search runs a SEARCH, and compares what it has found.
func (m *model) search(c *client, uid bool) {
	k := m.key(c, 3)
	command := prefix(uid) + "SEARCH "
	var options []string
	returns := m.chance(60)
	if returns {
		for _, o := range []string{"MIN", "MAX", "ALL", "COUNT", "SAVE"} {
			if m.chance(35) {
				options = append(options, o)
			}
		}
		command += "RETURN (" + strings.Join(options, " ") + ") "
	}
	dirty := c.folder.dirty
	var found []*modelMessage
	for i, e := range c.view {
		if !e.m.gone && k.is(e.m, i+1) {
			found = append(found, e.m)
		}
	}
	numbers := make([]uint32, len(found))
	for i, x := range found {
		for at, e := range c.view {
			switch {
			case e.m == x && uid:
				numbers[i] = x.uid
			case e.m == x:
				numbers[i] = uint32(at + 1)
			}
		}
	}
	save := slices.Contains(options, "SAVE")
	options = slices.DeleteFunc(options, func(o string) bool { return o == "SAVE" })
	if save {
		c.save(options, found)
		c.unsure = dirty
	}
	m.do(c, command+k.text, uid && !k.seqs) // RFC 9051 section 7.5.1, RFC 7162 section 3.2.10
	if dirty {
		return
	}
	var got []response1
	for _, o := range c.others {
		if o.kind == "SEARCH" || o.kind == "ESEARCH" {
			got = append(got, o)
		}
	}
	if save && len(options) == 0 {
		if len(got) != 0 {
			c.fail("RFC 5182 section 2.4: %q", got[0].raw)
		}
		return
	}
	if len(got) != 1 {
		c.fail("%d results", len(got))
	}
	r := got[0]
	if !returns && !c.rev2 {
		var list []uint32
		for _, v := range r.values {
			n, _ := strconv.ParseUint(v.text, 10, 32)
			list = append(list, uint32(n))
		}
		if r.kind != "SEARCH" || !slices.Equal(list, numbers) {
			c.fail("found %d, not %d", list, numbers)
		}
		return
	}
	if len(options) == 0 {
		options = []string{"ALL"}
	}
	if r.kind != "ESEARCH" || r.code != c.name+strconv.Itoa(c.tags) || (r.args == "UID") != uid {
		c.fail("%q", r.raw)
	}
	want := make(map[string]string)
	if n := len(numbers); n > 0 {
		want["MIN"], want["MAX"], want["ALL"] = strconv.Itoa(int(numbers[0])), strconv.Itoa(int(numbers[n-1])), setOf(numbers)
	}
	want["COUNT"] = strconv.Itoa(len(numbers))
	for _, o := range options {
		if v, ok := want[o]; r.items[o].text != v {
			c.fail("%s is %q, not %q", o, r.items[o].text, v)
		} else if ok {
			delete(r.items, o)
		}
	}
	if len(r.items) > 0 {
		c.fail("not asked for: %q", r.raw)
	}
}

// save is RFC 5182 section 2.4.
func (c *client) save(options []string, found []*modelMessage) {
	all := slices.Contains(options, "ALL") || slices.Contains(options, "COUNT") || len(options) == 0
	c.saved = nil
	n := len(found)
	if n == 0 {
		return
	}
	switch min, max := slices.Contains(options, "MIN"), slices.Contains(options, "MAX"); {
	case all:
		c.saved = slices.Clone(found)
	case min && max:
		c.saved = slices.Compact([]*modelMessage{found[0], found[n-1]})
	case min:
		c.saved = found[:1:1]
	case max:
		c.saved = found[n-1:]
	}
}
