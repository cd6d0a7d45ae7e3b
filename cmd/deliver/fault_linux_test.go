package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/proc"
)

// D20, P4: a worker that is stopped holds up mail of its own user and nobody else's, and the message that it had may be in its maildir:
// the next attempt, suspect, leaves one copy.
func TestD20_StoppedWorker(t *testing.T) {
	r := newRealm(t, 3, "worker_wait 2s")
	r.run()
	c := r.client()
	replies, err := c.send("first", "", "x", "u1", "u2", "u3")
	r.want(replies, err, "250", "250", "250")
	pid := r.children("worker", firstID+1)
	if len(pid) != 1 {
		t.Fatal(pid)
	}
	syscall.Kill(pid[0], syscall.SIGSTOP)
	defer syscall.Kill(pid[0], syscall.SIGCONT)

	stuck := make(chan []string)
	go func() {
		replies, err := r.client().send("second", "", "x", "u2", "u1", "u3")
		if err != nil {
			t.Error(err)
		}
		stuck <- replies
	}()
	for i := range 20 { // meanwhile
		begun := time.Now()
		replies, err := c.send(fmt.Sprint("other", i), "", "x", "u2", "u3")
		r.want(replies, err, "250", "250")
		if took := time.Since(begun); took > time.Second {
			t.Errorf("others waited %v", took)
		}
	}
	r.want(<-stuck, nil, "250 2.0.0", "451 4.4.2", "250 2.0.0")
	// Larger than any buffer: the sender is not held up for longer than worker_wait either.
	large := strings.Repeat("0123456789\r\n", 300000)
	begun := time.Now()
	replies, err = c.send("large", "", large, "u1", "u2")
	r.want(replies, err, "451 4.3.0", "250 2.0.0")
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("the large one took %v", took)
	}

	syscall.Kill(pid[0], syscall.SIGCONT)
	for _, m := range []struct{ id, body string }{{"second", "x"}, {"large", large}} {
		replies, err = c.send(m.id, " XSUSPECT", m.body, "u1")
		r.want(replies, err, "250 2.0.0")
	}
	if m := r.mail("u1"); len(m) != 3 {
		t.Errorf("u1 has %q", m)
	}
	r.end()
}

// D20: 200 users at once, each a process of his own.
func TestD20_ManyUsers(t *testing.T) {
	const users = 200
	r := newRealm(t, users, "worker_idle 10s")
	r.run()
	var wg sync.WaitGroup
	begun := time.Now()
	for s := range 20 {
		c := r.client()
		wg.Go(func() {
			for i := range users / 20 {
				u := fmt.Sprint("u", s*(users/20)+i+1)
				if replies, err := c.send("m"+u, "", "x", u); err != nil || !strings.HasPrefix(replies[0], "250") {
					t.Error(replies, err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("first messages: %v", time.Since(begun))
	all := make([]string, users)
	for i := range all {
		all[i] = fmt.Sprint("u", i+1)
	}
	begun = time.Now()
	replies, err := r.client().send("all", "", "x", all...)
	r.want(replies, err, strings.Split(strings.Repeat("250 ", users), " ")[:users]...)
	t.Logf("one message to all: %v", time.Since(begun))
	for i, u := range all {
		if m := r.mail(u); len(m) != 2 {
			t.Errorf("%s has %q", u, m)
		}
		if i%50 == 0 {
			r.owned(r.dir+"/home/"+u+"/Maildir", firstID+1+i)
		}
	}
	r.end()
}

// F08: the front dies: all of it ends, with an error for the supervisor.
func TestF08_FrontKilled(t *testing.T) {
	r := newRealm(t, 2)
	r.run()
	replies, err := r.client().send("m", "", "x", "u1", "u2")
	r.want(replies, err, "250", "250")
	tree := proc.Tree(r.cmd.Process.Pid)
	if len(tree) != 4 {
		t.Fatalf("%d processes", len(tree))
	}
	syscall.Kill(r.children("front", frontID)[0], syscall.SIGKILL)
	<-r.done
	if code := r.cmd.ProcessState.ExitCode(); code != exOSErr {
		t.Errorf("exit %d", code)
	}
	r.await("all to end", func() bool { return !living(tree) })
	if !strings.Contains(r.log(), "the front ended: signal: killed") {
		t.Error("the log does not say so")
	}
}

// F08: the monitor dies: the kernel ends the others, even one that is stopped. (Their sockets would tell them too, once they run.)
func TestF08_MonitorKilled(t *testing.T) {
	r := newRealm(t, 2)
	r.run()
	replies, err := r.client().send("m", "", "x", "u1", "u2")
	r.want(replies, err, "250", "250")
	tree := proc.Tree(r.cmd.Process.Pid)
	worker := r.children("worker", firstID+1)[0]
	// A process group whose parents are all gone from its session gets CONT from the kernel. Ours has a new parent in it: us.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
		for _, pid := range tree {
			if pid != r.cmd.Process.Pid {
				syscall.Kill(pid, syscall.SIGKILL)
				syscall.Wait4(pid, nil, 0, nil)
			}
		}
	}()
	syscall.Kill(worker, syscall.SIGSTOP)
	r.await("it to stop", func() bool { s, ok := proc.Read(worker); return ok && s.State == 'T' })
	r.cmd.Process.Kill()
	<-r.done
	r.await("all to end", func() bool { return !living(tree) })
}

func living(pids []int) bool {
	for _, pid := range pids {
		if s, ok := proc.Read(pid); ok && s.State != 'Z' {
			return true
		}
	}
	return false
}

// D19: workers are killed at any moment, one after the other: their recipients are told to wait, others are not, and after the next
// attempt each message is there once.
func TestD19_WorkerKilled(t *testing.T) {
	const victims = 40
	r := newRealm(t, victims+1)
	r.run()
	c := r.client()
	safe := fmt.Sprint("u", victims+1)
	type message struct {
		id, user string
		suspect  bool
	}
	var left []message
	sent := map[string]int{}
	unsure := 0
	try := func(m message, users ...string) (ok bool) {
		params := ""
		if m.suspect {
			params = " XSUSPECT"
		}
		replies, err := c.send(m.id, params, "Subject: x\r\n\r\nx", users...)
		if err != nil {
			t.Fatal(err)
		}
		if len(users) > 1 && !strings.HasPrefix(replies[1], "250") {
			t.Errorf("%s, whose worker lives: %q", users[1], replies[1])
		}
		switch {
		case strings.HasPrefix(replies[0], "250"):
			return true
		case strings.HasPrefix(replies[0], "451 4.4.2"):
			unsure++
			m.suspect = true
		case !strings.HasPrefix(replies[0], "451 4.3.0"):
			t.Errorf("%q", replies[0])
		}
		left = append(left, m)
		return false
	}
	for k := range victims {
		u, uid := fmt.Sprint("u", k+1), firstID+1+k
		killed := make(chan struct{})
		for n, dead := 0, false; !dead; n++ {
			select {
			case <-killed:
				dead = true // and this is the last message: a worker that died idle may have a successor already
			default:
			}
			sent[u]++
			if !try(message{id: fmt.Sprintf("m%dx%d", k, n), user: u}, u, safe) {
				break
			}
			if n == 0 {
				pid := r.children("worker", uid)
				if len(pid) != 1 {
					t.Fatal(u, pid)
				}
				go func() {
					time.Sleep(time.Duration(rand.IntN(20000)) * time.Microsecond) // a part of its life
					syscall.Kill(pid[0], syscall.SIGKILL)
					close(killed)
				}()
			}
		}
	}
	t.Logf("%d kills, %d unsure, %d to be sent again", victims, unsure, len(left))
	for deadline := time.Now().Add(30 * time.Second); len(left) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are left", len(left))
		}
		m := left[0]
		left = left[1:]
		if !try(m, m.user) {
			time.Sleep(50 * time.Millisecond) // the pause after a death is what it waits for
		}
	}
	for u, n := range sent {
		seen := map[string]int{}
		for _, f := range r.mail(u) {
			id, _, _ := strings.Cut(filepath.Base(f)[len("1764000000.Q"):], "X")
			seen[id]++
		}
		if len(seen) != n {
			t.Errorf("%s has %d messages of %d", u, len(seen), n)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s has %s %d times", u, id, n)
			}
		}
	}
	r.end()
}
