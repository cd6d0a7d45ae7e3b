package transcript

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
		id            string
	}{
		{"250 *", "250 ok", true, ""},
		{"250 *", "250 ", true, ""},
		{"250 *", "250", false, ""},
		{"250 2.0.0 * queued as $id", "250 2.0.0 Ok: queued as abc", true, "abc"},
		{"$id;*", "abc; x", true, "abc"},
		{"$id $id", "a b", false, ""},
		{"$id $id", "a a", true, "a"},
		{`\* 2 *`, "* 2 EXISTS", true, ""},
		{`\* 2 *`, "x 2 EXISTS", false, ""},
		{"", "", true, ""},
		{"", "x", false, ""},
		{"a*b*c", "aXbXbc", true, ""},
		{"$5", "$5", true, ""},
	} {
		n := make(Names)
		if got := n.Match(c.pattern, c.text); got != c.want || n["id"] != c.id {
			t.Errorf("%q matches %q: %v, id %q", c.pattern, c.text, got, n["id"])
		}
	}
}

func TestSubst(t *testing.T) {
	n := Names{"id": "X"}
	if got := n.Subst("a $id $other $ $id."); got != "a X $other $ X." {
		t.Errorf("%q", got)
	}
}

func TestBadScripts(t *testing.T) {
	for in, want := range map[string]string{
		"x":             "1: not a step",
		"# a\nC% x":     "2: not a step",
		"C. dance":      "no action",
		"S. close":      "the client's",
		`C= \q`:         "no escape",
		`C= \x1`:        "two hex digits",
		"C*x y":         "want C*N",
		"S= y":          "not a step",
		"C: x\nset: y":  "2: not a step",
		"C= trailing\\": "backslash",
	} {
		if _, err := Parse("t", in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

// echo is a server that answers each line with what is said of it.
type echo struct {
	t       *testing.T
	replies map[string]string
	titles  []string
}

func (e *echo) Dial(string) (net.Conn, error) {
	a, b := net.Pipe()
	go func() {
		defer b.Close()
		io.WriteString(b, "220 hello\r\n")
		buf := make([]byte, 4096)
		var in string
		for {
			n, err := b.Read(buf)
			if err != nil {
				return
			}
			in += string(buf[:n])
			for {
				l, rest, ok := strings.Cut(in, "\r\n")
				if !ok {
					break
				}
				in = rest
				if l == "QUIT" {
					return
				}
				io.WriteString(b, e.replies[l])
			}
		}
	}()
	return a, nil
}

func (e *echo) Check(title string, block []string, n Names) error {
	e.titles = append(e.titles, title)
	if title == "wrong" {
		return fmt.Errorf("wrong indeed")
	}
	return n.SameLines([]string{"one", "", "two"}, block)
}

func TestRun(t *testing.T) {
	e := &echo{t: t, replies: map[string]string{
		"EHLO": "250-a\r\n250-b\r\n250-c\r\n250 d\r\n",
		"ID":   "250 id=77\r\n",
		"77":   "250 again 77\r\n",
		"BARE": "250 x\n",
		"DUMB": "250",
	}}
	for name, c := range map[string]struct{ in, err string }{
		"good":            {"S: 220 *\nC: EHLO\nS: 250-*\nS: 250-b\nS: 250-*\nS: 250 d\nC: ID\nS: 250 id=$id\nC: $id\nS: 250 again $id\nC: QUIT\nS. closed", ""},
		"pipelined":       {"S: 220 *\nC: ID\nC= ID\\r\\n\nC*2 ID\\r\\n\nS: 250 *\nS*3 250 *", ""},
		"missing in many": {"S: 220 *\nC: EHLO\nS: 250-*\nS: 250-x\nS: 250 d", `got "250 d", want "250-x"`},
		"wrong line":      {"S: 221 *", `t:1: got "220 hello", want "221 *"`},
		"unexpected":      {"S: 220 *\nC: EHLO\nS: 250-a\nS: 250 d", `got "250-b"`},
		"forbidden":       {"S: 220 *\nC: EHLO\nS! 250-c\nS: 250-*\nS: 250 d", "must not be seen"},
		"forbidden last":  {"S: 220 *\nC: EHLO\nS! 250 d\nS: 250-*\nS: 250 *", "must not be seen"},
		"allowed again":   {"S: 220 *\nC: ID\nS! 250 again*\nS: 250 id=$id\nC: 77\nS: 250 *", ""},
		"not closed":      {"S: 220 *\nS. closed", "want the connection closed"},
		"talks, closed":   {"S. closed", `got "220 hello", want the connection closed`},
		"bare LF":         {"S: 220 *\nC: BARE\nS: 250 x", "CR LF"},
		"half a line":     {"S: 220 *\nC: DUMB\nC: QUIT\nS: 250", "has no end"},
		"block":           {"-- look --\none\n\ntwo\n-- end --\nS: 220 *", ""},
		"block differs":   {"-- look --\none\n", `line 2 is too many`},
		"check fails":     {"-- wrong --", "wrong indeed"},
		"check a line":    {"S: 220 *\n== wrong\nS: 221 *", "t:2: wrong indeed"},
		"two sessions":    {"A< 220 *\nB< 220 *\nB: ID\nB< 250 *\nA: ID\nA< 250 *", ""},
		"dial":            {"S: 220 *\nC. close\nC. dial\nS: 220 *", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse("t", c.in)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Run(e, Options{Wait: 300 * time.Millisecond})
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

// A server of IMAP says more than it is asked.
func TestIMAP(t *testing.T) {
	e := &echo{t: t, replies: map[string]string{
		"a1 FETCH": "* 2 EXISTS\r\n* 1 FETCH (BODY[] {9}\r\na1 OK x\r\n X {2}\r\nab)\r\n* 3 FETCH (UID 7)\r\na1 OK done\r\n",
		"a2 NOOP":  "* 12 EXPUNGE\r\nx 2 EXPUNGE\r\na2 OK done\r\n",
		"a3 NOOP":  "* 2 EXPUNGE\r\na3 OK done\r\n",
	}}
	const fetch = "S: 220 *\nC: a1 FETCH\n"
	for name, c := range map[string]struct{ in, err string }{
		"others are ignored":   {fetch + "S: * 3 FETCH (UID $u3)\nS: a1 OK *", ""},
		"with their literals":  {fetch + "S: a1 OK *", ""},
		"strict":               {"strict: yes\n" + fetch + "S: a1 OK *", `got "* 2 EXISTS"`},
		"one that is missing":  {fetch + "S: * 4 FETCH *\nS: a1 OK *", `got "a1 OK done", want`},
		"in their order":       {fetch + "S: * 3 FETCH *\nS: * 2 EXISTS\nS: a1 OK *", `got "a1 OK done", want`},
		"forbidden":            {"S: 220 *\nC: a3 NOOP\nS! * 2 EXPUNGE\nS: a3 OK *", "must not be seen"},
		"a star is a star":     {"S: 220 *\nC: a2 NOOP\nS! * 2 EXPUNGE\nS: x 2 EXPUNGE\nS: a2 OK *", ""},
		"others' tags are not": {"S: 220 *\nC: a2 NOOP\nS: a2 OK *", `got "x 2 EXPUNGE"`},
		"two sessions":         {"A< 220 *\nB< 220 *\nA: a3 NOOP\nB: a1 FETCH\nB! * 2 EXPUNGE\nB< a1 OK *\nA< * 2 EXPUNGE\nA< a3 OK *", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse("t.imap", c.in)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Run(e, Options{Wait: 300 * time.Millisecond})
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

func TestHead(t *testing.T) {
	s, err := Parse("t", "# c\nset: a\nset: b c\nS: 1\nC: x\nC= y\\n\nA: z")
	if err != nil {
		t.Fatal(err)
	}
	if s.Value("set") != "b c" || len(s.Head) != 2 || s.Value("none") != "" {
		t.Errorf("head %v", s.Head)
	}
	if got := string(s.Input("C")); got != "x\r\ny\n" {
		t.Errorf("input %q", got)
	}
}
