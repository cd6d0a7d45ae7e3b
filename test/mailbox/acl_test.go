package mailbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"postamt/internal/maildir"
	"postamt/test/peers"
)

// Dovecot and we read each other's rights files.
func TestACLWithDovecot(t *testing.T) {
	m, root := newMaildir(t)
	s := peers.Dovecot(t, peers.Config{Protocols: []string{"imap"}, Maildirs: root, Users: []string{"alice"}, Extra: []string{
		"mail_plugins = acl", "protocol imap {\n  mail_plugins = acl imap_acl\n}", "plugin {\n  acl = vfile\n  acl_anyone = allow\n}"}})
	for _, d := range []string{root, root + "/alice"} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	c := login(t, s)
	r := maildir.OpenRoot(m.dir, nil)
	c.do("CREATE work")
	for _, set := range []string{"bob lrs", "anyone l", `"b \"c\" d" lrx`, "$team lri", "-bob w", "authenticated lp"} {
		c.do("SETACL work " + set)
	}
	list, err := r.ACL("work")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprint(e.ID, " ", e.Rights))
	}
	slices.Sort(got)
	if want := []string{"-user=bob w", "anyone l", "authenticated lp", "group=team lri", `user=b "c" d lrx`, "user=bob lrs"}; !slices.Equal(got, want) {
		t.Errorf("theirs: %q", got)
	}
	for id, rights := range map[string]maildir.Rights{"user=new name": maildir.Lookup | maildir.Read, "-group=a 'b'": maildir.Write, "group-override=x": maildir.Insert,
		"owner": maildir.AllRights &^ maildir.CreateBelow &^ maildir.DeleteFolder} {
		if err := r.EditACL(t.Context(), "work", id, func(maildir.Rights, bool) (maildir.Rights, bool) { return rights, true }); err != nil {
			t.Fatal(err)
		}
	}
	theirs := c.do("GETACL work")[0]
	for _, want := range []string{`"new name" lr `, `"-$a 'b'" w `, `!$x i`, "bob lrs ", "-bob w ", ` "b \"c\" d" `} {
		if !strings.Contains(theirs, want) {
			t.Errorf("no %s in %s", want, theirs)
		}
	}
	// And both find the same for the owner.
	agree := func(name string) {
		t.Helper()
		rights, err := r.Rights(name, "alice")
		if err != nil {
			t.Fatal(err)
		}
		_, letters, _ := strings.Cut(c.do("MYRIGHTS " + name)[0], name+" ")
		if theirs, ok := maildir.ParseRights(strings.NewReplacer("c", "", "d", "").Replace(letters)); !ok || theirs != rights {
			t.Errorf("%s: ours %s, theirs %s", name, rights, letters)
		}
	}
	agree("work")
	for i, set := range []string{"anyone l", "alice lr", "alice lrswi", "owner lra", "bob lr"} {
		name := fmt.Sprint("x", i)
		c.do("CREATE " + name)
		c.do("SETACL " + name + " " + set)
		agree(name)
	}
}
