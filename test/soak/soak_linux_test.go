// Package soak runs a whole system for a long time with everything mixed that clients and other hosts do, well or badly, and asks two things:
// has every message that was acknowledged arrived, once; and is everything back where it was when all is quiet: descriptors, threads,
// goroutines and memory of each process, files in the queue, in the maildirs and beside them.
//
// `go test` sends some 3,000 messages in less than a minute. SOAK says another number; `make soak` half a million.
package soak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/test/suite"
)

// soak is one run.
type soak struct {
	*site
	ledger *ledger
	drops  []maildrop // of the first users; the mailboxes of the others are read directly

	mu    sync.Mutex
	deeds map[string]int // done, by name
	turns map[string]int // of the administrator, by name
}

const (
	senders = 12
	vandals = 6
	readers = 4
	crowd   = 5000 // messages in the queue
)

func TestF23_Soak(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become users, and to see what authd and keyd have open")
	}
	messages, warm, owners := 2500, 500, 4
	every, workerIdle := 10*time.Second, time.Minute
	var rare []string
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if messages, err = strconv.Atoi(text); err != nil {
			t.Fatalf("SOAK=%s: %v", text, err)
		}
		warm, owners, every = max(warm, min(messages/20, 20_000)), 6, time.Minute
		// Workers for these come and go.
		rare, workerIdle = []string{"rare0", "rare1", "rare2", "rare3"}, 20*time.Second
	}
	var users []string
	for i := range 24 {
		users = append(users, fmt.Sprintf("u%02d", i))
	}
	l := &ledger{t: t, seed: uint64(time.Now().UnixNano()), users: users, rare: rare}
	s := &soak{site: newSite(t, l, users, rare, owners, workerIdle), ledger: l, drops: make([]maildrop, 16)}
	t.Cleanup(func() {
		for _, name := range s.programs {
			s.Kill(name) // if it still runs
			if t.Failed() {
				log := s.Log(name)
				t.Logf("log of %s:\n%s", name, log[max(0, len(log)-1<<10):])
			}
		}
	})
	s.run()

	begun := time.Now()
	s.mix(warm, every)
	base := s.rest(nil)
	t.Logf("warm after %v: %v", time.Since(begun).Round(time.Second), l)

	begun = time.Now()
	s.deeds, s.turns = map[string]int{}, map[string]int{}
	s.mix(messages, every)
	took := time.Since(begun)
	s.didAll()
	end := s.rest(&base)
	t.Logf("%d messages in %v, %.0f a second; with what came before: %v", messages, took.Round(time.Second), float64(messages)/took.Seconds(), l)
	table, faults := base.compare(end, len(s.Users))
	t.Logf("base line -> end:\n%s", table)
	for _, f := range faults {
		t.Error(f)
	}

	// Goroutines are seen when a program dies of SIGQUIT: those of these programs, and those of new ones that have done little.
	old := s.dump(end)
	s.run()
	s.mix(50, every)
	s.noMore(old, s.dump(s.rest(nil)))
	l.verify()
	s.run()
	s.stop()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	for _, user := range s.Users {
		if _, err := os.Stat(s.Maildir(user)); err != nil && slices.Contains(rare, user) {
			continue // nobody has ever written to him
		}
		if out, err := exec.Command(filepath.Join(s.bin, "mailboxctl"), "check", s.Maildir(user)).CombinedOutput(); err != nil {
			t.Errorf("mailboxctl check: %v\n%s", err, out)
		}
	}
}

// didAll says what was done, and fails if something was not.
func (s *soak) didAll() {
	s.t.Helper()
	total := 0
	for _, d := range deeds {
		total += s.deeds[d.name]
		if s.deeds[d.name] == 0 {
			s.t.Errorf("%s was not done", d.name)
		}
	}
	s.t.Logf("%d bad dialogues: %v; %v", total, s.deeds, s.turns)
}

// mix has all kinds of clients at work until n more messages were acknowledged, and then everything brought to its end: the queue and all
// mailboxes are empty.
func (s *soak) mix(n int, every time.Duration) {
	s.t.Helper()
	goal := s.ledger.taken() + n
	s.willing.Store(false)
	working, stop := context.WithCancel(s.t.Context())
	read := make(chan struct{})
	s.working = working
	var sending, others, reading sync.WaitGroup
	for range senders {
		sending.Go(func() { s.sender(s.ledger, func() bool { return s.ledger.taken() >= goal || s.t.Failed() }) })
	}
	for range vandals {
		others.Go(func() { s.vandal(s.ledger, s.done) })
	}
	for i := range readers {
		reading.Go(func() { s.reader(s.ledger, s.drops, i, readers, read) })
	}
	others.Go(func() { s.administrate() })
	others.Go(func() { s.report(goal, every) })
	others.Go(s.pace)
	sending.Wait()
	stop()
	others.Wait()
	s.willing.Store(true)
	s.must(s.dns.Set(zone(true)))
	s.must(s.Flush())
	if err := s.AwaitEmpty(2 * time.Minute); err != nil {
		s.t.Error(err)
	}
	close(read)
	reading.Wait()
	for found := 1; found > 0; {
		found = 0
		for i := range s.Users {
			n, err := s.visit(s.ledger, s.drops, i)
			if err != nil {
				s.t.Fatal(err)
			}
			found += n
		}
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// done counts a deed.
func (s *soak) done(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deeds != nil {
		s.deeds[name]++
	}
}

// administrate reloads programs, lists and flushes the queue, and lets the name server have good and bad times.
func (s *soak) administrate() {
	list := func() error {
		out, err := exec.Command(filepath.Join(s.bin, "queuectl"), "-C", s.Conf, "list").CombinedOutput()
		if err != nil {
			return fmt.Errorf("queuectl: %w\n%s", err, out)
		}
		return nil
	}
	for i := 0; ; i++ {
		select {
		case <-s.working.Done():
			return
		case <-time.After(500 * time.Millisecond):
		}
		var what string
		var err error
		switch n := rand.IntN(10); {
		case n < 3:
			what = "HUP"
			err = s.Signal(s.programs[rand.IntN(len(s.programs))], syscall.SIGHUP)
		case n < 6:
			what, err = "list", list()
		case n < 7:
			what, err = "flush", s.Flush()
		default:
			what, err = "name server", s.dns.Set(zone(i%2 == 0))
		}
		if err != nil {
			s.t.Error(err)
		}
		s.mu.Lock()
		if s.turns != nil {
			s.turns[what]++
		}
		s.mu.Unlock()
	}
}

// pace has the senders wait while the queue is long: they can be faster than all who take mail out of it, and what waits would grow with the number of messages.
func (s *soak) pace() {
	for s.working.Err() == nil {
		s.crowded.Store(len(s.Queued()) > crowd)
		time.Sleep(200 * time.Millisecond)
	}
	s.crowded.Store(false)
}

// report says now and then how far it is, and looks through the logs, which would grow without bound.
func (s *soak) report(goal int, every time.Duration) {
	last := s.ledger.taken()
	for {
		select {
		case <-s.working.Done():
			return
		case <-time.After(every):
		}
		now := s.ledger.taken()
		f, err := s.look()
		if err != nil {
			s.t.Error(err)
			continue
		}
		var rss []string
		for _, name := range slices.Sorted(maps.Keys(f.processes)) {
			if p := f.processes[name]; p.pid != 0 {
				rss = append(rss, fmt.Sprintf("%s %d", name, p.rss>>20))
			}
		}
		s.t.Logf("%s %d messages of %d, %.0f a second; RSS in MiB: %s", time.Now().Format(time.TimeOnly), now, goal, float64(now-last)/every.Seconds(), strings.Join(rss, ", "))
		last = now
		s.logs()
	}
}

// logs looks for what no program may say, and forgets the rest.
func (s *soak) logs() {
	for _, name := range s.programs {
		log := s.Log(name)
		for _, word := range []string{"panic", "fatal error"} {
			if at := strings.Index(log, word); at >= 0 {
				s.t.Errorf("%s: %.4000s", name, log[at:])
			}
		}
		if len(log) > 16<<20 {
			os.Truncate(filepath.Join(s.Dir, "log", name), 0)
		}
	}
}

// rest returns the figures when all is quiet, and as they were before, if they come to that soon: memory is given back bit by bit. Of workers they are those
// as long as workers are there; of the other processes those without workers, if these are to go soon.
func (s *soak) rest(before *figures) figures {
	s.t.Helper()
	s.logs()
	asBefore := func(f figures) bool {
		if before == nil {
			return true
		}
		_, faults := before.compare(f, len(s.Users))
		return len(faults) == 0
	}
	if !s.leaving() {
		f, err := s.calm(time.Minute, asBefore)
		s.must(err)
		return f
	}
	workers, err := s.calm(s.workerIdle, func(figures) bool { return true })
	s.must(err)
	for range 5 {
		if before == nil || !s.lacks(workers, *before) {
			break
		}
		s.mix(100, time.Minute) // what waited took so long to come to its end that workers have left
		workers, err = s.calm(s.workerIdle, func(figures) bool { return true })
		s.must(err)
	}
	merged := func(f figures) figures {
		f.processes = maps.Clone(f.processes)
		for name, p := range workers.processes {
			if strings.Contains(name, " worker ") && !s.seldom(name) {
				f.processes[name] = p
			}
		}
		return f
	}
	f, err := s.calm(s.workerIdle+3*time.Minute, func(f figures) bool { return f.workers() == 0 && asBefore(merged(f)) })
	s.must(err)
	return merged(f)
}

// leaving says that workers do not stay for long.
func (s *soak) leaving() bool { return s.workerIdle < time.Minute }

// lacks says that a worker is not there who was.
func (s *soak) lacks(now, before figures) bool {
	for name, p := range before.processes {
		if strings.Contains(name, " worker ") && !s.seldom(name) && p.pid != 0 && now.processes[name].pid == 0 {
			return true
		}
	}
	return false
}

// seldom says that a worker is of one of the users whose workers come and go.
func (s *soak) seldom(name string) bool {
	_, uid, _ := strings.Cut(name, " worker ")
	n, err := strconv.Atoi(uid)
	return err == nil && n >= firstOwner+s.owners
}

// dump ends all programs by SIGQUIT, and returns how many goroutines each process had, by who began them: those of figures f.
func (s *soak) dump(f figures) map[string]map[string]int {
	s.t.Helper()
	all := map[string]map[string]int{}
	for _, program := range s.programs {
		root := s.Pid(program)
		s.must(syscall.Kill(root, syscall.SIGSTOP)) // or it ends the others, or they with it
		for name, p := range f.processes {
			if strings.HasPrefix(name, program+" ") && p.pid != root && !(s.leaving() && strings.Contains(name, " worker ")) {
				all[name] = s.quit(program, p, false)
			}
		}
		name := program
		_, split := f.processes[program+" monitor"]
		if split {
			name += " monitor"
		}
		all[name] = s.quit(program, f.processes[name], split)
		s.Kill(program)
	}
	return all
}

// noMore fails if a process had more goroutines of some kind than it has when it is new.
func (s *soak) noMore(old, fresh map[string]map[string]int) {
	s.t.Helper()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if old[name]["main"]*fresh[name]["main"] == 0 {
			continue // a monitor without a trace
		}
		n := 0
		for what, count := range old[name] {
			n += count
			if count > fresh[name][what] {
				s.t.Errorf("%s has %d goroutines of %s, when new %d", name, count, what, fresh[name][what])
			}
		}
		all = append(all, fmt.Sprintf("%s %d", name, n))
	}
	s.t.Logf("goroutines: %s", strings.Join(all, ", "))
}

// quit ends one process by SIGQUIT and returns its goroutines. Those of links are not counted, nor those of Go itself.
func (s *soak) quit(program string, p process, monitor bool) map[string]int {
	s.t.Helper()
	before := len(s.Log(program))
	s.must(syscall.Kill(p.pid, syscall.SIGQUIT))
	syscall.Kill(p.pid, syscall.SIGCONT)
	s.must(suite.Await(patience, "the end of "+program, func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		return err != nil || strings.Contains(string(b), ") Z ")
	}))
	n := map[string]int{}
	text := s.Log(program)[before:]
	for part := range strings.SplitSeq(text, "\n\n") {
		_, by, found := strings.Cut(part, "\ncreated by ")
		by, _, _ = strings.Cut(by, " in goroutine")
		by, _, _ = strings.Cut(by, "\n")
		switch {
		case !strings.HasPrefix(part, "goroutine ") || strings.HasPrefix(by, "runtime.") || strings.Contains(by, "authwire.newLink"):
		case !found && !strings.Contains(part, "main.main()"): // the scheduler's own
		case !found:
			n["main"]++
		default:
			n[by]++
		}
	}
	// A monitor may see that its front is gone, and end by itself, before it sees the signal; or the two goroutines that watch the front may have.
	delete(n, "postamt/internal/monitor.(*Monitor).Run")
	if n["main"] != 1 && !monitor {
		s.t.Errorf("%s (%d) has left no trace:\n%s", program, p.pid, text)
	}
	const served = "postamt/internal/daemon.(*Server).admit"
	n[served] = max(0, n[served]-p.links)
	return n
}
