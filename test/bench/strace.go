package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postamt/test/proc"
)

// syscalls returns how many system calls all processes of the server made while f ran, those of processes that were
// started meanwhile included.
func (b *bench) syscalls(s *server, f func() error) (float64, error) {
	summary := filepath.Join(b.base, "strace")
	defer os.Remove(summary)
	args := []string{"-f", "-c", "-o", summary}
	pids := proc.Tree(s.roots()...)
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	cmd := exec.Command("strace", args...)
	messages, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	attached := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(messages)
		for left := len(pids); lines.Scan(); {
			// One line for each process at first; later ones for what it starts.
			if strings.Contains(lines.Text(), "attached") {
				if left--; left == 0 {
					close(attached)
				}
			}
		}
		io.Copy(io.Discard, messages)
	}()
	select {
	case <-attached:
		err = f()
	case <-read:
		err = fmt.Errorf("strace ended")
	case <-time.After(20 * time.Second):
		err = fmt.Errorf("strace did not attach")
	}
	cmd.Process.Signal(syscall.SIGINT)
	<-read
	cmd.Wait()
	if err != nil {
		return 0, err
	}
	return total(summary)
}

// total reads the number of calls from the last line of strace's summary.
func total(summary string) (float64, error) {
	text, err := os.ReadFile(summary)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		// "100.00    0.012345          12      1028        38 total"; the column of errors may be empty.
		if f := strings.Fields(line); len(f) >= 5 && f[len(f)-1] == "total" {
			return strconv.ParseFloat(f[3], 64)
		}
	}
	return 0, fmt.Errorf("strace: no total in %s", text)
}

// pause waits for what a server does after its reply.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
