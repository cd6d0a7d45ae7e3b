package imap

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// wire is a connection on which a client has sent all it will send.
type wire struct {
	in   []byte
	step int // the most that one read gives; 0: all
	out  bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) == 0 {
		return 0, io.EOF
	}
	n := len(w.in)
	if w.step > 0 {
		n = min(n, w.step)
	}
	n = copy(p, w.in[:n])
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error)      { return w.out.Write(p) }
func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// receive is a Conn, with the limits of a user, that receives in.
func receive(in string, m Mode) (*Conn, *wire) {
	w := &wire{in: []byte(in)}
	c := NewConn(w)
	c.Mode, c.Limits = m, AfterLogin(50<<20)
	return c, w
}

// arguments is the decoder of a command with these arguments.
func arguments(t testing.TB, args string, m Mode) *Decoder {
	c, _ := receive("a X "+args+"\r\nb NOOP\r\n", m)
	_, d, err := c.ReadCommand()
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return d.SP()
}

// is reports whether err is a status of this condition, and code.
func is(err error, condition, code string) bool {
	var s *Status
	return errors.As(err, &s) && s.Condition == condition && s.Code == code
}

// mustBad checks that the command failed with BAD, and that the next one can be read.
func mustBad(t *testing.T, what string, d *Decoder) {
	t.Helper()
	err := d.End()
	var s *Status
	if !errors.As(err, &s) || s.Condition != ConditionBAD {
		t.Errorf("%.80q: %v, want BAD", what, err)
		return
	}
	if next, _, err := d.c.ReadCommand(); next.Name != "NOOP" || err != nil {
		t.Errorf("%.80q, then: %+v, %v", what, next, err)
	}
}

func TestReadCommand(t *testing.T) {
	for _, x := range []struct {
		line, tag, name string
		uid             bool
	}{
		{"a001 NOOP", "a001", "NOOP", false},
		{"A.1] uid Fetch 1 FLAGS", "A.1]", "FETCH", true},
		{"1 x-thing", "1", "X-THING", false},
		{strings.Repeat("t", 64) + " NOOP", strings.Repeat("t", 64), "NOOP", false},
	} {
		c, _ := receive(x.line+"\r\n", 0)
		if cmd, _, err := c.ReadCommand(); err != nil || cmd != (Command{x.tag, x.name, x.uid}) {
			t.Errorf("%q: %+v, %v", x.line, cmd, err)
		}
	}
}

// I25: what is no tag is not one of the answer either, and nothing of a wrong line is in it.
func TestI25_BadLines(t *testing.T) {
	for line, tag := range map[string]string{
		"": "", " ": "", "NOOP": "", " NOOP": "", "* NOOP": "", "+ NOOP": "", "a+ NOOP": "", "a* OK injected": "", "ä NOOP": "", "a\tNOOP": "", "{5} x": "", `"a" NOOP`: "",
		"a\x00 NOOP": "", "a\rb NOOP": "", "a\nb NOOP": "", "a \x00": "a", "a NOOP\n* OK injected": "a", "a NO\rOP": "a",
		strings.Repeat("t", 65) + " NOOP": "", strings.Repeat("t", 60000): "",
		"a ": "a", "a  NOOP": "a", "a uid": "a", "a uid ": "a", "a {5}": "a", "GET / HTTP/1.1": "GET", "a " + strings.Repeat("x", 33): "a", "a (": "a",
	} {
		c, w := receive(line+"\r\nb NOOP\r\n", 0)
		cmd, d, err := c.ReadCommand()
		var s *Status
		if !errors.As(err, &s) || s.Condition != ConditionBAD || cmd.Tag != tag || d != nil {
			t.Errorf("%.60q: %+v, %v", line, cmd, err)
			continue
		}
		c.WriteStatus(cmd.Tag, s)
		c.Flush()
		if got := w.out.String(); strings.Contains(got, "injected") || strings.Count(got, "\r\n") != 1 || tag == "" && !strings.HasPrefix(got, "* BAD ") {
			t.Errorf("%.60q is answered %q", line, got)
		}
		if next, _, err := c.ReadCommand(); next.Tag != "b" || err != nil {
			t.Errorf("%.60q, then: %+v, %v", line, next, err)
		}
	}
}

func TestLineTooLong(t *testing.T) {
	c, _ := receive("a NOOP "+strings.Repeat("x", 33_000)+"\r\nb NOOP\r\n", 0)
	c.Limits = BeforeLogin()
	if _, _, err := c.ReadCommand(); !errors.Is(err, ErrLineTooLong) || is(err, ConditionBAD, "") {
		t.Errorf("%v", err)
	}
}

// A wait that times out loses nothing, wherever it was.
func TestTimeouts(t *testing.T) {
	w := &stopping{wire{in: []byte("a FOO ( {5+}\r\nc BAR {5+}\r\nx\r\n\r\nx\r\nb NOOP\r\n"), step: 1}, false}
	c := NewConn(w)
	var got []string
	for range 1000 {
		cmd, _, err := c.ReadCommand()
		if err == errStopped {
			continue
		}
		if err != nil {
			break
		}
		got = append(got, cmd.Tag)
	}
	if strings.Join(got, " ") != "a b" {
		t.Errorf("%q", got)
	}
}

// stopping fails every second time.
type stopping struct {
	wire
	stop bool
}

var errStopped = errors.New("stopped")

func (s *stopping) Read(p []byte) (int, error) {
	if s.stop = !s.stop; s.stop {
		return 0, errStopped
	}
	return s.wire.Read(p)
}

func TestStatus(t *testing.T) {
	for _, x := range []struct {
		s         *Status
		ascii, u8 string
	}{
		{OK("", "LOGIN completed"), "OK LOGIN completed", ""},
		{No(TryCreate, "no such mailbox"), "NO [TRYCREATE] no such mailbox", ""},
		{Bad("a\r\nb OK [X] y\x00\x7f"), "BAD a??b OK [X] y??", ""},
		{OK("", "[ALERT] fake"), "OK (ALERT] fake", ""},
		{OK("", ""), "OK done", ""},
		{OK("X] fake", "[Y] z"), "OK [X? fake] [Y] z", ""},
		{OK("X\r\n", "x"), "OK [X??] x", ""},
		{Bye("", "bis später"), "BYE bis sp?ter", "BYE bis später"},
		{Bye("", "\xff\u0080"), "BYE ??", "BYE ??"},
		{OK(CodeUIDNext(4392), "p"), "OK [UIDNEXT 4392] p", ""},
		{OK(CodeCopyUID(38505, []uint32{304, 319, 320}, []uint32{3956, 3957, 3958}), "Done"), "OK [COPYUID 38505 304,319:320 3956:3958] Done", ""},
		{OK(CodeAppendUID(38505, []uint32{3955}), "x"), "OK [APPENDUID 38505 3955] x", ""},
		{OK(CodePermanentFlags([]string{`\Deleted`, `\Seen`, `\*`}), "Limited"), `OK [PERMANENTFLAGS (\Deleted \Seen \*)] Limited`, ""},
		{OK(CodeModified([]uint32{7, 9}), "Conditional STORE failed"), "OK [MODIFIED 7,9] Conditional STORE failed", ""},
		{OK(CodeNoUpdate("B02"), "x"), `OK [NOUPDATE "B02"] x`, ""},
		{No(CodeBadCharset(nil), "x"), "NO [BADCHARSET] x", ""},
		{No(CodeBadCharset([]string{"UTF-8", "US-ASCII"}), "x"), "NO [BADCHARSET (UTF-8 US-ASCII)] x", ""},
		{No(CodeBadEvent(EventFlagChange.Names()), "x"), "NO [BADEVENT (FlagChange)] x", ""},
		{No(CodeMetadataMaxSize(1024), "x"), "NO [METADATA MAXSIZE 1024] x", ""},
		{OK(CodeMetadataLongEntries(2199), "x"), "OK [METADATA LONGENTRIES 2199] x", ""},
		{OK(CodeMailboxID("F2212ea87-6097-4256-9d51-71338625"), "x"), "OK [MAILBOXID (F2212ea87-6097-4256-9d51-71338625)] x", ""},
		{OK(CodeHighestModSeq(715194045007), ""), "OK [HIGHESTMODSEQ 715194045007] done", ""},
		{OK(CodeCapability([]string{"IMAP4rev2", "AUTH=PLAIN"}), ""), "OK [CAPABILITY IMAP4rev2 AUTH=PLAIN] done", ""},
		{OK(CodeUIDValidity(3857529045), ""), "OK [UIDVALIDITY 3857529045] done", ""},
		{OK(CodeUnseen(12), ""), "OK [UNSEEN 12] done", ""},
	} {
		if x.u8 == "" {
			x.u8 = x.ascii
		}
		if got := string(AppendStatus(nil, x.s, 0)); got != x.ascii {
			t.Errorf("%q, want %q", got, x.ascii)
		}
		if got := x.s.Error(); got != x.u8 {
			t.Errorf("%q, want %q", got, x.u8)
		}
	}
	c, w := receive("", 0)
	c.WriteStatus("", OK("", "hello"))
	c.WriteContinuation("idling")
	c.WriteStatus("a1", No(InUse, strings.Repeat("x", 300)))
	c.Flush()
	if got := w.out.String(); got != "* OK hello\r\n+ idling\r\na1 NO [INUSE] "+strings.Repeat("x", 300)+"\r\n" {
		t.Errorf("%q", got)
	}
}

func TestSASL(t *testing.T) {
	for args, want := range map[string]string{" AGEAYg==": "\x00a\x00b", " =": "", " /+8=": "\xff\xef"} {
		c, _ := receive("a AUTHENTICATE PLAIN"+args+"\r\n", 0)
		_, d, _ := c.ReadCommand()
		if m := d.SP().Keyword(); m != "PLAIN" {
			t.Errorf("mechanism %q", m)
		}
		if p, ok := d.InitialResponse(); string(p) != want || !ok || p == nil || d.End() != nil {
			t.Errorf("%q: %q, %v, %v", args, p, ok, d.Err())
		}
	}
	c, _ := receive("a AUTHENTICATE PLAIN\r\nAGEAYg==\r\n*\r\nAGEA\r\r\nAGE\r\n\r\n", 0)
	_, d, _ := c.ReadCommand()
	d.SP().Atom()
	if p, ok := d.InitialResponse(); p != nil || ok || d.End() != nil {
		t.Errorf("%q, %v, %v", p, ok, d.Err())
	}
	if p, err := c.ReadResponse(100); string(p) != "\x00a\x00b" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	for range 3 {
		if p, err := c.ReadResponse(100); p != nil || !is(err, ConditionBAD, "") {
			t.Errorf("%q, %v", p, err)
		}
	}
	if p, err := c.ReadResponse(100); string(p) != "" || p == nil || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := c.ReadResponse(100); err != io.EOF {
		t.Errorf("%v", err)
	}
	mustBad(t, "AUTHENTICATE with an initial response that is none", func() *Decoder { d := arguments(t, "x AB==", 0); d.Atom(); d.InitialResponse(); return d }())
}
