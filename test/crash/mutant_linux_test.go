package crash

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// findings takes what a check finds wrong, where that is what is wanted.
type findings struct {
	testing.TB
	mu    sync.Mutex
	lines []string
}

func (f *findings) Helper()             {}
func (f *findings) Logf(string, ...any) {}

func (f *findings) Error(args ...any) { f.add(fmt.Sprint(args...)) }

func (f *findings) Errorf(format string, args ...any) { f.add(fmt.Sprintf(format, args...)) }

func (f *findings) add(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, line)
}

// lost is the first line that says that somebody's mail is gone, "" if none does.
func (f *findings) lost() string {
	for _, line := range f.lines {
		if strings.HasPrefix(line, "LOST: ") {
			return line
		}
	}
	return ""
}

// mutant builds the programs with one change of their source, which must fit in one place, and returns where they are.
func mutant(t *testing.T, file, old, new string) (bin string) {
	t.Helper()
	root, err := peers.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(root, file)
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), old); n != 1 {
		t.Fatalf("%s has %q %d times", file, old, n)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err == nil {
		err = os.WriteFile(changed, []byte(strings.Replace(string(text), old, new, 1)), 0o600)
	}
	if err == nil {
		err = os.WriteFile(overlay, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"build", "-overlay", overlay, "-o", dir + "/"}
	for _, name := range suite.Programs {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// TestPowerCutNoticesAMissingSync shows that TestPowerCutAtAnyWrite can fail: of programs that leave out one kind of sync, and
// are otherwise the same, it says that mail is lost.
func TestPowerCutNoticesAMissingSync(t *testing.T) {
	needFUSE(t)
	long := os.Getenv("POWERCUT") != ""
	for _, c := range []struct {
		name, file, old, new string
		short                bool
	}{
		{"of files", "internal/durable/durable.go", "return f.Sync()", "return nil", false},
		{"of directories", "internal/durable/durable.go", "return dir.Sync()", "return nil", true},
		{"of batches", "internal/durable/durable.go", `return pathError("syncfs", f.Name(), syncfs(f))`, "return nil", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.short && !long {
				t.Skip("only with POWERCUT")
			}
			seed := chance(t)
			r := rand.New(rand.NewPCG(seed, 1<<62))
			rec := recordRun(t, cutDisks[0], mutant(t, c.file, c.old, c.new), seed)
			rec.tolerant = true // what is in corrupt is lost all the same, and need not be waited for
			first := rec.told()[0]
			moments := slices.DeleteFunc(rec.moments(60, r), func(n int) bool { return n <= first }) // nobody can lose anything
			for i, n := range moments {
				f := &findings{TB: t}
				rec.cut(f, n, r)
				if line := f.lost(); line != "" {
					t.Logf("at cut %d of at most %d: %s", i+1, len(moments), line)
					return
				}
			}
			t.Errorf("%d cuts, and nothing is missed", len(moments))
		})
	}
}
