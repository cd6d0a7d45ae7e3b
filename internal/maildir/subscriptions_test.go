package maildir

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestSubscriptions(t *testing.T) {
	r, path := newRoot(t)
	expect := func(want ...string) {
		t.Helper()
		if got, err := r.Subscriptions(); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	set := func(name string, want bool) {
		t.Helper()
		if err := r.Subscribe(t.Context(), name, want); err != nil {
			t.Fatal(err)
		}
	}
	text := func(want string) {
		t.Helper()
		if p, err := os.ReadFile(path + "/" + subscriptionsFile); err != nil || string(p) != want {
			t.Errorf("%q, %v, want %q", p, err, want)
		}
	}
	expect()
	set("none", false)
	if _, err := os.Stat(path + "/" + subscriptionsFile); err == nil {
		t.Error("a file for nothing")
	}
	// Courier's, in both encodings, with what is not ours.
	os.WriteFile(path+"/"+courierSubscribed, []byte("INBOX\nINBOX.Entw&APw-rfe\nINBOX.K\u00e4se.b\nINBOX.a..b\n#shared.x\nSent\n"), 0o600)
	expect("Entwürfe", "INBOX", "Käse.b")
	set("new.box", true)
	expect("Entwürfe", "INBOX", "Käse.b", "new.box")
	text("V\t2\n\nINBOX\nEntw&APw-rfe\nK&AOQ-se\tb\nnew\tbox\n")
	set("inbox", false)
	set("Entwürfe", true)
	set("Käse.b", false)
	text("V\t2\n\nEntw&APw-rfe\nnew\tbox\n")
	// The old form stays as it is, lines that are not understood too.
	os.WriteFile(path+"/"+subscriptionsFile, []byte("a.b\n..x\na.b\nK\u00e4se\ninbox\nlast"), 0o640)
	expect("INBOX", "Käse", "a.b", "last")
	set("Käse", false)
	set("a.b", true)
	set("c.d", true)
	text("a.b\n..x\ninbox\nlast\nc.d\n")
	for _, bad := range hostile {
		if _, err := FolderDir(bad); err != nil {
			if err := r.Subscribe(t.Context(), bad, true); !errors.Is(err, ErrFolder) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	os.WriteFile(path+"/"+subscriptionsFile, make([]byte, listMax+1), 0o600)
	if _, err := r.Subscriptions(); err == nil {
		t.Error("a file without end")
	}
	os.Remove(path + "/" + subscriptionsFile)
	os.Symlink("/etc/passwd", path+"/"+subscriptionsFile)
	if got, err := r.Subscriptions(); err == nil {
		t.Error(got)
	}
}

func TestSubscribeAtOnce(t *testing.T) {
	r, _ := newRoot(t)
	var wg sync.WaitGroup
	var want []string
	for _, c := range "abcdefgh" {
		want = append(want, string(c))
		wg.Go(func() {
			if err := r.Subscribe(t.Context(), string(c), true); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := r.Subscriptions(); err != nil || !slices.Equal(got, want) {
		t.Error(got, err)
	}
}

func TestSpecialUse(t *testing.T) {
	r, path := newRoot(t)
	folders := []Folder{{Name: "INBOX"}, {Name: "Deleted Items"}, {Name: "Gesendet"}, {Name: "Sent Items"}, {Name: "spam"}, {Name: "sent"}, {Name: "x.Drafts"}}
	expect := func(want map[string]string) {
		t.Helper()
		got, err := r.SpecialUse(folders)
		if err != nil || len(got) != len(want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
		for name, uses := range want {
			if strings.Join(got[name], " ") != uses {
				t.Errorf("%s: %v, want %s", name, got[name], uses)
			}
		}
	}
	expect(map[string]string{"sent": `\Sent`, "spam": `\Junk`, "Deleted Items": `\Trash`})
	os.WriteFile(path+"/"+specialUseFile, []byte("# comment\n\\Sent none\n\\Sent Gesendet\n\\Sent sent\n\\Trash none\n\\Foo spam\n\\Flagged spam\n"), 0o600)
	expect(map[string]string{"Gesendet": `\Sent`, "spam": `\Flagged \Junk`, "Deleted Items": `\Trash`})
	if err := r.SetSpecialUse(t.Context(), `\Sent`, "x.Drafts"); err != nil {
		t.Error(err)
	}
	if p, _ := os.ReadFile(path + "/" + specialUseFile); string(p) != "# comment\n\\Trash none\n\\Foo spam\n\\Flagged spam\n\\Sent x.Drafts\n" {
		t.Errorf("%q", p)
	}
	expect(map[string]string{"x.Drafts": `\Sent`, "spam": `\Flagged \Junk`, "Deleted Items": `\Trash`})
	if err := r.SetSpecialUse(t.Context(), `\Sent`, "a\n\\Trash b"); !errors.Is(err, ErrFolder) {
		t.Error(err)
	}
	if err := r.SetSpecialUse(t.Context(), `\Seen`, "a"); !errors.Is(err, ErrSpecialUse) {
		t.Error(err)
	}
}
