package mailbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/durable"
	"postamt/internal/maildir"
	"postamt/internal/uidlist"
)

// Rows M of faults.md that speak of who reads and changes a maildir; those of delivery are in package maildir.

// M07: names that others have made are listed; a change of flags keeps what it does not know; a size in a name that is wrong is not believed once it is measured.
func TestM07_Names(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	long, longer := strings.Repeat("x", 250), strings.Repeat("x", 255)
	names := []string{"1.plain", "1.empty:2,", "1.lower:2,Sxyz", "1.unknown:2,XQ9S", "1.twice:2,SS", "1.more:2,S,x=1", "1.two:2,S:2,F", "1.exp:1,e", "1.colon:", "1.octets\xe4\xff:2,S", "1.\xc3\xa4:2,",
		"1.size,S=999,W=999:2,", "1.nosize,S=12x:2,", " 1.space :2,", "1.tab\t:2,", "-rf:2,", "~:2,", "1.gone", long, longer}
	for _, name := range names {
		must(t, os.WriteFile(filepath.Join(b.dir, "cur", name), []byte("A: b\n"), 0o600))
	}
	for _, hidden := range []string{".1.dot:2,S", "..", ".nfs0001"} {
		os.WriteFile(filepath.Join(b.dir, "cur", hidden), nil, 0o600)
	}
	b.odd = []string{"1.lower:2,Sxyz", "1.lower:2,FSxyz", "1.size,S=999,W=999:2,", "1.size,S=999,W=999:2,F"} // letters that stand for nothing, a size
	m := b.open()
	seen := view(t, m)
	if len(seen) != len(names) {
		t.Errorf("%d messages of %d", len(seen), len(names))
	}
	for name, want := range map[string]string{"1.plain": "1.plain:2,F", "1.empty": "1.empty:2,F", "1.lower": "1.lower:2,FSxyz", "1.unknown": "1.unknown:2,9FQSX", "1.twice": "1.twice:2,FS", "1.more": "1.more:2,FS,x=1",
		"1.exp": "1.exp:1,e:2,F", "1.octets\xe4\xff": "1.octets\xe4\xff:2,FS", " 1.space ": " 1.space :2,F", "-rf": "-rf:2,F", long: long + ":2,F"} {
		if got, err := m.SetFlags(0, []uint32{seen[name].UID}, Add, Flagged, nil); err != nil || len(got) != 1 {
			t.Errorf("%.20q: %v, %v", name, got, err)
		}
		if is := filepath.Base(b.find(name)); is != want {
			t.Errorf("%.20q is %q, want %q", name, is, want)
		}
	}
	if _, err := m.SetFlags(0, []uint32{seen[longer].UID}, Add, Flagged, nil); err == nil { // no room for a flag
		t.Error("a name of 255 octets has got a flag")
	}
	uid := seen["1.size,S=999,W=999"].UID
	if n, err := m.Size(uid); n != 999 || err != nil {
		t.Error(n, err)
	}
	if n, err := m.Measure(uid); n != 6 || err != nil {
		t.Error(n, err)
	}
	for _, o := range []*Mailbox{m, b.open()} {
		if n, err := o.Size(uid); n != 6 || err != nil {
			t.Error(n, err)
		}
	}
	if n, err := m.Size(seen["1.nosize,S=12x"].UID); n != 6 || err != nil {
		t.Error(n, err)
	}
	for _, o := range []*Mailbox{m, b.open()} {
		must(t, o.Sync())
		if again := view(t, o); len(again) != len(names) || again[long].UID != seen[long].UID || again[long].Flags != Flagged {
			t.Errorf("%d messages, %+v", len(again), again[long])
		}
	}
}

// M08: one base in two files, as a crash between link and unlink or a race of two renames leaves it, is one message, the same in each reading of each
// process; a file of other content is never removed with it.
func TestM08_OneBaseTwice(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name string
		two  [2]string // files
		same bool      // they are links of one
		want string    // the one that is shown to who has not seen it before
	}{
		{"new and cur", [2]string{"new/1.a", "cur/1.a:2,S"}, true, "cur/1.a:2,S"},
		{"new and cur, no flags", [2]string{"new/1.a", "cur/1.a:2,"}, true, "cur/1.a:2,"},
		{"cur twice", [2]string{"cur/1.a:2,S", "cur/1.a:2,FS"}, true, "cur/1.a:2,FS"},
		{"without info", [2]string{"cur/1.a", "cur/1.a:2,R"}, true, "cur/1.a:2,R"},
		{"other content", [2]string{"new/1.a", "cur/1.a:2,S"}, false, "cur/1.a:2,S"},
		{"other content, cur twice", [2]string{"cur/1.a:2,", "cur/1.a:2,T"}, false, "cur/1.a:2,T"},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBox(t)
			b.odd = []string{filepath.Base(x.two[0]), filepath.Base(x.two[1]), indexName}
			b.deliver("before\n")
			must(t, os.WriteFile(filepath.Join(b.dir, x.two[0]), []byte("one\n"), 0o600))
			if x.same {
				must(t, os.Link(filepath.Join(b.dir, x.two[0]), filepath.Join(b.dir, x.two[1])))
			} else {
				must(t, os.WriteFile(filepath.Join(b.dir, x.two[1]), []byte("other\n"), 0o600))
			}
			b.deliver("after\n")
			m := b.open()
			uid := uint32(0)
			for range 4 { // in any order of readdir, by who knows and who does not
				for _, o := range []*Mailbox{m, b.open()} {
					must(t, o.Sync())
					if got := o.UIDs(); len(got) != 3 {
						t.Fatal(got)
					}
					got := view(t, o)["1.a"]
					if uid == 0 {
						uid = got.UID
					}
					f, err := o.File(uid)
					must(t, err)
					if is, _ := filepath.Rel(b.dir, f.Name()); is != x.want || got.UID != uid {
						t.Errorf("it is %s with UID %d, want %s with UID %d", is, got.UID, x.want, uid)
					}
					f.Close()
				}
				os.Chtimes(filepath.Join(b.dir, "cur"), time.Now(), time.Now())
			}
			// Flags are set on the one, and it stays one.
			if got, err := m.SetFlags(0, []uint32{uid}, Add, Draft, nil); len(got) != 1 || err != nil {
				t.Error(got, err)
			}
			must(t, m.Sync())
			if got := view(t, m)["1.a"]; got.UID != uid || got.Flags&Draft == 0 || len(m.UIDs()) != 3 {
				t.Errorf("%+v", got)
			}
			b.odd = append(b.odd, filepath.Base(b.find("1.a")))
			for _, f := range []string{"cur", "new"} {
				l, _ := filepath.Glob(filepath.Join(b.dir, f, "1.a*"))
				for _, name := range l {
					b.odd = append(b.odd, filepath.Base(name))
				}
			}
			// It is removed, under all its names; what had other content is a message now, with a UID that was nobody's.
			if failed, err := m.Expunge(0, []uint32{uid}); len(failed) > 0 || err != nil {
				t.Fatal(failed, err)
			}
			must(t, m.Sync())
			got, there := view(t, m)["1.a"]
			if x.same {
				if there || b.find("1.a") != "" {
					t.Errorf("it is there again: %+v, %s", got, b.find("1.a"))
				}
				return
			}
			f, err := m.File(got.UID)
			must(t, err)
			defer f.Close()
			if text, _ := io.ReadAll(f); string(text) != "one\n" || got.UID <= 3 {
				t.Errorf("UID %d has %q", got.UID, text)
			}
		})
	}
}

// M09: while another program renames thousands of files all the time, no message is ever gone, nor another UID's, and one that really goes is.
func TestM09_RenameStorm(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	const messages = 2000
	var bases []string
	for range messages {
		bases = append(bases, b.deliver("x\n"))
		b.foreign(bases[len(bases)-1], "")
	}
	m := b.open()
	want := m.UIDs()
	if len(want) != messages {
		t.Fatal(len(want))
	}
	var over atomic.Bool
	var storm sync.WaitGroup
	storm.Go(func() {
		for round := 0; !over.Load(); round++ {
			for _, base := range bases[1:] {
				cur := filepath.Join(b.dir, "cur", base)
				from, to := cur+":2,", cur+":2,"+strings.Repeat("S", 1+round%2/2)
				if round%2 == 1 {
					from, to = to, from
				}
				os.Rename(from, to)
			}
		}
	})
	defer func() { over.Store(true); storm.Wait() }()
	missed := 0 // by single readings
	begin := time.Now()
	for round := 0; round < 10 || missed == 0 && time.Since(begin) < 10*time.Second; round++ {
		names, err := files(m.cur, nil)
		must(t, err)
		seen := map[string]bool{}
		for _, name := range names {
			seen[baseOf(name)] = true
		}
		if len(seen) < messages {
			missed++
		}
		must(t, m.Sync())
		if got := m.UIDs(); !slices.Equal(got, want) {
			t.Fatalf("round %d: %d messages", round, len(got))
		}
		if round%4 == 0 {
			o := b.open() // by the index, and by the names that it has
			if got := o.UIDs(); !slices.Equal(got, want) {
				t.Fatalf("round %d: another process has %d messages", round, len(got))
			}
			for _, uid := range want[round*50 : round*50+10] {
				f, err := m.File(uid)
				if err != nil {
					t.Fatal(uid, err)
				}
				if base := baseOf(filepath.Base(f.Name())); base != bases[uid-1] {
					t.Fatalf("UID %d is %s", uid, base)
				}
				f.Close()
			}
		}
	}
	t.Log(missed, "single readings did not show all")
	must(t, os.Remove(filepath.Join(b.dir, "cur", bases[0]+":2,")))
	over.Store(true)
	storm.Wait()
	must(t, m.Sync())
	if got := m.UIDs(); !slices.Equal(got, want[1:]) {
		t.Errorf("%d messages", len(got))
	}
}

// M10: a hundred thousand messages (or MAILBOX_MESSAGES) in cur/ and new/ are open in seconds, at first sight and with the index, and each is a few octets.
func TestM10_Many(t *testing.T) {
	n := 100_000
	if s := os.Getenv("MAILBOX_MESSAGES"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	b := newBox(t)
	if shm, err := os.MkdirTemp("/dev/shm", "pa-"); err == nil { // making the files is not what is measured
		t.Cleanup(func() { os.RemoveAll(shm) })
		b.dir = shm
		for _, d := range []string{"cur", "new", "tmp"} {
			must(t, os.Mkdir(filepath.Join(b.dir, d), 0o700))
		}
	}
	one := ""
	for i := range n {
		name := filepath.Join(b.dir, "new", fmt.Sprintf("%d.Q0h2mc9x4rvk3t%06dX6b1f0c3a9d42.mx.example.org,S=2,W=3", 1764000000+i, i))
		if i%2 == 0 {
			name = filepath.Join(b.dir, "cur", filepath.Base(name)+":2,S")
		}
		if i%10_000 == 0 { // a file has not that many links everywhere
			one = name
			must(t, os.WriteFile(name, []byte("x\n"), 0o600))
		} else {
			must(t, os.Link(one, name))
		}
	}
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	most := time.Duration(n) * 200 * time.Microsecond // 20 s
	for _, how := range []string{"nothing known", "by the list", "by the index"} {
		if how == "by the list" {
			must(t, os.Remove(filepath.Join(b.dir, indexName)))
		}
		before, begin := heap(), time.Now()
		root, err := durable.OpenDir(b.dir)
		must(t, err)
		m, err := Open(root, "", Options{}) // without the Check at the end, of which one is enough
		must(t, err)
		opened := time.Since(begin)
		if got := m.UIDs(); len(got) != n || got[n-1] != uint32(n) {
			t.Fatal(len(got))
		}
		each := (heap() - before) / int64(n)
		begin = time.Now()
		must(t, m.Sync())
		again := time.Since(begin)
		_, ids, err := m.Maildrop()
		if err != nil || len(ids) != n {
			t.Error(len(ids), err)
		}
		t.Logf("%s: %v, %d octets each, again %v", how, opened.Round(time.Millisecond), each, again.Round(time.Microsecond))
		if opened > most || each > 250 || again > most/10 {
			t.Errorf("%s: %v, %d octets each, again %v", how, opened, each, again)
		}
		root.Close()
		m.Close()
	}
	b.open()
}

// M22: who removes many young messages leaves little behind, for a day and a half; copies under other names stay; who delivers a message again finds that it
// was removed, and the worst that another program can do to that is a second copy.
func TestM22_Tombstones(t *testing.T) {
	t.Parallel()
	const messages, delivered, singly = 10_000, 30, 15
	home := t.TempDir()
	b := &box{t: t, dir: home + "/Maildir"}
	to := []maildir.Copy{{Target: maildir.Target{Owner: "bob", Base: home, Path: b.dir}, Header: []byte("Delivered-To: bob\n")}}
	now := time.Now()
	store := func() *maildir.Store {
		s := maildir.New(maildir.Options{Host: "mx.example.org", Now: func() time.Time { return now }})
		t.Cleanup(s.Close)
		return s
	}
	deliver := func(s *maildir.Store, i int, suspect bool) maildir.Result {
		d := s.Begin(maildir.Message{ID: fmt.Sprintf("id%06d", i), Arrived: now, Suspect: suspect}, to)
		d.Write([]byte("Subject: x\r\n\r\n"))
		r := d.Commit()[0]
		if r.Err != nil {
			t.Error(r.Err)
		}
		return r
	}
	s := store()
	var names []string
	for i := range delivered {
		names = append(names, deliver(s, i, false).Name)
	}
	// The others are links of one that has a name elsewhere.
	copied := filepath.Join(home, "copy")
	must(t, os.WriteFile(copied, []byte("x\n"), 0o600))
	for i := delivered; i < messages; i++ {
		must(t, os.Link(copied, filepath.Join(b.dir, "new", strings.Replace(names[0], "id000000", fmt.Sprintf("id%06d", i), 1))))
	}
	must(t, os.WriteFile(filepath.Join(b.dir, "maildirsize"), fmt.Appendf(nil, "1000000000S\n%d %d\n", 100*delivered+2*(messages-delivered), messages), 0o600))
	m := b.open()
	uid := map[string]uint32{}
	for name, x := range view(t, m) {
		uid[name] = x.UID
	}
	tombs := func(end string) (l []string, octets int64) {
		l, _ = filepath.Glob(filepath.Join(b.dir, "tmp", "*"+end))
		for _, path := range l {
			if st, err := os.Stat(path); err == nil {
				octets += st.Size()
			}
		}
		return l, octets
	}
	// A few, one by one; then all others at once.
	for _, name := range names[:singly] {
		if failed, err := m.Expunge(0, []uint32{uid[name]}); len(failed) > 0 || err != nil {
			t.Fatal(failed, err)
		}
	}
	if l, octets := tombs(".gone"); len(l) != singly || octets != 0 {
		t.Errorf("%d tombstones of %d octets", len(l), octets)
	}
	begin := time.Now()
	if failed, err := m.Expunge(0, m.UIDs()); len(failed) > 0 || err != nil {
		t.Fatal(len(failed), err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Error("it took", took)
	}
	if l, octets := tombs(".gones"); len(l) != 1 || octets > 100*messages {
		t.Errorf("%d tombstones of %d octets", len(l), octets)
	}
	if l, _ := tombs(""); len(l) != singly+1 {
		t.Errorf("%d files in tmp", len(l))
	}
	if text, err := os.ReadFile(copied); string(text) != "x\n" || err != nil {
		t.Errorf("the copy is %q, %v", text, err)
	}
	usage, err := os.ReadFile(filepath.Join(b.dir, "maildirsize"))
	must(t, err)
	count := 0
	for line := range bytes.Lines(usage) {
		if f := strings.Fields(string(line)); len(f) == 2 {
			n, err := strconv.Atoi(f[1])
			must(t, err)
			count += n
		}
	}
	if count != 0 {
		t.Errorf("the usage counts %d messages", count)
	}
	// They are delivered again, while sweepers run, for none is old enough.
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			s := store() // sweeps with its first delivery
			for k := i; k < delivered; k += 4 {
				if r := deliver(s, k, true); !r.Again {
					t.Errorf("%s was stored again", r.Name)
				}
			}
		})
	}
	all.Wait()
	must(t, m.Sync())
	if got := m.UIDs(); len(got) > 0 {
		t.Errorf("%d messages are there again", len(got))
	}
	// A day and a half later they are gone, whatever arrives.
	now = now.Add(37 * time.Hour)
	if r := deliver(store(), messages, false); r.Again {
		t.Error("a new message is an old one")
	}
	if l, _ := tombs(""); len(l) > 0 {
		t.Error(l)
	}
	// Another program removes tmp/ and all in it: one copy comes back, once.
	must(t, m.Sync())
	if failed, err := m.Expunge(0, m.UIDs()); len(failed) > 0 || err != nil {
		t.Fatal(failed, err)
	}
	now = now.Add(-37 * time.Hour)
	must(t, os.RemoveAll(filepath.Join(b.dir, "tmp")))
	for range 2 {
		deliver(store(), messages, true)
	}
	must(t, m.Sync())
	if got := m.UIDs(); len(got) != 1 {
		t.Error(got)
	}
	// It can be removed all the same, and what needs tmp/ makes it.
	must(t, os.RemoveAll(filepath.Join(b.dir, "tmp")))
	if failed, err := m.Expunge(0, m.UIDs()); len(failed) > 0 || err != nil {
		t.Error(failed, err)
	}
	if l, _ := tombs(".gone"); len(l) != 1 || len(m.UIDs()) > 0 {
		t.Error(l, m.UIDs())
	}
	must(t, os.RemoveAll(filepath.Join(b.dir, "tmp")))
	if _, err := m.Append(t.Context(), strings.NewReader("x\n"), 0, []string{"new"}, time.Time{}); err != nil {
		t.Error(err)
	}
	must(t, os.RemoveAll(filepath.Join(b.dir, "tmp")))
	must(t, os.WriteFile(filepath.Join(b.dir, listName), []byte("garbage"), 0o600))
	if must(t, m.Sync()); len(m.UIDs()) != 1 {
		t.Error(m.UIDs())
	}
}

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

// M08, M22: a file that comes back after its message was expunged, for it is delivered again or put back from a copy, has another UID, for whoever sees it first;
// a line that has had no file yet still holds for one.
func TestM08_ComesBack(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	var bases []string
	for range 4 {
		bases = append(bases, b.deliver("x\n"))
	}
	m := b.open()
	last := uint32(4)
	for round, how := range []string{"who expunged it", "who opens it later", "who opens it after a new snapshot", "who reads the whole list under its lock", "who saw it go", "who has the list alone"} {
		if how == "who saw it go" {
			must(t, os.Remove(b.find(bases[1])))
			must(t, m.Sync())
		} else if failed, err := m.Expunge(0, []uint32{view(t, m)[bases[1]].UID}); len(failed) > 0 || err != nil {
			t.Fatal(failed, err)
		}
		o := m
		switch how {
		case "who opens it later":
			o = b.open()
		case "who opens it after a new snapshot":
			m.index.good = false
			unlock, err := m.index.lock()
			must(t, err)
			must(t, m.index.rewrite(nil))
			unlock()
			o = b.open()
		case "who reads the whole list under its lock":
			m.forgetList()
		}
		must(t, os.WriteFile(filepath.Join(b.dir, "new", bases[1]), []byte("x\n"), 0o600))
		must(t, o.Sync())
		last++
		if how == "who has the list alone" {
			must(t, os.Remove(filepath.Join(b.dir, indexName)))
		}
		for _, o := range []*Mailbox{o, m, b.open()} {
			must(t, o.Sync())
			if got := view(t, o); got[bases[1]].UID != last || len(got) != 4 {
				t.Errorf("%s, round %d: UID %d, want %d; %d messages", how, round, got[bases[1]].UID, last, len(got))
			}
		}
	}
	// Dovecot writes the line first.
	list := filepath.Join(b.dir, listName)
	text, err := os.ReadFile(list)
	must(t, err)
	must(t, os.WriteFile(list, fmt.Appendf(text, "%d :1764099999.M9P9.host\n", last+1), 0o600))
	must(t, m.Sync())
	must(t, os.WriteFile(filepath.Join(b.dir, "new/1764099999.M9P9.host"), []byte("x\n"), 0o600))
	for _, o := range []*Mailbox{b.open(), m} {
		must(t, o.Sync())
		if got := view(t, o)["1764099999.M9P9.host"].UID; got != last+1 {
			t.Errorf("UID %d, want %d", got, last+1)
		}
	}
}

// M08: half a minute later one name is left of two that a file has, with the flags of both, whoever looks first; a file of other content stays, and so does a copy
// under a name of its own.
func TestM08_OneNameIsLeft(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		two  [2]string
		want string
	}{
		{[2]string{"new/1.a", "cur/1.a:2,S"}, "cur/1.a:2,S"},
		{[2]string{"new/1.a", "cur/1.a:2,"}, "cur/1.a:2,"},
		{[2]string{"cur/1.a:2,RS", "cur/1.a:2,Fb"}, "cur/1.a:2,FRSb"},
		{[2]string{"cur/1.a:2,FS", "cur/1.a:2,S"}, "cur/1.a:2,FS"},
		{[2]string{"cur/1.a", "cur/1.a:2,R"}, "cur/1.a:2,R"},
		{[2]string{"new/1.a", "new/1.a:2,S"}, ""},
	} {
		for _, known := range []bool{false, true} {
			b := newBox(t)
			b.odd = []string{filepath.Base(x.want)} // b stands for no keyword
			one, two := filepath.Join(b.dir, x.two[0]), filepath.Join(b.dir, x.two[1])
			must(t, os.WriteFile(one, []byte("one\n"), 0o600))
			must(t, os.Link(one, filepath.Join(b.dir, "cur/2.copy:2,")))
			m := b.open()
			if known {
				must(t, m.Sync())
			} else {
				must(t, os.Remove(filepath.Join(b.dir, indexName)))
			}
			must(t, os.Link(one, two))
			must(t, m.Sync())
			if _, err := os.Stat(one); err != nil {
				t.Error("a name that was young:", err)
			}
			m.young = 0
			must(t, m.Sync())
			l, _ := filepath.Glob(filepath.Join(b.dir, "*/1.a*"))
			if len(l) != 1 || x.want != "" && l[0] != filepath.Join(b.dir, x.want) {
				t.Errorf("%q: %q are left", x.two, l)
			}
			_, f, k := parseName(filepath.Base(l[0]))
			for _, o := range []*Mailbox{m, b.open()} {
				if got := view(t, o)["1.a"]; got.UID != 1 || len(o.UIDs()) != 2 || got.Flags != f || got.Keywords != k {
					t.Errorf("%q: %+v", x.two, got)
				}
			}
		}
	}
	b := newBox(t)
	b.odd = []string{"1.a", "1.a:2,S"}
	must(t, os.WriteFile(filepath.Join(b.dir, "new/1.a"), []byte("one\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(b.dir, "cur/1.a:2,S"), []byte("two\n"), 0o600))
	m := b.open()
	m.young = 0
	must(t, m.sync(true))
	if l, _ := filepath.Glob(filepath.Join(b.dir, "*/1.a*")); len(l) != 2 {
		t.Errorf("of two contents %q are left", l)
	}
}

// M08: a message that is moved takes its second name with it.
func TestM08_Moved(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	must(t, os.WriteFile(filepath.Join(b.dir, "new/1.a"), []byte("one\n"), 0o600))
	must(t, os.Link(filepath.Join(b.dir, "new/1.a"), filepath.Join(b.dir, "cur/1.a:2,S")))
	m, to := b.open(), b.folder(".To")
	if moved, err := m.Move(t.Context(), 0, m.UIDs(), to); len(moved) != 1 || err != nil {
		t.Fatal(moved, err)
	}
	must(t, m.Sync())
	if got := m.UIDs(); len(got) > 0 || len(to.UIDs()) != 1 {
		t.Errorf("%d stayed, %d went", got, to.UIDs())
	}
}
