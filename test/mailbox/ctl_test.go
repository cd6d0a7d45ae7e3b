package mailbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/test/suite"
)

// mailboxctl runs the program, and fails the test when it fails.
func (m *mailboxDir) mailboxctl(in string, args ...string) string {
	m.t.Helper()
	c := exec.Command(filepath.Join(m.bin, "mailboxctl"), args...)
	c.Stdin = strings.NewReader(in)
	out, err := c.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v: %v: %s", args, err, out)
	}
	m.share()
	return string(out)
}

// mailboxDir is a maildir of which Dovecot and mailboxctl change the messages.
type mailboxDir struct {
	*mailbox
	bin string
}

// share lets Dovecot's account write what we have made: the umask is not for two accounts.
func (m *mailboxDir) share() {
	m.t.Helper()
	err := filepath.WalkDir(m.path, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.Type()&os.ModeSymlink != 0 {
			return err
		}
		if e.IsDir() {
			return os.Chmod(path, 0o777)
		}
		return os.Chmod(path, 0o666)
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// flagsOf are the flags and keywords that Dovecot shows, by UID, in mailboxctl's words.
func flagsOf(t testing.TB, c *client) (list []string) {
	t.Helper()
	words := strings.NewReplacer("\\Seen", "seen", "\\Answered", "answered", "\\Flagged", "flagged", "\\Deleted", "deleted", "\\Draft", "draft", "\\Recent", "")
	for _, s := range c.do("UID FETCH 1:* (UID FLAGS)") {
		_, rest, ok := strings.Cut(s, " FETCH (UID ")
		if !ok {
			continue
		}
		uid, flags, _ := strings.Cut(rest, " FLAGS (")
		fields := strings.Fields(words.Replace(strings.TrimRight(flags, ")")))
		slices.Sort(fields)
		list = append(list, uid+" "+strings.Join(fields, ","))
	}
	return list
}

// shown is the same from mailboxctl.
func (m *mailboxDir) shown(dir string) (list []string) {
	m.t.Helper()
	for line := range strings.Lines(m.mailboxctl("", "list", dir)) {
		f := strings.Split(line, "\t")
		fields := strings.Split(strings.Trim(f[1], "-"), ",")
		slices.Sort(fields)
		list = append(list, f[0]+" "+strings.Join(fields, ","))
	}
	return list
}

// What mailboxctl changes Dovecot shows to its clients, and the other way, in turn, under the same UIDs.
func TestMailboxctlBesideDovecot(t *testing.T) {
	bin, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	box, root := newMaildir(t)
	m := &mailboxDir{mailbox: box, bin: bin}
	s := dovecot(t, root)
	c := login(t, s)
	c.do("CREATE Old")
	for i := range 6 {
		m.put(fmt.Sprintf("new/%d.m.h", 1000+i), fmt.Sprint("message ", i))
	}
	c.do("SELECT INBOX")
	same := func(step, dir string) {
		t.Helper()
		c.do("CHECK")
		m.share()
		if theirs, ours := flagsOf(t, c), m.shown(dir); !slices.Equal(theirs, ours) || len(ours) == 0 {
			t.Fatalf("%s:\ntheirs %q\nours   %q", step, theirs, ours)
		}
		if out := m.mailboxctl("", "check", m.path); out != "" {
			t.Errorf("%s: %s", step, out)
		}
	}
	same("delivered", m.path)
	for i := range 10 {
		m.mailboxctl("", "flags", m.path, fmt.Sprintf("%d:%d", i%5+1, i%5+2), []string{"+seen", "-seen", "+flagged"}[i%3], fmt.Sprint("+ours", i/4))
		same(fmt.Sprint(i, ": we set"), m.path)
		c.do(fmt.Sprintf("UID STORE %d:* %sFLAGS.SILENT (\\Answered theirs%d)", i%4+1, []string{"+", "-"}[i%2], i/5))
		same(fmt.Sprint(i, ": they set"), m.path)
	}
	m.mailboxctl("", "import", m.path, m.path+"/.Old")
	m.mailboxctl("From a@example.org Sat Nov 28 13:59:58 2026\nSubject: imported\nStatus: RO\nX-Keywords: ours1 new\n\ntext\n\n", "import", m.path)
	same("imported", m.path)
	c.do("APPEND INBOX (\\Draft)", "Subject: appended\r\n\r\ntext\r\n")
	same("appended", m.path)
	m.mailboxctl("", "expunge", m.path, "2")
	same("we expunge", m.path)
	m.mailboxctl("", "move", m.path, "1,3,7", "Old")
	same("we move", m.path)
	c.do("UID MOVE 4 Old")
	same("they move", m.path)
	c.do("SELECT Old")
	same("where they went", m.path+"/.Old")
	if got := m.shown(m.path + "/.Old"); len(got) != 4 || !strings.Contains(got[2], "new,ours1,seen") {
		t.Errorf("%q", got)
	}
	if log, _ := os.ReadFile(s.Log); strings.Contains(string(log), "Broken") || strings.Contains(string(log), "Duplicate file") || strings.Contains(string(log), "lowered") || strings.Contains(string(log), "Error:") {
		t.Errorf("Dovecot's log:\n%.3000s", log)
	}
}

// M21: two processes of ours and one that renames as mutt does change flags of the same messages at the same time, each one of its own: none is lost, no
// message is, and none is there twice.
func TestM21_FlagStormOfProcesses(t *testing.T) {
	t.Parallel()
	bin, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	box, _ := newMaildir(t)
	const messages, rounds = 20, 25
	for i := range messages {
		box.put(fmt.Sprintf("cur/%d.m.h:2,", 1000+i), fmt.Sprint("message ", i))
	}
	run := func(args ...string) string {
		out, err := exec.Command(filepath.Join(bin, "mailboxctl"), args...).CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v: %s", args, err, out)
		}
		return string(out)
	}
	before := run("list", box.path)
	var all sync.WaitGroup
	var ours atomic.Int32
	for _, mine := range [][2]string{{"flagged", "ours1"}, {"seen", "ours2"}} {
		ours.Add(1)
		all.Go(func() {
			defer ours.Add(-1)
			for i := range rounds {
				sign := []string{"-", "+"}[i%2]
				run("flags", box.path, fmt.Sprintf("%d:*", i%messages+1), sign+mine[0], sign+mine[1])
			}
			run("flags", box.path, "1:*", "+"+mine[0], "+"+mine[1])
		})
	}
	all.Go(func() {
		end := time.Now().Add(2 * time.Minute)
		for round := 0; round%2 == 0 || ours.Load() > 0; round++ {
			for i := range messages {
				for { // it looks again when there is no such file any more
					was, _ := filepath.Glob(fmt.Sprintf("%s/cur/%d.m.h:*", box.path, 1000+i))
					if time.Now().After(end) {
						t.Errorf("message %d is there %d times", i, len(was))
						return
					}
					if len(was) != 1 {
						continue
					}
					base, letters, _ := strings.Cut(was[0], ":2,")
					letters = strings.ReplaceAll(letters, "R", "")
					if round%2 == 0 {
						at := len(letters) - len(strings.TrimLeft(letters, "DFP"))
						letters = letters[:at] + "R" + letters[at:]
					}
					if os.Rename(was[0], base+":2,"+letters) == nil {
						break
					}
				}
			}
		}
	})
	all.Wait()
	after := run("list", box.path)
	if strings.Count(after, "\n") != messages || strings.Count(before, "\n") != messages {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	for line := range strings.Lines(after) {
		f := strings.Split(line, "\t")
		flags := strings.Split(f[1], ",")
		slices.Sort(flags)
		if got := strings.Join(flags, ","); got != "answered,flagged,ours1,ours2,seen" {
			t.Errorf("UID %s has %s", f[0], got)
		}
		if !strings.Contains(before, "\n"+f[0]+"\t-\t") && f[0] != "1" {
			t.Errorf("UID %s is new", f[0])
		}
	}
	if out := run("check", box.path); out != "" {
		t.Error(out)
	}
	if files, _ := os.ReadDir(box.path + "/cur"); len(files) != messages {
		t.Error(len(files), "files")
	}
}
