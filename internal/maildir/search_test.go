package maildir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/durable"
)

// Redelivery after the owner has done something with the message. (D19)
func TestM02_SuspectFindsIt(t *testing.T) {
	for name, c := range map[string]struct {
		move  func(md, name string)
		again bool
		left  int
	}{
		"left in new": {func(md, name string) {}, true, 1},
		"read": {func(md, name string) {
			os.Rename(md+"/new/"+name, md+"/cur/"+name+":2,FS")
		}, true, 1},
		"read, no flags": {func(md, name string) {
			os.Rename(md+"/new/"+name, md+"/cur/"+name+":2,")
		}, true, 1},
		"sizes taken from the name": {func(md, name string) {
			stem, _, _ := strings.Cut(name, ",")
			os.Rename(md+"/new/"+name, md+"/cur/"+stem+":2,S")
		}, true, 1},
		"moved to a folder": {func(md, name string) {
			os.MkdirAll(md+"/.Archive.2025/cur", 0o700)
			os.Rename(md+"/new/"+name, md+"/.Archive.2025/cur/"+name+":2,RS")
		}, true, 1},
		"moved to a folder by us": {func(md, name string) {
			moved, ok := MovedName(name+":2,S", time.Now())
			os.MkdirAll(md+"/.Archive/cur", 0o700)
			if err := os.Rename(md+"/new/"+name, md+"/.Archive/cur/"+moved); !ok || err != nil {
				panic(err)
			}
		}, true, 1},
		"expunged, with a tombstone": {func(md, name string) {
			os.Remove(md + "/new/" + name)
			os.WriteFile(md+"/tmp/"+name+".gone", nil, 0o600)
		}, true, 0},
		"expunged from a folder": {func(md, name string) {
			os.MkdirAll(md+"/.Trash/tmp", 0o700)
			os.Remove(md + "/new/" + name)
			os.WriteFile(md+"/.Trash/tmp/"+name+".gone", nil, 0o600)
		}, true, 0},
		"expunged with others": {func(md, name string) {
			tmp, _ := os.Open(md + "/tmp")
			defer tmp.Close()
			BuryMany(tmp, []string{"17.M1P1.foreign", "1.Qx.h", name + ":2,S", "2.Qy.h:2,"}, nil)
			os.Remove(md + "/new/" + name)
		}, true, 0},
		"others expunged": {func(md, name string) {
			tmp, _ := os.Open(md + "/tmp")
			defer tmp.Close()
			BuryMany(tmp, []string{"1.Qx.h", "2.Qy.h:2,"}, nil)
			os.Remove(md + "/new/" + name)
		}, false, 1},
		"removed by a stranger": {func(md, name string) {
			os.Remove(md + "/new/" + name)
		}, false, 1},
		"damaged": {func(md, name string) {
			os.Truncate(md+"/new/"+name, 10)
		}, false, 1},
		"damaged and read": {func(md, name string) {
			os.Truncate(md+"/new/"+name, 0)
			os.Rename(md+"/new/"+name, md+"/cur/"+name+":2,S")
		}, false, 1},
		"only its temporary file": {func(md, name string) {
			stem, _, _ := strings.Cut(name, ",")
			os.Rename(md+"/new/"+name, md+"/tmp/"+stem+".abc")
		}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			first := New(Options{Host: "mx.example.org"})
			m := Message{ID: testID, Arrived: arrived}
			r := deliver(first, m, wireText, copyFor(target(home, "bob")))
			must(t, r)
			first.Close()
			// Another message, so that the scan has something to pass over.
			must(t, deliver(newStore(t), Message{ID: "other", Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
			c.move(home+"/Maildir", r[0].Name)
			m.Suspect = true
			again := deliver(newStore(t), m, wireText, copyFor(target(home, "bob")))
			must(t, again)
			if again[0].Again != c.again {
				t.Errorf("again: %v, want %v", again[0].Again, c.again)
			}
			n := 0
			for _, f := range messages(t, home) {
				if strings.Contains(f, testID) {
					n++
				}
			}
			if n != c.left {
				t.Errorf("%d copies, want %d: %q", n, c.left, files(t, home))
			}
		})
	}
}

// An attempt that is not suspect and finds the name has found the message; if
// the file is not whole it is replaced.
func TestNameIsTaken(t *testing.T) {
	home := t.TempDir()
	s := newStore(t)
	m := Message{ID: testID, Arrived: arrived}
	first := deliver(s, m, wireText, copyFor(target(home, "bob")))
	must(t, first)
	second := deliver(s, m, wireText, copyFor(target(home, "bob")))
	must(t, second)
	if !second[0].Again || len(messages(t, home)) != 1 {
		t.Errorf("again %v, messages %q", second[0].Again, messages(t, home))
	}
	checkMaildir(t, home)
	os.Truncate(home+"/Maildir/new/"+first[0].Name, 3)
	third := deliver(s, m, wireText, copyFor(target(home, "bob")))
	must(t, third)
	if third[0].Again || len(messages(t, home)) != 1 {
		t.Errorf("again %v, messages %q", third[0].Again, messages(t, home))
	}
	if m, _ := filepath.Glob(home + "/Maildir/tmp/*.damaged"); len(m) != 1 {
		t.Errorf("damaged files: %q", m)
	}
}

// Two attempts at once, and one that stalls: one copy. (c.3, two attempts at once)
func TestConcurrentAttempts(t *testing.T) {
	home := t.TempDir()
	s := newStore(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			must(t, deliver(s, Message{ID: testID, Arrived: arrived}, wireText, copyFor(target(home, "bob"))))
		})
	}
	wg.Wait()
	if m := messages(t, home); len(m) != 1 {
		t.Errorf("messages %q", m)
	}
	checkMaildir(t, home)
}

// 200 deliveries at once to one user, and to many. (D20)
func TestD20_ManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := New(Options{Host: "h", MaxOpen: 8})
	defer s.Close()
	for i := range 20 {
		os.Mkdir(fmt.Sprintf("%s/u%d", dir, i), 0o700)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			user := fmt.Sprint("u", i%20)
			if i%2 == 0 {
				user = "u0"
			}
			must(t, deliver(s, Message{ID: fmt.Sprint("id", i), Arrived: arrived}, wireText, copyFor(target(dir+"/"+user, user))))
		})
	}
	wg.Wait()
	if m := messages(t, dir); len(m) != 200 {
		t.Errorf("%d messages", len(m))
	}
	checkMaildir(t, dir)
}

func TestQuota(t *testing.T) {
	home := t.TempDir()
	s := newStore(t)
	to := copyFor(target(home, "bob"))
	to.Target.Quota = Quota{Bytes: 400, Messages: 5}
	size := deliver(s, Message{ID: "id0", Arrived: arrived}, wireText, to)[0].Size
	fits := int(400 / size)
	for i := 1; i < fits; i++ {
		must(t, deliver(s, Message{ID: fmt.Sprint("id", i), Arrived: arrived}, wireText, to))
	}
	r := deliver(s, Message{ID: "more", Arrived: arrived}, wireText, to)
	if !errors.Is(r[0].Err, ErrQuota) {
		t.Fatalf("message %d of %d bytes: %v", fits+1, size, r[0].Err)
	}
	if err := s.Room(to.Target, size); !errors.Is(err, ErrQuota) {
		t.Errorf("room: %v", err)
	}
	if got := string(readFile(t, home+"/Maildir/maildirsize")); !strings.HasPrefix(got, "400S,5C\n") {
		t.Errorf("maildirsize %q", got)
	}
	checkMaildir(t, home)
	// The owner makes room without telling: the count is old, so it is counted again.
	for _, f := range messages(t, home) {
		os.Remove(home + "/" + f)
	}
	old := time.Now().Add(-time.Hour)
	os.Chtimes(home+"/Maildir/maildirsize", old, old)
	must(t, deliver(s, Message{ID: "more", Arrived: arrived}, wireText, to))
	if got, want := string(readFile(t, home+"/Maildir/maildirsize")), fmt.Sprintf("400S,5C\n0 0\n%d 1\n", size); got != want {
		t.Errorf("maildirsize %q, want %q", got, want)
	}
	// Another limit is in force at once.
	to.Target.Quota = Quota{Messages: 1}
	if r := deliver(s, Message{ID: "more2", Arrived: arrived}, wireText, to); !errors.Is(r[0].Err, ErrQuota) {
		t.Error(r[0].Err)
	}
	// A repeated attempt of a stored message is not refused.
	if r := deliver(s, Message{ID: "more", Arrived: arrived, Suspect: true}, wireText, to); r[0].Err != nil || !r[0].Again {
		t.Errorf("%+v", r[0])
	}
	// A quota that only the file knows.
	to.Target.Quota = Quota{}
	if r := deliver(s, Message{ID: "more3", Arrived: arrived}, wireText, to); !errors.Is(r[0].Err, ErrQuota) {
		t.Error(r[0].Err)
	}
	os.Remove(home + "/Maildir/maildirsize")
	must(t, deliver(s, Message{ID: "more4", Arrived: arrived}, wireText, to))
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRecount(t *testing.T) {
	home := t.TempDir()
	md := home + "/Maildir"
	prepareMaildirs(t, home)
	for path, content := range map[string]string{
		"/cur/a,S=1000:2,S":         "xx",
		"/cur/b:2,":                 "12345",
		"/cur/c,S=7:2,ST":           "1234567",
		"/new/d,S=10,W=11":          "1234567890",
		"/new/.hidden":              "hhhh",
		"/.Sent/cur/e,S=100:2,":     "x",
		"/.Trash/cur/f,S=5000:2,":   "x",
		"/.NotAFolder/x":            "x",
		"/.file":                    "x",
		"/tmp/g,S=1":                "x",
		"/.Sent/new/h,S=garbage,W=": "123",
	} {
		os.MkdirAll(filepath.Dir(md+path), 0o700)
		if err := os.WriteFile(md+path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newStore(t)
	to := copyFor(target(home, "bob"))
	to.Target.Quota = Quota{Bytes: 100000}
	r := deliver(s, Message{ID: testID, Arrived: arrived}, wireText, to)
	must(t, r)
	want := fmt.Sprintf("100000S\n%d 5\n%d 1\n", 1000+5+10+100+3, r[0].Size)
	if got := string(readFile(t, md+"/maildirsize")); got != want {
		t.Errorf("maildirsize %q, want %q", got, want)
	}
}

func TestParseSizeFile(t *testing.T) {
	for in, want := range map[string]struct {
		u  usage
		ok bool
	}{
		"1000S,10C\n1 1\n2 1\n-1 -1\n": {usage{Quota{1000, 10}, 2, 1, 3}, true},
		"10C\n":                        {usage{Quota{0, 10}, 0, 0, 0}, true},
		"5S , 1C\n   12      3\n\n4 1": {usage{Quota{5, 1}, 16, 4, 2}, true},
		"1000S,7X\n":                   {usage{limit: Quota{Bytes: 1000}}, true},
		"":                             {},
		"1000S":                        {},
		"x1S\n":                        {},
		"-1S\n":                        {},
		"1S\n1\n":                      {usage{limit: Quota{Bytes: 1}}, false},
		"1S\n1 a\n":                    {usage{limit: Quota{Bytes: 1}}, false},
		"1S\n-5 1\n":                   {usage{Quota{1, 0}, -5, 1, 1}, false},
		"1S\n9223372036854775807 1\n":  {usage{limit: Quota{Bytes: 1}}, false},
		"99999999999999999999S\n1 1\n": {},
		"1S\n1 1 1\n":                  {usage{limit: Quota{Bytes: 1}}, false},
		"S\n":                          {},
		",\n3 1\n":                     {usage{Quota{}, 3, 1, 1}, true},
	} {
		u, ok := parseSizeFile([]byte(in))
		if u != want.u || ok != want.ok {
			t.Errorf("%q: %+v %v, want %+v %v", in, u, ok, want.u, want.ok)
		}
	}
}

func FuzzParseSizeFile(f *testing.F) {
	f.Add([]byte("1000S,10C\n1 1\n2 1\n-1 -1\n"))
	f.Add([]byte("S\n\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > sizeFileMax {
			p = p[:sizeFileMax]
		}
		if u, ok := parseSizeFile(p); ok && (u.bytes < 0 || u.messages < 0 || u.limit.Bytes < 0 || u.limit.Messages < 0) {
			t.Errorf("%q: %+v", p, u)
		}
	})
}

func TestQuotaFileIsGarbage(t *testing.T) {
	for _, content := range []string{"garbage", "100000S\n" + strings.Repeat("1 1\n", 2000), "100000S\nx y\n", ""} {
		home := t.TempDir()
		prepareMaildirs(t, home)
		os.WriteFile(home+"/Maildir/maildirsize", []byte(content), 0o600)
		to := copyFor(target(home, "bob"))
		to.Target.Quota = Quota{Bytes: 100000}
		r := deliver(newStore(t), Message{ID: testID, Arrived: arrived}, wireText, to)
		must(t, r)
		if got, want := string(readFile(t, home+"/Maildir/maildirsize")), fmt.Sprintf("100000S\n0 0\n%d 1\n", r[0].Size); got != want {
			t.Errorf("%.20q became %q, want %q", content, got, want)
		}
	}
}

// A queued that was killed and started anew attempts what the attempt of its predecessor is still storing: the second attempt waits, and finds it
// wherever the owner's mail program has put it meanwhile.
func TestM02_TwoAttemptsAtOnce(t *testing.T) {
	home := t.TempDir()
	storing, goOn := make(chan struct{}), make(chan struct{})
	var stopped atomic.Bool
	s := New(Options{Host: "mx.example.org", Ops: &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpRename || op == durable.OpLink {
			if stopped.CompareAndSwap(false, true) {
				close(storing)
				<-goOn
			}
		}
		return nil
	}}})
	defer s.Close()
	m := Message{ID: testID, Arrived: arrived}
	var first, second []Result
	var wg sync.WaitGroup
	wg.Go(func() {
		first = deliver(s, m, wireText, copyFor(target(home, "bob")))
		if first[0].Err == nil {
			os.Rename(home+"/Maildir/new/"+first[0].Name, home+"/Maildir/cur/"+first[0].Name+":2,S")
		}
	})
	<-storing
	begun := make(chan struct{})
	wg.Go(func() {
		m := m
		m.Suspect = true
		close(begun)
		second = deliver(s, m, wireText, copyFor(target(home, "bob")))
	})
	<-begun
	for range 20 { // time enough to look and to write, if it did not wait
		time.Sleep(5 * time.Millisecond)
		if n := len(messages(t, home)); n != 0 {
			close(goOn)
			t.Fatalf("%d messages are stored while the first attempt is under way", n)
		}
	}
	close(goOn)
	wg.Wait()
	must(t, first)
	must(t, second)
	if n := len(messages(t, home)); n != 1 || !second[0].Again {
		t.Errorf("%d messages, again: %v", n, second[0].Again)
	}
}
