package mbox

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A disk that is full, as a system has it.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	must(t, Append(t.Context(), dir+"/box", entry("id1", "h\n"), Options{}))
	err := Append(t.Context(), dir+"/box", entry("id2", strings.Repeat("x\n", 200<<10)), Options{})
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrUnknown) || text(t, dir+"/box") != whole("id1", "h\n") {
		t.Errorf("%v; %d octets", err, len(text(t, dir+"/box")))
	}
	must(t, Append(t.Context(), dir+"/box", entry("id3", "h\n"), Options{}))
	if got := text(t, dir+"/box"); got != whole("id1", "h\n")+whole("id3", "h\n") {
		t.Errorf("%q", got)
	}
}
