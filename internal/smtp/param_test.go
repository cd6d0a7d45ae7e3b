package smtp

import (
	"errors"
	"strings"
	"testing"

	"postamt/internal/addr"
)

// code is the code of a reply that is an error, 0 for none.
func code(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	var r *Reply
	if !errors.As(err, &r) {
		t.Fatalf("%v is no reply", err)
	}
	if r.Enhanced == (EnhancedCode{}) || r.Enhanced[0] != r.Code/100 {
		t.Errorf("%v: enhanced code", err)
	}
	return r.Code
}

func TestParseMail(t *testing.T) {
	none := MailParams{Size: -1}
	for _, tt := range []struct {
		in   string
		from string
		p    MailParams
		code int
	}{
		{"FROM:<a@b>", "a@b", none, 0},
		{"from:<a@b>", "a@b", none, 0},
		{"FROM:<>", "", none, 0},
		{"FROM: <a@b>", "a@b", none, 0},
		{"FROM:  <>  SIZE=5", "", MailParams{Size: 5}, 0},
		{"FROM:<@x,@y:a@b> SIZE=0", "a@b", MailParams{Size: 0}, 0}, // S15
		{`FROM:<"a b"@c> BODY=8bitmime`, `"a b"@c`, MailParams{Size: -1, Body: "8BITMIME"}, 0},
		{"FROM:<a@b> BODY=7BIT SIZE=9223372036854775807", "a@b", MailParams{Size: 1<<63 - 1, Body: "7BIT"}, 0},
		{"FROM:<a@b> BODY=BINARYMIME", "a@b", MailParams{Size: -1, Body: "BINARYMIME"}, 0},
		{"FROM:<a@b> RET=hdrs ENVID=QQ+2B314+20x", "a@b", MailParams{Size: -1, Ret: "HDRS", EnvID: "QQ+314 x"}, 0},
		{"FROM:<a@b> AUTH=<>", "a@b", MailParams{Size: -1, Auth: "<>"}, 0},
		{"FROM:<a@b> AUTH=e+3Dmc2@example.com", "a@b", MailParams{Size: -1, Auth: "e=mc2@example.com"}, 0},
		{"FROM:<a@b> xexpand XQID=a", "a@b", MailParams{Size: -1, QID: "a", Expand: true}, 0},
		{"FROM:<a@b> XQID=0h2mc9x4rvk3t7w1qz8e XARRIVED=1764000000123456 XSUSPECT", "a@b", MailParams{Size: -1, QID: "0h2mc9x4rvk3t7w1qz8e", Arrived: 1764000000123456, Suspect: true}, 0},
		{"FROM:<j\u00f6rg@b> SMTPUTF8", "j\u00f6rg@b", MailParams{Size: -1, UTF8: true}, 0},
		{"FROM:<a@b> SMTPUTF8", "a@b", MailParams{Size: -1, UTF8: true}, 0},
		{"FROM:<j\u00f6rg@b>", "", none, 553}, // S35
		{"FROM:<a@b\u00fccher.example>", "", none, 553},
		{"FROM:<j\xf6rg@b> SMTPUTF8", "", none, 501},
		// S10: numbers
		{"FROM:<a@b> SIZE=18446744073709551616", "", none, 501},
		{"FROM:<a@b> SIZE=-1", "", none, 501},
		{"FROM:<a@b> SIZE=", "", none, 501},
		{"FROM:<a@b> SIZE", "", none, 501},
		{"FROM:<a@b> SIZE=1k", "", none, 501},
		{"FROM:<a@b> SIZE=+1", "", none, 501},
		// S16
		{"FROM:a@b", "", none, 501},
		{"FROM:<a@b", "", none, 501},
		{"FROM<a@b>", "", none, 501},
		{"FROM :<a@b>", "", none, 501},
		{"TO:<a@b>", "", none, 501},
		{"", "", none, 501},
		{"FROM:", "", none, 501},
		{"FROM:<a@>", "", none, 501},
		{"FROM:<a b@c>", "", none, 501},
		{"FROM:<a;b@c>", "", none, 501},
		{"FROM:<$(x)@c>", "", none, 501},
		{"FROM:<;for i in 0 1 2 3 4 5 6 7 8 9 a b c d;do read r;done;sh;exit 0;>", "", none, 501}, // CVE-2020-7247
		{"FROM:<root>", "", none, 501},
		{"FROM:<postmaster>", "", none, 501},
		{"FROM:<a@b>SIZE=1", "", none, 501},
		{"FROM:<a@b>x", "", none, 501},
		{"FROM:<a@b>\tSIZE=1", "", none, 501},
		// S18
		{"FROM:<a@b> FOO=1", "", none, 555},
		{"FROM:<a@b> FOO", "", none, 555},
		{"FROM:<a@b> NOTIFY=NEVER", "", none, 555},
		{"FROM:<a@b> BODY=8BITMIME BODY=7BIT", "", none, 501},
		{"FROM:<a@b> SIZE=1 size=1", "", none, 501},
		{"FROM:<a@b> BODY=9BIT", "", none, 501},
		{"FROM:<a@b> SMTPUTF8=1", "", none, 501},
		{"FROM:<a@b> SMTPUTF8=", "", none, 501},
		{"FROM:<a@b> XSUSPECT=1", "", none, 501},
		{"FROM:<a@b> XEXPAND=1", "", none, 501},
		{"FROM:<a@b> XEXPAND XEXPAND", "", none, 501},
		{"FROM:<a@b> RET=ALL", "", none, 501},
		{"FROM:<a@b> ENVID=a=b", "", none, 501},
		{"FROM:<a@b> ENVID=+0A", "", none, 501}, // a header line in the report
		{"FROM:<a@b> ENVID=+C3+A4", "", none, 501},
		{"FROM:<a@b> ENVID=+2b", "", none, 501},
		{"FROM:<a@b> ENVID=" + strings.Repeat("x", 101), "", none, 501},
		{"FROM:<a@b> ENVID=\u00e4", "", none, 501},
		{"FROM:<a@b> AUTH=+0D", "", none, 501},
		{"FROM:<a@b> XQID=../x", "", none, 501},
		{"FROM:<a@b> XARRIVED=x", "", none, 501},
		{"FROM:<a@b> =", "", none, 501},
		{"FROM:<a@b> =1", "", none, 501},
		{"FROM:<a@b> -X=1", "", none, 501},
		{"FROM:<a@b> S\x01=1", "", none, 501},
		{"FROM:<a@b> SIZE=\x7f", "", none, 501},
		// S13
		{"FROM:<" + strings.Repeat("a", 65) + "@b>", "", none, 501},
		{"FROM:<a@" + strings.Repeat("b.", 127) + "cc>", "", none, 501},
		{"FROM:<aaaaa@" + strings.Repeat("b.", 125) + "c>", "", none, 501},
		{"FROM:<" + strings.Repeat("a", 1<<20) + "@b>", "", none, 501},
	} {
		m, p, err := ParseMail(tt.in, everything)
		if c := code(t, err); c != tt.code {
			t.Errorf("%.80q: %v, want %d", tt.in, err, tt.code)
		}
		if err != nil {
			if (m != addr.Mailbox{} || p != MailParams{}) {
				t.Errorf("%.80q: values with the error", tt.in)
			}
			continue
		}
		if m.String() != tt.from || p != tt.p {
			t.Errorf("%.80q: %q, %+v, want %q, %+v", tt.in, m, p, tt.from, tt.p)
		}
	}
}

// What is not on offer is 555, each by itself.
func TestS18_NotOffered(t *testing.T) {
	for _, p := range []string{"SIZE=1", "BODY=7BIT", "BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "ENVID=x", "XQID=a", "XARRIVED=1", "XSUSPECT", "XEXPAND"} {
		if _, _, err := ParseMail("FROM:<a@b> "+p, Extensions{}); code(t, err) != 555 {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, p := range []string{"NOTIFY=NEVER", "ORCPT=rfc822;a@b", "FOO=1", "SIZE=1"} {
		if _, _, err := ParseRcpt("TO:<a@b> "+p, Extensions{}); code(t, err) != 555 {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, _, err := ParseMail("FROM:<a@b> BODY=BINARYMIME", Extensions{EightBit: true}); code(t, err) != 501 {
		t.Error("BINARYMIME:", err)
	}
	if _, _, err := ParseMail("FROM:<\u00e4@b>", Extensions{}); code(t, err) != 553 {
		t.Error("S35:", err)
	}
	if _, _, err := ParseRcpt("TO:<\u00e4@b>", Extensions{}); code(t, err) != 553 {
		t.Error("S35:", err)
	}
}

func TestS10_SizeMax(t *testing.T) {
	allow := Extensions{Size: true, SizeMax: 1000}
	for in, want := range map[string]int{"SIZE=1000": 0, "SIZE=1001": 552, "SIZE=9223372036854775807": 552, "SIZE=18446744073709551616": 501} {
		if _, _, err := ParseMail("FROM:<a@b> "+in, allow); code(t, err) != want {
			t.Errorf("%s: %v, want %d", in, err, want)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	for _, tt := range []struct {
		in   string
		to   string
		p    RcptParams
		code int
	}{
		{"TO:<a@b>", "a@b", RcptParams{}, 0},
		{"to: <a@b>", "a@b", RcptParams{}, 0},
		{"TO:<@x:a@b>", "a@b", RcptParams{}, 0},                // S15
		{"TO:<user%evil@us>", "user%evil@us", RcptParams{}, 0}, // S15
		{"TO:<evil!user@us>", "evil!user@us", RcptParams{}, 0}, // S15
		{"TO:<PostMaster>", "PostMaster", RcptParams{}, 0},
		{"TO:<\u00e4@b>", "\u00e4@b", RcptParams{}, 0},
		{"TO:<a@b> NOTIFY=never", "a@b", RcptParams{Notify: "NEVER"}, 0},
		{"TO:<a@b> NOTIFY=DELAY,failure,SUCCESS", "a@b", RcptParams{Notify: "SUCCESS,FAILURE,DELAY"}, 0},
		{"TO:<a@b> XTARGET=alias:command-0a", "a@b", RcptParams{Target: "alias:command-0a"}, 0},
		{"TO:<a@b> XTARGET=|cmd", "", RcptParams{}, 501},
		{"TO:<a@b> XTARGET", "", RcptParams{}, 501},
		{"TO:<a@b> NOTIFY=DELAY", "a@b", RcptParams{Notify: "DELAY"}, 0},
		{"TO:<a@b> ORCPT=rfc822;a+2Bb@c NOTIFY=FAILURE", "a@b", RcptParams{Notify: "FAILURE", ORcpt: "rfc822;a+b@c"}, 0},
		{"TO:<a@b> ORCPT=utf-8;j\\x{F6}rg@b", "a@b", RcptParams{ORcpt: "utf-8;j\u00f6rg@b"}, 0},
		{"TO:<a@b> ORCPT=UTF-8;j\u00f6rg@b", "a@b", RcptParams{ORcpt: "UTF-8;j\u00f6rg@b"}, 0},
		{"TO:<a@b> ORCPT=utf-8;\\x{1F600}\\x{2B}x\\x{3D}\\x{5C}@b", "a@b", RcptParams{ORcpt: "utf-8;\U0001f600+x=\\@b"}, 0},
		{"TO:<>", "", RcptParams{}, 501},
		{"TO:a@b", "", RcptParams{}, 501},
		{"TO:<a>", "", RcptParams{}, 501},
		{"FROM:<a@b>", "", RcptParams{}, 501},
		// R25
		{"TO:<a@b> NOTIFY=NEVER,FAILURE", "", RcptParams{}, 501},
		{"TO:<a@b> NOTIFY=FAILURE,NEVER", "", RcptParams{}, 501},
		{"TO:<a@b> NOTIFY=FAILURE,FAILURE", "", RcptParams{}, 501},
		{"TO:<a@b> NOTIFY=FAILURE,", "", RcptParams{}, 501},
		{"TO:<a@b> NOTIFY=,", "", RcptParams{}, 501},
		{"TO:<a@b> NOTIFY=", "", RcptParams{}, 501},
		{"TO:<a@b> NOTIFY=ALWAYS", "", RcptParams{}, 501},
		{"TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=a@b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=rfc822;", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=;a@b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=rfc822;a+0Ab@c", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=rfc822;a+b@c", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=rfc822;\u00e4@c", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\\x{0A}b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\\x{85}b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\\x{D800}b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\\x{110000}b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\\x{F6b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\\xF6}b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\\x{}b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\\x{-6}b", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a+2Bb", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=utf-8;a\xffb", "", RcptParams{}, 501},
		{"TO:<a@b> ORCPT=rfc822;" + strings.Repeat("x", 494), "", RcptParams{}, 501},
	} {
		m, p, err := ParseRcpt(tt.in, everything)
		if c := code(t, err); c != tt.code {
			t.Errorf("%.80q: %v, want %d", tt.in, err, tt.code)
		}
		if m.String() != tt.to || p != tt.p {
			t.Errorf("%.80q: %q, %+v, want %q, %+v", tt.in, m, p, tt.to, tt.p)
		}
	}
	ascii := everything
	ascii.UTF8 = false
	if _, _, err := ParseRcpt("TO:<a@b> ORCPT=utf-8;\u00e4@b", ascii); code(t, err) != 501 {
		t.Error("utf-8-address without SMTPUTF8:", err)
	}
	if _, p, err := ParseRcpt("TO:<a@b> ORCPT=utf-8;\\x{E4}@b", ascii); err != nil || p.ORcpt != "utf-8;\u00e4@b" {
		t.Error("utf-8-addr-xtext without SMTPUTF8:", p, err)
	}
}

func TestOrigin(t *testing.T) {
	for _, o := range []Origin{{}, {IP: "2001:db8::1"}, {"192.0.2.1", "mx.example.net", "a b\r\n", "-"}, {Login: "j\u00f6rg+x=y@example.org"}} {
		_, p, err := ParseMail("FROM:<a@b>"+string(MailParams{Origin: o}.Append(nil)), everything)
		if err != nil || p.Origin != o {
			t.Errorf("%+v: %+v %v", o, p.Origin, err)
		}
	}
	for _, s := range []string{"x", "-+20-+20-", "-+20-+20-+20-+20-", "-+20-+20-+20+2BZZ", "-+20-+20-+20"} {
		if _, _, err := ParseMail("FROM:<a@b> XORIGIN="+s, everything); code(t, err) != 501 {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestAppend(t *testing.T) {
	m := MailParams{Size: 10, Body: "8BITMIME", UTF8: true, Ret: "FULL", EnvID: "a b+c", QID: "x1", Arrived: 5, Suspect: true}
	if got := string(m.Append(nil)); got != " SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+20b+2Bc XQID=x1 XARRIVED=5 XSUSPECT" {
		t.Error(got)
	}
	if got := string(MailParams{}.Append(nil)) + string(MailParams{Size: -1}.Append(nil)) + string(RcptParams{}.Append(nil)); got != "" {
		t.Error(got)
	}
	r := RcptParams{Notify: "SUCCESS,DELAY", ORcpt: "utf-8;j\u00f6 \x01\\@b"}
	if got := string(r.Append(nil)); got != ` NOTIFY=SUCCESS,DELAY ORCPT=utf-8;j\x{F6}\x{20}\x{01}\x{5C}@b` {
		t.Error(got)
	}
}

// The classes of bytes, against the grammar written another way.
func TestClasses(t *testing.T) {
	for i := range 256 {
		c, s := byte(i), string([]byte{byte(i)})
		// RFC 3461 section 4: xchar = any ASCII CHAR between "!" (33) and "~" (126) inclusive, except for "+" and "=".
		xchar := i >= 33 && i <= 126 && i != 43 && i != 61
		if isXchar(c) != xchar {
			t.Errorf("xchar %q: %v", c, isXchar(c))
		}
		if out := AppendXtext(nil, s); (len(out) == 1) != xchar || len(out) == 3 && out[0] != '+' {
			t.Errorf("xtext of %q: %q", c, out)
		}
		if _, err := ParseXtext(s); (err == nil) != xchar {
			t.Errorf("ParseXtext(%q): %v", s, err)
		}
		// RFC 5321 section 4.1.2: esmtp-value = 1*(%d33-60 / %d62-126); what is not ASCII is judged later.
		if value := i >= 33 && i <= 60 || i >= 62 && i <= 126 || i >= 128; isValue(s) != value {
			t.Errorf("value %q: %v", c, isValue(s))
		}
		keyword := i >= '0' && i <= '9' || i >= 'a' && i <= 'z' || i >= 'A' && i <= 'Z'
		if isKeyword(s) != keyword || isKeyword("a"+s) != (keyword || c == '-') {
			t.Errorf("keyword %q", c)
		}
		// RFC 5321 section 4.2: textstring = 1*(%d09 / %d32-126)
		if text := i == 9 || i >= 32 && i <= 126; (printable(s, false) == s) != text {
			t.Errorf("textstring %q: %q", c, printable(s, false))
		}
		if isPrintable(s) != (i >= 32 && i <= 126) {
			t.Errorf("printable %q", c)
		}
	}
}

func TestXtext(t *testing.T) {
	for in, want := range map[string]string{"": "", "abc": "abc", "+41+2B+3D": "A+=", "a+20b": "a b", "+00+FF": "\x00\xff"} {
		if got, err := ParseXtext(in); got != want || err != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"+", "+4", "a+", "+4g", "+2b", "a b", "a=b", "\x7f", "\u00e4", "++41"} {
		if got, err := ParseXtext(in); err != ErrXtext {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func FuzzXtext(f *testing.F) {
	f.Add("a+b=c d\x00\xff")
	f.Add("+41+2B")
	f.Fuzz(func(t *testing.T, s string) {
		enc := string(AppendXtext(nil, s))
		if got, err := ParseXtext(enc); got != s || err != nil {
			t.Fatalf("%q: %q, %q, %v", s, enc, got, err)
		}
		if strings.ContainsAny(enc, " =\r\n\x00") || !isASCII(enc) {
			t.Fatalf("%q: %q", s, enc)
		}
		if dec, err := ParseXtext(s); err == nil {
			if again, err := ParseXtext(string(AppendXtext(nil, dec))); again != dec || err != nil {
				t.Fatalf("%q: %q, %q, %v", s, dec, again, err)
			}
		}
		if dec, err := parseUnitext(s, true); err == nil {
			enc := string(appendUnitext(nil, dec))
			if again, err := parseUnitext(enc, false); again != dec || err != nil || !isASCII(enc) {
				t.Fatalf("%q: %q, %q, %q, %v", s, dec, enc, again, err)
			}
		}
	})
}

// Whatever is accepted can be sent on by our client and is accepted again with the same meaning.
func FuzzMail(f *testing.F) {
	for _, s := range []string{
		"FROM:<a@b> SIZE=10 BODY=8BITMIME RET=FULL ENVID=a+20b", "FROM:<> XQID=a1 XARRIVED=5 XSUSPECT", "FROM:<j\u00f6rg@b\u00fccher.example> SMTPUTF8",
		`FROM: <"a b\"c"@[IPv6:::1]> AUTH=<>`, "FROM:<@x,@y:a@b>",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, p, err := ParseMail(s, everything)
		if err != nil {
			checkFuzzError(t, s, err)
			return
		}
		wire := "FROM:<" + m.String() + ">" + string(p.Append(nil))
		if strings.ContainsAny(wire, "\r\n\x00") || !p.UTF8 && !isASCII(wire) {
			t.Fatalf("%q: %q", s, wire)
		}
		m2, p2, err := ParseMail(wire, everything)
		p.Auth = ""
		if p.Size == 0 {
			p.Size = -1
		}
		if err != nil || m2 != m || p2 != p {
			t.Fatalf("%q: %q, %+v; sent %q; read %q, %+v, %v", s, m, p, wire, m2, p2, err)
		}
	})
}

func FuzzRcpt(f *testing.F) {
	for _, s := range []string{
		"TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c", "TO:<postmaster>", "TO:<a@b> ORCPT=utf-8;\\x{F6}x", "TO:<a@b> ORCPT=utf-8;\u00f6x", "TO:<a@b> NOTIFY=NEVER",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, p, err := ParseRcpt(s, everything)
		if err != nil {
			checkFuzzError(t, s, err)
			return
		}
		params := string(p.Append(nil))
		if !isASCII(params) {
			t.Fatalf("%q: %q", s, params)
		}
		wire := "TO:<" + m.String() + ">" + params
		if strings.ContainsAny(wire, "\r\n\x00") {
			t.Fatalf("%q: %q", s, wire)
		}
		// The escapes may make an ORCPT longer than it came.
		if strings.Contains(params, `\x{`) && len(params) > 400 {
			return
		}
		m2, p2, err := ParseRcpt(wire, everything)
		if err != nil || m2 != m || p2 != p {
			t.Fatalf("%q: %q, %+v; sent %q; read %q, %+v, %v", s, m, p, wire, m2, p2, err)
		}
	})
}

func checkFuzzError(t *testing.T, s string, err error) {
	switch code(t, err) {
	case 501, 552, 553, 555:
	default:
		t.Fatalf("%q: %v", s, err)
	}
	if e := err.Error(); printable(e, false) != e {
		t.Fatalf("%q: error text %q", s, e)
	}
}

func BenchmarkParseMail(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseMail("FROM:<someone@example.org> SIZE=4096 BODY=8BITMIME", everything); err != nil {
			b.Fatal(err)
		}
	}
}
