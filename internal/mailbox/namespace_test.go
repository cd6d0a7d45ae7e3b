package mailbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postamt/internal/maildir"
)

// sharedDir makes shared maildirs, "sales" or "sales/.2026", with their rights files.
func sharedDir(t testing.TB, acls map[string]string) string {
	dir := filepath.Join(t.TempDir(), "shared")
	for folder, acl := range acls {
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, folder, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if acl != "" {
			if err := os.WriteFile(filepath.Join(dir, folder, "dovecot-acl"), []byte(acl), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func spaces(t testing.TB, a *Account, user, dir string) *Namespaces {
	n, err := a.Namespaces(user, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func listed(t testing.TB, n *Namespaces) (list []string) {
	all, err := n.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		list = append(list, m.Name)
	}
	slices.Sort(list)
	return list
}

func TestNamespaces(t *testing.T) {
	a := newAccount(t, newBox(t), nil)
	for _, name := range []string{"Shared", "Shared.sales", "shared", "Sharedx"} {
		if err := a.Folders.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	dir := sharedDir(t, map[string]string{"sales": "user=alice lrk", "sales/.2026": "", "sales/.secret": "anyone r", "press": "", "a.b": "anyone lr", "ö": "anyone l"})
	os.Symlink("sales", dir+"/link")
	os.WriteFile(dir+"/file", nil, 0o600)
	if got := listed(t, spaces(t, a, "alice", "")); !slices.Equal(got, []string{"INBOX", "Shared", "Shared.sales", "Sharedx", "shared"}) {
		t.Errorf("without shared ones: %q", got)
	}
	n := spaces(t, a, "alice", dir)
	if got := listed(t, n); !slices.Equal(got, []string{"INBOX", "Shared.sales", "Shared.sales.2026", "Shared.ö", "Sharedx", "shared"}) {
		t.Errorf("%q", got)
	}
	if got := listed(t, spaces(t, a, "bob", dir)); !slices.Equal(got, []string{"INBOX", "Shared.ö", "Sharedx", "shared"}) {
		t.Errorf("bob: %q", got)
	}
	for name, want := range map[string]string{"Shared.sales": "lrk", "Shared.sales.2026": "lrk", "Shared.ö": "l", "shared": "lrwstipekxa"} {
		p, err := n.At(name)
		if err != nil {
			t.Fatal(name, err)
		}
		if got, err := p.Rights(); err != nil || got.String() != want || p.Name(p.Folder) != name {
			t.Errorf("%s: %s, %v; its name is %s", name, got, err, p.Name(p.Folder))
		}
	}
	for _, name := range []string{"Shared", "Shared.", "Shared.none", "Shared.link", "Shared.file", "Shared.press", "Shared.sales.secret", "Shared.sales.none", "Shared.a.b"} {
		p, err := n.At(name)
		if err == nil {
			_, err = p.Rights()
		}
		if !errors.Is(err, maildir.ErrNoFolder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"Shared.sales.INBOX", "Shared.sales.inbox"} {
		if _, err := n.At(name); !errors.Is(err, maildir.ErrFolder) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Two users of one process have one Mailbox, and one who makes another maildir of the same name gets it.
func TestNamespacesShare(t *testing.T) {
	a := newAccount(t, newBox(t), nil)
	dir := sharedDir(t, map[string]string{"sales": "anyone lri"})
	open := func(n *Namespaces) *Mailbox {
		p, err := n.At("Shared.sales")
		if err != nil {
			t.Fatal(err)
		}
		m, err := p.Open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	alice, bob := spaces(t, a, "alice", dir), spaces(t, a, "bob", dir)
	one := open(alice)
	if two := open(bob); one != two {
		t.Error("two mailboxes for one folder")
	}
	if err := os.Rename(dir+"/sales", dir+"/old"); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, bob); !slices.Equal(got, []string{"INBOX", "Shared.old"}) {
		t.Errorf("%q", got)
	}
	os.MkdirAll(dir+"/sales/cur", 0o700)
	if open(alice) == one {
		t.Error("the old one")
	}
	if _, err := one.Append(t.Context(), strings.NewReader("Subject: x\n\n"), 0, nil, time.Time{}); err != nil {
		t.Error("the old one is in use:", err)
	}
}

// I09, I10. Whatever a client names, nothing outside the directory is touched, nor what is not a maildir there, nor one that he sees nothing of.
func TestI09_SharedNeverOutside(t *testing.T) {
	hostile := []string{"", ".", "..", "...", "../canary", "..canary", "/", "/etc", "a/../../canary", "a/..", "a.../x", "link", "link.x", "file", "file.x", "a.inbox", "a.INBOX.x", "&AC4ALg-", "&AC8-.x", "a\x00", "~", "~root",
		"press", "press.x", "a.x/../../../canary", "\xff", strings.Repeat("a", 300), "a.canary", "a", "a.x", "a.x.y", "a.y"}
	rapid.Check(t, func(rt *rapid.T) {
		b := newBox(t)
		a := newAccount(t, b, nil)
		dir := sharedDir(t, map[string]string{"a": "anyone lrwstipekxa", "press": "user=bob lr", "../canary": "anyone lrwstipekxa"})
		os.Symlink("../canary", dir+"/link")
		os.Symlink("../../canary", dir+"/a/.canary")
		os.WriteFile(dir+"/file", nil, 0o600)
		before := tree(t, filepath.Dir(dir), dir+"/a")
		n := spaces(t, a, "alice", dir)
		name := rapid.Custom(func(rt *rapid.T) string {
			return rapid.SampledFrom([]string{"Shared", "Shared.", "Shared.", "Shared.", "Shared.a."}).Draw(rt, "prefix") + rapid.OneOf(rapid.SampledFrom(hostile),
				rapid.StringOfN(rapid.RuneFrom([]rune("axy./&-~\x00")), 0, 8, -1)).Draw(rt, "rest")
		})
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			name := name.Draw(rt, "name")
			p, err := n.At(name)
			if err != nil || p.Account == a { // Sharedx, one of his own
				continue
			}
			if p.Account.path != dir+"/a" && p.Account.path != dir+"/press" {
				rt.Fatalf("%q is in %s", name, p.Account.path)
			}
			rights, err := p.Rights()
			if p.Account.path == dir+"/press" {
				if !errors.Is(err, maildir.ErrNoFolder) {
					rt.Fatalf("%q: %s, %v", name, rights, err)
				}
				continue
			}
			switch rapid.SampledFrom([]string{"create", "delete", "rename", "append", "acl"}).Draw(rt, "what") {
			case "create":
				p.Folders.Create(p.Folder)
			case "delete":
				p.Folders.Delete(p.Folder)
			case "rename":
				p.Folders.Rename(p.Folder, rapid.SampledFrom([]string{"x", "y", "../../canary.z", "x/../../z"}).Draw(rt, "to"))
			case "append":
				if m, err := p.Open(); err == nil {
					m.Append(t.Context(), strings.NewReader("Subject: x\n\n"), 0, nil, time.Time{})
					m.Close()
				}
			case "acl":
				p.Folders.EditACL(t.Context(), p.Folder, "user=x", func(maildir.Rights, bool) (maildir.Rights, bool) { return maildir.Read, true })
			}
		}
		listed(t, n)
		if after := tree(t, filepath.Dir(dir), dir+"/a"); after != before {
			rt.Fatalf("outside:\n%s\nwas\n%s", after, before)
		}
	})
}

// tree is all in a directory but what is in one of those below it.
func tree(t testing.TB, dir, but string) string {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p == but {
			return fs.SkipDir
		}
		if err == nil {
			text, _ := os.ReadFile(p)
			fmt.Fprintf(&b, "%s %v %q\n", p, d.Type(), text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
