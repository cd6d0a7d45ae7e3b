// Package proc measures running programs from outside by what Linux says in /proc: which processes belong
// together, what CPU time they used, how much memory is theirs.
//
// Every figure is about a set of process ids that the caller names; a process that ended meanwhile counts as nothing.
package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Stat is what this package needs of one line of /proc/PID/stat.
type Stat struct {
	Pid, Parent, Group int
	State              byte          // R, S, D, Z and others, as in proc(5)
	CPU                time.Duration // user and system time of the process
	Reaped             time.Duration // the same of its children that ended and were waited for, and of theirs
}

// userHZ is the unit of times in /proc; 100 on every architecture that Linux runs on today.
const userHZ = 100

// Read returns the Stat of one process, and false when there is none.
func Read(pid int) (Stat, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Stat{}, false
	}
	// The name in parentheses may hold anything; the last parenthesis ends it.
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return Stat{}, false
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 15 {
		return Stat{}, false
	}
	number := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	ticks := func(i int) time.Duration { return time.Duration(number(i)) * time.Second / userHZ }
	return Stat{
		Pid: pid, State: f[0][0], Parent: number(1), Group: number(2),
		CPU: ticks(11) + ticks(12), Reaped: ticks(13) + ticks(14),
	}, true
}

// all returns every process that is not a zombie.
func all() []Stat {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var stats []Stat
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if s, ok := Read(pid); ok && s.State != 'Z' {
			stats = append(stats, s)
		}
	}
	return stats
}

// Group returns the living processes of a process group.
func Group(pgid int) []int {
	var pids []int
	for _, s := range all() {
		if s.Group == pgid {
			pids = append(pids, s.Pid)
		}
	}
	return pids
}

// Tree returns the given processes that live, with all their living descendants, each once.
func Tree(roots ...int) []int {
	children := map[int][]int{}
	living := map[int]bool{}
	for _, s := range all() {
		children[s.Parent] = append(children[s.Parent], s.Pid)
		living[s.Pid] = true
	}
	var pids []int
	seen := map[int]bool{}
	for todo := roots; len(todo) > 0; {
		pid := todo[0]
		todo = todo[1:]
		if seen[pid] || !living[pid] {
			continue
		}
		seen[pid] = true
		pids = append(pids, pid)
		todo = append(todo, children[pid]...)
	}
	return pids
}

// CPU returns the time that the processes, their descendants and those of them that ended have used so far. The
// resolution is 10 ms for each process.
func CPU(roots ...int) time.Duration {
	var sum time.Duration
	for _, pid := range Tree(roots...) {
		if s, ok := Read(pid); ok {
			sum += s.CPU + s.Reaped
		}
	}
	return sum
}

// PSS returns the proportional set size of the processes together, in bytes: their own memory, and of what is
// shared, libraries above all, a share for each user of it. Other people's processes need root.
func PSS(pids ...int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
				if err != nil {
					return 0, err
				}
				sum += kib << 10
				break
			}
		}
	}
	return sum, nil
}
