package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// MemoryGroup is a cgroup with a limit of memory, in which what the kernel keeps of files counts too.
type MemoryGroup struct {
	dir     string
	limit   string // the file with it
	none    string // what is no limit
	peak    string
	happens string // the file that counts who was killed
}

// cgroups is where they are, of version 2, or with directories of version 1 in it.
const cgroups = "/sys/fs/cgroup"

// NewMemoryGroup makes an empty group with so many octets, and removes it when the test has ended. Without the rights, or a kernel that limits memory, the test is skipped.
func NewMemoryGroup(t testing.TB, octets int) *MemoryGroup {
	t.Helper()
	g, parent := &MemoryGroup{limit: "memory.limit_in_bytes", none: "-1", peak: "memory.max_usage_in_bytes", happens: "memory.oom_control"}, cgroups+"/memory"
	var st unix.Statfs_t
	if unix.Statfs(cgroups, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		*g, parent = MemoryGroup{limit: "memory.max", none: "max", peak: "memory.peak", happens: "memory.events"}, cgroups
		if err := os.WriteFile(cgroups+"/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
			t.Skip("no memory cgroups: ", err)
		}
	}
	var err error
	if g.dir, err = os.MkdirTemp(parent, "postamt-"); err != nil {
		t.Skip("no memory cgroups: ", err)
	}
	t.Cleanup(func() {
		// A group is busy until what ended in it is gone.
		Await(time.Minute, "an empty group", func() bool { return os.Remove(g.dir) == nil })
	})
	if err := g.Limit(octets); err != nil {
		t.Skip("no memory cgroups: ", err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC { // of version 1 the limit is of memory alone, and swap stays as it is
		os.WriteFile(filepath.Join(g.dir, "memory.swap.max"), []byte("0"), 0)
	}
	return g
}

// Limit is another limit from now on; 0: none.
func (g *MemoryGroup) Limit(octets int) error {
	text := g.none
	if octets > 0 {
		text = strconv.Itoa(octets)
	}
	return os.WriteFile(filepath.Join(g.dir, g.limit), []byte(text), 0)
}

// Add puts a process into the group.
func (g *MemoryGroup) Add(pid int) error {
	return os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// Enter is a command of sh that puts it there itself.
func (g *MemoryGroup) Enter() string { return "echo $$ >" + g.dir + "/cgroup.procs" }

// Killed is how many processes the kernel has killed for lack of memory in the group.
func (g *MemoryGroup) Killed() (n int, err error) {
	b, err := os.ReadFile(filepath.Join(g.dir, g.happens))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "oom_kill %d", &n); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s/%s does not say who was killed", g.dir, g.happens)
}

// Peak is the most octets that were used at a time, or what keeps that from being known.
func (g *MemoryGroup) Peak() string {
	b, err := os.ReadFile(filepath.Join(g.dir, g.peak))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
