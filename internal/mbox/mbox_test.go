package mbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// TestMain is also another program that holds a lock of a mailbox: of fcntl on the file, until its standard input ends.
func TestMain(m *testing.M) {
	if path := os.Getenv("MBOX_LOCK"); path != "" {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}
		fmt.Println(err)
		io.Copy(io.Discard, os.Stdin)
		return
	}
	if path := os.Getenv("MBOX_APPEND"); path != "" {
		unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100_000, Max: 100_000})
		fmt.Print(Append(context.Background(), path, entry("id1", strings.Repeat("x\n", 60_000)), Options{}))
		return
	}
	os.Exit(m.Run())
}

var arrived = time.Date(2026, 11, 26, 10, 0, 0, 0, time.Local)

const postmarkA = "From alice@a.example  Thu Nov 26 10:00:00 2026\n"

func entry(id, body string) Entry {
	return Entry{Sender: "alice@a.example", Date: arrived, ID: id,
		Message: strings.NewReader("Received: by mx.example; id " + id + "\nSubject: s " + id + "\n\n" + body)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func text(t testing.TB, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	must(t, err)
	return string(p)
}

func whole(id, body string) string {
	return postmarkA + "Received: by mx.example; id " + id + "\nSubject: s " + id + "\n\n" + body + "\n"
}

func TestWhatIsWritten(t *testing.T) {
	path := t.TempDir() + "/box"
	long := strings.Repeat("y", 3*bufferSize)
	for _, c := range []struct{ name, sender, message, want string }{
		{"plain", "alice@a.example", "Subject: x\n\nhello\n", postmarkA + "Subject: x\n\nhello\n\n"},
		{"null sender", "", "Subject: x\n\nhello\n", "From MAILER-DAEMON  Thu Nov 26 10:00:00 2026\nSubject: x\n\nhello\n\n"},
		{"sender with spaces", "\"a b\tc\n\"@a.example", "S: x\n\nh\n", "From \"a-b-c-\"@a.example  Thu Nov 26 10:00:00 2026\nS: x\n\nh\n\n"},
		{"no last line end", "alice@a.example", "Subject: x\n\nhello", postmarkA + "Subject: x\n\nhello\n\n"},
		{"no text", "alice@a.example", "Subject: x\n\n", postmarkA + "Subject: x\n\n\n"},
		{"header alone", "alice@a.example", "Subject: x\n", postmarkA + "Subject: x\n\n\n"},
		{"header alone, cut", "alice@a.example", "Subject: x", postmarkA + "Subject: x\n\n\n"},
		{"no header", "alice@a.example", "\nhello\n", postmarkA + "\nhello\n\n"},
		{"nothing", "alice@a.example", "", postmarkA + "\n\n"},
		{"From", "alice@a.example", "S: x\n\nFrom me\n>From you\n>>From\n> From\nfrom\nFromage\n xFrom \n",
			postmarkA + "S: x\n\n>From me\n>>From you\n>>From\n> From\nfrom\nFromage\n xFrom \n\n"},
		{"From in the header", "alice@a.example", "From x Thu Nov 26 10:00:00 2026\nS: x\n\nh\n", postmarkA + ">From x Thu Nov 26 10:00:00 2026\nS: x\n\nh\n\n"},
		{"long lines", "alice@a.example", "S: " + long + "\n\n" + long + "From \nFrom " + long, postmarkA + "S: " + long + "\n\n" + long + "From \n>From " + long + "\n\n"},
		{"what is the readers'", "alice@a.example",
			"Content-Length: 5\nStatus: RO\nX-STATUS : D\nX-Keywords: a\n\tb\n c\nX-UID: 7\nX-IMAPbase: 1 2\nX-IMAP: 1 2\nX-Status-Of: kept\nSubject: x\n y\n\nStatus: RO\n",
			postmarkA + "X-Status-Of: kept\nSubject: x\n y\n\nStatus: RO\n\n"},
		{"the readers' last", "alice@a.example", "S: x\nStatus: RO\n\nh\n", postmarkA + "S: x\n\nh\n\n"},
		{"a long field of the readers", "alice@a.example", "Status: " + long + "\nS: x\n\nh\n", postmarkA + "S: x\n\nh\n\n"},
		{"octets", "alice@a.example", "S: \xff\x00\r\n\n\x00\r\xff\r\n", postmarkA + "S: \xff\x00\r\n\n\x00\r\xff\r\n\n"},
	} {
		os.Remove(path)
		must(t, Append(t.Context(), path, Entry{Sender: c.sender, Date: arrived, Message: strings.NewReader(c.message)}, Options{}))
		if got := text(t, path); got != c.want {
			t.Errorf("%s: %.300q, want %.300q", c.name, got, c.want)
		}
		if st, _ := os.Stat(path); st.Mode() != 0o600 {
			t.Errorf("mode %v", st.Mode())
		}
	}
	if m, _ := filepath.Glob(path + "?*"); len(m) > 0 {
		t.Errorf("left: %s", m)
	}
}

// What others have written, and what a crash has left, ends with an empty line before a message begins.
func TestEndIsRepaired(t *testing.T) {
	path := t.TempDir() + "/box"
	for before, want := range map[string]string{
		"":                          "",
		"\n":                        "\n\n",
		"x":                         "x\n\n",
		"From a\nS: x\n\ntorn":      "From a\nS: x\n\ntorn\n\n",
		"From a\nS: x\n\ntorn\n":    "From a\nS: x\n\ntorn\n\n",
		"From a\nS: x\n\nwhole\n\n": "From a\nS: x\n\nwhole\n\n",
	} {
		must(t, os.WriteFile(path, []byte(before), 0o644))
		must(t, Append(t.Context(), path, entry("id1", "h\n"), Options{}))
		if got := text(t, path); got != want+whole("id1", "h\n") {
			t.Errorf("%q: %q", before, got)
		}
	}
	if st, _ := os.Stat(path); st.Mode() != 0o644 {
		t.Errorf("mode of others' file changed: %v", st.Mode())
	}
}

func TestShellsSeeNewMail(t *testing.T) {
	path := t.TempDir() + "/box"
	must(t, Append(t.Context(), path, entry("id1", "h\n"), Options{}))
	read := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(path, read, read.Add(-time.Hour)))
	must(t, Append(t.Context(), path, entry("id2", "h\n"), Options{}))
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if at := time.Unix(st.Atim.Unix()); !at.Equal(read.Truncate(1)) || time.Since(time.Unix(st.Mtim.Unix())) > time.Minute {
		t.Errorf("read %v, written %v", at, time.Unix(st.Mtim.Unix()))
	}
}

func TestUnsafeIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/target", []byte("old"), 0o600))
	must(t, os.Symlink("target", dir+"/symlink"))
	must(t, os.Symlink("nothing", dir+"/dangling"))
	must(t, os.WriteFile(dir+"/one", []byte("old"), 0o600))
	must(t, os.Link(dir+"/one", dir+"/two"))
	must(t, os.Mkdir(dir+"/directory", 0o700))
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	want := map[string]string{
		dir + "/symlink": "symbolic link", dir + "/dangling": "symbolic link", dir + "/one": "2 names", dir + "/directory": "no regular file",
		dir + "/fifo": "no regular file", "/dev/null": "no regular file", "/dev/full": "no regular file",
	}
	if os.Getuid() == 0 {
		must(t, os.WriteFile(dir+"/others", []byte("old"), 0o666))
		must(t, os.Chown(dir+"/others", 12345, 0))
		want[dir+"/others"] = "user 12345, not 0"
	}
	for path, why := range want {
		err := Append(t.Context(), path, entry("id1", "h\n"), Options{})
		if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %s", path, err, why)
		}
	}
	if text(t, dir+"/target") != "old" || text(t, dir+"/one") != "old" {
		t.Error("written to")
	}
	if _, err := os.Lstat(dir + "/nothing"); err == nil {
		t.Error("made by a symbolic link")
	}
	for _, path := range []string{dir + "/none/box", dir + "/target/box"} {
		if err := Append(t.Context(), path, entry("id1", "h\n"), Options{}); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

func TestWritersExcludeEachOther(t *testing.T) {
	path := t.TempDir() + "/box"
	const writers, each = 8, 20
	var wg sync.WaitGroup
	body := strings.Repeat("text\n", 3*bufferSize/5)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := Append(t.Context(), path, entry(fmt.Sprintf("id%d-%d.", w, i), body), Options{Wait: time.Minute}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := text(t, path)
	for w := range writers {
		for i := range each {
			if n := strings.Count(got, whole(fmt.Sprintf("id%d-%d.", w, i), body)); n != 1 {
				t.Errorf("message %d of writer %d is there %d times", i, w, n)
			}
		}
	}
	if want := writers * each * len(whole("id1-1.", body)); len(got) < want {
		t.Errorf("%d octets", len(got))
	}
}

// holdLock has another process hold the lock of fcntl on path.
func holdLock(t *testing.T, path string) (release func()) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "MBOX_LOCK="+path)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	said := make([]byte, 5)
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "<nil>" {
		t.Fatalf("%s, %v", said, err)
	}
	return func() { in.Close(); cmd.Wait() }
}

func TestLocksOfOthers(t *testing.T) {
	for _, kind := range []string{"fcntl", "dotlock"} {
		t.Run(kind, func(t *testing.T) {
			path := t.TempDir() + "/box"
			must(t, os.WriteFile(path, nil, 0o600))
			release := func() { os.Remove(path + ".lock") }
			if kind == "fcntl" {
				release = holdLock(t, path)
			} else {
				must(t, os.WriteFile(path+".lock", fmt.Appendf(nil, "%d\n", os.Getppid()), 0o600))
			}
			err := Append(t.Context(), path, entry("id1", "h\n"), Options{Wait: 50 * time.Millisecond})
			if !errors.Is(err, ErrLocked) || text(t, path) != "" {
				t.Fatalf("%v; %q", err, text(t, path))
			}
			done := make(chan error)
			tried := make(chan bool, 1)
			ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
				select {
				case tried <- true:
				default:
				}
				return nil
			}}
			if kind == "fcntl" {
				tried <- true // no step of ours before the lock
			}
			go func() { done <- Append(t.Context(), path, entry("id1", "h\n"), Options{Wait: time.Minute, Ops: ops}) }()
			<-tried
			if kind == "dotlock" {
				// We do not sit on the other lock meanwhile: who holds this one gets it.
				must(t, pollLock(t, path))
			}
			release()
			must(t, <-done)
			if got := text(t, path); got != whole("id1", "h\n") {
				t.Errorf("%q", got)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if kind == "fcntl" {
				holdLock(t, path)
			} else {
				must(t, os.WriteFile(path+".lock", nil, 0o600))
			}
			if err := Append(ctx, path, entry("id1", "h\n"), Options{}); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
	}
}

// pollLock takes the lock of fcntl, as soon as it is free.
func pollLock(t *testing.T, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	return unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
}

// Where no file can be made there is one lock.
func TestDirectoryOfOthers(t *testing.T) {
	path := t.TempDir() + "/box"
	must(t, os.WriteFile(path, nil, 0o600))
	refuse := func(op durable.Op, name string) error {
		if op == durable.OpCreate {
			return syscall.EACCES
		}
		return nil
	}
	must(t, Append(t.Context(), path, entry("id1", "h\n"), Options{Ops: &durable.Ops{Fault: refuse}}))
	if text(t, path) != whole("id1", "h\n") {
		t.Errorf("%q", text(t, path))
	}
	holdLock(t, path)
	if err := Append(t.Context(), path, entry("id2", "h\n"), Options{Wait: 20 * time.Millisecond, Ops: &durable.Ops{Fault: refuse}}); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if err := Append(t.Context(), path+"2", entry("id2", "h\n"), Options{Ops: &durable.Ops{Fault: refuse}}); !errors.Is(err, syscall.EACCES) {
		t.Error(err)
	}
}

// Somebody with the lock puts another file in the place of the mailbox.
func TestFileThatIsReplaced(t *testing.T) {
	path := t.TempDir() + "/box"
	must(t, os.WriteFile(path, []byte("old\n\n"), 0o600))
	replaced := false
	ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpCreate && !replaced {
			replaced = true
			must(t, os.WriteFile(path+".new", []byte("new\n\n"), 0o600))
			must(t, os.Rename(path+".new", path))
		}
		return nil
	}}
	must(t, Append(t.Context(), path, entry("id1", "h\n"), Options{Ops: ops}))
	if got := text(t, path); !replaced || got != "new\n\n"+whole("id1", "h\n") {
		t.Errorf("%v, %q", replaced, got)
	}
}
