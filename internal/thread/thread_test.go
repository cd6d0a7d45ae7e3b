package thread

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Messages in a short form, one a line: id, sent date, message id, references with commas, subject. A subject that begins with "Re: " is a reply. "-" is none.
func parse(t testing.TB, text string) (all []message) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		m := message{id: uint32(len(all) + 1)}
		var id, refs, subject string
		if _, err := fmt.Sscan(line, &m.sent, &id, &refs, &subject); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		m.arrived = m.sent
		if id != "-" {
			m.messageID = id
		}
		if refs != "-" {
			m.references = strings.Split(refs, ",")
		}
		if subject != "-" {
			m.base, m.reply = strings.CutPrefix(subject, "Re:")
		}
		all = append(all, m)
	}
	return all
}

// Steps and exceptions of RFC 5256, REFERENCES.
func TestReferences(t *testing.T) {
	for _, c := range []struct{ name, messages, want, refs string }{
		{"none", "", "", ""},
		{"one", "1 a - s", "(1)", ""},
		{"parent and child", `
			1 a - s
			2 b a Re:s`, "(1 2)", "(1 2)"},
		{"the child came first", `
			2 b a Re:s
			1 a - s`, "(2 1)", "(2 1)"},
		{"example of section 4", `
			2 a - two
			3 b - three
			4 d c,e four
			5 e b,c five
			6 c b six
			7 f c seven
			8 g c,f eight
			9 h f,g nine
			10 i g,h ten`, "(1)(2 5 (4 3)(6 7 8 9))", ""},
		{"parent is not there", `
			1 a x s
			2 b x t`, "((1)(2))", "((1)(2))"},
		{"one child of a parent that is not there", `1 a x s`, "(1)", "(1)"},
		{"a chain of what is not there", `1 a x,y,z s`, "(1)", "(1)"},
		{"dummies in the middle go", `
			1 a - s
			2 b a,x,y Re:s
			3 c a,x,z Re:s`, "(1 (2)(3))", "(1 (2)(3))"},
		{"dummies below a dummy go", `
			1 a x,y t
			2 b x,z u`, "((1)(2))", "((1)(2))"},
		{"a dummy beside one child is nothing", `
			1 a x s
			2 b x,y,a,c,q t`, "(1 2)", "(1 2)"},
		{"no message id", `
			1 - - s
			2 - - t`, "(1)(2)", "(1)(2)"},
		{"one message id twice", `
			1 a - s
			2 a - t
			3 b a u`, "(1 3)(2)", "(2)(1 3)"},
		{"message ids have a case", `
			1 a - s
			2 b A t`, "(1)(2)", ""},
		{"a link that is there stays", `
			1 a - s
			2 b a t
			3 c - u
			4 d c,b v`, "(1 2 4)(3)", ""},
		{"a reference of its own counts more than those of others", `
			1 a - s
			2 b - t
			3 d a,c u
			4 c b v`, "(1)(2 4 3)", ""},
		{"a link is cut also where the new one would be a loop", `
			1 a - s
			2 b - t
			3 d a,c,b u
			4 c b v`, "(1)(4 2 3)", ""},
		{"no reference, no parent", `
			1 a b,c,d s
			2 b - t
			3 c - u`, "(2)(3 1)", ""},
		{"its own parent", `1 a a s`, "(1)", "(1)"},
		{"a loop of two", `
			1 a b s
			2 b a t`, "(2 1)", "(2 1)"},
		{"a loop in references", `
			1 a - s
			2 b a,c,a,c t
			3 c b u`, "(1)(3 2)", ""},
		{"siblings by date, then number", `
			1 a - s
			9 b a t
			2 c a t
			2 d a t`, "(1 (3)(4)(2))", ""},
		{"threads by the date of the first", `
			5 a - s
			1 b - t
			9 c b u`, "(2 3)(1)", "(1)(2 3)"},
		// Step 5.
		{"a reply without references", `
			1 a - s
			2 b - Re:s`, "(1 2)", "(1)(2)"},
		{"a reply before what it is one to", `
			1 a - Re:s
			2 b - s`, "(2 1)", "(1)(2)"},
		{"subjects have no case", `
			1 a - café
			2 b - Re:CAFÉ`, "(1 2)", ""},
		{"two of a subject", `
			1 a - s
			2 b - s`, "((1)(2))", ""},
		{"two replies", `
			1 a - Re:s
			2 b - Re:s`, "((1)(2))", ""},
		{"two of a subject and a reply behind them", `
			1 a - s
			2 b - s
			3 c - Re:s`, "((1)(2)(3))", ""},
		{"two of a subject and a reply between them", `
			1 a - s
			2 b - Re:s
			3 c - s`, "((1 2)(3))", ""},
		{"a dummy takes in", `
			1 a x s
			2 b x t
			3 c - s
			4 d - Re:s`, "((1)(2)(3)(4))", ""},
		{"a dummy is taken, also if it comes later", `
			1 c - s
			2 a x s
			3 b x t`, "((1)(2)(3))", ""},
		{"two dummies are one", `
			1 a x s
			2 b x t
			3 c y Re:s
			4 d y u`, "((1)(2)(3)(4))", ""},
		{"the subject of a dummy is that of its first child", `
			5 a x s
			1 b x t
			9 c - Re:s
			9 d - Re:t`, "((2)(1)(4))(3)", ""},
		{"no subject", `
			1 a - -
			2 b - -
			3 c - Re:`, "(1)(2)(3)", ""},
		{"a reply with children joins", `
			1 a - s
			2 b - Re:s
			3 c b Re:s
			4 d a Re:s`, "(1 (2 3)(4))", ""},
	} {
		all := parse(t, c.messages)
		if got := threads(References, all); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if got := threads(Refs, all); c.refs != "" && got != c.refs {
			t.Errorf("%s: REFS: %s, want %s", c.name, got, c.refs)
		}
		for _, a := range []Algorithm{OrderedSubject, References, Refs} {
			if got, want := threads(a, all), model(a, all); got != want {
				t.Errorf("%s: %d: %s, the model has %s", c.name, a, got, want)
			}
		}
	}
}

// RFC 5256, ORDEREDSUBJECT.
func TestOrderedSubject(t *testing.T) {
	all := parse(t, `
		3 a - s
		1 b - t
		2 c - T
		4 d - Re:s
		0 e - s
		9 f - -
		8 g - -`)
	if got, want := threads(OrderedSubject, all), "(5 (1)(4))(2 3)(7 6)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// REFS orders threads by what came last, siblings by what was sent first.
func TestRefs(t *testing.T) {
	all := parse(t, `
		1 a - s
		2 b - t
		9 c a u
		5 d a v`)
	for i, arrived := range []int64{1, 3, 2, 2} {
		all[i].arrived = arrived
	}
	if got, want := threads(Refs, all), "(1 (4)(3))(2)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.IntRange(1, 12).Draw(t, "ids")
		id := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("i", rapid.IntRange(1, ids).Draw(t, "id")) })
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) message {
			return message{
				sent:       rapid.Int64Range(-1, 6).Draw(t, "sent"),
				arrived:    rapid.Int64Range(-1, 6).Draw(t, "arrived"),
				messageID:  rapid.OneOf(rapid.Just(""), id, id, id).Draw(t, "message-id"),
				references: rapid.SliceOfN(id, 0, 5).Draw(t, "references"),
				base:       rapid.SampledFrom([]string{"", "s", "S", "t", "u", "é", "e\u0301"}).Draw(t, "subject"),
				reply:      rapid.Bool().Draw(t, "reply"),
			}
		}), 0, 14).Draw(t, "messages")
		check(t, all)
	})
}

func check(t interface{ Fatalf(string, ...any) }, all []message) {
	for i := range all {
		all[i].id = uint32(10 * (i + 1))
	}
	for _, a := range []Algorithm{OrderedSubject, References, Refs} {
		if got, want := threads(a, all), model(a, all); got != want {
			t.Fatalf("%d: %s, want %s of\n%+v", a, got, want, all)
		}
	}
}

// Long tangles: chains that are cut and put elsewhere, which is what the link-cut tree is for.
func TestModelTangled(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 20 + r.IntN(300)
		all := make([]message, n)
		for i, at := range r.Perm(n) {
			m := message{sent: int64(r.IntN(n)), messageID: fmt.Sprint("i", at), base: fmt.Sprint(r.IntN(n)), reply: r.IntN(2) == 0}
			near := r.IntN(at + 1)
			for j := max(near-r.IntN(6), 0); j <= near; j++ {
				m.references = append(m.references, fmt.Sprint("i", j))
			}
			if r.IntN(10) == 0 {
				m.references = append(m.references, fmt.Sprint("i", r.IntN(n)))
			}
			all[i] = m
		}
		check(t, all)
	}
}

func FuzzThread(f *testing.F) {
	f.Add([]byte{1, 0x10, 0, 2, 0x11, 1, 1})
	f.Add([]byte{3, 0x22, 1, 2, 1, 0x21, 1, 1, 1, 0x31, 2, 2, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var all []message
		for len(b) >= 3 && len(all) < 40 {
			m := message{sent: int64(b[0] >> 4), arrived: int64(b[0] & 15), base: []string{"", "s", "t", "u"}[b[1]>>4&3], reply: b[1]>>6 == 1}
			if id := b[2] & 15; id > 0 {
				m.messageID = fmt.Sprint(id)
			}
			n := int(b[1] & 7)
			b = b[3:]
			for ; n > 0 && len(b) > 0; n-- {
				m.references = append(m.references, fmt.Sprint(b[0]&15))
				b = b[1:]
			}
			all = append(all, m)
		}
		check(t, all)
	})
}

// mailbox makes messages; i is a number from 0.
func mailbox(n int, make func(i int) message) (all []message) {
	for i := range n {
		m := make(i)
		m.id = uint32(i + 1)
		all = append(all, m)
	}
	return all
}

func name(i int) string { return fmt.Sprintf("%d.%x@host.example.org", i, uint32(i)*2654435761) }

// hostile mailboxes are made to be hard.
func hostile(n int) map[string][]message {
	return map[string][]message{
		"a chain": mailbox(n, func(i int) message {
			return message{sent: int64(i), messageID: name(i), references: []string{name(i - 1)}}
		}),
		"a chain from its end": mailbox(n, func(i int) message {
			return message{sent: int64(i), messageID: name(n - i), references: []string{name(n - i - 1)}}
		}),
		"a star": mailbox(n, func(i int) message { return message{sent: int64(i), messageID: name(i), references: []string{name(0)}} }),
		"a chain of dummies, and children of its end": mailbox(n, func(i int) message {
			if i < n/2 {
				return message{references: []string{name(i), name(i + 1)}}
			}
			return message{references: []string{name(n / 2)}}
		}),
		"a chain, and questions from its end": mailbox(n, func(i int) message {
			if i < n/2 {
				return message{messageID: name(i), references: []string{name(i - 1)}}
			}
			return message{messageID: name(i), references: []string{name(n/2 - 1), name(-1), name(n/2 - 1 - i%9)}}
		}),
		"a chain whose links are cut and put below its end": mailbox(n, func(i int) message {
			if i < n/2 {
				return message{references: []string{name(i), name(i + 1)}}
			}
			return message{messageID: name(i - n/2 + 1), references: []string{name(n / 2), name(i - n/2 - 1)}}
		}),
		"a comb": mailbox(n, func(i int) message {
			return message{sent: int64(i), messageID: name(i), references: []string{name(i - 1 - i%2)}}
		}),
		"one subject": mailbox(n, func(i int) message { return message{sent: int64(-i), base: "subject", reply: i%3 == 0} }),
		"one subject, below dummies": mailbox(n, func(i int) message {
			return message{sent: int64(i % 7), references: []string{name(i / 2)}, base: "subject"}
		}),
		"one id":  mailbox(n, func(i int) message { return message{messageID: name(0), references: []string{name(0)}} }),
		"nothing": mailbox(n, func(i int) message { return message{} }),
	}
}

// Small ones agree with the model; large ones take time that is not by their square: that would be minutes.
func TestHostileMailboxes(t *testing.T) {
	for name, all := range hostile(61) {
		t.Run(name, func(t *testing.T) { check(t, all) })
	}
	for name, all := range hostile(100_000) {
		for _, a := range []Algorithm{OrderedSubject, References, Refs} {
			start := time.Now()
			got := threads(a, all)
			if n := strings.Count(got, "("); n != strings.Count(got, ")") || n == 0 {
				t.Errorf("%s: %.100s", name, got)
			}
			// A reference is a hash and a look into a table; what is slow is slow because of many of them or because it is by the square.
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("%s: %d takes %v", name, a, d)
			}
		}
	}
}

// Every message is in the Tree once.
func TestEachOnce(t *testing.T) {
	all := realistic(5000)
	for _, a := range []Algorithm{OrderedSubject, References, Refs} {
		seen := make([]bool, len(all)+1)
		n, depth := 0, 0
		threader(a, all).Tree().Walk(func(token Token, id uint32) {
			switch token {
			case Open:
				depth++
			case Close:
				depth--
			default:
				if seen[id] || depth == 0 {
					t.Errorf("%d: %d again", a, id)
				}
				seen[id] = true
				n++
			}
		})
		if n != len(all) || depth != 0 {
			t.Errorf("%d: %d messages, depth %d", a, n, depth)
		}
	}
}

// realistic is a mailbox of lists: threads of a few messages, some long, most messages there, nearly in order.
func realistic(n int) []message {
	r := rand.New(rand.NewPCG(7, 7))
	var open [][]string // the ids of threads that still get replies
	return mailbox(n, func(i int) message {
		m := message{sent: 1_600_000_000 + int64(i)*300 + int64(r.IntN(7200)), messageID: name(i)}
		m.arrived = m.sent + int64(r.IntN(600))
		if len(open) == 0 || r.IntN(6) == 0 {
			m.base = fmt.Sprintf("Subject number %d of this list", i)
			open = append(open, []string{m.messageID})
			if len(open) > 200 {
				open = open[1:]
			}
			return m
		}
		k := r.IntN(len(open))
		ids := open[k]
		m.references = ids[max(len(ids)-20, 0) : len(ids)-r.IntN(min(len(ids), 3))]
		m.base, m.reply = "Subject of "+ids[0], true
		own := m.messageID
		if r.IntN(20) == 0 {
			own = "gone." + own // somebody else has it
		}
		open[k] = append(ids[:len(ids):len(ids)], own)
		return m
	})
}

func BenchmarkThread(b *testing.B) {
	all := realistic(many)
	var pool []byte
	text := func(s string) []byte { // as a record has it
		pool = append(pool[:0], s...)
		return pool
	}
	refs := 0
	for _, m := range all {
		refs += len(m.references)
	}
	for a, name := range []string{"ORDEREDSUBJECT", "REFERENCES", "REFS"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t := New(Algorithm(a), len(all))
				for i := range all {
					m := &all[i]
					t.Add(m.id, m.sent, m.arrived, text(m.messageID))
					for _, r := range m.references {
						t.Reference(text(r))
					}
					t.Subject(text(m.base), m.reply)
				}
				t.Tree()
			}
			b.ReportMetric(float64(refs)/many, "refs/message")
		})
	}
	b.Run("AppendList", func(b *testing.B) {
		tree := threader(References, all).Tree()
		for b.Loop() {
			pool = tree.AppendList(pool[:0], itself)
		}
	})
	b.Run("chain", func(b *testing.B) {
		all := hostile(many)["a chain, and questions from its end"]
		for b.Loop() {
			threads(References, all)
		}
	})
}
