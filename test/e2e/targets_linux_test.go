package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postamt/test/suite"
)

// Accounts of a System in which deliver is split, as on a real host.
const (
	frontUID = 60200
	aliasUID = 60208
	queueUID = 60209
	firstUID = 60211 // of the users, in their order
)

// split runs a System whose deliver was started by root and becomes each user, and aliasUID for the commands of the alias files. Around it is a directory that aliasUID
// may write to.
func split(t *testing.T, c suite.Config) (s *suite.System, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become users")
	}
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Users) == 0 {
		c.Users = []string{"alice", "bob"}
	}
	c.Bin = bin
	c.Settings += fmt.Sprintf("login_user %d:%d\nqueue_user %d:%d\nalias_user %d:%d\nretry_min 1s\nretry_max 2s\n", frontUID, frontUID, queueUID, queueUID, aliasUID, aliasUID)
	dir = t.TempDir()
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	os.Chown(dir, aliasUID, aliasUID)
	c.Aliases = strings.ReplaceAll(c.Aliases, "DIR", dir)
	if s, err = suite.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	os.Chmod(s.Dir, 0o755)
	os.Chmod(filepath.Join(s.Dir, "home"), 0o755)
	var text strings.Builder
	for i, u := range c.Users {
		home := filepath.Join(s.Dir, "home", u)
		os.Chown(home, firstUID+i, firstUID+i)
		fmt.Fprintf(&text, "%s::%d:%d::%s\n", u, firstUID+i, firstUID+i, home)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "users"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chown(s.Queue, queueUID, queueUID)
	for _, name := range []string{"users", "aliases", "postamt.conf", "routes"} {
		os.Chmod(filepath.Join(s.Dir, name), 0o644)
	}
	os.Chmod(s.Dir+"/run", 0o755)
	// Queued first: smtpd, which is root here, would make the queue's directories root's.
	if err := errors.Join(s.Launch("queued"), s.Run()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.End(), s.Check()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("deliver:\n%.8000s\nqueued:\n%.8000s", s.Log("deliver"), s.Log("queued"))
		}
	})
	return s, dir
}

// asUser writes a file in the home of a user, as his.
func asUser(t *testing.T, s *suite.System, user int, name, text string) {
	t.Helper()
	path := filepath.Join(s.Dir, "home", s.Users[user], name)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, firstUID+user, firstUID+user)); err != nil {
		t.Fatal(err)
	}
}

// owned reads a file that must be there soon, and be that user's.
func owned(t *testing.T, uid int, path string) string {
	t.Helper()
	if err := suite.Await(limit, path, func() bool { st, err := os.Stat(path); return err == nil && st.Size() > 0 }); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := int(st.Sys().(*syscall.Stat_t).Uid); got != uid {
		t.Errorf("%s is of uid %d, not of %d", path, got, uid)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAliasCommandsAndFiles(t *testing.T) {
	s, dir := split(t, suite.Config{Aliases: `postmaster: alice
run:  "|cat > DIR/tmp && env > DIR/env && mv DIR/tmp DIR/ran"
box:  DIR/box
many: alice, "|cat > DIR/tmp2 && mv DIR/tmp2 DIR/many", DIR/maildir/, DIR/box
deny: "|echo 5.7.1 not you; exit 77"
`})
	c := dial(t, s.Addr)
	c.send("<o'hara+x@client.test>", []string{"<run+tag@example.test>"}, note("to a command"))
	ran := owned(t, aliasUID, dir+"/ran")
	if !strings.HasPrefix(ran, "From o'hara+x@client.test  ") || !strings.Contains(ran, "\nReturn-Path: <o'hara+x@client.test>\nDelivered-To: run+tag@example.test\nReceived: ") ||
		!strings.Contains(ran, "Subject: to a command\n") || strings.Contains(ran, "\r") {
		t.Errorf("the command got %q", ran)
	}
	env := owned(t, aliasUID, dir+"/env")
	for _, want := range []string{"SENDER=o_hara+x@client.test", "RECIPIENT=run+tag@example.test", "EXTENSION=tag", "LOCAL=run+tag", "DOMAIN=example.test", "HOME=/", "SHELL=/bin/sh", "CLIENT_ADDRESS=127.0.0.1", "CLIENT_HELO=client.test", "SASL_USERNAME="} {
		if !strings.Contains("\n"+env, "\n"+want+"\n") {
			t.Errorf("%s is not in its environment:\n%s", want, env)
		}
	}
	c.send("<sender@client.test>", []string{"<many@example.test>", "<box@example.test>"}, note("to all"))
	inbox(t, s, "alice", 1)
	owned(t, aliasUID, dir+"/many")
	empty(t, s)
	if box := owned(t, aliasUID, dir+"/box"); strings.Count(box, "\nSubject: to all\n") != 1 {
		t.Errorf("two aliases for one file: %q", box)
	}
	if found, _ := filepath.Glob(dir + "/maildir/new/*"); len(found) != 1 {
		t.Errorf("%d messages are in the maildir", len(found))
	}
	c.send("<alice@example.test>", []string{"<deny@example.test>"}, note("denied"))
	var report string
	for _, m := range inbox(t, s, "alice", 2) {
		if strings.Contains(m, "not you") {
			report = m
		}
	}
	if !strings.Contains(report, "Status: 5.7.1") || !strings.Contains(report, "not you") {
		t.Errorf("the sender was told %q", report)
	}
}

// A message that waits for a command that fails is delivered to the one that takes its place; a file that is not safe runs nothing.
func TestAliasCommandIsMended(t *testing.T) {
	s, dir := split(t, suite.Config{Aliases: "postmaster: alice\nrun: alice, |/nowhere/command\n"})
	dial(t, s.Addr).send("<sender@client.test>", []string{"<run@example.test>"}, note("it waits"))
	inbox(t, s, "alice", 1)
	if err := suite.Await(limit, "an attempt", func() bool { return strings.Contains(s.Log("queued"), "exit code 127") }); err != nil {
		t.Fatal(err)
	}
	path := s.Dir + "/aliases"
	if err := errors.Join(os.WriteFile(path+".new", []byte("postmaster: alice\nrun: alice, |cat >"+dir+"/ran\n"), 0o664), os.Chmod(path+".new", 0o664), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
	if err := suite.Await(limit, "a refusal", func() bool { return strings.Contains(s.Log("queued"), "the alias file is not safe") }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Fatal("a command ran that its group could have written")
	}
	os.Chmod(path, 0o644)
	owned(t, aliasUID, dir+"/ran")
	empty(t, s)
	inbox(t, s, "alice", 1)
}

func TestForward(t *testing.T) {
	k := sinkAt(t, "127.0.0.1")
	s, _ := split(t, suite.Config{Users: []string{"alice", "bob", "carol", "dave", "eve"}, Aliases: "postmaster: alice\nfriends: bob, dave\n",
		Routes: fmt.Sprintf("sink.test [127.0.0.1]:%s\n", k.port())})
	home := func(u string) string { return filepath.Join(s.Dir, "home", u) }
	asUser(t, s, 0, ".forward", `\alice, far@sink.test, "|cat > ~/tmp; env > ~/env; mv ~/tmp ~/ran", friends, a..b`+"\n"+home("alice")+"/box\n")
	asUser(t, s, 1, ".forward", "carol\n")
	asUser(t, s, 2, ".forward", "bob, carol\n") // a circle
	c := dial(t, s.Addr)
	// "a..b" is no target: the whole file waits to be mended, and says so.
	c.send("<sender@client.test>", []string{"<alice@example.test>"}, note("first"))
	if err := suite.Await(limit, "an attempt", func() bool { return strings.Contains(s.Log("queued"), "has a mistake in line 1") }); err != nil {
		t.Fatal(err)
	}
	asUser(t, s, 0, ".forward", `\alice, far@sink.test, "|cat > ~/tmp; env > ~/env; mv ~/tmp ~/ran", friends`+"\n"+home("alice")+"/box\n")
	if got := owned(t, firstUID, home("alice")+"/ran"); !strings.Contains(got, "Delivered-To: alice@example.test\n") || !strings.Contains(got, "Subject: first\n") {
		t.Errorf("the command got %q", got)
	}
	if env := owned(t, firstUID, home("alice")+"/env"); !strings.Contains(env, "HOME="+home("alice")+"\n") || !strings.Contains(env, "USER=alice\n") {
		t.Errorf("its environment is %s", env)
	}
	inbox(t, s, "alice", 1)
	inbox(t, s, "carol", 1)
	inbox(t, s, "dave", 1)
	sent := k.await(t, 1)
	empty(t, s)
	inbox(t, s, "alice", 1)
	inbox(t, s, "bob", 1) // what comes back to him stays with him
	inbox(t, s, "carol", 1)
	if box := owned(t, firstUID, home("alice")+"/box"); strings.Count(box, "Subject: first\n") != 1 {
		t.Errorf("the file has %q", box)
	}
	if !strings.HasPrefix(string(sent[0].data), "Delivered-To: alice@example.test\r\n") {
		t.Errorf("the sink got %.300q", sent[0].data)
	}
	// D05
	os.Chmod(home("dave"), 0o777)
	asUser(t, s, 3, ".forward", "far@sink.test\n")
	c.send("<sender@client.test>", []string{"<dave@example.test>"}, note("second"))
	if err := suite.Await(limit, "a refusal", func() bool { return strings.Contains(s.Log("queued"), "writable by everyone (chmod o-w mends it)") }); err != nil {
		t.Fatal(err)
	}
	os.Chmod(home("dave"), 0o700)
	k.await(t, 2)
	empty(t, s)
	inbox(t, s, "dave", 1)
}

func TestQMail(t *testing.T) {
	s, _ := split(t, suite.Config{Users: []string{"alice", "bob", "carol"}, Aliases: "postmaster: alice\n"})
	home := func(u string) string { return filepath.Join(s.Dir, "home", u) }
	// "|condredirect": what comes after a 99 is not done.
	asUser(t, s, 0, ".qmail", "# mine\n|grep -q '^Subject: stop' && exit 99; exit 0\n&bob@example.test\n./Maildir/\n./box\n")
	asUser(t, s, 0, ".qmail-default", "|echo $DEFAULT > ~/default; exit 100\n")
	asUser(t, s, 1, ".qmail", "./Maildir/\ncarol@example.test\n")
	c := dial(t, s.Addr)
	c.send("<sender@client.test>", []string{"<alice@example.test>"}, note("stop here"))
	empty(t, s)
	inbox(t, s, "alice", 0)
	c.send("<sender@client.test>", []string{"<alice@example.test>"}, note("go on"))
	inbox(t, s, "alice", 1)
	inbox(t, s, "bob", 1)
	inbox(t, s, "carol", 1)
	if box := owned(t, firstUID, home("alice")+"/box"); strings.Count(box, "Subject: go on\n") != 1 {
		t.Errorf("the file has %q", box)
	}
	c.send("<bob@example.test>", []string{"<alice+x@example.test>"}, note("never"))
	inbox(t, s, "bob", 2)
	empty(t, s)
	if got := owned(t, firstUID, home("alice")+"/default"); got != "x\n" {
		t.Errorf("DEFAULT is %q", got)
	}
}

// SRS: what is sent on has a sender of ours, and a report to that comes back to who it is.
func TestSenderRewriting(t *testing.T) {
	k := sinkAt(t, "127.0.0.1")
	keys := filepath.Join(t.TempDir(), "srs")
	if err := os.WriteFile(keys, []byte("0123456789abcdef0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, suite.Config{Aliases: "postmaster: alice\nfar: far@sink.test\nlist: far@sink.test\nowner-list: alice\n",
		Routes:   fmt.Sprintf("sink.test [127.0.0.1]:%s\nclient.test [127.0.0.1]:%s\n", k.port(), k.port()),
		Settings: "srs_keys " + keys + "\nsrs_domain example.test\n"})
	c := dial(t, s.Addr)
	c.send("<sender@client.test>", []string{"<far@example.test>"}, note("sent on"))
	got := k.await(t, 1)
	from := got[0].from
	if !strings.HasPrefix(from, "SRS0=") || !strings.HasSuffix(from, "=client.test=sender@example.test") {
		t.Fatalf("it is from %s", from)
	}
	c.send("<>", []string{"<" + strings.ToLower(from) + ">"}, note("a report"))
	if got = k.await(t, 2); got[1].to[0] != "sender@client.test" || got[1].from != "" {
		t.Errorf("the report is from %q to %q", got[1].from, got[1].to)
	}
	c.say("250", "MAIL FROM:<>")
	c.say("550 5.1.1 SRS address with a wrong hash", "RCPT TO:<"+strings.Replace(from, "=sender@", "=sendes@", 1)+">")
	c.say("250", "RSET")
	c.send("<alice@example.test>", []string{"<far@example.test>"}, note("ours"))
	c.send("<sender@client.test>", []string{"<list@example.test>"}, note("a list"))
	for _, m := range k.await(t, 4)[2:] {
		if m.from != "alice@example.test" {
			t.Errorf("it is from %s", m.from)
		}
	}
	empty(t, s)
}

// A mailing list: header, posters, loop, VERP, a way out for each member; and a body that is on disk once.
func TestMailingList(t *testing.T) {
	k := sinkAt(t, "127.0.0.1")
	dir := t.TempDir()
	list := dir + "/news"
	for name, text := range map[string]string{
		"news": "#: id news.example.test The news\n#: post members\n#: bounces news-bounces@example.test\n#: unsubscribe news-unsubscribe@example.test\n" +
			"#: unsubscribe https://lists.example.test/u?m=%t\nalice\nfar@sink.test\nfarther@sink.test\n",
		"srs": "0123456789abcdef0123\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, suite.Config{Aliases: "postmaster: bob\nnews: :include:" + list + "\nnews-bounces: bob\nnews-unsubscribe: bob\n",
		Routes: fmt.Sprintf("sink.test [127.0.0.1]:%s\n", k.port()), Settings: "srs_keys " + dir + "/srs\nsrs_domain example.test\n"})
	c := dial(t, s.Addr)
	c.say("250", "MAIL FROM:<stranger@client.test>")
	c.say("550 5.7.1 this address may not post to the list", "RCPT TO:<news@example.test>")
	c.say("250", "RSET")
	c.send("<far@sink.test>", []string{"<news@example.test>"}, []byte("List-Id: <other.test>\r\nPrecedence: bulk\r\nList-Unsubscribe:\r\n <mailto:x@y.test>\r\n"+string(note("to the list"))))
	got := k.await(t, 2)
	own := inbox(t, s, "alice", 1)[0]
	empty(t, s)
	for _, m := range got {
		member := m.to[0]
		tag := strings.Replace(member, "@", "=", 1)
		text := string(m.data)
		if m.from != "news-bounces+"+tag+"@example.test" {
			t.Errorf("%s got it from %s", member, m.from)
		}
		for _, want := range []string{"List-Id: \"The news\" <news.example.test>\r\nList-Post: <mailto:news@example.test>\r\nPrecedence: list\r\n",
			"\r\n\t<mailto:news-unsubscribe+" + tag + "=", "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", "List-Unsubscribe: <https://lists.example.test/u?m=" + strings.Replace(tag, "=", "%3D", 1)} {
			if !strings.Contains(text, want) {
				t.Errorf("%s got no %q in %s", member, want, text)
			}
		}
		if strings.Contains(text, "other.test") || strings.Contains(text, "y.test") || strings.Count(text, "Precedence") != 1 || !strings.Contains(text, "Subject: to the list") {
			t.Errorf("%s got %s", member, text)
		}
		_, rest, _ := strings.Cut(text, "<mailto:news-unsubscribe")
		rest, _, _ = strings.Cut(rest, "?")
		c.say("250", "MAIL FROM:<>")
		c.say("250", "RCPT TO:<news-unsubscribe"+rest+">")
		c.say("550 5.7.1", "RCPT TO:<news-unsubscribe"+strings.Replace(rest, "far", "fat", 1)+">")
		c.say("250", "RSET")
	}
	if !strings.HasPrefix(own, "Return-Path: <news-bounces+alice=example.test@example.test>\n") {
		t.Errorf("alice has %.300q", own)
	}
	// It comes back, with all that the list has put on it.
	c.send("<far@sink.test>", []string{"<news@example.test>"}, got[0].data)
	if err := suite.Await(limit, "a refusal", func() bool {
		return strings.Contains(s.Log("queued"), "5.4.6 this message has been sent to the list before")
	}); err != nil {
		t.Fatal(err)
	}
	k.await(t, 3) // the report
	empty(t, s)
	inbox(t, s, "alice", 1)
}

// A user who is away: his forward file, vacation(1), sendmail(1), and the way back to who wrote.
func TestVacation(t *testing.T) {
	k := sinkAt(t, "127.0.0.1")
	s, dir := split(t, suite.Config{Users: []string{"alice"}, Aliases: "postmaster: alice\n", Settings: "origin example.test\n",
		Routes: fmt.Sprintf("sink.test [127.0.0.1]:%s\n", k.port())})
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	for d := bin; len(d) > 1; d = filepath.Dir(d) {
		if st, err := os.Stat(d); err == nil && st.Mode().Perm()&0o005 != 0o005 && strings.HasPrefix(d, os.TempDir()+"/") {
			os.Chmod(d, 0o755)
		}
	}
	// A command has no POSTAMT_CONF.
	sendmail := filepath.Join(dir, "sendmail")
	if err := os.WriteFile(sendmail, []byte("#!/bin/sh\nexec "+bin+"/sendmail -C "+s.Conf+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	asUser(t, s, 0, ".vacation.msg", "Subject: away\n\nI am away until Monday.\n")
	asUser(t, s, 0, ".forward", `\alice, "|`+bin+"/vacation -S "+sendmail+` alice"`+"\n")
	c := dial(t, s.Addr)
	to := []byte("From: far@sink.test\r\nTo: alice@example.test\r\nSubject: hello\r\nMessage-ID: <1@sink.test>\r\n\r\nhello\r\n")
	c.send("<far@sink.test>", []string{"<alice@example.test>"}, to)
	got := k.await(t, 1)[0]
	text := string(got.data)
	if got.from != "" || got.to[0] != "far@sink.test" || !strings.Contains(text, "Auto-Submitted: auto-replied") || !strings.Contains(text, "In-Reply-To: <1@sink.test>") ||
		!strings.Contains(text, "I am away until Monday.") || !strings.Contains(text, "Subject: away") {
		t.Errorf("from %q to %q: %s", got.from, got.to, text)
	}
	// Not twice, and nobody who must not be answered: a list, a report.
	c.send("<far@sink.test>", []string{"<alice@example.test>"}, to)
	c.send("<other@sink.test>", []string{"<alice@example.test>"}, append([]byte("List-Id: <x.sink.test>\r\n"), to...))
	c.send("<>", []string{"<alice@example.test>"}, to)
	inbox(t, s, "alice", 4)
	empty(t, s)
	k.await(t, 1)
	if n := len(k.await(t, 1)); n != 1 {
		t.Errorf("%d answers", n)
	}
}
