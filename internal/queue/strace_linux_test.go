package queue

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The system calls of accepting and of finishing one message, in order: what the
// package comment promises, seen from outside.
func TestOrderOfSystemCalls(t *testing.T) {
	const env = "QUEUE_TEST_STRACE"
	if how := os.Getenv(env); how != "" {
		straced(t, how)
		return
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	long := "openat flock fstat " + strings.Repeat("write ", 5) + "pwrite64 fsync fchmod close"
	for _, c := range []struct{ how, accept, want string }{
		{"small", "openat flock fstat write fsync fchmod close", ""},
		{"strict", "openat flock fstat write fsync openat fsync close fchmod close", ""},
		{"long", long, ""},
	} {
		t.Run(c.how, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "trace")
			cmd := exec.Command("strace", "-f", "-qq", "-o", out, os.Args[0], "-test.run=^TestOrderOfSystemCalls$", "-test.count=1")
			cmd.Env = append(os.Environ(), env+"="+c.how, "QUEUE_TEST_DIR="+dir, "GOMAXPROCS=1", "GOGC=off")
			if b, err := cmd.CombinedOutput(); err != nil {
				if strings.Contains(string(b), "ptrace") || strings.Contains(string(b), "Operation not permitted") {
					t.Skipf("strace cannot trace here: %s", b)
				}
				t.Fatalf("%v: %s", err, b)
			}
			trace, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			accept, rest, ok := strings.Cut(between(t, string(trace)), " MARK ")
			message, finish, ok2 := strings.Cut(rest, " MARK ")
			if !ok || !ok2 {
				t.Fatalf("%s", trace)
			}
			if accept != c.accept {
				t.Errorf("accept: %d calls\n%s, want\n%s", strings.Count(accept, " ")+1, accept, c.accept)
			}
			if c.how == "small" && message != "openat fcntl fcntl fstat pread64" {
				t.Error("open:", message)
			}
			if want := "unlinkat unlinkat close"; finish != want {
				t.Error("finish:", finish)
			}
		})
	}
}

// between are the names of the calls between the first and the last mark, but for
// those of Go's runtime; a mark is MARK.
func between(t *testing.T, trace string) string {
	var calls []string
	for line := range strings.Lines(trace) {
		_, line, _ = strings.Cut(line, " ")
		line = strings.TrimLeft(line, " ")
		name, rest, ok := strings.Cut(line, "(")
		if !ok || strings.HasPrefix(line, "<") {
			continue
		}
		if strings.Contains(rest, "/queue-test-mark") {
			calls = append(calls, "MARK")
			continue
		}
		switch name {
		case "futex", "epoll_pwait", "epoll_ctl", "nanosleep", "mmap", "munmap", "madvise", "sched_yield", "rt_sigprocmask", "rt_sigreturn", "rt_sigaction",
			"tgkill", "getpid", "gettid", "clone", "clone3", "sigaltstack", "set_robust_list", "rseq", "prctl", "timer_settime", "timer_create", "getrandom", "restart_syscall", "sched_getaffinity", "gettimeofday":
			continue
		}
		if name == "fcntl" && strings.Contains(rest, "F_GETFL") && len(calls) > 0 && calls[len(calls)-1] == "openat" {
			// os.NewFile after openat, where we do not ask ourselves.
			if !strings.Contains(rest, "O_NONBLOCK") && !strings.Contains(rest, "O_PATH") {
				continue
			}
		}
		calls = append(calls, name)
	}
	_, s, ok := strings.Cut(strings.Join(calls, " "), "MARK ")
	if i := strings.LastIndex(s, " MARK"); ok && i >= 0 {
		return s[:i]
	}
	t.Fatalf("no marks: %v", calls)
	return ""
}

func straced(t *testing.T, how string) {
	unix.Umask(0o007)
	dir := filepath.Join(os.Getenv("QUEUE_TEST_DIR"), "queue")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	q, err := Open(dir, Options{Strict: how == "strict"})
	if err != nil {
		t.Fatal(err)
	}
	q.strict = how == "strict" // whatever the file system
	body := []byte(strings.Repeat("x", 4096))
	if how == "long" {
		body = make([]byte, 4*small)
	}
	mark := func() { unix.Access("/queue-test-mark", 0) }
	e := envelope()
	mark()
	w, err := q.Create(e)
	if err != nil {
		t.Fatal(err)
	}
	for len(body) > 0 {
		n := min(len(body), 20_000)
		if _, err := w.Write(body[:n]); err != nil {
			t.Fatal(err)
		}
		body = body[n:]
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	mark()
	m, err := q.Message(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	mark()
	if err := m.Remove(nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	mark()
}
