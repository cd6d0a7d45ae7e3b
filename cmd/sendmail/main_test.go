package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"

	"postamt/internal/queue"
)

func TestMain(m *testing.M) {
	programs := map[string]func(){}
	for _, name := range []string{"sendmail", "mailq", "newaliases", "runq", "rmail"} {
		programs[name] = func() { os.Exit(run(os.Args)) }
	}
	testscript.Main(m, programs)
}

// Each flag, and each exit code of the page, has a script. smtpd is somebody else's server, which writes down what it hears; test/sendmail has ours.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true, Setup: setup, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"smtpd": serve, "exits": exits, "heard": heard, "lone": lone, "queued": queued,
	}})
}

func setup(e *testscript.Env) error {
	dir, err := os.MkdirTemp("", "sm") // short: the path of a socket has room for 107 octets
	if err != nil {
		return err
	}
	e.Defer(func() { os.RemoveAll(dir) })
	me, err := user.Current()
	if err != nil {
		return err
	}
	e.Setenv("ME", me.Username)
	e.Setenv("DIR", dir)
	e.Setenv("POSTAMT_CONF", dir+"/postamt.conf")
	return errors.Join(os.WriteFile(dir+"/postamt.conf", []byte("hostname mx.example\norigin o.example\nrun_dir .\nqueue_dir queue\nmessage_size_limit 100k\n"), 0o600), os.Mkdir(dir+"/queue", 0o700))
}

// exits CODE COMMAND...: the code, exactly.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// lone FROM TO makes a file with CR in the place of each "^M", and NUL for "^@".
func lone(ts *testscript.TestScript, neg bool, args []string) {
	text := strings.NewReplacer("^M", "\r", "^@", "\x00").Replace(ts.ReadFile(args[0]))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// smtpd [REPLY]: a server listens; it greets with that reply in the place of 220.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("unix", ts.Getenv("DIR")+"/smtpd.sock")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	if len(args) > 0 {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s\r\n", strings.Join(args, " "))
				c.Close()
			}
		}()
		return
	}
	p := &peer{file: ts.Getenv("DIR") + "/heard"}
	s := smtp.NewServer(p)
	s.Domain, s.EnableSMTPUTF8, s.EnableDSN, s.MaxMessageBytes = "mx.example", true, true, 200<<10
	go s.Serve(l)
}

// heard FILE: since the last time the server heard what is in the file. Without a file: nothing.
func heard(ts *testscript.TestScript, neg bool, args []string) {
	name := ts.Getenv("DIR") + "/heard"
	b, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		ts.Fatalf("%v", err)
	}
	os.Remove(name)
	want := ""
	if len(args) > 0 {
		want = strings.ReplaceAll(ts.ReadFile(args[0]), "$ME", ts.Getenv("ME"))
	}
	if got := strings.TrimSpace(hideOurs(strings.ReplaceAll(string(b), "\x00", "@"))); got != strings.TrimSpace(want) {
		ts.Fatalf("heard:\n%s\nnot:\n%s", got, want)
	}
}

// hideOurs takes out what differs each time.
func hideOurs(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		switch {
		case strings.HasPrefix(line, "Date: ") && strings.Contains(line, " 20"):
			line = "Date: ...\n"
		case strings.HasPrefix(line, "Message-ID: <") && strings.HasSuffix(line, "@mx.example>\n"):
			line = "Message-ID: ...\n"
		case strings.Contains(line, "=_returned_"):
			i := strings.Index(line, "=_returned_") + len("=_returned_")
			line = line[:i] + "..." + line[i+20:]
		}
		b.WriteString(line)
	}
	return b.String()
}

// queued: two messages are in the queue, and one is held.
func queued(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.Getenv("DIR") + "/queue"
	q, err := queue.Open(dir, queue.Options{})
	ts.Check(err)
	defer q.Close()
	at := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	put := func(from, body string, rcpts ...queue.Rcpt) queue.ID {
		e := queue.Envelope{ID: queue.NewID(at), Arrived: at, From: from, Rcpts: rcpts}
		at = at.Add(time.Hour)
		w, err := q.Create(&e)
		ts.Check(err)
		w.Write([]byte("Subject: x\r\n\r\n" + body))
		ts.Check(w.Commit())
		return e.ID
	}
	id := put("alice@o.example", "hello\r\n", queue.Rcpt{Addr: "bob@x.example"}, queue.Rcpt{Addr: "done@x.example", State: queue.Done}, queue.Rcpt{Addr: "carol@y.example"})
	for _, r := range []string{"bob@x.example", "carol@y.example"} {
		ts.Check(q.AppendLog(id, queue.Note{Time: at, Event: "deferred", Rcpt: r, Status: "4.4.1", Host: r[len(r)-9:], Text: "connection\nrefused"}))
	}
	held := put("", strings.Repeat("x", 2000)+"\r\n", queue.Rcpt{Addr: "dave@x.example"})
	ts.Check(q.Hold(held))
}

// peer is a server that refuses those whose names say so.
type peer struct {
	mu      sync.Mutex
	file    string
	stopped bool // it has said once that it stops
}

type heardSession struct {
	p    *peer
	conn *smtp.Conn
	b    bytes.Buffer
}

func (p *peer) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &heardSession{p: p, conn: c}, nil
}
func (s *heardSession) Logout() error { return nil }
func (s *heardSession) Reset()        { s.b.Reset() }

func (s *heardSession) Mail(from string, o *smtp.MailOptions) error {
	if strings.HasPrefix(from, "closed") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "not from you"}
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if strings.HasPrefix(from, "restart") && !s.p.stopped {
		s.p.stopped = true
		return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "is shutting down"}
	}
	fmt.Fprintf(&s.b, "from <%s> body=%s utf8=%v ret=%s envid=%s\n", from, o.Body, o.UTF8, o.Return, o.EnvelopeID)
	return nil
}

func (s *heardSession) Rcpt(to string, o *smtp.RcptOptions) error {
	for name, r := range map[string]*smtp.SMTPError{
		"nobody":  {Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"},
		"nohost":  {Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 2}, Message: "no such host"},
		"noperm":  {Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "not for you"},
		"offline": {Code: 554, EnhancedCode: smtp.EnhancedCode{5, 3, 2}, Message: "gone\x1b[2J"},
		"later":   {Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later"},
	} {
		if strings.HasPrefix(to, name) {
			return r
		}
	}
	fmt.Fprintf(&s.b, "rcpt <%s> notify=%v\n", to, o.Notify)
	return nil
}

func (s *heardSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if bytes.Contains(text, []byte("virus")) {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "not that"}
	}
	if bytes.Contains(text, []byte("killed")) {
		return s.conn.Conn().Close()
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	f, err := os.OpenFile(s.p.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if bytes.Contains(bytes.ReplaceAll(text, []byte("\r\n"), nil), []byte("\r")) || bytes.Contains(bytes.ReplaceAll(text, []byte("\r\n"), nil), []byte("\n")) {
		return errors.New("lone CR or LF")
	}
	fmt.Fprintf(f, "%s%s", s.b.Bytes(), bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	return nil
}
