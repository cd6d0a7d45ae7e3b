package mailbox

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/internal/durable"
	"postamt/internal/maildir"
	"postamt/internal/uidlist"
)

// Whatever step fails, one of both messages is there: the new one when it says so, the old one when not; and no third.
func TestReplace(t *testing.T) {
	steps := 0
	for n := 1; ; n++ {
		b := newBox(t)
		b.deliver("old\n")
		m := b.open()
		count := 0
		ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
			if strings.Contains(name, indexName) {
				return nil
			}
			if count++; count == n {
				return fmt.Errorf("step %d: %s", n, op)
			}
			return nil
		}}
		m.ops, m.list = ops, uidlist.New(m.root, m.dir, ops)
		var uid uint32
		s, err := m.Stage(strings.NewReader("new\n"), Draft, nil, time.Time{})
		if err == nil {
			uid, err = m.Replace(t.Context(), 0, 1, m, s)
		}
		failed := count >= n
		m.ops, m.list = nil, uidlist.New(m.root, m.dir, nil)
		m.ahead = nil
		want := "old\n"
		if err == nil {
			want = "new\n"
		} else if !failed {
			t.Fatal(err)
		}
		for _, see := range []*Mailbox{m, b.open()} {
			must(t, see.Sync())
			var all []string
			for _, uid := range see.UIDs() {
				f, err := see.File(uid)
				must(t, err)
				text, _ := io.ReadAll(f)
				f.Close()
				all = append(all, string(text))
			}
			// That the directory cannot be synced after the removal is told as an error, and the old one may be gone.
			if got := strings.Join(all, "+"); got != want && !(err != nil && got == "new\n") {
				t.Errorf("step %d, %v: %q", n, err, got)
			}
		}
		if files, _ := filepath.Glob(filepath.Join(b.dir, "tmp", "*.R*")); len(files) > 0 {
			t.Errorf("step %d, %v: %v", n, err, files)
		}
		if !failed {
			if uid != 2 {
				t.Errorf("UID %d", uid)
			}
			break
		}
		steps = n
	}
	if steps < 15 {
		t.Errorf("only %d steps were tried", steps)
	}
}

// RFC 8508 section 3.4: only what is more than before needs room.
func TestReplaceQuota(t *testing.T) {
	b := newBox(t)
	b.deliver("12345678\n")
	m := b.open()
	m.quota = maildir.Quota{Bytes: 10, Messages: 1}
	stage := func(text string) *Staged {
		s, err := m.Stage(strings.NewReader(text), 0, nil, time.Time{})
		must(t, err)
		return s
	}
	if err := m.RoomInstead(1, m, 11); !errors.Is(err, maildir.ErrQuota) {
		t.Error(err)
	}
	if _, err := m.Replace(t.Context(), 0, 1, m, stage("0123456789\n")); !errors.Is(err, maildir.ErrQuota) {
		t.Error(err)
	}
	must(t, m.RoomInstead(1, m, 10))
	if uid, err := m.Replace(t.Context(), 0, 1, m, stage("012345678\n")); uid != 2 || err != nil {
		t.Error(uid, err)
	}
	m.quota = maildir.Quota{Bytes: 5, Messages: 1} // it is over it now
	if uid, err := m.Replace(t.Context(), 0, 2, m, stage("0123456\n")); uid != 3 || err != nil {
		t.Error(uid, err)
	}
	if _, err := m.Replace(t.Context(), 0, 2, m, stage("x\n")); !errors.Is(err, ErrExpunged) {
		t.Error(err)
	}
}
