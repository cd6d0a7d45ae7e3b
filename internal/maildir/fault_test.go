package maildir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/internal/durable"
)

// tracer records the steps of a delivery and fails the one with number fail.
type tracer struct {
	mu    sync.Mutex
	steps []string
	fail  int // from 0; -1: none
	err   error
}

func (r *tracer) fault(op durable.Op, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.steps)
	r.steps = append(r.steps, string(op)+" "+filepath.Base(name))
	if n == r.fail {
		return r.err
	}
	return nil
}

func tracedStore(t testing.TB, r *tracer) *Store {
	s := New(Options{Host: "h", Ops: &durable.Ops{Fault: r.fault}, Now: func() time.Time { return time.Now().Add(2 * young) }})
	t.Cleanup(s.Close)
	return s
}

// prepare makes maildirs, so that a test sees the steps of the delivery alone.
func prepareMaildirs(t testing.TB, homes ...string) {
	t.Helper()
	for _, h := range homes {
		for _, d := range []string{"new", "cur", "tmp"} {
			if err := os.MkdirAll(filepath.Join(h, "Maildir", d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func verbs(steps []string) string {
	var out []string
	for _, s := range steps {
		verb, name, _ := strings.Cut(s, " ")
		if verb == string(durable.OpSyncDir) {
			verb += "(" + name + ")"
		}
		out = append(out, verb)
	}
	return strings.Join(out, " ")
}

// The order in which a message becomes permanent.
func TestOrderOfSteps(t *testing.T) {
	home := t.TempDir()
	prepareMaildirs(t, home)
	r := &tracer{fail: -1}
	must(t, deliver(tracedStore(t, r), Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
	if got, want := verbs(r.steps), "create write sync close rename syncdir(new)"; got != want {
		t.Errorf("steps %q, want %q", got, want)
	}
}

// A maildir that has just been made is on disk with all above it before the
// message counts.
func TestOrderOfStepsInAFreshMaildir(t *testing.T) {
	base := t.TempDir()
	r := &tracer{fail: -1}
	s := New(Options{Host: "h", Ops: &durable.Ops{Fault: r.fault}})
	defer s.Close()
	to := Target{Owner: "bob", Base: base, Path: base + "/example.org/bob/Maildir"}
	must(t, deliver(s, Message{ID: testID, Arrived: arrived}, wireText, copyFor(to)))
	want := "create write syncdir(Maildir) syncdir(bob) syncdir(example.org) syncdir(" + filepath.Base(base) + ") sync close rename syncdir(new)"
	if got := verbs(r.steps); got != want {
		t.Errorf("steps %q, want %q", got, want)
	}
	// The next one has nothing of this to do.
	r.steps = nil
	must(t, deliver(s, Message{ID: "id2", Arrived: arrived}, wireText, copyFor(to)))
	if got, want := verbs(r.steps), "create write sync close rename syncdir(new)"; got != want {
		t.Errorf("steps %q, want %q", got, want)
	}
}

// Every step fails once, in every way: nothing is reported as stored, nothing is
// left, and the next attempt stores it once. (F01, F03, M01, P5)
func TestM01_EveryStepFails(t *testing.T) {
	for _, copies := range []int{1, 3, batchMin + 2} {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT, syscall.EROFS} {
			if copies > 1 && errno != syscall.EIO {
				continue
			}
			for step := 0; ; step++ {
				dir := t.TempDir()
				var to []Copy
				for i := range copies {
					home := fmt.Sprintf("%s/u%d", dir, i)
					prepareMaildirs(t, home)
					to = append(to, copyFor(target(home, fmt.Sprint("u", i))))
				}
				r := &tracer{fail: step, err: errno}
				s := tracedStore(t, r)
				res := deliver(s, Message{ID: testID, Arrived: arrived}, wireText, to...)
				if len(r.steps) <= step {
					must(t, res)
					break
				}
				failed := r.steps[step]
				bad := 0
				for i := range res {
					home := fmt.Sprintf("%s/u%d", dir, i)
					switch {
					case res[i].Err == nil && len(messages(t, home)) != 1:
						t.Errorf("%v at %s: copy %d reported as stored, and is not", errno, failed, i)
					case res[i].Err != nil:
						bad++
						if !errors.Is(res[i].Err, errno) {
							t.Errorf("%v at %s: %v", errno, failed, res[i].Err)
						}
						there := len(messages(t, home)) == 1
						if there != res[i].Unknown {
							t.Errorf("%v at %s: message there: %v, unknown: %v", errno, failed, there, res[i].Unknown)
						}
					}
				}
				if bad == 0 && !strings.HasPrefix(failed, string(durable.OpUnlink)) {
					t.Errorf("%v at %s, and no copy failed", errno, failed)
				}
				checkMaildir(t, dir)
				r.fail = -1
				m := Message{ID: testID, Arrived: arrived}
				for i := range res {
					m.Suspect = m.Suspect || res[i].Unknown
				}
				again := deliver(s, m, wireText, to...)
				must(t, again)
				for i := range res {
					if want := res[i].Unknown || res[i].Err == nil; again[i].Again != want {
						t.Errorf("%v at %s: again %v, want %v", errno, failed, again[i].Again, want)
					}
					if m := messages(t, fmt.Sprintf("%s/u%d", dir, i)); len(m) != 1 {
						t.Errorf("%v at %s: after the second attempt: %q", errno, failed, m)
					}
				}
				checkMaildir(t, dir)
			}
		}
	}
}

// A large message meets a failing write in the middle of its way in.
func TestF01_LargeMessageEveryStepFails(t *testing.T) {
	text := strings.Repeat("0123456789abcdef0123456789abcde\r\n", 3*memoryLimit/33)
	for step := 0; ; step++ {
		dir := t.TempDir()
		var to []Copy
		for i := range 3 {
			home := fmt.Sprintf("%s/u%d", dir, i)
			prepareMaildirs(t, home)
			to = append(to, copyFor(target(home, fmt.Sprint("u", i))))
		}
		r := &tracer{fail: step, err: syscall.ENOSPC}
		res := deliver(tracedStore(t, r), Message{ID: testID, Arrived: arrived}, text, to...)
		if len(r.steps) <= step {
			must(t, res)
			if step < 10 {
				t.Fatal("hardly a step was met")
			}
			return
		}
		want := strings.ReplaceAll(text, "\r\n", "\n")
		for i := range res {
			if res[i].Err != nil {
				continue
			}
			got, err := os.ReadFile(fmt.Sprintf("%s/u%d/Maildir/new/%s", dir, i, res[i].Name))
			if err != nil || string(got) != string(to[i].Header)+want {
				t.Fatalf("failing %s: copy %d: %d bytes, %v", r.steps[step], i, len(got), err)
			}
		}
		bad := 0
		for i := range res {
			if res[i].Err != nil {
				bad++
			}
		}
		if bad > 1 {
			t.Errorf("failing %s: %d copies failed", r.steps[step], bad)
		}
		checkMaildir(t, dir)
	}
}

// The chosen name in tmp/ is taken, by whatever: another one is taken, and what is there stays as it is.
func TestM04_TemporaryNameExists(t *testing.T) {
	home := t.TempDir()
	prepareMaildirs(t, home)
	tmp, outside := home+"/Maildir/tmp/", home+"/outside"
	os.WriteFile(outside, []byte("outside"), 0o600)
	// The names are random, so the seam puts something there in the last moment.
	var taken []string
	s := New(Options{Host: "h", Ops: &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op != durable.OpCreate || len(taken) == 5 {
			return nil
		}
		path := tmp + filepath.Base(name)
		err := errors.New("not tried")
		switch len(taken) {
		case 0:
			err = os.WriteFile(path, []byte("another's"), 0o600)
		case 1:
			err = os.Symlink(outside, path)
		case 2:
			err = os.Symlink(home+"/made", path)
		case 3:
			err = os.Mkdir(path, 0o700)
		case 4:
			err = syscall.Mkfifo(path, 0o600)
		}
		taken = append(taken, path)
		return err
	}}})
	defer s.Close()
	must(t, deliver(s, Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
	if len(taken) != 5 || len(messages(t, home)) != 1 {
		t.Fatalf("%d names were taken, messages %q", len(taken), messages(t, home))
	}
	for i, path := range taken {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	for path, want := range map[string]string{taken[0]: "another's", outside: "outside"} {
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("%s is now %q", path, got)
		}
	}
	if _, err := os.Lstat(home + "/made"); err == nil {
		t.Error("a symbolic link was followed")
	}
	if a, b := tempName("x"), tempName("x"); a == b {
		t.Error("temporary names are not random")
	}
}

func TestM05_SymlinksAreNotFollowed(t *testing.T) {
	for _, link := range []string{"Maildir", "Maildir/new", "Maildir/tmp", "Maildir/cur"} {
		dir := t.TempDir()
		home, elsewhere := dir+"/home", dir+"/elsewhere"
		prepareMaildirs(t, home)
		prepareMaildirs(t, elsewhere)
		before := len(files(t, elsewhere))
		os.RemoveAll(home + "/" + link)
		if err := os.Symlink(elsewhere+"/"+link, home+"/"+link); err != nil {
			t.Fatal(err)
		}
		r := deliver(newStore(t), Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob")))
		if !errors.Is(r[0].Err, ErrUnsafe) {
			t.Errorf("%s is a link: %v", link, r[0].Err)
		}
		if n := len(files(t, elsewhere)); n != before {
			t.Errorf("%s is a link: %d files elsewhere", link, n)
		}
	}
}

// The owner swaps his maildir for a link, again and again, while mail comes.
func TestM05_SwapRace(t *testing.T) {
	dir := t.TempDir()
	home, elsewhere := dir+"/home", dir+"/elsewhere"
	prepareMaildirs(t, home)
	prepareMaildirs(t, elsewhere)
	s := newStore(t)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			os.Rename(home+"/Maildir", home+"/real")
			os.Symlink(elsewhere+"/Maildir", home+"/Maildir")
			os.Remove(home + "/Maildir")
			os.Rename(home+"/real", home+"/Maildir")
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	var stored []string
	for i := range 200 {
		r := deliver(s, Message{ID: fmt.Sprint("id", i), Arrived: arrived}, wireText, copyFor(target(home, "bob")))
		if r[0].Err == nil {
			stored = append(stored, r[0].Name)
		}
	}
	close(stop)
	<-done
	if f := files(t, elsewhere); len(f) != 0 {
		t.Errorf("written elsewhere: %q", f)
	}
	for _, name := range stored {
		if m, _ := filepath.Glob(home + "/*/new/" + name); len(m) != 1 {
			t.Errorf("%s was reported as stored, and is in %q", name, m)
		}
	}
}

func TestM19_BrokenMaildirs(t *testing.T) {
	t.Run("home missing", func(t *testing.T) {
		r := deliver(newStore(t), Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(t.TempDir()+"/none", "bob")))
		if !errors.Is(r[0].Err, ErrNoBase) {
			t.Error(r[0].Err)
		}
	})
	for _, sub := range []string{"new", "cur", "tmp"} {
		t.Run(sub+" missing", func(t *testing.T) {
			home := t.TempDir()
			prepareMaildirs(t, home)
			os.Remove(home + "/Maildir/" + sub)
			must(t, deliver(newStore(t), Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
			if _, err := os.Stat(home + "/Maildir/" + sub); err != nil {
				t.Error(err)
			}
		})
		t.Run(sub+" missing in another's maildir", func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("giving a maildir to another needs root")
			}
			home := t.TempDir()
			prepareMaildirs(t, home)
			os.Remove(home + "/Maildir/" + sub)
			if err := os.Chown(home+"/Maildir", 12345, 12345); err != nil {
				t.Fatal(err)
			}
			r := deliver(newStore(t), Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob")))
			if !errors.Is(r[0].Err, os.ErrNotExist) {
				t.Error(r[0].Err)
			}
			if _, err := os.Stat(home + "/Maildir/" + sub); err == nil {
				t.Error("was made in another's maildir")
			}
		})
		t.Run(sub+" is a file", func(t *testing.T) {
			home := t.TempDir()
			prepareMaildirs(t, home)
			os.Remove(home + "/Maildir/" + sub)
			os.WriteFile(home+"/Maildir/"+sub, nil, 0o600)
			r := deliver(newStore(t), Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob")))
			if !errors.Is(r[0].Err, ErrUnsafe) {
				t.Error(r[0].Err)
			}
		})
	}
	t.Run("path above the base", func(t *testing.T) {
		home := t.TempDir()
		to := target(home, "bob")
		to.Path = home + "/../x"
		if r := deliver(newStore(t), Message{ID: testID, Arrived: arrived}, wireText, copyFor(to)); r[0].Err == nil {
			t.Error("delivered")
		}
	})
}

// A maildir that is removed, replaced or moved away under an open Store.
func TestMaildirReplacedWhileOpen(t *testing.T) {
	for name, replace := range map[string]func(home string){
		"removed":        func(home string) { os.RemoveAll(home + "/Maildir") },
		"new removed":    func(home string) { os.RemoveAll(home + "/Maildir/new") },
		"tmp removed":    func(home string) { os.RemoveAll(home + "/Maildir/tmp") },
		"moved away":     func(home string) { os.Rename(home+"/Maildir", home+"/old") },
		"new moved away": func(home string) { os.Rename(home+"/Maildir/new", home+"/old") },
		"made anew":      func(home string) { os.RemoveAll(home + "/Maildir"); os.MkdirAll(home+"/Maildir/new", 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			s := newStore(t)
			must(t, deliver(s, Message{ID: "id1", Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
			replace(home)
			r := deliver(s, Message{ID: "id2", Arrived: arrived}, wireText, copyFor(target(home, "bob")))
			must(t, r)
			if _, err := os.Stat(home + "/Maildir/new/" + r[0].Name); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestM13_Sweeper(t *testing.T) {
	home := t.TempDir()
	prepareMaildirs(t, home)
	tmp := home + "/Maildir/tmp/"
	now := time.Now()
	for name, age := range map[string]time.Duration{"old": 37 * time.Hour, "older.gone": 1000 * time.Hour, "young": 35 * time.Hour, "future": -time.Hour} {
		os.WriteFile(tmp+name, []byte("x"), 0o600)
		os.Chtimes(tmp+name, now, now.Add(-age))
	}
	os.Mkdir(tmp+"dir", 0o700)
	os.Chtimes(tmp+"dir", now, now.Add(-1000*time.Hour))
	s := newStore(t)
	must(t, deliver(s, Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
	left, _ := os.ReadDir(tmp)
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "dir future young" {
		t.Errorf("left in tmp: %q", got)
	}
	// Not again so soon.
	os.WriteFile(tmp+"old", nil, 0o600)
	os.Chtimes(tmp+"old", now, now.Add(-40*time.Hour))
	must(t, deliver(s, Message{ID: "id2", Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
	if _, err := os.Stat(tmp + "old"); err != nil {
		t.Error("swept twice")
	}
}

func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := New(Options{Host: "h", MaxOpen: 4})
	defer s.Close()
	var to []Copy
	for i := range 20 {
		home := fmt.Sprintf("%s/u%d", dir, i)
		prepareMaildirs(t, home)
		os.MkdirAll(home+"/Maildir/.x", 0o700)
		c := copyFor(target(home, fmt.Sprint("u", i)))
		if i%2 == 0 {
			c.Target.Tag = "x"
		}
		to = append(to, c)
	}
	must(t, deliver(newStore(t), Message{ID: "warm", Arrived: arrived}, wireText, to[19])) // the runtime's own descriptors
	before := openFiles(t)
	for round := range 2 {
		must(t, deliver(s, Message{ID: fmt.Sprint("id", round), Arrived: arrived}, wireText, to...))
		for i := range to {
			must(t, deliver(s, Message{ID: fmt.Sprint("single", round), Arrived: arrived}, wireText, to[i]))
		}
		if n := len(s.boxes); n > 4 {
			t.Errorf("%d maildirs are open", n)
		}
		if n := openFiles(t); n > before+3*4 {
			t.Errorf("%d files are open, %d at the start", n, before)
		}
	}
	s.Close()
	if n := openFiles(t); n != before {
		t.Errorf("%d files are open after Close, %d before", n, before)
	}
	checkMaildir(t, dir)
}

func openFiles(t *testing.T) int {
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc/self/fd")
	}
	return len(e)
}
