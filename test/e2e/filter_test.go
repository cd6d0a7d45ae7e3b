package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postamt/test/peers"
)

// odd is what programs between us like to change: dots, a line that looks like the beginning of a mailbox's message, raw octets, white space
// at the ends of lines, a long line, empty lines at the end.
var odd = "Subject: odd\r\n\r\nFrom here\r\n.\r\n..\r\n.dot \r\n\t\r\nr\xe4w \xff\r\n" + strings.Repeat("long ", 190) + "\r\n>From there\r\n\r\n\r\n"

// filterDir is a directory with deliver and its configuration for users whose homes, DIR/USER, are missing.
func filterDir(t *testing.T, users ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pa-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(bin, "deliver"))
	if err != nil {
		t.Fatal(err)
	}
	known := ""
	for _, u := range users {
		known += u + ":::::" + dir + "/" + u + "\n"
	}
	for name, text := range map[string]string{
		"deliver":      string(b),
		"postamt.conf": "hostname mx.box.test\norigin box.test\nlocal_domains box.test\nlog stderr\n",
		"users":        known,
		"aliases":      "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// home makes the home of a user; it belongs to an account.
func home(t *testing.T, dir, user, account string) {
	t.Helper()
	uid, gid := ids(t, account)
	if err := os.Mkdir(filepath.Join(dir, user), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, user), uid, gid); err != nil {
		t.Fatal(err)
	}
}

func ids(t *testing.T, account string) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(account)
	if err != nil {
		t.Skip(err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

// stored are the messages in a user's maildir.
func stored(t *testing.T, dir, user string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, user, "Maildir/new/*"))
	if err != nil {
		t.Fatal(err)
	}
	return texts(t, paths)
}

// exact checks that odd is the end of a message, octet for octet.
func exact(t *testing.T, text string) {
	t.Helper()
	i := strings.Index(text, "Subject: odd")
	if i < 0 || text[i:] != strings.ReplaceAll(odd, "\r\n", "\n") {
		t.Errorf("stored\n%q", text)
	}
}

// TestDeliverUnderExim: a pipe transport as deliver(8) shows it. Stored as it came; kept while the home is missing; returned where nobody is.
func TestDeliverUnderExim(t *testing.T) {
	t.Parallel()
	const exim = "Debian-exim" // as whom Exim delivers, who has no root
	dir := filterDir(t, "alice", "bob")
	home(t, dir, "alice", exim)
	p := peers.Exim(t, peers.Config{Domains: []string{"box.test"}, Users: []string{"alice", "bob", "carol"}, Local: []string{
		"driver = pipe",
		"command = " + dir + "/deliver -C " + dir + "/postamt.conf $local_part_data", "message_suffix =", "temp_errors = 75",
	}})
	c := dial(t, p.Addr)
	for _, u := range []string{"alice", "bob", "carol"} {
		c.hand("<alice@box.test>", []string{"<" + u + "@box.test>"}, []byte(odd))
	}
	log := func() string {
		b, _ := os.ReadFile(p.Log)
		return string(b)
	}
	await(t, "the message and a report of carol's", func() bool { return len(stored(t, dir, "alice")) == 2 })
	for _, text := range stored(t, dir, "alice") {
		if !strings.HasPrefix(text, "Return-Path: <") {
			t.Errorf("stored\n%s", text)
		}
		if strings.HasPrefix(text, "Return-Path: <>") {
			if !strings.Contains(text, "carol") {
				t.Errorf("report\n%s", text)
			}
			continue
		}
		exact(t, text)
	}
	await(t, "a try for bob", func() bool { return strings.Contains(log(), "== bob@box.test") })
	home(t, dir, "bob", exim)
	await(t, "the next try for bob", func() bool { return len(stored(t, dir, "bob")) == 1 })
	exact(t, stored(t, dir, "bob")[0])
}

// TestDeliverUnderFetchmail: mda as deliver(8) shows it. What is not stored stays on the server. (fetchmail says with which status, unless
// deliver has ended before it was written to, which makes it a broken pipe.)
func TestDeliverUnderFetchmail(t *testing.T) {
	fetchmail := tool(t, "fetchmail")
	t.Parallel()
	uid, gid := ids(t, "nobody")
	if os.Getuid() != 0 {
		t.Skip("needs root: fetchmail runs as nobody")
	}
	p := peers.Dovecot(t, peers.Config{Users: []string{"alice", "carol"}, Protocols: []string{"pop3"}})
	host, port, _ := strings.Cut(p.POP3, ":")
	dir := filterDir(t, "bob")
	on := func(user string) int {
		l, _ := filepath.Glob(p.Maildir(user) + "/[nc][eu][wr]/*")
		return len(l)
	}
	for _, user := range []string{"alice", "carol"} {
		for _, sub := range []string{"", "/new", "/cur", "/tmp"} {
			os.Mkdir(p.Maildir(user)+sub, 0o700)
			os.Chown(p.Maildir(user)+sub, uid, gid)
		}
		path := p.Maildir(user) + "/new/1764000000.1.far"
		if err := os.WriteFile(path, []byte("Return-Path: <sender@far.test>\r\n"+odd), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chown(path, uid, gid)
	}
	run := func(theirs, ours string) string {
		t.Helper()
		rc := filepath.Join(dir, "rc")
		text := "poll " + host + " protocol pop3 port " + port + " user \"" + theirs + "\" there with password \"secret\" is \"" + ours +
			"\" here options fetchall sslproto '' mda \"" + dir + "/deliver -C " + dir + "/postamt.conf -f %F %T\"\n"
		if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chown(rc, uid, gid)
		cmd := exec.Command(fetchmail, "-f", rc, "-v", "--nodetach", "--nosyslog", "--pidfile", dir+"/pid/x", "-i", dir+"/pid/ids")
		cmd.Env = []string{"HOME=" + dir + "/pid", "PATH=/usr/bin:/bin", "FETCHMAILHOME=" + dir + "/pid"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Run() // its exit says less than what is where afterwards
		return out.String()
	}
	home(t, dir, "pid", "nobody")

	if out := run("alice", "bob"); on("alice") != 1 || !strings.Contains(out, "deliver: ") {
		t.Errorf("without a home:\n%s", out)
	}
	if out := run("carol", "stranger"); on("carol") != 1 || !strings.Contains(out, "no such user") {
		t.Errorf("for a user who is not:\n%s", out)
	}
	home(t, dir, "bob", "nobody")
	out := run("alice", "bob")
	if on("alice") != 0 || len(stored(t, dir, "bob")) != 1 {
		t.Fatalf("fetched:\n%s", out)
	}
	text := stored(t, dir, "bob")[0]
	exact(t, text)
	if !strings.HasPrefix(text, "Return-Path: <sender@far.test>\n") {
		t.Errorf("stored\n%s", text)
	}
}
