package uidlist

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postamt/internal/durable"
)

const guid = "0123456789abcdef0123456789abcdef"

// folder makes a maildir with a list, "": none, and opens it.
func folder(t testing.TB, list string) (*List, *os.File) {
	t.Helper()
	path := t.TempDir()
	for _, d := range []string{"tmp", "new", "cur"} {
		if err := os.Mkdir(path+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if list != "" {
		write(t, path+"/"+listFile, list)
	}
	dir, err := durable.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return New(dir, dir, nil), dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func text(t testing.TB, dir *os.File, name string) string {
	t.Helper()
	p, err := os.ReadFile(dir.Name() + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

type reader interface {
	Read(func(Entry) error) (Change, error)
}

// read returns the entries as "uid name" and, if there are any, "[keys]".
func read(r reader) (Change, string, error) {
	var all []string
	change, err := r.Read(func(e Entry) error {
		s := fmt.Sprint(e.UID, " ", e.Name)
		if e.Keys != "" {
			s += " [" + e.Keys + "]"
		}
		all = append(all, s)
		return nil
	})
	return change, strings.Join(all, ", "), err
}

func lock(t testing.TB, l *List) *Tx {
	t.Helper()
	tx, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func unlock(t testing.TB, tx *Tx) {
	t.Helper()
	if err := tx.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// add appends names in a Tx of its own, making or repairing the list first.
func add(l *List, t testing.TB, names ...string) ([]Entry, error) {
	tx := lock(t, l)
	defer tx.Unlock()
	if err := ready(tx, 0); err != nil {
		return nil, err
	}
	var entries []Entry
	for _, n := range names {
		entries = append(entries, Entry{Name: n})
	}
	return entries, tx.Append(entries)
}

// ready is what a mailbox does at the begin of a Tx.
func ready(tx *Tx, next UID) error {
	nothing := func(Entry) error { return nil }
	change, err := tx.Read(nothing)
	switch {
	case err == nil && change == Missing:
		err = tx.Create()
	case errors.Is(err, ErrDamaged):
		_, err = tx.Repair(next)
	default:
		return err
	}
	if err == nil {
		_, err = tx.Read(nothing)
	}
	return err
}

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"3 V7 N9":                         "3 7 9  []",
		"3 N9 Z1 V7 G" + guid + " Pf:o Q": "3 7 9 " + guid + " [Z1 Pf:o Q]",
		"3 V7 N9 Gzz":                     "3 7 9  []",
		"3  V4294967295  N4294967295 ":    "3 4294967295 4294967295  []",
		"1 7 9":                           "1 7 9  []",
		"1 7 9 ":                          "1 7 9  []",
		"":                                "-", "3": "-", "3 V7": "-", "3 N9": "-", "3 V0 N9": "-", "3 V7 N0": "-", "3 V4294967296 N1": "-", "3 V-1 N1": "-", "3 V+1 N1": "-",
		"3 Vx N9": "-", "2 7 9": "-", "4 V7 N9": "-", "1 7": "-", "1 7 x": "-", "33 V7 N9": "-", "\x00\x00\x00": "-",
	} {
		got := "-"
		if h, ok := parseHeader(line); ok {
			got = fmt.Sprint(h.Version, h.Validity, h.Next, " ", h.GUID, " ", h.Rest)
			got = fmt.Sprintf("%d %d %d %s %v", h.Version, h.Validity, h.Next, h.GUID, h.Rest)
		}
		if got != want {
			t.Errorf("header %q: %s, want %s", line, got, want)
		}
	}
	for line, want := range map[string]string{
		"5 :a": "5 [] a", "5 W1 P:x Zz9 :a": "5 [W1 P:x Zz9] a", "5  W1  :a b": "5 [W1] a b", "5 :a:2,FS": "5 [] a", "5 ::a": "-", "4294967294 :a": "4294967294 [] a",
		"4294967295 :a": "-", "4294967296 :a": "-", "0 :a": "-", "5": "-", "5 ": "-", "5 a": "-", "5 W1": "-", "5 :": "-", "5 : ": "5 []  ", "5 :a/b": "-", "5 :a\rb": "-", "5:a": "-",
		"-5 :a": "-", "+5 :a": "-", " 5 :a": "-", "": "-", "5 :a\x00": "-",
	} {
		got := "-"
		if e, ok := parseEntry(line, 3); ok {
			got = fmt.Sprintf("%d [%s] %s", e.UID, e.Keys, e.Name)
		}
		if got != want {
			t.Errorf("entry %q: %s, want %s", line, got, want)
		}
	}
	if e, ok := parseEntry("5 a:2,S", 1); !ok || e.Name != "a" || e.UID != 5 {
		t.Error(e, ok)
	}
}

func TestKeys(t *testing.T) {
	e := Entry{Keys: "S1 Zq W2"}
	if !e.SetKey('W', "3") || !e.SetKey('P', "x") || e.SetKey('P', "a b") || e.SetKey('p', "a") || e.SetKey('P', "a\n") || e.Keys != "S1 Zq W3 Px" {
		t.Errorf("%q", e.Keys)
	}
	if v, ok := e.Key('Z'); v != "q" || !ok {
		t.Error(v, ok)
	}
	if v, ok := e.Key('G'); ok {
		t.Error(v)
	}
}

func TestReadGoesOnWhereItWas(t *testing.T) {
	l, dir := folder(t, "3 V7 N3 G"+guid+"\n1 :a\n2 W9 :b:2,S\n")
	path := dir.Name() + "/" + listFile
	step := func(want string, wantChange Change, next UID) {
		t.Helper()
		change, got, err := read(l)
		if err != nil || got != want || change != wantChange || l.Header().Next != next {
			t.Fatalf("%v %q next %d, %v; want %v %q %d", change, got, l.Header().Next, err, wantChange, want, next)
		}
	}
	appendText := func(s string) {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, s)
		f.Close()
	}
	step("1 a, 2 b [W9]", Replaced, 3)
	step("", Unchanged, 3)
	appendText("8 :c\n9 :d")
	step("8 c", Grown, 9)
	step("", Unchanged, 9)
	appendText("d\n")
	step("9 dd", Grown, 10)
	// Another file, of the same inode or not: all of it anew.
	write(t, path, "3 V7 N12 G"+guid+"\n1 :a\n2 W9 :b:2,S\n8 :x\n9 :dd\n10 :e\n")
	step("1 a, 2 b [W9], 8 x, 9 dd, 10 e", Replaced, 12)
	write(t, path, "3 V7 N12 G"+guid+"\n1 :a\n9 W9 :b:2,S\n") // shorter
	step("1 a, 9 b [W9]", Replaced, 12)
	write(t, path, "3 V7 N12 G"+guid+"\n1 :abcdefghijklmnopqrs\n10 :b\n11 :c\n") // longer, the last line is not where it was
	step("1 abcdefghijklmnopqrs, 10 b, 11 c", Replaced, 12)
	os.Remove(path)
	step("", Missing, 0)
}

// f's error is Read's, and the next Read passes all again.
func TestReadBeginsAnewAfterAnError(t *testing.T) {
	l, _ := folder(t, "3 V7 N3\n1 :a\n2 :b\n")
	stop := errors.New("stop")
	if _, err := l.Read(func(e Entry) error {
		if e.UID == 2 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Error(err)
	}
	if _, got, err := read(l); got != "1 a, 2 b" {
		t.Error(got, err)
	}
}

func TestAppend(t *testing.T) {
	l, dir := folder(t, "3 V7 N9 Zx G"+guid+"\n1 :a\n2 W9 Q8 :b\n")
	other := New(dir, dir, nil)
	read(other)
	tx := lock(t, l)
	if err := tx.Append([]Entry{{Name: "c"}}); !errors.Is(err, errNotRead) {
		t.Error(err)
	}
	read(tx)
	for _, bad := range []string{"", "a/b", "a\nb", "a\rb", "a:2,S", "\x00"} {
		if err := tx.Append([]Entry{{Name: "ok"}, {Name: bad}}); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	new := []Entry{{Name: "c", Keys: "P1"}, {Name: "d"}}
	if err := tx.Append(new); err != nil || new[0].UID != 9 || new[1].UID != 10 {
		t.Error(new, err)
	}
	more := []Entry{{Name: "e"}}
	if err := tx.Append(more); err != nil || more[0].UID != 11 || l.Header().Next != 12 || l.Entries() != 5 {
		t.Error(more, err, l.Header())
	}
	unlock(t, tx)
	// The header stays as it is.
	if got, want := text(t, dir, listFile), "3 V7 N9 Zx G"+guid+"\n1 :a\n2 W9 Q8 :b\n9 P1 :c\n10 :d\n11 :e\n"; got != want {
		t.Errorf("%q", got)
	}
	if c, got, err := read(other); c != Grown || got != "9 c [P1], 10 d, 11 e" {
		t.Error(c, got, err)
	}
	if c, got, err := read(l); c != Unchanged || got != "" {
		t.Error(c, got, err)
	}
	// What another appended meanwhile is seen under the lock.
	tx = lock(t, other)
	read(tx)
	if err := tx.Append([]Entry{{Name: "f"}}); err != nil {
		t.Error(err)
	}
	unlock(t, tx)
	if e, err := add(l, t, "g"); err != nil || e[0].UID != 13 {
		t.Error(e, err)
	}
}

func TestRewrite(t *testing.T) {
	l, dir := folder(t, "3 V7 N3 Zx\n1 :a\n2 W9 Q8 :b\n5 :c\n")
	tx := lock(t, l)
	read(tx)
	if err := tx.Rewrite(func(e *Entry) bool {
		e.SetKey('P', "u"+e.Name)
		e.UID, e.Name = 77, "changed"
		return !strings.HasSuffix(e.Keys, "ua")
	}); err != nil {
		t.Fatal(err)
	}
	h := l.Header()
	if want := fmt.Sprintf("3 V7 N6 G%s Zx\n2 W9 Q8 Pub :b\n5 Puc :c\n", h.GUID); text(t, dir, listFile) != want || !isGUID(h.GUID) {
		t.Errorf("%q", text(t, dir, listFile))
	}
	if err := tx.Append([]Entry{{Name: "d"}}); err != nil || l.Entries() != 3 {
		t.Error(err)
	}
	unlock(t, tx)
	if _, got, err := read(New(dir, dir, nil)); got != "2 b [W9 Q8 Pub], 5 c [Puc], 6 d" {
		t.Error(got, err)
	}
	if names, _ := filepath.Glob(dir.Name() + "/tmp/*"); names != nil {
		t.Error(names)
	}
}

// A list of version 1, and one that ends in half a line, are written anew before a line is added.
func TestAppendToAnother(t *testing.T) {
	for list, want := range map[string]string{
		"1 7 3\n1 a\n2 b:2,S\n":       "1 :a\n2 :b\n3 :new\n",
		"3 V7 N3\n1 :a\n2 :b\n3 :hal": "1 :a\n2 :b\n3 :new\n", // nobody was told of 3
	} {
		l, dir := folder(t, list)
		if _, err := add(l, t, "new"); err != nil {
			t.Error(err)
		}
		if got := text(t, dir, listFile); !strings.HasSuffix(got, "\n"+want) || !strings.HasPrefix(got, "3 V7 N4 ") {
			t.Errorf("%q becomes %q", list, got)
		}
	}
}

func TestMode(t *testing.T) {
	l, dir := folder(t, "")
	os.Chmod(dir.Name(), 0o2770)
	add(l, t, "a")
	if st, err := os.Stat(dir.Name() + "/" + listFile); err != nil || st.Mode() != 0o660 {
		t.Error(st.Mode(), err)
	}
}

func TestNotAFile(t *testing.T) {
	l, dir := folder(t, "")
	os.Symlink("/etc/passwd", dir.Name()+"/"+listFile)
	if _, _, err := read(l); err == nil || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	os.Remove(dir.Name() + "/" + listFile)
	os.Mkdir(dir.Name()+"/"+listFile, 0o700)
	if _, _, err := read(l); err == nil || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestValidity(t *testing.T) {
	_, dir := folder(t, "")
	now := uint32(time.Now().Unix())
	a, err := NextValidity(dir, 0, nil)
	if err != nil || a < now {
		t.Fatal(a, err)
	}
	var all []uint32
	got := make(chan uint32)
	for range 4 {
		go func() {
			for range 10 {
				v, err := NextValidity(dir, 0, nil)
				if err != nil {
					t.Error(err)
				}
				got <- v
			}
		}()
	}
	for range 40 {
		all = append(all, <-got)
	}
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != 40 || all[0] <= a {
		t.Error(a, all)
	}
	if v, err := NextValidity(dir, 4e9, nil); v != 4e9+1 || err != nil {
		t.Error(v, err)
	}
	names, _ := filepath.Glob(dir.Name() + "/" + validityFile + "*")
	if want := fmt.Sprintf("%s.%08x", validityFile, uint32(4e9+1)); len(names) != 2 || filepath.Base(names[1]) != want || text(t, dir, validityFile) != want[len(want)-8:] {
		t.Error(names)
	}
	if v, err := NextValidity(dir, 1<<32-1, nil); err == nil {
		t.Error(v)
	}
	// Only the hint is left, as in a copy without the empty file.
	os.Remove(names[1])
	if v, err := NextValidity(dir, 0, nil); v != 4e9+2 || err != nil {
		t.Error(v, err)
	}
}

func TestKeywords(t *testing.T) {
	l, dir := folder(t, "3 V7 N3\n")
	write(t, dir.Name()+"/"+keywordsFile, "garbage\n2 $Forwarded\n26 toohigh\n3 $forwarded\n0 first\n0\nx y\n")
	future := time.Now().Add(time.Hour).Truncate(time.Second)
	os.Chtimes(dir.Name()+"/"+keywordsFile, future, future)
	tx := lock(t, l)
	defer unlock(t, tx)
	for _, c := range []struct {
		name string
		want int
		err  error
	}{{"$FORWARDED", 2, nil}, {"First", 0, nil}, {"b", 1, nil}, {"c", 3, nil}, {"a b", -1, ErrKeyword}, {"", -1, ErrKeyword}, {"a\n", -1, ErrKeyword}, {"ä", -1, ErrKeyword}, {strings.Repeat("k", 256), -1, ErrKeyword}} {
		if i, err := tx.AddKeyword(c.name); i != c.want || !errors.Is(err, c.err) {
			t.Errorf("%.20q: %d, %v", c.name, i, err)
		}
	}
	if got := text(t, dir, keywordsFile); got != "0 first\n1 b\n2 $Forwarded\n3 c\n" {
		t.Errorf("%q", got)
	}
	// Dovecot sees a change by its second, which each of the two writes raised.
	if st, _ := os.Stat(dir.Name() + "/" + keywordsFile); !st.ModTime().Equal(future.Add(2 * time.Second)) {
		t.Error(st.ModTime(), future)
	}
	for i := 4; i < MaxKeywords; i++ {
		if n, err := tx.AddKeyword(fmt.Sprint("k", i)); n != i || err != nil {
			t.Fatal(n, err)
		}
	}
	if i, err := tx.AddKeyword("27th"); !errors.Is(err, ErrKeywordsFull) {
		t.Error(i, err)
	}
	if k, err := l.Keywords(); err != nil || k[25] != "k25" || k.Index("K25") != 25 || k.Index("") != -1 {
		t.Error(k, err)
	}
	if Letters(1|1<<25|1<<2) != "acz" {
		t.Error(Letters(1 | 1<<25 | 1<<2))
	}
}

func TestCourier(t *testing.T) {
	l, dir := folder(t, "")
	write(t, dir.Name()+"/"+courierList, "1 1234567 9\n3 a\n5 b\n7 c\n")
	write(t, dir.Name()+"/"+courierPop3, "/3 12 99\nx:2,S 10 11:99:1\nb:2,RS 20 8:98:0\nwith space 30 4:99:0\nbroken\nbro ken\na/b 3 3:3:0\n")
	if _, err := add(l, t, "new"); err != nil {
		t.Fatal(err)
	}
	if _, got, err := read(New(dir, dir, nil)); got != "3 a, 5 b [O2 PUID8-98], 7 c, 9 x [O1 PUID11-99], 10 with space [O3 PUID4-99], 11 new" || l.Header().Validity != 1234567 {
		t.Error(got, err, l.Header())
	}

	// What both have seen takes no other UID: clients know which is the next.
	l, dir = folder(t, "")
	write(t, dir.Name()+"/"+courierList, "1 1234567 9\n3 a\n5 b\n")
	write(t, dir.Name()+"/"+courierPop3, "/3 12 99\na:2,S 10 1:99:0\nb:2, 10 2:99:0\n")
	add(l, t)
	if l.Header().Next != 9 {
		t.Error(l.Header())
	}

	// POP3 alone.
	l, dir = folder(t, "")
	write(t, dir.Name()+"/"+courierPop3, "/2 12 99\nb 20 8:98\na 20 9:98\n")
	add(l, t)
	if _, got, err := read(New(dir, dir, nil)); got != "1 b [O1 PUID8-98], 2 a [O2 PUID9-98]" || l.Header().Next != 3 || int64(l.Header().Validity) < time.Now().Unix()-60 {
		t.Error(got, err, l.Header())
	}

	// A damaged list gives what is right of it, one that is none nothing.
	l, dir = folder(t, "")
	write(t, dir.Name()+"/"+courierList, "1 1234567 4\n3 a\ngarbage\n2 z\n5 b\n")
	add(l, t)
	if _, got, err := read(New(dir, dir, nil)); got != "3 a, 5 b" && got != "2 z, 5 b" || l.Header().Next != 6 {
		t.Error(got, err, l.Header())
	}
	l, dir = folder(t, "")
	write(t, dir.Name()+"/"+courierList, "3 V1 N4\n3 :a\n")
	add(l, t)
	if _, got, err := read(New(dir, dir, nil)); got != "" || l.Header().Validity == 1 {
		t.Error(got, err, l.Header())
	}
}

func TestCourierKeywords(t *testing.T) {
	_, dir := folder(t, "")
	if _, _, ok, err := CourierKeywords(dir); ok || err != nil {
		t.Error(ok, err)
	}
	path := dir.Name() + "/" + courierKeywords + "/"
	os.Mkdir(path, 0o700)
	for name, text := range map[string]string{
		":list": "$Label1\nwork\n\na:0 1\nb,S=1:1\nc:0\nd:7\nnothing\n",
		"c":     "Work\nextra\n", ".9.c": "lost\n",
		".1.e": "old\n", ".10.e": "$label1\n", ".9.e": "old\n",
		"b,S=1": "",
	} {
		write(t, path+name, text)
	}
	k, letters, ok, err := CourierKeywords(dir)
	if err != nil || !ok || k[0] != "$Label1" || k[1] != "work" || k.Index("extra") < 2 {
		t.Error(k, ok, err)
	}
	want := map[string]string{"a": "ab", "c": "b" + Letters(1<<k.Index("extra")), "e": "a"}
	if fmt.Sprint(letters) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", letters, want)
	}
}
