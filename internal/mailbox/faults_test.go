package mailbox

import (
	"bytes"
	"fmt"
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
		read, err := files(nil, m.cur, false)
		must(t, err)
		seen := map[string]bool{}
		for _, f := range read {
			seen[baseOf(f.name)] = true
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
	told := make(chan struct{}, 1)
	defer m.Follow(func() {
		select {
		case told <- struct{}{}:
		default:
		}
	})()
	// Who follows need not ask again and again: he is told to.
	for late := time.After(10 * time.Second); ; {
		must(t, m.Sync())
		if got := m.UIDs(); slices.Equal(got, want[1:]) {
			break
		}
		select {
		case <-told:
		case <-late:
			t.Fatalf("%d messages", len(m.UIDs()))
		}
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
