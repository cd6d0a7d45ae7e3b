package mailbox

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"postamt/internal/durable"
	store "postamt/internal/mailbox"
)

// open opens alice's INBOX as our servers do.
func (m *mailbox) open(t testing.TB) *store.Mailbox {
	t.Helper()
	root, err := durable.OpenDir(m.path)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	b, err := store.Open(root, "", store.Options{Report: func(err error) { t.Log(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// weSee is what our store says: name and flags by UID, flags as IMAP has them.
func weSee(t testing.TB, b *store.Mailbox) map[string]string {
	t.Helper()
	if err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, uid := range b.UIDs() {
		m, _ := b.Message(uid)
		f, err := b.File(uid)
		if err != nil {
			t.Fatal(uid, err)
		}
		base, _, _ := strings.Cut(filepath.Base(f.Name()), ":")
		f.Close()
		var words []string
		for _, x := range []struct {
			f    store.Flags
			name string
		}{{store.Replied, `\Answered`}, {store.Flagged, `\Flagged`}, {store.Trashed, `\Deleted`}, {store.Seen, `\Seen`}, {store.Draft, `\Draft`}} {
			if m.Flags&x.f != 0 {
				words = append(words, x.name)
			}
		}
		slices.Sort(words)
		all[strconv.Itoa(int(uid))] = base + " " + strings.Join(words, " ")
	}
	return all
}

// dovecotSees is the same of Dovecot, whose GUID of a message is the base of its name.
func dovecotSees(t testing.TB, c *client) map[string]string {
	t.Helper()
	c.do("NOOP")
	all := make(map[string]string)
	for _, s := range c.do("UID FETCH 1:* (UID FLAGS X-GUID)") {
		_, rest, ok := strings.Cut(s, " FETCH (UID ")
		if !ok {
			continue
		}
		uid, rest, _ := strings.Cut(rest, " FLAGS (")
		flags, guid, _ := strings.Cut(rest, ") X-GUID ")
		words := slices.DeleteFunc(strings.Fields(flags), func(w string) bool { return w == `\Recent` })
		slices.Sort(words)
		all[uid] = strings.Trim(guid, `")`) + " " + strings.Join(words, " ")
	}
	return all
}

// agree compares what both say. Dovecot, when many rename at once, takes a message for expunged too, and gives it another UID when it is back: then the list has
// two lines for it, of which the later holds, and each has to look once more.
func agree(t testing.TB, what any, b *store.Mailbox, c *client) {
	t.Helper()
	var ours, theirs map[string]string
	for try := range 5 {
		ours, theirs = weSee(t, b), dovecotSees(t, c)
		if maps.Equal(ours, theirs) {
			return
		}
		t.Logf("%v: they do not agree at look %d", what, try+1)
	}
	n := 0
	for uid := range ours {
		if ours[uid] != theirs[uid] && n < 10 {
			n++
			t.Errorf("%v: UID %s: ours %q, theirs %q", what, uid, ours[uid], theirs[uid])
		}
	}
	for uid := range theirs {
		if _, ok := ours[uid]; !ok && n < 20 {
			n++
			t.Errorf("%v: UID %s: not ours, theirs %q", what, uid, theirs[uid])
		}
	}
	t.FailNow()
}

// One maildir of 10,000 messages, served in turn and then at the same time by Dovecot and by our store: UIDVALIDITY, each UID, each flag and the POP3
// unique-ids agree throughout.
func TestTenThousandWithDovecot(t *testing.T) {
	const many = 10_000
	m, root := newMaildir(t)
	deliver := func(i int) {
		// As deliver names them.
		name := fmt.Sprintf("%d.Q0h2mc9x4rvk3t%06dX6b1f0c3a9d42.mx.example.org,S=%d,W=%d", 1764000000+i, i, len("Subject: \n\ntext\n")+6, len("Subject: \r\n\r\ntext\r\n")+6)
		m.put("tmp/"+name, fmt.Sprintf("%06d", i))
		if err := os.Rename(m.path+"/tmp/"+name, m.path+"/new/"+name); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		deliver(i)
	}
	b := m.open(t)
	if got := len(b.UIDs()); got != many {
		t.Fatalf("%d messages", got)
	}
	s := dovecot(t, root)
	c := login(t, s)
	selected := strings.Join(c.do("SELECT INBOX"), "\n")
	validity, next, _, _ := b.Status()
	for _, want := range []string{fmt.Sprintf("[UIDVALIDITY %d]", validity), fmt.Sprintf("[UIDNEXT %d]", next), fmt.Sprintf("* %d EXISTS", many)} {
		if !strings.Contains(selected, want) {
			t.Errorf("SELECT has no %s:\n%s", want, selected)
		}
	}
	agree(t, "begin", b, c)

	// In turn.
	r := rand.New(rand.NewPCG(1, 2))
	some := func() int { return 1 + r.IntN(many) }
	foreign := func() { // mutt
		files, _ := os.ReadDir(m.path + "/cur")
		name := files[r.IntN(len(files))].Name()
		base, _, _ := strings.Cut(name, ":")
		os.Rename(m.path+"/cur/"+name, m.path+"/cur/"+base+":2,"+[]string{"", "S", "FS", "RS"}[r.IntN(4)])
	}
	arrived := many
	for step := range 60 {
		switch step % 6 {
		case 0:
			c.do(fmt.Sprintf(`UID STORE %d:%d +FLAGS.SILENT (\Flagged \Seen)`, some(), some()))
		case 1:
			c.do("APPEND INBOX (\\Seen)", "Subject: appended\r\n\r\ntext\r\n")
		case 2:
			for range 20 {
				deliver(arrived)
				arrived++
			}
		case 3:
			uids := b.UIDs()
			at := r.IntN(len(uids) - 50)
			if failed, err := b.Expunge(validity, uids[at:at+50]); len(failed) > 0 || err != nil {
				t.Fatal(failed, err)
			}
		case 4:
			for range 20 {
				foreign()
			}
		case 5:
			c.do(fmt.Sprintf(`UID STORE %d:%d +FLAGS.SILENT (\Deleted)`, step*100, step*100+30))
			c.do("EXPUNGE")
		}
		agree(t, step, b, c)
	}

	// At the same time.
	var wg sync.WaitGroup
	other := login(t, s)
	other.do("SELECT INBOX")
	wg.Go(func() {
		r := rand.New(rand.NewPCG(3, 4))
		for step := range 60 {
			switch step % 3 {
			case 0:
				other.do(fmt.Sprintf(`UID STORE %d:%d -FLAGS.SILENT (\Seen)`, 1+r.IntN(many), 1+r.IntN(many)))
			case 1:
				other.do("APPEND INBOX", "Subject: appended\r\n\r\nmeanwhile\r\n")
			case 2:
				other.do(fmt.Sprintf(`UID STORE %d +FLAGS.SILENT (\Deleted)`, 1+r.IntN(many)))
				other.do("EXPUNGE")
			}
		}
	})
	wg.Go(func() {
		for range 200 {
			deliver(arrived)
			arrived++
		}
	})
	wg.Go(func() {
		o := m.open(t) // another process of ours
		r := rand.New(rand.NewPCG(5, 6))
		for range 60 {
			uids := o.UIDs()
			at := r.IntN(len(uids) - 5)
			if failed, err := o.Expunge(validity, uids[at:at+5]); len(failed) > 0 || err != nil {
				t.Error(failed, err)
				return
			}
		}
	})
	for range 60 {
		if err := b.Sync(); err != nil {
			t.Error(err)
		}
		foreign()
	}
	wg.Wait()
	agree(t, "end", b, c)

	// Dovecot's POP3 has the unique-ids that ours will have to give: UID and validity.
	ids := uidl(t, s.POP3)
	uids := b.UIDs()
	if len(ids) != len(uids) {
		t.Fatalf("%d messages by POP3, %d here", len(ids), len(uids))
	}
	for i, uid := range uids {
		if want := fmt.Sprintf("%08x%08x", uid, validity); ids[i] != want {
			t.Fatalf("UID %d is %s by POP3, want %s", uid, ids[i], want)
		}
	}
	f, err := b.File(uids[len(uids)-1])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || !strings.HasPrefix(string(text), "Subject: ") {
		t.Errorf("%q, %v", text, err)
	}
}
