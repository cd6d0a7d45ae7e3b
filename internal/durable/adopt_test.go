package durable

import (
	"io/fs"
	"os"
	"syscall"
	"testing"
)

// What a crash has left of a directory before it was like that in which it is becomes so when it is made again; what says much of messages is shared only where that was meant.
func TestAdoptLater(t *testing.T) {
	d := openDirT(t, t.TempDir())
	for _, err := range []error{d.Chmod(0o770 | fs.ModeSetgid), os.Mkdir(d.Name()+"/half", 0o700), (*Ops)(nil).MkdirLike(d, "half")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(d.Name() + "/half"); err != nil || st.Mode().Perm() != 0o770 {
		t.Error(st.Mode(), err)
	}
	for mode, want := range map[fs.FileMode]fs.FileMode{0o755: 0o600, 0o770: 0o600, 0o770 | fs.ModeSetgid: 0o660} {
		if err := d.Chmod(mode); err != nil {
			t.Fatal(err)
		}
		f, err := Create(d, "f", 0o600)
		if err == nil {
			err = (*Ops)(nil).AdoptShared(f, d)
		}
		if err != nil {
			t.Fatal(err)
		}
		if st, err := f.Stat(); err != nil || st.Mode().Perm() != want {
			t.Errorf("in %v: %v, %v", mode, st.Mode(), err)
		}
		f.Close()
		os.Remove(f.Name())
	}
}

// What is made in a shared directory is for those whom the directory is for, whatever the umask.
func TestAdopt(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for mode, want := range map[fs.FileMode][2]fs.FileMode{ // of the file, of the directory
		0o700:                 {0o600, 0o700},
		0o755:                 {0o644, 0o755},
		0o750:                 {0o640, 0o750},
		0o770 | fs.ModeSetgid: {0o660, 0o770 | fs.ModeSetgid},
		0o775 | fs.ModeSetgid: {0o664, 0o775 | fs.ModeSetgid},
		0o700 | fs.ModeSetgid: {0o600, 0o700 | fs.ModeSetgid},
	} {
		d := openDirT(t, t.TempDir())
		if os.Geteuid() == 0 {
			if err := d.Chown(-1, 12345); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Chmod(mode); err != nil {
			t.Fatal(err)
		}
		f, err := Create(d, "f", 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := Adopt(f, d); err != nil {
			t.Fatal(err)
		}
		if err := (*Ops)(nil).MkdirLike(d, "d"); err != nil {
			t.Fatal(err)
		}
		if err := (*Ops)(nil).MkdirLike(d, "d"); err != nil {
			t.Error("again:", err)
		}
		for i, name := range []string{"f", "d"} {
			st, err := os.Stat(d.Name() + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if got := st.Mode() &^ fs.ModeDir; got != want[i] {
				t.Errorf("in %v: %s has %v", mode, name, got)
			}
			if gid := st.Sys().(*syscall.Stat_t).Gid; os.Geteuid() == 0 && mode&0o070 != 0 && gid != 12345 {
				t.Errorf("in %v: %s is of group %d", mode, name, gid)
			}
		}
		sub, made, err := (*Ops)(nil).OpenOrMake(d, "d")
		if err != nil || made {
			t.Error("made another", made, err)
		}
		sub.Close()
	}
}
