package transcript

import (
	"bufio"
	"compress/flate"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Host is where a script runs: an in-memory store, a real program.
type Host interface {
	// Dial connects the session.
	Dial(session string) (net.Conn, error)
	// Check is called for each title with its block. ErrSkip: this host cannot know.
	Check(title string, block []string, names Names) error
}

// ErrSkip is what Check returns for a title that it cannot check.
var ErrSkip = errors.New("not checked here")

// Options change how a script runs. The zero value is strict.
type Options struct {
	Wait   time.Duration          // for one line of the server; 0: 20 s. A bound for failures, nothing waits for it in a good run.
	Ignore func(line string) bool // lines that the server may send though the script does not expect them
}

// maxLine bounds one line of a server.
const maxLine = 1 << 20

// Run plays the script against h. The error names the file, the line and the dialogue up to it.
func (s *Script) Run(h Host, o Options) error {
	if o.Wait == 0 {
		o.Wait = 20 * time.Second
	}
	if o.Ignore == nil && s.imap() && s.Value("strict") != "yes" {
		o.Ignore = func(line string) bool { return strings.HasPrefix(line, "* ") }
	}
	r := &runner{h: h, o: o, names: make(Names), sessions: make(map[string]*session)}
	defer func() {
		for _, c := range r.sessions {
			c.close()
		}
	}()
	for i := range s.Steps {
		if err := r.step(s, i); err != nil {
			return fmt.Errorf("%s:%d: %w\n%s", s.Name, s.Steps[i].Line, err, r.tail())
		}
	}
	return nil
}

type runner struct {
	h        Host
	o        Options
	names    Names
	sessions map[string]*session
	log      []string
}

type session struct {
	conn   net.Conn
	r      *bufio.Reader
	out    []byte        // to be sent with the next expectation
	sent   chan struct{} // closed when the last write is over
	line   string        // read and not yet matched
	have   bool
	forbid []string
}

func (r *runner) note(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *runner) tail() string {
	l := r.log
	if len(l) > 30 {
		l = append([]string{"..."}, l[len(l)-30:]...)
	}
	return strings.Join(l, "\n")
}

func (r *runner) session(name string) (*session, error) {
	if c := r.sessions[name]; c != nil {
		return c, nil
	}
	conn, err := r.h.Dial(name)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	c := &session{conn: conn, r: bufio.NewReader(conn)}
	r.sessions[name] = c
	return c, nil
}

func (r *runner) step(s *Script, i int) error {
	st := &s.Steps[i]
	if st.Op == Check {
		for _, c := range r.sessions {
			c.flush()
		}
		err := r.h.Check(r.names.Subst(st.Text), st.Block, r.names)
		if errors.Is(err, ErrSkip) {
			return nil
		}
		return err
	}
	c, err := r.session(st.Session)
	if err != nil {
		return err
	}
	switch st.Op {
	case Send:
		d := st.Data
		if st.Subst {
			d = r.names.Subst(d)
		}
		c.out = append(c.out, d...)
		c.forbid = nil
		r.note("%s: %.200q", st.Session, d)
	case Forbid:
		c.forbid = append(c.forbid, st.Text)
	case Expect:
		next := ""
		if many(st.Text) {
			for _, n := range s.Steps[i+1:] {
				if n.Session == st.Session && n.Op == Expect {
					next = n.Text
					break
				}
			}
		}
		return r.expect(c, st.Session, st.Text, next)
	case Act:
		return r.act(c, st)
	}
	return nil
}

// expect reads the line that matches pattern. If pattern stands for many lines they end where next matches.
func (r *runner) expect(c *session, name, pattern, next string) error {
	c.flush()
	for {
		line, err := c.peek(r.o.Wait)
		if err != nil {
			return fmt.Errorf("want %q: %w", pattern, err)
		}
		for _, p := range c.forbid {
			if r.names.Match(p, line) {
				return fmt.Errorf("got %q, which must not be seen", line)
			}
		}
		switch {
		case many(pattern) && next != "" && r.names.Match(next, line):
			return nil
		case many(pattern) && r.names.Match(pattern, line):
			c.have = false
			r.note("%s< %.200q", name, line)
		case many(pattern):
			return nil // none, or no more; the next step says whether that is right
		case r.names.Match(pattern, line):
			c.have = false
			r.note("%s< %.200q", name, line)
			return nil
		case r.o.Ignore != nil && r.o.Ignore(line):
			c.have = false
			r.note("%s< %.200q (ignored)", name, line)
			if err := c.skipLiterals(line); err != nil {
				return fmt.Errorf("want %q: %w", pattern, err)
			}
		default:
			return fmt.Errorf("got %q, want %q", line, r.names.Subst(pattern))
		}
	}
}

func (r *runner) act(c *session, st *Step) error {
	r.note("%s. %s", st.Session, st.Text)
	c.flush()
	switch st.Text {
	case "wait":
		c.waitSent()
	case "starttls":
		c.waitSent()
		if c.have || c.r.Buffered() > 0 {
			return fmt.Errorf("the server sent more before the handshake")
		}
		t := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}) // the peer is a test's, its certificate its own
		t.SetDeadline(time.Now().Add(r.o.Wait))
		if err := t.Handshake(); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
		t.SetDeadline(time.Time{})
		c.conn, c.r = t, bufio.NewReader(t)
	case "compress":
		c.waitSent()
		d := &deflated{Conn: c.conn, r: flate.NewReader(c.r)}
		d.w, _ = flate.NewWriter(c.conn, flate.DefaultCompression)
		c.conn, c.r = d, bufio.NewReader(d)
	case "close":
		c.waitSent()
		c.conn.Close()
	case "reset":
		c.waitSent()
		if t, ok := c.conn.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		c.conn.Close()
	case "dial":
		c.waitSent()
		c.conn.Close()
		conn, err := r.h.Dial(st.Session)
		if err != nil {
			return fmt.Errorf("dial: %w", err)
		}
		*c = session{conn: conn, r: bufio.NewReader(conn)}
	case "closed":
		line, err := c.peek(r.o.Wait)
		var ne net.Error
		switch {
		case err == nil:
			return fmt.Errorf("got %q, want the connection closed", line)
		case errors.As(err, &ne) && ne.Timeout():
			return fmt.Errorf("want the connection closed: %w", err)
		}
	}
	return nil
}

// deflated is a connection in which both sides compress (RFC 4978).
type deflated struct {
	net.Conn
	r io.Reader
	w *flate.Writer
}

func (d *deflated) Read(p []byte) (int, error) { return d.r.Read(p) }

func (d *deflated) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err == nil {
		err = d.w.Flush()
	}
	return n, err
}

// flush sends what is waiting without waiting for it: a server that stops reading to write must not stop the script.
func (c *session) flush() {
	if len(c.out) == 0 {
		return
	}
	c.waitSent()
	out, conn, done := c.out, c.conn, make(chan struct{})
	c.out, c.sent = nil, done
	go func() {
		defer close(done)
		conn.Write(out) // a server that closed meanwhile is what the expectation after it finds out
	}()
}

func (c *session) waitSent() {
	if c.sent != nil {
		<-c.sent
		c.sent = nil
	}
}

func (c *session) close() {
	c.conn.Close()
	c.waitSent()
}

func (c *session) peek(wait time.Duration) (string, error) {
	if c.have {
		return c.line, nil
	}
	c.conn.SetReadDeadline(time.Now().Add(wait))
	var b []byte
	for {
		part, err := c.r.ReadSlice('\n')
		b = append(b, part...)
		if err == bufio.ErrBufferFull && len(b) < maxLine {
			continue
		}
		if err == io.EOF && len(b) > 0 {
			return "", fmt.Errorf("the server's last line %q has no end", b)
		}
		if err != nil {
			return "", err
		}
		break
	}
	if len(b) < 2 || b[len(b)-2] != '\r' {
		return "", fmt.Errorf("the server's line %q does not end in CR LF", b)
	}
	c.line, c.have = string(b[:len(b)-2]), true
	return c.line, nil
}

// skipLiterals reads what belongs to a response of IMAP whose first line this is.
func (c *session) skipLiterals(line string) error {
	for {
		i := strings.LastIndexByte(line, '{')
		if i < 0 || !strings.HasSuffix(line, "}") {
			return nil
		}
		n, err := strconv.Atoi(line[i+1 : len(line)-1])
		if err != nil {
			return nil
		}
		if _, err := io.CopyN(io.Discard, c.r, int64(n)); err != nil {
			return err
		}
		if line, err = c.r.ReadString('\n'); err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\r\n")
	}
}

// SameLines compares what a test found with the block of a script, both without line ends; the block's lines are
// patterns. The error names the first difference.
func (n Names) SameLines(got, want []string) error {
	for i := 0; i < len(got) || i < len(want); i++ {
		switch {
		case i >= len(got):
			return fmt.Errorf("line %d is missing: %q", i+1, want[i])
		case i >= len(want):
			return fmt.Errorf("line %d is too many: %q", i+1, got[i])
		case !n.Match(want[i], got[i]):
			return fmt.Errorf("line %d is %q, want %q", i+1, got[i], want[i])
		}
	}
	return nil
}
