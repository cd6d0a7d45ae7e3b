package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/proc"
	"postamt/test/suite"
)

// D19, P2, P4: deliver runs as front, monitor and a worker for each of three users, and workers are killed all the time while mail
// comes in. Each message is in each maildir exactly once, and the maildirs are their users'.
func TestD19_WorkersKilledUnderLoad(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become users")
	}
	const messages, first = 150, 60201
	users := []string{"3user", "2user", "user"} // as smtp-source counts
	source, err := peers.Command("smtp-source", "-s", "5", "-m", fmt.Sprint(messages), "-l", "4096", "-r", "3",
		"-M", "client.test", "-f", "sender@client.test", "-t", "user@example.test")
	if errors.Is(err, peers.ErrMissing) {
		missing(t, err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	s, err := suite.New(suite.Config{Bin: bin, Users: users, Settings: "login_user 60200:60200\nqueue_user 60209:60209\nretry_min 1s\nretry_max 2s\n"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Remove()
	os.Chmod(s.Dir, 0o755)
	os.Chmod(filepath.Join(s.Dir, "home"), 0o755)
	var text strings.Builder
	for i, u := range users {
		home := filepath.Join(s.Dir, "home", u)
		os.Chown(home, first+i, first+i)
		fmt.Fprintf(&text, "%s::%d:%d::%s\n", u, first+i, first+i, home)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "users"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	// queued is who it is to be, too.
	os.Chown(s.Queue, 60209, 60209)
	for _, path := range []string{s.Conf, s.Dir + "/users", s.Dir + "/aliases"} {
		os.Chmod(path, 0o644)
	}
	os.Chmod(s.Dir+"/run", 0o755)
	// Queued first: smtpd, which is root here, would make the queue's directories root's.
	if err := errors.Join(s.Launch("queued"), s.Run()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(s.End(), s.Check()); err != nil {
			t.Error(err)
		}
	}()

	stop := make(chan struct{})
	var killer sync.WaitGroup
	kills := 0
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(200)) * time.Millisecond): // the life of a worker
			}
			for _, pid := range proc.Tree(s.Pid("deliver")) {
				title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if bytes.HasPrefix(title, []byte("deliver: worker")) && (kills == 0 || rand.IntN(2) == 0) { // after each there is none for a second
					syscall.Kill(pid, syscall.SIGKILL)
					kills++
				}
			}
		}
	})
	source.Args = append(source.Args, s.Addr)
	output(t, source)
	close(stop)
	killer.Wait()
	for i, u := range users {
		found, err := s.AwaitDelivered(u, messages, 2*limit)
		if err != nil {
			t.Fatalf("%v (after %d kills)\n%.5000s", err, kills, s.Log("deliver"))
		}
		for _, f := range found {
			if st, err := os.Stat(f); err != nil || int(st.Sys().(*syscall.Stat_t).Uid) != first+i {
				t.Errorf("%s: %v", f, err)
			}
		}
	}
	if err := s.AwaitEmpty(limit); err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		if n := len(s.Delivered(u)); n != messages {
			t.Errorf("%s has %d messages", u, n)
		}
	}
	t.Logf("%d kills, %d attempts put off, %d found again", kills, strings.Count(s.Log("queued"), ": deferred "), strings.Count(s.Log("deliver"), " again=yes"))
	if kills == 0 {
		t.Error("nobody was killed")
	}
}
