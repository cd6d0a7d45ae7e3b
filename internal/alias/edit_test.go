package alias

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// apply is one edit, written as a command: "add key¦target¦target", "remove key¦target", "rename old¦new".
func apply(text, command string) (string, bool, error) {
	verb, args, _ := strings.Cut(command, " ")
	a := strings.Split(args, "¦")
	switch verb {
	case "add":
		return Add("f", text, a[0], a[1:])
	case "remove":
		return Remove("f", text, a[0], a[1:])
	case "rename":
		return Rename("f", text, a[0], a[1])
	}
	panic(command)
}

func TestEdit(t *testing.T) {
	for _, tt := range []struct{ name, command, before, after string }{
		// A new entry.
		{"empty file", "add bob¦carol", "", "bob: carol\n"},
		{"end", "add bob¦carol¦dave@example.org", "x: y\n# end\n", "x: y\n# end\nbob: carol, dave@example.org\n"},
		{"no final newline", "add bob¦carol", "x: y", "x: y\nbob: carol\n"},
		{"crlf", "add bob¦carol", "x: y\r\n", "x: y\r\nbob: carol\r\n"},
		{"crlf, no final newline", "add bob¦carol", "v: w\r\nx: y", "v: w\r\nx: y\r\nbob: carol\r\n"},
		{"only comments", "add bob¦carol", "# none yet", "# none yet\nbob: carol\n"},
		{"after a backslash", "add bob¦carol", "x: y \\\n", "x: y \\\n\nbob: carol\n"},
		{"after a backslash that ends the file", "add bob¦carol", "x: y \\", "x: y \\\n\nbob: carol\n"},
		{"after a backslash and its line", "add bob¦carol", "x: y \\\n\n", "x: y \\\n\nbob: carol\n"},
		{"beside bad lines", "add bob¦carol", "a..b: c\nx: y\n  *\n", "a..b: c\nx: y\n  *\nbob: carol\n"},
		{"address", "add Sales@Example.org¦bob", "", "Sales@Example.org: bob\n"},
		{"command", "add bob¦|cmd", "# c", "# c\nbob: |cmd\n"},
		{"domain", "add @example.org¦@example.net", "", "@example.org: @example.net\n"},
		{"name to quote", "add john doe¦bob", "", "\"john doe\": bob\n"},
		{"address to quote", "add john doe@example.org¦bob", "", "\"john doe\"@example.org: bob\n"},
		{"quoted already", `add "john doe"@example.org¦bob`, "", "\"john doe\"@example.org: bob\n"},
		{"name with quote and backslash", `add a"\b¦bob`, "", `"a\"\\b": bob` + "\n"},
		{"name with colon", "add a:b¦bob", "", "\"a:b\": bob\n"},
		{"name that would be a comment", "add #x¦bob", "", "\"#x\": bob\n"},
		{"name with two dots", "add a..b¦bob", "", "\"a..b\": bob\n"},
		{"twice", "add bob¦carol¦CAROL", "", "bob: carol\n"},

		// One line.
		{"add", "add bob¦dave", "bob: carol\nx: y\n", "bob: carol, dave\nx: y\n"},
		{"add two", "add BOB¦dave¦erin", "bob: carol\n", "bob: carol, dave, erin\n"},
		{"some there", "add bob¦Carol¦dave¦e@EXAMPLE.org", "bob: carol, E@example.org\n", "bob: carol, E@example.org, dave\n"},
		{"no end", "add bob¦dave", "bob:carol", "bob:carol, dave"},
		{"before the comment", "add bob¦dave", "bob: carol # she\n", "bob: carol, dave # she\n"},
		{"behind a last comma", "add bob¦dave", "bob: carol,\n", "bob: carol, dave,\n"},
		{"comment after a last comma", "add bob¦dave", "bob: carol, # she\n", "bob: carol, dave, # she\n"},
		{"blanks at the end", "add bob¦dave", "bob:\tcarol \t\r\n", "bob:\tcarol, dave \t\r\n"},
		{"for nothing", "add bob¦dave", "bob:\nx: y\n", "bob: dave\nx: y\n"},
		{"for a comment", "add bob¦dave", "bob: # nobody\n", "bob: dave # nobody\n"},
		{"command before a comment", "add bob¦|cmd x¦|cmd y", "bob: a # b\n", "bob: a, |cmd x, \"|cmd y\" # b\n"},
		{"command below a comment", "add bob¦|cmd", "bob:\n  a # b\n", "bob:\n  a, # b\n  |cmd\n"},
		{"text before a comment", "add bob¦:fail: no, never", "bob: # b\n", "bob: \":fail: no, never\" # b\n"},
		{"no colon, for a comment", "add b@example.org¦dave", "b@example.org # nobody\nx: y\n", "b@example.org dave # nobody\nx: y\n"},
		{"without commas", "add a@b.example¦x", "a@b.example c d\n", "a@b.example c d, x\n"},
		{"the first of two", "add bob¦dave", "bob: a\nBob: b\n", "bob: a, dave\nBob: b\n"},
		{"backslash", "add bob¦dave", "bob: carol \\\n\nx: y\n", "bob: carol, dave \\\n\nx: y\n"},
		{"final is another", `add bob¦\bob`, "bob: bob\n", "bob: bob, \\bob\n"},
		{"beside a bad one", "add bob¦dave", "bob: a@b@c\nx: y\n", "bob: a@b@c, dave\nx: y\n"},

		// More lines.
		{"a line", "add bob¦dave", "bob: a,\n\t  b\nx: y\n", "bob: a,\n\t  b,\n\t  dave\nx: y\n"},
		{"lines", "add bob¦d¦e", "bob:\n  a,\n  b\n", "bob:\n  a,\n  b,\n  d,\n  e\n"},
		{"lines crlf", "add bob¦d", "bob: a,\r\n  b\r\nx: y\r\n", "bob: a,\r\n  b,\r\n  d\r\nx: y\r\n"},
		{"line without end", "add bob¦d", "bob: a,\n  b", "bob: a,\n  b,\n  d"},
		{"line with comma", "add bob¦d", "bob: a,\n  b,\n", "bob: a,\n  b,\n  d\n"},
		{"line with comment", "add bob¦d", "bob: a, # one\n  b # two\n", "bob: a, # one\n  b, # two\n  d\n"},
		{"comma and comment", "add bob¦d", "bob: a, # one\n  b, # two\n", "bob: a, # one\n  b, # two\n  d\n"},
		{"comments between", "add bob¦d", "bob: a,\n# c\n\n  b\n\n# next\nx: y\n", "bob: a,\n# c\n\n  b,\n  d\n\n# next\nx: y\n"},
		{"filled lines", "add bob¦d", "bob: a, b,\n  c\n", "bob: a, b,\n  c, d\n"},
		{"backslashes", "add bob¦d", "bob: a, \\\nb\nx: y\n", "bob: a, \\\nb, \\\nd\nx: y\n"},
		{"lines without commas", "add bob@example.org¦d", "bob@example.org\n  a\n  b\n", "bob@example.org\n  a\n  b,\n  d\n"},

		// Targets as they must be written.
		{"command", "add bob¦|/bin/cmd a", "", "bob: |/bin/cmd a\n"},
		{"command with comma", "add bob¦|/bin/cmd a,b", "", "bob: \"|/bin/cmd a,b\"\n"},
		{"command with quotes", `add bob¦|/bin/cmd "a", b`, "", `bob: "|/bin/cmd \"a\", b"` + "\n"},
		{"command that is quoted", `add bob¦"|/bin/cmd a, b"`, "", `bob: "|/bin/cmd a, b"` + "\n"},
		{"command with hash", "add bob¦|/bin/cmd #1", "", "bob: |/bin/cmd #1\n"},
		{"command with open quote", `add bob¦|/bin/cmd "a`, "", `bob: "|/bin/cmd \"a"` + "\n"},
		{"command with backslash at the end", `add bob¦|/bin/cmd \`, "", `bob: "|/bin/cmd \\"` + "\n"},
		{"file with hash", "add bob¦/var/a #1", "", "bob: \"/var/a #1\"\n"},
		{"file with blank at the end", "add bob¦/var/a ", "", "bob: \"/var/a \"\n"},
		{"file with comma", "add bob¦/var/a,b/¦x", "", "bob: \"/var/a,b/\", x\n"},
		{"file with angle", "add bob¦/var/a<b¦x", "", "bob: \"/var/a<b\", x\n"},
		{"file with backslash at the end", `add bob¦/var/a\`, "", `bob: "/var/a\\"` + "\n"},
		{"include", "add bob¦:include:/x y", "", "bob: :include:/x y\n"},
		{"final", `add bob¦\bob`, "", "bob: \\bob\n"},
		{"name with blank", `add bob¦"john doe"¦"john doe"@example.org`, "", `bob: "john doe", "john doe"@example.org` + "\n"},
		{"name with hash", "add bob¦#x", "", "bob: \"#x\"\n"},
		{"phrase", "add bob¦Carol C. <carol@example.org>¦x", "", "bob: Carol C. <carol@example.org>, x\n"},
		{"quoted phrase", `add bob¦"Carol, C." <carol@example.org>¦x`, "", `bob: "Carol, C." <carol@example.org>, x` + "\n"},
		{"fail", "add bob¦:fail: gone, for good # really", "", "bob: :fail: gone, for good # really\n"},
		{"error", "add bob¦error:550 no", "bob:\n", "bob: error:550 no\n"},

		// A target goes.
		{"first", "remove bob¦a", "bob: a, b, c\n", "bob: b, c\n"},
		{"middle", "remove bob¦b", "bob: a, b, c\n", "bob: a, c\n"},
		{"last", "remove bob¦c", "bob: a, b, c\n", "bob: a, b\n"},
		{"last, without end", "remove bob¦c", "bob: a, b ,c", "bob: a, b"},
		{"two", "remove bob¦b¦d", "bob: a, b, c, d # x\n", "bob: a, c # x\n"},
		{"two side by side", "remove bob¦c¦b", "bob: a, b, c, d\n", "bob: a, d\n"},
		{"each of two that are the same", "remove bob¦B", "bob: b, a, B\n", "bob: a\n"},
		{"last comma", "remove bob¦b", "bob: a, b,\n", "bob: a,\n"},
		{"by what it means", `remove bob¦|cmd a,b¦x@EXAMPLE.org`, `bob: "|cmd a,b", c, X <x@example.org>` + "\n", "bob: c\n"},
		{"first line", "remove bob¦a", "bob: a,\n  b,\n  c\n", "bob: b,\n  c\n"},
		{"middle line", "remove bob¦b", "bob: a,\n  b,\n  c\n", "bob: a,\n  c\n"},
		{"last line", "remove bob¦c", "bob: a,\n  b,\n  c\nx: y\n", "bob: a,\n  b\nx: y\n"},
		{"last line, crlf", "remove bob¦c", "bob: a,\r\n  b,\r\n  c\r\nx: y\r\n", "bob: a,\r\n  b\r\nx: y\r\n"},
		{"lines under the key", "remove bob¦a¦c", "bob:\n  a,\n  b,\n  c", "bob:\n  b"},
		{"comment of the first", "remove bob¦a", "bob: a, # one\n  b # two\n", "bob: # one\n  b # two\n"},
		{"comment of the middle", "remove bob¦b", "bob: a, # one\n  b, # two\n  c\n", "bob: a, # one\n  # two\n  c\n"},
		{"comment of the last", "remove bob¦c", "bob: a,\n  b, # two\n  c # three\nx: y\n", "bob: a,\n  b, # two\n  # three\nx: y\n"},
		{"last, after a comment", "remove bob¦b", "bob: a, # one\n  b\nx: y\n", "bob: a, # one\nx: y\n"},
		{"comment lines", "remove bob¦a¦c", "bob: a,\n# one\n  b,\n  # two\n\n  c\nx: y\n", "bob:\n# one\n  b\n  # two\n\nx: y\n"},
		{"comment lines, crlf", "remove bob¦a¦c", "bob: a,\r\n# one\r\n  b,\r\n# two\r\n  c", "bob:\r\n# one\r\n  b\r\n# two\r\n"},
		{"line before a comment line", "remove bob¦b", "bob: a,\n  b,\n# two\n  c\n", "bob: a,\n# two\n  c\n"},
		{"comment of a last line", "remove bob¦b", "bob: a,\n  b # two\nx: y\n", "bob: a\n  # two\nx: y\n"},
		{"two lines with comments", "remove bob¦b¦c", "bob: a,\n  b, # two\n# x\n  c,\n# y\n", "bob: a\n  # two\n# x\n# y\n"},
		{"backslashes, first", "remove bob¦a", "bob: a, \\\nb, \\\nc\nx: y\n", "bob: b, \\\nc\nx: y\n"},
		{"backslashes, middle", "remove bob¦b", "bob: a, \\\nb, \\\nc\nx: y\n", "bob: a, \\\nc\nx: y\n"},
		{"backslashes, last", "remove bob¦c", "bob: a, \\\nb, \\\nc\nx: y\n", "bob: a, \\\nb\nx: y\n"},
		{"words", "remove a@b.example¦d", "a@b.example c d e\n", "a@b.example c e\n"},
		{"words and a comma", "remove bob¦b", "bob: a b, |c d\n", "bob: a, |c d\n"},
		{"word before the comma goes with it", "remove bob¦|c d", "bob: a b, |c d\n", "bob: a b\n"},
		{"blanks elsewhere", "remove bob¦a", "bob : a , b \t\n", "bob : b \t\n"},
		{"beside a bad one, too", "remove bob¦b", "bob: a@b@c, b\nx: y\n", "bob: a@b@c\nx: y\n"},

		// An entry goes.
		{"entry", "remove bob", "# of bob\n\nbob: a, b # both\n\n# of x\nx: y\n", "# of bob\n\n\n# of x\nx: y\n"},
		{"only entry", "remove bob¦a", "bob: a", ""},
		{"all targets", "remove bob¦b¦a", "w: x\nbob: a,\n  b\nx: y\n", "w: x\nx: y\n"},
		{"entry and comments", "remove bob", "w: x\nbob: a, # gone\n# one\n\n  b,\n  # two\n  c\nx: y\n", "w: x\n# one\n\n  # two\nx: y\n"},
		{"entry with backslashes", "remove bob", "bob: a, \\\nb, \\\n# c \\\n\nx: y\n", "x: y\n"},
		{"entry for nothing", "remove bob", "bob:\nx: y\n", "x: y\n"},
		{"last of the file", "remove bob", "x: y\r\nbob: a", "x: y\r\n"},

		// A key.
		{"rename", "rename bob¦carol", "# b\nbob : a,\n  b # c\n", "# b\ncarol : a,\n  b # c\n"},
		{"rename to quoted", "rename bob¦john doe", "bob:a\n", "\"john doe\":a\n"},
		{"rename from quoted", "rename john doe@example.org¦bob", "\"john doe\"@Example.org: a\n", "bob: a\n"},
		{"rename a literal", "rename bob@[IPv6:::1]¦bob", "bob@[IPv6:::1] a\n", "bob: a\n"},
		{"rename without colon", "rename a@example.org¦@example.org", "a@example.org  a b\n", "@example.org  a b\n"},
		{"a name wants a colon", "rename a@example.org¦bob", "a@example.org  :include:/x\n", "bob:  :include:/x\n"},
		{"spelling", "rename bob¦Bob", "bob: a\n", "Bob: a\n"},
		{"rename what is bad", "rename bob¦carol", "bob:\nx: a..b\n", "carol:\nx: a..b\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, changed, err := apply(tt.before, tt.command)
			if err != nil {
				t.Fatal(err)
			}
			if out != tt.after || !changed {
				t.Errorf("%s, changed %v\nbefore %q\ngot    %q\nwant   %q", tt.command, changed, tt.before, out, tt.after)
			}
			checkEdit(t, tt.before, tt.command)
		})
	}
}

func TestEditIsRefused(t *testing.T) {
	for _, tt := range []struct {
		command, text, want string
		is                  error
	}{
		{"remove bob", "x: y\n", `f: "bob": no such entry`, ErrNoEntry},
		{"remove bob¦a", "", `f: "bob": no such entry`, ErrNoEntry},
		{"remove bob¦a¦c", "bob: a, b\n", `f: "bob": no such target: "c"`, ErrNoTarget},
		{"remove bob¦\\a", "bob: a, b\n", `f: "bob": no such target: "\a"`, ErrNoTarget},
		{"rename bob¦carol", "x: y\n", `f: "bob": no such entry`, ErrNoEntry},
		{"rename bob¦X", "x: y\nbob: z\n", `f: "x": an entry already`, ErrExists},
		{"remove bob", "bob: a\nx: y\nbob: b\n", `f: "bob" stands in line 3 again, and that entry would hold then`, nil},
		{"remove bob¦a¦b", "bob: a,\n# c\n b\nx: y\nbob: b\n", `f: "bob" stands in line 5 again, and that entry would hold then`, nil},
		{"rename bob¦carol", "bob: a\nbob: b\n", `f: "bob" stands in line 2 again, and that entry would hold then`, nil},
		{"add bob", "bob: a\n", `f: "bob": no target to add`, nil},
		{"add bob¦a b", "", `f: target "a b": not a name`, nil},
		{"add bob¦a, b", "", `f: target "a, b": not a name`, nil},
		{"add bob¦a@b@c", "", `f: target "a@b@c": syntax error in address`, nil},
		{"add bob¦", "", `f: target "": an empty item`, nil},
		{"add bob¦a\nroot: mallory", "", `f: target "a?root: mallory": a control character`, nil},
		{"add bob¦|a\x00", "", `f: target "|a?": a control character`, nil},
		{"add bob¦/a\r", "", `f: target "/a?": a control character`, nil},
		{"add bob¦j\xe9r", "", "f: target \"j\xe9r\": not UTF-8", nil},
		{"add bob¦:include:x", "", `f: target ":include:x": :include: needs an absolute path`, nil},
		{"add ¦a", "", `f: key "": an entry without a name`, nil},
		{"add a\nb¦a", "", `f: key "a?b": a control character`, nil},
		{"add *¦a", "", `f: key "*": a key of * has no meaning: write @domain for every other address of a domain`, nil},
		{"add a@-b¦a", "", `f: key "a@-b": syntax error in domain of address`, nil},
		{"add @¦a", "", `f: key "@": syntax error in domain of address`, nil},
		{"rename bob¦@-", "bob: a\n", `f: key "@-": syntax error in domain of address`, nil},
		{"add bob¦:fail: gone", "bob: a\n", `f: "bob": the text of a fail or defer takes the rest of an entry and stands in it alone`, nil},
		{"add bob¦a", "bob: error:450 later\n", `f: "bob": the text of a fail or defer takes the rest of an entry and stands in it alone`, nil},
		{"add bob¦a¦:defer:", "", `f: "bob": the text of a fail or defer takes the rest of an entry and stands in it alone`, nil},
		{"add bob¦a", "x: y\x00", "f:1: NUL: this is not a text file", nil},
		{"add bob¦a", "*: y\n", "f:1:1: a key of * has no meaning: write @domain for every other address of a domain (and there is no good entry)", nil},
		{"remove bob", "a..b: x\nbob: y\n", `f:1:1: not a name: "a..b" (and there is no good entry)`, nil},
		{"add bob¦b", "bob: \"a\nx: y\n", `f: "bob": cannot be edited without a change of what else the file means; do it by hand`, nil},
		{"add bob¦" + strings.Repeat("|", MaxLine), "bob: a\n", "f:1: a line longer than 1048576 octets", nil},
	} {
		out, changed, err := apply(tt.text, tt.command)
		if err == nil || err.Error() != tt.want || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%.80q on %q: %v\nwant %s", tt.command, tt.text, err, tt.want)
		}
		if out != tt.text || changed {
			t.Errorf("%.80q on %q: made %q", tt.command, tt.text, out)
		}
	}
}

func TestEditChangesNothing(t *testing.T) {
	for _, tt := range []struct{ command, text string }{
		{"add bob¦carol¦A@Example.org", "bob: a@example.org,\n # c\n Carol"},
		{"add bob¦|a,b", "bob: \"|a,b\"\n"},
		{"add bob¦:fail: x", "bob: :FAIL:  x\n"},
		{"rename bob¦bob", "bob: a\n"},
	} {
		if out, changed, err := apply(tt.text, tt.command); out != tt.text || changed || err != nil {
			t.Errorf("%s: %q, %v, %v", tt.command, out, changed, err)
		}
	}
}

func TestEditIsLinear(t *testing.T) {
	for name, unit := range map[string]string{
		"entries": "\nx%d: y", "targets": ", t%d", "lines": ",\n  t%d", "comments": ",\n# c\n  t%d # c", "words": " t%d", "backslashes": ", \\\nt%d", "repeated": ", z",
	} {
		took := func(n int) time.Duration {
			var b strings.Builder
			b.WriteString("bob: a")
			var some []string
			for i := range n {
				if strings.Contains(unit, "%d") {
					fmt.Fprintf(&b, unit, i)
				} else {
					b.WriteString(unit)
				}
				if i%2 == 0 && strings.Contains(unit, "t%d") {
					some = append(some, fmt.Sprint("t", i))
				}
			}
			text := b.String() + "\n"
			best := time.Hour
			for range 3 {
				start := time.Now()
				added, _, err := Add("f", text, "bob", append(some, "n1", "n2"))
				if err != nil {
					t.Fatal(name, err)
				}
				if _, _, err := Remove("f", added, "bob", append(some, "n1")); err != nil {
					t.Fatal(name, err)
				}
				if _, _, err := Rename("f", text, "bob", "carol"); err != nil {
					t.Fatal(name, err)
				}
				best = min(best, time.Since(start))
			}
			return best
		}
		small, large := took(2_500), took(20_000)
		if large > 50*small+20*time.Millisecond {
			t.Errorf("%s: %v for 8 times the input that took %v", name, large, small)
		}
	}
}
