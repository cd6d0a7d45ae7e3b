package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// M19: maildirs into which the program may not write. The message stays with whoever ran it, and is stored as soon as it can be.
func TestM19_NoPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("running as another user needs root")
	}
	const nobody = 65534
	for name, c := range map[string]struct {
		spoil, mend func(md string)
	}{
		"mode 0555":               {func(md string) { os.RemoveAll(md + "/new"); os.Chmod(md, 0o555) }, func(md string) { os.Chmod(md, 0o700) }},
		"tmp is not writable":     {func(md string) { os.Chmod(md+"/tmp", 0o555) }, func(md string) { os.Chmod(md+"/tmp", 0o700) }},
		"new is not writable":     {func(md string) { os.Chmod(md+"/new", 0o555) }, func(md string) { os.Chmod(md+"/new", 0o700) }},
		"owned by another":        {func(md string) { own(md, 0) }, func(md string) { own(md, nobody) }},
		"above it, not to be had": {func(md string) { os.Chmod(filepath.Dir(md), 0) }, func(md string) { os.Chmod(filepath.Dir(md), 0o700) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			// Nobody can read what is below the test's own directories otherwise.
			for dir := s.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				os.Chmod(dir, 0o755)
			}
			os.Chmod(s.conf, 0o644)
			os.Chmod(s.dir+"/users", 0o644)
			os.Chmod(s.dir+"/aliases", 0o644)
			own(s.dir+"/mail", nobody)
			filter := func() (int, string) {
				p := program(t, "-C", s.conf, "bob")
				self := copyOf(t, p.Path)
				p.Path, p.Dir = self, "/"
				p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
				p.Stdin = strings.NewReader("Subject: x\n\nbody\n")
				var errs strings.Builder
				p.Stderr = &errs
				if err := p.Run(); err != nil && p.ProcessState == nil {
					t.Fatal(err)
				}
				return p.ProcessState.ExitCode(), errs.String()
			}
			if code, errs := filter(); code != 0 {
				t.Fatalf("exit %d: %s", code, errs)
			}
			md := s.maildir("bob")
			c.spoil(md)
			if code, errs := filter(); code != 75 || !strings.Contains(errs, "permission denied") && !strings.Contains(errs, "no such file") || strings.Count(errs, "\n") != 1 {
				t.Errorf("exit %d: %s", code, errs)
			}
			c.mend(md)
			if code, errs := filter(); code != 0 {
				t.Errorf("afterwards: exit %d: %s", code, errs)
			}
			if tmp, _ := filepath.Glob(md + "/tmp/*"); len(tmp) != 0 {
				t.Errorf("left %q", tmp)
			}
			want := 2
			if name == "mode 0555" {
				want = 1 // the first went with new/
			}
			if m := s.messages("bob"); len(m) != want {
				t.Errorf("stored %q", m)
			}
		})
	}
}

func own(dir string, id int) {
	filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error { return os.Chown(path, id, id) })
}

// copyOf is the program where everybody may run it.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "deliver")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	self := filepath.Join(dir, "deliver")
	if err := os.WriteFile(self, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return self
}

// M14: a machine whose name is no name. Without hostname in the configuration the name of the machine is taken if it is
// one; file names stay file names.
func TestM14_MachineName(t *testing.T) {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("unshare is missing")
	}
	if err := exec.Command(unshare, "-u", "true").Run(); err != nil {
		t.Skip("unshare -u needs root: ", err)
	}
	for _, name := range []string{"box", "x/y:2,S", "a b", "", "localhost", strings.Repeat("a", 64), "../../x", "-C", "x\ny"} {
		s := newSite(t)
		b, _ := os.ReadFile(s.conf)
		s.file("postamt.conf", strings.Replace(string(b), "hostname mx.example.org\n", "", 1))
		p := program(t, "-C", s.conf, "bob")
		p.Args = append([]string{unshare, "-u", "sh", "-c", `printf %s "$0" >/proc/sys/kernel/hostname && exec "$@"`, name, p.Path}, p.Args[1:]...)
		p.Path = unshare
		p.Stdin = strings.NewReader("Subject: x\n\nbody\n")
		out, err := p.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v\n%s", name, err, out)
			continue
		}
		m := s.messages("bob")
		if len(m) != 1 {
			t.Errorf("%q: stored %q", name, m)
			continue
		}
		if base := filepath.Base(m[0]); strings.ContainsAny(base, ": \n") || strings.Count(base, ",") != 2 {
			t.Errorf("%q: stored as %q", name, base)
		}
	}
}
