package imap

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/site"
)

// The quota of the users file, else of the configuration, holds for what a client stores, and a new one from the next login on.
func TestQuota(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "quota_default 5K")
		users, err := os.ReadFile(s.Dir + "/etc/users")
		s.Must(err)
		quota := func(of string) {
			t.Helper()
			s.Write("etc/users", strings.Replace(string(users), "/home/alice\n", "/home/alice::"+of+"\n", 1), 0o644)
		}
		quota("quota=4096S,2C")
		s.All()
		a := s.login("alice", true)
		a.Do("a1 GETQUOTAROOT INBOX", `* QUOTAROOT INBOX ""`)
		a.Want(`* QUOTA "" (STORAGE 0 4 MESSAGE 0 2)`)
		a.Want("a1 OK ")
		a.Do("a2 APPEND INBOX {5000}", "a2 NO [OVERQUOTA] ")
		a.Do("a3 APPEND INBOX {8+}\r\na: b\r\n\r\n", "a3 OK ")
		a.Do("a4 APPEND INBOX {8+}\r\na: b\r\n\r\n", "a4 OK ")
		a.Do("a5 APPEND INBOX {8}", "a5 NO [OVERQUOTA] ")
		b := s.login("bob", false)
		b.Do(`b1 GETQUOTA ""`, `* QUOTA "" (STORAGE 0 5)`)
		b.Want("b1 OK ")
		quota("quota=8192")
		s.Kill("imapd", syscall.SIGHUP)
		s.Await("the new quota", func() bool {
			c := s.login("alice", true)
			c.Say(`c1 GETQUOTA ""`)
			got := c.Want("* QUOTA ")
			c.Want("c1 OK ")
			return got == `* QUOTA "" (STORAGE 1 8)`
		})
		a.Do("a6 APPEND INBOX {8+}\r\na: b\r\n\r\n", "a6 OK ") // it is one maildir
	})
}

// A folder that the user may read and nothing else, by its modes, is open to be read. It has its UIDs from before.
func TestReadOnlyFolder(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole)
		dir := s.Alice + "/.archive"
		for _, d := range []string{dir, dir + "/new", dir + "/cur", dir + "/tmp"} {
			s.Must(os.Mkdir(d, 0o755))
			s.Own(d, "alice")
		}
		s.File(".archive/cur/1700000000.M1P1.host:2,F", "Subject: old\n\ntext\n", time.Now().Add(-time.Hour))
		s.File(".archive/dovecot-uidlist", "3 V1764000000 N2 G0123456789abcdef0123456789abcdef\n1 :1700000000.M1P1.host\n", time.Now().Add(-time.Hour))
		for _, d := range []string{dir + "/new", dir + "/cur", dir} {
			s.Must(os.Chmod(d, 0o555))
		}
		s.All()
		c := s.login("alice", false)
		c.Do("a1 MYRIGHTS archive", "* MYRIGHTS archive lrpkxc")
		c.Want("a1 OK ")
		tagged := func(prefix string) { // past what comes before it
			t.Helper()
			tag, _, _ := strings.Cut(prefix, " ")
			for got := ""; !strings.HasPrefix(got, tag+" "); {
				if got = c.Want(""); strings.HasPrefix(got, tag+" ") && !strings.HasPrefix(got, prefix) {
					t.Fatal(got)
				}
			}
		}
		c.Say("a2 SELECT archive")
		tagged("a2 OK [READ-ONLY] ")
		c.Do("a3 FETCH 1 (FLAGS BODY[TEXT])", `* 1 FETCH (FLAGS (\Flagged) BODY[TEXT] {6}`)
		c.Want("text")
		c.Want(")")
		c.Want("a3 OK ")
		c.Do("n1 NOOP", "n1 OK ")
		c.Do(`a4 STORE 1 +FLAGS (\Seen)`, "a4 NO [NOPERM] ")
		c.Do("a5 COPY 1 INBOX", "a5 OK ")
		c.Do("a6 COPY 1 archive", "a6 NO [NOPERM] ")
		c.Do("a7 SETACL archive bob lr", "a7 NO [NOPERM] ")
		c.Do("a8 SETMETADATA archive (/private/comment \"x\")", "a8 NO [NOPERM] ")
		c.Do("a9 STATUS archive (MESSAGES)", "* STATUS archive (MESSAGES 1)")
		c.Want("a9 OK ")
	})
}
