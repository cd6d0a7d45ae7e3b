package message

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain = ? text", "plain = ? text"},
		{"=?utf-8?q?J=C3=B6rg?=", "Jörg"},
		{"=?ISO-8859-1?Q?Andr=E9?= Pirard", "André Pirard"},
		{"=?utf-8?b?SsO2cmc=?=", "Jörg"},
		// RFC 2047 section 8.
		{"(=?ISO-8859-1?Q?a?=)", "(a)"},
		{"=?ISO-8859-1?Q?a?= b", "a b"},
		{"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"},
		{"=?ISO-8859-1?Q?a?=  \r\n\t=?ISO-8859-1?Q?b?=", "ab"},
		{"=?ISO-8859-1?Q?a_b?=", "a b"},
		{"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"},
		{"a =?utf-8?q?b?= c =?utf-8?q?d?= e", "a b c d e"},
		{"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"}, // RFC 2231 section 5
		// A character, and a shifted state, divided between words.
		{"=?utf-8?q?=E2=82?= =?UTF-8?b?rA==?=", "€"},
		{"=?iso-2022-jp?b?GyRCJUYlOQ==?= =?iso-2022-jp?b?JUglYSE8JWsbKEI=?=", "テストメール"},
		// What programs write.
		{"a=?utf-8?q?b?=c", "abc"},
		{`"=?utf-8?q?b?="`, `"b"`},
		{"=?utf-8?q?a b?=", "a b"},
		{"=?utf-8?q?what??=", "what?"},
		{"=?utf-8?q?100%=?=", "100%="},
		{"=?utf-8?b?YQ?=", "a"},
		{"=?utf-8?q?=ff?=", "\ufffd"},
		{"=?utf-8?q??=", ""},
		{"J\xc3\xb6rg \xe4 =?utf-8?q?a?=", "Jörg \ufffd a"},
		{"\xe4", "\ufffd"},
		// Broken ones stay.
		{"=?utf-8?q?a", "=?utf-8?q?a"},
		{"=?utf-8?q?a =?utf-8?q?b?=", "=?utf-8?q?a b"},
		{"=?utf-8?x?a?=", "=?utf-8?x?a?="},
		{"=?no-such?q?a?= =?utf-8?q?b?=", "=?no-such?q?a?= b"},
		{"=?utf-8?b?@@@@?=", "=?utf-8?b?@@@@?="},
		{"=?utf-8?b?YQ==YQ==?=", "=?utf-8?b?YQ==YQ==?="},
		{"=?utf-8?qq?a?=", "=?utf-8?qq?a?="},
		{"=?utf-8?q?=", "=?utf-8?q?="},
		{"=??q?a?=", "=??q?a?="},
		{"=?=?utf-8?q?a?=", "=?a"},
		{"?= =? ?=", "?= =? ?="},
	} {
		if got := Text(c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestBaseSubject(t *testing.T) {
	for _, c := range []struct {
		in, want string
		changed  bool
	}{
		{"hello", "hello", false},
		{"", "", false},
		{" \t hello \t  world\r\n there ", "hello world there", false},
		{"Re: hello", "hello", true},
		{"RE : re:Fwd: fw: hello", "hello", true},
		{"Re: [list] hello", "hello", true},
		{"[list] Re: hello", "hello", true},
		{"[list] hello", "hello", false},
		{"[a] [b] Re [c] : [d] hello", "hello", true},
		{"[list]", "[list]", false},
		{"[a] [b]", "[b]", false},
		{"Re: [list]", "[list]", true},
		{"Re:", "", true},
		{"hello (fwd)", "hello", true},
		{"hello (FWD) (fwd)", "hello", true},
		{"[fwd: hello]", "hello", true},
		{"[Fwd: [fwd: Re: hello (fwd)]]", "hello", true},
		{"[fwd: hello] world", "world", false},
		{"[fwd:]", "", true},
		{"=?utf-8?q?Re=3A_J=C3=B6rg?=", "Jörg", true},
		{"=?utf-8?q?Re=3A?= =?utf-8?q?_hello?=", "hello", true},
		{"Reply: hello", "Reply: hello", false},
		{"fwdx: hello", "fwdx: hello", false},
		{"AW: hello", "AW: hello", false}, // RFC 5256 knows no other language
		{"[a [b] hello", "[a [b] hello", false},
		{"re[a: hello", "re[a: hello", false},
	} {
		got, changed := BaseSubject(c.in)
		if got != c.want || changed != c.changed {
			t.Errorf("%q: %q, %v, want %q, %v", c.in, got, changed, c.want, c.changed)
		}
	}
}

func TestMessageIDs(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"<a@b>", "a@b"},
		{" <a@b>\r\n\t<c@d><e@f>,<g@h>", "a@b c@d e@f g@h"},
		{`<"01KF8JCEOCBS0045PS"@xxx.yyy.com>`, "01KF8JCEOCBS0045PS@xxx.yyy.com"}, // RFC 5256 section 3
		{`<"a\"b>c"@d>`, `a"b>c@d`},
		{"< a (x) @ b >", "a@b"},
		{"Your message of Fri (<x@y>) \"<z@z>\" <a@b>", "a@b"},
		{"<a@[1.2.3.4]>", "a@[1.2.3.4]"},
		{"a@b", ""},
		{"<ab> <> <c@d>", "c@d"},
		{"<a@b <c@d>", "c@d"},
		{"<a@b", ""},
		{"<<a@b>>", "a@b"},
		{"(never ended <a@b>", ""},
	} {
		if got := strings.Join(MessageIDs(c.in), " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ encoding, charset, in, want string }{
		{"", "", "a\r\nb", "a\r\nb"},
		{"7bit", "us-ascii", "J\xc3\xb6rg \xff", "Jörg \ufffd"},
		{"x-unknown", "x-no-such", "J\xc3\xb6rg \xff=41", "Jörg \ufffd=41"},
		{"8bit", "iso-8859-1", "J\xf6rg\r\n", "Jörg\r\n"},
		{"BASE64", "utf-8", "SsO2\r\n cm!c=", "Jörg"},
		{"base64", "utf-8", "SsO2cmc=SsO2cmc", "JörgJörg"},
		{"base64", "utf-8", "SsO2c", "Jö"},
		{"base64", "iso-8859-1", "SvZyZw==", "Jörg"},
		{"base64", "utf-16le", "SgD2AHIAZwA=", "Jörg"},
		{"Quoted-Printable", "utf-8", "J=C3=b6r=\r\ng= \t\r\n=\n!", "Jörg!"},
		{"quoted-printable", "", "1 = 2, =x, =4x, =", "1 = 2, =x, =4x, ="},
		{"quoted-printable", "", "==41= =41", "=A= A"},
		{"quoted-printable", "", "a=4", "a=4"},
		{"quoted-printable", "", "a=\r b=\rc", "a bc"},
		{"quoted-printable", "", "a \r\n", "a\r\n"}, // RFC 2045 section 6.7 rule 3
		{"quoted-printable", "", "a \t\n \tb =\n c= \n=20 \nd  ", "a\n \tb  c \nd"},
		{"quoted-printable", "", strings.Repeat(" ", 2*maxWhite+5) + "b", strings.Repeat(" ", 2*maxWhite+5) + "b"},
		{"", "utf-16", "\xff\xfea\x00", "a"},
		{"", "gb2312", "\xc4\xe3\xba\xc3", "你好"},
		{"", "big5", "\xa7\x41", "你"},
		{"", "shift_jis", "\x83\x65", "テ"},
		{"", "euc-kr", "\xc7\xd1", "한"},
		{"", "koi8-r", "\xd0\xd2\xc9", "при"},
		{"", "windows-1252", "\x80\x81", "€\ufffd"},
		{"", "euc-jp", "a\xa4", "a\ufffd"},
	} {
		for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in)), iotest.DataErrReader(strings.NewReader(c.in))} {
			got, err := io.ReadAll(Decode(r, c.encoding, c.charset))
			if err != nil || string(got) != c.want {
				t.Errorf("%s, %s, %q: %q, %v, want %q", c.encoding, c.charset, c.in, got, err, c.want)
			}
		}
	}
	if _, err := io.ReadAll(Decode(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("abc"))), "base64", "")); err != iotest.ErrTimeout {
		t.Errorf("error %v", err)
	}
}

// Every charset gives UTF-8 for whatever octets, and ASCII for ASCII.
func TestCharsets(t *testing.T) {
	all := make([]byte, 0, 1<<16)
	for i := range 1 << 15 {
		all = append(all, byte(i>>7), byte(i))
	}
	for _, name := range charsetNames {
		if !KnownCharset(strings.ToUpper(name)) {
			t.Errorf("%s is unknown", name)
		}
		if !strings.HasPrefix(name, "utf-16") && !strings.HasPrefix(name, "utf-32") {
			if got := toUTF8([]byte("plain text 123"), name); got != "plain text 123" {
				t.Errorf("%s: ASCII becomes %q", name, got)
			}
		}
		if !utf8.ValidString(toUTF8(all, name)) {
			t.Errorf("%s: not UTF-8", name)
		}
		if b, err := io.ReadAll(Decode(strings.NewReader(string(all)), "", name)); err != nil || !utf8.Valid(b) {
			t.Errorf("%s: %v, or not UTF-8", name, err)
		}
	}
	if KnownCharset("") || KnownCharset("x-no-such") {
		t.Error("no charset is known")
	}
}

// A charset of each kind.
var charsetNames = strings.Fields(`utf-8 us-ascii iso-8859-1 iso-8859-2 iso-8859-3 iso-8859-4 iso-8859-5 iso-8859-6 iso-8859-7 iso-8859-8 iso-8859-9
	iso-8859-10 iso-8859-11 iso-8859-13 iso-8859-14 iso-8859-15 iso-8859-16 windows-1250 windows-1251 windows-1252 windows-1253 windows-1254 windows-1255
	windows-1256 windows-1257 windows-1258 koi8-r koi8-u cp437 cp850 cp852 cp866 macintosh x-mac-cyrillic iso-2022-jp shift_jis euc-jp gb2312 gb18030
	hz-gb-2312 big5 euc-kr utf-16 utf-16be utf-16le utf-32 utf-32be utf-32le`)

func FuzzText(f *testing.F) {
	for _, s := range []string{"=?utf-8?q?=E2=82?= =?UTF-8?b?rA==?= x", "[a] Re [b]: [fwd: =?iso-2022-jp?b?GyRCJUYlOQ==?= (fwd)]", "<a@\"b\\\">c\"> (<d@e>)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := Text(s); !utf8.ValidString(got) {
			t.Errorf("%q: %q is no UTF-8", s, got)
		}
		base, _ := BaseSubject(s)
		if again, _ := BaseSubject(base); again != base && !strings.Contains(base, "=?") {
			t.Errorf("%q: base %q, whose base is %q", s, base, again)
		}
		for _, id := range MessageIDs(s) {
			if !strings.Contains(id, "@") {
				t.Errorf("%q: id %q", s, id)
			}
		}
		for _, encoding := range []string{"base64", "quoted-printable"} {
			if got, err := io.ReadAll(Decode(strings.NewReader(s), encoding, "")); err != nil || !utf8.Valid(got) {
				t.Errorf("%q: %s %q, %v", s, encoding, got, err)
			}
		}
	})
}

// What is decoded does not depend on where blocks end, nor on how much is looked at together.
func TestQuotedPrintableInBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	const letters = "ab  \t==\r\n\n4F0g"
	for range 3000 {
		text := make([]byte, r.IntN(600))
		few := r.IntN(len(letters)) + 1
		for i := range text {
			text[i] = letters[r.IntN(few)]
			if few < 8 && r.IntN(40) == 0 {
				text[i] = letters[r.IntN(len(letters))]
			}
		}
		var whole, single quotedDecoder
		want := []byte(nil)
		for i := range text {
			want = single.step(want, text[i:i+1], false)
		}
		want = single.step(want, nil, true)
		at := r.IntN(len(text) + 1)
		got := whole.step(whole.step(whole.step(nil, text[:at], false), text[at:], false), nil, true)
		if !bytes.Equal(got, want) {
			t.Fatalf("%q is %q, and octet by octet %q", text, got, want)
		}
	}
}

func BenchmarkQuotedPrintable(b *testing.B) {
	text := bytes.Repeat([]byte("The quick brown fox jumps =C3=BCber the lazy dog, and goes on to the end=\nof the line.\n"), 100)
	for name, text := range map[string][]byte{"text": text, "equals signs": bytes.Repeat([]byte("="), 8000), "lines": bytes.Repeat([]byte("\n"), 8000)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			var dst []byte
			for b.Loop() {
				var d quotedDecoder
				dst = d.step(dst[:0], text, true)
			}
		})
	}
}
