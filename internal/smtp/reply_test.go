package smtp

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// written is how r goes over the wire.
func written(t *testing.T, r *Reply) string {
	t.Helper()
	c, other := peer(t)
	go func() {
		c.WriteReply(r)
		c.Flush()
		c.Close()
	}()
	b, err := io.ReadAll(other)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWriteReply(t *testing.T) {
	x := strings.Repeat("x", 600)
	words := strings.TrimSpace(strings.Repeat("word ", 150))
	for _, tt := range []struct {
		r    *Reply
		want string
	}{
		{NewReply(250, "2.1.0", "ok"), "250 2.1.0 ok\r\n"},
		{NewReply(354, "", "go on"), "354 go on\r\n"},
		{NewReply(250, "", ""), "250 \r\n"},
		{&Reply{Code: 250}, "250 \r\n"},
		{&Reply{250, EnhancedCode{}, []string{"a", "", "b"}}, "250-a\r\n250-\r\n250 b\r\n"},
		{&Reply{550, EnhancedCode{5, 1, 1}, []string{"a", "b"}}, "550-5.1.1 a\r\n550 5.1.1 b\r\n"},
		{NewReply(550, "5.1.1", "a\r\n250 b\x00\x1b\x7f\t\u00e4"), "550 5.1.1 a??250 b???\t?\r\n"},
		{NewReply(550, "", x), "550-" + x[:506] + "\r\n550 " + x[506:] + "\r\n"},
		{NewReply(550, "5.10.20", x), "550-5.10.20 " + x[:498] + "\r\n550 5.10.20 " + x[498:] + "\r\n"},
		{NewReply(250, "", words), "250-" + words[:504] + "\r\n250 " + words[505:] + "\r\n"},
		{NewReply(0, "", "x"), "451 4.3.0 x\r\n"},
		{NewReply(1000, "", "x"), "451 4.3.0 x\r\n"},
		{&Reply{Code: 250, Lines: make([]string, 1000)}, strings.Repeat("250-\r\n", 127) + "250 \r\n"},
	} {
		if got := written(t, tt.r); got != tt.want {
			t.Errorf("%.60q:\ngot  %q\nwant %q", tt.r.Error(), got, tt.want)
		}
	}
}

func TestReply(t *testing.T) {
	r := NewReply(550, "5.1.1", "no such user")
	if r.Error() != "550 5.1.1 no such user" || r.Temporary() || !r.Permanent() || r.Positive() {
		t.Error(r)
	}
	if r := NewReply(451, "4.3.0", "x"); !r.Temporary() || r.Permanent() || r.Positive() {
		t.Error(r)
	}
	for _, c := range []int{250, 354} {
		if r := NewReply(c, "", "x"); r.Temporary() || r.Permanent() || !r.Positive() {
			t.Error(r)
		}
	}
	if r := NewReply(550, "", "x"); r.Error() != "550 x" {
		t.Error(r)
	}
	if s := (&Reply{550, EnhancedCode{5, 0, 0}, []string{"a\x1b", "b"}}).Error(); s != "550 5.0.0 a? b" {
		t.Error(s)
	}
	for s, ok := range map[string]bool{
		"5.1.1": true, "2.0.0": true, "4.999.999": true, "": false, "5": false, "5.1": false, "5.1.": false, "5.1.1.1": false, "3.1.1": false, "1.0.0": false,
		"5.1000.1": false, "5.01.1": false, "5.1.1 ": false, "5.1.1 x": false, "x5.1.1": false, "5.-1.1": false, "55.1.1": false,
	} {
		e, got := ParseEnhanced(s)
		if got != ok && s != "5.1.1 " {
			t.Errorf("%q: %v", s, got)
		}
		if ok && e.String() != s {
			t.Errorf("%q: %v", s, e)
		}
	}
}

func TestReadReply(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want *Reply
	}{
		{"220 mx.example.org ESMTP\r\n", &Reply{220, EnhancedCode{}, []string{"mx.example.org ESMTP"}}},
		{"250 2.1.5 ok\r\n", &Reply{250, EnhancedCode{2, 1, 5}, []string{"ok"}}},
		{"250-2.1.5 a\r\n250 2.1.5 b\r\n", &Reply{250, EnhancedCode{2, 1, 5}, []string{"a", "b"}}},
		{"550-5.1.1 a\r\n550-5.7.1 b\r\n550 c\r\n", &Reply{550, EnhancedCode{5, 1, 1}, []string{"a", "5.7.1 b", "c"}}},
		{"550 4.1.1 a\r\n", &Reply{550, EnhancedCode{}, []string{"4.1.1 a"}}},
		{"250\r\n", &Reply{250, EnhancedCode{}, []string{""}}},
		{"250-\r\n250\r\n", &Reply{250, EnhancedCode{}, []string{"", ""}}},
		{"250 2.0.0\r\n", &Reply{250, EnhancedCode{2, 0, 0}, []string{""}}},
		{"571 no\r\n", &Reply{571, EnhancedCode{}, []string{"no"}}},
		{"550 \x1b[2J \u00e4 \xff\tx\r\n", &Reply{550, EnhancedCode{}, []string{"?[2J \u00e4 ?\tx"}}},
		{"250 " + strings.Repeat("x", 2042) + "\r\n", &Reply{250, EnhancedCode{}, []string{strings.Repeat("x", 2042)}}},
		{strings.Repeat("250-x\r\n", 127) + "250 x\r\n", &Reply{250, EnhancedCode{}, strings.Split(strings.Repeat("x ", 127)+"x", " ")}},
	} {
		got, err := send(t, tt.in).ReadReply()
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%.60q: %+v, %v", tt.in, got, err)
		}
	}
}

// R07, R08: what is no reply is ErrProtocol, and ends.
func TestR07R08_NoReply(t *testing.T) {
	for _, in := range []string{
		"999 x\r\n", "25\r\n", "2\r\n", "\r\n", "2500 x\r\n", "250x\r\n", "25a x\r\n", "100 x\r\n", "600 x\r\n", "HTTP/1.1 400 Bad Request\r\n", "-ERR\r\n", " 250 x\r\n",
		"250-x\r\n251 y\r\n", "250-x\r\n550 y\r\n", "250-x\r\ny\r\n", "250-x\r\n\r\n",
		"250 x\ny\r\n", "250 x\n250 y\r\n", "250 x\r250 y\r\n", "250 x\x00\r\n",
		strings.Repeat("250-x\r\n", 128) + "250 x\r\n", strings.Repeat("250-x\r\n", 10000),
		"250 " + strings.Repeat("x", 2043) + "\r\n", "250 " + strings.Repeat("x", 5<<20),
	} {
		if r, err := send(t, in).ReadReply(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%.60q: %v, %v", in, r, err)
		}
	}
	for in, want := range map[string]error{"": io.EOF, "250 x": io.ErrUnexpectedEOF, "250 x\n": io.ErrUnexpectedEOF, "250-x\r\n": io.EOF, "250-x\r\n250": io.ErrUnexpectedEOF} {
		if r, err := send(t, in).ReadReply(); err != want {
			t.Errorf("%q: %v, %v, want %v", in, r, err, want)
		}
	}
}

// Several replies in one segment are several replies.
func TestReadReply_Pipelined(t *testing.T) {
	c := send(t, "250 a\r\n250-b\r\n250 c\r\n354 d\r\n")
	for _, want := range []string{"250 a", "250 b c", "354 d"} {
		if r, err := c.ReadReply(); err != nil || r.Error() != want {
			t.Errorf("%v, %v, want %s", r, err, want)
		}
	}
}

func TestEHLO(t *testing.T) {
	e := everything
	e.SizeMax, e.RcptMax, e.MailMax = 10485760, 1000, 50
	want := "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-BINARYMIME\r\n" +
		"250-DSN\r\n250-LIMITS RCPTMAX=1000 MAILMAX=50\r\n250-STARTTLS\r\n250-XQID\r\n250 HELP\r\n"
	if got := written(t, e.EHLO("mx.example.org", "HELP")); got != want {
		t.Errorf("%q", got)
	}
	r, err := send(t, want).ReadReply()
	if err != nil {
		t.Fatal(err)
	}
	if name, got := ParseEHLO(r); name != "mx.example.org" || got != e {
		t.Errorf("%q, %+v", name, got)
	}
	if got := written(t, Extensions{Size: true, MailMax: 1}.EHLO("h")); got != "250-h\r\n250-SIZE\r\n250 LIMITS MAILMAX=1\r\n" {
		t.Errorf("%q", got)
	}
	for _, tt := range []struct {
		lines []string
		name  string
		want  Extensions
	}{
		{nil, "", Extensions{}},
		{[]string{"h hello you"}, "h", Extensions{}},
		{[]string{"h", "size", "Pipelining", "8bitmime", "AUTH PLAIN", "X-FOO", ""}, "h", Extensions{Size: true, Pipelining: true, EightBit: true}},
		{[]string{"PIPELINING", "SIZE 99999999999999999999"}, "PIPELINING", Extensions{Size: true}},
		{[]string{"h", "SIZE -5", "LIMITS RCPTMAX=x MAILMAX=-1 rcptmax RCPTDOMAINMAX=1", "BINARYMIME"}, "h", Extensions{Size: true}},
		{[]string{"h", "LIMITS rcptmax=99999999999 MAILMAX=3", "BINARYMIME", "CHUNKING"}, "h", Extensions{MailMax: 3, BinaryMIME: true, Chunking: true}},
	} {
		if name, got := ParseEHLO(&Reply{Code: 250, Lines: tt.lines}); name != tt.name || got != tt.want {
			t.Errorf("%q: %q, %+v", tt.lines, name, got)
		}
	}
}

// FuzzReply: what is read is bounded and clean, and what we write of it is read as the same.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-2.1.5 a\r\n250 2.1.5 b\r\n", "550 \x1b\xff\r\n", "999 x\r\n", "250-a\r\n251 b\r\n", "250\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := &Reply{}
		for i, line := range bytes.Split(in, []byte("\r\n")) {
			if bytes.ContainsAny(line, "\r\n\x00") || i == maxReplyLines {
				return
			}
			more, why := r.addLine(string(line))
			if why != "" {
				return
			}
			if !more {
				break
			}
		}
		if r.Code < 200 || r.Code > 599 || len(r.Lines) == 0 {
			t.Fatalf("%q: %+v", in, r)
		}
		if e := r.Error(); strings.ContainsAny(e, "\r\n\x00\x1b") || printable(e, true) != e {
			t.Fatalf("%q: %q", in, e)
		}
		ParseEHLO(r)
		for _, l := range r.Lines {
			for rest := l; rest != ""; {
				var line string
				if line, rest = cutText(rest, 500); len(line) > 500 {
					t.Fatalf("%q: a line of %d", in, len(line))
				}
			}
		}
	})
}
