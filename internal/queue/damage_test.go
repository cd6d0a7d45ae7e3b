package queue

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// plant writes content as the file of id, with the mode.
func plant(t testing.TB, q *Queue, id ID, content []byte, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(q.path, id.path())
	os.Remove(path)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// sample is a message's file.
func sample(t testing.TB, q *Queue, e *Envelope, body string) []byte {
	t.Helper()
	put(t, q, e, body)
	b, err := os.ReadFile(filepath.Join(q.path, e.ID.path()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Q01: a file cut at every length. Accepted, it is damage; while it was being
// written, nobody was told and it goes.
func TestQ01_TruncatedAtEveryLength(t *testing.T) {
	q, told := damagedQueue(t)
	e := hardEnvelope()
	whole := sample(t, q, e, "Subject: x\n\ntext\n\nmore\n")
	path := filepath.Join(q.path, e.ID.path())
	for n := range whole {
		plant(t, q, e.ID, whole[:n], liveMode)
		m, err := q.Message(e.ID)
		var d *DamagedError
		if m != nil || !errors.As(err, &d) || d.ID != e.ID || !strings.HasPrefix(d.Moved, "corrupt/"+string(e.ID)) {
			t.Fatalf("length %d: %v, %v", n, m, err)
		}
		if b, err := os.ReadFile(filepath.Join(q.path, d.Moved)); !bytes.Equal(b, whole[:n]) {
			t.Fatalf("length %d: not kept: %v", n, err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Fatalf("length %d: still there", n)
		}
		emptyCorrupt(t, q)

		plant(t, q, e.ID, whole[:n], writingMode)
		if ok, err := q.Recover(e.ID); ok || err != nil {
			t.Fatalf("length %d, written: %v, %v", n, ok, err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Fatalf("length %d, written: still there", n)
		}
	}
	if len(*told) != len(whole) {
		t.Errorf("%d of %d were told", len(*told), len(whole))
	}
	if c := q.names(t, "corrupt"); len(c) != 0 {
		t.Error("what was never acknowledged is in corrupt:", c)
	}
	plant(t, q, e.ID, append(bytes.Clone(whole), 'x'), liveMode)
	if _, err := q.Message(e.ID); err == nil {
		t.Error("a byte too much was not noticed")
	}
}

// The same for a long message, whose writer fills in length and sum last.
func TestQ01_LongMessageUnfinished(t *testing.T) {
	q := newQueue(t)
	e := envelope(manyRcpts(20)...)
	w, err := q.Create(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("0123456789abcde\n"), 3*small/16)); err != nil {
		t.Fatal(err)
	}
	unfinished, err := os.ReadFile(filepath.Join(q.path, e.ID.path()))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(q.path, e.ID.path()))
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{unfinished, unfinished[:small], whole[:small], whole[:len(whole)-1], make([]byte, len(whole)), nil} {
		plant(t, q, e.ID, content, writingMode)
		if ok, err := q.Recover(e.ID); ok || err != nil {
			t.Error(ok, err)
		}
	}
	// Whole, but a page was not written: somebody may miss it.
	q2, told := damagedQueue(t)
	holed := bytes.Clone(whole)
	clear(holed[2*small : 2*small+4096])
	plant(t, q2, e.ID, holed, writingMode)
	var d *DamagedError
	if ok, err := q2.Recover(e.ID); ok || !errors.As(err, &d) || d.Moved == "" || len(*told) != 1 {
		t.Error(ok, err, *told)
	}
	// And whole: adopted.
	plant(t, q, e.ID, whole, writingMode)
	if ok, err := q.Recover(e.ID); !ok || err != nil {
		t.Error(ok, err)
	}
	if e := scan(t, q)[e.ID]; e.Writing {
		t.Error("not adopted")
	}
	if ok, err := q.Recover(e.ID); !ok || err != nil {
		t.Error("again:", ok, err)
	}
	if _, err := q.Recover(NewID(time.Now())); !errors.Is(err, ErrNotExist) {
		t.Error(err)
	}
}

// Q02: every bit flipped. Damage, or a state that is another state, or the
// version: never another message.
func TestQ02_BitFlips(t *testing.T) {
	q, _ := damagedQueue(t)
	e := hardEnvelope()
	e.Rcpts = e.Rcpts[:2]
	e.Rcpts[1].State = Pending
	whole := sample(t, q, e, "Subject: x\n\ntext\n")
	states := 0
	for bit := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		plant(t, q, e.ID, b, liveMode)
		m, err := q.Message(e.ID)
		var d *DamagedError
		switch {
		case err == nil:
			same := m.Envelope
			same.Rcpts = append([]Rcpt(nil), same.Rcpts...)
			for i := range same.Rcpts {
				if same.Rcpts[i].State != Pending {
					states++
				}
				same.Rcpts[i].State = Pending
			}
			if !reflect.DeepEqual(&same, e) || text(t, m) != "Subject: x\n\ntext\n" {
				t.Errorf("bit %d of byte %d made another message of it", bit%8, bit/8)
			}
			m.Close()
		case errors.Is(err, ErrVersion):
			if !bytes.HasPrefix(b, []byte(magic)) {
				t.Errorf("bit %d: %v", bit, err)
			}
		case !errors.As(err, &d) || d.Moved == "":
			t.Errorf("bit %d: %v", bit, err)
		}
		emptyCorrupt(t, q)
	}
	// No flip of one bit makes another state of "-" (0x2d; D, F and X differ in more).
	if states != 0 {
		t.Error(states, "states changed")
	}
	plant(t, q, e.ID, whole, liveMode)
}

// Q03: whatever the content, no panic, no wild allocation, and what is taken for
// a message is written the same way again.
func FuzzQ03_Parse(f *testing.F) {
	q := newQueue(f)
	f.Add(sample(f, q, hardEnvelope(), "Subject: x\n\ntext\n"))
	f.Add(sample(f, q, envelope(manyRcpts(30)...), ""))
	golden, _ := os.ReadFile("testdata/version1")
	f.Add(golden)
	f.Add(bytes.Replace(golden, []byte("0000000000023"), []byte("9999999999999"), 1))
	f.Add(bytes.Replace(golden, []byte("0000000000023"), []byte("-000000000023"), 1))
	f.Add([]byte("postamt-queue 99999999999999999999\n\n"))
	f.Add([]byte("postamt-queue 1\nid \n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if end := bytes.Index(b, []byte("\n\n")); end >= 0 {
			b = b[:end+2]
		}
		p, err := parseHeader(b)
		if err != nil {
			return
		}
		if p.length < 0 || len(p.states) != len(p.env.Rcpts) || p.line < 0 || p.line+len(lenLine) > p.end {
			t.Fatalf("%+v", p.header)
		}
		for i, s := range p.states {
			if b[s] != p.env.Rcpts[i].State {
				t.Fatal("a state is not where it is said to be")
			}
		}
		var h header
		again, err := h.append(nil, &p.env)
		if err != nil {
			t.Fatalf("read and not writable: %v", err)
		}
		copy(again[h.line:], strings.ReplaceAll(lenLine, "-", "0"))
		p2, err := parseHeader(again)
		if err != nil {
			t.Fatalf("%v in\n%s", err, again)
		}
		if !reflect.DeepEqual(p.env, p2.env) {
			t.Fatalf("\n%+v\n%+v", p.env, p2.env)
		}
	})
}

func FuzzXtext(f *testing.F) {
	for _, s := range []string{"", "a+b=c", "+2B", "+2b", "+", "+4", "a b", "\x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		enc := string(appendXtext(nil, s))
		for i := range len(enc) {
			if enc[i] <= ' ' || enc[i] >= 0x7f || enc[i] == '=' {
				t.Fatalf("%q: %q", s, enc)
			}
		}
		if dec, ok := parseXtext(enc); !ok || dec != s {
			t.Fatalf("%q: %q, %q", s, enc, dec)
		}
		if dec, ok := parseXtext(s); ok {
			if again, ok := parseXtext(string(appendXtext(nil, dec))); !ok || again != dec {
				t.Fatalf("%q: %q, %q", s, dec, again)
			}
		}
	})
}

func TestXtext_IsStrict(t *testing.T) {
	for _, s := range []string{"a b", "a\n", "+", "+4", "+4g", "+2b", "=", "é", "\x7f", "a\x00"} {
		if v, ok := parseXtext(s); ok {
			t.Errorf("%q was read as %q", s, v)
		}
	}
}

// Q05: what is no message of ours in a directory of messages.
func TestQ05_ForeignFiles(t *testing.T) {
	q, told := damagedQueue(t)
	good := envelope()
	put(t, q, good, "x")
	shard := filepath.Join(q.path, filepath.Dir(good.ID.path()))
	id := func(n byte) string { // valid names of this shard
		return strings.Repeat("0", idLen-2) + string(n) + string(good.ID[idLen-1:])
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(shard, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(at(id('1')), 0o700))
	must(os.WriteFile(at(id('1'))+"/inside", nil, 0o600))
	must(syscall.Mkfifo(at(id('2')), 0o660))
	must(os.Symlink(secret, at(id('3'))))
	must(os.Symlink("nowhere", at(id('4'))))
	must(os.Link(secret, at(id('5'))))
	// Under a name that fits into the address of a socket.
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	must(err)
	defer l.Close()
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	must(os.Rename(l.Addr().String(), at(id('6'))))
	plantAt := func(name string, mode os.FileMode) {
		must(os.WriteFile(at(name), []byte("x"), 0o600))
		must(os.Chmod(at(name), mode))
	}
	plantAt(".hidden", 0o660)
	plantAt(strings.Repeat("x", 255), 0o660)
	plantAt("has\nnewline and \xff", 0o660)
	plantAt(strings.ToUpper(id('e')), 0o660)
	plantAt(id('8'), 0o644)
	plantAt(id('9'), 0o600)
	plantAt(id('a'), 0o660|os.ModeSetuid)
	foreign := 13
	if os.Getuid() == 0 {
		plantAt(id('b'), 0o660)
		must(os.Chown(at(id('b')), 12345, 12345))
		foreign++
		if makeDevice(at(id('c'))) == nil {
			foreign++
		}
	}
	must(os.WriteFile(at(".nfs0001"), nil, 0o600)) // NFS's own; it goes by itself
	defer os.Remove(at(".nfs0001"))

	// Met by name, they neither stop nor fool anybody.
	for _, n := range []byte("123456") {
		plain, err := Open(q.path, Options{})
		must(err)
		var d *DamagedError
		if m, err := plain.Message(ID(id(n))); m != nil || !(errors.As(err, &d) && d.Moved != "") {
			t.Errorf("%c: %v %v", n, m, err)
		} else {
			must(os.Rename(filepath.Join(q.path, d.Moved), at(id(n))))
		}
		if ok, err := plain.Recover(ID(id(n))); ok || !errors.As(err, &d) {
			t.Errorf("%c: %v %v", n, ok, err)
		} else {
			must(os.Rename(filepath.Join(q.path, d.Moved), at(id(n))))
		}
		plain.Close()
	}

	if got := scan(t, q); len(got) != 1 || got[good.ID].ID != good.ID {
		t.Error(got)
	}
	if n := len(q.names(t, "corrupt")); n != foreign || len(*told) != foreign {
		t.Errorf("%d in corrupt, %d told, want %d: %q", n, len(*told), foreign, *told)
	}
	if got := scan(t, q); len(got) != 1 || len(*told) != foreign {
		t.Error("again:", got, *told)
	}
	if b, err := os.ReadFile(secret); string(b) != "s" {
		t.Error(err)
	}
}

// What cannot be moved is told once and stays; the rest goes on.
func TestQ05_CannotBeMoved(t *testing.T) {
	q, told := damagedQueue(t)
	e := envelope()
	put(t, q, e, "x")
	if err := os.Remove(q.path + "/corrupt"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(q.path+"/corrupt", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(q.path, filepath.Dir(e.ID.path()), ".fifo")
	if err := syscall.Mkfifo(fifo, 0o660); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		n := 0
		q.Scan(func(Entry) bool { n++; return true })
		if n != 1 {
			t.Error(n)
		}
	}
	if len(*told) != 1 {
		t.Errorf("%q", *told)
	}
	os.Remove(fifo)
	os.Remove(q.path + "/corrupt")
	os.Mkdir(q.path+"/corrupt", 0o700)
}

// People put messages into the wrong directory.
func TestScan_BringsMessagesHome(t *testing.T) {
	q, told := damagedQueue(t)
	a, b, c := envelope(), envelope(), envelope()
	for _, e := range []*Envelope{a, b, c} {
		put(t, q, e, string(e.ID))
	}
	wrong := digits[(b.ID.shard()+1)%32:][:1]
	file := func(p string) string { return filepath.Join(q.path, p) }
	copied, err := os.ReadFile(file(c.ID.path()))
	if err != nil {
		t.Fatal(err)
	}
	os.Rename(file(a.ID.path()), file("active/"+string(a.ID)))
	os.Rename(file(b.ID.path()), file("active/"+wrong+"/"+string(b.ID)))
	os.WriteFile(file("active/"+string(c.ID)), copied, 0o660)
	os.Chmod(file("active/"+string(c.ID)), 0o660)
	scan(t, q)
	if got := scan(t, q); len(got) != 3 {
		t.Error(got)
	}
	for _, e := range []*Envelope{a, b, c} {
		if text(t, get(t, q, e.ID)) != string(e.ID) {
			t.Error(e.ID)
		}
	}
	if len(*told) != 1 || !strings.Contains((*told)[0], "place is taken") {
		t.Errorf("%q", *told)
	}
}

// The id in the file and its name must be one.
func TestMessage_UnderAnotherName(t *testing.T) {
	q, _ := damagedQueue(t)
	e := envelope()
	b := sample(t, q, e, "x")
	other := NewID(time.Now())
	plant(t, q, other, b, liveMode)
	var d *DamagedError
	if _, err := q.Message(other); !errors.As(err, &d) || d.Moved == "" {
		t.Error(err)
	}
	for _, id := range []ID{"", "x", "../../../../etc/passwd", other} {
		if _, err := q.Message(id); !errors.Is(err, ErrNotExist) {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := q.Recover(id); !errors.Is(err, ErrNotExist) {
			t.Errorf("%q: %v", id, err)
		}
		for _, err := range []error{q.Hold(id), q.Release(id)} {
			if !errors.Is(err, ErrNotExist) {
				t.Errorf("%q: %v", id, err)
			}
		}
	}
}
