package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	gomaildir "github.com/emersion/go-maildir"
)

var arrived = time.Unix(1764000000, 123456000)

const testID = "0h2mc9x4rvk3t7w1qz8e"

func newStore(t testing.TB) *Store {
	s := New(Options{Host: "mx.example.org"})
	t.Cleanup(s.Close)
	return s
}

func target(home, user string) Target {
	return Target{Owner: user, Base: home, Path: home + "/Maildir"}
}

func copyFor(t Target) Copy {
	return Copy{Target: t, Header: []byte("Return-Path: <a@example.org>\nDelivered-To: " + t.Owner + "@example.org\n")}
}

const wireText = "Subject: hello\r\n\r\nfirst\r\n..dots\r\nlast\r\n"

// deliver stores one message with the given text.
func deliver(s *Store, m Message, text string, copies ...Copy) []Result {
	d := s.Begin(m, copies)
	d.Write([]byte(text))
	return d.Commit()
}

func must(t testing.TB, r []Result) {
	t.Helper()
	for i, r := range r {
		if r.Err != nil {
			t.Fatalf("copy %d: %v", i, r.Err)
		}
	}
}

// files lists what is below dir, with sizes of zero for directories.
func files(t testing.TB, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func messages(t testing.TB, maildir string) (out []string) {
	t.Helper()
	for _, f := range files(t, maildir) {
		if d := filepath.Base(filepath.Dir(f)); d == "new" || d == "cur" {
			out = append(out, f)
		}
	}
	return out
}

// checkMaildir is the invariant of every test: tmp/ is empty, and each message
// has the sizes that its name says.
func checkMaildir(t testing.TB, dir string) {
	t.Helper()
	for _, f := range files(t, dir) {
		switch filepath.Base(filepath.Dir(f)) {
		case "tmp":
			t.Errorf("%s was left in tmp", f)
		case "new", "cur":
			p, err := os.ReadFile(filepath.Join(dir, f))
			if err != nil {
				t.Fatal(err)
			}
			size, wire := measure(p)
			if want := fmt.Sprintf(",S=%d,W=%d", size, wire); !strings.Contains(f, want) {
				t.Errorf("%s: name lacks %s", f, want)
			}
		}
	}
}

func TestDeliver(t *testing.T) {
	home := t.TempDir()
	s := newStore(t)
	r := deliver(s, Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob")))
	must(t, r)
	if !strings.HasPrefix(r[0].Name, "1764000000.Q"+testID+"X") || !strings.Contains(r[0].Name, ".mx.example.org,S=") {
		t.Errorf("name %q", r[0].Name)
	}
	got, err := os.ReadFile(filepath.Join(home, "Maildir/new", r[0].Name))
	if err != nil {
		t.Fatal(err)
	}
	want := "Return-Path: <a@example.org>\nDelivered-To: bob@example.org\nSubject: hello\n\nfirst\n..dots\nlast\n"
	if string(got) != want {
		t.Errorf("stored %q, want %q", got, want)
	}
	if r[0].Size != int64(len(want)) {
		t.Errorf("size %d, want %d", r[0].Size, len(want))
	}
	checkMaildir(t, home)
	// A stranger's reader agrees.
	msgs, err := gomaildir.Dir(home + "/Maildir").Unseen()
	if err != nil || len(msgs) != 1 {
		t.Fatalf("go-maildir sees %d messages, %v", len(msgs), err)
	}
}

// The name follows from message, mailbox, folder and host, and from nothing else.
func TestName(t *testing.T) {
	a, err := stem(arrived, testID, "bob", "", "h")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := stem(arrived.Add(500*time.Millisecond), testID, "bob", "", "h"); a != b {
		t.Errorf("%q and %q", a, b)
	}
	for _, other := range [][3]string{{"alice", "", "h"}, {"bob", ".x", "h"}, {"bob", "", "g"}, {"bo", "b", "h"}} {
		if b, _ := stem(arrived, testID, other[0], other[1], other[2]); a == b {
			t.Errorf("%v: the same name %q", other, b)
		}
	}
	for _, id := range []string{"", "../x", "a/b", "a.b", "a:b", strings.Repeat("a", 65), "a\n"} {
		if n, err := stem(arrived, id, "bob", "", "h"); err == nil {
			t.Errorf("id %q made %q", id, n)
		}
	}
	if n := sizeInName("1.Qx.h,S=12,W=13:2,S"); n != 12 {
		t.Errorf("size in name: %d", n)
	}
	for _, bad := range []string{"x", "x,S=", "x,S=-1", "x,S=9999999999999999999", "x,W=1:2,S=1"} {
		if n := sizeInName(bad); n != -1 {
			t.Errorf("%s: %d", bad, n)
		}
	}
}

func TestM14_HostName(t *testing.T) {
	for in, want := range map[string]string{
		"mx.example.org":          "mx.example.org",
		"":                        "localhost",
		"a/b:c":                   `a\057b\072c`,
		"x,S=1":                   `x\054S=1`,
		"a\nb":                    `a\012b`,
		strings.Repeat("a", 1000): strings.Repeat("a", 64),
	} {
		if got := EscapeHost(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	home := t.TempDir()
	s := New(Options{Host: "x/y:2,S"})
	defer s.Close()
	must(t, deliver(s, Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
	checkMaildir(t, home)
	if m := messages(t, home); len(m) != 1 || strings.Contains(m[0], ":") {
		t.Errorf("messages %q", m)
	}
	// The host has another name when the message is delivered again.
	renamed := New(Options{Host: "z"})
	defer renamed.Close()
	r := deliver(renamed, Message{ID: testID, Arrived: arrived, Suspect: true}, wireText, copyFor(target(home, "bob")))
	must(t, r)
	if m := messages(t, home); len(m) != 1 || !r[0].Again {
		t.Errorf("messages %q", m)
	}
}

func TestFolderDir(t *testing.T) {
	for tag, want := range map[string]string{
		"lists": ".lists", "lists.go": ".lists.go", "a&b": ".a&-b", "käse": ".k&AOQ-se", "日本": ".&ZeVnLA-", "Entwürfe": ".Entw&APw-rfe",
		"a b": ".a b",
		"":    "", ".": "", "..": "", "a..b": "", ".a": "", "a.": "", "a/b": "", "/": "", "~a": "", "a\x00": "", "a\nb": "", "\xff": "", "..\x2f..": "",
		strings.Repeat("a", 255): "",
	} {
		got, err := FolderDir(tag)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", tag, got, err, want)
		}
	}
}

func FuzzFolderDir(f *testing.F) {
	for _, s := range []string{"lists", "a.b", "..", "käse", "a&b", "&AC8-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		dir, err := FolderDir(tag)
		if err != nil {
			return
		}
		if dir[0] != '.' || len(dir) < 2 || len(dir) > maxName || strings.ContainsAny(dir, "/\x00") || strings.Contains(dir, "..") {
			t.Errorf("%q gives %q", tag, dir)
		}
		for i := range len(dir) {
			if dir[i] < 0x20 || dir[i] > 0x7e {
				t.Errorf("%q gives %q", tag, dir)
			}
		}
	})
}

func TestTagGoesToItsFolderIfThereIsOne(t *testing.T) {
	home := t.TempDir()
	for _, d := range []string{".lists/new", ".lists/cur", ".lists/tmp", ".low"} {
		if err := os.MkdirAll(filepath.Join(home, "Maildir", d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(home+"/Maildir/.file", nil, 0o600)
	os.Symlink("/tmp", home+"/Maildir/.link")
	s := newStore(t)
	for i, c := range []struct{ tag, folder string }{
		{"lists", ".lists"}, {"LOW", ".low"}, {"none", ""}, {"..", ""}, {"../x", ""}, {"file", ""}, {"link", ""}, {"", ""}, {strings.Repeat("x", 254), ""},
	} {
		to := target(home, "bob")
		to.Tag = c.tag
		r := deliver(s, Message{ID: fmt.Sprint("id", i), Arrived: arrived}, wireText, copyFor(to))
		must(t, r)
		if r[0].Folder != c.folder {
			t.Errorf("tag %q went to %q, want %q", c.tag, r[0].Folder, c.folder)
		}
		if _, err := os.Stat(filepath.Join(home, "Maildir", c.folder, "new", r[0].Name)); err != nil {
			t.Error(err)
		}
	}
	checkMaildir(t, home)
}

func TestD12_OneCopyForOneMailbox(t *testing.T) {
	home := t.TempDir()
	s := newStore(t)
	tagged := target(home, "bob")
	tagged.Tag = "nofolder"
	r := deliver(s, Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob")), copyFor(tagged), copyFor(target(home, "bob")))
	must(t, r)
	if m := messages(t, home); len(m) != 1 {
		t.Errorf("messages %q", m)
	}
	if r[0].Name != r[1].Name || r[0].Name != r[2].Name {
		t.Errorf("names %q %q %q", r[0].Name, r[1].Name, r[2].Name)
	}
	checkMaildir(t, home)
}

// Text is stored with LF, reversibly, however it is cut into blocks.
func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"a\r\nb\r\n":           "a\nb\n",
		"\r\n\r\n":             "\n\n",
		"no end":               "no end",
		"a\rb\r\n":             "a\rb\n",
		"a\r":                  "a\r",
		"a\r\r\n":              "a\r\n",
		"lf\nonly\n":           "lf\nonly\n",
		"\r\r\r":               "\r\r\r",
		"nul\x00\r\n\xff\r\n.": "nul\x00\n\xff\n.",
	} {
		for n := 1; n <= len(in)+1; n++ {
			for _, room := range []int{1, 2, 3, 100} {
				var c text
				var out []byte
				for p := []byte(in); len(p) > 0; {
					chunk := p[:min(n, len(p))]
					p = p[len(chunk):]
					for len(chunk) > 0 {
						buf := make([]byte, room)
						w, took := c.convert(buf, chunk)
						if w == 0 && took == 0 {
							t.Fatalf("%q stands still", in)
						}
						out = append(out, buf[:w]...)
						chunk = chunk[took:]
					}
				}
				buf := make([]byte, 1)
				out = append(out, buf[:c.finish(buf)]...)
				if string(out) != want {
					t.Fatalf("%q in blocks of %d, room %d: %q, want %q", in, n, room, out, want)
				}
				size, wire := measure(out)
				if c.size != size || c.wire != wire {
					t.Fatalf("%q: counted %d %d, is %d %d", in, c.size, c.wire, size, wire)
				}
			}
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"a\r\nb", "\r\r\n", "x\n\r\n", "\r"} {
		f.Add([]byte(s), 3, 2, false)
	}
	f.Fuzz(func(t *testing.T, in []byte, n, room int, binary bool) {
		n, room = 1+abs(n)%64, 1+abs(room)%64
		c := text{binary: binary}
		var out []byte
		for p := in; len(p) > 0; {
			chunk := p[:min(n, len(p))]
			p = p[len(chunk):]
			for len(chunk) > 0 {
				buf := make([]byte, room)
				w, took := c.convert(buf, chunk)
				out = append(out, buf[:w]...)
				chunk = chunk[took:]
			}
		}
		buf := make([]byte, 1)
		out = append(out, buf[:c.finish(buf)]...)
		want := in
		if !binary {
			want = bytes.ReplaceAll(in, []byte("\r\n"), []byte("\n"))
		}
		if !bytes.Equal(out, want) {
			t.Fatalf("%q became %q", in, out)
		}
		if size, wire := measure(out); size != c.size || wire != c.wire {
			t.Fatalf("%q: counted %d %d, is %d %d", in, c.size, c.wire, size, wire)
		}
	})
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

func TestBinaryIsStoredAsItIs(t *testing.T) {
	home := t.TempDir()
	s := newStore(t)
	text := "Subject: b\r\n\r\n\x00\nlone\rcr\r\n"
	r := deliver(s, Message{ID: testID, Arrived: arrived, Binary: true}, text, copyFor(target(home, "bob")))
	must(t, r)
	got, _ := os.ReadFile(home + "/Maildir/new/" + r[0].Name)
	if want := "Return-Path: <a@example.org>\r\nDelivered-To: bob@example.org\r\n" + text; string(got) != want {
		t.Errorf("%q", got)
	}
	checkMaildir(t, home)
}

// What is too large for memory goes into the first recipient's file, and from
// there to the others.
func TestLargeMessage(t *testing.T) {
	line := strings.Repeat("x", 75) + "\r\n"
	for _, size := range []int{blockSize - 1, blockSize, memoryLimit - 1, memoryLimit, memoryLimit + 1, memoryLimit + blockSize, 5 << 20} {
		for _, n := range []int{1, 3, 20} {
			if n == 20 && size < 5<<20 {
				continue
			}
			dir := t.TempDir()
			s := newStore(t)
			var copies []Copy
			for i := range n {
				home := fmt.Sprintf("%s/u%d", dir, i)
				os.Mkdir(home, 0o700)
				copies = append(copies, copyFor(target(home, fmt.Sprint("u", i))))
			}
			text := strings.Repeat(line, size/len(line)+1)[:size]
			want := strings.ReplaceAll(text, "\r\n", "\n")
			d := s.Begin(Message{ID: testID, Arrived: arrived}, copies)
			for p := text; p != ""; {
				k := min(len(p), 10_001)
				d.Write([]byte(p[:k]))
				p = p[k:]
			}
			r := d.Commit()
			must(t, r)
			for i, r := range r {
				got, err := os.ReadFile(fmt.Sprintf("%s/u%d/Maildir/new/%s", dir, i, r.Name))
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != string(copies[i].Header)+want {
					t.Fatalf("%d bytes, copy %d of %d differs (%d bytes stored)", size, i, n, len(got))
				}
			}
			checkMaildir(t, dir)
		}
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	home := t.TempDir()
	s := newStore(t)
	d := s.Begin(Message{ID: testID, Arrived: arrived}, []Copy{copyFor(target(home, "bob"))})
	d.Write(bytes.Repeat([]byte("x"), 3*memoryLimit))
	if len(files(t, home)) != 1 {
		t.Fatal("nothing was spilled: the test is void")
	}
	d.Abort()
	if f := files(t, home); len(f) != 0 {
		t.Errorf("left: %q", f)
	}
}

// A file size limit meets the copy that holds the body while it comes, and the
// next must take over; here it meets all.
func TestD16_FileTooLarge(t *testing.T) {
	dir := t.TempDir()
	full := mountFull(t, "size=2m")
	ok := dir + "/ok"
	os.Mkdir(ok, 0o700)
	s := newStore(t)
	text := strings.Repeat("0123456789abcde\n", 4<<20/16)
	r := deliver(s, Message{ID: testID, Arrived: arrived}, text, copyFor(target(full, "full")), copyFor(target(ok, "ok")), copyFor(target(full, "full2")))
	if !errors.Is(r[0].Err, syscall.ENOSPC) || !errors.Is(r[2].Err, syscall.ENOSPC) {
		t.Errorf("full: %v, %v", r[0].Err, r[2].Err)
	}
	if r[1].Err != nil {
		t.Errorf("ok: %v", r[1].Err)
	}
	got, _ := os.ReadFile(ok + "/Maildir/new/" + r[1].Name)
	if !bytes.HasSuffix(got, []byte(text)) || int64(len(got)) != r[1].Size {
		t.Errorf("the copy that took over has %d bytes", len(got))
	}
	checkMaildir(t, full)
	checkMaildir(t, ok)
	// All of them full.
	r = deliver(s, Message{ID: "id2", Arrived: arrived}, text, copyFor(target(full, "full")), copyFor(target(full, "full2")))
	if !errors.Is(r[0].Err, syscall.ENOSPC) || !errors.Is(r[1].Err, syscall.ENOSPC) {
		t.Errorf("both full: %v, %v", r[0].Err, r[1].Err)
	}
	if f := messages(t, full); len(f) != 0 {
		t.Errorf("left: %q", f)
	}
	checkMaildir(t, full)
}
