package imap

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// row is a production, what it makes of a text, and texts that are none.
type row struct {
	name string
	read func(*Decoder) any
	good map[string]any
	bad  []string
}

func check(t *testing.T, m Mode, rows []row) {
	t.Helper()
	for _, r := range rows {
		for in, want := range r.good {
			d := arguments(t, in, m)
			got := r.read(d)
			if err := d.End(); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s %.80q: %+v, %v, want %+v", r.name, in, got, err, want)
			}
			if next, _, err := d.c.ReadCommand(); next.Name != "NOOP" || err != nil {
				t.Errorf("%s %.80q, then: %+v, %v", r.name, in, next, err)
			}
		}
		for _, in := range r.bad {
			d := arguments(t, in, m)
			r.read(d)
			mustBad(t, r.name+" "+in, d)
		}
	}
}

func astring(d *Decoder) any { return d.AString() }
func mailbox(d *Decoder) any { return d.Mailbox() }

func TestStrings(t *testing.T) {
	check(t, 0, []row{
		{"atom", func(d *Decoder) any { return d.Atom() }, map[string]any{"abc": "abc", "$MDNSent": "$MDNSent", "a[b": "a[b", "+/=": "+/=", "~x}": "~x}"},
			[]string{"", "a]", "(", `"a"`, "a b", "a%", "*", `a\`, "ä", "{1+}\r\nx", "\x01", "a\x7f"}},
		{"astring", astring, map[string]any{"abc]": "abc]", `"a \"b\" \\"`: `a "b" \`, `""`: "", "{0+}\r\n": "", "{3+}\r\na\r\n": "a\r\n", "{2+}\r\n\xff\x01": "\xff\x01", "NIL": "NIL"},
			[]string{"", "{x {1+}\r\ny", "{1} {1+}\r\ny", "a%b", "(a)", "a*", `a"b"`, `"a"b`, "~{1+}\r\nx"}},
		{"string", func(d *Decoder) any { return d.String() }, map[string]any{`"a"`: "a", "{1+}\r\nb": "b"}, []string{"a", "NIL", "", "(", "~{1+}\r\nx"}},
		{"nstring", func(d *Decoder) any { s, ok := d.NString(); return [2]any{s, ok} },
			map[string]any{"NIL": [2]any{"", false}, "nil": [2]any{"", false}, `"NIL"`: [2]any{"NIL", true}, "{3+}\r\nNIL": [2]any{"NIL", true}}, []string{"a", "", "NILL"}},
		// I08
		{"quoted", astring, map[string]any{`"a\\"`: `a\`}, []string{`"`, `"a`, `"\`, `"a\"`, `"a\\\"`, `"\a"`, `"a\`, `"ä"`, "\"\xff\"", `"a""b"`, "\"a\\\x01\""}},
		{"keyword", func(d *Decoder) any { return d.Keyword() }, map[string]any{"references": "REFERENCES"}, nil},
	})
	check(t, UTF8, []row{
		{"quoted", astring, map[string]any{`"ä\"€😀"`: `ä"€😀`}, []string{"\"\xff\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "ä"}},
		{"literal", astring, map[string]any{"{2+}\r\nä": "ä", "{1+}\r\n\xff": "\xff"}, nil},
	})
}

// I08: what a line cannot have in it, a quoted string cannot, and the literal that such a line ends in is dropped.
func TestI08_CRInQuoted(t *testing.T) {
	for _, in := range []string{"\"a\rb\"", "\"a\nb\"", "\"a\r{3+}\r\nx\r\n"} {
		c, _ := receive("a LOGIN "+in+"\r\nb NOOP\r\n", UTF8)
		if cmd, _, err := c.ReadCommand(); cmd.Tag != "a" || !is(err, ConditionBAD, "") {
			t.Errorf("%q: %v, %v", in, cmd, err)
		}
		if cmd, _, err := c.ReadCommand(); cmd.Tag != "b" || err != nil {
			t.Errorf("%q: %v, %v", in, cmd, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	many := strings.Repeat("9", 1000)
	check(t, 0, []row{
		{"number", func(d *Decoder) any { return d.Number() }, map[string]any{"0": uint32(0), "007": uint32(7), "4294967295": uint32(1<<32 - 1)},
			[]string{"", "-1", "+1", "4294967296", "18446744073709551616", many, "1x", "0x1", "١"}},
		{"nz-number", func(d *Decoder) any { return d.NZNumber() }, map[string]any{"1": uint32(1)}, []string{"0", "01", ""}},
		{"seq-number", func(d *Decoder) any { return d.SeqNumber() }, map[string]any{"*": uint32(0), "5": uint32(5)}, []string{"0", "**", "1:2", "$", ""}},
		{"number64", func(d *Decoder) any { return d.Number64() }, map[string]any{"0": int64(0), "9223372036854775807": int64(1<<63 - 1)},
			[]string{"9223372036854775808", "18446744073709551617", many}},
		{"mod-sequence-value", func(d *Decoder) any { return d.ModSeq() }, map[string]any{"620162338": uint64(620162338), "9223372036854775807": uint64(1<<63 - 1)}, []string{"0", "9223372036854775808"}},
		{"mod-sequence-valzer", func(d *Decoder) any { return d.ModSeqOrZero() }, map[string]any{"0": uint64(0)}, []string{"-1"}},
	})
}

func TestMailbox(t *testing.T) {
	check(t, 0, []row{
		{"mailbox", mailbox, map[string]any{"inBox": "INBOX", `"INBOX"`: "INBOX", "{5+}\r\ninbox": "INBOX", "inbox/x": "inbox/x", "Entw&APw-rfe": "Entwürfe",
			`"~peter/mail/&U,BTFw-/&ZeVnLIqe-"`: "~peter/mail/台北/日本語", `""`: "", `"a b&-"`: "a b&"}, []string{"", "a*", "%", "(", `"ä"`}},
		{"list-mailbox", func(d *Decoder) any { return d.ListMailbox() }, map[string]any{"*": "*", "%": "%", `"a/%"`: "a/%", "Entw&APw-*]": "Entwü*]", `""`: "", "{2+}\r\na*": "a*"}, []string{"", "(", `a"`}},
	})
	check(t, UTF8, []row{{"mailbox", mailbox, map[string]any{"Entw&APw-rfe": "Entw&APw-rfe", `"Entwürfe"`: "Entwürfe", "{9+}\r\nEntwürfe": "Entwürfe", "\"\uFFFD\"": "\uFFFD"}, nil}})
	for _, x := range []struct {
		in string
		m  Mode
	}{
		{"a&b", 0}, {"&AC4ALg-", 0}, {"&AAA-", 0}, {"{2+}\r\nä", 0}, {`"&AAo-"`, 0}, {"&ICg-", 0}, {"&AIU-", 0},
		{"{1+}\r\n\xff", UTF8}, {"{1+}\r\n\n", UTF8}, {"{3+}\r\na\tb", UTF8}, {"\"\u2028\"", UTF8}, {"\"\u0085\"", UTF8}, {"\"\x7f\"", UTF8},
	} {
		d := arguments(t, x.in, x.m)
		d.Mailbox()
		if err := d.End(); !is(err, ConditionNO, Cannot) {
			t.Errorf("%q: %v", x.in, err)
		}
	}
}

func TestFlags(t *testing.T) {
	check(t, 0, []row{
		{"flag-list", func(d *Decoder) any { return d.FlagList() }, map[string]any{"()": []string(nil), `(\seen)`: []string{`\Seen`}, `(\DELETED $Forwarded \X-y Foo)`: []string{`\Deleted`, "$Forwarded", `\X-y`, "Foo"}},
			[]string{"", "(", ")", `\Seen`, `(\Seen`, `( \Seen)`, `(\Seen )`, `(\Seen  \Draft)`, `(\*)`, `(\)`, `(a])`, `((a))`, `("a")`, "({1+}\r\na)", "(" + strings.Repeat("a ", 1000) + "a)"}},
	})
}

func TestDates(t *testing.T) {
	zone := func(h, m int) *time.Location { return time.FixedZone("", h*3600+m*60) }
	check(t, 0, []row{
		{"date", func(d *Decoder) any { return d.Date() }, map[string]any{"1-Feb-1994": Date{1994, 2, 1}, `"01-fEB-1994"`: Date{1994, 2, 1}, "29-Feb-2000": Date{2000, 2, 29}, "31-Dec-9999": Date{9999, 12, 31}, "1-Jan-0000": Date{0, 1, 1}},
			[]string{"", "32-Jan-2000", "0-Jan-2000", "00-Jan-2000", "29-Feb-1900", "31-Apr-2000", "1-Foo-2000", "1-Jan-200", "1-Jan-20000", "001-Jan-2000", " 1-Jan-2000", `"1-Jan-2000`, `1-Jan-2000"`, "1 Jan 2000", "2000-01-01", "-1-Jan-2000", "1-Ja", "1-"}},
	})
	for in, want := range map[string]time.Time{
		`"17-Jul-1996 02:44:25 -0700"`: time.Date(1996, 7, 17, 2, 44, 25, 0, zone(-7, 0)),
		`" 1-Jan-2024 23:59:60 +0545"`: time.Date(2024, 1, 2, 0, 0, 0, 0, zone(5, 45)),
		`"31-Dec-9999 00:00:00 +0000"`: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		d := arguments(t, in, 0)
		if got := d.DateTime(); d.End() != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", in, got, d.Err())
		}
		if in[19:21] != "60" {
			if got := string(AppendDateTime(nil, want)); got != in {
				t.Errorf("%s is printed %s", in, got)
			}
		}
	}
	check(t, 0, []row{{"date-time", func(d *Decoder) any { return d.DateTime() }, nil, []string{
		"", `""`, `"1-Jan-2024 00:00:00 +0000"`, `"01-Jan-2024 24:00:00 +0000"`, `"01-Jan-2024 00:60:00 +0000"`, `"01-Jan-2024 00:00:61 +0000"`, `"01-Jan-2024 00:00:00 +2400"`, `"01-Jan-2024 00:00:00 +0060"`,
		`"31-Feb-2024 00:00:00 +0000"`, `"01-Jan-2024 00:00:00 0000"`, `"01-Jan-2024 00:00:00 GMT"`, `"01-Jan-2024 00:00:00"`, `"01-Jan-2024 00:00:00 +0000`, `"01-Jan-10000 00:00:00 +0000"`, `"  1-Jan-2024 00:00:00 +0000"`,
		`01-Jan-2024`}}})
	for want, in := range map[string]time.Time{
		`" 1-Jan-0000 00:00:00 +0000"`: time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC),
		`" 1-Jan-9999 00:00:00 +0000"`: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC),
		`" 1-Jan-2000 00:00:00 +0001"`: time.Date(2000, 1, 1, 0, 0, 30, 0, time.FixedZone("", 90)),
	} {
		if got := string(AppendDateTime(nil, in)); got != want {
			t.Errorf("%v is printed %s, want %s", in, got, want)
		}
	}
	if d := (Date{2000, 2, 29}); d.Compare(DateOf(time.Date(2000, 3, 1, 0, 0, 0, 0, zone(14, 0)))) >= 0 || d.Compare(d) != 0 || d.Compare(Date{1999, 12, 31}) <= 0 {
		t.Error("dates do not compare")
	}
}
