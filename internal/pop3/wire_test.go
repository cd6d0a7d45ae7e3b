package pop3

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseCommand(t *testing.T) {
	for _, x := range []struct {
		line, keyword, args string
		words               int
	}{
		{"retr 1", "RETR", "1", 1},
		{"TOP  1   2 ", "TOP", " 1   2 ", 2},
		{"PASS  a b ", "PASS", " a b ", 2},
		{"STAT", "STAT", "", 0},
		{"", "", "", 0},
		{" STAT", "", "STAT", 1},
		{"STAT\t1", "STAT\t1", "", 0},
		{"LIST \t1", "LIST", "\t1", 1},
		{"us\xffer x", "US\xffER", "x", 1},
	} {
		c := parseCommand([]byte(x.line))
		if c.Keyword != x.keyword || c.Args != x.args || len(c.Words()) != x.words {
			t.Errorf("%q is %+v, %q", x.line, c, c.Words())
		}
	}
}

// P01, P02: what is not plainly a number is none.
func TestP01_ParseNumber(t *testing.T) {
	for s, want := range map[string]int{"0": 0, "1": 1, "10": 10, "2147483647": 1<<31 - 1} {
		if n, err := ParseNumber(s); n != want || err != nil {
			t.Errorf("%q is %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "-1", "+1", "01", "00", "1x", "0x1", "1_0", "1.0", "1e3", " 1", "١", "2147483648", "4294967297", "9223372036854775808",
		"18446744073709551617", strings.Repeat("9", 200)} {
		if n, err := ParseNumber(s); err == nil {
			t.Errorf("%q is %d", s, n)
		}
	}
}

func TestResponses(t *testing.T) {
	s := &sink{}
	c := NewConn(s)
	c.WriteResponse(OK(""))
	c.WriteResponse(OK("2 messages"))
	c.WriteResponse(Err(SysTemp, "later"))
	c.WriteResponse(Err("", "a\r\n.\r\nb\x00"))
	c.WriteSize(12, 1<<40)
	c.WriteUIDL(100_000, strings.Repeat("~", 70))
	c.End()
	c.WriteChallenge(nil)
	c.WriteChallenge([]byte("<1@x>"))
	c.Flush()
	const want = "+OK\r\n+OK 2 messages\r\n-ERR [SYS/TEMP] later\r\n-ERR a??.??b?\r\n12 1099511627776\r\n100000 " +
		"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\r\n.\r\n+ \r\n+ PDFAeD4=\r\n"
	if s.out.String() != want {
		t.Errorf("%q", s.out.String())
	}
	if s.writes != 1 {
		t.Errorf("%d writes", s.writes)
	}
	if l := Err("", strings.Repeat("x", 1000)).Error(); len(l) != 510 || !utf8.ValidString(l) {
		t.Errorf("%d octets", len(l))
	}
}

func TestListingsAllocateNothing(t *testing.T) {
	c := NewConn(&discard{})
	if n := testing.AllocsPerRun(1000, func() { c.WriteSize(100_000, 123_456); c.WriteUIDL(100_000, "0000000123456789") }); n > 0.1 {
		t.Errorf("%v", n)
	}
}
