package imap

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// RFC 7888 section 3, and the same with synchronizing literals.
func TestLiterals(t *testing.T) {
	for in, out := range map[string]string{
		"A001 LOGIN {11+}\r\nFRED FOOBAR {7+}\r\nfat man\r\nb NOOP\r\n": "",
		"A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man\r\nb NOOP\r\n":   "+ OK\r\n+ OK\r\n",
		"A001 LOGIN {11}\r\nFRED FOOBAR {7+}\r\nfat man\r\nb NOOP\r\n":  "+ OK\r\n",
	} {
		for step := range 5 {
			c, w := receive(in, 0)
			w.step = step
			c.Limits = BeforeLogin()
			cmd, d, err := c.ReadCommand()
			if err != nil {
				t.Fatal(err)
			}
			user := d.SP().AString()
			pass := d.SP().AString()
			if cmd.Name != "LOGIN" || user != "FRED FOOBAR" || pass != "fat man" || d.End() != nil {
				t.Errorf("%q: %q, %q, %v", in, user, pass, d.Err())
			}
			if cmd, _, err := c.ReadCommand(); cmd.Tag != "b" || err != nil {
				t.Errorf("%q, then: %+v, %v", in, cmd, err)
			}
			if c.Flush(); w.out.String() != out {
				t.Errorf("%q: sent %q", in, w.out.String())
			}
		}
	}
}

func TestLiteralAtEnd(t *testing.T) {
	for line, want := range map[string]Literal{
		"":                        {},
		"}":                       {},
		"{}":                      {},
		"{+}":                     {},
		"1}":                      {},
		"{-1}":                    {},
		"{1+":                     {},
		"{1} ":                    {},
		"{1++}":                   {},
		"{ 1}":                    {},
		"a {12}":                  {Size: 12, at: 2, ok: true},
		"{0+}":                    {NonSync: true, ok: true},
		"x ~{3+}":                 {Size: 3, NonSync: true, Binary: true, at: 2, ok: true},
		"{01}":                    {Size: 1, zeros: true, ok: true},
		"{{9}":                    {Size: 9, at: 1, ok: true},
		`"x {5+}`:                 {Size: 5, NonSync: true, at: 3, ok: true},
		"{9223372036854775807}":   {Size: 1<<63 - 1, excess: true, ok: true}, // the last few numbers of 63 bits are taken for too large
		"{9223372036854775799}":   {Size: 9223372036854775799, ok: true},
		"{18446744073709551616+}": {Size: 1<<63 - 1, excess: true, NonSync: true, ok: true},
	} {
		if got := literalAtEnd([]byte(line)); got != want {
			t.Errorf("%q: %+v, want %+v", line, got, want)
		}
	}
}

// I01: a literal is refused before anything is allocated for it; what comes of it unasked is not taken for a command.
func TestI01_LiteralSizes(t *testing.T) {
	const next = "\r\nb NOOP\r\n"
	for _, x := range []struct {
		in, code string
		then     error
	}{
		{"{4294967296}", TooBig, nil},
		{"{9999999999}", TooBig, nil},
		{"{4097}", TooBig, nil},
		{"{9223372036854775807}", TooBig, nil},
		{"{18446744073709551615}", TooBig, nil},
		{"{18446744073709551615+}", TooBig, ErrTooMuchToSkip},
		{"{4294967296+}", TooBig, ErrTooMuchToSkip},
		{"{16385+}", TooBig, ErrTooMuchToSkip},
		{"{10+}\r\nc LOGOUT\r\n {18446744073709551615+}", TooBig, ErrTooMuchToSkip},
		{"{-1}", "", nil},
		{"{-1+}", "", nil},
		{"{01}", "", nil},
		{"{00+}\r\n", "", nil},
		{"{}", "", nil},
		{"{+}", "", nil},
		{"{5", "", nil},
		{"{5}x", "", nil},
		{"~{5}", "", nil},
		{"~{10+}\r\nc LOGOUT\r\n", "", nil},
		{"{010+}\r\nc LOGOUT\r\n", "", nil},
		{"{10 +}", "", nil},
		{"\"unterminated {10+}\r\nc LOGOUT\r\n", "", nil},
		{"\x00 {10+}\r\nc LOGOUT\r\n", "", nil},
		{"\r {10+}\r\nc LOGOUT\r\n", "", nil},
		{"\n {10+}\r\nc LOGOUT\r\n", "", nil},
		{"( {10+}\r\nc LOGOUT\r\n {10+}\r\nd LOGOUT\r\n", "", nil},
		{"{4097+}\r\n" + strings.Repeat("c LOGOUT\r\n", 409) + "1234567", TooBig, nil}, // LITERAL-
		{"{0+}" + strings.Repeat("\r\n{0+}", 10_000), "", ErrTooMuchToSkip},
	} {
		c, w := receive("a LOGIN "+x.in+next, 0)
		c.Limits = BeforeLogin()
		_, d, err := c.ReadCommand()
		if err == nil {
			d.SP().AString()
			d.SP().AString()
			err = d.End()
		}
		if !is(err, ConditionBAD, x.code) {
			t.Errorf("%.60q: %v, want BAD %s", x.in, err, x.code)
		}
		cmd, _, err := c.ReadCommand()
		if err != x.then || err == nil && cmd.Tag != "b" {
			t.Errorf("%.60q, then: %+v, %v", x.in, cmd, err)
		}
		if c.Flush(); w.out.Len() > 0 {
			t.Errorf("%.60q: sent %q", x.in, w.out.String())
		}
	}
	var before, after runtime.MemStats
	c, w := receive("", 0)
	in := []byte(strings.Repeat("a LOGIN {99999999}\r\n", 100))
	runtime.ReadMemStats(&before)
	for w.in = in; ; {
		_, d, err := c.ReadCommand()
		if err != nil {
			break
		}
		d.SP().AString()
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 300_000 {
		t.Errorf("%d octets allocated", n)
	}
}

// What a command may hold is bounded over all its literals.
func TestCommandTooLong(t *testing.T) {
	c, _ := receive("a SEARCH"+strings.Repeat(" TEXT {60000+}\r\n"+strings.Repeat("x", 60000), 10)+"\r\nb NOOP\r\n", 0)
	c.Limits.NonSync = 1 << 30
	_, d, err := c.ReadCommand()
	if err != nil {
		t.Fatal(err)
	}
	d.SP().SearchProgram()
	if err := d.End(); !is(err, ConditionBAD, TooBig) {
		t.Errorf("%v", err)
	}
	if cmd, _, err := c.ReadCommand(); cmd.Tag != "b" || err != nil {
		t.Errorf("%+v, %v", cmd, err)
	}
}

// I07: a NUL ends nothing, it is an error.
func TestI07_NUL(t *testing.T) {
	for _, args := range []string{"a\x00b", "\"a\x00b\"", "{3}\r\na\x00b", "{3+}\r\na\x00b", "INBOX\x00", "\x00"} {
		for _, read := range []func(*Decoder){func(d *Decoder) { d.AString() }, func(d *Decoder) { d.Mailbox() }, func(d *Decoder) { d.ListMailbox() }} {
			c, _ := receive("a X "+args+"\r\nb NOOP\r\n", UTF8)
			_, d, err := c.ReadCommand()
			if err == nil {
				read(d.SP())
				err = d.End()
			}
			if !is(err, ConditionBAD, "") {
				t.Errorf("%q: %v", args, err)
			}
			if cmd, _, err := c.ReadCommand(); cmd.Tag != "b" || err != nil {
				t.Errorf("%q, then: %+v, %v", args, cmd, err)
			}
		}
	}
}

// An open literal that nobody reads, or only half, is dropped.
func TestOpen_Dropped(t *testing.T) {
	const text = "c LOGOUT\r\n"
	for _, read := range []int64{0, 3, 10} {
		c, w := receive("a APPEND x {10}\r\n"+text+" {10}\r\n"+text+"\r\nb NOOP\r\n", 0)
		_, d, _ := c.ReadCommand()
		d.SP().Mailbox()
		m := d.AppendMessage()
		b := d.Open(m.Literal)
		if n, err := io.CopyN(io.Discard, b, read); n != read || err != nil || b.Left() != 10-read {
			t.Errorf("%d, %v", n, err)
		}
		if m = d.AppendMessage(); d.Err() != nil || m.Literal.Size != 10 {
			t.Errorf("%+v, %v", m, d.Err())
		}
		b = d.Open(m.Literal)
		io.CopyN(io.Discard, b, read)
		if cmd, _, err := c.ReadCommand(); cmd.Tag != "b" || err != nil {
			t.Errorf("%+v, %v", cmd, err)
		}
		if c.Flush(); w.out.String() != "+ OK\r\n+ OK\r\n" {
			t.Errorf("%q", w.out.String())
		}
	}
	// A peer that says too much is not listened to.
	c, _ := receive("a APPEND x {10000000}\r\n"+strings.Repeat("x", 10_000_000)+"\r\nb NOOP\r\n", 0)
	c.Limits = AfterLogin(5_000_000)
	_, d, _ := c.ReadCommand()
	d.SP().Mailbox()
	d.Open(d.AppendMessage().Literal)
	if _, _, err := c.ReadCommand(); err != ErrTooMuchToSkip {
		t.Errorf("%v", err)
	}
}

func TestConnectionEndsInCommand(t *testing.T) {
	for _, in := range []string{"a LOGIN {5}\r\nab", "a LOGIN {5}\r\nabcde", "a LOGIN {5}\r\nabcde x", "a LOGIN {5+}\r\n", "a LOG", "a LOGIN {5"} {
		c, _ := receive(in, 0)
		_, d, err := c.ReadCommand()
		if err == nil {
			d.SP().AString()
			d.SP().AString()
			err = d.End()
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// A message passes through, whatever its size, and nothing is held.
func TestStreamedLiteral(t *testing.T) {
	msg := bytes.Repeat([]byte("0123456789abcde\n"), 1<<18)
	c, w := receive("", 0)
	w.in = append([]byte("a APPEND x {4194304}\r\n"), append(msg, "\r\nb NOOP\r\n"...)...)
	_, d, _ := c.ReadCommand()
	d.SP().Mailbox()
	m := d.AppendMessage()
	var got bytes.Buffer
	got.Grow(len(msg))
	b := d.Open(m.Literal)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if n, err := io.Copy(&got, b); n != int64(len(msg)) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	d.AppendEnd(m)
	if d.More() || d.End() != nil || !bytes.Equal(got.Bytes(), msg) || b.NUL {
		t.Errorf("%d octets, %v", got.Len(), d.Err())
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 200_000 {
		t.Errorf("%d octets allocated", n)
	}
	if cmd, _, err := c.ReadCommand(); cmd.Tag != "b" || err != nil {
		t.Errorf("%+v, %v", cmd, err)
	}
}
