package imap

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"postamt/test/site"
	"postamt/test/suite"
)

// F12: a mailbox of 100,000 messages that nobody has opened yet. A worker with 128 MB, what the kernel keeps of its files included, opens it; one with 64 MB
// does, or is killed alone: the others are served, and no message is lost.
func TestF12_Memory(t *testing.T) {
	const messages = 100_000
	var st unix.Statfs_t
	if unix.Statfs("/dev/shm", &st) != nil || st.Bavail*uint64(st.Bsize) < 1<<30 || st.Ffree < 2*messages {
		t.Skip("/dev/shm has no room for 100,000 files")
	}
	t.Setenv("TMPDIR", "/dev/shm")
	for _, limit := range []int{64 << 20, 128 << 20} {
		t.Run(fmt.Sprint(limit>>20), func(t *testing.T) {
			s := newSite(t, false).All()
			group := suite.NewMemoryGroup(t, limit)
			bob, alice := s.login("bob", true), s.login("alice", true)
			for i := range messages {
				path := fmt.Sprintf("%s/cur/%d.M%dP1.host:2,", s.Alice, 1700000000+i, i)
				s.Must(errors.Join(os.WriteFile(path, []byte("Subject: x\n\nx\n"), 0o600), os.Chown(path, site.AliceID, site.AliceID)))
			}
			worker := s.Part("worker")
			s.Must(group.Add(worker))
			alice.Say("a SELECT INBOX")
			exists := fmt.Sprintf("* %d EXISTS", messages)
			said := ""
			for !strings.HasPrefix(said, "a ") {
				line, err := alice.R.ReadString('\n')
				if err != nil {
					break
				}
				said = line
			}
			n, err := group.Killed()
			s.Must(err)
			killed := n > 0
			t.Logf("killed: %v", killed)
			if !strings.HasPrefix(said, "a OK ") && (limit > 64<<20 || !killed) {
				t.Errorf("%q", said)
			}
			if strings.HasPrefix(said, "a OK ") == killed {
				t.Errorf("killed: %v, and it said %q", killed, said)
			}
			bob.Do("a NOOP", "a OK ")
			alice.Close()
			s.Must(group.Limit(0))
			syscall.Kill(worker, syscall.SIGKILL)
			s.Await("all messages", func() bool { // another worker comes after a second
				c := s.Dial(true)
				defer c.Close()
				c.Say("l LOGIN alice secret")
				if line, err := c.R.ReadString('\n'); err != nil || !strings.HasPrefix(line, "l OK ") {
					return false
				}
				c.Say("s SELECT INBOX")
				for line := ""; line != exists; {
					if line = c.Want(""); strings.HasPrefix(line, "s ") {
						t.Fatal(line)
					}
				}
				return true
			})
		})
	}
}
