package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/internal/password"
	"postamt/internal/textfile"
)

// TestMain runs the program itself when a test executes us as authd, or when a checkpassword program does.
func TestMain(m *testing.M) {
	if os.Getenv("AUTHD_TEST_RUN") != "" || len(os.Args) == 2 && os.Args[1] == checked {
		main()
	}
	os.Exit(m.Run())
}

// command is authd with those arguments.
func command(t testing.TB, stdin string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "AUTHD_TEST_RUN=1")
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// program runs it to its end.
func program(t testing.TB, stdin string, args ...string) (code int, out, complaint string) {
	t.Helper()
	cmd := command(t, stdin, args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Start()
	if err == nil {
		late := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() }) // it serves, where it should have failed
		err = cmd.Wait()
		late.Stop()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// layout writes a configuration and a users file, and returns their paths.
func layout(t testing.TB, users, settings string) (conf, usersFile string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "authd-") // short: a socket's path has room for 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf, usersFile = filepath.Join(dir, "postamt.conf"), filepath.Join(dir, "users")
	text := "hostname mx.example.test\norigin example.test\nlocal_domains example.test\nstate_dir state\nrun_dir .\nlog stderr\nauth_user\nsmtpd_user\n" + settings
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if users != "" {
		if err := os.WriteFile(usersFile, []byte(users), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "aliases"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return conf, usersFile
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every other byte, mode and owner are as they were.
func TestPasswdChangesOneFieldOfOneLine(t *testing.T) {
	before := "# alice: the boss\r\n\nALICE:{PLAIN}old:1000:100:Alice, the boss:/home/alice::quota=1G allow_nets=::1\n" +
		"  odd line\nbob:{PLAIN}b::::::\nalice:{PLAIN}second::::::\nlast:*"
	conf, users := layout(t, before, "")
	if os.Geteuid() == 0 {
		if err := os.Chown(users, 65534, 12); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.Stat(users)
	if err != nil {
		t.Fatal(err)
	}
	if code, out, complaint := program(t, "neu: pass\nsecond line\n", "-C", conf, "passwd", "-s", "sha256-crypt", "Alice"); code != 0 || out+complaint != "" {
		t.Fatalf("%d %s %s", code, out, complaint)
	}
	after := read(t, users)
	begin, rest, ok := strings.Cut(after, "alice:{SHA256-CRYPT}")
	hash, end, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || begin+"ALICE:{PLAIN}old:"+end != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if s, err := password.Parse(hash); err != nil || !s.Verify("neu: pass") {
		t.Errorf("%s: %v", hash, err)
	}
	now, err := os.Stat(users)
	if err != nil {
		t.Fatal(err)
	}
	a, b := old.Sys().(*syscall.Stat_t), now.Sys().(*syscall.Stat_t)
	if now.Mode() != old.Mode() || a.Uid != b.Uid || a.Gid != b.Gid {
		t.Errorf("was %v of %d:%d, is %v of %d:%d", old.Mode(), a.Uid, a.Gid, now.Mode(), b.Uid, b.Gid)
	}
	if code, _, complaint := program(t, "new\n", "-C", conf, "passwd", "-s", "plain", "carol"); code != 0 || !strings.Contains(complaint, "warning") {
		t.Errorf("%d %s", code, complaint)
	}
	if got := read(t, users); got != after+"\ncarol:{PLAIN}new::::::\n" {
		t.Errorf("with carol:\n%s", got)
	}
}

// The second line of a name would hold if only the first were removed.
func TestPasswdRemovesAUserAltogether(t *testing.T) {
	conf, users := layout(t, "alice:{PLAIN}a\nbob:{PLAIN}b\nAlice:{PLAIN}older\n", "")
	if code, _, complaint := program(t, "", "-C", conf, "passwd", "-d", "alice"); code != 0 {
		t.Fatal(complaint)
	}
	if got := read(t, users); got != "bob:{PLAIN}b\n" {
		t.Errorf("%q", got)
	}
	if code, _, _ := program(t, "", "-C", conf, "passwd", "-d", "alice"); code != exCantCreate {
		t.Errorf("removed twice: %d", code)
	}
	if got := read(t, users); got != "bob:{PLAIN}b\n" {
		t.Errorf("%q", got)
	}
}

func TestPasswdMakesTheFileAndFollowsALink(t *testing.T) {
	conf, users := layout(t, "", "")
	if code, _, complaint := program(t, "secret\n", "-C", conf, "passwd", "-s", "SCRAM-SHA-256", "vera@example.org"); code != 0 {
		t.Fatal(complaint)
	}
	if st, err := os.Stat(users); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	real := filepath.Join(filepath.Dir(users), "real")
	if err := errors.Join(os.Rename(users, real), os.Symlink("real", users)); err != nil {
		t.Fatal(err)
	}
	if code, _, complaint := program(t, "secret\n", "-C", conf, "passwd", "-s", "PLAIN", "bob"); code != 0 {
		t.Fatal(complaint)
	}
	if st, err := os.Lstat(users); err != nil || st.Mode()&fs.ModeSymlink == 0 || !strings.Contains(read(t, real), "bob:") {
		t.Error("the link is gone")
	}
}

// With a file for passwords no hash goes into users, and those that are there go; whatever else stands in either file stays.
func TestPasswdWritesTheHashApart(t *testing.T) {
	conf, users := layout(t, "# users\nALICE:{PLAIN}stray:1000:100::/home/alice::quota=1G\nbob\ncarol:*:1001:100::/home/carol\n", "passwords shadow\n")
	shadow := filepath.Join(filepath.Dir(users), "shadow")
	run := func(want int, stdin string, args ...string) {
		t.Helper()
		if code, _, complaint := program(t, stdin, append([]string{"-C", conf, "passwd"}, args...)...); code != want {
			t.Errorf("%q: exit %d, want %d: %s", args, code, want, complaint)
		}
	}
	both := func(wantUsers, wantShadow string) {
		t.Helper()
		if u, s := read(t, users), read(t, shadow); u != wantUsers || s != wantShadow {
			t.Errorf("users:\n%s\nwant\n%s\npasswords:\n%s\nwant\n%s", u, wantUsers, s, wantShadow)
		}
	}
	run(0, "secret\n", "-s", "PLAIN", "bob")
	same := "# users\nALICE:{PLAIN}stray:1000:100::/home/alice::quota=1G\nbob\n"
	both(same+"carol:*:1001:100::/home/carol\n", "bob:{PLAIN}secret\n")
	if st, err := os.Stat(shadow); err != nil || st.Mode().Perm()&0o027 != 0 {
		t.Errorf("%v, %v", st, err)
	}
	if err := errors.Join(os.WriteFile(shadow, []byte("# Dovecot's\nbob:{PLAIN}old:1000::\n"), 0o600), os.Chmod(shadow, 0o640), os.Chmod(users, 0o644)); err != nil {
		t.Fatal(err)
	}
	run(0, "secret\n", "-s", "PLAIN", "bob")
	run(0, "one\n", "-s", "PLAIN", "carol")
	run(0, "new\n", "-s", "PLAIN", "vera@example.org")
	same += "carol:x:1001:100::/home/carol\nvera@example.org:x::::::\n"
	hashes := "# Dovecot's\nbob:{PLAIN}secret:1000::\ncarol:{PLAIN}one\nvera@example.org:{PLAIN}new\n"
	both(same, hashes)
	run(0, "two\n", "-s", "PLAIN", "alice")
	same = strings.Replace(same, "ALICE:{PLAIN}stray:", "alice:x:", 1)
	both(same, hashes+"alice:{PLAIN}two\n")
	run(0, "", "-d", "alice")
	_, others, _ := strings.Cut(same, "quota=1G\n")
	both("# users\n"+others, hashes)
	run(exCantCreate, "", "-d", "alice")
	if err := os.WriteFile(shadow, []byte("left:{PLAIN}x\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	run(0, "", "-d", "left")
	run(0, "", "-d", "bob")
	both("# users\ncarol:x:1001:100::/home/carol\nvera@example.org:x::::::\n", "")
	for path, want := range map[string]fs.FileMode{users: 0o644, shadow: 0o640} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%v, %v", st, err)
		}
	}
}

// What root makes its account can read, and not write.
func TestAHashFileIsForItsAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	if got := secretFile("65534:65533"); got != (textfile.Owner{Mode: 0o640, UID: 0, GID: 65533}) {
		t.Errorf("%+v", got)
	}
	if got := secretFile("no-such-account"); got != (textfile.Owner{Mode: 0o600, UID: -1, GID: -1}) {
		t.Errorf("%+v", got)
	}
}

// Both wait for each other, and no user is lost.
func TestPasswdTwiceAtOnce(t *testing.T) {
	conf, users := layout(t, "alice:{PLAIN}a\n", "")
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if code, _, complaint := program(t, "secret\n", "-C", conf, "passwd", "-s", "PLAIN", fmt.Sprint("user", i)); code != 0 {
				t.Error(complaint)
			}
		})
	}
	wg.Wait()
	got := read(t, users)
	for i := range n {
		if !strings.Contains(got, fmt.Sprintf("user%d:{PLAIN}secret:", i)) {
			t.Errorf("user%d is lost:\n%s", i, got)
		}
	}
}

func TestHashOfEachScheme(t *testing.T) {
	for _, scheme := range password.MakeSchemes() {
		code, out, complaint := program(t, "secret\n", "hash", "-s", strings.ToLower(scheme))
		s, err := password.Parse(strings.TrimSuffix(out, "\n"))
		if code != 0 || complaint != "" || err != nil || !s.Verify("secret") {
			t.Errorf("%s: %d %q %q %v", scheme, code, out, complaint, err)
		}
	}
	if code, out, _ := program(t, "secret", "hash"); code != 0 || !strings.HasPrefix(out, "{ARGON2ID}$argon2id$") {
		t.Errorf("no scheme, no line end: %d %q", code, out)
	}
}

// EXIT STATUS of authd(8).
func TestExitCodes(t *testing.T) {
	conf, _ := layout(t, "alice:{PLAIN}a\n", "")
	broken, _ := layout(t, "", "no_such_key 1\n")
	lost, _ := layout(t, "", "users gone/users\n")
	writable, writableUsers := layout(t, "alice:{PLAIN}a\n", "")
	if err := os.Chmod(writableUsers, 0o666); err != nil {
		t.Fatal(err)
	}
	apart, _ := layout(t, "alice:x\n", "passwords shadow\n")
	one, _ := layout(t, "alice:x\n", "passwords users\n")
	occupied, _ := layout(t, "alice:{PLAIN}a\n", "auth_listen unix:postamt.conf/auth=client\n")
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        int
	}{
		{"unknown option", "", []string{"-x"}, exUsage},
		{"unknown word", "", []string{"-C", conf, "frob"}, exUsage},
		{"passwd without user", "x\n", []string{"-C", conf, "passwd"}, exUsage},
		{"passwd of two", "x\n", []string{"-C", conf, "passwd", "a", "b"}, exUsage},
		{"-d with -s", "x\n", []string{"-C", conf, "passwd", "-d", "-s", "PLAIN", "alice"}, exUsage},
		{"no name", "x\n", []string{"-C", conf, "passwd", "../x"}, exUsage},
		{"hash with an argument", "x\n", []string{"hash", "secret"}, exUsage},
		{"empty password", "\n", []string{"-C", conf, "passwd", "alice"}, exData},
		{"long password", strings.Repeat("x", 513) + "\n", []string{"hash"}, exData},
		{"very long password", strings.Repeat("x", 5000) + "\n", []string{"hash"}, exNoInput},
		{"not UTF-8", "\xff\xfe\n", []string{"hash"}, exData},
		{"control character", "a\tb\n", []string{"hash"}, exData},
		{"unknown scheme", "x\n", []string{"hash", "-s", "MD5"}, exData},
		{"no password", "", []string{"-C", conf, "passwd", "alice"}, exNoInput},
		{"no password to hash", "", []string{"hash"}, exNoInput},
		{"nowhere to write", "x\n", []string{"-C", lost, "passwd", "alice"}, exCantCreate},
		{"broken configuration, passwd", "x\n", []string{"-C", broken, "passwd", "alice"}, exConfig},
		{"broken configuration", "", []string{"-C", broken}, exConfig},
		{"no configuration", "", []string{"-C", "/nonexistent"}, exConfig},
		{"no users file", "", []string{"-C", lost}, exConfig},
		{"no file of passwords", "", []string{"-C", apart}, exConfig},
		{"users and passwords are one file", "x\n", []string{"-C", one, "passwd", "alice"}, exConfig},
		{"everyone may write the users file", "", []string{"-C", writable}, exConfig},
		{"no place for a socket", "", []string{"-C", occupied}, exOSErr},
	} {
		code, out, complaint := program(t, c.stdin, c.args...)
		if code != c.want || complaint == "" || out != "" {
			t.Errorf("%s: exit %d, want %d; %q %q", c.name, code, c.want, out, complaint)
		}
	}
}

// What a checkpassword program executes writes the word, and nothing else is a yes.
func TestChecked(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := command(t, "", checked)
	cmd.Env = append(cmd.Env, "POSTAMT_CHECKED=word")
	cmd.ExtraFiles = []*os.File{w, w}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got := make([]byte, 10)
	if n, _ := r.Read(got); string(got[:n]) != "word" {
		t.Errorf("%q", got[:n])
	}
	if code, _, _ := program(t, "", checked); code != 64 {
		t.Errorf("called by hand: %d", code)
	}
}

// A terminal is asked twice and shows nothing.
func TestPasswdOnATerminal(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script is not installed")
	}
	conf, users := layout(t, "alice:{PLAIN}old\n", "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ first, again, want string }{
		{"secret", "secret", "alice:{PLAIN}secret\n"},
		{"other", "others", "alice:{PLAIN}secret\n"},
	} {
		// Each answer is typed when its question is there: what comes before echo is off would be seen.
		cmd := exec.Command(script, "-qec", self+" -C "+conf+" passwd -s PLAIN alice", "/dev/null")
		cmd.Env = append(os.Environ(), "AUTHD_TEST_RUN=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var shown strings.Builder
		b := make([]byte, 1)
		for _, x := range []struct{ prompt, answer string }{{"password of alice: ", c.first}, {"once more: ", c.again}} {
			for !strings.HasSuffix(shown.String(), x.prompt) {
				if _, err := out.Read(b); err != nil {
					t.Fatalf("%v after %q", err, shown.String())
				}
				shown.Write(b)
			}
			fmt.Fprint(in, x.answer+"\n")
		}
		var rest bytes.Buffer
		rest.ReadFrom(out)
		in.Close()
		err = cmd.Wait()
		shown.Write(rest.Bytes())
		if (err == nil) != (c.first == c.again) || strings.Contains(shown.String(), c.first) {
			t.Errorf("%v: %q", err, shown.String())
		}
		if got := read(t, users); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Who interrupts it sees again what he types, and nothing has changed.
func TestAnInterruptLeavesTheTerminalAsItWas(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script is not installed")
	}
	conf, users := layout(t, "alice:{PLAIN}old\n", "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, "-qec", "trap : INT; "+self+" -C "+conf+" passwd -s PLAIN alice; echo ended by $?; stty -a", "/dev/null")
	cmd.Env = append(os.Environ(), "AUTHD_TEST_RUN=1", "SHELL=/bin/sh")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	var shown strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(shown.String(), "password of alice: "); shown.Write(b) {
		if _, err := out.Read(b); err != nil {
			t.Fatalf("%v after %q", err, shown.String())
		}
	}
	fmt.Fprint(in, "half\x03")
	var rest bytes.Buffer
	rest.ReadFrom(out)
	in.Close()
	cmd.Wait()
	if got := rest.String(); !strings.Contains(got, "ended by 130") || !strings.Contains(got, " echo ") || strings.Contains(got, "half") {
		t.Errorf("%q", got)
	}
	if got := read(t, users); got != "alice:{PLAIN}old\n" {
		t.Errorf("%q", got)
	}
}
