package queue

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"postamt/internal/durable"
)

// Sizes around every boundary, through the writer and back, byte for byte.
func TestRoundTrip(t *testing.T) {
	q := newQueue(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 4096, small - 1000, small - 1, small, small + 1, 2*small - 1, 2 * small, 2*small + 1, 1 << 20} {
		e := hardEnvelope()
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		w, err := q.Create(e)
		if err != nil {
			t.Fatal(err)
		}
		for rest := body; len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 3*small))
			if m, err := w.Write(rest[:n]); err != nil || m != n {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		if w.Size() != int64(size) {
			t.Errorf("Size %d, want %d", w.Size(), size)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		w.Abort() // harmless
		if err := w.Commit(); err == nil {
			t.Error("a second commit succeeded")
		}
		m := get(t, q, e.ID)
		if !reflect.DeepEqual(&m.Envelope, e) {
			t.Errorf("size %d:\ngot  %+v\nwant %+v", size, &m.Envelope, e)
		}
		if m.Size != int64(size) || text(t, m) != string(body) {
			t.Errorf("size %d: the message was changed", size)
		}
		if size == 4096 || size == small+1 { // it reads byte by byte
			if err := iotest.TestReader(m.Reader(), body); err != nil {
				t.Errorf("size %d: %v", size, err)
			}
		}
		p := make([]byte, 10)
		if n, err := m.ReadAt(p, int64(size)-5); size >= 5 && (n != 5 || err != io.EOF || !bytes.Equal(p[:5], body[size-5:])) {
			t.Errorf("size %d: ReadAt %d %v", size, n, err)
		}
		if n, err := m.ReadAt(p, int64(size)+1); n != 0 || err != io.EOF {
			t.Errorf("size %d: ReadAt past the end %d %v", size, n, err)
		}
	}
}

// An envelope longer than any buffer.
func TestRoundTrip_100000Recipients(t *testing.T) {
	q := newQueue(t)
	e := envelope(manyRcpts(100_000)...)
	for i := range e.Rcpts {
		e.Rcpts[i].ORcpt = "rfc822;" + strings.Repeat("+", i%70) + e.Rcpts[i].Addr
	}
	put(t, q, e, strings.Repeat("0123456789abcde\n", 10_000))
	m := get(t, q, e.ID)
	if !reflect.DeepEqual(&m.Envelope, e) || m.Size != 160_000 {
		t.Error("it came back as another")
	}
	marks := map[int]byte{0: Done, 1: Failed, 50_000: Expanded, 99_999: Done}
	if err := m.Mark(marks, true); err != nil {
		t.Fatal(err)
	}
	m = get(t, q, e.ID)
	for i, s := range marks {
		if m.Envelope.Rcpts[i].State != s {
			t.Errorf("recipient %d: %c", i, m.Envelope.Rcpts[i].State)
		}
	}
	if m.Envelope.Rcpts[2].State != Pending || m.Envelope.Rcpts[99_998].State != Pending {
		t.Error("another was marked")
	}
}

// A person can check a sum, as queue(5) says.
func TestSum_ByHand(t *testing.T) {
	for _, tool := range []string{"sh", "sed", "sha256sum", "cut"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	q := newQueue(t)
	e := hardEnvelope()
	put(t, q, e, "Subject: x\r\n\r\n- rcpt no@example.com\nD rcpt no\r\n\xff\x00no newline at the end")
	path := filepath.Join(q.path, e.ID.path())
	out, err := exec.Command("sh", "-c", `export LC_ALL=C
{ sed '4d; 1,/^$/s/^[-DFX] rcpt / rcpt /' "$1"; sed -n '4s/ sum .*//p' "$1"; } | sha256sum | cut -c1-32
sed -n '4s/.* sum //p' "$1"`, "sh", path).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	if len(lines) != 3 || lines[0] != lines[1] || len(lines[0]) != sumWidth {
		t.Errorf("%q", lines)
	}
}

// The format is read by later versions: this file must be accepted for ever, and
// keys that are not known are passed over.
func TestF19_GoldenFile(t *testing.T) {
	q := newQueue(t)
	golden, err := os.ReadFile("testdata/version1")
	if err != nil {
		t.Fatal(err)
	}
	const id = ID("0dj8bq6kh5q2t7v1g9ie")
	if err := os.WriteFile(filepath.Join(q.path, id.path()), golden, liveMode); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Join(q.path, id.path()), liveMode)
	m := get(t, q, id)
	e := m.Envelope
	if e.Origin != "0dj8bq6kh5q2t7v1g9i0" || e.From != "alice+x@example.org" || !e.UTF8 || e.Ret != "HDRS" || e.Client.Helo != "mx.example.net" ||
		len(e.Rcpts) != 2 || e.Rcpts[0] != (Rcpt{State: Done, Addr: "bob@example.com", Notify: "FAILURE", ORcpt: "rfc822;b=b@example.com", Via: "list@example.com"}) ||
		e.Rcpts[1] != (Rcpt{State: Pending, Addr: "carol@example.net"}) || e.Arrived.UnixMicro() != 1764000000123456 {
		t.Errorf("%+v", e)
	}
	if got := text(t, m); got != "Subject: hello\n\nHello.\n" {
		t.Errorf("%q", got)
	}
}

// A file of a later version stays where it is, whatever its state.
func TestF19_LaterVersionIsLeftAlone(t *testing.T) {
	for _, content := range []string{
		"postamt-queue 2\nnothing that we know\n\nbody", "postamt-queue 17\n", "postamt-queue 3\nsomething\x00\x01",
	} {
		for _, mode := range []os.FileMode{liveMode, writingMode} {
			dir := t.TempDir()
			q, err := Open(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			id := NewID(time.Now())
			path := filepath.Join(dir, id.path())
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			os.Chmod(path, mode)
			if _, err := q.Message(id); !errors.Is(err, ErrVersion) {
				t.Errorf("Message: %v", err)
			}
			if mode == writingMode {
				if ok, err := q.Recover(id); ok || !errors.Is(err, ErrVersion) {
					t.Errorf("Recover: %v, %v", ok, err)
				}
			}
			if got := scan(t, q); len(got) != 1 {
				t.Error(got)
			}
			if b, err := os.ReadFile(path); string(b) != content {
				t.Errorf("%q %v", b, err)
			}
			q.Close()
		}
	}
}

func TestCreate_RefusesWhatCannotBeWritten(t *testing.T) {
	q := newQueue(t)
	for name, change := range map[string]func(e *Envelope){
		"no recipient":          func(e *Envelope) { e.Rcpts = nil },
		"no address":            func(e *Envelope) { e.Rcpts[0].Addr = "" },
		"bad state":             func(e *Envelope) { e.Rcpts[0].State = '\n' },
		"bad id":                func(e *Envelope) { e.ID = "../../../etc/passwd0" },
		"bad origin":            func(e *Envelope) { e.Origin = "x" },
		"bad about":             func(e *Envelope) { e.About = "x" },
		"sender that is no one": func(e *Envelope) { e.From = "<>" },
		"value too long":        func(e *Envelope) { e.EnvID = strings.Repeat("x", maxValue+1) },
		"before the epoch":      func(e *Envelope) { e.Arrived = time.Time{} },
		"in ten thousand years": func(e *Envelope) { e.Arrived = time.Date(12025, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		e := envelope()
		change(e)
		if w, err := q.Create(e); err == nil {
			w.Abort()
			t.Error(name, "was taken")
		}
	}
	e := envelope()
	e.From, e.Rcpts[0].State, e.Origin = "", 0, ""
	put(t, q, e, "")
	if m := get(t, q, e.ID); m.Envelope.From != "" || m.Envelope.Rcpts[0].State != Pending || m.Envelope.Origin != e.ID {
		t.Errorf("%+v", m.Envelope)
	}
}

// Every step of accepting fails in turn: nothing is acknowledged and nothing is
// left behind. The sizes are one of each kind of writing.
func TestF01_AcceptFailsAtEachStep(t *testing.T) {
	steps := []durable.Op{durable.OpCreate, durable.OpWrite, durable.OpSync, durable.OpSyncDir, durable.OpChmod, durable.OpClose}
	old := syscall.Umask(0o007)
	defer syscall.Umask(old)
	for _, size := range []int{100, 3 * small} {
		for _, op := range steps {
			reached := 0
			for n := 1; n < 20; n++ {
				dir := t.TempDir()
				plain := openTest(t, dir, Options{})
				q := openTest(t, dir, Options{Strict: true, Ops: failAt(op, n, syscall.ENOSPC)})
				e := envelope()
				err := tryPut(q, e, strings.Repeat("x", size))
				if err == nil {
					if len(plain.files(t)) != 1 {
						t.Errorf("%s %d: accepted, but not there", op, n)
					}
					break
				}
				reached++
				if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "queue: ") || !strings.Contains(err.Error(), string(e.ID)) {
					t.Errorf("%s %d: %v", op, n, err)
				}
				if left := plain.files(t); len(left) != 0 {
					t.Errorf("%s %d: left behind: %v", op, n, left)
				}
				// What failed once works again when there is room.
				put(t, plain, e, strings.Repeat("x", size))
			}
			if reached == 0 {
				t.Errorf("size %d: no step %s", size, op)
			}
		}
	}
}

// And if not even removing works, what is left is not taken for a message.
func TestF01_WhatCannotBeRemovedIsNoMessage(t *testing.T) {
	dir := t.TempDir()
	bad := openTest(t, dir, Options{Ops: &durable.Ops{Fault: func(op durable.Op, _ string) error {
		if op == durable.OpSync || op == durable.OpUnlink {
			return syscall.EIO
		}
		return nil
	}}})
	e := envelope()
	if err := tryPut(bad, e, "x"); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	q := openTest(t, dir, Options{})
	if got := scan(t, q); len(got) != 1 || !got[e.ID].Writing {
		t.Fatal(got)
	}
	if adopted, err := q.Recover(e.ID); adopted || err != nil {
		t.Error(adopted, err)
	}
	if left := q.files(t); len(left) != 0 {
		t.Error(left)
	}
}

// F03: fsync says EIO once and would say success then. The file is given up.
func TestF03_FailedSyncIsNotBelieved(t *testing.T) {
	syncs := 0
	dir := t.TempDir()
	q := openTest(t, dir, Options{Ops: &durable.Ops{Fault: func(op durable.Op, _ string) error {
		if op == durable.OpSync || op == durable.OpDatasync {
			if syncs++; syncs == 1 {
				return syscall.EIO
			}
		}
		return nil
	}}})
	e := envelope("a@example.com", "b@example.com")
	if err := tryPut(q, e, "x"); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if syncs != 1 || len(q.files(t)) != 0 {
		t.Error(syncs, q.files(t))
	}
	put(t, q, e, "x")
	m := get(t, q, e.ID)
	syncs = 0
	if err := m.Mark(map[int]byte{0: Done}, true); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if err := m.Mark(map[int]byte{1: Done}, true); err == nil {
		t.Error("a mark after a failed sync was believed")
	}
	m = get(t, q, e.ID)
	if err := m.Mark(map[int]byte{0: Done, 1: Done}, true); err != nil {
		t.Error("after opening it anew:", err)
	}
}

// Q11: an id that is there is never written over, and the first message stays.
func TestQ11_CollisionNeverOverwrites(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "first")
	for _, size := range []int{10, 3 * small} {
		if err := tryPut(q, e, strings.Repeat("2", size)); !errors.Is(err, ErrExists) {
			t.Error(err)
		}
	}
	if got := text(t, get(t, q, e.ID)); got != "first" {
		t.Errorf("%.20q", got)
	}
}

func TestQ11_IDsAreUniqueWhateverTheClock(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[ID]bool)
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ids := make([]ID, 20_000)
			for i := range ids {
				ids[i] = NewID(now)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, id := range ids {
				if seen[id] {
					t.Error("twice:", id)
				}
				seen[id] = true
			}
		})
	}
	wg.Wait()
	last := ID("")
	for _, at := range []time.Time{time.Unix(0, 0), now.AddDate(-1, 0, 0), now, now.Add(16 * time.Microsecond), now.AddDate(0, 0, 1), now.AddDate(80, 0, 0)} {
		id := NewID(at)
		if d := at.Sub(id.Time()); d < 0 || d >= 16*time.Microsecond {
			t.Errorf("%v: %s is %v", at, id, id.Time())
		}
		if p, err := ParseID(string(id)); p != id || err != nil {
			t.Error(err)
		}
		if id <= last {
			t.Errorf("%s does not sort after %s", id, last)
		}
		last = id
	}
}

func TestDerive(t *testing.T) {
	id := NewID(time.Now())
	a := id.Derive("expand", "bob@example.com")
	if a != id.Derive("expand", "bob@example.com") {
		t.Error("not the same again")
	}
	for _, b := range []ID{id, id.Derive(), id.Derive("expand"), id.Derive("expandbob@example.com"), id.Derive("expandb", "ob@example.com"),
		id.Derive("expand", "bob@example.com", ""), NewID(time.Now()).Derive("expand", "bob@example.com")} {
		if a == b {
			t.Error("the same:", b)
		}
	}
	if !a.Time().Equal(id.Time()) || !validID(string(a)) {
		t.Error(a, id)
	}
	if got := ID("0dj8bq6kh5q2t7v1g9ie").Derive("x", "y"); got != "0dj8bq6kh78hkejd71l3" {
		t.Error("derived ids changed: messages under way would be sent twice:", got)
	}
	if ID("bad").Derive("x") != "" || !ID("bad").Time().IsZero() {
		t.Error("a bad id was used")
	}
}

func TestParseID(t *testing.T) {
	for _, s := range []string{"", "0", "0dj8bq6kh5q2t7v1g9i", "0dj8bq6kh5q2t7v1g9iee", "0DJ8BQ6KH5Q2T7V1G9IE", "0dj8bq6kh5q2t7v1g9iw", "0dj8bq6kh5q2t7v1g9/e", "0dj8bq6kh5q2t7v1g9i\x00"} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// Two expansions of one recipient: the second finds the first's child, on disk,
// held, or half written by a crash.
func TestDerived_SecondRunFindsTheFirst(t *testing.T) {
	q := newQueue(t)
	parent := envelope()
	child := envelope("carol@example.net")
	child.ID, child.Origin = parent.ID.Derive("expand", "bob@example.com"), parent.ID

	// A crash in the middle of the first run.
	path := filepath.Join(q.path, child.ID.path())
	os.WriteFile(path, []byte(magic+version+"\nid "), 0o600)
	os.Chmod(path, writingMode)
	put(t, q, child, "text")

	if err := tryPut(q, child, "text"); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if err := tryPut(q, child, strings.Repeat("text", small)); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if err := q.Hold(child.ID); err != nil {
		t.Fatal(err)
	}
	if err := tryPut(q, child, "text"); !errors.Is(err, ErrExists) {
		t.Error("held:", err)
	}
	if err := q.Release(child.ID); err != nil {
		t.Fatal(err)
	}

	// A crash after the whole file was written: adopted, and so synced.
	os.Chmod(path, writingMode)
	if err := tryPut(q, child, "text"); !errors.Is(err, ErrExists) {
		t.Error("whole:", err)
	}
	if e := scan(t, q)[child.ID]; e.Writing {
		t.Error("not adopted")
	}
	if got := text(t, get(t, q, child.ID)); got != "text" {
		t.Errorf("%.20q", got)
	}
}

func TestQ07_SecondManager(t *testing.T) {
	q := newQueue(t)
	other := openTest(t, q.path, Options{})
	if err := q.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := q.Lock(); err != nil {
		t.Error("its own lock:", err)
	}
	if err := other.Lock(); !errors.Is(err, ErrLocked) {
		t.Error("a second one:", err)
	}
	third, err := Open(q.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	q.mu.Lock()
	q.lock.Close()
	q.lock = nil
	q.mu.Unlock()
	if err := third.Lock(); err != nil {
		t.Error("after the first was gone:", err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
	if err := other.Lock(); err != nil {
		t.Error("after Close:", err)
	}
}

// Q20: directories are made with their modes, synced with their parents before
// use, and made again when somebody removed them.
func TestQ20_Layout(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	synced := make(map[string]bool)
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	q := openTest(t, dir, Options{Ops: &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpSyncDir {
			synced[strings.TrimPrefix(name, dir)] = true
		}
		return nil
	}}})
	for name, mode := range map[string]os.FileMode{
		"active": 0o710, "active/0": 0o730 | os.ModeSticky | os.ModeSetgid, "active/v": 0o730 | os.ModeSticky | os.ModeSetgid,
		"hold": 0o700, "corrupt": 0o700, "log": 0o700,
	} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode() != mode|os.ModeDir {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
		if !synced["/"+name] {
			t.Errorf("%s was not synced", name)
		}
	}
	if !synced[""] || !synced["/active"] {
		t.Error("a parent was not synced")
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o750 {
		t.Error("the queue directory itself was changed:", st.Mode())
	}

	e := envelope()
	clear(synced)
	if err := os.Remove(filepath.Join(dir, filepath.Dir(e.ID.path()))); err != nil {
		t.Fatal(err)
	}
	put(t, q, e, "x")
	if !synced["/active"] {
		t.Error("the directory was made again and not synced")
	}
	get(t, q, e.ID)
	if st, err := os.Stat(filepath.Join(dir, e.ID.path())); err != nil || st.Mode() != liveMode {
		t.Error("umask 077:", st.Mode(), err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "active")); err != nil {
		t.Fatal(err)
	}
	if got := scan(t, q); len(got) != 0 {
		t.Error(got)
	}
}

func TestOpen_Errors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir+"/missing", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(dir+"/active", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "active is not a directory") {
		t.Error(err)
	}
	os.Remove(dir + "/active")
	for _, op := range []durable.Op{durable.OpMkdir, durable.OpChmod, durable.OpSyncDir} {
		if _, err := Open(dir, Options{Ops: failAt(op, 3, syscall.ENOSPC)}); !errors.Is(err, syscall.ENOSPC) {
			t.Error(op, err)
		}
	}
	openTest(t, dir, Options{}) // and takes up what a failure left
}

// The writer's file is there while it is written, locked, and nobody's to take.
func TestWriter_AliveIsBusy(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	w, err := q.Create(e)
	if err != nil {
		t.Fatal(err)
	}
	if len(q.files(t)) != 0 {
		t.Error("something is on disk already")
	}
	if _, err := w.Write(make([]byte, 2*small)); err != nil {
		t.Fatal(err)
	}
	if got := scan(t, q); !got[e.ID].Writing {
		t.Error(got)
	}
	if _, err := q.Recover(e.ID); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if _, err := q.Message(e.ID); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if err := q.Hold(e.ID); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if p, err := q.Check(); len(p) != 0 || err != nil {
		t.Error("check beside a writer:", p, err)
	}
	w.Abort()
	w.Abort()
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a write after Abort succeeded")
	}
	if len(q.files(t)) != 0 {
		t.Error(q.files(t))
	}
}

// A recovery that comes between create and lock removes the file; the writer
// notices and writes another.
func TestWriter_FileTakenAwayBeforeTheLock(t *testing.T) {
	dir := t.TempDir()
	q := openTest(t, dir, Options{})
	for _, size := range []int{10, 3 * small} {
		e := envelope()
		w, err := q.Create(e)
		if err != nil {
			t.Fatal(err)
		}
		// Hold the file's lock as a recovery does, and remove it, as soon as it is
		// there: the writer sees the lock taken, or the name gone, or neither.
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 100_000 {
				if ok, err := q.Recover(e.ID); ok || errors.Is(err, ErrBusy) {
					return
				}
			}
		})
		_, err = w.Write(make([]byte, size))
		if err == nil {
			err = w.Commit()
		}
		wg.Wait()
		if err != nil {
			t.Error(err)
		}
		get(t, q, e.ID)
	}
}

// The same, made certain: the file loses its name right after it was created.
func TestWriter_NameGone(t *testing.T) {
	dir := t.TempDir()
	old := syscall.Umask(0o007)
	defer syscall.Umask(old)
	q := openTest(t, dir, Options{})
	e := envelope()
	w, err := q.Create(e)
	if err != nil {
		t.Fatal(err)
	}
	f, err := durable.Create(q.dir, e.ID.path(), writingMode)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if lost, err := w.claim(f); lost || err != nil {
		t.Error(lost, err)
	}
	if err := os.Remove(filepath.Join(dir, e.ID.path())); err != nil {
		t.Fatal(err)
	}
	if lost, err := w.claim(f); !lost || err != nil {
		t.Error("not noticed:", lost, err)
	}
	if err := w.Commit(); err != nil {
		t.Error(err)
	}
}

func TestConcurrentWriters(t *testing.T) {
	q := newQueue(t)
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range each {
				e := envelope()
				if err := tryPut(q, e, strings.Repeat(string(e.ID), i*500)); err != nil {
					t.Error(err)
					continue
				}
				m, err := q.Message(e.ID)
				if err != nil {
					t.Error(err)
					continue
				}
				if b, _ := io.ReadAll(m.Reader()); string(b) != strings.Repeat(string(e.ID), i*500) {
					t.Error("mixed up")
				}
				m.Close()
			}
		})
	}
	wg.Wait()
	if n := len(scan(t, q)); n != writers*each {
		t.Error(n)
	}
}
