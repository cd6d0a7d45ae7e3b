package pop3

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/site"
)

// trace attaches strace to the process that serves alice; what it returns ends that and has the calls.
func (s *pop3Site) trace(args ...string) func() string {
	s.T.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		s.T.Skip("strace is not installed")
	}
	if os.Geteuid() != 0 {
		s.T.Skip("needs root, for strace to attach to what is not its child")
	}
	out := s.Dir + "/strace"
	c := exec.Command("strace", append([]string{"-f", "-y", "-s", "200", "-o", out, "-p", strconv.Itoa(s.Part("worker"))}, args...)...)
	messages, err := c.StderrPipe()
	s.Must(err)
	s.Must(c.Start())
	attached := make(chan bool, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(messages); lines.Scan(); {
			if strings.Contains(lines.Text(), "attached") {
				select {
				case attached <- true:
				default:
				}
			}
		}
		io.Copy(io.Discard, messages)
		close(attached)
	}()
	end := func() string {
		c.Process.Signal(syscall.SIGINT)
		select {
		case <-read:
		case <-time.After(time.Second): // it has killed what it traces, and waits for more of it
			c.Process.Kill()
			<-read
		}
		c.Wait()
		b, _ := os.ReadFile(out)
		return string(b)
	}
	s.T.Cleanup(func() { c.Process.Kill() })
	select {
	case ok := <-attached:
		if !ok {
			s.T.Skip("strace cannot attach here")
		}
	case <-time.After(site.Limit):
		s.T.Fatal("strace does not attach")
	}
	return end
}

// +OK to QUIT comes behind the last removal and the sync of each directory that had one; the lock is gone by then.
func TestUpdateOrder(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		s.Put(texts(4)...)
		s.Must(os.Rename(s.Alice+"/new/1700000003.M3P1.host", s.Alice+"/cur/1700000003.M3P1.host:2,S"))
		c := s.login(false)
		end := s.trace("-e", "trace=unlink,unlinkat,fsync,fdatasync,write,sendto,close,flock")
		for _, i := range []int{1, 3, 4} {
			c.Do(fmt.Sprint("DELE ", i), "+OK")
		}
		c.Do("QUIT", "+OK")
		c.Ended()
		var steps []string
		text := end()
		for line := range strings.Lines(text) {
			if strings.Contains(line, " = -1 ") {
				continue
			}
			for step, words := range map[string][]string{
				"remove new": {"unlinkat", "/new", ".host\", 0"}, "remove cur": {"unlinkat", "/cur", ".host:2,S\", 0"},
				"sync new": {"sync(", "/new>"}, "sync cur": {"sync(", "/cur>"},
				"unlock": {"close(", "postamt.pop3.lock>"}, "say": {"+OK bye, 1 messages left"},
			} {
				if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
					steps = append(steps, step)
				}
			}
		}
		slices.Sort(steps[3:max(3, len(steps)-2)]) // syncs may come in either order
		if want := []string{"remove new", "remove new", "remove cur", "sync cur", "sync new", "unlock", "say"}; !slices.Equal(steps, want) {
			t.Errorf("%q, want %q\n%s", steps, want, text)
		}
		if l := s.Left(); !slices.Equal(l, []string{"1700000001.M1P1.host"}) {
			t.Error(l)
		}
	})
}

// Whatever happens in UPDATE: +OK means that all is removed, and no message is lost that was not marked.
func TestUpdateFails(t *testing.T) {
	for _, x := range []struct{ name, inject, answer string }{
		{"killed at a removal", "unlinkat:signal=KILL:when=3", ""},
		{"killed at a sync", "fsync,fdatasync:signal=KILL:when=1", ""},
		{"a removal fails", "unlinkat:error=EIO:when=3", "-ERR [SYS/TEMP]"},
		{"no removal works", "unlinkat:error=EROFS", "-ERR [SYS/TEMP]"},
		{"a sync fails", "fsync,fdatasync:error=EIO", "-ERR [SYS/TEMP]"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			const messages = 200
			s := newSite(t, false).All()
			s.Put(texts(messages)...)
			c := s.login(false)
			for i := 2; i <= messages; i += 2 {
				c.Do(fmt.Sprint("DELE ", i), "+OK")
			}
			call, _, _ := strings.Cut(x.inject, ":")
			end := s.trace("-e", "trace="+call, "-e", "inject="+x.inject)
			c.Say("QUIT")
			answer, _ := c.R.ReadString('\n')
			c.Ended()
			calls := end()
			if x.answer == "" && answer != "" || !strings.HasPrefix(answer, x.answer) {
				t.Errorf("%q\n%s", answer, calls)
			}
			l := s.Left()
			slices.Sort(l)
			for i := range messages {
				has := slices.Contains(l, fmt.Sprintf("%d.M%dP1.host", 1700000000+i, i))
				if i%2 == 0 && !has {
					t.Errorf("message %d is lost", i+1)
				}
			}
			if x.name == "no removal works" && len(l) != messages || strings.HasSuffix(x.name, "a removal") && (len(l) == messages || len(l) == messages/2) {
				t.Error(len(l), "messages are left")
			}
			if x.answer == "" {
				return
			}
			// What is left is what the next session has, and it can remove it.
			c = s.login(false)
			if got := c.Do("STAT", "+OK"); !strings.HasPrefix(got, fmt.Sprintf("+OK %d ", len(l))) {
				t.Error(got)
			}
			for i := range l {
				c.Do(fmt.Sprint("DELE ", i+1), "+OK")
			}
			c.Do("QUIT", "+OK")
			if l := s.Left(); len(l) != 0 {
				t.Error(l)
			}
		})
	}
}
