package privilege

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	const passwd = "# accounts\n\nroot:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001:A,B:/home/alice:/bin/sh\nalice:x:5:5::/:\nshort:x:1\n" +
		"negative:x:-1:1::/:\nlast:x:4294967295:1::/:\nplus:x:+7:1::/:\nbad:x:7:seven::/:\n"
	const group = "staff:x:50:bob,alice\nalice:x:1001:\nwheel:x:10:alicia\nown:x:1001:alice\nbroken\n"
	for _, c := range []struct {
		name     string
		uid, gid uint32
		groups   []uint32
		bad      bool
	}{
		{name: "root"}, {name: "alice", uid: 1000, gid: 1001}, {name: "nobody", bad: true}, {name: "", bad: true}, {name: "short", bad: true},
		{name: "negative", bad: true}, {name: "last", bad: true}, {name: "plus", bad: true}, {name: "bad", bad: true}, {name: "# accounts", bad: true},
	} {
		a, err := findUser(strings.NewReader(passwd), named(c.name))
		if (err != nil) != c.bad || !c.bad && (a.UID != c.uid || a.GID != c.gid || a.Name != c.name) {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
	}
	a, _ := findUser(strings.NewReader(passwd), named("alice"))
	if err := a.addGroups(strings.NewReader(group)); err != nil || !slices.Equal(a.Groups, []uint32{1001, 50}) {
		t.Errorf("groups %v, %v", a.Groups, err)
	}
	for s, ok := range map[string]bool{"12:34": true, "0:0": true, "12:": false, ":34": false, "12:34:56": false, "-1:2": false, "4294967295:1": false, "1:x": false} {
		a, err := Find(s)
		if (err == nil) != ok || ok && len(a.Groups) != 1 {
			t.Errorf("%s: %+v, %v", s, a, err)
		}
	}
	if a, err := Find("root"); err != nil || a.UID != 0 || a.Home == "" {
		t.Errorf("root of this machine: %+v, %v", a, err)
	}
	if _, err := Find("no-such-name"); err == nil {
		t.Error("found")
	}
}

// The groups of a user id are those of its first name, and never root's.
func TestGroupsOf(t *testing.T) {
	const passwd = "# x:x:1000:1::/:\nmail:x:1000:1001::/:\nother:x:1000:1001::/:\nodd:x:x:1::/:\n"
	const group = "root:x:0:mail\nteam:x:50:mail\ntwo:x:51:other\nown:x:1001:mail\nthird:x:52:mail,other\n"
	a, err := findUser(strings.NewReader(passwd), hasID(1000))
	if err == nil {
		err = a.addGroups(strings.NewReader(group))
	}
	if got := a.groupsWith(7); err != nil || !slices.Equal(got, []uint32{7, 50, 52}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := findUser(strings.NewReader(passwd), hasID(5)); err != ErrNoAccount {
		t.Error(err)
	}
	if got, err := GroupsOf(4294967000, 9); err != nil || !slices.Equal(got, []uint32{9}) {
		t.Errorf("of nobody: %v, %v", got, err)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	make := func(name string, mode fs.FileMode) {
		if err := os.WriteFile(at(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chmod(at(name), mode)
	}
	make("closed", 0o600)
	make("open", 0o666)
	os.Mkdir(at("dir"), 0o755)
	os.Mkdir(at("tmp"), 0o700)
	os.Chmod(at("tmp"), 0o777|fs.ModeSticky)
	os.Mkdir(at("wide"), 0o700)
	os.Chmod(at("wide"), 0o777)
	l, err := net.Listen("unix", at("sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		use  Use
		want string // "" is well
	}{
		{Use{Path: at("closed"), Mode: 0o644}, ""},
		{Use{Path: at("closed"), Mode: 0o600, Owners: []uint32{}}, ""}, // our own
		{Use{Path: at("open"), Mode: 0o644}, "DIR/open: mode 0666; chmod g-w,o-w DIR/open mends it"},
		{Use{Path: at("dir"), Type: fs.ModeDir, Mode: 0o755}, ""},
		{Use{Path: at("tmp"), Type: fs.ModeDir, Mode: 0o755}, ""},
		{Use{Path: at("wide"), Type: fs.ModeDir, Mode: 0o775}, "DIR/wide: mode 0777; chmod o-w DIR/wide mends it"},
		{Use{Path: at("dir"), Mode: 0o755}, "DIR/dir: is a directory, not a file; remove it, or name another in the configuration"},
		{Use{Path: at("closed"), Type: fs.ModeSocket, Mode: 0o666}, "DIR/closed: is a file, not a socket; remove it, or name another in the configuration"},
		{Use{Path: at("sock"), Type: fs.ModeSocket, Mode: 0o777}, ""},
		{Use{Path: at("none"), Mode: 0o644}, ""},
		{Use{Path: at("none"), Mode: 0o644, Make: "touch it"}, "DIR/none: missing; touch it mends it"},
	} {
		got := ""
		if err := Check(c.use); err != nil {
			got = err.Error()
		}
		if got != strings.ReplaceAll(c.want, "DIR", dir) {
			t.Errorf("%+v:\n%s\nwant\n%s", c.use, got, c.want)
		}
	}
	if os.Geteuid() == 0 {
		os.Chown(at("closed"), 12345, 0)
		err := Check(Use{Path: at("closed"), Mode: 0o600, Owners: []uint32{54321}})
		if err == nil || !strings.HasSuffix(err.Error(), "belongs to uid 12345; chown 54321 "+at("closed")+" mends it") {
			t.Error(err)
		}
		if err := Check(Use{Path: at("closed"), Mode: 0o600, Owners: []uint32{12345}}, Use{Path: at("closed"), Mode: 0o600}); err != nil {
			t.Error(err)
		}
	}
	if err := Check(Use{Path: at("open")}, Use{Path: at("wide")}); strings.Count(err.Error(), "\n") != 1 {
		t.Error("not both:", err)
	}
}

func TestSandboxString(t *testing.T) {
	if s := (Sandbox{}).String(); s != "nothing" {
		t.Error(s)
	}
	if s := (Sandbox{Read: []string{"/a"}, Write: []string{"/b", "/c"}, Bind: true}).String(); s != "read /a write /b /c bind" {
		t.Error(s)
	}
}
