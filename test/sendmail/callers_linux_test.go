package sendmail

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// installed makes a view of the machine in which sendmail is installed as make install does, and cron, bsd-mailx and logwatch are, and runs its arguments in it.
const installed = `
set -e
dir=$1 bin=$2 callers=$3; shift 3
mount --make-rprivate /
mkdir -p "$dir/view"
mount -t tmpfs view "$dir/view"
cd "$dir/view"
mkdir -p usr/sbin usr/bin usr/lib etc/alternatives usrwork etcwork
ln -s "$bin/sendmail" usr/sbin/sendmail
ln -s /usr/sbin/sendmail usr/lib/sendmail
ln -s /usr/sbin/sendmail usr/bin/mailq
ln -s "$dir" etc/postamt
printf '[sendemail]\n	confirm = never\n' >etc/gitconfig
mount -t overlay -o "lowerdir=$callers/usr:/usr,upperdir=$PWD/usr,workdir=$PWD/usrwork" usr /usr
mount -t overlay -o "lowerdir=$callers/etc:/etc,upperdir=$PWD/etc,workdir=$PWD/etcwork" etc /etc
mkdir -p /var/spool/cron /var/cache/logwatch
mount -t tmpfs run /run
mount -t tmpfs spool /var/spool
mount -t tmpfs cache /var/cache
mkdir -p /var/spool/cron/crontabs /var/cache/logwatch
cd "$dir/home"
exec "$@"
`

// machine returns a function that makes a command in such a view.
func machine(t *testing.T, s *suite.System) func(script string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "root is needed for mounts")
	}
	unshare := tool(t, "unshare")
	dir, err := peers.Dir()
	if err != nil {
		missing(t, err.Error())
	}
	callers := filepath.Join(dir, "callers")
	if _, err := os.Stat(callers); err != nil {
		missing(t, "cron, bsd-mailx and logwatch are not unpacked; run test/deps.sh")
	}
	if callers, err = filepath.EvalSymlinks(callers); err != nil {
		t.Fatal(err)
	}
	bin, _ := programs()
	at := func(script string) *exec.Cmd {
		c := exec.Command(unshare, "-m", "sh", "-c", installed, "sh", s.Dir, bin, callers, "sh", "-c", script)
		c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.Dir + "/home", "LC_ALL=C.UTF-8", "TERM=dumb", "USER=root", "LOGNAME=root",
			"LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu"}
		return c
	}
	if out, err := at("test -x /usr/sbin/sendmail").CombinedOutput(); err != nil {
		missing(t, "no view of the file system can be made here: "+string(out))
	}
	return at
}

// TestCallers: programs of other people, as they come, find sendmail where they look for it.
func TestCallers(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{})
	at := machine(t, s)
	write(t, s.Dir+"/home/letter", "first line\n.\n.a dot\nlast line\n")
	for _, c := range []struct {
		name, needs, script string
		want                []string
	}{
		{"bsd-mailx", "", `bsd-mailx -s "from mailx" -c bob alice </etc/postamt/home/letter`, []string{"Subject: from mailx", "\nTo: alice@example.test\n", "\nCc: bob@example.test\n"}},
		{"s-nail", "s-nail", `s-nail -n -s "from s-nail" -b bob alice </etc/postamt/home/letter`, []string{"Subject: from s-nail", "To: alice@example.test"}},
		{"mutt", "mutt", `mutt -n -s "from mutt" -b bob@example.test alice@example.test </etc/postamt/home/letter`, []string{"Subject: from mutt", "To: alice@example.test"}},
		{"PHP", "php", `php -n -r 'exit(mail("alice@example.test", "from PHP", file_get_contents("letter"), "Bcc: bob@example.test\r\nX-Mine: y", "-fwww@example.test") ? 0 : 1);'`,
			[]string{"Return-Path: <www@example.test>", "Subject: from PHP", "X-Mine: y"}},
		{"git send-email", "git", `git init -q repository && cd repository && git config user.name A && git config user.email a@example.test && cp ../letter . && git add . &&
			git commit -qm "from git" && git format-patch -q --root && git send-email --quiet --from a@example.test --to alice@example.test --bcc bob@example.test --suppress-cc=all --no-validate *.patch`,
			[]string{"Subject: [PATCH] from git", "From: a@example.test\nTo: alice@example.test\n"}},
		{"Python, mailbox and subprocess", "python3", `python3 -c '
import subprocess, email.message
m = email.message.EmailMessage()
m["To"], m["Bcc"], m["Subject"] = "alice", "bob@example.test", "from Python: \u00e4"
m.set_content(open("letter").read())
subprocess.run(["/usr/sbin/sendmail", "-t", "-oi"], input=m.as_bytes(), check=True)'`, []string{"To: alice@example.test"}},
		{"Perl", "perl", `perl -e 'open(M, "|/usr/lib/sendmail -t -oi") or die; print M "To: alice\nBcc: bob\nSubject: from Perl\n\n"; open(L, "letter"); print M <L>; close(M) or die'`, []string{"Subject: from Perl"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != "" {
				tool(t, c.needs)
			}
			ends(t, 0, at(c.script))
			text := inbox(t, s, "alice")
			contains(t, text, c.want...)
			if i := strings.Index(text, "first line\n"); i < 0 || !strings.Contains(text[i:], ".a dot\n") || !strings.Contains(text[i:], "\nlast line\n") && !strings.Contains(text[i:], "+last line\n") {
				t.Errorf("the text is another one:\n%s", text)
			}
			if strings.Contains(text, "\nBcc:") {
				t.Errorf("Bcc is seen:\n%s", text)
			}
			inbox(t, s, "bob")
		})
	}
	t.Run("logwatch", func(t *testing.T) {
		out := ends(t, 0, at(`logwatch --output mail --mailto alice --range all --logdir /etc/postamt/log --service all`))
		contains(t, inbox(t, s, "alice"), "\nTo: alice@example.test\n", "Logwatch for ")
		if strings.Contains(out, "sendmail") {
			t.Errorf("%s", out)
		}
	})
}

// TestCron: what a job prints comes to its owner, to MAILTO, and, if there is nobody of that name, back to its owner.
func TestCron(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Aliases: "root: alice\npostmaster: alice\nops: bob\n"})
	at := machine(t, s)
	write(t, s.Dir+"/home/crontab", `SHELL=/bin/sh
@reboot echo to the owner; echo .; echo last
MAILTO=ops
@reboot echo to ops
MAILTO=stranger
@reboot echo to a stranger
`)
	c := at("cp crontab /var/spool/cron/crontabs/root && chmod 600 /var/spool/cron/crontabs/root && exec cron -f")
	var log strings.Builder
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		c.Process.Kill() // unshare has become cron
		c.Wait()
	}()
	found, err := s.AwaitDelivered("alice", 2, limit)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	var all strings.Builder
	for _, name := range found {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	contains(t, all.String(), "\nFrom: root@example.test (Cron Daemon)\nTo: root@example.test\n", "\n\nto the owner\n.\nlast\n", "\nSubject: Returned mail", "<stranger@example.test>\n    550 5.1.1", "\n\nto a stranger\n")
	contains(t, inbox(t, s, "bob"), "\nTo: ops@example.test\n", "\n\nto ops\n")
}
