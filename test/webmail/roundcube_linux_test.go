// Package webmail tests a webmail, which is a mail program that others see: Debian's Roundcube, in a browser. It is for "make roundcube".
package webmail

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/suite"
)

// inPackages returns a command that sees the packages, which are unpacked and not installed, in their places.
func inPackages(t testing.TB) func(args ...string) *exec.Cmd {
	dir, err := peers.Dir()
	if err != nil {
		t.Skip(err)
	}
	dir = filepath.Join(dir, "roundcube")
	if _, err := os.Stat(dir + "/usr/lib/chromium/chromium"); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) *exec.Cmd {
		c := exec.Command("/bin/sh", append([]string{"-c", `
for d in /usr /etc /var/lib; do mount -t overlay -o lowerdir="$0$d:$d" overlay $d || exit; done
exec "$@"`, dir}, args...)...)
		c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
		return c
	}
}

const html = `From: =?UTF-8?Q?J=C3=BCrgen?= <j@a.example>
To: alice@example.test
Subject: =?UTF-8?Q?The_gr=C3=BCn_one?=
Date: Fri, 27 Nov 2026 10:00:00 +0100
Message-ID: <one@a.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: multipart/alternative; boundary=c

--c
Content-Type: text/plain; charset=utf-8

plain
--c
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<h1>gr=C3=BCn</h1><p>a <b>needle</b> in a haystack</p><script>alert(1)</script>
--c--
--b
Content-Type: application/octet-stream; name="data.bin"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="data.bin"

AAECA//+
--b--
`

// Somebody logs in, reads a message with HTML and an attachment, answers, searches, moves and deletes.
func TestRoundcube(t *testing.T) {
	if os.Getenv("ROUNDCUBE") == "" {
		t.Skip("make roundcube")
	}
	command := inPackages(t)
	imap, err := peers.FreeAddr()
	must(t, err)
	web, err := peers.FreeAddr()
	must(t, err)
	sys := suite.Start(t, suite.Config{Auth: true, Settings: "imapd_listen " + imap + "=imap\nimapd_client_limit 0\n"})
	must(t, sys.Launch("imapd"))
	in := sys.Maildir("alice")
	for i, text := range []string{html, "From: b@b.example\nSubject: to be moved\nMessage-ID: <two@a.example>\n\ntwo\n", "From: c@c.example\nSubject: to be deleted\nMessage-ID: <three@a.example>\n\nthree\n"} {
		must(t, os.MkdirAll(in+"/new", 0o700))
		must(t, os.MkdirAll(in+"/cur", 0o700))
		must(t, os.MkdirAll(in+"/tmp", 0o700))
		must(t, os.WriteFile(fmt.Sprintf("%s/new/%d.x", in, 1700000000+i), []byte(text), 0o600))
	}

	dir := t.TempDir()
	for _, d := range []string{"conf", "tmp", "logs", "sessions", "browser"} {
		must(t, os.Mkdir(dir+"/"+d, 0o700))
	}
	smtp := strings.TrimPrefix(sys.Submit, "tcp:")
	must(t, os.WriteFile(dir+"/conf/config.inc.php", []byte(`<?php
$config['db_dsnw'] = 'sqlite:///`+dir+`/db?mode=0600';
$config['imap_host'] = '`+imap+`';
$config['smtp_host'] = '`+smtp+`';
$config['smtp_user'] = '%u';
$config['smtp_pass'] = '%p';
$config['mail_domain'] = 'example.test';
$config['des_key'] = 'rcmail-!24ByteDESkey*Str';
$config['plugins'] = [];
$config['skin'] = 'elastic';
$config['language'] = 'en_US';
$config['create_default_folders'] = true;
$config['preview_pane'] = false;
$config['htmleditor'] = 0;
$config['temp_dir'] = '`+dir+`/tmp';
$config['log_dir'] = '`+dir+`/logs';
$config['imap_debug'] = true;
$config['smtp_debug'] = true;
$config['imap_cache'] = null;
`), 0o600))
	script := `cp /etc/roundcube/defaults.inc.php /etc/roundcube/mimetypes.php ` + dir + `/conf || exit
args=
for x in pdo ctype dom exif fileinfo iconv intl mbstring pdo_sqlite posix simplexml sockets sqlite3 tokenizer xml xmlreader xmlwriter; do args="$args -d extension=$x.so"; done
args="$args -d session.save_path=` + dir + `/sessions -d display_errors=0 -d error_log=` + dir + `/logs/php -d include_path=/usr/share/php"
php8.2 -n $args -r '$d = new PDO("sqlite:` + dir + `/db"); $d->exec(file_get_contents("/usr/share/roundcube/SQL/sqlite.initial.sql"));' || exit
exec php8.2 -n $args -S ` + web + ` -t /var/lib/roundcube/public_html`
	server := command("/bin/sh", "-c", script)
	server.Env = append(os.Environ(), "ROUNDCUBE_CONFIG_DIR="+dir+"/conf", "PHP_CLI_SERVER_WORKERS=4")
	out, err := os.Create(dir + "/logs/server")
	must(t, err)
	server.Stdout, server.Stderr = out, out
	must(t, server.Start())
	t.Cleanup(func() {
		syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
		server.Wait()
		if t.Failed() {
			logs, _ := filepath.Glob(dir + "/logs/*")
			for _, l := range logs {
				b, _ := os.ReadFile(l)
				t.Logf("%s:\n%s", l, b[max(0, len(b)-6000):])
			}
			t.Log(sys.Log("imapd"))
		}
	})

	b := open(t, command, dir+"/browser")
	base := "http://" + web + "/"
	must(t, suite.Await(time.Minute, "the web server", func() bool {
		c, err := exec.Command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", base).Output()
		return err == nil && string(c) == "200"
	}))
	b.visit(base)
	b.await("the login", `!!document.querySelector("#rcmloginuser")`)
	b.eval(`document.querySelector("#rcmloginuser").value = "alice"; document.querySelector("#rcmloginpwd").value = "alice"; document.querySelector("#rcmloginsubmit").click()`)
	rows := `document.querySelectorAll("#messagelist tbody tr.message").length`
	b.await("the messages", `!!window.rcmail && rcmail.env.task == "mail" && `+rows+` == 3`)
	b.shot(shots(t) + "/roundcube-list.png")

	// It is read.
	b.visit(base + "?_task=mail&_action=show&_mbox=INBOX&_uid=1")
	b.await("the message", `!!document.querySelector("#messagebody h1") && document.querySelector("#messagebody h1").innerText == "grün"`)
	if s := b.eval(`document.querySelector("#messageheader .subject, h2.subject").innerText`); !strings.HasPrefix(s, `"The gr\u00fcn one`) {
		t.Errorf("subject %s", s)
	}
	if s := b.eval(`(async () => { const a = document.querySelector("#attachment-list a.filename, .attachmentslist a.filename"); const r = await fetch(a.href.replace(/_action=show/, "_action=get") + "&_download=1");
		return a.innerText + " " + btoa(String.fromCharCode(...new Uint8Array(await r.arrayBuffer()))) })()`); !strings.Contains(s, "data.bin") || !strings.Contains(s, base64.StdEncoding.EncodeToString([]byte{0, 1, 2, 3, 0xff, 0xfe})) {
		t.Errorf("attachment %s", s)
	}
	b.shot(shots(t) + "/roundcube-message.png")

	// Bob gets one.
	b.visit(base + "?_task=mail&_action=compose&_to=bob@example.test&_subject=From+the+web")
	b.await("a message to be written", `!!window.rcmail && !!document.querySelector("#composebody") && !!rcmail.env.compose_id`)
	b.eval(`document.querySelector("#composebody").value = "written in a browser: ü\n"; rcmail.command("send", "", null)`)
	got, err := sys.AwaitDelivered("bob", 1, time.Minute)
	must(t, err)
	if text, _ := os.ReadFile(got[0]); !strings.Contains(string(text), "Subject: From the web") {
		t.Errorf("bob got %s", text)
	}
	b.await("the messages", `!!window.rcmail && rcmail.env.action != "compose"`)

	// It is found, moved and deleted.
	b.visit(base + "?_task=mail&_mbox=INBOX")
	b.await("the messages", `!!window.rcmail && `+rows+` == 3`)
	b.eval(`rcmail.env.search_mods = {"*": {text: 1}}; rcmail.qsearch("needle")`)
	b.await("what was found", `!!rcmail.env.search_request && `+`rcmail.env.messagecount == 1`)
	b.visit(base + "?_task=mail&_mbox=INBOX")
	b.await("the messages", `!!window.rcmail && `+rows+` == 3`)
	b.eval(`rcmail.message_list.clear_selection(); rcmail.message_list.select(2); rcmail.move_messages("Junk")`)
	b.await("it to be moved", `rcmail.env.messagecount == 2`)
	b.eval(`rcmail.message_list.clear_selection(); rcmail.message_list.select(3); rcmail.command("delete")`)
	b.await("it to be deleted", `rcmail.env.messagecount == 1`)
	b.shot(shots(t) + "/roundcube-after.png")
	bin, err := suite.Build()
	must(t, err)
	for folder, want := range map[string]string{"INBOX": "The grün one", "Junk": "to be moved", "Trash": "to be deleted", "Sent": "From the web"} {
		must(t, suite.Await(time.Minute, want+" in "+folder, func() bool {
			out, _ := exec.Command(bin+"/mailboxctl", "-f", folder, "list", in).CombinedOutput()
			return strings.Count(string(out), "\n") == 1 && strings.Contains(string(out), want)
		}))
	}
	if out, err := exec.Command(bin+"/mailboxctl", "check", in).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mailboxctl check: %v\n%s", err, out)
	}
}

// shots is where pictures go.
func shots(t testing.TB) string {
	if dir := os.Getenv("ROUNDCUBE_SHOTS"); dir != "" {
		return dir
	}
	return t.TempDir()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
