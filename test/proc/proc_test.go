package proc

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A shell that burns CPU in a child, waits for it, and then lives on with another child.
const script = `sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo ready; cat; true`

func TestTreeCPUAndPSS(t *testing.T) {
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for len(Tree(pid)) != 2 { // cat has been forked
		if _, ok := Read(pid); !ok {
			t.Fatal("the shell ended")
		}
	}
	if got, want := sorted(Group(pid)), sorted(Tree(pid)); !slices.Equal(got, want) {
		t.Errorf("group %v, tree %v", got, want)
	}
	if cpu := CPU(pid); cpu < 10*time.Millisecond || cpu > time.Minute {
		t.Errorf("CPU %v of a child that is gone", cpu)
	}
	pss, err := PSS(Tree(pid)...)
	if err != nil || pss < 50<<10 || pss > 100<<20 {
		t.Errorf("PSS %d, %v", pss, err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if pids := Tree(pid); len(pids) != 0 {
		t.Errorf("tree of an ended process: %v", pids)
	}
	if pss, err := PSS(pid); pss != 0 || err != nil {
		t.Errorf("PSS of an ended process: %d, %v", pss, err)
	}
}

func TestReadSelf(t *testing.T) {
	s, ok := Read(os.Getpid())
	if !ok || s.Parent != os.Getppid() || s.Group != syscall.Getpgrp() {
		t.Errorf("%+v, %v", s, ok)
	}
}

func sorted(pids []int) []int { slices.Sort(pids); return pids }
