package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is the program too.
func TestMain(m *testing.M) {
	if os.Getenv("MAILBOXCTL_IS_MAIN") != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func mailboxctl(t *testing.T, in string, args ...string) (code int, out, errs string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), "MAILBOXCTL_IS_MAIN=1", "GORACE=atexit_sleep_ms=0")
	var stdout, stderr bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &stdout, &stderr
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// ok is mailboxctl when all is to go well.
func ok(t *testing.T, in string, args ...string) string {
	t.Helper()
	code, out, errs := mailboxctl(t, in, args...)
	if code != 0 || errs != "" {
		t.Fatalf("%v: exit %d: %s", args, code, errs)
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newMaildir makes one with these messages; "cur/..." or "new/..." to text.
func newMaildir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "Maildir")
	folder(t, dir)
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		at := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
		must(t, os.Chtimes(path, at, at))
	}
	return dir
}

func folder(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{"tmp", "new", "cur"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
}

func letter(subject string) string {
	return "From: a@example.org\nSubject: " + subject + "\n\ntext\n"
}

func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	for _, sub := range []string{"new", "cur"} {
		names, err := os.ReadDir(filepath.Join(dir, sub))
		must(t, err)
		for _, n := range names {
			list = append(list, sub+"/"+n.Name())
		}
	}
	return list
}

// uidsOf are the first fields of lines.
func uidsOf(out string) (list []string) {
	for line := range strings.Lines(out) {
		uid, _, _ := strings.Cut(line, "\t")
		list = append(list, uid)
	}
	return list
}

func TestListHasTheFieldsOfThePage(t *testing.T) {
	dir := newMaildir(t, map[string]string{
		"cur/1.a:2,FSa": "From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>, b@example.org\nSubject: =?utf-8?b?dGFiCXRhYg==?= \x1b[2J\n and more\n\ntext\n",
		"new/2.b":       "no header",
		"cur/3.c:2,":    "From: \xe2\x80\xaex@example.org\nSubject:\n\n",
	})
	must(t, os.WriteFile(dir+"/dovecot-keywords", []byte("0 $Forwarded\n"), 0o600))
	got := strings.ReplaceAll(ok(t, "", "list", dir), dir, "DIR")
	want := "1\tseen,flagged,$Forwarded\t136\t2026-11-25T10:00:00Z\tJürgen <j@example.org>\ttab?tab ?[2J and more\tDIR/cur/1.a:2,FSa\n" +
		"2\t-\t9\t2026-11-25T10:00:00Z\t-\t-\tDIR/new/2.b\n" +
		"3\t-\tSIZE\t2026-11-25T10:00:00Z\t?x@example.org\t-\tDIR/cur/3.c:2,\n"
	want = strings.ReplaceAll(want, "SIZE", fmt.Sprint(len("From: \xe2\x80\xaex@example.org\r\nSubject:\r\n\r\n")))
	want = strings.ReplaceAll(want, "136", fmt.Sprint(len("From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>, b@example.org\r\nSubject: =?utf-8?b?dGFiCXRhYg==?= \x1b[2J\r\n and more\r\n\r\ntext\r\n")))
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if list := files(t, dir); !slices.Equal(list, []string{"new/2.b", "cur/1.a:2,FSa", "cur/3.c:2,"}) {
		t.Error("list changes names: ", list)
	}
}

func TestFlagsFromUIDsOfAPipe(t *testing.T) {
	dir := newMaildir(t, map[string]string{"new/1.a": letter("a"), "new/2.b": letter("b"), "cur/3.c:2,FS": letter("c"), "new/4.d": letter("d")})
	ok(t, "1\tx\n\n3 y\n77\n", "flags", dir, "-", "+seen", "-FLAGGED", "+work")
	ok(t, "", "flags", dir, "4:*,2", "+answered")
	if list := files(t, dir); !slices.Equal(list, []string{"cur/1.a:2,Sa", "cur/2.b:2,R", "cur/3.c:2,Sa", "cur/4.d:2,R"}) {
		t.Error(list)
	}
	ok(t, "", "flags", dir, "1:3", "-work", "-nonsense")
	if list := files(t, dir); !slices.Equal(list, []string{"cur/1.a:2,S", "cur/2.b:2,R", "cur/3.c:2,S", "cur/4.d:2,R"}) {
		t.Error(list)
	}
	if code, _, errs := mailboxctl(t, "1\nx\n", "flags", dir, "-", "+seen"); code != 65 || !strings.Contains(errs, `"x" is no UID`) {
		t.Error(code, errs)
	}
}

func TestCat(t *testing.T) {
	dir := newMaildir(t, map[string]string{"new/1.a": letter("a"), "new/2.b": letter("b"), "new/3.c": letter("c")})
	if out := ok(t, "", "cat", dir, "3", "1"); out != letter("a")+letter("c") {
		t.Errorf("%q", out)
	}
	if code, _, errs := mailboxctl(t, "", "cat", dir, "9"); code != 69 || !strings.Contains(errs, "no such message") {
		t.Error(code, errs)
	}
	if list := files(t, dir); len(list) != 3 || list[0] != "new/1.a" {
		t.Error("cat changes names: ", list)
	}
}

func TestMoveToAFolder(t *testing.T) {
	dir := newMaildir(t, map[string]string{"new/1.a": letter("a"), "cur/2.b:2,Sa": letter("b"), "new/3.c": letter("c")})
	must(t, os.WriteFile(dir+"/dovecot-keywords", []byte("0 work\n"), 0o600))
	folder(t, dir+"/.lists.caf&AOk-")
	folder(t, dir+"/.Old")
	ok(t, "", "move", dir, "1:2", "lists.café")
	if out := ok(t, "", "-f", "lists.café", "list", dir); !slices.Equal(uidsOf(out), []string{"1", "2"}) || !strings.Contains(out, "\tseen,work\t") {
		t.Error(out)
	}
	// The same folder, by path.
	ok(t, "", "move", dir+"/.lists.caf&AOk-", "*", dir+"/.Old")
	if list := files(t, dir+"/.Old"); len(list) != 1 || !strings.HasPrefix(list[0], "cur/") || !strings.HasSuffix(list[0], ":2,Sa") {
		t.Error(list)
	}
	ok(t, "", "-f", "Old", "move", dir, "1", "INBOX")
	if list := files(t, dir); !slices.Equal(list, []string{"new/3.c", filepath.Join("cur", filepath.Base(list[1]))}) || !strings.HasSuffix(list[1], ":2,Sa") {
		t.Error(list)
	}
	if code, _, _ := mailboxctl(t, "", "move", dir, "3", "nowhere"); code != 66 {
		t.Error(code)
	}
	if code, _, _ := mailboxctl(t, "", "move", dir, "3", "../x/y"); code != 66 {
		t.Error(code)
	}
	if out := ok(t, "", "check", dir); out != "" {
		t.Error(out)
	}
}

func TestExpungeByUIDAndAge(t *testing.T) {
	dir := newMaildir(t, map[string]string{"new/1.a": letter("a"), "cur/2.b:2,S": letter("b"), "new/3.c": letter("c"), "new/4.d": letter("d")})
	for name, age := range map[string]time.Duration{"new/1.a": 31 * 24 * time.Hour, "cur/2.b:2,S": 29 * 24 * time.Hour, "new/3.c": 0, "new/4.d": 0} {
		at := time.Now().Add(-age)
		must(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
	ok(t, "", "expunge", dir, "--older", "30d")
	if list := files(t, dir); !slices.Equal(list, []string{"new/3.c", "new/4.d", "cur/2.b:2,S"}) {
		t.Error(list)
	}
	ok(t, "4\n", "expunge", dir, "2", "-")
	if list := files(t, dir); !slices.Equal(list, []string{"new/3.c"}) {
		t.Error(list)
	}
	if out := ok(t, "", "list", dir); !slices.Equal(uidsOf(out), []string{"3"}) {
		t.Error(out)
	}
}

func TestCheckFindsAndTellsBy65(t *testing.T) {
	dir := newMaildir(t, map[string]string{"new/1.a": letter("a"), "cur/2.b,S=7:2,": letter("b")})
	folder(t, dir+"/.Sub")
	must(t, os.WriteFile(dir+"/.Sub/cur/3.c:2,z", nil, 0o600))
	code, out, errs := mailboxctl(t, "", "check", dir)
	if code != 65 || errs != "" || !regexp.MustCompile(`^\S+/cur/2\.b,S=7:2,: has \d+ octets, not what its name says\n\S+/\.Sub/cur/3\.c:2,z: has the letter z, which stands for no keyword\n$`).MatchString(out) {
		t.Error(code, out, errs)
	}
	if code, out, _ := mailboxctl(t, "", "-f", "Sub", "check", dir); code != 65 || strings.Count(out, "\n") != 1 {
		t.Error(code, out)
	}
	must(t, os.WriteFile(dir+"/dovecot-uidlist", []byte("rubbish\n"), 0o600))
	if code, _, errs := mailboxctl(t, "", "check", dir); code != 65 || !strings.Contains(errs, "begun anew") {
		t.Error(code, errs)
	}
}

func TestDu(t *testing.T) {
	dir := newMaildir(t, map[string]string{"new/1.a": "12345", "cur/2.b:2,": "123", "cur/.hidden": "1"})
	folder(t, dir+"/.Sub")
	if out := ok(t, "", "du", dir); out != "8\t2\tINBOX\n0\t0\tSub\n" {
		t.Error(out)
	}
	if out := ok(t, "", "-f", "inbox", "du", dir) + ok(t, "", "du", dir+"/.Sub"); out != "8\t2\tINBOX\n0\t0\tSub\n" {
		t.Error(out)
	}
	if _, err := os.Stat(dir + "/postamt.index"); err == nil {
		t.Error("du has made an index")
	}
}

func TestExitCodes(t *testing.T) {
	dir := newMaildir(t, map[string]string{"new/1.a": letter("a")})
	must(t, os.Mkdir(dir+"/.Half", 0o700))
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{64, "usage: ", nil},
		{64, "usage: ", []string{"list"}},
		{64, "usage: ", []string{"juggle", dir}},
		{64, "usage: ", []string{"-x", "list", dir}},
		{64, "usage: ", []string{"list", dir, "1"}},
		{64, "usage: ", []string{"cat", dir}},
		{64, "usage: ", []string{"flags", dir, "1"}},
		{64, "usage: ", []string{"flags", dir, "+seen"}},
		{64, "usage: ", []string{"flags", dir, "1", "seen"}},
		{64, "usage: ", []string{"expunge", dir}},
		{64, "usage: ", []string{"expunge", dir, "1", "--older", "3d"}},
		{64, "an age is wanted", []string{"expunge", dir, "--older", "3"}},
		{64, "an age is wanted", []string{"expunge", dir, "--older", "-3d"}},
		{64, "a UID, or a range", []string{"cat", dir, "0"}},
		{64, "a UID, or a range", []string{"cat", dir, "1:2:3"}},
		{64, "is a folder already", []string{"-f", "x", "list", dir + "/.Sub"}},
		{66, "there is no maildir", []string{"list", dir + "/nowhere"}},
		{66, "there is no maildir", []string{"list", dir + "/new"}},
		{66, "no such folder", []string{"-f", "Half", "list", dir}},
		{66, "not a folder name", []string{"-f", "../x", "list", dir}},
		{66, "nowhere", []string{"import", dir, dir + "/nowhere"}},
	} {
		folder(t, dir+"/.Sub")
		if code, _, errs := mailboxctl(t, "", c.args...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%v: exit %d, %q; want %d, %q", c.args, code, errs, c.code, c.says)
		}
	}
	if list := files(t, dir); !slices.Equal(list, []string{"new/1.a"}) {
		t.Error(list)
	}
}

// A directory with a dot is a folder only in a maildir, or if it says so.
func TestWhatIsAFolder(t *testing.T) {
	home := t.TempDir()
	folder(t, home+"/.maildir")
	folder(t, home+"/.maildir/.Sub")
	ok(t, "", "list", home+"/.maildir")
	ok(t, "", "list", home+"/.maildir/.Sub")
	for path, want := range map[string]bool{"/dovecot-uidvalidity": false, "/.maildir/dovecot-uidvalidity": true, "/.maildir/.Sub/dovecot-uidvalidity": false,
		"/.maildir/.Sub/dovecot-uidlist": true} {
		if _, err := os.Stat(home + path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Root's files would be out of their owner's reach.
func TestRootBecomesTheOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	base, err := os.MkdirTemp("", "owner") // t.TempDir has a parent that others cannot enter
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	must(t, os.Chmod(base, 0o755))
	for who, uid := range map[string]int{"alice": 4711, "bob": 4712} {
		folder(t, base+"/"+who+"/Maildir")
		must(t, filepath.WalkDir(base+"/"+who, func(path string, _ os.DirEntry, err error) error {
			must(t, err)
			return os.Chown(path, uid, uid)
		}))
	}
	dir := base + "/alice/Maildir"
	mbox := "From x@example.org Sat Nov 28 13:59:58 2026\n" + letter("a") + "\n"
	// Also when it is read from a file that only root may read.
	must(t, os.WriteFile(base+"/mbox", []byte(mbox), 0o600))
	ok(t, "", "import", dir, base+"/mbox")
	ok(t, "", "flags", dir, "1", "+k")
	err = filepath.WalkDir(base+"/alice", func(path string, e os.DirEntry, err error) error {
		must(t, err)
		st, err := e.Info()
		must(t, err)
		if uid := st.Sys().(*syscall.Stat_t).Uid; uid != 4711 {
			t.Errorf("%s belongs to %d", path, uid)
		}
		return nil
	})
	must(t, err)
	if code, _, errs := mailboxctl(t, "", "move", dir, "1", base+"/bob/Maildir"); code != 77 || !strings.Contains(errs, "belongs to uid 4711") {
		t.Error(code, errs)
	}
}
