package imap

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/proc"
	"postamt/test/site"
)

// F09: signals while somebody waits in IDLE, and somebody else in an exchange. HUP changes nothing for them. Each process is stopped, for as long as any
// machine sleeps, and goes on where it was; only a deadline that has passed meanwhile holds. TERM is told to all.
func TestF09_Signals(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "imapd_timeout_login 3s").All()
		idle := s.login("alice", true)
		idle.Do("a SELECT INBOX", "* ")
		for !strings.HasPrefix(idle.Want(""), "a OK ") {
		}
		idle.Do("b IDLE", "+ ")
		arrives := func(n int) { // and is told
			t.Helper()
			s.File(fmt.Sprintf("new/%d.M%dP1.host", 1700000000+n, n), "Subject: x\n\nx\n", time.Now())
			for want := fmt.Sprintf("* %d EXISTS", n); idle.Want("* ") != want; {
			}
		}
		arrives(1)
		s.Kill("imapd", syscall.SIGHUP)
		s.Logged("imapd: -: reload ")
		arrives(2)
		roles := []string{"front", "worker"}
		if whole {
			roles = roles[:1]
		}
		for i, role := range roles {
			pid := s.Part(role)
			stop := func() {
				t.Helper()
				s.Must(syscall.Kill(pid, syscall.SIGSTOP))
				s.Await(role+" to stop", func() bool {
					b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
					return bytes.Contains(b, []byte(") T "))
				})
			}
			stop()
			s.File(fmt.Sprintf("new/%d.M%dP1.host", 1700000003+i, 3+i), "Subject: x\n\nx\n", time.Now())
			s.Must(syscall.Kill(pid, syscall.SIGCONT))
			for want := fmt.Sprintf("* %d EXISTS", 3+i); idle.Want("* ") != want; {
			}
			if role == "front" {
				late := s.Dial(true)
				stop()
				time.Sleep(3500 * time.Millisecond) // ten minutes, for a server that is not as patient
				s.Must(syscall.Kill(pid, syscall.SIGCONT))
				if text := late.Ended(); !strings.HasPrefix(text, "* BYE ") {
					t.Errorf("after its time: %q", text)
				}
			}
		}
		idle.Say("DONE")
		for !strings.HasPrefix(idle.Want(""), "b OK ") {
		}
		idle.Do("c IDLE", "+ ")
		asked := s.Dial(false)
		asked.Do("a AUTHENTICATE PLAIN", "+ ")
		s.Kill("imapd", syscall.SIGTERM)
		for _, c := range []*site.Client{idle, asked} {
			if text := c.Ended(); text != "* BYE [UNAVAILABLE] the server stops, come back later\r\n" {
				t.Errorf("%q", text)
			}
		}
		if code := s.Exit("imapd"); code != 0 {
			t.Error("exit", code)
		}
	})
}

// A11: a password, right or wrong, is afterwards in no log, no file but its own, and in nobody's command line or environment; nor is what it is in on the wire.
func TestA11_Canary(t *testing.T) {
	const canary, guess = "canary+in+the+mine", "canary+of+somebody"
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	dialogues := map[string][][2]string{
		"imapd": {
			{"a LOGIN alice " + guess, "a NO "}, {"b AUTHENTICATE PLAIN " + b64("\x00alice\x00"+guess), "b NO "}, {"c " + canary, "c BAD "}, {canary, "* BAD "},
			{"d AUTHENTICATE PLAIN " + canary, "d BAD "}, {"e AUTHENTICATE LOGIN", "+ "}, {b64("alice"), "+ "}, {b64(canary), "e OK "}, {"f " + canary, "f BAD "},
		},
		"pop3d": {
			{"USER alice", "+OK"}, {"PASS " + guess, "-ERR [AUTH]"}, {"AUTH PLAIN " + b64("\x00alice\x00"+guess), "-ERR [AUTH]"}, {canary, "-ERR"},
			{"AUTH PLAIN " + canary, "-ERR"}, {"AUTH LOGIN", "+ "}, {b64("alice"), "+ "}, {b64(canary), "+OK"}, {canary, "-ERR"},
		},
	}
	for _, kind := range []site.Kind{site.IMAP, site.POP3} {
		t.Run(kind.Program, func(t *testing.T) {
			t.Parallel()
			s := site.New(t, kind, false)
			s.Must(os.WriteFile(s.Dir+"/etc/passwords", []byte("alice:{PLAIN}"+canary+"\n"), 0o640))
			s.All()
			c := s.Dial(true)
			for _, d := range dialogues[kind.Program] {
				c.Do(d[0], d[1])
			}
			s.Logged("authd", "auth-failed")
			s.Logged("authd", "auth-ok")
			look := map[string]string{}
			roots := []int{s.Cmds["authd"].Process.Pid, s.Cmds[kind.Program].Process.Pid}
			pids := proc.Tree(roots...)
			if len(pids) != 4 {
				t.Fatal(pids)
			}
			for _, pid := range pids {
				for _, file := range []string{"cmdline", "environ"} {
					path := fmt.Sprintf("/proc/%d/%s", pid, file)
					b, err := os.ReadFile(path)
					s.Must(err)
					look[path] = string(b)
				}
			}
			s.Must(filepath.Walk(s.Dir, func(path string, st os.FileInfo, err error) error {
				if err == nil && st.Mode().IsRegular() && filepath.Base(path) != "passwords" && filepath.Dir(path) != s.Bin {
					b, _ := os.ReadFile(path)
					look[path] = string(b)
				}
				return err
			}))
			if !strings.Contains(look[s.Dir+"/log"], "login=alice") {
				t.Errorf("not the places that were meant: %q", look[s.Dir+"/log"])
			}
			for where, text := range look {
				for _, secret := range []string{canary, guess, b64(canary), b64("\x00alice\x00" + guess)} {
					if strings.Contains(text, secret) {
						t.Errorf("%q is in %s:\n%s", secret, where, text)
					}
				}
			}
		})
	}
}
