package message

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPreview(t *testing.T) {
	for _, x := range []struct{ html, text, want string }{
		{text: "", want: ""},
		{text: " \r\n\t\n", want: ""},
		{text: "Hello,\r\n\r\n  how  are\tyou?\r\n", want: "Hello, how are you?"},
		{text: "On Monday Bob wrote:\n> long\n> ago\n\nYes.\n", want: "On Monday Bob wrote: Yes."},
		{text: "> all\n> quoted\n", want: "> all > quoted"},
		{text: "a\x00b\u200b\u00adc\u00a0d\u202e", want: "a bc d"},
		{text: strings.Repeat("ä", 300), want: strings.Repeat("ä", 200)},
		{text: strings.Repeat("x", 199) + " yz", want: strings.Repeat("x", 199)},
		{text: strings.Repeat("x", 200) + " yz", want: strings.Repeat("x", 200)},
		{html: "<p>Hello, <b>w</b>orld</p><p>2&nbsp;&lt; 3 &amp;amp; &#8364;&Uuml;</p>", want: "Hello, world 2 < 3 &amp; €Ü"},
		{html: "<html><head><title>no</title><style>p > a { x: y }</style></head><body>yes<script>if (a < b) {}</script> too", want: "yes too"},
		{html: "<!DOCTYPE html><!-- a > b --><td title='a > b'>one</td><td>two<br/>three", want: "one two three"},
		{html: "1 < 2 <", want: "1 < 2 <"},
		{html: "a<b title=\"no end>c</b>d", want: "acd"},
		{html: "<style>for ever", want: ""},
		{html: "<title>a</titlex>b</TITLE >c", want: "c"},
		{html: "Now&#847;&zwnj;&nbsp;&#8199;&shy;&#847; it", want: "Now it"},
		{html: "&#0;&#x110000;&bogus;&", want: "\ufffd\ufffd&bogus;&"},
	} {
		text := x.text + x.html
		if got := Preview([]byte(text), x.html != "", true); got != x.want {
			t.Errorf("%q: %q, want %q", text, got, x.want)
		}
	}
}

func FuzzPreview(f *testing.F) {
	f.Add([]byte("<p>Hello, <b>w</b>orld</p><style>x</style><!-- -->&amp; > a\n> b"), true)
	f.Fuzz(func(t *testing.T, text []byte, html bool) {
		if s := Preview(text, html, html); utf8.RuneCountInString(s) > PreviewLength || !utf8.ValidString(s) || s != strings.TrimSpace(s) {
			t.Errorf("%q: %q", text, s)
		}
	})
}
