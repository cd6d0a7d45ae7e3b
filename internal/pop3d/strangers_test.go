package pop3d

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A stranger is somebody else's program that fetches what is in a maildrop, and removes it unless it is to leave it.
type stranger struct {
	name string
	// how to call it: the port, the way ("clear", "stls", "tls", "apop"), and whether to leave what there is. What it fetches goes to its output, or below dir;
	// nil: it does not know the way.
	command func(dir, port, way string, leave bool) []string
	twice   bool // it knows from UIDL what it has left there before
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
	}, false},
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
	}, false},
	{"fetchmail", func(dir, port, way string, leave bool) []string {
		rc := "poll 127.0.0.1 protocol " + map[bool]string{true: "apop", false: "pop3"}[way == "apop"] + " port " + port + " uidl user alice password secret mda \"cat >>" + dir + "/mbox\" " +
			map[bool]string{true: "keep ", false: "nokeep fetchall "}[leave] + map[string]string{"clear": "sslproto ''", "apop": "sslproto ''", "stls": "sslproto 'TLS1.2+' no sslcertck", "tls": "ssl no sslcertck"}[way] + "\n"
		os.WriteFile(dir+"/rc", []byte(rc), 0o600)
		return []string{"fetchmail", "--nosyslog", "-v", "-f", dir + "/rc", "-i", dir + "/ids", "--pidfile", dir + "/pid"}
	}, true},
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
	}, true},
	{"getmail", func(dir, port, way string, leave bool) []string {
		if way == "stls" {
			return nil
		}
		rc := "[retriever]\ntype = Simple" + map[string]string{"clear": "POP3", "apop": "POP3", "tls": "POP3SSL"}[way] + "Retriever\nserver = 127.0.0.1\nport = " + port +
			"\nusername = alice\npassword = secret\nuse_apop = " + fmt.Sprint(way == "apop") + "\n[destination]\ntype = MDA_external\npath = /bin/sh\narguments = (\"-c\", \"cat >>" + dir +
			"/mbox\")\nallow_root_commands = true\n[options]\nread_all = " + fmt.Sprint(!leave) + "\ndelete = " + fmt.Sprint(!leave) + "\n"
		os.WriteFile(dir+"/getmailrc", []byte(rc), 0o600)
		return []string{"getmail", "--getmaildir", dir}
	}, true},
}

// Other people's clients fetch, leave and delete, in clear, after STLS, and with TLS from the beginning.
func TestStrangers(t *testing.T) {
	messages := []string{"From: a@b.example\nSubject: first\n\n.\n..dots\nend\n", "Subject: second\r\n\r\n" + strings.Repeat("0123456789\r\n", 10_000), "Subject: third\n\ngrün, and no end"}
	for _, s := range strangers {
		for _, way := range []string{"clear", "stls", "tls", "apop"} {
			if s.command(t.TempDir(), "1", way, false) == nil {
				continue
			}
			t.Run(s.name+"-"+way, func(t *testing.T) {
				t.Parallel()
				if _, err := exec.LookPath(s.name); err != nil {
					t.Skipf("%s is not installed", s.name)
				}
				if s.name == "python3" && exec.Command("python3", "-c", "import poplib, ssl").Run() != nil {
					t.Skip("python3 has no poplib, it is python3-minimal alone")
				}
				conf := testConfig()
				conf.TLS = certificate()
				users := &accounts{apop: way == "apop"}
				conf.Auth = users
				h := newLoopback(t, map[bool]string{true: POP3S, false: POP3}[way == "tls"], conf, slices.Clone(messages)...)
				_, port, _ := net.SplitHostPort(h.l.Addr().String())
				dir := t.TempDir()
				run := func(leave bool) string {
					args := s.command(dir, port, way, leave)
					c := exec.CommandContext(t.Context(), args[0], args[1:]...)
					c.Env = append(os.Environ(), "HOME="+dir, "FETCHMAILHOME="+dir, "LC_ALL=C.UTF-8")
					c.WaitDelay = time.Second
					out, err := c.CombinedOutput()
					text := string(out)
					files, _ := filepath.Glob(dir + "/in/new/*")
					for _, f := range append(files, dir+"/mbox") {
						b, _ := os.ReadFile(f)
						text += string(b)
						os.Remove(f)
					}
					if err != nil && !(s.name == "fetchmail" && c.ProcessState.ExitCode() == 1) { // 1: there was none
						t.Errorf("%v\n%s", err, brief(text))
					}
					return strings.ReplaceAll(text, "\r\n", "\n")
				}
				for i, leave := range []bool{true, true, false} {
					if i == 1 && !s.twice {
						continue
					}
					text := run(leave)
					for _, want := range []string{"Subject: first\n", "\n.\n..dots\nend\n", strings.Repeat("0123456789\n", 10_000), "Subject: third\n\ngrün, and no end\n"} {
						if has := strings.Contains(text, want); has == (i == 1) {
							t.Errorf("run %d: %.40q: %v\n%s", i+1, want, has, brief(text))
						}
					}
					if err := h.Check("free", nil, nil); err != nil {
						t.Error(err)
					}
					if left := h.box("alice").left(); left != map[bool]int{true: 3, false: 0}[leave] {
						t.Errorf("run %d: %d messages are left\n%s", i+1, left, brief(text))
					}
				}
				users.mu.Lock()
				defer users.mu.Unlock()
				if (users.apops > 0) != (way == "apop") {
					t.Errorf("%d logins with APOP", users.apops)
				}
			})
		}
	}
}

// brief leaves out the long message.
func brief(text string) string { return strings.ReplaceAll(text, "0123456789\n", "") }
