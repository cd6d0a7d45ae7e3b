package crash

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk is a file system of a test's own.
type disk struct {
	kind  string // tmpfs, ext4 or xfs
	image string // file that holds it, unless tmpfs
	mount string
}

// tool runs a program of the system administrator; a missing one skips the test, by name.
func tool(t testing.TB, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err != nil {
			path, err = exec.LookPath(dir + name)
		}
	}
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
}

// newDisk makes a file system and mounts it on the directory mount until the test ends. options are for mkfs, or the mount of a tmpfs.
func newDisk(t *testing.T, mount, kind string, size int64, options ...string) *disk {
	t.Helper()
	needRoot(t)
	d := &disk{kind: kind, mount: mount}
	if kind == "tmpfs" {
		if err := unix.Mount("tmpfs", mount, "tmpfs", 0, strings.Join(options, ",")); err != nil {
			t.Fatalf("mount tmpfs: %v", err)
		}
	} else {
		d.image = filepath.Join(t.TempDir(), "image")
		makeImage(t, d.image, kind, size, options...)
		d.attach(t)
	}
	t.Cleanup(func() { d.detach(t) })
	return d
}

// makeImage makes a file that holds an empty file system.
func makeImage(t testing.TB, path, kind string, size int64, options ...string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	tool(t, "mkfs."+kind, append(options, "-q", path)...)
}

// attach mounts the image; the loop device goes with the mount.
func (d *disk) attach(t testing.TB) {
	t.Helper()
	// A mount namespace that another test made meanwhile holds a copy of the mount, and with it the file system that was shut
	// down: until that namespace ends, mounting the image again gives the dead file system back.
	// For that time, too, XFS would refuse another image with the same UUID, as the cuts of one recording have.
	options := "loop"
	if d.kind == "xfs" {
		options = "loop,nouuid"
	}
	for range 600 {
		tool(t, "mount", "-t", d.kind, "-o", options, d.image, d.mount)
		probe := filepath.Join(d.mount, ".probe")
		err := os.WriteFile(probe, nil, 0o600)
		if !errors.Is(err, unix.EIO) {
			os.Remove(probe)
			return
		}
		d.detach(t)
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s is still shut down after a minute", d.image)
}

// detach unmounts. A program that has just been killed may keep the file system busy for a moment.
func (d *disk) detach(t testing.TB) {
	t.Helper()
	var err error
	for range 200 {
		if err = unix.Unmount(d.mount, 0); err != unix.EBUSY {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	if err != nil && err != unix.EINVAL { // EINVAL: not mounted
		t.Errorf("unmount %s: %v", d.mount, err)
		unix.Unmount(d.mount, unix.MNT_DETACH)
	}
}

// shutdownIoctl is EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN, both _IOR('X', 125, u32): the file system stops at once, as
// if the power had gone. noLogFlush: what the journal has not on disk yet is lost too.
const (
	shutdownIoctl = 0x8004587d
	noLogFlush    = 2
)

// cut takes the power away. Every call to the file system fails from here on.
func (d *disk) cut(t testing.TB) {
	t.Helper()
	dir, err := unix.Open(d.mount, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	if err := unix.IoctlSetPointerInt(dir, shutdownIoctl, noLogFlush); err != nil {
		t.Fatalf("shutdown of %s: %v", d.kind, err)
	}
}

// fill takes all room, or all inodes, and returns what gives it back.
func (d *disk) fill(t *testing.T, inodes bool) (free func()) {
	t.Helper()
	dir := filepath.Join(d.mount, "ballast")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	files := 0
	for full := false; !full; files++ {
		f, err := os.CreateTemp(dir, "")
		if err != nil {
			break
		}
		for size := len(block); !inodes && size > 0; {
			if _, err := f.Write(block[:size]); err != nil {
				size /= 4 // the last corners too
				full = true
			}
		}
		f.Close()
	}
	t.Logf("%s filled with %d files", d.mount, files)
	return func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}
