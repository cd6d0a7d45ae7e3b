package imap

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// commands are what a session pulls for each command. Here, every production is pulled by one.
var commands = map[string]func(*Decoder){
	"LOGIN":        func(d *Decoder) { d.SP().AString(); d.SP().AString() },
	"AUTHENTICATE": func(d *Decoder) { d.SP().Keyword(); d.InitialResponse() },
	"SELECT":       func(d *Decoder) { d.SP().Mailbox(); d.SelectParams() },
	"CREATE":       func(d *Decoder) { d.SP().Mailbox(); d.CreateParams() },
	"LIST":         func(d *Decoder) { d.SP().ListCommand() },
	"STATUS":       func(d *Decoder) { d.SP().Mailbox(); d.SP().StatusItems() },
	"APPEND":       func(d *Decoder) { appended(d.SP()) },
	"REPLACE":      func(d *Decoder) { d.SP().SeqNumber(); appended(d.SP()) },
	"FETCH":        func(d *Decoder) { d.SP().NumSet(); d.SP().Fetch() },
	"STORE":        func(d *Decoder) { d.SP().NumSet(); d.SP().Store() },
	"COPY":         func(d *Decoder) { d.SP().NumSet(); d.SP().Mailbox() },
	"SEARCH":       func(d *Decoder) { d.SearchReturn(); d.SP().SearchProgram() },
	"ESEARCH":      func(d *Decoder) { d.SearchSource(); d.SearchReturn(); d.SP().SearchProgram() },
	"SORT":         func(d *Decoder) { d.SearchReturn(); d.SP().SortKeys(); d.SP().Charset(); d.SP().SearchKeys() },
	"THREAD":       func(d *Decoder) { d.SP().Keyword(); d.SP().Charset(); d.SP().SearchKeys() },
	"NOTIFY":       func(d *Decoder) { d.SP().Notify() },
	"GETMETADATA":  func(d *Decoder) { d.SP().GetMetadata() },
	"SETMETADATA":  func(d *Decoder) { d.SP().Mailbox(); d.SP().EntryValues() },
	"ID":           func(d *Decoder) { d.SP().ID() },
	"SETQUOTA":     func(d *Decoder) { d.SP().AString(); d.SP().QuotaLimits() },
	"SETACL":       func(d *Decoder) { d.SP().Mailbox(); d.SP().AString(); d.SP().AString() },
	"ENABLE": func(d *Decoder) {
		for d.More() {
			d.SP().Keyword()
		}
	},
	"NOOP": func(d *Decoder) {},
}

// converse reads commands as a session does, until one of them ends it; results are the statuses of the commands, by their tags.
func converse(t testing.TB, c *Conn) (results []string, err error) {
	for {
		cmd, d, err := c.ReadCommand()
		if err == nil {
			if read := commands[cmd.Name]; read != nil {
				read(d)
				err = d.End()
			} else {
				err = Bad("unknown command")
			}
		}
		var s *Status
		switch {
		case err == nil:
			s = OK("", "")
		case !errors.As(err, &s):
			return results, err
		}
		if s.Condition != ConditionOK && s.Condition != ConditionNO && s.Condition != ConditionBAD {
			t.Fatalf("%v", s)
		}
		c.WriteStatus(cmd.Tag, s)
		results = append(results, cmd.Tag+" "+s.Condition)
	}
}

// I03: nothing nests deeper than the limit, and what tries costs no more than its octets.
func TestI03_Parentheses(t *testing.T) {
	open := strings.Repeat("(", 1<<16)
	var before, after runtime.MemStats
	for _, limits := range []Limits{BeforeLogin(), AfterLogin(50 << 20)} {
		line := limits.Line - 200
		for name := range commands {
			for _, args := range []string{"", " 1", " x", ` "" `, " UTF-8", " x UTF-8", " 1 x", " SET", " SET (selected", " (ALL) UTF-8", " ALL", " RETURN", " NOT", " OR"} {
				c, _ := receive("a "+name+args+" "+open[:line]+"\r\nb NOOP\r\n", 0)
				c.Limits = limits
				runtime.ReadMemStats(&before)
				began := time.Now()
				results, err := converse(t, c)
				took := time.Since(began)
				runtime.ReadMemStats(&after)
				if got := strings.Join(results, ","); got != "a BAD,b OK" && got != "a NO,b OK" || err != io.EOF {
					t.Errorf("%s%s: %v, %v", name, args, results, err)
				}
				if n := after.TotalAlloc - before.TotalAlloc; n > 500_000 || took > time.Second {
					t.Errorf("%s%s: %d octets allocated in %v", name, args, n, took)
				}
			}
		}
	}
	// As much as a line can be is no more: a million is a line without end.
	c, _ := receive("a SEARCH "+strings.Repeat("(", 1_000_000)+"\r\nb NOOP\r\n", 0)
	if results, err := converse(t, c); results != nil || !errors.Is(err, ErrLineTooLong) {
		t.Errorf("%v, %v", results, err)
	}
}

// I04: a search costs what its octets cost, however it is built.
func TestI04_Search(t *testing.T) {
	for _, x := range []struct{ args, want string }{
		{strings.Repeat("NOT ", 100) + "ALL", "OK"},
		{strings.Repeat("NOT ", 16_000) + "ALL", "BAD"},
		{strings.Repeat("FUZZY ", 10_000) + "ALL", "BAD"},
		{strings.Repeat("OR ALL ", 900) + "ALL", "OK"},
		{strings.Repeat("OR ALL ", 9_000) + "ALL", "BAD"},
		{strings.Repeat("OR ", 90) + strings.Repeat("ALL ", 90) + "ALL", "OK"},
		{strings.Repeat("OR ", 101) + strings.Repeat("ALL ", 101) + "ALL", "BAD"},
		{strings.Repeat("(", 100) + "ALL" + strings.Repeat(")", 100), "OK"},
		{strings.Repeat("(", 101) + "ALL" + strings.Repeat(")", 101), "BAD"},
		{strings.Repeat("(1) ", 900) + "ALL", "OK"},
		{strings.Repeat("OR 1 1 ", 500) + "ALL", "OK"},
		{strings.Repeat("OR ", 10_000) + strings.Repeat("ALL ", 8_000) + "ALL", "BAD"},
		{strings.Repeat("OR NOT ", 9_000) + "ALL", "BAD"},
		{strings.Repeat("OR (", 16_000), "BAD"},
		{strings.Repeat("NOT (", 90) + "ALL" + strings.Repeat(")", 90), "OK"},
		{strings.Repeat("NOT (", 13_000) + "ALL", "BAD"},
		{strings.Repeat("ALL ", 1_900) + "ALL", "OK"},
		{strings.Repeat("1 ", 30_000) + "ALL", "BAD"},
		{strings.Repeat("(1) ", 16_000) + "ALL", "BAD"},
		{"(" + strings.Repeat("1 ", 30_000) + "ALL)", "BAD"},
		{strings.Repeat("OR ALL TEXT {10+}\r\n0123456789 ", 100_000) + "ALL", "BAD"},
	} {
		var before, after runtime.MemStats
		c, _ := receive("a SEARCH "+x.args+"\r\n", 0)
		c.Limits.Discard = 1 << 30
		runtime.ReadMemStats(&before)
		began := time.Now()
		results, err := converse(t, c)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if len(results) != 1 || results[0] != "a "+x.want || err != io.EOF {
			t.Errorf("%.30q: %v, %v", x.args, results, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 || took > time.Second { // most of it for the literals that are dropped, one after the other
			t.Errorf("%.30q: %d octets allocated in %v", x.args, n, took)
		}
	}
}

// I05: a thousand ranges over everything are read, and cost nothing.
func TestI05_Fetch(t *testing.T) {
	c, _ := receive(strings.Repeat("a UID FETCH 1:* FLAGS\r\nb FETCH 1:4294967295,4294967295:1,*:1 ALL\r\n", 1000)+"c FETCH "+strings.Repeat("4294967295,1,", 5000)+"1:* ALL\r\nd FETCH 0 ALL\r\n", 0)
	began := time.Now()
	results, err := converse(t, c)
	if len(results) != 2002 || results[0] != "a OK" || results[1] != "b OK" || results[2000] != "c OK" || results[2001] != "d BAD" || err != io.EOF {
		t.Errorf("%d, %v", len(results), err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("%v", took)
	}
}

// Whatever a client sends, each command is answered once, nothing it sent is in an answer, and it does not matter how its octets are cut.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		"a LOGIN {5}\r\nalice \"p\\\"w\"\r\nb NOOP\r\n", "a AUTHENTICATE PLAIN AGEAYg==\r\n", "a SELECT INBOX (QRESYNC (1 2 3:4 (5 6)) CONDSTORE)\r\n", "a CREATE x (USE (\\Sent))\r\n",
		"a LIST (SUBSCRIBED) \"\" (\"*\" %) RETURN (CHILDREN STATUS (MESSAGES))\r\n", "a STATUS x (MESSAGES)\r\n", "a APPEND x (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {3+}\r\nabc ~{1}\r\nd\r\n",
		"a APPEND x CATENATE (URL \"/x\" TEXT {2+}\r\nab UTF8 (~{1+}\r\nc))\r\n", "a UID REPLACE 5 x UTF8 (~{2+}\r\nab)\r\n", "a FETCH 1:*,$ (FLAGS BODY.PEEK[1.HEADER.FIELDS (To)]<0.5>) (CHANGEDSINCE 5 VANISHED)\r\n",
		"a STORE 2:4 (UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Deleted $X)\r\n", "a UID SEARCH RETURN (MIN PARTIAL -1:-5) CHARSET UTF-8 OR NOT (TEXT {1}\r\nx SINCE 1-Feb-1994) MODSEQ \"/flags/\\\\draft\" all 5\r\n",
		"a ESEARCH IN (mailboxes (a b) subtree c) ALL\r\n", "a SORT (REVERSE DATE SUBJECT) UTF-8 ALL\r\n", "a THREAD REFERENCES UTF-8 FUZZY ALL\r\n", "a NOTIFY SET STATUS (selected (MessageNew (UID) MessageExpunge)) (personal NONE)\r\n",
		"a GETMETADATA (DEPTH 1 MAXSIZE 5) x (/a /b)\r\n", "a SETMETADATA x (/a NIL /b ~{1+}\r\n\x00)\r\n", "a ID (\"name\" NIL)\r\n", "a SETQUOTA \"\" (STORAGE 5)\r\n", "a SETACL x y +lr\r\n", "a ENABLE UTF8=ACCEPT IMAP4rev2\r\n",
		"a X\x00 {5+}\r\n12345\r\nb NOOP\r\n", "a {99999999999999999999+}\r\n", "\r\n\r\n \r\n", "* OK\r\n", "a LOGIN \"ä\" \"\\", "a FETCH 1 BODY[",
	} {
		f.Add(s, true, uint8(0))
		f.Add(s, false, uint8(3))
	}
	f.Fuzz(func(t *testing.T, in string, utf8 bool, step uint8) {
		m := Mode(0)
		if utf8 {
			m = UTF8
		}
		var first string
		for i, step := range []int{0, int(step) + 1} {
			c, w := receive(in, m)
			w.step = step
			results, err := converse(t, c)
			c.Flush()
			out := w.out.String()
			lines := strings.Split(strings.TrimSuffix(out, "\r\n"), "\r\n")
			answers := 0
			for _, l := range lines {
				if l == "" && out == "" {
					continue
				}
				if strings.ContainsAny(l, "\r\n\x00") {
					t.Errorf("%q: %q", in, l)
				}
				if l != "+ OK" {
					answers++
					if tag, rest, _ := strings.Cut(l, " "); tag == "" || !strings.HasPrefix(rest, "OK ") && !strings.HasPrefix(rest, "NO ") && !strings.HasPrefix(rest, "BAD ") || len(rest) > 100 {
						t.Errorf("%q: %q", in, l)
					}
				}
			}
			if answers != len(results) || err == nil {
				t.Errorf("%q: %d answers to %q, %v", in, answers, results, err)
			}
			if i == 0 {
				first = out
			} else if out != first {
				t.Errorf("%q in pieces of %d: %q, at once: %q", in, step, out, first)
			}
		}
	})
}

func FuzzNumSet(f *testing.F) {
	for _, s := range []string{"1", "1:*", "*:4,5:7", "4294967295:1", "1,2,3", "0", "1:2:3", ",", "2,4:7,9,12:*"} {
		f.Add([]byte(s), uint32(15))
	}
	f.Fuzz(func(t *testing.T, b []byte, last uint32) {
		s, ok := ParseNumSet(b)
		if !ok {
			return
		}
		// Consecutive numbers were made a range, which is the one difference between what came and what is printed.
		again, ok := ParseNumSet(AppendNumSet(nil, s))
		if !ok {
			t.Fatalf("%q is printed %q", b, AppendNumSet(nil, s))
		}
		within := s.Within(last)
		s.Resolve(last)
		again.Resolve(last)
		if !s.ascends() || s.Dynamic() || string(AppendNumSet(nil, s)) != string(AppendNumSet(nil, again)) {
			t.Fatalf("%q: %v, %v", b, s, again)
		}
		if k := len(s.Ranges); within && k > 0 && s.Ranges[k-1].Last > last {
			t.Fatalf("%q within %d: %v", b, last, s)
		}
	})
}

func FuzzSearch(f *testing.F) {
	for _, s := range []string{"ALL", "NOT OR SEEN (1:* UID $)", `HEADER x "y" OLDER 5`, "OR OR OR ALL ALL ALL ALL", "FUZZY NOT FUZZY NOT NEW", "CHARSET x TEXT {1+}\r\nx"} {
		f.Add(s)
	}
	var walk func(t *testing.T, k *SearchKey, depth int) int
	walk = func(t *testing.T, k *SearchKey, depth int) int {
		n := 1
		if depth > 2*maxDepth || (k.Op == SearchAnd || k.Op == SearchOr) != (len(k.Keys) > 0) || k.Op == SearchOr && len(k.Keys) < 2 || k.Op > SearchFilter {
			t.Fatalf("depth %d: %+v", depth, k)
		}
		for i := range k.Keys {
			n += walk(t, &k.Keys[i], depth+1)
		}
		return n
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, _ := receive("a SEARCH "+s+"\r\n", 0)
		_, d, err := c.ReadCommand()
		if err != nil {
			return
		}
		_, k := d.SP().SearchProgram()
		if d.End() == nil {
			if n := walk(t, &k, 0); n > 3*maxSearchKeys {
				t.Errorf("%d keys", n)
			}
		}
	})
}

func FuzzSection(f *testing.F) {
	for _, s := range []string{"BODY[]", "BODY.PEEK[1.2.HEADER.FIELDS (a \"b c\" {1+}\r\nd)]<0.1>", "BINARY.SIZE[1]", "BODY[TEXT]", "BODY[1.MIME]<5.6>", "BINARY[]<1.2>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, _ := receive("a FETCH 1 "+s+"\r\n", 0)
		_, d, err := c.ReadCommand()
		if err != nil {
			return
		}
		d.SP().NumSet()
		first := d.SP().Fetch()
		if d.End() != nil || len(first.Items) != 1 || first.Items[0].Partial || first.ChangedSince > 0 || first.Partial != nil {
			return
		}
		name := string(AppendFetchName(nil, &first.Items[0], 0))
		again := arguments(t, name, 0)
		f := again.Fetch()
		if err := again.End(); err != nil || string(AppendFetchName(nil, &f.Items[0], 0)) != name {
			t.Errorf("%q is %q: %v", s, name, err)
		}
	})
}

// repeat is a client that says the same again and again.
type repeat struct {
	wire
	text string
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

func BenchmarkCommand(b *testing.B) {
	for name, line := range map[string]string{
		"FETCH":  "a123 UID FETCH 1:*,7,9 (FLAGS UID INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (From To Subject)])\r\n",
		"STORE":  "a123 UID STORE 1234 +FLAGS.SILENT (\\Seen $Junk)\r\n",
		"SEARCH": "a123 UID SEARCH RETURN (COUNT ALL) UNSEEN OR FROM \"someone\" SUBJECT \"something\"\r\n",
		"LOGIN":  "a123 LOGIN {5+}\r\nalice \"password\"\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			c := NewConn(&repeat{text: line})
			c.Limits = AfterLogin(50 << 20)
			b.ReportAllocs()
			for b.Loop() {
				cmd, d, err := c.ReadCommand()
				if err != nil {
					b.Fatal(err)
				}
				commands[cmd.Name](d)
				if err := d.End(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
