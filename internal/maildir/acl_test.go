package maildir

import (
	"errors"
	"math/bits"
	"os"
	"strings"
	"testing"
)

func TestACLLine(t *testing.T) {
	for in, want := range map[string]string{
		"owner lr":                          "owner lr\n",
		"user=bob lrwstipekxa":              "user=bob lrwstipekxa\n",
		"user=bob alr":                      "user=bob lra\n",
		"  anyone l r \r":                   "anyone lr\n",
		"user=bob":                          "user=bob \n",
		`"user=a \"b\" \\c" lr`:             `"user=a \"b\" \\c" lr` + "\n",
		`-"group=the team" w`:               `"-group=the team" w` + "\n",
		"anyone l :read write-seen":         "anyone lrs\n",
		"anyone lZ :read other":             "anyone lrZ :other\n",
		"authenticated :lookup admin other": "authenticated la :other\n",
	} {
		e, ok := aclLine(in)
		if !ok || e.line() != want {
			t.Errorf("%q is %q, %v", in, e.line(), ok)
		}
		if again, ok := aclLine(e.line()); !ok || again != e {
			t.Errorf("%q is written %q and read %+v", in, e.line(), again)
		}
	}
	for _, in := range []string{"", " ", "# owner lr", `"user=x lr`, `"" lr`} {
		if e, ok := aclLine(in); ok {
			t.Errorf("%q is %+v", in, e)
		}
	}
}

func TestOwnersRights(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "lrwstipekxa",
		"anyone l\nuser=bob lr\n-anyone lr": "lrwstipekxa",
		"owner r":                           "lra",
		"owner lr\nowner lrw":               "lra",
		"owner lr\nuser=alice lrs":          "lrsa",
		"-owner wx":                         "lrstipeka",
		"owner lrw\n-user=alice wla":        "lra",
		"user=alicex l\ngroup-override=g l": "lrwstipekxa",
	} {
		r, path := newRoot(t)
		if err := os.WriteFile(path+"/dovecot-acl", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Rights("INBOX", "alice"); err != nil || got.String() != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestEditACL(t *testing.T) {
	r, path := newRoot(t)
	if err := errors.Join(r.Create("a"), os.WriteFile(path+"/.a/dovecot-acl", []byte("# ours\nowner lr :other\r\nuser=bob l\nowner l"), 0o600)); err != nil {
		t.Fatal(err)
	}
	set := func(id string, rights Rights, keep bool) {
		t.Helper()
		if err := r.EditACL(t.Context(), "a", id, func(Rights, bool) (Rights, bool) { return rights, keep }); err != nil {
			t.Fatal(err)
		}
	}
	set("owner", Lookup|Insert, true)
	set("user=bob", 0, false)
	set("user=a b", Read, true)
	set("nobody", 0, false)
	b, err := os.ReadFile(path + "/.a/dovecot-acl")
	if want := "# ours\nowner li :other\n\"user=a b\" r\n"; err != nil || string(b) != want {
		t.Errorf("%q, %v", b, err)
	}
	for _, id := range []string{"", "user=a\nowner", "user=\x00"} {
		if err := r.EditACL(t.Context(), "a", id, func(Rights, bool) (Rights, bool) { return Read, true }); !errors.Is(err, ErrIdentifier) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if err := r.EditACL(t.Context(), "none", "owner", func(Rights, bool) (Rights, bool) { return Read, true }); !errors.Is(err, ErrNoFolder) {
		t.Error(err)
	}
	// RFC 4314 section 4: it stays with a rename, goes with the folder, and is handed down.
	if err := errors.Join(r.Rename("a", "b"), r.Create("b.c"), r.InheritACL(t.Context(), "b", "b.c"), r.InheritACL(t.Context(), "INBOX", "b.c")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "b.c"} {
		if list, err := r.ACL(name); err != nil || len(list) != 2 || list[0].Rights != Lookup|Insert {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if err := errors.Join(r.Delete("b"), r.Create("b")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Rights("b", "alice"); err != nil || got != AllRights {
		t.Errorf("%s, %v", got, err)
	}
}

// Every set of rights comes back as its letters.
func TestRights(t *testing.T) {
	for r := range Rights(rightsEnd) {
		if got, ok := ParseRights(r.String()); !ok || got != r || len(r.String()) != bits.OnesCount16(uint16(r)) {
			t.Fatalf("%b is %s", r, r)
		}
	}
	if r, ok := ParseRights("lQ"); ok || r != Lookup {
		t.Error(r, ok)
	}
}

// FuzzACLLine: a line that is one is written and read again as the same.
func FuzzACLLine(f *testing.F) {
	for _, s := range []string{"owner lr", `"user=a \"b\"" lZ :read other`, `-"x`, "user=\\ l", `"\#" l`, "a\tb c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := aclLine(line)
		if !ok || strings.ContainsAny(line, "\r\n") {
			return
		}
		if again, ok := aclLine(e.line()); !ok || again != e {
			t.Errorf("%q is %+v, and %q %+v", line, e, e.line(), again)
		}
	})
}
