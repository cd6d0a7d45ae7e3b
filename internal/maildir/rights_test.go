package maildir

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// Of the lines that mean a user the narrowest holds, and nobody owns anything. A folder without a file has the rights of the root.
func TestSharedRights(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "",
		"owner lrw":                              "",
		"anyone lr":                              "lr",
		"authenticated lrs":                      "lrs",
		"anyone lr\nauthenticated l":             "l",
		"user=alice lrwstipekxa\nanyone l":       "lrwstipekxa",
		"user=alice l\nanyone lrw":               "l",
		"user=alice\nanyone lrw":                 "",
		"user=alicia lr":                         "",
		"user=Alice lr":                          "",
		"group=staff lr\ngroup-override=x lr":    "",
		"anyone lrwi\n-user=alice wi":            "lr",
		"anyone lrwi\n-anyone w\n-user=alice i":  "lrw",
		"user=alice lr\n-anyone r\n-user=bob lr": "l",
		"user=alice lr\nuser=alice lrw":          "lr",
		"user= lrw":                              "",
	} {
		r, path := newRoot(t)
		r.shared = true
		mkfolder(t, path+"/.a")
		if text != "" {
			if err := os.WriteFile(path+"/dovecot-acl", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, folder := range []string{"INBOX", "a"} {
			if got, err := r.Rights(folder, "alice"); err != nil || got.String() != want {
				t.Errorf("%q: %s: %s, %v", text, folder, got, err)
			}
			read, err := r.MayRead(folder, "alice")
			if rights, _ := ParseRights(want); err != nil || read != (rights&Read != 0) {
				t.Errorf("%q: %s: read %v, %v", text, folder, read, err)
			}
		}
		visible, err := r.Visible("alice")
		if rights, _ := ParseRights(want); err != nil || len(visible) != 0 && rights&Lookup == 0 || len(visible) != 2 && rights&Lookup != 0 {
			t.Errorf("%q: visible %v, %v", text, visible, err)
		}
		if got, err := r.Rights("a", ""); err != nil || got&^(Lookup|Read|Write|KeepSeen|Insert) != 0 {
			t.Errorf("%q: who has no name: %s, %v", text, got, err)
		}
	}
}

// What has held without a file holds when it gets one, and for a folder below.
func TestSharedACLBegins(t *testing.T) {
	r, path := newRoot(t)
	r.shared = true
	mkfolder(t, path+"/.a")
	if err := os.WriteFile(path+"/dovecot-acl", []byte("user=alice lra\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.EditACL(t.Context(), "a", "user=bob", func(Rights, bool) (Rights, bool) { return Lookup, true }); err != nil {
		t.Fatal(err)
	}
	if err := r.Create("a.b"); err != nil {
		t.Fatal(err)
	}
	if err := r.InheritACL(t.Context(), "a", "a.b"); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{".a", ".a.b"} {
		if got, err := os.ReadFile(path + "/" + folder + "/dovecot-acl"); err != nil || string(got) != "user=alice lra\nuser=bob l\n" {
			t.Errorf("%s: %q, %v", folder, got, err)
		}
	}
	if err := r.EditACL(t.Context(), "a", "user=alice", func(Rights, bool) (Rights, bool) { return 0, false }); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Rights("a", "alice"); err != nil || got != 0 { // the file that is there holds alone
		t.Error(got, err)
	}
}

// A delivery is its owner's alone, but in a setgid directory it is the group's too, whatever the umask.
func TestDeliverToTeam(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for mode, want := range map[os.FileMode]os.FileMode{0o700: 0o600, 0o755: 0o600, 0o770 | os.ModeSetgid: 0o660, 0o750 | os.ModeSetgid: 0o640} {
		base := t.TempDir()
		path := base + "/Maildir"
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		s := New(Options{Host: "mx.example"})
		d := s.Begin(Message{ID: "1", Arrived: time.Unix(1700000000, 0)}, []Copy{{Target: Target{Owner: "sales", Base: base, Path: path}}})
		d.Write([]byte("Subject: x\r\n\r\nx\r\n"))
		r := d.Commit()
		s.Close()
		if r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		st, err := os.Stat(path + "/new/" + r[0].Name)
		if err != nil || st.Mode() != want {
			t.Errorf("in %v: %v, %v", mode, st.Mode(), err)
		}
		if sub, err := os.Stat(path + "/new"); err != nil || mode&os.ModeSetgid != 0 && sub.Mode()&^os.ModeDir != mode {
			t.Errorf("in %v: new has %v, %v", mode, sub.Mode(), err)
		}
	}
}
