package alias

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// spell is a key as it is looked up, and as it must be written to be read so. What can stand in a file is left alone; anything else
// is a local part that wants quotes.
func spell(file, key string) (canonical, written string, err error) {
	bad := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("%s: key %s: %s", file, show(key), strings.TrimSuffix(why, ": "+show(key)))
	}
	read := func(s string) (string, error) {
		p := parser{part: &part{text: s + ":"}}
		k, value, err := p.key(len(s) + 1)
		if err == nil && value <= len(s) {
			err = errors.New("not a name")
		}
		return k, err
	}
	if why := badByte(key); why != "" {
		return bad(why)
	}
	if key == "" || key[0] != '#' && !isBlank(key[0]) && !isBlank(key[len(key)-1]) {
		if canonical, err = read(key); err == nil {
			return canonical, key, nil
		}
	}
	local, domain := key, ""
	if i := strings.LastIndexByte(key, '@'); i >= 0 {
		local, domain = key[:i], key[i:]
	}
	if err != nil && (local == "" || local == "*") { // in quotes it would be a name, and hardly what was meant
		return bad(err.Error())
	}
	written = quote(local) + domain
	canonical, quoted := read(written)
	switch {
	case quoted == nil:
		return canonical, written, nil
	case err == nil:
		err = quoted
	}
	return bad(err.Error())
}

func quote(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

// parse reads targets, and says how they must be written to be read so wherever in an entry they stand.
func (d *draft) parse(targets []string) (list []Target, written []string, err error) {
	for _, s := range targets {
		t, w := target(s)
		if t.Kind == Bad {
			return nil, nil, fmt.Errorf("%s: target %s: %s", d.file, show(s), strings.TrimSuffix(t.Text, ": "+show(s)))
		}
		list, written = append(list, t), append(written, w)
	}
	return list, written, nil
}

func target(s string) (t Target, written string) {
	if why := badByte(s); why != "" {
		return Target{Kind: Bad, Text: why}, ""
	}
	whole := span{0, len(s)}
	t = item(s, false)
	if list, at := spans(s, 0, 0, len(s)); len(list) == 1 && at[0] == whole && list[0].Kind != Bad {
		t = list[0]
		// A "<" without its end, or a backslash, would make more of what follows.
		probe := s + ",x"
		if list, at := spans(probe, 0, 0, len(probe)); isReplyText(s) || len(list) == 2 && at[0] == whole && list[0] == t {
			return t, s
		}
	}
	written = quote(s)
	if list, _ := spans(written, 0, 0, len(written)); t.Kind != Bad && (len(list) != 1 || list[0] != t) {
		return Target{Kind: Bad, Text: "cannot be written"}, ""
	}
	return t, written
}

// spans reads the targets from value on, and where each begins and ends.
func spans(text string, start, value, end int) (list []Target, at []span) {
	s := scanner{s: text[:end], i: value, bol: start}
	s.emit = func(t Target) {
		t.Pos = Pos{}
		list = append(list, t)
	}
	for s.skip(); s.i < end; s.skip() {
		s.pieces = append(s.pieces[:0], piece{0, s.i, s.line, s.bol})
		n := len(list)
		chunk, err := s.chunk()
		s.classify(chunk, err)
		k := 0
		where := func(off int) int { // of an octet of the chunk in the text, in ascending order
			for k+1 < len(s.pieces) && s.pieces[k+1].off <= off {
				k++
			}
			return s.pieces[k].at + off - s.pieces[k].off
		}
		switch len(list) - n {
		case 0:
		case 1:
			at = append(at, span{where(0), where(len(chunk)-1) + 1})
		default: // addresses without commas
			for i := 0; i < len(chunk); i++ {
				if isBlank(chunk[i]) {
					continue
				}
				from := where(i)
				for i+1 < len(chunk) && !isBlank(chunk[i+1]) {
					i++
				}
				at = append(at, span{from, where(i) + 1})
			}
		}
	}
	return list, at
}

// appended is a new entry, and what ends the line before it.
func (d *draft) appended(targets []string) string {
	text, eol := d.text, d.eol()
	entry := d.spelled + ": " + strings.Join(targets, ", ") + eol
	if text != "" && !strings.HasSuffix(text, "\n") {
		entry = eol + entry
	}
	if endsInBackslash(text[strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n')+1:]) {
		entry = eol + entry // or it would be part of that line
	}
	return entry
}

// with is the entry with more targets: in the line of the last, or in lines like those that it has if there is one for each.
func (d *draft) with(targets []string) string {
	text, eol, insert := d.text, d.eol(), d.colon
	bol, indent, sep := d.start, "", " "
	if n := len(d.at); n > 0 {
		insert, sep = d.at[n-1].to, ", "
		bol = strings.LastIndexByte(text[:d.at[n-1].from], '\n') + 1
		indent = text[bol:d.at[n-1].from]
	}
	lines := bol > d.start && strings.Trim(indent, " \t") == ""
	for i := 1; i < len(d.at) && lines; i++ {
		lines = strings.IndexByte(text[d.at[i-1].to:d.at[i].from], '\n') >= 0
	}
	joined := lines && endsInBackslash(text[d.start:bol])
	before, after := text[d.start:insert], text[insert:d.end]
	if lines && !joined {
		if strings.IndexByte(text[insert:d.stop(insert)], ',') < 0 {
			before += ","
		}
		added := indent + strings.Join(targets, ","+eol+indent)
		if n := strings.IndexByte(after, '\n') + 1; n > 0 {
			return before + after[:n] + added + eol + after[n:]
		}
		return before + after + eol + added
	}
	if last := &targets[len(targets)-1]; d.hash(insert) && ((*last)[0] == '|' || isReplyText(*last)) {
		*last = quote(*last) // or the comment would be part of it
	}
	between := ", "
	if joined {
		between = `, \` + eol + indent
		sep = between
	}
	return before + sep + strings.Join(targets, between) + after
}

// eol is how the lines up to the end of the entry end.
func (d *draft) eol() string {
	if i := strings.LastIndexByte(d.text[:d.end], '\n'); i > 0 && d.text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// stop is where the comment behind i begins, or the line or the entry ends.
func (d *draft) stop(i int) int {
	if n := strings.IndexAny(d.text[i:d.end], "#\r\n"); n >= 0 {
		return i + n
	}
	return d.end
}

// hash: a comment follows i in its line.
func (d *draft) hash(i int) bool {
	n := d.stop(i)
	return n < d.end && d.text[n] == '#'
}

// comments is what stays of an entry that goes: the blank and comment lines between its own. A line that a backslash joins to the one
// before is neither.
func (d *draft) comments() string {
	var b strings.Builder
	joined := false
	for i := d.start; i < d.end; {
		first, next := lineAt(d.text[:d.end], i)
		if !joined && (first < 0 || d.text[first] == '#') {
			b.WriteString(d.text[i:next])
		} else {
			joined = endsInBackslash(d.text[i:next])
		}
		i = next
	}
	return b.String()
}

// without is the entry without some of its targets, of which it keeps at least one.
func (d *draft) without(drop []bool) string {
	text := d.text
	var cuts []span
	for i := 0; i < len(drop); i++ {
		if !drop[i] {
			continue
		}
		end := i + 1 // of the targets that go side by side
		for end < len(drop) && drop[end] {
			end++
		}
		// The gap that goes with each is the one behind it, so that the next one takes its place. In front, where there is none
		// behind, or where the one in front has no comma to keep those apart that stay.
		forward := end < len(drop) && (i == 0 || strings.ContainsAny(text[d.at[i-1].to:d.at[i].from], ",#"))
		for ; i < end; i++ {
			x := d.at[i]
			switch {
			case forward && d.plain(i):
				cuts = append(cuts, span{x.from, d.at[i+1].from})
			case forward:
				cuts = append(cuts, span{x.from, d.stop(x.to)})
			case d.plain(i-1) && (strings.IndexByte(text[d.at[i-1].to:x.from], '\n') < 0 || !d.hash(x.to)):
				// Unless a comment in a line of its own would come to stand behind another target.
				cuts = append(cuts, span{d.at[i-1].to, x.to})
			default:
				// A comma in front of a comment stays: without it, others would read the comment as part of the list.
				if to := d.stop(d.at[i-1].to); text[to] != '#' {
					cuts = append(cuts, span{d.at[i-1].to, to})
				}
				to := d.stop(x.to)
				if i+1 < len(d.at) {
					to = min(to, d.at[i+1].from)
				}
				cuts = append(cuts, span{x.from, to})
			}
		}
	}
	return d.cut(cuts)
}

// plain: between target i and the next there is no comment and no blank line, which would have to stay.
func (d *draft) plain(i int) bool {
	gap := d.text[d.at[i].to:d.at[i+1].from]
	if strings.IndexByte(gap, '#') >= 0 {
		return false
	}
	for n := 0; ; {
		if n = strings.IndexByte(gap, '\n'); n < 0 {
			return true
		}
		gap = gap[n+1:]
		if first, next := lineAt(gap, 0); first < 0 && next > 0 && gap[next-1] == '\n' {
			return false
		}
	}
}

// cut leaves out the cuts, and of a line what is nothing without them. The line of the key stays.
func (d *draft) cut(cuts []span) string {
	b := make([]byte, 0, d.end-d.start)
	bol, cut, first := 0, -1, true // cut: where in b the last one of the line is
	endLine := func() {
		if line := b[bol:]; cut >= 0 {
			eol := string(line[len(bytes.TrimRight(line, "\r\n")):])
			switch {
			case !first && len(bytes.Trim(line, " \t\r\n\\,")) == 0:
				b = b[:bol]
			case len(bytes.Trim(b[cut:], " \t\r\n")) == 0:
				b = append(bytes.TrimRight(b, " \t\r\n"), eol...)
			}
		}
		bol, cut, first = len(b), -1, false
	}
	for i := d.start; i < d.end; {
		to := d.end
		if len(cuts) > 0 {
			if to = cuts[0].from; to <= i {
				i, cut = max(i, cuts[0].to), len(b)
				cuts = cuts[1:]
				continue
			}
		}
		_, next := lineAt(d.text[:to], i)
		b = append(b, d.text[i:next]...)
		i = next
		if b[len(b)-1] == '\n' {
			endLine()
		}
	}
	endLine()
	return string(b)
}
