package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/mutf7"
)

// newRoot makes a maildir in a directory of its own, beside what must not be touched.
func newRoot(t testing.TB) (r *Root, path string) {
	t.Helper()
	outside := t.TempDir()
	path = outside + "/Maildir"
	for _, d := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(path+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := durable.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return OpenRoot(dir, nil), path
}

func folderNames(t testing.TB, r *Root) []string {
	t.Helper()
	folders, err := r.Folders()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range folders {
		names = append(names, f.Name)
		dir, opened, err := r.Open(f.Name)
		if err != nil || opened != f {
			t.Errorf("listed %v, opened %v, %v", f, opened, err)
			continue
		}
		dir.Close()
	}
	return names
}

// mkfolder makes a folder's directory as another program would.
func mkfolder(t testing.TB, path string) {
	t.Helper()
	for _, d := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(path+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFoldersOfOthers(t *testing.T) {
	r, path := newRoot(t)
	for _, d := range []string{".Sent", ".a.b", ".Entw&APw-rfe", ".Käse", ".Q&A", ".&AC4-", ".&AAA-x", ".INBOX", ".inbox.x", "..DOVECOT-TRASHED", "..gone.1", ".a..b", ".x.", ".\xff", ".~y", ".twice&AOQ-", ".twiceä"} {
		mkfolder(t, path+"/"+d)
	}
	os.WriteFile(path+"/.file", nil, 0o600)
	os.MkdirAll(path+"/.ssh", 0o700)
	os.Symlink("/etc", path+"/.etc")
	os.Symlink(".Sent", path+"/.link")
	os.MkdirAll(path+"/.curlink", 0o700)
	os.Symlink("../.Sent/cur", path+"/.curlink/cur")
	want := []string{"INBOX", "&AAA-x", "&AC4-", "Entwürfe", "Käse", "Q&A", "Sent", "a.b", "inbox.x", "twiceä"}
	if got := folderNames(t, r); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, f, err := r.Open("twiceä"); f.Dir != ".twice&AOQ-" {
		t.Error(f, err)
	}
	if _, f, err := r.Open("inbox"); f.Dir != "." || f.Name != Inbox {
		t.Error(f, err)
	}
	for _, name := range []string{"etc", "link", "ssh", "file", "curlink", "none", "Entw&APw-rfe"} {
		if _, _, err := r.Open(name); !errors.Is(err, ErrNoFolder) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCreateDeleteRename(t *testing.T) {
	r, path := newRoot(t)
	expect := func(want ...string) {
		t.Helper()
		if got := folderNames(t, r)[1:]; !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fails := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
	}
	ok(r.Create("a"))
	ok(r.Create("a.b"))
	ok(r.Create("a.b.c"))
	ok(r.Create("ab"))
	ok(r.Create("Entwürfe"))
	for _, n := range []string{"a", "Entwürfe", "INBOX", "iNboX"} {
		fails(r.Create(n), fs.ErrExist)
	}
	if _, err := os.Stat(path + "/.a.b/maildirfolder"); err != nil {
		t.Error(err)
	}
	expect("Entwürfe", "a", "a.b", "a.b.c", "ab")

	fails(r.Rename("a", "a.x"), ErrFolder)
	fails(r.Rename("a", "ab"), fs.ErrExist)
	fails(r.Rename("a", "a"), fs.ErrExist)
	fails(r.Rename("a", "INBOX"), fs.ErrExist)
	fails(r.Rename("a", "../x"), ErrFolder)
	fails(r.Rename("none", "x"), ErrNoFolder)
	fails(r.Rename("../x", "x"), ErrFolder)
	ok(r.Create("new.b"))
	fails(r.Rename("a", "new"), fs.ErrExist) // for the sake of a.b
	expect("Entwürfe", "a", "a.b", "a.b.c", "ab", "new.b")
	fails(r.Rename("a", strings.Repeat("x", 252)), ErrFolder) // for the sake of a.b.c
	ok(r.Delete("new.b"))
	ok(r.Rename("a", "new.ö"))
	expect("Entwürfe", "ab", "new.ö", "new.ö.b", "new.ö.b.c")
	ok(r.Rename("new", "n")) // there is none, but below it
	expect("Entwürfe", "ab", "n.ö", "n.ö.b", "n.ö.b.c")

	fails(r.Delete("inbox"), ErrFolder)
	fails(r.Delete("none"), ErrNoFolder)
	fails(r.Delete(".."), ErrFolder)
	os.MkdirAll(path+"/.n.&APY-/courierimapkeywords/deep", 0o700)
	os.WriteFile(path+"/.n.&APY-/courierimapkeywords/:list", nil, 0o600)
	ok(r.Delete("n.ö"))
	expect("Entwürfe", "ab", "n.ö.b", "n.ö.b.c")
	if left, _ := filepath.Glob(path + "/..*"); left != nil {
		t.Error(left)
	}
}

// A folder that is deleted a day after a message came into it: the message does not come again (M02).
func TestDeleteLeavesTombstones(t *testing.T) {
	r, path := newRoot(t)
	mkfolder(t, path+"/.lists")
	young, old, other := "1.Qq1Xab.h,S=1,W=1", "2.Qq2Xab.h,S=1,W=1", "3.M1P1.h"
	for _, n := range []string{"cur/" + young, "cur/" + old + ":2,S", "cur/" + other} {
		os.WriteFile(path+"/.lists/"+n, nil, 0o600)
	}
	then := time.Now().Add(-37 * time.Hour)
	os.Chtimes(path+"/.lists/cur/"+old+":2,S", then, then)
	if err := r.Delete("lists"); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(path + "/tmp/*")
	if len(left) != 1 || filepath.Base(left[0]) != young+".gone" {
		t.Error(left)
	}
}

// A delivery that has found the folder before it was deleted puts its message there just after.
func TestDeleteWhileAMessageArrives(t *testing.T) {
	r, path := newRoot(t)
	mkfolder(t, path+"/.lists")
	os.WriteFile(path+"/.lists/cur/1.old", nil, 0o600)
	dir, err := durable.OpenDir(path + "/.lists/new")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	renamed := false
	r.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpSyncDir && !renamed {
			renamed = true
			f, err := durable.Create(dir, "2.arrives", 0o600)
			if err != nil {
				t.Error(err)
			}
			f.Close()
		}
		return nil
	}}
	if err := r.Delete("lists"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "/new/2.arrives"); err != nil || !renamed {
		t.Error(err)
	}
	// Now it would be told.
	if f, err := durable.Create(dir, "3.late", 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Error(f, err)
	}
	if left, _ := filepath.Glob(path + "/*/*.old"); left != nil {
		t.Error(left)
	}
	if left, _ := filepath.Glob(path + "/..*"); left != nil {
		t.Error(left)
	}
}

// A message and its copy are one file. That the first is removed gives the other a younger time, and makes no arrival of it.
func TestDeleteOfCopies(t *testing.T) {
	r, path := newRoot(t)
	mkfolder(t, path+"/.lists")
	first := path + "/.lists/new/1.a"
	os.WriteFile(first, nil, 0o600)
	for _, n := range []string{"2.b", "3.c", "4.d"} {
		if err := os.Link(first, path+"/.lists/new/"+n); err != nil {
			t.Fatal(err)
		}
	}
	ctime := func(name string) (st unix.Stat_t) {
		if err := unix.Stat(name, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	// Until the clock of the file system has ticked, now is then.
	then := ctime(first)
	for now := then; now.Ctim == then.Ctim; now = ctime(path + "/tmp/now") {
		os.WriteFile(path+"/tmp/now", nil, 0o600)
	}
	if err := r.Delete("lists"); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(path + "/new/*"); left != nil {
		t.Error(left)
	}
}

// I12. RENAME INBOX.
func TestI12_RenameInbox(t *testing.T) {
	r, path := newRoot(t)
	mkfolder(t, path+"/.sub")
	for _, n := range []string{"new/1.a", "cur/2.b:2,Sa", "cur/.hidden", "tmp/x", "dovecot-keywords", "dovecot-uidlist"} {
		os.WriteFile(path+"/"+n, []byte(n), 0o600)
	}
	if err := r.Rename("Inbox", "old"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"new/1.a": false, "cur/2.b:2,Sa": false, ".old/new/1.a": true, ".old/cur/2.b:2,Sa": true, ".old/dovecot-keywords": true, ".old/dovecot-uidlist": false, "cur/.hidden": true, "tmp/x": true, "dovecot-keywords": true} {
		if _, err := os.Stat(path + "/" + name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := folderNames(t, r); !slices.Equal(got, []string{"INBOX", "old", "sub"}) {
		t.Error(got)
	}
	if err := r.Rename("inbox", "old"); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
}

// Each step fails, once or for ever: no folder is lost or half there, and what was asked for can be done then.
func TestEveryFolderStepFails(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*Root) error
		want []string
	}{
		"create": {func(r *Root) error { return r.Create("new") }, []string{"a", "a.b", "a.c", "new"}},
		"delete": {func(r *Root) error { return r.Delete("a") }, []string{"a.b", "a.c"}},
		"rename": {func(r *Root) error { return r.Rename("a", "z") }, []string{"z", "z.b", "z.c"}},
		"inbox":  {func(r *Root) error { return r.Rename("INBOX", "z") }, []string{"a", "a.b", "a.c", "z"}},
	} {
		for _, dead := range []bool{false, true} {
			for step := 0; ; step++ {
				r, path := newRoot(t)
				for _, d := range []string{".a", ".a.b", ".a.c"} {
					mkfolder(t, path+"/"+d)
					os.WriteFile(path+"/"+d+"/cur/1.m", nil, 0o600)
				}
				os.WriteFile(path+"/new/2.m", nil, 0o600)
				os.WriteFile(path+"/cur/3.m", nil, 0o600)
				n := 0
				r.ops = &durable.Ops{Fault: func(durable.Op, string) error {
					n++
					if n == step+1 || dead && n > step {
						return syscall.EIO
					}
					return nil
				}}
				err := c.do(r)
				r.ops = nil
				what := fmt.Sprintf("%s, dead %v, step %d, %v", name, dead, step, err)
				messages, _ := filepath.Glob(path + "/*/[123].m")
				inFolders, _ := filepath.Glob(path + "/.[az]*/*/[123].m")
				if got := len(messages) + len(inFolders); got < 5 && name != "delete" {
					t.Errorf("%s: %d messages", what, got)
				}
				between := folderNames(t, r)
				for _, n := range between[1:] {
					f, _, err := r.Open(n)
					if err != nil {
						t.Fatal(err)
					}
					for _, sub := range []string{"tmp", "new"} {
						if _, err := os.Stat(f.Name() + "/" + sub); err != nil {
							t.Errorf("%s: half a folder: %v", what, err)
						}
					}
					f.Close()
				}
				if name == "rename" && slices.Contains(between, "z") && (slices.Contains(between, "a.b") || slices.Contains(between, "a.c")) {
					t.Errorf("%s: %v", what, between)
				}
				// Again, as a client would. What was done already is an error that says so.
				again := c.do(r)
				if again != nil && !errors.Is(again, fs.ErrExist) && !errors.Is(again, ErrNoFolder) {
					t.Errorf("%s: then %v", what, again)
				}
				if got := folderNames(t, r)[1:]; !slices.Equal(got, c.want) {
					t.Errorf("%s: then %v", what, got)
				}
				r.Purge()
				if left, _ := filepath.Glob(path + "/..*"); left != nil {
					t.Errorf("%s: left %v", what, left)
				}
				if n <= step {
					if err != nil {
						t.Error(what)
					}
					break
				}
			}
		}
	}
}

// hostile are names that clients must not get anywhere with (I09, I10).
var hostile = []string{"../../x", "a/../../b", "/etc/x", ".", "..", "...", "~root", "~", "a//b", "a/", "/", "INBOX/..", "INBOX.", "a..b", ".a", "a.", "", "a\x00b", "a\n", "\xff", "../canary", "\u2028",
	strings.Repeat("a", 255), strings.Repeat("ö", 100), "&AC4ALg-", "&AC8-", "&", "&AAA-", "*", "%", "tmp", "cur", "new", "etc", "canary", "gone.1", ".gone.1", "INBOX", "inbox", "Inbox.x"}

// I09. Whatever is asked for, the folders are those of a model, and nothing
// outside the maildir, nor INBOX, is touched.
func TestI09_NeverOutside(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r, path := newRoot(t)
		outside := filepath.Dir(path)
		mkfolder(t, outside+"/.canary")
		mkfolder(t, outside+"/canary")
		os.WriteFile(outside+"/canary/cur/1.m", []byte("x"), 0o600)
		os.WriteFile(path+"/cur/1.m", []byte("x"), 0o600)
		os.Symlink(outside+"/canary", path+"/.canary")
		before := tree(t, outside, path)
		name := rapid.OneOf(rapid.SampledFrom(hostile), rapid.SampledFrom([]string{"a", "a.b", "a.b.c", "b", "ö", "ö.a", "&AOQ-"}), rapid.StringN(0, 8, 40), rapid.StringOfN(rapid.RuneFrom([]rune("ab./&-~ö\x00")), 0, 8, -1))
		model := map[string]bool{}
		valid := func(n string) bool {
			bad := func(r rune) bool {
				return r == '/' || r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029
			}
			return n != "" && n[0] != '~' && utf8.ValidString(n) && !strings.ContainsFunc(n, bad) &&
				!slices.Contains(strings.Split(n, "."), "") && len(mutf7.Encode(n)) < 255
		}
		exists := func(n string) bool { return strings.EqualFold(n, "INBOX") || model[n] }
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			n, to := name.Draw(rt, "name"), name.Draw(rt, "to")
			switch rapid.SampledFrom([]string{"create", "create", "delete", "rename"}).Draw(rt, "what") {
			case "create":
				err := r.Create(n)
				want := valid(n) && !exists(n) && n != "canary"
				if (err == nil) != want {
					rt.Fatalf("create %q: %v", n, err)
				}
				if want {
					model[n] = true
				}
			case "delete":
				err := r.Delete(n)
				if (err == nil) != model[n] {
					rt.Fatalf("delete %q: %v", n, err)
				}
				delete(model, n)
			case "rename":
				if strings.EqualFold(n, "INBOX") || to == "canary" || strings.HasPrefix(to, "canary.") {
					continue
				}
				moved := map[string]string{}
				want := valid(n) && valid(to) && !strings.HasPrefix(to, n+".")
				for m := range model {
					if m == n || strings.HasPrefix(m, n+".") {
						moved[m] = to + m[len(n):]
						want = want && !exists(moved[m]) && valid(moved[m])
					}
				}
				want = want && len(moved) > 0
				err := r.Rename(n, to)
				if (err == nil) != want {
					rt.Fatalf("rename %q to %q: %v, folders %v", n, to, err, model)
				}
				if want {
					for from, to := range moved {
						delete(model, from)
						model[to] = true
					}
				}
			}
			if got, want := folderNames(t, r)[1:], slices.Sorted(maps.Keys(model)); !slices.Equal(got, want) {
				rt.Fatalf("%q, want %q", got, want)
			}
		}
		if got := tree(t, outside, path); got != before {
			rt.Fatalf("outside:\n%s\nwas\n%s", got, before)
		}
	})
}

// tree is what is outside the maildir, and INBOX.
func tree(t testing.TB, outside, maildir string) string {
	var b strings.Builder
	err := filepath.WalkDir(outside, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(p, maildir+"/.") && d.Type() != fs.ModeSymlink {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		text, _ := os.ReadFile(p)
		fmt.Fprintf(&b, "%s %v %q\n", p, d.Type(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
