package pop3

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// M10: a maildrop of 100,000 messages.
func TestM10_ManyMessages(t *testing.T) {
	t.Parallel()
	const messages = 100_000
	s := newSite(t, true)
	s.odd = true // it is gone before it could be checked
	var st syscall.Statfs_t
	if syscall.Statfs("/dev/shm", &st) != nil || st.Bavail*uint64(st.Bsize) < 1<<30 || st.Ffree < 2*messages {
		t.Skip("/dev/shm is missing, or small")
	}
	shm, err := os.MkdirTemp("/dev/shm", "pa-")
	s.Must(err)
	t.Cleanup(func() { os.RemoveAll(shm) })
	s.Own(shm, "alice")
	s.Must(os.RemoveAll(s.Alice))
	s.Must(os.Symlink(shm, s.Alice))
	s.Maildir("alice")
	for _, d := range []string{"new", "cur", "tmp"} {
		s.Must(os.MkdirAll(shm+"/"+d, 0o700))
		s.Own(shm+"/"+d, "alice")
	}
	octets := int64(0)
	old := time.Now().Add(-time.Hour)
	name := func(i int) string { return fmt.Sprintf("cur/%d.M%dP1.host:2,S", 1700000000+i, i) }
	for i := range messages {
		text := "Subject: x\n\n" + strings.Repeat("x", i%7) + "\n"
		if i < 7 {
			s.File(name(i), text, old)
		} else { // making the files is not what is measured
			s.Must(os.Link(shm+"/"+name(i%7), shm+"/"+name(i)))
		}
		octets += int64(len(text)) + 3
	}
	s.All()
	for what, most := range []int64{0: 160 << 20, 1: 64 << 20} { // the second time the index knows
		if what > 0 {
			s.Kill("pop3d", syscall.SIGTERM)
			s.Exit("pop3d")
			s.Start("pop3d")
		}
		idle := s.Memory("worker")
		begin := time.Now()
		c := s.login(false)
		took := func(of string) {
			d := time.Since(begin).Round(time.Millisecond)
			t.Logf("session %d: %s: %v, RSS %d KiB over idle", what+1, of, d, (s.Memory("worker")-idle)>>10)
			if d > time.Minute {
				t.Errorf("%s took %v", of, d)
			}
			begin = time.Now()
		}
		took("login")
		c.Do("STAT", fmt.Sprintf("+OK %d %d\r\n", messages, octets))
		took("STAT")
		unique := map[string]bool{}
		for _, id := range ids(c.lines("UIDL")) {
			unique[id] = true
		}
		if len(unique) != messages {
			t.Error(len(unique), "unique-ids")
		}
		took("UIDL")
		for i, size := range ids(c.lines("LIST")) {
			if size != strconv.Itoa(16+i%7) {
				t.Fatalf("LIST: %d %s", i+1, size)
			}
		}
		took("LIST")
		if what > 0 {
			for i := range messages {
				if i%10 == 0 {
					c.Do(fmt.Sprint("DELE ", i+1), "+OK")
				}
			}
			took("10,000 DELE")
		}
		c.Do("QUIT", "+OK")
		took("QUIT")
		if n := s.Memory("worker") - idle; n > most {
			t.Errorf("session %d: %d KiB over idle", what+1, n>>10)
		}
	}
	if l := s.Left(); len(l) != messages*9/10 {
		t.Error(len(l), "messages are left")
	}
}
