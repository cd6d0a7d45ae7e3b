package imap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"postamt/test/peers"
	"postamt/test/site"
)

// sharedSite has alice, bob and carol, and a directory of shared maildirs.
type sharedSite struct {
	*imapSite
	shared string
}

// newSharedSite: the users have these ids, and their homes too.
func newSharedSite(t *testing.T, whole bool, ids map[string]int) *sharedSite {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become users")
	}
	s := newSite(t, whole, "shared_mailboxes ../shared")
	shared := s.Dir + "/shared"
	s.Must(os.Mkdir(shared, 0o755))
	users, passwords := "", ""
	for name, id := range ids {
		home := s.Dir + "/home/" + name
		os.Mkdir(home, 0o700)
		s.Must(filepath.Walk(home, func(path string, _ os.FileInfo, err error) error { return errors.Join(err, os.Lchown(path, id, id)) }))
		users += fmt.Sprintf("%s::%d:%[2]d::%s\n", name, id, home)
		passwords += name + ":{PLAIN}secret\n"
	}
	s.Write("etc/users", users, 0o644)
	f, err := os.OpenFile(s.Dir+"/etc/passwords", os.O_WRONLY|os.O_TRUNC, 0) // it has its owner
	s.Must(err)
	io.WriteString(f, passwords)
	f.Close()
	return &sharedSite{s, shared}
}

// maildir makes a shared maildir, and its folders, with the rights of its INBOX.
func (s *sharedSite) maildir(name string, uid, gid int, mode os.FileMode, acl string, folders ...string) {
	s.T.Helper()
	for _, folder := range append([]string{"."}, folders...) {
		for _, sub := range []string{".", "cur", "new", "tmp"} {
			dir := filepath.Join(s.shared, name, folder, sub)
			s.Must(os.MkdirAll(dir, 0o700))
			s.Must(errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, mode)))
		}
	}
	file := filepath.Join(s.shared, name, "dovecot-acl")
	s.Must(os.WriteFile(file, []byte(acl), 0o600))
	s.Must(errors.Join(os.Chown(file, uid, gid), os.Chmod(file, mode&0o666)))
}

func (s *sharedSite) as(user string) *wire {
	s.T.Helper()
	w := &wire{Client: s.Dial(true)}
	w.do("LOGIN " + user + " secret")
	return w
}

// shown are the shared mailboxes that a user sees.
func (w *wire) shown() (names []string) {
	w.T.Helper()
	for _, r := range w.do(`LIST "" Shared.*`) {
		names = append(names, r[strings.LastIndexByte(r, ' ')+1:])
	}
	slices.Sort(names)
	return names
}

// refused fails the test if a command is not refused with that code.
func (w *wire) refused(code, command string) {
	w.T.Helper()
	if tagged, _ := w.ask(command); !strings.HasPrefix(tagged, "NO ["+code+"]") {
		w.T.Errorf("%s: %s, want %s", command, tagged, code)
	}
}

// tells waits in IDLE until a response is told.
func (w *wire) tells(want string, do func()) {
	w.T.Helper()
	w.n++
	io.WriteString(w, fmt.Sprintf("t%d IDLE\r\n", w.n))
	for !strings.HasPrefix(w.response(), "+") {
	}
	do()
	for w.response() != want {
	}
	io.WriteString(w, "DONE\r\n")
	for !strings.HasPrefix(w.response(), fmt.Sprintf("t%d OK", w.n)) {
	}
}

// All mail is one account's: the rights decide alone.
func TestSharedByRights(t *testing.T) {
	site.Both(t, sharedByRights)
}

func sharedByRights(t *testing.T, whole bool) {
	id := site.AliceID
	if whole {
		id = site.PlainID
	}
	s := newSharedSite(t, whole, map[string]int{"alice": id, "bob": id, "carol": id})
	s.maildir("sales", id, id, 0o700, "user=alice lrwstikxea\nuser=bob lr\n", ".2026")
	s.maildir("press", id, id, 0o700, "user=carol lr\n")
	s.All()
	alice, bob, carol := s.as("alice"), s.as("bob"), s.as("carol")
	for w, want := range map[*wire]string{alice: "[Shared.sales Shared.sales.2026]", bob: "[Shared.sales Shared.sales.2026]", carol: "[Shared.press]"} {
		if got := fmt.Sprint(w.shown()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	bob.do("SELECT Shared.sales")
	bob.tells("* 1 EXISTS", func() { alice.append("Shared.sales", `\Flagged`, "one") })
	bob.refused("NOPERM", `STORE 1 +FLAGS (\Seen)`)
	bob.do("COPY 1 INBOX")
	carol.refused("NONEXISTENT", "SELECT Shared.sales")
	carol.refused("NONEXISTENT", "GETACL Shared.sales")
	alice.do("SETACL Shared.sales carol lrs")
	carol.do("SELECT Shared.sales")
	carol.do(`STORE 1 +FLAGS (\Seen)`)
	alice.do("SETACL Shared.sales -carol l")
	carol.refused("NONEXISTENT", "SELECT Shared.sales")
	bob.do("SUBSCRIBE Shared.sales")
	if b, err := os.ReadFile(s.Dir + "/home/bob/Maildir/subscriptions"); err != nil || !strings.HasSuffix(string(b), "\nShared\tsales\n") {
		t.Errorf("%q, %v", b, err)
	}
	// Who writes his name otherwise is who he is.
	for _, name := range []string{"ALICE", "Alice@example.test"} {
		if got := fmt.Sprint(s.as(name).do("MYRIGHTS Shared.sales")); got != "[* MYRIGHTS Shared.sales lrwstiekxacd]" {
			t.Error(name, got)
		}
	}
	// A maildir of its own has a quota of its own.
	s.maildir("full", id, id, 0o700, "user=alice lri\nuser=carol l\n")
	s.Must(os.WriteFile(s.shared+"/full/maildirsize", []byte("1000S\n0 0\n"), 0o600))
	s.Must(os.Chown(s.shared+"/full/maildirsize", id, id))
	alice.append("Shared.full", "", "one")
	alice.refused("OVERQUOTA", "APPEND Shared.full {990}")
	if got := fmt.Sprint(alice.do("GETQUOTAROOT Shared.full")); got != "[* QUOTAROOT Shared.full Shared.full * QUOTA Shared.full (STORAGE 1 0)]" {
		t.Error(got)
	}
	carol.refused("NONEXISTENT", "GETQUOTA Shared.full") // who may see it and not read it
	carol.refused("NOPERM", "GETQUOTAROOT Shared.full")
	bob.refused("NONEXISTENT", "GETQUOTA Shared.full")
	bob.refused("NONEXISTENT", "GETQUOTAROOT Shared.full")
	// Programs of others.
	if path, err := exec.LookPath("curl"); err == nil {
		out, err := exec.Command(path, "-sS", "-u", "bob:secret", "imap://"+s.Addr+"/Shared.sales;MAILINDEX=1;SECTION=HEADER.FIELDS%20(SUBJECT)").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Subject: one") {
			t.Errorf("curl: %s, %v", out, err)
		}
		if out, err := exec.Command(path, "-sS", "-u", "carol:secret", "imap://"+s.Addr+"/Shared.sales;MAILINDEX=1").CombinedOutput(); err == nil {
			t.Errorf("curl: %s", out)
		}
	}
	if path, err := exec.LookPath("python3"); err == nil {
		host, port, _ := strings.Cut(s.Addr, ":")
		out, err := exec.Command(path, "-c", `
import imaplib, sys
m = imaplib.IMAP4(sys.argv[1], int(sys.argv[2]))
m.login("bob", "secret")
print(m.namespace()[1])
print(m.myrights("Shared.sales")[1])
print(m.select("Shared.sales", readonly=True))
print(m.getacl("Shared.sales")[0])
m.logout()
`, host, port).CombinedOutput()
		want := `[b'(("" ".")) NIL (("Shared." "."))']
[b'Shared.sales lr']
('OK', [b'1'])
NO
`
		if err != nil || string(out) != want {
			t.Errorf("imaplib: %s, %v", out, err)
		}
	}
}

// teamID is a group of alice and bob.
const teamID = 60490

// groups has imapd find other accounts and groups in /etc than there are.
func (s *sharedSite) groups(passwd, group string) {
	s.Write("etc/passwd-there", passwd, 0o644)
	s.Write("etc/group-there", group, 0o644)
	s.Must(os.Rename(s.Bin+"/imapd", s.Bin+"/imapd.real"))
	s.Must(os.WriteFile(s.Bin+"/imapd", []byte(fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount --make-rprivate / && mount --bind %[1]s/etc/passwd-there /etc/passwd && "+
		"mount --bind %[1]s/etc/group-there /etc/group && exec %[1]s/bin/imapd.real \"$@\"' sh \"$@\"\n", s.Dir)), 0o755))
}

// Each user has a user id, and alice and bob a group: modes say who can enter, the rights what is done there.
func TestSharedByGroup(t *testing.T) {
	t.Parallel()
	const carolID = 60413
	s := newSharedSite(t, false, map[string]int{"alice": site.AliceID, "bob": site.BobID, "carol": carolID})
	for _, program := range []string{"unshare", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	s.groups(fmt.Sprintf("root:x:0:0::/:/bin/sh\nalice:x:%d:%[1]d::/:/bin/sh\nbob:x:%d:%[2]d::/:/bin/sh\n", site.AliceID, site.BobID),
		fmt.Sprintf("root:x:0:alice\nteam:x:%d:alice,bob\n", teamID))
	s.maildir("team", site.AliceID, teamID, 0o770|os.ModeSetgid, "anyone lrwstikxe\n")
	s.maildir("all", site.AliceID, teamID, 0o755|os.ModeSetgid, "anyone lrwstikxe\n")
	s.All()
	alice, bob, carol := s.as("alice"), s.as("bob"), s.as("carol")
	if got := fmt.Sprint(carol.shown(), alice.shown()); got != "[Shared.all] [Shared.all Shared.team]" {
		t.Error(got)
	}
	bob.do("SELECT Shared.team")
	bob.tells("* 1 EXISTS", func() { alice.append("Shared.team", "$Work", "one") })
	alice.do("SELECT Shared.team")
	alice.tells(`* 1 FETCH (FLAGS (\Flagged $Work $Play))`, func() { bob.do(`STORE 1 +FLAGS.SILENT (\Flagged $Play)`) })
	bob.do("CREATE Shared.team.old")
	bob.do("MOVE 1 Shared.team.old")
	bob.append("INBOX", "", "two")
	bob.do("SELECT INBOX")
	bob.do("MOVE 1 Shared.team.old")
	alice.do("SELECT Shared.team.old")
	alice.do(`STORE 1:2 +FLAGS (\Deleted)`)
	alice.do("EXPUNGE")
	alice.do("DELETE Shared.team.old")
	carol.refused("NONEXISTENT", "SELECT Shared.team")
	carol.refused("NOPERM", "CREATE Shared.team.x")
	s.Must(filepath.Walk(s.shared+"/team", func(path string, info os.FileInfo, err error) error {
		if err != nil || strings.HasPrefix(info.Name(), "dovecot-uidvalidity.") {
			return err
		}
		want := os.FileMode(0o660)
		if info.IsDir() {
			want = 0o770 | os.ModeSetgid | os.ModeDir
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; info.Mode() != want || gid != teamID {
			t.Errorf("%s: %v, group %d", path, info.Mode(), gid)
		}
		return nil
	}))
	// Both at once, from two processes: nothing is lost, and both see the same.
	var at sync.WaitGroup
	for _, w := range []*wire{s.as("alice"), s.as("bob"), alice, bob} {
		at.Go(func() {
			for _, command := range []string{"SELECT Shared.team", "STORE 1:* +FLAGS (\\Seen)", "NOOP"} {
				for i := range 10 {
					if tagged, _ := w.ask("APPEND Shared.team", fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i)); !strings.HasPrefix(tagged, "OK") {
						t.Error(tagged)
					}
				}
				if tagged, _ := w.ask(command); !strings.HasPrefix(tagged, "OK") {
					t.Errorf("%s: %s", command, tagged)
				}
			}
		})
	}
	at.Wait()
	for _, w := range []*wire{alice, bob} {
		w.do("ENABLE IMAP4rev2 CONDSTORE") // which has no RECENT, and tells HIGHESTMODSEQ only once
		w.do("SELECT Shared.team")
	}
	const list = "UID FETCH 1:* (FLAGS RFC822.SIZE MODSEQ)"
	if a, b := alice.do(list), bob.do(list); len(a) != 120 || !slices.Equal(a, b) {
		t.Errorf("%d and %d messages:\n%s\n%s", len(a), len(b), a, b)
	}
	// Who may read and no more.
	alice.append("Shared.all", "", "one")
	if tagged, untagged := carol.ask("SELECT Shared.all"); !strings.HasPrefix(tagged, "OK [READ-ONLY]") || !slices.Contains(untagged, "* 1 EXISTS") {
		t.Errorf("%q %q", untagged, tagged)
	}
	carol.tells("* 2 EXISTS", func() { alice.append("Shared.all", "", "two") })
	carol.refused("NOPERM", `STORE 1 +FLAGS (\Seen)`)
	carol.refused("NOPERM", "APPEND Shared.all {10}")
	carol.do("COPY 1:2 INBOX")
	// Group 0 stays out.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Part("worker")))
	if _, groups, _ := strings.Cut(string(status), "\nGroups:\t"); err != nil || !strings.HasPrefix(groups, fmt.Sprintf("%d %d \n", site.AliceID, teamID)) {
		t.Errorf("%.40q, %v", groups, err)
	}
}

// Dovecot, with a public namespace for each maildir, gives the same rights.
func TestSharedRightsWithDovecot(t *testing.T) {
	t.Parallel()
	b := newBoth(t, "shared_mailboxes ../shared")
	b.dovecot = nil
	st, err := os.Stat(b.Alice)
	b.Must(err)
	own := st.Sys().(*syscall.Stat_t)
	s := &sharedSite{b.imapSite, b.Dir + "/shared"}
	s.Must(os.Mkdir(s.shared, 0o755))
	extra := []string{"mail_plugins = acl", "protocol imap {\n  mail_plugins = acl imap_acl\n}", "plugin {\n  acl = vfile\n  acl_anyone = allow\n}",
		"namespace inbox {\n  inbox = yes\n  separator = .\n}"}
	acls := []string{"", "anyone lr", "authenticated lrs", "anyone lr\nauthenticated l", "authenticated l\nanyone lr", "user=alice lrwstipekxa\nanyone l", "anyone lrw\nuser=alice l", "anyone lrw\nuser=alice",
		"user=bob lr", "owner lr", "group=staff lr", "group-override=x l", "anyone lrwi\n-user=alice wi", "anyone lrwi\n-anyone w\n-user=alice i", "user=alice lr\n-anyone r", "user=alice lra", "anyone lrwstipekxa\n-authenticated a"}
	for i, acl := range acls {
		name := fmt.Sprintf("m%d", i)
		s.maildir(name, int(own.Uid), int(own.Gid), 0o700, acl+"\n", ".bare", ".other")
		file := s.shared + "/" + name + "/.other/dovecot-acl"
		s.Must(os.WriteFile(file, []byte("anyone lrs\nuser=alice lrt\n"), 0o644))
		extra = append(extra, fmt.Sprintf("namespace %s {\n  type = public\n  prefix = Shared.%[1]s.\n  separator = .\n  location = maildir:%s/%[1]s\n  list = children\n  subscriptions = no\n}", name, s.shared))
	}
	b.dovecot = peers.Dovecot(t, peers.Config{Protocols: []string{"imap"}, Maildirs: s.Dir + "/home", Users: []string{"alice"}, Extra: extra})
	ours, theirs := s.session(), b.theirs()
	rights := func(w *wire, name string) string {
		tagged, untagged := w.ask("MYRIGHTS " + name)
		if len(untagged) == 0 {
			return tagged[:2]
		}
		letters := strings.Split(untagged[0][strings.LastIndexByte(untagged[0], ' ')+1:], "")
		slices.Sort(letters)
		return strings.Trim(strings.Join(letters, ""), `"`)
	}
	for i, acl := range acls {
		for _, folder := range []string{"", ".bare", ".other"} {
			name := fmt.Sprintf("Shared.m%d%s", i, folder)
			there := name
			if folder == "" {
				there += ".INBOX"
			}
			if got, want := rights(ours, name), rights(theirs, there); got != want {
				t.Errorf("%q, %s: ours %s, theirs %s", acl, name, got, want)
			}
		}
	}
}
