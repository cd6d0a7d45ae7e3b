package message

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func mime(t testing.TB, header string) *MIME { return &parse(t, header+"\n\n").Root.MIME }

func (ps Params) String() string {
	var s []string
	for _, p := range ps {
		s = append(s, p.Name+"="+p.Value)
	}
	return strings.Join(s, "|")
}

func TestContentType(t *testing.T) {
	for _, c := range []struct{ value, typ, params string }{
		{`text/html; charset=utf-8`, "text/html", "charset=utf-8"},
		{`TEXT/HTML;Charset="utf-8";`, "TEXT/HTML", "Charset=utf-8"},
		{`text / html ; charset = utf-8`, "text/html", "charset=utf-8"},
		{`text/plain; charset=us-ascii (Plain text)`, "text/plain", "charset=us-ascii"},
		{`(a) text/(b)plain (c); (d) charset=(e) x`, "text/plain", "charset=x"},
		{"text/plain;\n\tcharset=x;\n format=flowed", "text/plain", "charset=x|format=flowed"},
		{`text/plain; name="a;b \"c\" \\ d.txt"; x=y`, "text/plain", `name=a;b "c" \ d.txt|x=y`},
		{`text/plain; name="C:\temp\x.txt"`, "text/plain", `name=C:\temp\x.txt`},
		{`text/plain; name="never ended; x=y`, "text/plain", `name=never ended; x=y`},
		{`text/plain; name="ends in \`, "text/plain", `name=ends in `},
		{`text/plain; name=annual report (1).pdf; x=y`, "text/plain", `name=annual report (1).pdf|x=y`},
		{`text/plain; name="a" charset=x`, "text/plain", "name=a|charset=x"},
		{`text/plain; name=a b.txt charset=x;y=z`, "text/plain", "name=a b.txt|charset=x|y=z"},
		{`text/plain; name==?utf-8?q?a?= =?utf-8?q?b?=`, "text/plain", "name==?utf-8?q?a?= =?utf-8?q?b?="},
		{`text/plain charset=x`, "text/plain", "charset=x"},
		{`text/plain;;; charset=x;; =y; z; a b=c`, "text/plain", "charset=x"},
		{`text/plain; charset=`, "text/plain", "charset="},
		{`text/plain; a=1; A=2`, "text/plain", "a=1|A=2"},
		{`text/plain; a=b=c`, "text/plain", "a=b=c"},
		{`image/svg+xml`, "image/svg+xml", ""},
		// RFC 2045 section 5.2: what is not understood is text/plain.
		{``, "text/plain", ""},
		{`text`, "text/plain", ""},
		{`text; charset=x`, "text/plain", "charset=x"},
		{`/plain; charset=x`, "text/plain", "charset=x"},
		{`text/`, "text/plain", ""},
		{`=?utf-8?q?text?=`, "text/plain", ""},
		{`(never ended text/html`, "text/plain", ""},
	} {
		m := mime(t, "Content-Type: "+c.value)
		if got := m.Type + "/" + m.Subtype; got != c.typ || m.Params.String() != c.params {
			t.Errorf("%q: %s %q, want %s %q", c.value, got, m.Params, c.typ, c.params)
		}
	}
}

func TestMIME(t *testing.T) {
	m := mime(t, "Content-Type: a/b\nContent-Type: c/d\ncontent-transfer-encoding: BASE64 (x)\nContent-ID: <a@b>\nContent-Description: a\n =?utf-8?q?b?=\n"+
		"Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\nContent-Disposition: attachment; filename=x.txt\nContent-Disposition: inline\nContent-Language: en, de (x), ,fr\nContent-Location:\n http://a/ b\nContent-Unknown: x\nContent: x")
	got := fmt.Sprintf("%+v", *m)
	if want := "{Type:a Subtype:b Params: Encoding:BASE64 ID:<a@b> Description:a =?utf-8?q?b?= MD5:Q2hlY2sgSW50ZWdyaXR5IQ== Disposition:attachment " +
		"DispParams:filename=x.txt Language:[en de fr] Location:http://a/ b}"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	m = mime(t, "")
	if got, want := fmt.Sprintf("%+v", *m), "{Type:text Subtype:plain Params: Encoding:7bit ID: Description: MD5: Disposition: DispParams: Language:[] Location:}"; got != want {
		t.Errorf("defaults %s\nwant %s", got, want)
	}
}

func TestParams(t *testing.T) {
	for _, c := range []struct{ in, want, joined string }{
		{`n=abc`, "abc", "n=abc"},
		{`N=abc; n=d`, "abc", "N=abc|n=d"},
		{`x=abc`, "!", "x=abc"},
		// RFC 2231 section 3 and 4, and its example of both.
		{`n*0="a b"; n*1=c`, "a bc", "n=a bc"},
		{`n*1=c; n*0=ab; x=y`, "abc", "n=abc|x=y"},
		{`n*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A`, "This is ***fun***", "n*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A"},
		{`n*0*=us-ascii'en'This%20is%20even%20more%20; n*1*=%2A%2A%2Afun%2A%2A%2A%20; n*2="isn't it!"`, "This is even more ***fun*** isn't it!",
			"n*=us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it!"},
		{`n*=iso-8859-1''%E4`, "ä", "n*=iso-8859-1''%E4"},
		{`n*0*=utf-8''%C3; n*1*=%A4`, "ä", "n*=utf-8''%C3%A4"},
		{`n=plain; n*=utf-8''%C3%A4`, "ä", "n=plain|n*=utf-8''%C3%A4"},
		{`n=plain; n*0=a; n*1=b`, "ab", "n=plain|n=ab"},
		// Broken: a gap, no first one, twice the same, a number too large, escapes that are none, no charset.
		{`n*0=a; n*2=c`, "a", "n=a"},
		{`n*1=c; n=plain`, "plain", "n*1=c|n=plain"},
		{`n*0*=utf-8''a; n*0*=utf-8''b; n*1=c`, "ac", "n*=utf-8''ac"},
		{`n*0=a; n*18446744073709551616=b; n*9999999=c`, "a", "n=a|n*18446744073709551616=b|n*9999999=c"},
		{`n*=utf-8''%C3%A4%zz%4`, "ä%zz%4", "n*=utf-8''%C3%A4%zz%4"},
		{`n*=%C3%A4`, "ä", "n*=%C3%A4"},
		{`n*=''%E4`, "\ufffd", "n*=''%E4"},
		{`n*0=a; n*1*=utf-8''b`, "autf-8''b", "n*=utf-8''autf-8%27%27b"},
		{`n*x=a; n*-1=b; n**=c`, "!", "n*x=a|n*-1=b|n**=c"},
		// RFC 2047 where it does not belong.
		{`n="=?iso-8859-1?q?=E4.txt?="`, "ä.txt", "n==?iso-8859-1?q?=E4.txt?="},
		{`n==?iso-8859-1?q?=E4.txt?=`, "ä.txt", "n==?iso-8859-1?q?=E4.txt?="},
		{`n*0="=?utf-8?q?=C3?="; n*1=" =?utf-8?q?=A4?="`, "ä", "n==?utf-8?q?=C3?= =?utf-8?q?=A4?="},
		{"n=\xe4", "\ufffd", "n=\xe4"},
	} {
		ps := params(c.in)
		got, ok := ps.Get("n")
		if !ok {
			got = "!"
		}
		if got != c.want || ps.Joined().String() != c.joined {
			t.Errorf("%s: %q, joined %q, want %q, %q", c.in, got, ps.Joined(), c.want, c.joined)
		}
	}
	many := params(strings.Repeat("a=b;", 1000))
	if len(many) != maxParams || !slices.Equal(many, many.Joined()) {
		t.Errorf("%d parameters", len(many))
	}
}

func FuzzMIME(f *testing.F) {
	for _, s := range []string{`text/plain; n*0*=us-ascii'en'a%20; n*1="b\"c"; (c) x = y (z)`, "a/b;c=d e=f; g=\"h", `x*=''%41; x=?`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m := &MIME{}
		m.contentType(s)
		if m.Type == "" || m.Subtype == "" {
			t.Errorf("type %q/%q", m.Type, m.Subtype)
		}
		all := m.Params.Joined()
		for _, p := range all {
			want, _ := m.Params.Get(strings.TrimSuffix(p.Name, "*"))
			if _, n, extended := section(p.Name); n < 0 && extended {
				if got, _ := (Params{p}).Get(strings.TrimSuffix(p.Name, "*")); got != want && firstOf(all, p) {
					t.Errorf("joined %q is %q, want %q", p, got, want)
				}
			}
		}
	})
}

// firstOf: p is the first of its name and form.
func firstOf(ps Params, p Param) bool {
	for _, x := range ps {
		if strings.EqualFold(x.Name, p.Name) {
			return x == p
		}
	}
	return false
}
