package smtpd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"postamt/internal/transcript"
)

// account goes through what a client sent and what it was answered, as a strict client would: one reply for each line,
// chunk and message, and no other. It returns how many messages were accepted. That a body was executed in part would
// show as a reply too many.
func account(in []byte, out string) (accepted int, err error) {
	if !strings.HasSuffix(out, "\r\n") {
		return 0, fmt.Errorf("the last reply has no end")
	}
	var replies []string // last lines
	for l := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
		if len(l) < 4 || l[3] != '-' && l[3] != ' ' {
			return 0, fmt.Errorf("reply %q", l)
		}
		if l[3] == ' ' {
			replies = append(replies, l)
		}
	}
	if len(replies) == 0 || replies[0][:3] != "220" {
		return 0, fmt.Errorf("no greeting")
	}
	over := false // the session: nothing may follow
	inData := false
	for _, r := range replies[1:] {
		if over {
			return accepted, fmt.Errorf("%q after the end", r)
		}
		if strings.Contains(r, "queued as") {
			accepted++
			if r[:3] != "250" {
				return accepted, fmt.Errorf("%q", r)
			}
		}
		if strings.HasPrefix(r, "421 4.7.0 mx.example too many errors") {
			over = true // one more than was asked for
			continue
		}
		if inData {
			end := 0
			if !bytes.HasPrefix(in, []byte(".\r\n")) {
				end = bytes.Index(in, []byte("\r\n.\r\n"))
				if end < 0 {
					return accepted, fmt.Errorf("%q before the end of the message", r)
				}
				end += 2
			}
			in = in[end+3:]
			inData = false
			continue
		}
		i := bytes.Index(in, []byte("\r\n"))
		if i < 0 {
			if strings.HasPrefix(r, "500 5.5.2 line too long") && len(in) > maxCommand {
				over = true // an endless line
				continue
			}
			return accepted, fmt.Errorf("%q to no command; left are %.100q", r, in)
		}
		line := string(in[:i])
		in = in[i+2:]
		w := strings.Fields(line)
		verb := ""
		if len(w) > 0 {
			verb = strings.ToUpper(w[0])
		}
		switch {
		case r[:3] == "421", r[:3] == "221":
			over = true
		case strings.HasPrefix(r, "500"):
		case r[:3] == "354":
			inData = true
			if verb != "DATA" {
				return accepted, fmt.Errorf("354 to %q", line)
			}
		case verb == "BDAT":
			n := int64(-1)
			if len(w) > 1 {
				if k, err := strconv.ParseInt(w[1], 10, 64); err == nil {
					n = k
				}
			}
			if n < 0 || r[:3] == "501" || r[:3] == "552" && n > int64(len(in)) {
				over = true
			} else if n > int64(len(in)) {
				return accepted, fmt.Errorf("%q before the end of the chunk of %q", r, line)
			} else {
				in = in[n:]
			}
		}
	}
	if !over && !inData {
		// Whatever is left is not a whole command; or a chunk, or a line, that never ended.
		if i := bytes.Index(in, []byte("\r\n")); i >= 0 && !bytes.HasPrefix(bytes.ToUpper(bytes.TrimLeft(in, " ")), []byte("BDAT")) {
			return accepted, fmt.Errorf("no reply to %.100q", in[:i])
		}
	}
	if inData && (bytes.Contains(in, []byte("\r\n.\r\n")) || bytes.HasPrefix(in, []byte(".\r\n"))) {
		return accepted, fmt.Errorf("no reply to a message")
	}
	return accepted, nil
}

func checkSession(t *testing.T, in []byte, cut int) {
	t.Helper()
	c := &input{pieces: [][]byte{in}}
	if cut > 0 && cut < len(in) {
		c.pieces = [][]byte{in[:cut], in[cut:]}
	}
	m := &memory{}
	serve(t, m, MX, testConfig(), c)
	n, err := account(in, c.out.String())
	if err != nil {
		t.Fatalf("%v\n%q\n%s", err, in, c.out.String())
	}
	if n != m.count() {
		t.Fatalf("%d messages are queued, %d were acknowledged\n%q\n%s", m.count(), n, in, c.out.String())
	}
	for _, s := range m.messages {
		if len(s.env.Rcpts) == 0 || !bytes.HasPrefix(s.body, []byte("Received: from ")) {
			t.Fatalf("message %+v %q", s.env, s.body)
		}
	}
}

// seeds is what the clients of the transcripts send.
func seeds(t testing.TB) [][]byte {
	names, err := filepath.Glob("testdata/*.smtp")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts")
	}
	var all [][]byte
	for _, n := range names {
		s, err := transcript.Load(n)
		if err != nil {
			t.Fatal(err)
		}
		if b := s.Input("C"); len(b) < 20_000 {
			all = append(all, b)
		}
	}
	return all
}

// FuzzSession: any octets from a client. As many messages are queued as were acknowledged, and there is one reply for
// each command: nothing of a body is executed.
func FuzzSession(f *testing.F) {
	for i, s := range seeds(f) {
		f.Add(s, i)
	}
	f.Add([]byte(opening+"DATA\r\nA: b\r\n\r\nx\n.\r\nNOOP\r\n.\r\n"), 5)
	f.Fuzz(func(t *testing.T, in []byte, cut int) { checkSession(t, in, cut) })
}

// TestMutatedTranscripts is what the fuzzer does, in small and always: pieces of transcripts joined at random.
func TestMutatedTranscripts(t *testing.T) {
	all := seeds(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		a, b := all[r.IntN(len(all))], all[r.IntN(len(all))]
		in := append([]byte(nil), a[:r.IntN(len(a)+1)]...)
		in = append(in, b[r.IntN(len(b)+1):]...)
		for range r.IntN(4) {
			if len(in) > 0 {
				in[r.IntN(len(in))] = "\r\n. \x00x1"[r.IntN(7)]
			}
		}
		checkSession(t, in, r.IntN(len(in)+1))
	}
}

// model is RFC 5321 section 4.1.4 in twenty lines: what must be answered to a command in which state.
type model struct {
	hello, mail, chunk, failed bool
	rcpts, queued              int
}

func (m *model) reset() { m.mail, m.chunk, m.failed, m.rcpts = false, false, false, 0 }

func (m *model) next(cmd string) string {
	switch cmd {
	case "EHLO c.example\r\n":
		m.hello = true
		m.reset()
	case "RSET\r\n":
		m.reset()
	case "NOOP\r\n":
	case "VRFY x\r\n":
		return "252"
	case "FROB\r\n":
		return "500"
	case "MAIL FROM:<a@b.example>\r\n":
		if !m.hello || m.mail {
			return "503"
		}
		m.mail = true
	case "RCPT TO:<user@mx.example>\r\n", "RCPT TO:<alice@mx.example>\r\n":
		if !m.mail || m.chunk || m.failed {
			return "503"
		}
		m.rcpts++
	case "RCPT TO:<nobody@mx.example>\r\n":
		if !m.mail || m.chunk || m.failed {
			return "503"
		}
		return "550"
	case "DATA\r\n":
		switch {
		case !m.mail || m.chunk || m.failed:
			return "503"
		case m.rcpts == 0:
			return "554"
		}
		m.reset()
		m.queued++
		return "354 250"
	case "BDAT 6\r\nQUIT\r\n", "BDAT 6 LAST\r\nQUIT\r\n":
		switch {
		case !m.mail || m.failed:
			return "503"
		case m.rcpts == 0:
			m.failed = true
			return "554"
		}
		m.chunk = true
		if strings.Contains(cmd, "LAST") {
			m.reset()
			m.queued++
		}
	default:
		panic(cmd)
	}
	return "250"
}

// S19: random sequences of commands against the model.
func TestS19_Model(t *testing.T) {
	cmds := []string{"EHLO c.example\r\n", "RSET\r\n", "NOOP\r\n", "VRFY x\r\n", "FROB\r\n", "MAIL FROM:<a@b.example>\r\n", "MAIL FROM:<a@b.example>\r\n",
		"RCPT TO:<user@mx.example>\r\n", "RCPT TO:<alice@mx.example>\r\n", "RCPT TO:<nobody@mx.example>\r\n", "DATA\r\n", "DATA\r\n", "BDAT 6\r\nQUIT\r\n", "BDAT 6 LAST\r\nQUIT\r\n"}
	conf := testConfig()
	conf.ErrorHard, conf.JunkLimit, conf.MailLimit = 0, 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 19))
		m := &model{}
		var in, want strings.Builder
		want.WriteString("220")
		for range 60 {
			c := cmds[r.IntN(len(cmds))]
			reply := m.next(c)
			in.WriteString(c)
			if strings.HasPrefix(reply, "354") {
				in.WriteString("Subject: x\r\n\r\nMAIL FROM:<x@y.example>\r\n.\r\n")
			}
			want.WriteString(" " + reply)
		}
		out, q := talk(t, conf, in.String())
		wantCodes(t, out, want.String())
		if q.count() != m.queued {
			t.Fatalf("seed %d: %d queued, want %d", seed, q.count(), m.queued)
		}
	}
}

func BenchmarkTransaction(b *testing.B) {
	body := opening + "DATA\r\nFrom: a@client.example\r\nSubject: x\r\n\r\n" + strings.Repeat("0123456789012345678901234567890123456789\r\n", 100) + ".\r\nQUIT\r\n"
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		serveQueue(b, &discard{}, testConfig(), &input{pieces: [][]byte{[]byte(body)}, quiet: true})
	}
}
