package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"postamt/internal/mailbox"
)

// messages are those that are hard on an mbox. What is not the same again has its reason behind it.
var hard = []struct{ name, text, again string }{
	{"plain", letter("plain"), ""},
	{"from", "Subject: x\n\nFrom me Sat Nov 28 13:59:58 2026\n>From you\n>>From them\n\nFrom me Sat Nov 28 13:59:58 2026\n", ""},
	{"blank", "Subject: x\n\n\n\ntext\n\n\n", ""},
	{"empty", "Subject: x\n\n", ""},
	{"header", "Subject: x\n", "Subject: x\n\n"}, // the empty line is a message's
	{"nothing", "", "\n"},
	{"nl", "Subject: x\n\nno line end", "Subject: x\n\nno line end\n"}, // and so is the last line end
	{"long", "Subject: " + strings.Repeat("y", 200<<10) + "\n\n" + strings.Repeat("z", 200<<10) + "\n" + strings.Repeat("From ", 40<<10) + "\n", ""},
	{"status", "Status: open\nX-Status: closed\nSubject: x\n\nStatus: RO\n", ""},
	{"flags", "Subject: x\nStatus: RO\nX-Keywords: a\n b\nContent-Length: 7\nTo: y\n\ntext\n", "Subject: x\nTo: y\n\ntext\n"}, // an mbox's own
	{"nul", "Subject: \x00\xff\n\n\x00\r\rtext\n", ""},
}

func (h hardMessage) want() string {
	if h.again != "" {
		return h.again
	}
	return h.text
}

type hardMessage struct{ name, text, again string }

// What is exported and imported is what it was, whatever pieces it is read in.
func TestMboxRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	said := func(i int) status {
		s := status{flags: mailbox.Flags(i*7) & (mailbox.Seen | mailbox.Replied | mailbox.Flagged | mailbox.Draft | mailbox.Trashed), fresh: i%3 == 0}
		if s.flags&mailbox.Seen != 0 || s.flags != 0 {
			s.fresh = false
		}
		if i%2 == 1 {
			s.keywords = []string{"one", "$two"}
		}
		return s
	}
	for i, h := range hard {
		must(t, writeMbox(w, bufio.NewReader(strings.NewReader(h.text)), at.Add(time.Duration(i)*time.Hour), said(i)))
	}
	must(t, w.Flush())
	for what, r := range map[string]io.Reader{"whole": bytes.NewReader(b.Bytes()), "octets": iotest.OneByteReader(bytes.NewReader(b.Bytes()))} {
		box := newMbox(r)
		for i, h := range hard {
			date, s, err := box.Next()
			must(t, err)
			text, err := io.ReadAll(box)
			must(t, err)
			if want := hardMessage(h).want(); string(text) != want {
				t.Errorf("%s, %s: %.200q, want %.200q", what, h.name, text, want)
			}
			want := said(i)
			if i == 9 {
				continue // has flags of its own
			}
			if !date.Equal(at.Add(time.Duration(i) * time.Hour)) {
				t.Errorf("%s, %s: %s", what, h.name, date)
			}
			if s.flags != want.flags || s.fresh != want.fresh || !slices.Equal(s.keywords, want.keywords) {
				t.Errorf("%s, %s: %+v, want %+v", what, h.name, s, want)
			}
		}
		if _, _, err := box.Next(); err != io.EOF {
			t.Error(what, err)
		}
	}
}

func TestPostmarks(t *testing.T) {
	at := time.Date(2026, 11, 28, 13, 59, 58, 0, time.UTC)
	for line, want := range map[string]time.Time{
		"From a@example.org Sat Nov 28 13:59:58 2026\n":       at,
		"From a@example.org  Sat Nov 28 13:59:58 2026\r\n":    at,
		"From \"a b\" Sat Nov 28 13:59:58 2026\n":             at,
		"From Sat Nov 28 13:59:58 2026\n":                     at,
		"From a@example.org Sat Nov 28 14:59:58 +0100 2026\n": at,
		"From a@example.org Sat Nov 28 13:59 2026\n":          at.Add(-58 * time.Second),
		"From a@example.org Sat Nov 28 13:59:58 UTC 2026\n":   at,
		"From here on it is text\n":                           {},
		"From the sat nov on 2026\n":                          {},
		" From a@example.org Sat Nov 28 13:59:58 2026\n":      {},
		"from a@example.org Sat Nov 28 13:59:58 2026\n":       {},
		"From: a@example.org Sat Nov 28 13:59:58 2026\n":      {},
	} {
		if got, ok := postmark([]byte(line)); !got.Equal(want) || ok == want.IsZero() {
			t.Errorf("%q: %s, %v", line, got, ok)
		}
	}
}

func TestImportOfWhatIsNoMbox(t *testing.T) {
	dir := newMaildir(t, nil)
	if code, _, errs := mailboxctl(t, "Subject: x\n\ntext\n", "import", dir); code != 65 || !strings.Contains(errs, "0 messages were imported, then: this is no mbox") {
		t.Error(code, errs)
	}
	ok(t, "", "import", dir)
	if list := files(t, dir); len(list) > 0 {
		t.Error(list)
	}
}

func TestImportOverQuota(t *testing.T) {
	dir := newMaildir(t, nil)
	must(t, os.WriteFile(dir+"/maildirsize", []byte("150C\n0 0\n"), 0o600))
	mbox := strings.Repeat("From x@example.org Sat Nov 28 13:59:58 2026\n"+letter("a")+"\n", 201)
	if code, _, errs := mailboxctl(t, mbox, "import", dir); code != 73 || !strings.Contains(errs, "100 messages were imported, then: ") {
		t.Error(code, errs)
	}
	tmp, err := os.ReadDir(dir + "/tmp")
	must(t, err)
	if list := files(t, dir); len(list) != 100 || len(tmp) > 0 {
		t.Error(len(list), tmp)
	}
}

// From maildir to maildir, by both verbs.
func TestMaildirsImportAndExport(t *testing.T) {
	source := map[string]string{"new/1.a": letter("a"), "cur/10.b:2,RSa": letter("b"), "cur/9.c:2,Fb": letter("c")}
	from := newMaildir(t, source)
	must(t, os.WriteFile(from+"/dovecot-keywords", []byte("0 one\n1 two\n"), 0o600))
	fresh := filepath.Join(t.TempDir(), "new", "Maildir")
	to := newMaildir(t, nil)
	folder(t, to+"/.Old")
	ok(t, "", "-f", "Old", "import", to, from)
	for _, name := range []string{"/postamt.index", "/dovecot-uidlist"} {
		if _, err := os.Stat(from + name); err == nil {
			t.Errorf("import has made %s in its source", name)
		}
	}
	ok(t, "", "export", from, fresh)
	ok(t, "", "export", from, to+"/.Old")
	pick := func(dir string) (list []string) { // without UID and path
		for line := range strings.Lines(ok(t, "", "list", dir)) {
			f := strings.Split(line, "\t")
			list = append(list, strings.Join(f[1:6], " "))
		}
		return list
	}
	want := []string{"- 41 2026-11-25T10:00:00Z a@example.org a", "flagged,two 41 2026-11-25T10:00:00Z a@example.org c", "seen,answered,one 41 2026-11-25T10:00:00Z a@example.org b"}
	if got := pick(fresh); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := pick(to + "/.Old"); !slices.Equal(got, append(slices.Clone(want), want...)) {
		t.Errorf("%q", got)
	}
}

// Python's mailbox module reads what we export, and we import what it has written, and s-nail shows it.
func TestMboxOfStrangers(t *testing.T) {
	for _, tool := range []string{"python3", "s-nail"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	in := map[string]string{}
	for i, h := range hard[:4] {
		in[fmt.Sprintf("cur/%d.%s:2,%s", i+1, h.name, []string{"", "S", "RS", "FSTD"}[i])] = h.text
	}
	dir := newMaildir(t, in)
	box := filepath.Join(t.TempDir(), "mbox")
	must(t, os.WriteFile(box, []byte(ok(t, "", "export", dir)), 0o600))
	const script = `
import mailbox, sys
m = mailbox.mbox(sys.argv[1])
out = mailbox.mbox(sys.argv[2])
for one in m:
    print(one.get_flags(), one.get_from(), len(one.get_payload()), sep='|')
    out.add(one)
more = mailbox.mboxMessage('Subject: python\n\nFrom now on\n')
more.set_flags('RF')
more.set_from('p@example.org', (2001, 2, 3, 4, 5, 6, 5, 34, 0))
out.add(more)
out.flush()
`
	out := filepath.Join(t.TempDir(), "mbox")
	got, err := exec.Command("python3", "-c", script, box, out).CombinedOutput()
	must(t, err)
	want := "O|MAILER-DAEMON Wed Nov 25 10:00:00 2026|5\nRO|MAILER-DAEMON Wed Nov 25 10:00:00 2026|"
	if !strings.HasPrefix(string(got), want) || !strings.Contains(string(got), "\nROA|") || !strings.Contains(string(got), "\nROFTD|") {
		t.Errorf("%s", got)
	}
	back := newMaildir(t, nil)
	ok(t, "", "import", back, out)
	list := ok(t, "", "list", back)
	for i, want := range []string{"-", "seen", "seen,answered", "seen,flagged,deleted,draft", "seen,flagged"} {
		line := strings.Split(list, "\n")[i]
		if f := strings.Split(line, "\t"); len(f) != 7 || f[1] != want {
			t.Errorf("%q, want %s", line, want)
		}
		if i < 4 {
			if text := ok(t, "", "cat", back, fmt.Sprint(i+1)); text != hard[i].text {
				t.Errorf("%s: %q, want %q", hard[i].name, text, hard[i].text)
			}
		}
	}
	if !strings.Contains(list, "2001-02-03T04:05:06Z") {
		t.Error(list)
	}
	// Python puts a ">" before it.
	if text := ok(t, "", "cat", back, "5"); text != "Subject: python\n\nFrom now on\n" {
		t.Errorf("%q", text)
	}
	c := exec.Command("s-nail", "-n", "-N", "-R", "-H", "-f", box)
	c.Env = append(os.Environ(), "MAILRC=/dev/null", "HOME="+t.TempDir())
	head, err := c.CombinedOutput()
	if err != nil || strings.Count(string(head), "2026-11-25")+strings.Count(string(head), "Nov 25") < 4 {
		t.Errorf("s-nail: %v\n%s", err, head)
	}
}
