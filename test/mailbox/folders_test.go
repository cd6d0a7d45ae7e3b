package mailbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"postamt/internal/maildir"
	"postamt/internal/mutf7"
	"postamt/test/peers"
)

// listed is what LIST or LSUB shows, decoded and sorted.
func listed(c *client, command string) []string {
	c.t.Helper()
	var names []string
	for _, s := range c.do(command + ` "" *`) {
		_, name, ok := strings.Cut(s, ` "." `)
		if !ok || strings.Contains(strings.ToLower(s), `\noselect`) {
			continue
		}
		if name, ok = mutf7.Decode(strings.Trim(name, `"`)); !ok {
			c.t.Fatal(s)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Dovecot and we make, rename and remove folders of one maildir in turn, and subscribe to them.
func TestFoldersWithDovecot(t *testing.T) {
	m, root := newMaildir(t)
	// With its index of folders Dovecot sees ours a second late.
	s := peers.Dovecot(t, peers.Config{Protocols: []string{"imap"}, Maildirs: root, Users: []string{"alice"}, Extra: []string{"mailbox_list_index = no"}})
	for _, d := range []string{root, root + "/alice"} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	c := login(t, s)
	r := maildir.OpenRoot(m.dir, nil)
	agree := func(what string) {
		t.Helper()
		folders, err := r.Folders()
		if err != nil {
			t.Fatal(err)
		}
		var ours []string
		for _, f := range folders {
			ours = append(ours, f.Name)
		}
		slices.Sort(ours)
		if got := listed(c, "LIST"); !slices.Equal(got, ours) {
			t.Errorf("%s: folders: ours %q, theirs %q", what, ours, got)
		}
		subscribed, err := r.Subscriptions()
		if err != nil {
			t.Fatal(err)
		}
		if got := listed(c, "LSUB"); !slices.Equal(got, subscribed) {
			text, _ := os.ReadFile(m.path + "/subscriptions")
			t.Errorf("%s: subscriptions: ours %q, theirs %q\n%q", what, subscribed, got, text)
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	quote := func(name string) string { return `"` + mutf7.Encode(name) + `"` }
	names := []string{"Sent", "Entwürfe", "a & b", "日本.😀", "lists", "lists.go.nuts", "x~y", "K'ä\\s"}
	for i, n := range names {
		n := strings.ReplaceAll(n, `\`, "")
		other := fmt.Sprintf("their %s", n)
		ok(r.Create(n))
		c.do("CREATE " + quote(other))
		agree("create " + n)
		if i%2 == 0 {
			ok(r.Subscribe(t.Context(), n, true))
			c.do("SUBSCRIBE " + quote(other))
		} else {
			c.do("SUBSCRIBE " + quote(n))
			ok(r.Subscribe(t.Context(), other, true))
		}
		agree("subscribe " + n)
	}
	ok(r.Rename("their lists", "moved"))
	c.do("RENAME lists " + quote("ümoved"))
	agree("rename")
	ok(r.Delete("ümoved"))
	c.do("DELETE moved")
	ok(r.Subscribe(t.Context(), "lists", false))
	c.do("UNSUBSCRIBE Sent")
	agree("delete")
	// Back to a file of the old form.
	os.WriteFile(m.path+"/subscriptions", []byte("Sent\nlists.go\n"), 0o666)
	ok(r.Subscribe(t.Context(), "a.ö", true))
	ok(r.Create("b.ö"))
	c.do("SUBSCRIBE " + quote("b.ö"))
	agree("old form")
	if log, _ := os.ReadFile(s.Log); strings.Contains(string(log), "Error:") {
		t.Errorf("Dovecot's log:\n%.3000s", log)
	}
}
