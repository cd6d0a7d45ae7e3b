package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postamt/test/peers"
)

// imageSize is the size of a file system of our own; the file is sparse.
const imageSize = 8 << 30

// makeBase returns the directory in which everything is measured, and what removes it.
func makeBase(kind, in string) (base string, clean func(), err error) {
	top, err := os.MkdirTemp(in, "pab-")
	if err != nil {
		return "", nil, err
	}
	if err := os.Chmod(top, 0o755); err != nil { // Postfix's and Exim's users must get in
		return "", nil, err
	}
	removeTop := func() { os.RemoveAll(top) }
	if kind == "root" {
		return top, removeTop, nil
	}
	mkfs, ok := map[string][]string{"ext4": {"mkfs.ext4", "-q", "-F"}, "xfs": {"mkfs.xfs", "-q"}}[kind]
	if !ok {
		removeTop()
		return "", nil, fmt.Errorf("-fs %s: root, ext4 or xfs", kind)
	}
	image, mount := filepath.Join(top, "image"), filepath.Join(top, "mnt")
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(imageSize)
		f.Close()
	}
	if err == nil {
		err = os.Mkdir(mount, 0o755)
	}
	if err == nil {
		err = command(append(mkfs, image)...)
	}
	if err == nil {
		err = command("mount", "-o", "loop", image, mount) // umount frees the loop device as well
	}
	if err != nil {
		removeTop()
		return "", nil, err
	}
	return mount, func() {
		for range 20 {
			if err = command("umount", mount); err == nil {
				removeTop()
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Fprintf(os.Stderr, "bench: %v; %s is left\n", err, top)
	}, nil
}

func command(args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// describe prints what the figures depend on besides the programs.
func describe(base string) {
	fmt.Printf("CPUs: %d %s; kernel: %s; Go: %s\n", runtime.NumCPU(), cpuModel(), firstLine("/proc/sys/kernel/osrelease"), runtime.Version())
	device, kind, options := mountOf(base)
	fmt.Printf("file system: %s on %s (%s)%s\n", kind, device, options, journal(device, kind))
	fmt.Printf("the file system alone, a second: files made durable (create, write 4 KiB, fsync): %.0f by 1 writer, %.0f by 10;\n"+
		"  queue file and maildir file (the same twice, rename, fsync of new/, unlink): %.0f by 10 writers with nothing else to do\n",
		perSecond(base, 1, durableFile), perSecond(base, 10, durableFile), perSecond(base, 10, storedFile))
	version := func(name string, args ...string) string {
		cmd, err := peers.Command(name, args...)
		if err != nil {
			return "missing"
		}
		out, _ := cmd.Output()
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	fmt.Printf("Postfix: %s; Exim: %s\n", version("postconf", "-dh", "mail_version"), version("exim4", "-bV"))
	fmt.Println("Postfix's settings: Debian's defaults, no chroot, but: default_process_limit 20 above the sessions, client limits off,",
		"in_flow_delay 0, smtp_dns_support_level disabled, texthash tables, maillog_file; delivery by virtual(8), relay by smtp(8).")
	fmt.Println("Exim's settings: smtp_accept_queue_per_connection 0, no limit on connections, no privilege. postamt's: defaults, but no",
		"limits by client or connection. Accept only: qmgr is not started, queue_only is set, queued is not started.")
}

// mountOf returns the file system that holds path: the mount point that is its longest prefix.
func mountOf(path string) (device, kind, options string) {
	mounts, _ := os.ReadFile("/proc/mounts")
	longest := 0
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 4 || len(f[1]) < longest {
			continue
		}
		if f[1] == "/" || path == f[1] || strings.HasPrefix(path, f[1]+"/") {
			longest, device, kind, options = len(f[1]), f[0], f[2], f[3]
		}
	}
	return device, kind, options
}

// journal says whether an ext file system has one, and how data goes with it, from what the kernel tells everyone.
func journal(device, kind string) string {
	if !strings.HasPrefix(kind, "ext") {
		return ""
	}
	name := filepath.Base(device)
	if threads, _ := filepath.Glob("/proc/fs/jbd2/" + name + "-*"); len(threads) == 0 {
		return ", no journal"
	}
	options, _ := os.ReadFile("/proc/fs/" + kind + "/" + name + "/options")
	for line := range strings.Lines(string(options)) {
		if strings.HasPrefix(line, "data=") {
			return ", journal, " + strings.TrimSpace(line)
		}
	}
	return ", journal"
}

// perSecond measures for a second how often so many writers, each in a directory of its own, get through step. What
// step does is what a server cannot do without, so no server on this file system is faster.
func perSecond(base string, writers int, step func(dir, name string) error) float64 {
	top, err := os.MkdirTemp(base, "fsync-")
	if err != nil {
		return 0
	}
	defer os.RemoveAll(top)
	var count atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for w := range writers {
		dir := filepath.Join(top, fmt.Sprint(w))
		os.MkdirAll(dir+"/new", 0o700)
		wg.Go(func() {
			for i := 0; time.Since(start) < time.Second; i++ {
				if step(dir, fmt.Sprint(i)) != nil {
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(count.Load()) / time.Since(start).Seconds()
}

// durableFile is what accepting a message asks of the file system.
func durableFile(dir, name string) error {
	fd, err := syscall.Open(filepath.Join(dir, name), syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if _, err := syscall.Write(fd, make([]byte, 4096)); err != nil {
		return err
	}
	return syscall.Fsync(fd)
}

// storedFile is what accepting and storing a message asks of it: the queue's file, the maildir's, which gets its name when
// it is whole, the sync of that name, and the end of the queue's file.
func storedFile(dir, name string) error {
	if err := errors.Join(durableFile(dir, name), durableFile(dir, name+".tmp")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, name+".tmp"), filepath.Join(dir, "new", name)); err != nil {
		return err
	}
	fd, err := syscall.Open(filepath.Join(dir, "new"), syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return errors.Join(syscall.Fsync(fd), os.Remove(filepath.Join(dir, name)))
}

func firstLine(path string) string {
	b, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
