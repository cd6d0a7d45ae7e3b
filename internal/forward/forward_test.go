package forward

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/alias"
)

var both = &Files{Names: []string{".forward", ".qmail"}, Delimiters: "+"}

func show(f *File, err error) string {
	if err != nil {
		return "error " + err.Error()
	}
	if f == nil {
		return "none"
	}
	var l []string
	for _, t := range f.Targets {
		l = append(l, fmt.Sprintf("%v %s", t.Kind, t))
	}
	if f.QMail {
		l = append(l, "qmail")
	}
	return strings.Join(l, ", ")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLook(t *testing.T) {
	home := t.TempDir()
	if got := show(both.Look(home, "")); got != "none" {
		t.Error(got)
	}
	write(t, home+"/.qmail", "# mine\n&carol@example.net\n./Maildir/\n./box\n/var/x\n|cmd a, b\ndave\n")
	want := "address carol@example.net, file " + home + "/Maildir/, file " + home + "/box, file /var/x, pipe |cmd a, b, local dave, qmail"
	if got := show(both.Look(home, "x")); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	write(t, home+"/.qmail-a-default", "a@x.example\n")
	write(t, home+"/.qmail-default", "d@x.example\n")
	write(t, home+"/.qmail-a-b:c", "b@x.example\n")
	for tag, want := range map[string]string{
		"A-B.c": "address b@x.example, qmail", "a-b": "address a@x.example, qmail", "a": "address d@x.example, qmail", "a/../x": want,
	} {
		if got := show(both.Look(home, tag)); got != want {
			t.Errorf("%s: %s, want %s", tag, got, want)
		}
	}
	write(t, home+"/.forward", "\\bob, \"|/usr/bin/vacation bob\", bob@elsewhere.example\n# that is all\n/dev/null\n")
	write(t, home+"/.forward+x", "")
	write(t, home+"/.forward+y", ":include:/etc/passwd\na..b\n")
	for tag, want := range map[string]string{
		"":  `local \bob, pipe |/usr/bin/vacation bob, address bob@elsewhere.example, blackhole :blackhole:`,
		"x": "none",
		"Y": "bad :include: in a forward file, bad ",
	} {
		if got := show(both.Look(home, tag)); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s, want %s", tag, got, want)
		}
	}
	if got := show((&Files{}).Look(home, "")); got != "none" {
		t.Error("no files are configured:", got)
	}
}

// D05: what is not safe makes mail wait, and is said.
func TestD05_Unsafe(t *testing.T) {
	for what, change := range map[string]func(home string) error{
		"writable by its group (":         func(h string) error { return os.Chmod(h+"/.forward", 0o664) },
		"writable by everyone (":          func(h string) error { return os.Chmod(h+"/.forward", 0o646) },
		": writable by its group (chmod ": func(h string) error { return os.Chmod(h, 0o775) },
		"sticky bit":                      func(h string) error { return os.Chmod(h, 0o755|os.ModeSticky) },
		"no such file":                    os.RemoveAll,
		"symbolic link": func(h string) error {
			return joined(os.Rename(h+"/.forward", h+"/x"), os.Symlink("x", h+"/.forward"))
		},
		"not a regular file": func(h string) error { return joined(os.Remove(h+"/.forward"), unix.Mkfifo(h+"/.forward", 0o600)) },
		".forward: not a regular file": func(h string) error {
			return joined(os.Remove(h+"/.forward"), os.Mkdir(h+"/.forward", 0o700))
		},
		"larger than 64 KiB": func(h string) error { return os.Truncate(h+"/.forward", 100<<20) },
		"NUL":                func(h string) error { return os.WriteFile(h+"/.forward", []byte("a\x00b"), 0o600) },
		"more than 100": func(h string) error {
			return os.WriteFile(h+"/.forward", []byte(strings.Repeat("a@b.example\n", 101)), 0o600)
		},
		"belongs to uid": func(h string) error {
			if os.Geteuid() != 0 {
				return os.WriteFile(h+"/.forward", nil, 0o600)
			}
			return os.Chown(h+"/.forward", 12345, 12345)
		},
	} {
		home := t.TempDir()
		os.Chmod(home, 0o755)
		write(t, home+"/.forward", "a@b.example\n")
		if err := change(home); err != nil {
			t.Fatal(what, err)
		}
		_, err := both.Look(home, "")
		if what == "belongs to uid" && os.Geteuid() != 0 {
			continue // nobody but root can give files away
		}
		if err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), home) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A home that its group may write is no matter where there is no file.
	home := t.TempDir()
	os.Chmod(home, 0o775)
	if got := show(both.Look(home, "")); got != "none" {
		t.Error(got)
	}
}

func joined(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestNames(t *testing.T) {
	if got := qmailNames("a-b"); !slices.Equal(got, []string{".qmail-a-b", ".qmail-a-default", ".qmail-default"}) {
		t.Error(got)
	}
	if got := len(qmailNames(strings.Repeat("-", 64))); got > 25 {
		t.Error(got, "names")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("\\bob, |cmd\n&x@y\n./M/\n:include:/x")
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func() ([]alias.Target, error){
			func() ([]alias.Target, error) { return alias.ParseForward("f", text) },
			func() ([]alias.Target, error) { return alias.ParseQMail("f", text, "/home/x") },
		} {
			list, err := parse()
			if err != nil {
				continue
			}
			for _, x := range list {
				if x.Kind == alias.Include || x.Pos.Line == 0 || strings.ContainsAny(x.Text, "\n\x00") {
					t.Errorf("%+v", x)
				}
			}
		}
	})
}

// What was not there is not looked for again while the home is as it was, and found at once when it is made.
func TestNone(t *testing.T) {
	home := t.TempDir()
	f := &Files{Names: both.Names, Delimiters: "+"}
	look := func(want string) {
		t.Helper()
		if got := show(f.Look(home, "")); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	look("none")
	if len(f.none) != 0 {
		t.Error("a home that has just changed is believed")
	}
	write(t, home+"/.forward", "a@b.example\n")
	look("address a@b.example")
	os.Remove(home + "/.forward")
	long := unix.NsecToTimespec(time.Now().Add(-time.Hour).UnixNano())
	f.none = map[string]state{}
	var st unix.Stat_t
	if err := unix.Stat(home, &st); err != nil {
		t.Fatal(err)
	}
	st.Ctim = long // which nobody can set
	f.noteNone(home, "", &st)
	if len(f.none) != 1 || f.isNone(home, "") {
		t.Error("another state is taken for this")
	}
	st.Ctim = unix.Timespec{}
	if unix.Stat(home, &st); f.isNone(home, "x") {
		t.Error("of another tag")
	}
	f.none[home+"\x00"] = stateOf(&st)
	look("none")
	if !f.isNone(home, "") {
		t.Error("it is looked for again")
	}
	time.Sleep(20 * time.Millisecond) // more than the grain of this kernel's clock
	os.Chmod(home, 0o755|os.ModeSticky)
	look("error " + home + " has the sticky bit: its mail waits (chmod -t lets it in)")
}
