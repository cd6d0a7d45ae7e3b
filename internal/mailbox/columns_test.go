package mailbox

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postamt/internal/durable"
)

// columnReader counts what is made of facts.
type columnReader struct {
	reader
	made atomic.Int64
}

// The columns of the tests: the facts, nothing or a letter, and how long they are.
const testColumns = 3

func columnOf(dst, facts []byte, k int) []byte {
	switch k {
	case 0:
		return append(dst, bytes.ToUpper(facts[:min(len(facts), 30)])...)
	case 1:
		return append(dst, "x"[:len(facts)%2]...)
	}
	return fmt.Append(dst, len(facts))
}

// openColumns opens the maildir; few is from how many messages on there are columns.
func (b *box) openColumns(few int) (*Mailbox, *columnReader) {
	b.t.Helper()
	root, err := durable.OpenDir(b.dir)
	must(b.t, err)
	defer root.Close()
	r := &columnReader{}
	m, err := Open(root, "", Options{Describe: r.describe, Form: 1, Report: func(err error) { b.t.Log(err) }, Columns: testColumns, Column: func(dst, facts []byte, k int) []byte {
		r.made.Add(1)
		return columnOf(dst, facts, k)
	}})
	must(b.t, err)
	m.few = few
	b.t.Cleanup(func() { m.Close() })
	return m, r
}

// columns asks for columns of messages, and compares all that comes with what is to be said of those of these that there are.
func (b *box) columns(m *Mailbox, set uint32, uids []uint32, facts map[uint32]string) {
	b.t.Helper()
	var came, want []uint32
	for _, uid := range uids {
		if _, ok := facts[uid]; ok {
			want = append(want, uid)
		}
	}
	must(b.t, m.Columns(b.t.Context(), 0, uids, set, func(uid uint32, values [][]byte) error {
		came = append(came, uid)
		for k := range testColumns {
			if is := string(columnOf(nil, []byte(facts[uid]), k)); set>>k&1 != 0 && string(values[k]) != is {
				b.t.Errorf("column %d of %d is %q, not %q", k, uid, values[k], is)
			}
		}
		return nil
	}))
	if !slices.Equal(came, want) {
		b.t.Fatalf("%d came, %v not among them or not wanted", len(came), slices.DeleteFunc(want, func(u uint32) bool { return slices.Contains(came, u) }))
	}
}

// some are each of uids, or not.
func some(uids []uint32, percent int) []uint32 {
	return slices.DeleteFunc(slices.Clone(uids), func(uint32) bool { return rand.IntN(100) >= percent })
}

// What was asked for twice is in the file, for this process and others; what has come, gone or been copied since is right too.
func TestColumns(t *testing.T) {
	b := newBox(t)
	want := b.texts(3000)
	m, r := b.openColumns(20)
	all := m.UIDs()
	for range 2 {
		b.columns(m, 7, all, want)
	}
	made := func(m *Mailbox, r *columnReader, set uint32, uids []uint32, most int64) {
		t.Helper()
		before := r.made.Load()
		b.columns(m, set, uids, want)
		if n := r.made.Load() - before; n > most {
			t.Errorf("%d values made, not %d", n, most)
		}
	}
	made(m, r, 7, all, 0)
	for set := range uint32(8) {
		made(m, r, set, some(all, 50), 0)
		made(m, r, set, some(all, 2), 3*int64(len(all))/30)
	}
	other, ro := b.openColumns(20)
	made(other, ro, 7, all, 0)

	maps.Copy(want, b.texts(100))
	for _, m := range []*Mailbox{m, other} {
		must(t, m.Sync())
	}
	all = m.UIDs()
	for range 2 { // too few for another file
		made(m, r, 1, all, 100)
	}
	maps.Copy(want, b.texts(200))
	must(t, m.Sync())
	all = m.UIDs()
	for range 2 {
		b.columns(m, 1, all, want)
	}
	made(m, r, 7, all, 0)
	must(t, other.Sync())
	b.columns(other, 1, all, want) // which finds that it knows too little
	made(other, ro, 7, all, 0)     // and that there is a new file

	validity, _, _, _ := m.Status()
	gone := all[500:700]
	if failed, err := m.Expunge(validity, gone); len(failed) > 0 || err != nil {
		t.Fatal(failed, err)
	}
	for _, uid := range gone {
		delete(want, uid)
	}
	made(m, r, 7, all, 0)
	made(m, r, 5, some(all, 60), 0)
	copied, err := m.Copy(t.Context(), validity, all[:100], m)
	must(t, err)
	for _, c := range copied {
		want[c.To] = want[c.From]
	}
	made(m, r, 7, m.UIDs(), 300)
	m.Close()
	must(t, os.Remove(filepath.Join(b.dir, indexName)))
	m, r = b.openColumns(20)
	b.columns(m, 7, m.UIDs(), want) // by which the cache is found to be of these messages
	made(m, r, 7, m.UIDs(), 300)
	if err := m.Columns(t.Context(), validity+1, m.UIDs(), 1, nil); !errors.Is(err, ErrValidity) {
		t.Error(err)
	}
	end := errors.New("enough")
	for _, uids := range [][]uint32{m.UIDs(), m.UIDs()[:10], m.UIDs()[3000:]} {
		n := 0
		if err := m.Columns(t.Context(), validity, uids, 1, func(uint32, [][]byte) error {
			if n++; n == 5 {
				return end
			}
			return nil
		}); !errors.Is(err, end) || n != 5 {
			t.Error(n, err)
		}
	}
}

// Whatever octet of the file is another, or wherever it ends, what it says is right; and so it is when it is cut or replaced under one who reads it.
func TestColumnsDamaged(t *testing.T) {
	b := newBox(t)
	want := b.texts(12)
	m, _ := b.openColumns(1)
	all := m.UIDs()
	for range 3 {
		b.columns(m, 7, all, want)
	}
	path := filepath.Join(b.dir, columnsName)
	whole, err := os.ReadFile(path)
	must(t, err)
	try := func(bad []byte) {
		t.Helper()
		must(t, os.WriteFile(path, bad, 0o600)) // the file that m has open
		b.columns(m, 7, all, want)
		other, r := b.openColumns(1)
		for range 3 {
			b.columns(other, 7, all, want)
		}
		r.made.Store(0)
		b.columns(other, 7, all, want)
		if n := r.made.Load(); n > 0 {
			t.Errorf("%d values made", n)
		}
		other.Close()
	}
	for at := range whole {
		bad := slices.Clone(whole)
		bad[at] ^= 1 << (at % 8)
		try(bad)
		if at%3 == 0 {
			try(whole[:at])
		}
	}
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
	b.columns(m, 7, all, want)
}

// The file of an older list says nothing of the messages that have its UIDs now.
func TestColumnsOfAnother(t *testing.T) {
	b := newBox(t)
	m, _ := b.openColumns(1)
	want := b.texts(10)
	must(t, m.Sync())
	all := m.UIDs()
	for range 3 {
		b.columns(m, 7, all, want)
	}
	path := filepath.Join(b.dir, columnsName)
	old, err := os.ReadFile(path)
	must(t, err)
	m.Close()
	for _, name := range []string{listName, cacheName} {
		must(t, os.Remove(filepath.Join(b.dir, name)))
		for _, f := range []string{"new", "cur"} {
			entries, _ := os.ReadDir(filepath.Join(b.dir, f))
			for i, e := range entries { // other texts
				text := fmt.Sprint(name, i, "\n")
				must(t, os.WriteFile(filepath.Join(b.dir, f, e.Name()), []byte(text), 0o600))
			}
		}
		os.Remove(filepath.Join(b.dir, cacheName))
		os.Remove(filepath.Join(b.dir, indexName))
		must(t, os.WriteFile(path, old, 0o600))
		m, _ = b.openColumns(1)
		all = m.UIDs()
		_, want = factsOf(t, m, all)
		for range 3 {
			b.columns(m, 7, all, want)
		}
		m.Close()
	}
}

// Long values are in small blocks, or in none: memory is bounded, whoever has sent so many long fields. What has no facts that are kept is made each time, and nothing once it is gone.
func TestColumnsLong(t *testing.T) {
	b := newBox(t)
	want := map[uint32]string{}
	for i := range 60 {
		size := 60_000
		switch i % 20 {
		case 7:
			size = maxValue + 1
		case 13:
			size = maxFacts + 1
		}
		text := fmt.Sprint(i, strings.Repeat("x", size), "\n")
		b.deliver(text)
		want[uint32(i+1)] = "of " + text
	}
	m, r := b.openColumns(1)
	m.column = func(dst, facts []byte, k int) []byte {
		r.made.Add(1)
		return append(dst, facts[:min(len(facts), maxValue+2)]...)
	}
	uids := m.UIDs()
	ask := func(most int64) (came []uint32) {
		t.Helper()
		r.made.Store(0)
		must(t, m.Columns(t.Context(), 0, uids, 7, func(uid uint32, values [][]byte) error {
			came = append(came, uid)
			for k := range values {
				if is := want[uid][:min(len(want[uid]), maxValue+2)]; string(values[k]) != is {
					t.Errorf("column %d of %d: %.20q and %d octets", k, uid, values[k], len(values[k]))
				}
			}
			return nil
		}))
		if n := r.made.Load(); n > most {
			t.Errorf("%d values made, not %d", n, most)
		}
		return came
	}
	for range 3 {
		ask(1 << 20)
	}
	if came := ask(3 * 6); len(came) != 60 {
		t.Errorf("%d of 60", len(came))
	}
	for _, block := range m.tabled.file.blocks {
		octets := 0
		for _, n := range block.octets {
			octets += int(n)
		}
		if octets > blockOctets+maxColumns*maxValue+2*testColumns*block.rows {
			t.Errorf("a block of %d rows has %d octets", block.rows, octets)
		}
	}
	validity, _, _, _ := m.Status()
	if failed, err := m.Expunge(validity, []uint32{14, 20}); len(failed) > 0 || err != nil { // 14: its facts are not kept
		t.Fatal(failed, err)
	}
	if came := ask(1 << 20); len(came) != 58 || slices.Contains(came, 14) || slices.Contains(came, 20) {
		t.Errorf("of those that are there: %v", came)
	}
}

// Whatever step of writing fails, what is said is right; one failure is reported, and the next process makes the file.
func TestColumnsStepsFail(t *testing.T) {
	for n := 1; ; n++ {
		b := newBox(t)
		want := b.texts(30)
		m, _ := b.openColumns(1)
		all := m.UIDs()
		b.columns(m, 7, all, want)
		steps, reports := 0, 0
		m.report = func(error) { reports++ }
		m.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
			if !strings.Contains(name, columnsName) {
				return nil
			}
			if steps++; steps == n {
				return fmt.Errorf("step %d: %s %s", n, op, name)
			}
			return nil
		}}
		for range 3 {
			b.columns(m, 7, all, want)
		}
		if steps < n {
			if n < 3 {
				t.Errorf("only %d steps: this shows nothing", steps)
			}
			return
		}
		if reports != 1 {
			t.Errorf("step %d: %d reports", n, reports)
		}
		other, r := b.openColumns(1)
		for range 3 {
			b.columns(other, 7, all, want)
		}
		r.made.Store(0)
		if b.columns(other, 7, all, want); r.made.Load() > 0 {
			t.Errorf("step %d: no file", n)
		}
		if _, err := os.Stat(filepath.Join(b.dir, columnsTemp)); err == nil {
			t.Errorf("step %d: a temporary file is left", n)
		}
	}
}

// Several ask while others deliver and remove, and files go missing. Run with -race.
func TestColumnsTogether(t *testing.T) {
	b := newBox(t)
	b.texts(300)
	boxes := make([]*Mailbox, 3)
	for i := range boxes {
		boxes[i], _ = b.openColumns(5)
	}
	var wg sync.WaitGroup
	for i, m := range boxes {
		for k := range 2 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), uint64(k)))
				for range 40 {
					if err := m.Sync(); err != nil {
						t.Error(err)
					}
					uids := m.UIDs()
					for k, last := 0, uint32(0); k < 2; k, last = k+1, 0 {
						if err := m.Columns(t.Context(), 0, uids[r.IntN(len(uids)/2):], 5, func(uid uint32, values [][]byte) error {
							if uid <= last || !bytes.HasPrefix(values[0], []byte("OF MESSAGE ")) || len(values[2]) == 0 {
								return fmt.Errorf("%d after %d: %q", uid, last, values)
							}
							last = uid
							return nil
						}); err != nil && !errors.Is(err, os.ErrNotExist) {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Go(func() {
		for round := range 30 {
			b.texts(20)
			must(t, boxes[0].Sync())
			validity, _, _, _ := boxes[0].Status()
			if _, err := boxes[0].Expunge(validity, some(boxes[0].UIDs(), 5)); err != nil {
				t.Error(err)
			}
			if round%10 == 5 {
				os.Remove(filepath.Join(b.dir, []string{columnsName, cacheName, indexName}[round/10]))
			}
		}
	})
	wg.Wait()
	b.check(boxes[0])
}
