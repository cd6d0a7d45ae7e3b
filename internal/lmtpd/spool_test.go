package lmtpd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"postamt/internal/maildir"
	"postamt/internal/smtp"
)

func spooled(t *testing.T, p *spool, header string) string {
	t.Helper()
	r, err := p.reader([]byte(header))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Lines end in LF however the message was cut on its way; what is binary stays as it is.
func TestSpool(t *testing.T) {
	const text = "a\r\n\r\n\r\rb\r\r\nc\rd\n\r\ne\r\n"
	for n := 1; n <= len(text); n++ {
		for _, binary := range []bool{false, true} {
			p := newSpool(binary, "Received: x\n")
			for rest := text; rest != ""; {
				k := min(n, len(rest))
				p.Write([]byte(rest[:k]))
				rest = rest[k:]
			}
			want := text
			if !binary {
				want = strings.ReplaceAll(text, "\r\n", "\n")
			}
			for range 2 { // as often as there are commands
				if g := spooled(t, p, "To: x\n"); g != "To: x\nReceived: x\n"+want {
					t.Errorf("in pieces of %d, binary %v: %q", n, binary, g)
				}
			}
			p.close()
		}
	}
	p := newSpool(false, "")
	if g := spooled(t, p, ""); g != "" {
		t.Errorf("nothing is %q", g)
	}
	p.close()
	if _, err := p.reader(nil); err == nil {
		t.Error("a closed one can be read")
	}
}

func TestSpoolLarge(t *testing.T) {
	p := newSpool(false, "")
	defer p.close()
	line := strings.Repeat("0123456789", 7) + "\r\n"
	for b := []byte(strings.Repeat(line, 100)); p.size < 30<<20; {
		p.Write(b[:1000])
		p.Write(b[1000:])
	}
	r, err := p.reader([]byte("head\n"))
	if err != nil || r.Size() != p.size+5 {
		t.Fatal(r, err)
	}
	b := make([]byte, len("head\n")+len(line)-1)
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "head\n"+line[:len(line)-2]+"\n" {
		t.Errorf("it begins with %q, %v", b, err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n+int64(len(b)) != r.Size() {
		t.Errorf("%d octets follow, %v", n, err)
	}
}

// A full disk is told when it is known, which may be long after the first octet, and is for now.
func TestSpoolFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, n := range []int{1, 10 << 20} {
		p := newSpool(false, "")
		p.w.Reset(full)
		for range n {
			p.Write([]byte("x"))
		}
		_, err := p.reader(nil)
		if err == nil {
			t.Fatal("it can be read")
		}
		if r := replyFor(err); r.Code != 452 || r.Enhanced != (smtp.EnhancedCode{4, 3, 1}) {
			t.Errorf("%v: %v", err, r)
		}
		p.close()
	}
}

// Without room for the spool commands wait, and mailboxes have their mail; files are not left either way.
func TestNoSpool(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	h := newHost(t, maildir.Options{}, trusted, func(h *host) {
		h.forward("bob", ".forward", "|cat >ran\n")
		h.alias("run", "|exit 0")
	})
	deliver := func(end string) string {
		return h.dialogue("LHLO c.example\r\nMAIL FROM:<a@c.example> XQID=abc" + end + "\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org> XTARGET=forward:command-1\r\n" +
			"RCPT TO:<run@example.org> XTARGET=alias:command-f8u5mdn8o2bmqual\r\nDATA\r\nx\r\n.\r\n")
	}
	if out := deliver("1"); strings.Count(out, "250 2.0.0 ") != 3 {
		t.Error(out)
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	t.Setenv("TMPDIR", tmp+"/missing")
	if out := deliver("2"); strings.Count(out, "250 2.0.0 ") != 1 || strings.Count(out, "451 4.3.0 Mailbox error") != 2 || strings.Contains(out, tmp) {
		t.Error(out)
	}
	if n := len(h.messages("alice")); n != 2 {
		t.Errorf("alice has %d messages", n)
	}
}

// What is binary reaches the command so, and an empty message is one.
func TestCommandGetsTheMessage(t *testing.T) {
	h := newHost(t, maildir.Options{}, trusted, func(h *host) { h.forward("bob", ".forward", "|cat >ran\n") })
	head := "Return-Path: <a@c.example>\nDelivered-To: bob@example.org\n"
	for _, c := range []struct{ params, message, want string }{
		{"BODY=BINARYMIME", "S: x\r\n\r\n\x00\r\n\n\r", "S: x\r\n\r\n\x00\r\n\n\r"},
		{"", "", ""},
		{"", "no header\r\n", "no header\n"},
	} {
		out := h.dialogue(fmt.Sprintf("LHLO c.example\r\nMAIL FROM:<a@c.example> XQID=abc XARRIVED=1764000000123456 %s\r\nRCPT TO:<bob@example.org> XTARGET=forward:command-1\r\nBDAT %d LAST\r\n%s",
			c.params, len(c.message), c.message))
		if !strings.Contains(out, "250 2.0.0 The command") {
			t.Fatal(out)
		}
		got, _ := os.ReadFile(h.home("bob") + "/ran")
		_, rest, _ := bytes.Cut(got, []byte("\n"))
		if string(rest) != head+c.want {
			t.Errorf("the command got %q", got)
		}
	}
}

// The commands of a .qmail file have the time of one: who waits for the reply waits no longer.
func TestD08_CommandsOfQMailTogether(t *testing.T) {
	h := newHost(t, maildir.Options{}, trusted, func(h *host) {
		h.server.Config.CommandTime = 2 * time.Second
		h.forward("bob", ".qmail", strings.Repeat("|sleep 1.5\n", 20)+"|echo >done\n")
	})
	begun := time.Now()
	out := h.dialogue("LHLO c.example\r\nMAIL FROM:<> XQID=abc\r\nRCPT TO:<bob@example.org> XTARGET=forward:all\r\nDATA\r\nx\r\n.\r\n")
	if !strings.Contains(out, "451 4.3.0 the command has not ended within") || time.Since(begun) > 10*time.Second {
		t.Errorf("after %v: %s", time.Since(begun), out)
	}
}

// D13: mail that waited for a command goes to the mailbox when the user has no forward file any more; not again if that line of the file gave it to him.
func TestD13_ForwardFileIsGone(t *testing.T) {
	h := newHost(t, maildir.Options{}, trusted, func(h *host) { h.forward("bob", ".forward", "\\bob, |exit 75\n") })
	say := func(id, target string) string {
		return h.dialogue("LHLO c.example\r\nMAIL FROM:<> XQID=" + id + " XARRIVED=1764000000123456\r\nRCPT TO:<bob@example.org> XTARGET=" + target + "\r\nDATA\r\nx\r\n.\r\n")
	}
	if out := say("a1", "mailbox"); !strings.Contains(out, "250 2.0.0 Stored") {
		t.Fatal(out)
	}
	// He reads it.
	box := h.maildir("bob")
	found, _ := os.ReadDir(box + "/new")
	if len(found) != 1 {
		t.Fatal(found)
	}
	if err := os.Rename(box+"/new/"+found[0].Name(), box+"/cur/"+found[0].Name()+":2,S"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a1", "a2"} {
		if out := say(id, "forward:command-1"); !strings.Contains(out, "exit code 75") {
			t.Fatal(out)
		}
	}
	h.forward("bob", ".forward", "")
	for _, id := range []string{"a1", "a2"} {
		if out := say(id, "forward:command-1"); !strings.Contains(out, "250 2.0.0 Stored") {
			t.Fatal(out)
		}
	}
	if n := len(h.messages("bob")); n != 2 {
		t.Errorf("bob has %d messages", n)
	}
}
