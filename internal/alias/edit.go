package alias

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What a caller of Add, Remove and Rename may want to tell apart.
var (
	ErrNoEntry  = errors.New("no such entry")
	ErrNoTarget = errors.New("no such target")
	ErrExists   = errors.New("an entry already")
)

// errLayout is of text that the rules below do not fit: an open quote or "<", a backslash at the end of a comment. It is not edited,
// since what people laid out so must be read by one of them.
var errLayout = errors.New("cannot be edited without a change of what else the file means; do it by hand")

// Add gives key the targets, behind those it has; an entry that is not there is appended to the text. Targets are as they would stand
// in the file, and quoted if they must. A target that is there already is not added again.
func Add(file, text, key string, targets []string) (out string, changed bool, err error) {
	d, err := open(file, text, key)
	if err != nil {
		return text, false, err
	}
	added, written, err := d.parse(targets)
	if err != nil {
		return text, false, err
	}
	if len(targets) == 0 {
		return text, false, fmt.Errorf("%s: %s: no target to add", file, show(d.key))
	}
	have := map[identity]bool{}
	for _, t := range d.targets {
		have[t.identity()] = true
	}
	want, fresh := slices.Clone(d.targets), []string(nil)
	for i, t := range added {
		if id := t.identity(); !have[id] {
			have[id] = true
			want, fresh = append(want, t), append(fresh, written[i])
		}
	}
	if fresh == nil {
		return text, false, nil
	}
	if len(want) > 1 && slices.ContainsFunc(want, func(t Target) bool { return t.Kind == Fail || t.Kind == Defer }) {
		return text, false, fmt.Errorf("%s: %s: the text of a fail or defer takes the rest of an entry and stands in it alone", file, show(d.key))
	}
	if d.start == len(text) {
		return d.finish(d.appended(fresh), d.key, want)
	}
	return d.finish(d.with(fresh), d.key, want)
}

// Remove takes targets from the entry of key; with no targets, or when none is left, the whole entry. The comments between its lines
// stay, those in its lines go with them.
func Remove(file, text, key string, targets []string) (out string, changed bool, err error) {
	d, err := open(file, text, key)
	if err != nil {
		return text, false, err
	}
	if d.start == len(text) {
		return text, false, fmt.Errorf("%s: %s: %w", file, show(d.key), ErrNoEntry)
	}
	parsed, _, err := d.parse(targets)
	if err != nil {
		return text, false, err
	}
	gone := map[identity]bool{}
	for _, t := range parsed {
		gone[t.identity()] = false
	}
	var want []Target
	drop := make([]bool, len(d.targets))
	for i, t := range d.targets {
		if _, drop[i] = gone[t.identity()]; drop[i] {
			gone[t.identity()] = true
		} else {
			want = append(want, t)
		}
	}
	for i, t := range parsed {
		if !gone[t.identity()] {
			return text, false, fmt.Errorf("%s: %s: %w: %s", file, show(d.key), ErrNoTarget, show(targets[i]))
		}
	}
	if len(targets) == 0 || want == nil {
		return d.finish(d.comments(), "", nil)
	}
	return d.finish(d.without(drop), d.key, want)
}

// Rename gives an entry another key. The same key in another spelling is another text, and no error.
func Rename(file, text, old, new string) (out string, changed bool, err error) {
	d, err := open(file, text, old)
	if err != nil {
		return text, false, err
	}
	key, spelled, err := spell(file, new)
	if err != nil {
		return text, false, err
	}
	switch {
	case d.start == len(text):
		return text, false, fmt.Errorf("%s: %s: %w", file, show(d.key), ErrNoEntry)
	case key != d.key && d.find(key) >= 0:
		return text, false, fmt.Errorf("%s: %s: %w", file, show(key), ErrExists)
	}
	rest := text[d.keyEnd:d.end]
	if d.keyEnd == d.colon && strings.IndexByte(key, '@') < 0 {
		rest = ":" + rest // it may be missing after an address only
	}
	return d.finish(spelled+rest, key, Entry{p: d.part, i: d.i}.Targets())
}

// draft is a text and the entry in it that is edited; text[start:end] is all that an edit replaces.
type draft struct {
	*part
	key, spelled string // as it is looked up; as it is written
	i            int    // of the entry; len(entries) if there is none, and start and end are the end of the text
	start, end   int
	keyEnd       int // of the key
	colon        int // behind the colon, or the key if there is none
	targets      []Target
	at           []span // of each target
}

// span is where a target stands in the text.
type span struct{ from, to int }

// open finds the entry of key, which may be given as it is looked up or as a file has it.
func open(file, text, key string) (*draft, error) {
	t, _, err := Parse(file, text)
	if err != nil {
		return nil, err
	}
	d := &draft{part: t.parts[0], i: t.Len(), start: len(text), end: len(text)}
	if d.key, d.spelled, err = spell(file, key); err != nil {
		return nil, err
	}
	if i := d.find(d.key); i >= 0 {
		e := d.entries[i]
		d.i, d.start, d.end, d.colon = i, int(e.start), int(e.end), int(e.value)
		d.targets, d.at = spans(text, d.start, d.colon, d.end)
		head := strings.TrimRight(text[d.start:d.colon], " \t\r")
		if strings.HasSuffix(head, ":") {
			d.keyEnd = d.start + len(strings.TrimRight(head[:len(head)-1], " \t\r"))
		} else {
			d.keyEnd = d.start + len(head)
			d.colon = d.keyEnd
		}
	}
	return d, nil
}

// finish puts the entry in its place, and makes sure that the text says what was meant: key stands for want, or the entry is
// gone if key is "", and every other entry is as it was, in the same order.
func (d *draft) finish(entry, key string, want []Target) (out string, changed bool, err error) {
	out = d.text[:d.start] + entry + d.text[d.end:]
	if out == d.text {
		return out, false, nil
	}
	t, _, err := Parse(d.file, out)
	if err != nil {
		return d.text, false, err
	}
	after := t.parts[0]
	if i := after.find(d.key); i >= 0 && d.key != key {
		line := int(after.entries[i].line) + strings.Count(d.text, "\n") - strings.Count(out, "\n")
		return d.text, false, fmt.Errorf("%s: %s stands in line %d again, and that entry would hold then", d.file, show(d.key), line)
	}
	failed := fmt.Errorf("%s: %s: %w", d.file, show(d.key), errLayout)
	j := 0
	for i := range len(d.entries) + 1 {
		switch {
		case i == d.i && key == "", i != d.i && i == len(d.entries):
			continue
		case j == len(after.entries):
			return d.text, false, failed
		case i == d.i && (after.key(j) != key || !alike(Entry{p: after, i: j}.Targets(), want)):
			return d.text, false, failed
		case i != d.i && (after.key(j) != d.part.key(i) || !d.keeps(i, after, j)):
			return d.text, false, failed
		}
		j++
	}
	if j != len(after.entries) {
		return d.text, false, failed
	}
	return out, true, nil
}

// keeps: entry j of after has the targets of entry i. The same lines have the same targets, so few are parsed.
func (d *draft) keeps(i int, after *part, j int) bool {
	a, b := d.entries[i], after.entries[j]
	return d.text[a.start:a.end] == after.text[b.start:b.end] || alike(Entry{p: d.part, i: i}.Targets(), Entry{p: after, i: j}.Targets())
}

// alike: the same targets, wherever they stand.
func alike(a, b []Target) bool {
	return slices.EqualFunc(a, b, func(a, b Target) bool {
		a.Pos = b.Pos
		return a == b
	})
}

// identity is what makes targets the same; letters of either case are, in addresses.
type identity struct {
	kind       Kind
	final      bool
	addr, text string
}

func (t Target) identity() identity { return identity{t.Kind, t.Final, t.Addr.Key(), t.Text} }
