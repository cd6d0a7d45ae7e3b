package lmtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gomaildir "github.com/emersion/go-maildir"
	gosmtp "github.com/emersion/go-smtp"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/durable"
	"postamt/internal/maildir"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/transcript"
	"postamt/internal/userdb"
)

// host is a server on a unix socket, with users bob and alice.
type host struct {
	t       testing.TB
	dir     string
	server  *Server
	socket  string
	trusted bool
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	behind  func()            // ends what is behind a front
	homes   map[string]string // of those users that have a forward file
}

type users struct{ t *userdb.Table }

func (u users) User(local, domain string) (string, alias.Pos, bool, error) {
	name, line, ok, err := u.t.User(local, domain)
	return name, alias.Pos{File: "users", Line: int32(line)}, ok, err
}

func accountsIn(t testing.TB, dir, text string) *Accounts {
	t.Helper()
	table, problems, err := userdb.Parse("users", text)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	r := &route.Tables{LocalDomains: route.Domains{"example.org": {}, "other.example": {}}, VirtualDomains: route.Domains{"virtual.example": {}},
		LocalDomain: "example.org", Users: users{table}, Delimiters: "+"}
	return &Accounts{Resolve: r.ResolveFinal, Lookup: table.Lookup, MailboxDir: dir + "/mail", Maildir: "~/Maildir", Actor: Self(os.Geteuid())}
}

// newHost starts it; change is called before that.
func newHost(t testing.TB, o maildir.Options, change ...func(*host)) *host {
	h := &host{t: t, dir: t.TempDir()}
	if err := os.Mkdir(h.dir+"/mail", 0o700); err != nil {
		t.Fatal(err)
	}
	o.Host = "mx.example.org"
	h.server = &Server{
		Config:    Config{Hostname: "mx.example.org", SizeLimit: 50 << 20},
		Mailboxes: accountsIn(t, h.dir, "bob\nalice\n"),
		Store:     maildir.New(o),
	}
	for _, f := range change {
		f(h)
	}
	h.socket = filepath.Join(h.dir, "s")
	l, err := net.Listen("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() {
				h.server.Serve(ctx, c, h.trusted)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		h.wg.Wait()
		if h.behind != nil {
			h.behind()
		}
		h.server.Store.Close()
		h.leftovers()
	})
	return h
}

func trusted(h *host) { h.trusted = true }

// leftovers is the invariant of every test: nothing stays in tmp/.
func (h *host) leftovers() {
	if m, _ := filepath.Glob(h.dir + "/mail/*/*/Maildir/tmp/*"); len(m) > 0 {
		h.t.Errorf("left in tmp: %q", m)
	}
}

func (h *host) Dial(string) (net.Conn, error) { return net.Dial("unix", h.socket) }

func (h *host) maildir(user string) string { return h.dir + "/mail/example.org/" + user + "/Maildir" }

func (h *host) messages(user string) (out [][]byte) {
	files, _ := filepath.Glob(h.maildir(user) + "/*/*,S=*")
	for _, f := range files {
		p, err := os.ReadFile(f)
		if err != nil {
			h.t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// Check compares the user's newest message with the block, or "file USER/NAME" in a home; "count USER N" counts.
func (h *host) Check(title string, block []string, names transcript.Names) error {
	if name, ok := strings.CutPrefix(title, "file "); ok {
		text, err := os.ReadFile(h.dir + "/mail/example.org/" + strings.TrimSpace(name))
		if err != nil {
			return err
		}
		return names.SameLines(strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), block)
	}
	if user, n, ok := strings.Cut(strings.TrimPrefix(title, "count "), " "); ok {
		if got := strconv.Itoa(len(h.messages(user))); got != n {
			return fmt.Errorf("%s has %s messages, want %s", user, got, n)
		}
		return nil
	}
	m := h.messages(title)
	if len(m) != 1 {
		return fmt.Errorf("%s has %d messages", title, len(m))
	}
	return names.SameLines(strings.Split(strings.TrimSuffix(string(m[0]), "\n"), "\n"), block)
}

func TestTranscripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.lmtp")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, name := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".lmtp"), func(t *testing.T) {
			s, err := transcript.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			h := newHost(t, maildir.Options{}, settings(t, s, "one process"))
			if err := s.Run(h, transcript.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// settings does what the head of a transcript says. how it is run is "one process" or "front".
func settings(t *testing.T, s *transcript.Script, how string) func(*host) {
	return func(h *host) {
		for _, set := range s.Head {
			key, value := set.Key, set.Value
			if key == "set" {
				key, value, _ = strings.Cut(value, " ")
			}
			n, _ := strconv.Atoi(value)
			switch key {
			case "trusted":
				h.trusted = true
			case "only":
				if value != how {
					t.Skip("this is about " + value)
				}
			case "forward", "alias": // forward: USER FILE TEXT, alias: NAME TEXT; the text as in Go
				name, text, _ := strings.Cut(value, " ")
				file := ""
				if key == "forward" {
					file, text, _ = strings.Cut(text, " ")
				}
				text, err := strconv.Unquote(text)
				if err != nil {
					t.Fatalf("%s: %v", value, err)
				}
				if key == "alias" {
					h.alias(name, text)
				} else {
					h.forward(name, file, text)
				}
			case "size":
				h.server.Config.SizeLimit = int64(n)
			case "recipients":
				h.server.Config.RecipientLimit = n
			default:
				t.Fatalf("no setting %q", key)
			}
		}
	}
}

// An independent client, and an independent reader.
func TestGoSMTPClient(t *testing.T) {
	h := newHost(t, maildir.Options{})
	nc, err := net.Dial("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	c := gosmtp.NewClientLMTP(nc)
	if err := c.Hello("client.example"); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		if err := c.Mail("a@client.example", &gosmtp.MailOptions{Body: gosmtp.Body8BitMIME}); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"bob@example.org", "alice@other.example"} {
			if err := c.Rcpt(to, nil); err != nil {
				t.Fatal(err)
			}
		}
		var e *gosmtp.SMTPError
		if err := c.Rcpt("nobody@example.org", nil); !errors.As(err, &e) || e.Code != 550 || e.EnhancedCode != (gosmtp.EnhancedCode{5, 1, 1}) {
			t.Fatal(err)
		}
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, "Subject: %d\r\n\r\n.dot\r\n", round)
		replies, err := w.CloseWithLMTPResponse()
		if err != nil || len(replies) != 2 {
			t.Fatalf("%v, %d replies", err, len(replies))
		}
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
	for _, user := range []string{"bob", "alice"} {
		m, err := gomaildir.Dir(h.maildir(user)).Unseen()
		if err != nil || len(m) != 3 {
			t.Errorf("%s: go-maildir sees %d messages, %v", user, len(m), err)
		}
	}
}

// Every message of the corpus comes out as it went in, below our fields.
func TestCorpus(t *testing.T) {
	const corpus = "../../../shared/corpus"
	files, _ := filepath.Glob(corpus + "/*/*")
	if len(files) == 0 {
		t.Skip("no corpus in ../shared/corpus")
	}
	h := newHost(t, maildir.Options{}, trusted)
	conn, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := smtp.NewConn(conn)
	expect := func(code int) {
		t.Helper()
		c.Flush()
		r, err := c.ReadReply()
		if err != nil || r.Code != code {
			t.Fatalf("%v, %v, want %d", r, err, code)
		}
	}
	expect(220)
	c.WriteLine("LHLO client.example")
	expect(250)
	for i, f := range files {
		for _, binary := range []bool{false, true} {
			p, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			sent := p
			if !binary {
				sent = crlf(p)
			}
			id := fmt.Sprintf("corpus%dx%v", i, binary)
			body := "8BITMIME"
			if binary {
				body = "BINARYMIME"
			}
			c.WriteLine("MAIL FROM:<a@client.example> BODY=", body, " XQID=", id, " XARRIVED=1764000000000000")
			expect(250)
			c.WriteLine("RCPT TO:<bob@example.org>")
			expect(250)
			if binary {
				c.WriteLine("BDAT ", strconv.Itoa(len(sent)), " LAST")
				c.Write(sent)
			} else {
				c.WriteLine("DATA")
				expect(354)
				w := c.DataWriter()
				w.Write(sent)
				w.Close()
			}
			expect(250)
			found, _ := filepath.Glob(h.maildir("bob") + "/new/*.Q" + id + "X*")
			if len(found) != 1 {
				t.Fatalf("%s: %q", f, found)
			}
			got, _ := os.ReadFile(found[0])
			want := append(Header("a@client.example", "bob@example.org", ""), bytes.ReplaceAll(sent, []byte("\r\n"), []byte("\n"))...)
			if binary {
				want = append(bytes.ReplaceAll(Header("a@client.example", "bob@example.org", ""), []byte("\n"), []byte("\r\n")), sent...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s, binary %v: %d bytes stored, want %d", f, binary, len(got), len(want))
			}
		}
	}
}

// crlf gives every line end the form in which it is sent.
func crlf(p []byte) []byte {
	p = bytes.ReplaceAll(p, []byte("\r\n"), []byte("\n"))
	p = bytes.ReplaceAll(p, []byte("\r"), []byte("\n"))
	p = bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))
	if !bytes.HasSuffix(p, []byte("\r\n")) {
		p = append(p, "\r\n"...)
	}
	return p
}

// dialogue sends all at once and returns all replies.
func (h *host) dialogue(input string) string {
	h.t.Helper()
	c, err := h.Dial("")
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	go func() {
		io.WriteString(c, input)
		c.(*net.UnixConn).CloseWrite()
	}()
	out, err := io.ReadAll(c)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(out)
}

const oneMessage = "LHLO c.example\r\nMAIL FROM:<a@c.example> XQID=abc123\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"

// What a failing disk means for the reply. When it is unknown whether the
// message is stored there is no reply at all, and the next attempt finds it.
func TestD16_RepliesToFaults(t *testing.T) {
	for _, c := range []struct {
		op    durable.Op
		err   error
		reply string
	}{
		{durable.OpCreate, syscall.ENOSPC, "452 4.3.1 "},
		{durable.OpWrite, syscall.ENOSPC, "452 4.3.1 "},
		{durable.OpWrite, syscall.EDQUOT, "452 4.2.2 "},
		{durable.OpWrite, syscall.EFBIG, "452 4.2.2 "},
		{durable.OpSync, syscall.EIO, "451 4.3.0 "},
		{durable.OpClose, syscall.EDQUOT, "452 4.2.2 "},
		{durable.OpRename, syscall.EROFS, "451 4.2.0 "},
		{durable.OpSyncDir, syscall.EIO, ""},
	} {
		var fail bool
		var mu sync.Mutex
		h := newHost(t, maildir.Options{Now: func() time.Time { return time.Now().Add(24 * time.Hour) }, Ops: &durable.Ops{Fault: func(op durable.Op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if fail && op == c.op && (op != durable.OpSyncDir || strings.HasSuffix(name, "new")) {
				return c.err
			}
			return nil
		}}}, trusted)
		// Once without a fault, so that the maildirs are there.
		h.dialogue(strings.ReplaceAll(oneMessage, "abc123", "first"))
		mu.Lock()
		fail = true
		mu.Unlock()
		out := h.dialogue(oneMessage)
		if c.reply == "" {
			if !strings.HasSuffix(out, "354 End data with <CR><LF>.<CR><LF>\r\n") {
				t.Errorf("%s %v: an unknown end got a reply:\n%s", c.op, c.err, out)
			}
		} else if strings.Count(out, c.reply) != 2 {
			t.Errorf("%s %v: want twice %q:\n%s", c.op, c.err, c.reply, out)
		}
		mu.Lock()
		fail = false
		mu.Unlock()
		if out := h.dialogue(strings.Replace(oneMessage, "XQID=abc123", "XQID=abc123 XSUSPECT", 1)); strings.Count(out, "250 2.0.0 Stored") != 2 {
			t.Errorf("%s %v: second attempt:\n%s", c.op, c.err, out)
		}
		for _, user := range []string{"bob", "alice"} {
			if n := len(h.messages(user)); n != 2 {
				t.Errorf("%s %v: %s has %d messages", c.op, c.err, user, n)
			}
		}
	}
}

// The connection ends in the middle, at every byte: nothing is stored before
// the end of the message, and nothing is left.
func TestS29_DisconnectAtEveryByte(t *testing.T) {
	h := newHost(t, maildir.Options{}, trusted)
	end := strings.Index(oneMessage, "QUIT")
	for n := range end {
		if out := h.dialogue(oneMessage[:n]); strings.Contains(out, "Stored") {
			t.Fatalf("after %d bytes: %s", n, out)
		}
	}
	if n := len(h.messages("bob")); n != 0 {
		t.Fatalf("%d messages", n)
	}
	h.leftovers()
	if out := h.dialogue(oneMessage[:end]); strings.Count(out, "Stored") != 2 {
		t.Fatal(out)
	}
}

func TestStopFinishesTheTransaction(t *testing.T) {
	h := newHost(t, maildir.Options{})
	idle, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	busy, _ := h.Dial("")
	defer busy.Close()
	head, tail, _ := strings.Cut(strings.Replace(oneMessage, " XQID=abc123", "", 1), "x\r\n.\r\n")
	io.WriteString(busy, head)
	readUntil(t, busy, "354 ")
	readUntil(t, idle, "220 ")
	h.cancel()
	if out, _ := io.ReadAll(idle); !strings.HasPrefix(string(out), "421 4.3.2 ") {
		t.Errorf("idle session: %q", out)
	}
	io.WriteString(busy, "x\r\n.\r\n")
	_ = tail
	out, _ := io.ReadAll(busy)
	if strings.Count(string(out), "250 2.0.0 Stored") != 2 || !strings.Contains(string(out), "421 4.3.2 ") {
		t.Errorf("busy session: %q", out)
	}
}

func readUntil(t *testing.T, c net.Conn, what string) {
	t.Helper()
	var got []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(got, []byte(what)) {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
}

func TestS27_BadCommandsEndTheSession(t *testing.T) {
	h := newHost(t, maildir.Options{})
	out := h.dialogue(strings.Repeat("FROB\r\n", 1000))
	if n := strings.Count(out, "500 5.5.2"); n != 50 || !strings.Contains(out, "421 4.7.0") {
		t.Errorf("%d errors, then %.60q", n, out[max(0, len(out)-60):])
	}
}

func TestS08_LongLines(t *testing.T) {
	h := newHost(t, maildir.Options{})
	out := h.dialogue(strings.Repeat("x", 5000) + "\r\nNOOP\r\nQUIT\r\n")
	if !strings.Contains(out, "500 5.5.2 Line too long\r\n250 2.0.0 Ok\r\n221") {
		t.Error(out)
	}
}

func TestTimeout(t *testing.T) {
	h := newHost(t, maildir.Options{}, func(h *host) { h.server.Config.TimeoutCommand = 50 * time.Millisecond })
	c, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out, _ := io.ReadAll(c)
	if !strings.Contains(string(out), "421 4.4.2 ") {
		t.Errorf("%q", out)
	}
}

func TestAccounts(t *testing.T) {
	dir := t.TempDir()
	me := os.Geteuid()
	ids := ""
	if me != 0 {
		ids = fmt.Sprintf("mine::%d:%d::/home/mine\n", me, me)
	}
	a := accountsIn(t, dir, ids+"bob\nalice:::::"+dir+"/home/alice\ncarol@virtual.example\ndora:::::::maildir="+dir+"/elsewhere/%u\n"+
		"other::54321:54321::/home/other\nroot::0:0::/root\nquota:::::::quota=1M\nx+y\n")
	for _, c := range []struct{ to, path, base, owner, tag, reply string }{
		{"bob@example.org", "/mail/example.org/bob/Maildir", "/mail", "bob", "", ""},
		{"BOB@Example.ORG", "/mail/example.org/bob/Maildir", "/mail", "bob", "", ""},
		{"bob@other.example", "/mail/example.org/bob/Maildir", "/mail", "bob", "", ""},
		{"bob+Lists@example.org", "/mail/example.org/bob/Maildir", "/mail", "bob", "Lists", ""},
		{"bob+../../x@example.org", "", "", "", "", "501"},
		{"x+y@example.org", "/mail/example.org/x+y/Maildir", "/mail", "x+y", "", ""},
		{"alice@example.org", "/home/alice/Maildir", "/home/alice", "alice", "", ""},
		{"carol@virtual.example", "/mail/virtual.example/carol/Maildir", "/mail", "carol@virtual.example", "", ""},
		{"carol@example.org", "", "", "", "", "550"},
		{"bob@virtual.example", "", "", "", "", "550"},
		{"bob@foreign.example", "", "", "", "", "550"},
		{"dora@example.org", "/elsewhere/dora", "/elsewhere", "dora", "", ""},
		{"nobody@example.org", "", "", "", "", "550"},
		{`"bob@example.org"@example.org`, "", "", "", "", "550"},
		{`"../bob"@example.org`, "", "", "", "", "550"},
		{"other@example.org", "", "", "", "", "451"},
		{"root@example.org", "", "", "", "", "451"},
	} {
		m, err := addr.Parse(c.to, true)
		if err != nil {
			if c.reply != "501" {
				t.Errorf("%s: %v", c.to, err)
			}
			continue
		}
		box, err := a.Mailbox(Rcpt{Addr: m})
		if err != nil {
			if r := replyFor(err); strconv.Itoa(r.Code) != c.reply {
				t.Errorf("%s: %v (%v), want %s", c.to, r, err, c.reply)
			}
			continue
		}
		tg := box.Target
		if c.reply == "501" {
			if tg.Tag != "../../x" {
				t.Errorf("%s: %+v", c.to, tg)
			}
			continue
		}
		if c.reply != "" || tg.Path != dir+c.path || tg.Base != dir+c.base || tg.Owner != c.owner || tg.Tag != c.tag {
			t.Errorf("%s: %+v, want %+v", c.to, tg, c)
		}
	}
	box, err := a.Mailbox(Rcpt{Addr: addr.Mailbox{Local: "quota", Domain: "example.org"}})
	if err != nil || box.Target.Quota.Bytes != 1<<20 {
		t.Errorf("%+v, %v", box, err)
	}
}

func FuzzSession(f *testing.F) {
	scripts, _ := filepath.Glob("testdata/*.lmtp")
	for _, name := range scripts {
		if s, err := transcript.Load(name); err == nil {
			f.Add(s.Input("C"), true)
		}
	}
	h := newHost(f, maildir.Options{})
	f.Fuzz(func(t *testing.T, input []byte, trusted bool) {
		a, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			h.server.Serve(context.Background(), b, trusted)
			b.Close()
			close(done)
		}()
		go func() {
			a.Write(input)
			a.Write([]byte("\r\n.\r\nQUIT\r\n"))
			a.Close()
		}()
		io.Copy(io.Discard, a)
		<-done
		h.leftovers()
	})
}
