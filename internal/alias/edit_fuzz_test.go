package alias

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// model is what a file means: its entries in order.
type model []meaning

type meaning struct {
	key     string
	targets []string
}

func modelOf(t *testing.T, text string) model {
	t.Helper()
	tab, _, err := Parse("f", text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var m model
	for e := range tab.Entries() {
		var l []string
		for _, x := range e.Targets() {
			if x.Kind != Bad || x.Text != "stands for nothing" {
				l = append(l, describe(x)+" "+x.Text)
			}
		}
		m = append(m, meaning{e.Key(), l})
	}
	return m
}

// meanings is what targets mean that are put into an entry by hand: none, if one of them is not read as one.
func meanings(t *testing.T, targets []string) (l []string) {
	for _, s := range targets {
		x, w := target(s)
		m := modelOf(t, "k: "+w+"\n")
		if x.Kind == Bad || len(m) != 1 || len(m[0].targets) != 1 || m[0].targets[0] != describe(x)+" "+x.Text {
			t.Fatalf("%q is written as %q and read as %v", s, w, m)
		}
		l = append(l, m[0].targets[0])
	}
	return l
}

// comments are the whole lines that are ones.
func comments(text string) (l []string) {
	for line := range strings.Lines(text) {
		if s := strings.TrimSpace(line); strings.HasPrefix(s, "#") {
			l = append(l, s)
		}
	}
	return l
}

// checkEdit makes an edit and finds out, without what the edit looked at, whether it did what was asked and no more.
func checkEdit(t *testing.T, text, command string) {
	t.Helper()
	out, changed, err := apply(text, command)
	// Where a line may not be what it seems, or an item takes what follows it, an edit may be refused, and "#" need not begin a comment.
	plain := !strings.ContainsAny(text, "\\\"<>")
	for _, w := range []string{":fail:", ":defer:", "error:"} {
		plain = plain && !strings.Contains(strings.ToLower(text), w)
	}
	if errors.Is(err, errLayout) && plain {
		t.Fatalf("%q on %q: %v", command, text, err)
	}
	if changed != (out != text) || err != nil && changed {
		t.Fatalf("%q on %q: changed %v, %v", command, text, changed, err)
	}
	if err != nil {
		return
	}
	before, after := modelOf(t, text), modelOf(t, out)
	verb, args, _ := strings.Cut(command, " ")
	a := strings.Split(args, "¦")
	key, _, err := spell("f", a[0])
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(before, func(e meaning) bool { return e.key == key })
	switch verb {
	case "add":
		if i < 0 {
			i = len(before)
			before = append(before, meaning{key: key})
		}
		e := &before[i]
		for _, s := range meanings(t, a[1:]) {
			if !slices.ContainsFunc(e.targets, func(have string) bool { return fold(have) == fold(s) }) {
				e.targets = append(e.targets, s)
			}
		}
	case "remove":
		e := &before[i]
		gone := meanings(t, a[1:])
		e.targets = slices.DeleteFunc(e.targets, func(have string) bool {
			return slices.ContainsFunc(gone, func(s string) bool { return fold(have) == fold(s) })
		})
		if len(gone) == 0 || len(e.targets) == 0 {
			before = slices.Delete(before, i, i+1)
		}
	case "rename":
		before[i].key, _, _ = spell("f", a[1])
	}
	if !slices.EqualFunc(before, after, func(a, b meaning) bool {
		return a.key == b.key && slices.Equal(a.targets, b.targets)
	}) {
		t.Fatalf("%q on %q makes %q:\n got %q\nwant %q", command, text, out, after, before)
	}
	if plain {
		left := comments(out)
		for _, c := range comments(text) {
			j := slices.Index(left, c)
			if j < 0 {
				t.Fatalf("%q on %q makes %q: %q is lost", command, text, out, c)
			}
			left = left[j+1:]
		}
	}
}

// fold: addresses and names are the same in either case, texts are not.
func fold(s string) string {
	kind, rest, _ := strings.Cut(s, " ")
	switch strings.TrimSuffix(kind, "!") {
	case "address", "local", "domain":
		m := strings.TrimSpace(rest)
		if i := strings.LastIndexByte(m, '@'); i >= 0 {
			b := appendKey(nil, m[:i], m[i+1:])
			return kind + string(b)
		}
		return kind + strings.ToLower(m)
	}
	return s
}

func TestEditRandomly(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(l ...string) string { return l[rnd.IntN(len(l))] }
	item := func() string {
		return pick("a", "b", "B", "c", "d@example.org", "D@Example.org", "@example.net", "|cmd x", "/f", ":include:/l", "a#b", "a..b")
	}
	for range 20_000 {
		odd := rnd.IntN(3) == 0 // quotes and backslashes, too
		eol := pick("\n", "\n", "\r\n")
		var b strings.Builder
		for range rnd.IntN(5) {
			b.WriteString(pick("", "", "# c"+eol, eol, "  # i"+eol, " stray"+eol))
			b.WriteString(pick("bob", "Bob", "x", "y@example.org", "z", "@example.org", "\"q r\"", "a..b", "*") + pick(":", ": ", " : ", ":\t", ": # c"+eol+" ", ":"+eol+"  "))
			for range rnd.IntN(5) {
				if b.WriteString(item()); odd {
					b.WriteString(pick("", "", ", \\a, ", ", \"|q, r\"", ", N <n@example.org>", ", :fail: t, u"))
				}
				b.WriteString(pick(", ", ", ", ",", " ,", ","+eol+"  ", ","+eol+"\t", ", # c"+eol+"  ", " # c"+eol+"  ", ","+eol+"# w"+eol+"  ", ","+eol+eol+" ", eol+" ", " "))
				if odd {
					b.WriteString(pick("", "", "", " \\"+eol, ",\\"+eol, ", \\"+eol+"  ", "# b \\"+eol+" "))
				}
			}
			b.WriteString(pick("", "e", "e # c", "e,", "e, # c") + eol)
		}
		text := b.String()
		if rnd.IntN(4) == 0 {
			text = strings.TrimRight(text, "\r\n")
		}
		if _, _, err := Parse("f", text); err != nil {
			continue
		}
		key := pick("bob", "x", "y@example.org", "q r", "new")
		command := pick("add ", "remove ") + key
		for range rnd.IntN(3) {
			command += "¦" + pick(item(), item(), "e", "\\a", "|q, r", "n@example.org", ":fail: t, u")
		}
		if rnd.IntN(6) == 0 {
			command = "rename " + key + "¦" + pick("bob", "w", "s t", "w@example.org")
		}
		checkEdit(t, text, command)
	}
}

func FuzzEdit(f *testing.F) {
	texts := []string{
		"", "bob: carol\n", "bob: a, # 1\r\n  b, # 2\r\n# w\r\n\r\n  c\r\nx: y", "bob: a, \\\nb, \\\nc\nx: y\n", "\"a b\"@c.example: \"|x, \\\" y\", /f/, :include: /x\n",
		"bob@example.org c d\n  e\n\tf # g\n", "bob: :fail: a, b # c\nBOB: x\n", "bob: A <b@c>, \"q, r\" <d>\n", "bob:\n  a,\n# c \\\n  b\n", "bob: a\\\n,b # c \\\nd\n", "bob: \"a\n#b\n \", c\n", "a..b: x\n y\nbob:a,b,,c,\n",
	}
	commands := []string{"add bob¦b", "add new¦|x a,b", "remove bob¦b", "remove bob", "remove bob¦a¦c", "rename bob¦john doe", "add bob¦:fail: x", "remove a b@c.example¦|x, \" y", "remove bob@example.org¦d"}
	for _, s := range texts {
		for _, c := range commands {
			f.Add(s, c)
		}
	}
	f.Fuzz(func(t *testing.T, text, command string) {
		verb, args, _ := strings.Cut(command, " ")
		if verb != "add" && verb != "remove" && (verb != "rename" || !strings.Contains(args, "¦")) {
			return
		}
		checkEdit(t, text, command)
	})
}
