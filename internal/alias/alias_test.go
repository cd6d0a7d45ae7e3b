package alias

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// describe is a target in a form that tables can hold: "kind text", with "!" when it is final.
func describe(t Target) string {
	s := t.Kind.String()
	if t.Final {
		s += "!"
	}
	switch t.Kind {
	case Bad, Blackhole:
	case Address, Local:
		s += " " + t.Addr.String()
	case Domain:
		s += " @" + t.Addr.Domain + t.Addr.Local
	default:
		s += " " + t.Text
	}
	return s
}

func targets(t *testing.T, tab *Table, key string) []string {
	t.Helper()
	local, domain, _ := strings.Cut(key, "@")
	e, ok := tab.Lookup(local, domain)
	if !ok {
		return nil
	}
	var l []string
	for _, x := range e.Targets() {
		l = append(l, describe(x))
	}
	return l
}

func TestGrammar(t *testing.T) {
	tests := []struct {
		name, text string
		key        string
		want       string // joined by "; "; "" for no such key
		problems   string // joined by "; ", "" none
	}{
		{"plain", "bob: carol", "bob", "local carol", ""},
		{"no end of line", "bob:carol", "bob", "local carol", ""},
		{"crlf", "bob: carol\r\ndave: x@example.org\r\n", "dave", "address x@example.org", ""},
		{"list", "team: a, b@Example.ORG ,c,,d,\n", "team", "local a; address b@example.org; local c; local d", ""},
		{"case of key", "Bob: carol", "BOB", "local carol", ""},
		{"case of target is kept", "bob: Carol", "bob", "local Carol", ""},
		{"comments", "# c\n  # c\n\nbob: carol\n#dave: x\n", "bob", "local carol", ""},
		{"continuation", "bob: a,\n  b,\n\tc\n", "bob", "local a; local b; local c", ""},
		{"continuation over comments and blank lines", "bob: a,\n# no: x\n\n  # x\n  b\nnext: c", "bob", "local a; local b", ""},
		{"entry after continuation", "bob: a,\n b\nnext: c", "next", "local c", ""},
		{"value on the next line", "bob:\n a", "bob", "local a", ""},
		{"backslash", "bob: a, \\\nb\n", "bob", "local a; local b", ""},
		{"backslash crlf", "bob: a, \\\r\nb\r\n", "bob", "local a; local b", ""},
		{"backslash within a word", "bob: ca\\\nrol\n", "bob", "local carol", ""},
		{"backslash at the end of the file", "bob: a\\", "bob", "local a", ""},
		{"comment after comma", "bob: a, # the first\n  b # the second, too\n", "bob", "local a; local b", "f:2:5: warning: a comment after an item: other programs read it as part of the list"},
		{"hash in a word", "bob: a#b", "bob", "local a#b", ""},
		{"no colon, address", "bob@example.org carol", "bob@example.org", "local carol", ""},
		{"no colon, name", "bob carol", "bob", "local carol", `f:1:4: warning: no colon after "bob"`},
		{"no colon before include", "bob :include:/x", "bob", "include /x", `f:1:5: warning: no colon before ":include:/x"; f:1:4: warning: no colon after "bob"`},
		{"space before colon", "bob : carol", "bob", "local carol", ""},
		{"no commas", "a@b.example c@d.example e@f.example", "a@b.example", "address c@d.example; address e@f.example", `f:1:25: warning: no comma before "e@f.example"`},
		{"quoted key", `"john doe": bob`, "john doe", "local bob", ""},
		{"quoted key with domain", `"john doe"@Example.org: bob`, "john doe@example.org", "local bob", ""},
		{"quoted key with colon", `"a:b": bob`, "a:b", "local bob", ""},
		{"quoted key with @", `"a@b.example": bob` + "\nx: y", "a@b.example", "", `f:1:1: a local name with @ in it cannot be a key: "a@b.example"`},
		{"literal key", "bob@[IPv6:2001:DB8::1]: carol", "bob@[IPv6:2001:db8::1]", "local carol", ""},
		{"U-label key", "bob@bücher.example: carol", "bob@xn--bcher-kva.example", "local carol", ""},
		{"tag key", "bob+x: carol", "bob+x", "local carol", ""},
		{"catch-all", "@example.org: bob", "@example.org", "local bob", ""},
		{"whole domain", "@a.example @b.example", "@a.example", "domain @b.example", ""},
		{"star", "*: bob\nx: y", "*", "", "f:1:1: a key of * has no meaning: write @domain for every other address of a domain"},
		{"no name", ": bob\nx: y", "x", "local y", "f:1:1: an entry without a name"},
		{"bad key", "a..b: bob\nx: y", "x", "local y", `f:1:1: not a name: "a..b"`},
		{"bad domain in key", "a@-b: bob\nx: y", "x", "local y", `f:1:1: syntax error in domain of address: "a@-b"`},
		{"indented first", "  bob: carol\nx: y", "x", "local y", "f:1:3: an indented line continues the entry above it, but there is none"},
		{"indented entry", "x: y\n  bob: carol\n", "x", "local y; bad; local carol", `f:2:3: not a name: "bob:" (an indented line continues the entry above it); f:2:8: warning: no comma before "carol"`},
		{"nothing", "bob:\nx: y", "bob", "bad", `f:1:5: "bob" stands for nothing`},
		{"pipe", "bob: |/bin/cmd a b", "bob", "pipe /bin/cmd a b", ""},
		{"quoted pipe", `bob: "|/bin/cmd a, \"b\" #c", carol`, "bob", `pipe /bin/cmd a, "b" #c; local carol`, ""},
		{"pipe quoted wrong", `bob: |"cmd a, b"`, "bob", `pipe "cmd a, b"`, `f:1:6: warning: |"command": the quotes belong around the whole item, "|command"`},
		{"pipe and comma", "bob: |cmd a, carol", "bob", "pipe cmd a; local carol", ""},
		{"empty pipe", "bob: |\nx: y", "bob", "bad", "f:1:6: a pipe without a command"},
		{"file", "bob: /var/mail/x, /var/mail/d/", "bob", "file /var/mail/x; file /var/mail/d/", ""},
		{"file with @", "bob: /var/mail/bob@example.org", "bob", "file /var/mail/bob@example.org", ""},
		{"quoted file", `bob: "/var/my mail"`, "bob", "file /var/my mail", ""},
		{"dev null", "nobody: /dev/null", "nobody", "blackhole", ""},
		{"include", "bob: :include:/a/b, : include : c\nx: y", "bob", "include /a/b; bad", `f:1:21: not a target: ": include : c"`},
		{"include with space", "bob: :include: /a/b", "bob", "include /a/b", ""},
		{"quoted include", `bob: ":include:/a/b"`, "bob", "include /a/b", ""},
		{"include of a relative path", "bob: :include:b\nx: y", "bob", "bad", "f:1:6: :include: needs an absolute path"},
		{"fail", "bob: :fail: gone, for \"good", "bob", "fail gone, for \"good", ""},
		{"defer", "bob: :DEFER: later", "bob", "defer later", ""},
		{"blackhole", "bob: :blackhole:", "bob", "blackhole", ""},
		{"error", "bob: error:550 5.7.1 no, never", "bob", "fail 550 5.7.1 no, never", ""},
		{"error for now", "bob: error:451 later", "bob", "defer 451 later", ""},
		{"quoted error", `bob: "error:550 no", carol`, "bob", "fail 550 no; local carol", ""},
		{"backslash name", `bob: \bob, carol@example.org`, "bob", "local! bob; address carol@example.org", ""},
		{"backslash address", `bob: \bob@example.org`, "bob", "address! bob@example.org", ""},
		{"quoted backslash", `bob: "\bob", "\\carol"`, "bob", "local! bob; local! carol", ""},
		{"backslash pipe", `bob: \|x` + "\nx: y", "bob", "bad", `f:1:6: a backslash, but no name after it: "\|x"`},
		{"quoted whole address", `bob: "carol@example.org"`, "bob", "address carol@example.org", ""},
		{"quoted local part", `bob: "john doe"@example.org`, "bob", `address "john doe"@example.org`, ""},
		{"quoted name", `bob: "john doe"`, "bob", `local "john doe"`, ""},
		{"name-addr", `bob: Carol C. <carol@example.org>, "X, Y" <z>`, "bob", "address carol@example.org; local z", ""},
		{"comma in angles", "bob: <a,b>\nx: y", "bob", "bad", `f:1:6: not an address: "<a,b>"`},
		{"percent and bang are ordinary", "bob: a%b, x!y", "bob", "local a%b; local x!y", ""},
		{"literal", "bob: carol@[192.0.2.1]", "bob", "address carol@[192.0.2.1]", ""},
		{"open quote", "bob: \"|cmd a, b\nx: y", "bob", "bad", `f:1:6: a quote (") without its end`},
		{"null path", "bob: <>\nx: y", "bob", "bad", `f:1:6: not an address: "<>"`},
		{"null path quoted", "bob: \"\"\nx: y", "bob", "bad", `f:1:6: an empty item`},
		{"bad address", "bob: a@b@c\nx: y", "bob", "bad", `f:1:6: syntax error in address: "a@b@c"`},
		{"control", "bob: a\x01b\nx: y", "bob", "bad", "f:1:6: a control character"},
		{"latin-1", "bob: j\xe9r\nx: y", "bob", "bad", "f:1:6: not UTF-8"},
		{"duplicate", "bob: a\nBOB: b", "bob", "local a", `f:2:1: "bob" is a key in line 1 already; the first one holds`},
		{"utf-8 name", "Jürgen: x", "JÜRGEN", "local x", ""},
		{"brackets of a broken key", "a[b: c\nx: y", "x", "local y", `f:1:1: not a name: "a[b:"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab, problems, err := Parse("f", tt.text)
			var p []string
			for _, x := range problems {
				p = append(p, x.Error())
			}
			if got := strings.Join(p, "; "); got != tt.problems {
				t.Errorf("problems:\n got %s\nwant %s", got, tt.problems)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(targets(t, tab, tt.key), "; "); got != tt.want {
				t.Errorf("targets of %s:\n got %s\nwant %s", tt.key, got, tt.want)
			}
		})
	}
}

func TestPositions(t *testing.T) {
	tab, _, err := Parse("aliases", "# x\n\nteam: a,\n  b, \\\nc,\n\n  # d\n\te\nnext: f\n")
	if err != nil {
		t.Fatal(err)
	}
	e, _ := tab.Lookup("team", "")
	if got := e.Pos().String(); got != "aliases:3" {
		t.Error(got)
	}
	var at []string
	for _, x := range e.Targets() {
		at = append(at, x.Pos.String())
	}
	want := []string{"aliases:3:7", "aliases:4:3", "aliases:5:1", "aliases:8:2"}
	if !slices.Equal(at, want) {
		t.Errorf("got %v, want %v", at, want)
	}
	if e, _ := tab.Lookup("next", ""); e.Pos().Line != 9 {
		t.Error(e.Pos())
	}
}

func TestDoesNotParseAtAll(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"NUL", "bob: a\ncarol: \x00", "f:2: NUL: this is not a text file"},
		{"line", "x: y\n" + strings.Repeat("a", MaxLine+1), "f:2: a line longer than 1048576 octets"},
		{"nothing good", "a..b: c\n*: d\n", `f:1:1: not a name: "a..b" (and there is no good entry)`},
		{"large", strings.Repeat("\n", MaxFile+1), "f: larger than 256 MiB"},
	} {
		tab, _, err := Parse("f", tt.text)
		if err == nil || err.Error() != tt.want || tab != nil {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	if tab, p, err := Parse("f", "# nothing\n\n"); err != nil || len(p) > 0 || tab.Len() != 0 {
		t.Errorf("an empty file: %v %v", p, err)
	}
}

func TestEveryErrorAtOnce(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "a..%d: x\n", i)
	}
	b.WriteString("good: x\n")
	_, p, err := Parse("f", b.String())
	if err != nil || len(p) != maxProblems+1 || p[maxProblems].Text != "and 800 more" {
		t.Errorf("%d problems, %v", len(p), err)
	}
}

func TestLookupNeverReadsTargets(t *testing.T) {
	// D03: what stands in an address is compared with keys, never read.
	tab, _, err := Parse("f", "bob: |cmd\n@example.org: x\na@b.example: y\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, local := range []string{"|cmd", "/etc/passwd", ":include:/x", "~root/x", "bob: |cmd", "\"bob\"", "\\bob", "", "@example.org", "a@b.example", "bob\n", "bob,"} {
		if e, ok := tab.Lookup(local, ""); ok {
			t.Errorf("%q found %s", local, e.Key())
		}
	}
	if _, ok := tab.Lookup("x", "example.org"); ok {
		t.Error("a catch-all is found by its own key only")
	}
	var none *Table
	if _, ok := none.Lookup("bob", ""); ok || none.Len() != 0 {
		t.Error("nil table")
	}
	if _, ok := tab.Lookup(strings.Repeat("x", 100000), ""); ok {
		t.Error("long")
	}
}

func TestJoin(t *testing.T) {
	a, _, _ := Parse("a", "x: 1\ny: 2\n")
	b, _, _ := Parse("b", "z: 3\nY: 4\n")
	all, p := Join(a, nil, b)
	if len(p) != 1 || p[0].Error() != `b:2:1: "y" is a key in a:2 already; the first one holds` {
		t.Errorf("%v", p)
	}
	for key, want := range map[string]string{"x": "local 1", "y": "local 2", "z": "local 3"} {
		if got := targets(t, all, key); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v", key, got)
		}
	}
	n := 0
	for range all.Entries() {
		n++
	}
	if n != 4 || all.Len() != 4 {
		t.Errorf("%d entries", n)
	}
}

func TestD02_ListFile(t *testing.T) {
	list, p, err := ParseList("l", "# members\na@example.org, b@example.org # two\nCarol <c@example.org>\n|cmd\n/file\n\"|cmd\"\n:include:/other\nbad..x\n\"open\n\\d\n:fail: no, no\ne\n")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range list.Targets {
		got = append(got, fmt.Sprint(x.Pos.Line, " ", describe(x)))
	}
	want := []string{"2 address a@example.org", "2 address b@example.org", "3 address c@example.org", "4 bad", "5 bad", "6 bad", "7 include /other", "8 bad", "9 bad", "10 local! d", "11 fail no, no", "12 local e"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if len(p) != 6 { // five bad items, and the comment
		t.Errorf("%v", p)
	}
	if _, _, err := ParseList("l", "a\x00b"); err == nil {
		t.Error("NUL accepted")
	}
}

// million is an alias file of a million entries.
func million() string {
	var b strings.Builder
	b.Grow(48 << 20)
	for i := range 1_000_000 {
		fmt.Fprintf(&b, "user.number%d: mailbox%d@example.org\n", i, i)
	}
	return b.String()
}

func TestMillionEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	text := million()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	tab, p, err := Parse("f", text)
	took := time.Since(start)
	if err != nil || len(p) > 0 || tab.Len() != 1_000_000 {
		t.Fatal(err, p)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := (after.HeapAlloc - before.HeapAlloc) / 1_000_000; per > 48 {
		t.Errorf("%d octets an entry beside the text", per)
	}
	t.Logf("parsed in %v; %d KiB beside the text", took, (after.HeapAlloc-before.HeapAlloc)>>10)
	if got := targets(t, tab, "User.Number777777"); len(got) != 1 || got[0] != "address mailbox777777@example.org" {
		t.Error(got)
	}
	if n := testing.AllocsPerRun(100, func() { tab.Lookup("user.number4711", ""); tab.Lookup("User.Number4711", "example.org") }); n > 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

func TestLinear(t *testing.T) {
	// Each of these makes a careless parser look at everything again and again.
	for name, unit := range map[string]string{
		"continuations": "\n a,", "comments": "\n# x", "blank lines": "\n", "commas": ",", "backslashes": "\\\n",
		"quotes": "\"\",", "hashes": " #\n", "entries": "\nx: y", "open quotes": "\n\"", "angles": "<", "words": "a ", "words in lines": "\n a", "comment lines after entries": "\na: b\n#\n#",
	} {
		took := func(n int) time.Duration {
			text := "bob: a" + strings.Repeat(unit, n)
			best := time.Hour
			for range 3 {
				start := time.Now()
				Parse("f", text)
				best = min(best, time.Since(start))
			}
			return best
		}
		small, large := took(20_000), took(160_000)
		if large > 50*small+20*time.Millisecond {
			t.Errorf("%s: %v for 8 times the input that took %v", name, large, small)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"bob: carol\n", "a: b,\n c\\\nd # x\n", "\"a b\"@c.example: \"|x \\\" y\", /f/, :include: /x\n", "@a.example @b.example",
		"x: :fail: a, b\n", "y: \\y, error:450 z", "z: A <b@c>, \"q\" <d>", "#\n\\", "a\\\n: b", "a@[IPv6:::1] b", "é: ü@bücher.example\n", "a: \"\n#b\n \"", "a:\r\n\r\n b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tab, problems, err := Parse("f", text)
		ParseList("l", text)
		if err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		bad := 0
		for e := range tab.Entries() {
			key := e.Key()
			local, domain := key, ""
			if i := strings.LastIndexByte(key, '@'); i >= 0 {
				local, domain = key[:i], key[i+1:]
			}
			if got, ok := tab.Lookup(local, domain); !ok || got != e {
				t.Fatalf("key %q of line %d is not found", key, e.Pos().Line)
			}
			l := e.Targets()
			if len(l) == 0 {
				t.Fatalf("%q: no targets", key)
			}
			for _, x := range l {
				if x.Pos.Line < e.Pos().Line || int(x.Pos.Line) > lines || x.Pos.Col < 0 {
					t.Fatalf("%q: target at %v of %d lines", key, x.Pos, lines)
				}
				if strings.ContainsAny(x.Text+x.Addr.Local+x.Addr.Domain, "\n\r\x00") {
					t.Fatalf("%q: %q %q", key, x.Text, x.Addr)
				}
				switch x.Kind {
				case Bad:
					bad++
				case Local:
					if x.Addr.Local == "" || x.Addr.Domain != "" {
						t.Fatalf("%q: %+v", key, x)
					}
				case Address:
					if x.Addr.Local == "" && x.Addr.String() != `""@`+x.Addr.Domain || x.Addr.Domain == "" {
						t.Fatalf("%q: %+v", key, x)
					}
				}
			}
		}
		if bad > 0 && len(problems) == 0 {
			t.Fatal("a bad target and no problem")
		}
		for _, p := range problems {
			if strings.ContainsAny(p.Error(), "\n\r\x00") {
				t.Fatalf("%q", p.Error())
			}
		}
	})
}

func BenchmarkParseMillion(b *testing.B) {
	text := million()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		Parse("f", text)
	}
}

func BenchmarkLookup(b *testing.B) {
	tab, _, _ := Parse("f", million())
	b.ReportAllocs()
	for b.Loop() {
		tab.Lookup("user.number4711", "")
	}
}
