package pop3

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A stranger is somebody else's program that fetches what is in a maildrop, and removes it unless it is to leave it.
type stranger struct {
	name string
	// how to call it: the port, the way ("clear", "stls", "tls", "apop"), and whether to leave what there is. What it fetches goes to its output, or below dir,
	// where the certificate is in cert.pem; nil: it does not know the way.
	command func(dir, port, way string, leave bool) []string
	twice   bool   // it knows from UIDL what it has left there before
	slow    bool   // the first way is for leaving, the others are for deleting
	with    string // another program that it needs
}

var strangers = []stranger{
	{"curl", func(dir, port, way string, leave bool) []string {
		url := map[string]string{"clear": "pop3", "stls": "pop3", "tls": "pop3s", "apop": "pop3"}[way] + "://alice:secret@127.0.0.1:" + port
		call := "curl -sSk" + map[string]string{"stls": " --ssl-reqd", "apop": " --login-options AUTH=+APOP"}[way]
		script := fmt.Sprintf("for i in 1 2 3; do %s %s/$i || exit; done", call, url)
		if !leave { // the highest first: the numbers are of one session
			script += fmt.Sprintf("; for i in 3 2 1; do %s -I -X \"DELE $i\" %s || exit; done", call, url)
		}
		return []string{"sh", "-c", script}
	}, false, false, ""},
	{"python3", func(dir, port, way string, leave bool) []string {
		return []string{"python3", "-c", `
import poplib, ssl, sys
port, way, leave = int(sys.argv[1]), sys.argv[2], sys.argv[3]
c = ssl._create_unverified_context()
p = poplib.POP3_SSL("127.0.0.1", port, context=c) if way == "tls" else poplib.POP3("127.0.0.1", port)
if way == "stls": p.stls(c)
assert p.capa()["USER"] == []
if way == "apop": p.apop("alice", "secret")
else: p.user("alice"); p.pass_("secret")
n, octets = p.stat()
assert sum(int(l.split()[1]) for l in p.list()[1]) == octets
assert len(p.uidl()[1]) == n
for i in range(1, n + 1):
    r, lines, size = p.retr(i)
    assert sum(len(l) + 2 for l in lines) - int(r.split()[1]) == (2 if i == 3 else 0), r # the end of an unfinished line is not counted
    assert p.top(i, 0)[1] == lines[:lines.index(b"") + 1]
    print("\n".join(l.decode() for l in lines))
    if leave == "false": p.dele(i)
p.quit()
`, port, way, fmt.Sprint(leave)}
	}, false, false, ""},
	{"fetchmail", func(dir, port, way string, leave bool) []string {
		rc := "poll 127.0.0.1 protocol " + map[bool]string{true: "apop", false: "pop3"}[way == "apop"] + " port " + port + " uidl user alice password secret mda \"cat >>" + dir + "/mbox\" " +
			map[bool]string{true: "keep ", false: "nokeep fetchall "}[leave] + map[string]string{"clear": "sslproto ''", "apop": "sslproto ''", "stls": "sslproto 'TLS1.2+' no sslcertck", "tls": "ssl no sslcertck"}[way] + "\n"
		os.WriteFile(dir+"/rc", []byte(rc), 0o600)
		return []string{"fetchmail", "--nosyslog", "-v", "-f", dir + "/rc", "-i", dir + "/ids", "--pidfile", dir + "/pid"}
	}, true, false, ""},
	{"mpop", func(dir, port, way string, leave bool) []string {
		os.MkdirAll(dir+"/in/new", 0o700)
		os.MkdirAll(dir+"/in/tmp", 0o700)
		os.MkdirAll(dir+"/in/cur", 0o700)
		args := []string{"mpop", "--host=127.0.0.1", "--port=" + port, "--user=alice", "--passwordeval=echo secret", "--auth=" + map[bool]string{true: "apop", false: "user"}[way == "apop"], "--delivery=maildir," + dir + "/in",
			"--uidls-file=" + dir + "/uidls", "--keep=" + map[bool]string{true: "on", false: "off"}[leave], "--only-new=" + map[bool]string{true: "on", false: "off"}[leave]}
		if way == "clear" || way == "apop" {
			return append(args, "--tls=off")
		}
		return append(args, "--tls=on", "--tls-certcheck=off", "--tls-starttls="+map[string]string{"stls": "on", "tls": "off"}[way])
	}, true, false, ""},
	{"getmail", func(dir, port, way string, leave bool) []string {
		if way == "stls" {
			return nil
		}
		rc := "[retriever]\ntype = Simple" + map[string]string{"clear": "POP3", "apop": "POP3", "tls": "POP3SSL"}[way] + "Retriever\nserver = 127.0.0.1\nport = " + port +
			"\nusername = alice\npassword = secret\nuse_apop = " + fmt.Sprint(way == "apop") + "\n[destination]\ntype = MDA_external\npath = /bin/sh\narguments = (\"-c\", \"cat >>" + dir +
			"/mbox\")\nallow_root_commands = true\n[options]\nread_all = " + fmt.Sprint(!leave) + "\ndelete = " + fmt.Sprint(!leave) + "\n"
		os.WriteFile(dir+"/getmailrc", []byte(rc), 0o600)
		// getmail 6.18 waits for the signal of a child that has ended before it began to, for three minutes: then once more.
		call := "getmail --getmaildir " + dir
		return []string{"sh", "-c", "timeout 30 " + call + "; e=$?; [ $e = 124 ] || exit $e; " + call}
	}, true, false, ""},
	{"mutt", func(dir, port, way string, leave bool) []string {
		url := map[string]string{"clear": "pop", "stls": "pop", "apop": "pop", "tls": "pops"}[way] + "://alice:secret@127.0.0.1:" + port
		forced := map[bool]string{true: "yes", false: "no"}[way == "stls" || way == "tls"]
		keys, open := "<fetch-mail><quit>", ""
		if leave { // it reads them where they are
			keys, open = "<tag-pattern>~A<enter><tag-prefix><copy-message>="+"mbox<enter><quit>", " -f "+url
		}
		os.WriteFile(dir+"/muttrc", []byte("set pop_host="+url+" pop_delete=yes pop_authenticators="+map[bool]string{true: "apop", false: "user"}[way == "apop"]+" ssl_starttls="+forced+" ssl_force_tls="+forced+
			" certificate_file="+dir+"/cert.pem ssl_verify_host=no ssl_usesystemcerts=no\nset folder="+dir+" spoolfile=+mbox mbox_type=mbox record='' confirmcreate=no confirmappend=no quit=yes\npush \""+keys+"\"\n"), 0o600)
		os.WriteFile(dir+"/mbox", nil, 0o600)
		return []string{"script", "-qec", "mutt -n -F muttrc" + open, "/dev/null"} // it wants a terminal
	}, false, false, "script"},
	{"claws-mail", func(dir, port, way string, leave bool) []string {
		if way == "apop" {
			return nil
		}
		if !leave {
			os.RemoveAll(dir + "/conf/uidl") // what it has already it would delete only
		}
		for name, text := range map[string]string{
			"conf/accountrc": "[Account: 1]\naccount_name=alice\nis_default=1\naddress=alice@example.test\nprotocol=0\nreceive_server=127.0.0.1\nuser_id=alice\ninbox=#mh/Mail/new\nlocal_inbox=#mh/Mail/new\n" +
				"set_popport=1\npop_port=" + port + "\nssl_pop=" + map[string]string{"clear": "0", "tls": "1", "stls": "2"}[way] + "\nremove_mail=" + map[bool]string{true: "0", false: "1"}[leave] +
				"\nmessage_leave_time=0\nreceive_at_get_all=1\nconfig_version=4\n",
			"conf/passwordstorerc": "[account:1]\nrecv secret\n",
			"conf/clawsrc":         "[Common]\nconfig_version=4\nreceive_dialog_mode=2\nno_receive_error_panel=1\nskip_ssl_cert_check=1\n",
			"conf/folderlist.xml": `<?xml version="1.0"?><folderlist><folder type="mh" name="Mail" path="` + dir + `/in"><folderitem type="inbox" name="new" path="new" /><folderitem type="outbox" path="sent" />` +
				`<folderitem type="draft" path="draft" /><folderitem type="queue" path="queue" /><folderitem type="trash" path="trash" /></folder></folderlist>`,
			"in/new/.x": "",
		} {
			os.MkdirAll(filepath.Dir(dir+"/"+name), 0o700)
			os.WriteFile(dir+"/"+name, []byte(text), 0o600)
		}
		return []string{"sh", "-c", `
rm -f display conf/claws.log
export NO_AT_BRIDGE=1 TMPDIR=$PWD
trap 'kill $screen $claws 2>/dev/null; wait' EXIT
Xvfb -displayfd 3 -screen 0 640x480x16 -nolisten tcp 3>display 2>xvfb & screen=$!
n=0; until [ -s display ]; do n=$((n+1)); [ $n -lt 600 ] || exit 90; sleep .05; done
export DISPLAY=:$(cat display)
claws-mail --alternate-config-dir conf --receive-all 2>gtk & claws=$!
n=0; until grep -q 'POP.* +OK bye' conf/claws.log 2>/dev/null; do n=$((n+1)); [ $n -lt 600 ] || { cat conf/claws.log; exit 91; }; sleep .05; done
claws-mail --alternate-config-dir conf --exit
wait $claws
`}
	}, true, true, "Xvfb"},
}

// Other people's clients log in at our authd, fetch, leave, fetch what is new, and delete; in clear, after STLS, and with TLS from the beginning.
func TestClients(t *testing.T) {
	long := strings.Repeat("0123456789\n", 10_000)
	messages := []string{"From: a@b.example\nSubject: first\n\n.\n..dots\nend\n", "Subject: second\r\n\r\n" + strings.ReplaceAll(long, "\n", "\r\n"), "Subject: third\n\ngrün, and no end"}
	parts := []string{"Subject: first\n", "\n.\n..dots\nend\n", long, "Subject: third\n", "\n\ngrün, and no end\n"}
	for _, x := range strangers {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			for _, program := range []string{x.name, x.with} {
				if _, err := exec.LookPath(program); err != nil && program != "" {
					t.Skipf("%s is not installed", program)
				}
			}
			if x.name == "python3" && exec.Command("python3", "-c", "import poplib, ssl").Run() != nil {
				t.Skip("python3 has no poplib, it is python3-minimal alone")
			}
			s := newSite(t, os.Geteuid() != 0).All()
			cert, err := os.ReadFile(s.Dir + "/etc/cert.pem")
			s.Must(err)
			for _, way := range []string{"clear", "stls", "tls", "apop"} {
				if x.command(t.TempDir(), "1", way, false) == nil {
					continue
				}
				t.Run(way, func(t *testing.T) {
					s.Put(messages...)
					_, port, _ := net.SplitHostPort(map[bool]string{true: s.TLS, false: s.Addr}[way == "tls"])
					dir := t.TempDir()
					s.Must(os.WriteFile(dir+"/cert.pem", cert, 0o600))
					for i, leave := range []bool{true, true, false} {
						if i == 1 && !x.twice || x.slow && leave == (way != "clear") {
							continue
						}
						before := len(s.Log())
						args := x.command(dir, port, way, leave)
						c := exec.CommandContext(t.Context(), args[0], args[1:]...)
						c.Env, c.Dir, c.WaitDelay = append(os.Environ(), "HOME="+dir, "FETCHMAILHOME="+dir, "LC_ALL=C.UTF-8", "TERM=vt100"), dir, time.Second
						out, err := c.CombinedOutput()
						text := string(out)
						files, _ := filepath.Glob(dir + "/in/new/[0-9]*")
						for _, f := range append(files, dir+"/mbox") {
							b, _ := os.ReadFile(f)
							text += string(b)
							os.Remove(f)
						}
						text = strings.ReplaceAll(text, "\r\n", "\n")
						brief := strings.ReplaceAll(text, "0123456789\n", "")
						if err != nil && !(x.name == "fetchmail" && c.ProcessState.ExitCode() == 1) { // 1: there was none
							t.Errorf("run %d: %v\n%s", i+1, err, brief)
						}
						for _, part := range parts {
							if has := strings.Contains(text, part); has == (i == 1) {
								t.Errorf("run %d: %.40q: %v\n%s", i+1, part, has, brief)
							}
						}
						if left := len(s.Left()); left != map[bool]int{true: 3, false: 0}[leave] {
							t.Errorf("run %d: %d messages are left\n%s", i+1, left, brief)
						}
						var log string // of sessions that have ended: the client is gone before its session is logged
						s.Await("the end of the sessions in the log", func() bool {
							log = s.Log()[before:]
							switch {
							case !leave:
								return sum(log, "deleted=") == 3
							case i == 0:
								return sum(log, "octets=") >= len(long)
							}
							return strings.Contains(log, ": maildrop ")
						})
						if i == 1 && strings.Count(log, " octets=0 ") != strings.Count(log, ": maildrop ") || strings.Contains(log, "mech=APOP") != (way == "apop") ||
							strings.Contains(log, "proto=POP3S") != (way == "stls" || way == "tls") {
							t.Errorf("run %d: the log has\n%s", i+1, log)
						}
					}
				})
			}
		})
	}
}

// sum adds the numbers behind a word in a log.
func sum(log, word string) (n int) {
	for _, s := range strings.Split(log, word)[1:] {
		k, _ := strconv.Atoi(strings.Fields(s + " .")[0])
		n += k
	}
	return n
}
