package mailbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/durable"
	"postamt/internal/maildir"
	"postamt/internal/uidlist"
)

// text is the file of a message.
func text(t testing.TB, m *Mailbox, uid uint32) string {
	t.Helper()
	f, err := m.File(uid)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return string(b)
}

func TestAppend(t *testing.T) {
	b := newBox(t)
	m := b.open()
	date := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	for i, c := range []struct {
		f        Flags
		keywords []string
		name     string
	}{
		{0, nil, `^new/\d+\.R[0-9a-f]{32}\.localhost,S=4,W=6$`},
		{Seen, nil, `^cur/\d+\.R[0-9a-f]{32}\.localhost,S=4,W=6:2,S$`},
		{Seen | Draft, []string{"$Forwarded", "x"}, `^cur/\d+\.R[0-9a-f]{32}\.localhost,S=4,W=6:2,DSab$`},
		{0, []string{"X"}, `^cur/\d+\.R[0-9a-f]{32}\.localhost,S=4,W=6:2,b$`},
	} {
		uid, err := m.Append(t.Context(), strings.NewReader("a\r\nb\n"), c.f, c.keywords, date)
		if err != nil || uid != uint32(i+1) {
			t.Fatal(uid, err)
		}
		for _, see := range []*Mailbox{m, b.open()} {
			f, err := see.File(uid)
			must(t, err)
			if name, _ := filepath.Rel(b.dir, f.Name()); !regexp.MustCompile(c.name).MatchString(name) {
				t.Errorf("%s, want %s", name, c.name)
			}
			if st, _ := os.Stat(f.Name()); !st.ModTime().Equal(date) || st.Mode().Perm() != 0o600 {
				t.Error(st.ModTime(), st.Mode())
			}
			f.Close()
			if s := text(t, see, uid); s != "a\nb\n" {
				t.Errorf("%q", s)
			}
			if n, err := see.Size(uid); n != 6 || err != nil {
				t.Error(n, err)
			}
		}
	}
	if files, _ := os.ReadDir(filepath.Join(b.dir, "tmp")); len(files) > 0 {
		t.Error(files)
	}
}

// Whatever step fails, none of the messages is there, and nothing is left of them; whatever happens after that goes well.
func TestPublishAllOrNone(t *testing.T) {
	steps := 0
	for n := 1; ; n++ {
		b := newBox(t)
		b.deliver("x\n")
		m := b.open()
		count := 0
		ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
			if strings.Contains(name, indexName) || op == durable.OpUnlink {
				return nil
			}
			if count++; count == n {
				return fmt.Errorf("step %d: %s", n, op)
			}
			return nil
		}}
		m.ops, m.list = ops, uidlist.New(m.root, m.dir, ops)
		one, err := m.Stage(strings.NewReader("one\n"), Seen, nil, time.Time{})
		var two *Staged
		if err == nil {
			if two, err = m.Stage(strings.NewReader("two\n"), 0, []string{"k"}, time.Time{}); err != nil {
				m.Discard(one)
			}
		}
		var uids []uint32
		if err == nil {
			uids, err = m.Publish(t.Context(), one, two)
		}
		failed := count >= n
		m.ops, m.list = nil, uidlist.New(m.root, m.dir, nil)
		m.ahead = nil
		want := 1
		if err == nil {
			want = 3
			if !slices.Equal(uids, []uint32{2, 3}) {
				t.Error(uids)
			}
		} else if !failed {
			t.Fatal(err)
		}
		for _, see := range []*Mailbox{m, b.open()} {
			must(t, see.Sync())
			if got := see.UIDs(); len(got) != want {
				t.Errorf("step %d, %v: %v", n, err, got)
			}
		}
		if files, _ := filepath.Glob(filepath.Join(b.dir, "tmp", "*.R*")); len(files) > 0 {
			t.Errorf("step %d, %v: %v", n, err, files)
		}
		if uid, err := m.Append(t.Context(), strings.NewReader("y\n"), 0, nil, time.Time{}); uid == 0 || err != nil {
			t.Errorf("step %d, then: %v", n, err)
		}
		if !failed {
			break
		}
		steps = n
	}
	if steps < 15 {
		t.Errorf("only %d steps were tried", steps)
	}
}

// A reader that fails leaves nothing.
func TestAppendOfHalfAMessage(t *testing.T) {
	b := newBox(t)
	m := b.open()
	r := io.MultiReader(strings.NewReader("half\r\n"), &failing{})
	if _, err := m.Append(t.Context(), r, 0, nil, time.Time{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if files, _ := os.ReadDir(filepath.Join(b.dir, "tmp")); len(files) > 0 || len(m.UIDs()) > 0 {
		t.Error(files)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// The line that another program has added to the list is read by an Append, and its message keeps that UID.
func TestAppendAfterOthers(t *testing.T) {
	b := newBox(t)
	b.deliver("x\n")
	m := b.open()
	for round := range uint32(3) {
		base := b.deliver("theirs\n")
		l := uidlist.New(m.root, m.dir, nil)
		tx, err := l.Lock(t.Context())
		must(t, err)
		_, err = tx.Read(func(uidlist.Entry) error { return nil })
		must(t, err)
		must(t, tx.Append([]uidlist.Entry{{Name: base}}))
		tx.Unlock()
		uid, err := m.Append(t.Context(), strings.NewReader("ours\n"), Seen, nil, time.Time{})
		if uid != 3+2*round || err != nil {
			t.Fatal(uid, err)
		}
		must(t, m.Sync())
		if got := view(t, m)[base].UID; got != 2+2*round {
			t.Errorf("%s has UID %d", base, got)
		}
	}
	// The list begins anew.
	must(t, os.Remove(filepath.Join(b.dir, listName)))
	if _, err := m.Append(t.Context(), strings.NewReader("ours\n"), Seen, nil, time.Time{}); err != nil {
		t.Error(err)
	}
	must(t, m.Sync())
	if got := m.UIDs(); len(got) != 8 {
		t.Error(got)
	}
}

func TestAppendCounts(t *testing.T) {
	b := newBox(t)
	must(t, os.WriteFile(filepath.Join(b.dir, "maildirsize"), []byte("20S,3C\n0 0\n"), 0o600))
	m := b.open()
	for i, want := range []error{nil, nil, maildir.ErrQuota} {
		_, err := m.Append(t.Context(), strings.NewReader("0123456\r\n"), 0, nil, time.Time{})
		if !errors.Is(err, want) {
			t.Error(i, err)
		}
	}
	if err := m.Room(4, 1); err != nil {
		t.Error(err)
	}
	if err := m.Room(5, 1); !errors.Is(err, maildir.ErrQuota) {
		t.Error(err)
	}
	if files, _ := os.ReadDir(filepath.Join(b.dir, "tmp")); len(files) > 0 || len(m.UIDs()) != 2 {
		t.Error(files)
	}
	if _, err := m.Expunge(0, []uint32{1}); err != nil {
		t.Error(err)
	}
	if err := m.Room(12, 1); err != nil {
		t.Error(err)
	}
}

// A file that comes, and is given a UID by others, after the directories were read and before the list is locked keeps that UID.
func TestSyncWhileOthersGiveUIDs(t *testing.T) {
	b := newBox(t)
	m := b.open()
	b.deliver("ours\n")
	theirs := ""
	ops := &durable.Ops{Fault: func(_ durable.Op, name string) error {
		if theirs == "" && strings.Contains(name, listName+".lock") {
			theirs = b.deliver("theirs\n")
			l := uidlist.New(m.root, m.dir, nil)
			tx, err := l.Lock(t.Context())
			must(t, err)
			_, err = tx.Read(func(uidlist.Entry) error { return nil })
			must(t, err)
			must(t, tx.Append([]uidlist.Entry{{Name: theirs}}))
			must(t, tx.Unlock())
		}
		return nil
	}}
	m.ops, m.list = ops, uidlist.New(m.root, m.dir, ops)
	must(t, m.Sync())
	must(t, m.Sync())
	if got := view(t, m); theirs == "" || len(got) != 2 || got[theirs].UID != 1 {
		t.Errorf("%s: %v", theirs, got)
	}
}

// Another has written the list anew, as Dovecot does now and then, and we are the first to see it when we add a message: it keeps the UID that was told.
func TestAppendToANewList(t *testing.T) {
	b := newBox(t)
	b.deliver("x\n")
	m := b.open()
	list := filepath.Join(b.dir, listName)
	old, err := os.ReadFile(list)
	must(t, err)
	must(t, errors.Join(os.WriteFile(list+".new", old, 0o600), os.Rename(list+".new", list)))
	uid, err := m.Append(t.Context(), strings.NewReader("a\r\n"), 0, nil, time.Time{})
	must(t, err)
	must(t, m.Sync())
	if l := m.UIDs(); !slices.Equal(l, []uint32{1, uid}) {
		t.Errorf("UIDs %v, %d was told", l, uid)
	}
}

// TestFirstAppendKeepsUID: who has opened a folder by its index has not read the list of UIDs when he appends to it for the first time.
func TestFirstAppendKeepsUID(t *testing.T) {
	b := newBox(t)
	for i := range 2 {
		m := b.open()
		uid, err := m.Append(t.Context(), strings.NewReader("a: b\n\n"), 0, nil, time.Time{})
		must(t, err)
		must(t, m.Sync())
		if _, there := m.Message(uid); !there || len(m.UIDs()) != i+1 {
			t.Fatalf("Append said %d, the UIDs are %d", uid, m.UIDs())
		}
	}
}

// Many publish at once: each gets UIDs of its own, ascending, in one go or in several, and one that fails takes no other with it.
func TestPublishTogether(t *testing.T) {
	b := newBox(t)
	m := b.open()
	const many = 20
	got := make([][]uint32, many)
	var wg sync.WaitGroup
	for i := range many {
		var staged []*Staged
		for k := range 2 {
			s, err := m.Stage(strings.NewReader(fmt.Sprintf("%d %d\n", i, k)), 0, nil, time.Time{})
			must(t, err)
			staged = append(staged, s)
		}
		if i == many/2 { // its second file is gone
			must(t, os.Remove(filepath.Join(b.dir, "tmp", staged[1].temp)))
		}
		wg.Go(func() {
			var err error
			if got[i], err = m.Publish(t.Context(), staged...); (err != nil) != (i == many/2) {
				t.Errorf("%d: %v, %v", i, got[i], err)
			}
		})
	}
	wg.Wait()
	if n := len(m.UIDs()); n != 2*many-2 {
		t.Fatalf("%d messages", n)
	}
	for i, uids := range got {
		if i == many/2 {
			continue
		}
		for k, uid := range uids {
			f, err := m.File(uid)
			must(t, err)
			if text, err := io.ReadAll(f); string(text) != fmt.Sprintf("%d %d\n", i, k) || err != nil {
				t.Errorf("UID %d is %q, %v", uid, text, err)
			}
			f.Close()
		}
		if len(uids) != 2 || uids[0] >= uids[1] {
			t.Errorf("%d: %v", i, uids)
		}
	}
	if left, err := os.ReadDir(filepath.Join(b.dir, "new")); len(left) != 2*many-2 || err != nil {
		t.Errorf("%d files in new/, %v", len(left), err)
	}
}
