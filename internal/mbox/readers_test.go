package mbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func need(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Skip(n + " is not installed")
		}
	}
}

func run(t *testing.T, dir, stdin string, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "TERM=vt100", "MAILRC=/dev/null", "LC_ALL=C.UTF-8")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", argv, err, out)
	}
	return string(out)
}

// strange are messages on which readers of an mbox stumble.
func strange() []Entry {
	at := arrived
	m := func(sender, subject, fields, body string) Entry {
		return Entry{Sender: sender, Date: at, Message: strings.NewReader("From: a@a.example\nTo: b@b.example\nSubject: " + subject + "\n" + fields + "\n" + body)}
	}
	return []Entry{
		m("a@a.example", "first", "", "From me Thu Nov 26 10:00:00 2026\n\nFrom a@a.example  Thu Nov 26 10:00:00 2026\nSubject: none\n\nend\n"),
		m("", "second", "Content-Length: 10\nStatus: RO\nX-Status: D\n", "0123456789\n>From a@a.example  Thu Nov 26 10:00:00 2026\nSubject: none\n\nend\n"),
		m(`"a  b From c"@a.example`, "third", "", ""),
		m("a@a.example", "fourth", "Content-Length: 100000\n", "no end"),
		m("a@a.example", "fifth", "", "\n\n\n"),
		m("a@a.example", "sixth", "", "end\n"),
	}
}

var subjects = "first second third fourth fifth sixth"

func TestReaders(t *testing.T) {
	box := func(t *testing.T) (dir string) {
		dir = t.TempDir()
		for _, e := range strange() {
			must(t, Append(t.Context(), dir+"/box", e, Options{}))
		}
		return dir
	}
	t.Run("mutt", func(t *testing.T) {
		dir := box(t)
		need(t, "mutt", "script")
		must(t, os.WriteFile(dir+"/muttrc", []byte("set spoolfile="+dir+"/box folder="+dir+" record='' confirmcreate=no confirmappend=no quit=yes wait_key=no sort=mailbox-order mbox_type=Maildir sleep_time=0 move=no\n"+
			`push "<tag-pattern>~A<enter><tag-prefix><copy-message>`+dir+`/copies<enter><quit>"`+"\n"), 0o600))
		out := run(t, dir, "", "script", "-qec", "mutt -n -F muttrc", "/dev/null")
		names, _ := filepath.Glob(dir + "/copies/*/*")
		var got []string
		for _, s := range strings.Fields(subjects) {
			for _, n := range names {
				if text := text(t, n); strings.Contains(text, "\nSubject: "+s+"\n") {
					got = append(got, s)
					if (s == "first" || s == "second") && !strings.HasSuffix(text, "Subject: none\n\nend\n") {
						t.Errorf("%s ends too early: %q", s, text)
					}
				}
			}
		}
		if len(names) != 6 || strings.Join(got, " ") != subjects {
			t.Errorf("%d messages: %s\n%s", len(names), got, out)
		}
	})
	t.Run("s-nail", func(t *testing.T) {
		dir := box(t)
		need(t, "s-nail")
		out := run(t, dir, "from *\nType 1\nx\n", "s-nail", "-:/", "-R", "-f", dir+"/box")
		at := 0
		for _, s := range strings.Fields(subjects) {
			i := strings.Index(out[at:], s)
			if i < 0 {
				t.Fatalf("%s is missing in\n%s", s, out)
			}
			at += i
		}
		if strings.Contains(out, " none") && !strings.Contains(out, "Subject: none") || !strings.Contains(out, "6 messages") || !strings.Contains(out, "Subject: none\n\nend\n") {
			t.Errorf("%s", out)
		}
	})
	t.Run("python", func(t *testing.T) {
		dir := box(t)
		need(t, "python3")
		out := run(t, dir, "", "python3", "-c", "import mailbox\nfor m in mailbox.mbox('box', create=False): print(m['subject'], m.get_flags())")
		if out != strings.ReplaceAll(subjects, " ", " \n")+" \n" {
			t.Errorf("%q", out)
		}
	})
}

// A mail program takes messages away while others come: none is lost, and none is there twice.
func TestReaderAtWork(t *testing.T) {
	need(t, "s-nail")
	dir := t.TempDir()
	must(t, Append(t.Context(), dir+"/box", entry("id0.", "text\n"), Options{}))
	const rounds, each = 10, 8
	for r := range rounds {
		done := make(chan error)
		go func() {
			for i := range each {
				if err := Append(t.Context(), dir+"/box", entry(fmt.Sprintf("id%d.", 1+r*each+i), "text\n"), Options{Wait: time.Minute}); err != nil {
					done <- err
					return
				}
			}
			close(done)
		}()
		// The user's mailbox, and not one given with -f: of that s-nail 14.9.24 looks at the size before it locks it, and cuts off what comes between.
		run(t, dir, "move 1 "+dir+"/kept\nquit\n", "env", "MAIL="+dir+"/box", "s-nail", "-:/", "-S", "keep", "-S", "hold")
		must(t, <-done)
	}
	kept := text(t, dir+"/kept")
	both := kept + text(t, dir+"/box")
	for i := range 1 + rounds*each {
		if n := strings.Count(both, fmt.Sprintf("Subject: s id%d.\n", i)); n != 1 {
			t.Errorf("message %d is there %d times", i, n)
		}
	}
	if n := strings.Count("\n"+kept, "\nFrom "); n != rounds {
		t.Errorf("%d moved", n)
	}
}
