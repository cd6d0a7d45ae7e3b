package mailbox

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postamt/internal/durable"
	"postamt/internal/uidlist"
)

// M17: whatever becomes of the list of UIDs, and of the index beside it: all messages are there, each under one UID, and under one UIDVALIDITY no UID is ever
// another message's, for two processes and for those that come later.
func TestM17_ListDamaged(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 17))
		b := newBox(t)
		type key struct{ validity, uid uint32 }
		told := map[key]string{}
		messages := map[string]bool{}
		root, err := durable.OpenDir(b.dir)
		must(t, err)
		open := func() *Mailbox {
			m, err := Open(root, "", Options{})
			must(t, err)
			return m
		}
		boxes := []*Mailbox{open(), open()}
		list, index := filepath.Join(b.dir, listName), filepath.Join(b.dir, indexName)
		for step := range 60 {
			what := "nothing"
			text, _ := os.ReadFile(list)
			at := 0
			if len(text) > 0 {
				at = r.IntN(len(text))
			}
			switch r.IntN(14) {
			case 0:
				what = "lost"
				os.Remove(list)
			case 1:
				what = "cut"
				os.Truncate(list, int64(at))
			case 2:
				what = "empty"
				os.Truncate(list, 0)
			case 3:
				what = "garbage"
				garbage := [][]byte{[]byte("\n"), []byte("\x00\x00\x00"), []byte("\ngarbage\n"), []byte(" :"), []byte("9999999999 :x\n"), bytes.Repeat([]byte("x"), 20_000)}[r.IntN(6)]
				os.WriteFile(list, slices.Insert(text, at, garbage...), 0o600)
			case 4:
				what = "a line twice"
				if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
					os.WriteFile(list, append(text, text[at+i+1:]...), 0o600)
				}
			case 5:
				what = "the index lost"
				os.Remove(index)
			case 6:
				what = "both lost"
				os.Remove(index)
				os.Remove(list)
			case 7:
				i := r.IntN(2)
				boxes[i].Close()
				boxes[i] = open()
			case 9:
				what = "cut at the end of a line, when nobody was there"
				boxes[0].Close()
				boxes[1].Close()
				if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
					os.Truncate(list, int64(at+i+1))
				}
				boxes = []*Mailbox{open(), open()}
			case 8:
				for base := range messages {
					must(t, os.Remove(b.find(base)))
					delete(messages, base)
					break
				}
			default:
				messages[b.deliver("x\n")] = true
			}
			for _, m := range boxes {
				err := m.Sync()
				for try := 0; errors.Is(err, errMoved) && try < 3; try++ { // "the next Sync begins anew"
					err = m.Sync()
				}
				if err != nil {
					t.Fatalf("seed %d, step %d, %s: %v", seed, step, what, err)
				}
				validity, next, _, n := m.Status()
				got := view(t, m)
				if n != len(messages) || len(got) != n {
					now, _ := os.ReadFile(list)
					t.Fatalf("seed %d, step %d, %s: %d messages by %d names, want %d\n%.2000q", seed, step, what, n, len(got), len(messages), now)
				}
				for base, x := range got {
					k := key{validity, x.UID}
					if was := told[k]; was != "" && was != base {
						t.Fatalf("seed %d, step %d, %s: %v was %s, is %s", seed, step, what, k, was, base)
					}
					if told[k] = base; !messages[base] || x.UID >= next {
						t.Fatalf("seed %d, step %d, %s: %s is %v, the next %d", seed, step, what, base, k, next)
					}
				}
			}
		}
		for _, m := range boxes {
			m.Close()
		}
		root.Close()
		b.open() // and Check
	}
}

// M17: a list that is an older copy, or was cut at the end of a line, looks whole. What the index has seen is given to nobody again.
func TestM17_OlderList(t *testing.T) {
	t.Parallel()
	for _, add := range []string{"delivered", "appended", "nothing, and the index was lost"} {
		b := newBox(t)
		root, err := durable.OpenDir(b.dir)
		must(t, err)
		defer root.Close()
		for range 9 {
			b.deliver("x\n")
		}
		m, err := Open(root, "", Options{})
		must(t, err)
		list := filepath.Join(b.dir, listName)
		text, err := os.ReadFile(list)
		must(t, err)
		if failed, err := m.Expunge(0, []uint32{6}); len(failed) > 0 || err != nil {
			t.Fatal(failed, err)
		}
		if add != "delivered" { // all that the list has lost is gone
			if failed, err := m.Expunge(0, []uint32{7, 8, 9}); len(failed) > 0 || err != nil {
				t.Fatal(failed, err)
			}
		}
		before := view(t, m)
		validity, next, _, _ := m.Status()
		m.Close()
		must(t, os.WriteFile(list, bytes.Join(bytes.SplitAfter(text, []byte("\n"))[:6], nil), 0o600)) // to UID 5
		m = b.open()
		switch add {
		case "nothing, and the index was lost":
			must(t, os.Remove(filepath.Join(b.dir, indexName)))
			b.deliver("y\n")
			m = b.open()
		case "appended":
			if uid, err := m.Append(t.Context(), strings.NewReader("y\n"), 0, nil, time.Now()); uid < next || err != nil {
				t.Error(uid, err)
			}
		}
		if now, _, _, _ := m.Status(); now != validity {
			t.Fatal("another validity") // would do as well, and is not what happens
		}
		for base, x := range view(t, m) {
			if was := before[base].UID; x.UID != was && x.UID < next {
				t.Errorf("%s: %s had UID %d, has %d, which was another's", add, base, was, x.UID)
			}
		}
	}
}

// M17: when the last UID is given all messages get others under a greater UIDVALIDITY, whoever comes to need one: a Sync, an append or a move.
func TestM17_UsedUp(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"delivered", "appended", "moved"} {
		t.Run(how, func(t *testing.T) {
			b := newBox(t)
			b.deliver("1\n")
			list := filepath.Join(b.dir, listName)
			m, o := b.open(), b.open()
			before, _, _, _ := m.Status()
			must(t, os.WriteFile(list, fmt.Appendf(nil, "3 V%d N%d G00112233445566778899aabbccddeeff\n1 :%s\n", before, uint32(uidlist.MaxUID), baseOf(filepath.Base(b.find("17640")))), 0o600))
			b.deliver("2\n") // the last one
			must(t, m.Sync())
			if got := m.UIDs(); !slices.Equal(got, []uint32{1, uint32(uidlist.MaxUID)}) {
				t.Fatal(got)
			}
			switch how {
			case "delivered":
				b.deliver("3\n")
				must(t, m.Sync())
			case "appended":
				if uid, err := m.Append(t.Context(), strings.NewReader("3\n"), 0, nil, time.Now()); uid != 3 || err != nil {
					t.Fatal(uid, err)
				}
			case "moved":
				from := b.folder(".From")
				if _, err := from.Append(t.Context(), strings.NewReader("3\n"), 0, nil, time.Now()); err != nil {
					t.Fatal(err)
				}
				if moved, err := from.Move(t.Context(), 0, []uint32{1}, m); len(moved) != 1 || moved[0].To != 3 || err != nil {
					t.Fatal(moved, err)
				}
			}
			must(t, o.Sync())
			for _, m := range []*Mailbox{m, o, b.open()} {
				if now, _, _, _ := m.Status(); now <= before || !slices.Equal(m.UIDs(), []uint32{1, 2, 3}) {
					t.Errorf("UIDVALIDITY %d after %d, UIDs %d", now, before, m.UIDs())
				}
			}
			if _, err := m.SetFlags(before, []uint32{1}, Add, Seen, nil); !errors.Is(err, ErrValidity) {
				t.Error(err)
			}
		})
	}
}
