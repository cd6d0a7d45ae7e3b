package login

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/test/suite"
)

// hash is a password as authd hash makes it; that of ARGON2ID needs 19 MiB and two passes for each check.
func hash(t *testing.T, scheme, password string) string {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "authd"), "hash", "-s", scheme)
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A08: two hundred wrong logins at the same moment, each from its own address, cost what auth_memory says and no more, and the other
// services do not stand behind them.
func TestAFloodOfGuesses(t *testing.T) {
	slow := hash(t, "ARGON2ID", "secret")
	bin, _ := programs()
	s, err := suite.New(suite.Config{Bin: bin, Auth: true, Settings: "passwords secrets\nauth_memory 60m\nauth_hashes 8\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	if err := os.WriteFile(filepath.Join(s.Dir, "secrets"), []byte("alice:"+slow+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.End() })
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	const guesses = 200
	var connected, done sync.WaitGroup
	attack := make(chan struct{})
	connected.Add(guesses)
	for i := range guesses {
		done.Go(func() {
			c, err := dial(t, s.Submit, fmt.Sprintf("127.0.%d.%d", 1+i/200, 1+i%200))
			connected.Done()
			if err != nil {
				t.Error(err)
				return
			}
			<-attack
			if r, err := c.say(plain(fmt.Sprint("user", i), "guess")); err != nil || !strings.HasPrefix(r, "535") && !strings.HasPrefix(r, "454") {
				t.Errorf("%q, %v", r, err)
			}
		})
	}
	connected.Wait()
	close(attack)
	begun := time.Now()
	mx := mustDial(t, s.Addr)
	mx.want("250", "MAIL FROM:<x@client.test>")
	mx.want("250", "RCPT TO:<alice@example.test>")
	mx.want("354", "DATA")
	mx.want("250", "Subject: meanwhile\r\n\r\ntext\r\n.")
	if _, err := s.AwaitDelivered("alice", 1, limit); err != nil {
		t.Error(err)
	}
	meanwhile := time.Since(begun)
	done.Wait()
	t.Logf("mail was delivered after %v, the last guess was answered after %v", meanwhile, time.Since(begun))
	c := mustDial(t, s.Submit)
	c.want("235", plain("alice", "secret"))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid("authd")))
	if err != nil {
		t.Skip(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Skip("no VmHWM")
	}
	// Three at once; the collector may be a few behind. Without a bound it would be 200 times 19 MiB.
	if peak, _ := strconv.Atoi(string(m[1])); peak > 300<<10 {
		t.Errorf("authd needed %d KiB", peak)
	} else {
		t.Logf("authd needed %d KiB", peak)
	}
}
