package suite

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/peers"
)

// TestInstall: make install puts everything below DESTDIR, and what names places names those that the variables said; make
// uninstall takes away all but configuration and mail.
func TestInstall(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is missing")
	}
	root, err := peers.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	// In a copy, because other tests use what is in bin.
	tree := t.TempDir()
	for _, name := range []string{"Makefile", "cmd", "etc", "go.mod", "go.sum", "internal", "man"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	dest := t.TempDir()
	run := func(target string, more ...string) {
		t.Helper()
		c := exec.Command("make", append([]string{target, "DESTDIR=" + dest, "PREFIX=/opt/pa", "SYSCONFDIR=/opt/etc", "LOCALSTATEDIR=/opt/var", "RUNDIR=/opt/run", "VERSION=1.2-test"}, more...)...)
		c.Dir = tree
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
	}
	files := func() map[string]string {
		t.Helper()
		found := map[string]string{}
		err := filepath.WalkDir(dest, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type() == fs.ModeSymlink {
				to, e := os.Readlink(path)
				there := filepath.Join(filepath.Dir(path), to)
				if filepath.IsAbs(to) {
					there = dest + to
				}
				if _, gone := os.Stat(there); gone != nil && e == nil {
					e = gone
				}
				found[strings.TrimPrefix(path, dest)], err = "-> "+to, e
			} else if err == nil && !d.IsDir() {
				b, e := os.ReadFile(path)
				found[strings.TrimPrefix(path, dest)], err = string(b), e
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}

	run("install")
	installed := files()
	if len(installed) < 30 {
		t.Errorf("%d files are installed", len(installed))
	}
	for name, text := range installed {
		if !strings.HasPrefix(name, "/opt/") {
			t.Errorf("%s is not where it should be", name)
		}
		if strings.Contains(name, "bin/") {
			continue
		}
		for _, place := range []string{"/usr/sbin/", "/etc/postamt", "/var/spool/postamt", "/var/log/postamt", "/run/postamt"} {
			for line := range strings.Lines(text) {
				if i := strings.Index(line, place); i >= 0 && !strings.HasSuffix(line[:i], "/opt") {
					t.Errorf("%s: %s", name, line)
				}
			}
		}
	}
	for name, want := range map[string]string{
		"/opt/etc/postamt.conf":                            "\nqueue_dir /opt/var/spool/postamt\n",
		"/opt/pa/lib/systemd/system/postamt-smtpd.service": "ExecStart=/opt/pa/sbin/smtpd\n",
		"/opt/pa/lib/systemd/system/postamt-pop3d.service": "ExecStart=/opt/pa/sbin/pop3d\n",
		"/opt/pa/lib/systemd/system/postamt-imapd.service": "ExecStart=/opt/pa/sbin/imapd\n",
		"/opt/pa/lib/systemd/system/postamt-local.socket":  "ListenStream=/opt/run/postamt/smtpd.sock\n",
		"/opt/pa/lib/sendmail":                             "-> /opt/pa/sbin/sendmail",
		"/opt/pa/bin/mailq":                                "-> /opt/pa/sbin/sendmail",
		"/opt/pa/bin/newaliases":                           "-> /opt/pa/sbin/sendmail",
		"/opt/pa/sbin/runq":                                "-> sendmail",
		"/opt/pa/share/man/man1/mailq.1":                   "-> sendmail.1",
		"/opt/pa/lib/tmpfiles.d/postamt.conf":              "\nf /opt/etc/passwords 0640 root pa-auth\n",
	} {
		if !strings.Contains(installed[name], want) {
			t.Errorf("%s does not say %q:\n%s", name, want, installed[name])
		}
	}
	if !strings.Contains(installed["/opt/etc/postamt.conf"], "\npasswords passwords\n") {
		t.Errorf("hashes are not apart:\n%s", installed["/opt/etc/postamt.conf"])
	}

	// The programs look for their configuration there, and know their version.
	smtpd := filepath.Join(dest, "opt/pa/sbin/smtpd")
	out, err := exec.Command(smtpd).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/opt/etc/postamt.conf: no such file") {
		t.Errorf("%v: %s", err, out)
	}
	if !strings.Contains(installed["/opt/pa/sbin/smtpd"], "1.2-test") {
		t.Error("smtpd does not know its version")
	}

	own := "# mine\n"
	if err := os.WriteFile(filepath.Join(dest, "opt/etc/postamt.conf"), []byte(own), 0o644); err != nil {
		t.Fatal(err)
	}
	run("install")
	if files()["/opt/etc/postamt.conf"] != own {
		t.Error("an upgrade has overwritten the configuration")
	}
	run("uninstall")
	for name := range files() {
		if name != "/opt/etc/postamt.conf" {
			t.Errorf("%s is left", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dest, "opt/var/spool/postamt")); err != nil {
		t.Error("the queue directory is gone: ", err)
	}

	// Links lead to sendmail wherever it is; files looks.
	const built = "GO=true" // bin is full
	dest = t.TempDir()
	elsewhere := []string{"SBINDIR=/srv/pa/libexec/mail", "BINDIR=/opt/pa/local/bin"}
	run("install", append(elsewhere, built)...)
	for name, want := range map[string]string{
		"/opt/pa/lib/sendmail":         "-> /srv/pa/libexec/mail/sendmail",
		"/opt/pa/local/bin/mailq":      "-> /srv/pa/libexec/mail/sendmail",
		"/opt/pa/local/bin/newaliases": "-> /srv/pa/libexec/mail/sendmail",
		"/srv/pa/libexec/mail/rmail":   "-> sendmail",
	} {
		if got := files()[name]; got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
	run("uninstall", elsewhere...)
	if n := len(files()); n != 1 { // the configuration
		t.Errorf("%d files are left", n)
	}

	// Another mail server's sendmail stays where that is wished, and what has taken the place of ours is not taken away.
	dest = t.TempDir()
	theirs := []string{"/opt/pa/sbin/sendmail", "/opt/pa/lib/sendmail", "/opt/pa/bin/mailq", "/opt/pa/sbin/rmail", "/opt/pa/share/man/man1/mailq.1", "/opt/pa/share/man/man1/sendmail.1"}
	for _, name := range theirs {
		if err := errors.Join(os.MkdirAll(dest+filepath.Dir(name), 0o755), os.WriteFile(dest+name, []byte("theirs"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	theirsStay := func(names []string) {
		t.Helper()
		for _, name := range names {
			if got := files()[name]; got != "theirs" {
				t.Errorf("%s: %.20q", name, got)
			}
		}
	}
	run("install", built, "SENDMAIL=no")
	theirsStay(theirs)
	for _, name := range []string{"/opt/pa/bin/newaliases", "/opt/pa/sbin/runq", "/opt/pa/share/man/man1/runq.1"} {
		if _, there := files()[name]; there {
			t.Errorf("%s is there without sendmail", name)
		}
	}
	if installed := files(); installed["/opt/pa/sbin/smtpd"] == "" || installed["/opt/pa/share/man/man1/vacation.1"] == "" {
		t.Error("more than sendmail is left out")
	}
	run("uninstall", "SENDMAIL=no")
	theirsStay(theirs)
	run("install", built)
	theirs = []string{"/opt/pa/lib/sendmail", "/opt/pa/bin/mailq", "/opt/pa/share/man/man1/mailq.1"}
	for _, name := range theirs {
		if err := errors.Join(os.Remove(dest+name), os.WriteFile(dest+name, []byte("theirs"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	run("uninstall")
	theirsStay(theirs)
	if n := len(files()); n != len(theirs)+1 { // and the configuration
		t.Errorf("%d files are left", n)
	}
}
