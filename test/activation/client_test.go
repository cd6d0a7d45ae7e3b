package activation

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/test/suite"
)

// limit is for whatever must happen soon; a machine under load may take its time.
const limit = 60 * time.Second

// build builds the programs once, not for each test.
var build = sync.OnceValues(suite.Build)

// many is how many connections there are at once.
const many = 200

// tool finds a program; a test is skipped that has none.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is missing (package %s)", name, pkg)
	}
	return path
}

// reach waits until somebody greets at addr: those who start programs do not say when they listen.
func reach(t *testing.T, addr string) {
	t.Helper()
	err := suite.Await(limit, "a greeting at "+addr, func() bool {
		c, err := dial(addr)
		if err != nil {
			return false
		}
		defer c.Close()
		return c.quit() == nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// client is a connection that has been greeted.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr string) (*client, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(limit))
	x := &client{c, bufio.NewReader(c)}
	if err := x.expect("220 "); err != nil {
		c.Close()
		return nil, err
	}
	return x, nil
}

func (c *client) expect(want string) error {
	for {
		l, err := c.r.ReadString('\n')
		switch {
		case err != nil:
			return fmt.Errorf("%q and %w, want %q", l, err, want)
		case len(l) > 3 && l[3] == '-' && l[:3] == want[:3]:
		case !strings.HasPrefix(l, want):
			return fmt.Errorf("%q, want %q", l, want)
		default:
			return nil
		}
	}
}

func (c *client) quit() error {
	if _, err := fmt.Fprint(c, "QUIT\r\n"); err != nil {
		return err
	}
	if err := c.expect("221 "); err != nil {
		return err
	}
	if rest, err := c.r.ReadString('\n'); rest != "" || err == nil {
		return fmt.Errorf("after 221 came %q", rest)
	}
	return nil
}

// crowd has many connections at once: each is greeted, stays until the last one is, and has its 221. No more than backlog wait to be
// accepted at a time: what a listener has no room for the kernel turns away, and nobody's program hears of it.
func crowd(t *testing.T, addr string, backlog int) {
	t.Helper()
	start := time.Now()
	var greeted, ended sync.WaitGroup
	errs := make(chan error, many)
	greeted.Add(many)
	knock := make(chan struct{}, backlog)
	for range many {
		ended.Go(func() {
			knock <- struct{}{}
			c, err := dial(addr)
			<-knock
			greeted.Done()
			if err == nil {
				defer c.Close()
				greeted.Wait()
				err = c.quit()
			}
			if err != nil {
				errs <- err
			}
		})
	}
	ended.Wait()
	close(errs)
	if n := len(errs); n > 0 {
		t.Errorf("%d of %d connections failed; one: %v", n, many, <-errs)
	}
	t.Logf("%d connections at once: %v", many, time.Since(start).Round(time.Millisecond))
}

// swaks sends a message by somebody else's client, and says what it said if the server did not take it.
func swaks(t *testing.T, addr, to string, more ...string) {
	t.Helper()
	args := append([]string{"--server", addr, "--helo", "client.test", "--from", "bob@example.test", "--to", to, "--body", "hello"}, more...)
	if out, err := exec.Command(tool(t, "swaks", "swaks"), args...).CombinedOutput(); err != nil {
		t.Fatalf("swaks: %v\n%s", err, out)
	}
}

// fetch is the first message of a user, by POP3.
func fetch(t *testing.T, addr, user, password string, more ...string) string {
	t.Helper()
	return curl(t, "pop3://"+addr+"/1", user, password, more...)
}

// logIn logs a user in by IMAP, as curl does it.
func logIn(t *testing.T, addr, user, password string, more ...string) {
	t.Helper()
	curl(t, "imap://"+addr, user, password, append([]string{"-X", "NOOP"}, more...)...)
}

// curl is what curl gets; -k: nobody has signed our certificate.
func curl(t *testing.T, url, user, password string, more ...string) string {
	t.Helper()
	c := exec.Command(tool(t, "curl", "curl"), append([]string{"-sS", "-k", "-m", "60", "-u", user + ":" + password, url}, more...)...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("curl: %v: %s", err, &stderr)
	}
	return string(out)
}
