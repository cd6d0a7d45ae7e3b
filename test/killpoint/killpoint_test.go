//go:build linux && (amd64 || arm64)

package killpoint

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	Launch()
	if dir := os.Getenv("KILLPOINT_TEST"); dir != "" {
		os.Exit(victim(dir))
	}
	m.Run()
}

const workers = 3

// victim writes a file in each of some goroutines and in a child process, five changing calls a file. It tells its error on
// standard output, which does not count.
func victim(dir string) int {
	err := func() error {
		if strings.HasPrefix(filepath.Base(dir), "child") {
			return store(filepath.Dir(dir), "child")
		}
		errs := make([]error, workers)
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() { errs[i] = store(dir, fmt.Sprint(i)) })
		}
		wg.Wait()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KILLPOINT_TEST="+dir+"/child")
		cmd.Stdout = os.Stdout
		return errors.Join(errors.Join(errs...), cmd.Run())
	}()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func store(dir, name string) error {
	temp := filepath.Join(dir, name+".tmp")
	f, err := os.Create(temp) // 1
	if err != nil {
		return err
	}
	_, err = f.WriteString("text") // 2
	if err == nil {
		err = f.Sync() // 3
	}
	if err2 := f.Close(); err == nil { // 4
		err = err2
	}
	if err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, name)) // 5
}

const total = 5 * (workers + 1)

func run(t *testing.T, p Plan) (*Run, string, error) {
	t.Helper()
	dir := t.TempDir()
	p.Below = []string{dir}
	var out strings.Builder
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KILLPOINT_TEST="+dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	r, err := Start(cmd, p)
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if werr := r.Wait(); werr != nil {
		t.Error(werr)
	}
	return r, dir, errors.Join(err, errors.New(out.String()))
}

// Threads and children count alike, and what is elsewhere does not count.
func TestCount(t *testing.T) {
	Need(t)
	r, _, err := run(t, Plan{})
	names := map[string]int{}
	for i, c := range r.Calls() {
		names[c.Name]++
		if c.N != i+1 || c.Looks {
			t.Errorf("call %d is %v", i+1, c)
		}
	}
	if len(r.Calls()) != total || names["openat"] != workers+1 || names["close"] != workers+1 {
		t.Errorf("%d calls, not %d: %v; %v", len(r.Calls()), total, names, err)
	}
	if c, ok := r.Hit(); ok {
		t.Errorf("%v was hit", c)
	}
	looking, _, _ := run(t, Plan{Looks: true})
	if n := len(looking.Calls()); n < total {
		t.Errorf("%d calls with those that look, %d without", n, total)
	}
}

// At each N the program dies of SIGKILL, with exactly the calls before it done.
func TestKillAtEach(t *testing.T) {
	Need(t)
	for n := 1; n <= total+1; n++ {
		r, dir, err := run(t, Plan{Fault: KillAt(n)})
		if n > total {
			if c, ok := r.Hit(); ok {
				t.Errorf("there is a call %v", c)
			}
			break
		}
		hit, ok := r.Hit()
		var exit *exec.ExitError
		if !ok || hit.N != n || !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("call %d: hit %v, %v", n, hit, err)
		}
		created, renamed := 0, 0
		for _, c := range r.Calls()[:n-1] {
			switch c.Name {
			case "openat":
				created++
			case "renameat", "renameat2", "rename":
				renamed++
			}
		}
		temps, _ := filepath.Glob(dir + "/*.tmp")
		all, _ := filepath.Glob(dir + "/*")
		if len(all) != created || len(all)-len(temps) != renamed {
			t.Errorf("killed at %v: %d files, %d of them renamed; the calls before say %d and %d", hit, len(all), len(all)-len(temps), created, renamed)
		}
	}
}

// At each N the call fails, and that call alone.
func TestErrnoAtEach(t *testing.T) {
	Need(t)
	for n := 1; ; n++ {
		r, dir, err := run(t, Plan{Fault: ErrnoAt(n, syscall.EIO)})
		hit, ok := r.Hit()
		if !ok {
			if n != total+1 {
				t.Errorf("the program ended at %d", n)
			}
			break
		}
		if !strings.Contains(err.Error(), syscall.EIO.Error()) {
			t.Errorf("%v failed, and the program says %v", hit, err)
		}
		temps, _ := filepath.Glob(dir + "/*.tmp")
		all, _ := filepath.Glob(dir + "/*")
		if left := map[bool]int{true: 0, false: 1}[hit.Name == "openat"]; len(temps) != left || len(all)-len(temps) != workers {
			t.Errorf("%v failed: %d files, %d of them temporary", hit, len(all), len(temps))
		}
	}
}

// A close that fails has closed the file: its lock is free.
func TestFailedCloseCloses(t *testing.T) {
	Need(t)
	name := filepath.Join(t.TempDir(), "locked")
	script := fmt.Sprintf("exec 9>%s; flock -n 9 || exit 3; exec 9>&-; flock -n %s true || exit 4", name, name)
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("flock is not installed")
	}
	cmd := exec.Command("sh", "-c", script)
	hit := false
	r, err := Start(cmd, Plan{Below: []string{filepath.Dir(name)}, Fault: func(c Call) Fault {
		if c.Name != "close" || hit {
			return Fault{}
		}
		hit = true
		return Errno(syscall.EIO)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
	if !hit {
		t.Errorf("nothing was closed: %v", r.Calls())
	}
}

// What cannot be started is an error, with its reason.
func TestStartFails(t *testing.T) {
	Need(t)
	if _, err := Start(exec.Command("/nonexistent/program"), Plan{}); err == nil {
		t.Error("no error")
	}
}
