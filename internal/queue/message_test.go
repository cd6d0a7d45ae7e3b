package queue

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/internal/durable"
)

// Many marks that are close together are one write; marks far apart are not one
// huge one.
func TestMark_Coalesces(t *testing.T) {
	writes := 0
	q := openTest(t, t.TempDir(), Options{Ops: &durable.Ops{Fault: func(op durable.Op, _ string) error {
		if op == durable.OpWrite {
			writes++
		}
		return nil
	}}})
	e := envelope(manyRcpts(10_000)...) // some 290 kB
	put(t, q, e, "x")
	m := get(t, q, e.ID)
	all := make(map[int]byte)
	for i := range 1000 {
		all[i] = Done
	}
	for _, c := range []struct {
		marks map[int]byte
		want  int
	}{
		{all, 1}, {all, 0}, {nil, 0}, {map[int]byte{0: Failed, 9_999: Failed}, 2}, {map[int]byte{5: Done, 6: Expanded}, 1},
	} {
		writes = 0
		if err := m.Mark(c.marks, false); err != nil {
			t.Fatal(err)
		}
		if writes != c.want {
			t.Errorf("%d marks: %d writes, want %d", len(c.marks), writes, c.want)
		}
	}
	again := get(t, q, e.ID)
	for i, r := range again.Envelope.Rcpts {
		want := byte(Pending)
		switch {
		case i == 0 || i == 9_999:
			want = Failed
		case i == 6:
			want = Expanded
		case i < 1000:
			want = Done
		}
		if r.State != want || m.Envelope.Rcpts[i].State != want {
			t.Fatalf("recipient %d: %c in the file, %c in memory, want %c", i, r.State, m.Envelope.Rcpts[i].State, want)
		}
	}
	if text(t, again) != "x" {
		t.Error("a mark went into the message")
	}
}

func TestMark_RefusesNonsense(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "x")
	m := get(t, q, e.ID)
	for _, marks := range []map[int]byte{{-1: Done}, {1: Done}, {0: 'Q'}, {0: 0}, {0: '\n'}} {
		if err := m.Mark(marks, false); err == nil {
			t.Error(marks, "was taken")
		}
	}
	get(t, q, e.ID)
}

// A mark that cannot be written is not believed, and can be made later.
func TestF01_MarkFails(t *testing.T) {
	dir := t.TempDir()
	put(t, openTest(t, dir, Options{}), envelope("a@example.com"), "x")
	fail := false
	q := openTest(t, dir, Options{Ops: &durable.Ops{Fault: func(op durable.Op, _ string) error {
		if fail && op == durable.OpWrite {
			return syscall.ENOSPC
		}
		return nil
	}}})
	for id := range scan(t, q) {
		m := get(t, q, id)
		fail = true
		if err := m.Mark(map[int]byte{0: Done}, true); !errors.Is(err, syscall.ENOSPC) || m.Envelope.Rcpts[0].State != Pending {
			t.Error(err)
		}
		fail = false
		if err := m.Mark(map[int]byte{0: Done}, true); err != nil || m.Envelope.Rcpts[0].State != Done {
			t.Error(err)
		}
	}
}

// Q16: a durable mark is there after a crash that loses everything else; and a
// removal whose loss would send mail twice can be made permanent.
func TestQ16_MarksAndRemovals(t *testing.T) {
	var steps []string
	q := openTest(t, t.TempDir(), Options{Ops: &durable.Ops{Fault: func(op durable.Op, name string) error {
		steps = append(steps, string(op))
		return nil
	}}})
	a, b := envelope("x@example.com", "y@example.com"), envelope()
	put(t, q, a, "x")
	put(t, q, b, "x")
	m := get(t, q, a.ID)
	steps = nil
	if err := m.Mark(map[int]byte{1: Done}, true); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(steps, " "); got != "write datasync" {
		t.Error(got)
	}
	if got := get(t, q, a.ID).Envelope.Rcpts; got[0].State != Pending || got[1].State != Done {
		t.Error(got)
	}

	if err := q.AppendLog(b.ID, Note{Time: time.Now(), Event: "deferred"}); err != nil {
		t.Fatal(err)
	}
	steps = nil
	if err := get(t, q, b.ID).Remove(map[int]byte{0: Done}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(steps, " "); got != "unlink unlink" {
		t.Error(got) // the file, the log: no mark, no sync
	}
	steps = nil
	for range 2 {
		if err := q.SyncRemovals(); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(steps, " "); got != "syncdir" {
		t.Error(got)
	}
	if _, err := q.Message(b.ID); !errors.Is(err, ErrNotExist) {
		t.Error(err)
	}
	if n := q.names(t, "log"); len(n) != 0 {
		t.Error(n)
	}
}

func TestF01_SyncRemovalsFails(t *testing.T) {
	dir := t.TempDir()
	openTest(t, dir, Options{}) // makes the directories
	q := openTest(t, dir, Options{Ops: failAt(durable.OpSyncDir, 1, syscall.EIO)})
	q.strict = false
	e := envelope()
	put(t, q, e, "x")
	if err := get(t, q, e.ID).Remove(nil); err != nil {
		t.Fatal(err)
	}
	if err := q.SyncRemovals(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if !q.shards[e.ID.shard()].dirty.Load() {
		t.Error("forgotten")
	}
	if err := q.SyncRemovals(); err != nil {
		t.Error(err)
	}
}

// The mtime is the time of the next attempt: new is now, deferred is what it was
// set to, and both scan and message tell it.
func TestDefer(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	before := time.Now().Add(-time.Second)
	put(t, q, e, "x")
	if next := scan(t, q)[e.ID].Next; next.Before(before) || next.After(time.Now().Add(time.Second)) {
		t.Error("new:", next)
	}
	m := get(t, q, e.ID)
	for _, next := range []time.Time{time.Now().Add(time.Hour), time.Unix(1, 5), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if err := m.Mark(map[int]byte{0: Failed}, false); err != nil {
			t.Fatal(err)
		}
		if err := m.Defer(next); err != nil {
			t.Fatal(err)
		}
		if got := scan(t, q)[e.ID].Next; !got.Equal(next) || !get(t, q, e.ID).Next.Equal(next) {
			t.Errorf("%v, want %v", got, next)
		}
	}
	if err := m.Remove(nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Defer(time.Now()); err != nil {
		t.Error("of a message that is gone:", err)
	}
}

// Q18: an operator holds a message, deletes one, or requeues one while it is
// being delivered.
func TestQ18_HeldDuringTheAttempt(t *testing.T) {
	q := newQueue(t)
	e := envelope("a@example.com", "b@example.com")
	for _, big := range []int{0, 2 * small} {
		e.ID = NewID(time.Now())
		e.Origin = e.ID
		body := strings.Repeat("x", big)
		put(t, q, e, body)
		m := get(t, q, e.ID)
		name := string(e.ID)
		if err := os.Rename(filepath.Join(q.path, e.ID.path()), filepath.Join(q.path, "hold", name)); err != nil {
			t.Fatal(err)
		}
		if m.Gone() {
			t.Error("held is not gone")
		}
		if err := q.AppendLog(e.ID, Note{Time: time.Now(), Event: "deferred"}); err != nil {
			t.Fatal(err)
		}
		if err := m.Mark(map[int]byte{0: Done}, false); err != nil {
			t.Error(err)
		}
		if err := m.Defer(time.Now().Add(time.Hour)); err != nil {
			t.Error(err)
		}
		if err := m.Remove(map[int]byte{1: Failed}); err != nil {
			t.Error(err)
		}
		if _, err := q.Message(e.ID); !errors.Is(err, ErrNotExist) {
			t.Error(err)
		}
		if got := scan(t, q); len(got) != 0 {
			t.Error(got)
		}
		if err := q.Release(e.ID); err != nil {
			t.Fatal(err)
		}
		m = get(t, q, e.ID)
		if r := m.Envelope.Rcpts; r[0].State != Done || r[1].State != Failed || text(t, m) != body {
			t.Errorf("the held copy does not know: %+v", r)
		}
		if n, err := q.ReadLog(e.ID); len(n) != 1 || err != nil {
			t.Error("its log is gone:", n, err)
		}
		if err := q.Release(e.ID); !errors.Is(err, ErrNotExist) {
			t.Error(err)
		}
		if err := m.Remove(nil); err != nil {
			t.Error(err)
		}
	}
}

func TestQ18_DeletedDuringTheAttempt(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "text")
	m := get(t, q, e.ID)
	if err := q.AppendLog(e.ID, Note{Time: time.Now(), Event: "deferred"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(q.path, e.ID.path())); err != nil {
		t.Fatal(err)
	}
	if !m.Gone() {
		t.Error("not gone")
	}
	if text(t, m) != "text" || m.Mark(map[int]byte{0: Done}, true) != nil || m.Remove(map[int]byte{0: Done}) != nil {
		t.Error("the attempt did not come to its end")
	}
	if n := q.names(t, "log"); len(n) != 0 {
		t.Error("a log without a message:", n)
	}
}

// Its log goes only when there is no message of that id anywhere.
func TestForgetLog(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "text")
	note := Note{Time: time.Now(), Event: "deferred"}
	logs := func() int { return len(q.names(t, "log")) }
	if err := q.AppendLog(e.ID, note); err != nil {
		t.Fatal(err)
	}
	for _, move := range []func(ID) error{q.ForgetLog, q.Hold} {
		if err := move(e.ID); err != nil {
			t.Fatal(err)
		}
		if err := q.ForgetLog(e.ID); err != nil || logs() != 1 {
			t.Error(logs(), err)
		}
	}
	os.Remove(filepath.Join(q.path, "hold", string(e.ID)))
	for range 2 {
		if err := q.ForgetLog(e.ID); err != nil || logs() != 0 {
			t.Error(logs(), err)
		}
	}
}

// So does, at the first scan of the next owner, one that a crash left.
func TestScan_SweepsLogs(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "text")
	orphan := NewID(time.Now())
	for _, id := range []ID{e.ID, orphan} {
		if err := q.AppendLog(id, Note{Time: time.Now(), Event: "deferred"}); err != nil {
			t.Fatal(err)
		}
	}
	scan(t, q)
	if n := q.names(t, "log"); len(n) != 2 {
		t.Error("one who does not own the queue removed a log:", n)
	}
	if err := q.Lock(); err != nil {
		t.Fatal(err)
	}
	scan(t, q)
	if n := q.names(t, "log"); len(n) != 1 || n[0] != string(e.ID) {
		t.Error(n)
	}
}

func TestHold_ReplacesNothing(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "text")
	held := filepath.Join(q.path, "hold", string(e.ID))
	if err := os.WriteFile(held, []byte("other"), 0o660); err != nil {
		t.Fatal(err)
	}
	if err := q.Hold(e.ID); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if b, err := os.ReadFile(held); string(b) != "other" {
		t.Error(err)
	}
	os.Remove(held)
	for _, op := range []durable.Op{durable.OpRename} {
		bad := openTest(t, q.path, Options{Ops: failAt(op, 1, syscall.ENOSPC)})
		if err := bad.Hold(e.ID); !errors.Is(err, syscall.ENOSPC) {
			t.Error(op, err)
		}
		get(t, q, e.ID)
	}
}

// Both directories are synced, or the message could be in neither after a crash.
func TestHold_SyncsBothDirectories(t *testing.T) {
	var synced []string
	dir := t.TempDir()
	q := openTest(t, dir, Options{Ops: &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpSyncDir || op == durable.OpRename {
			synced = append(synced, string(op)+" "+strings.TrimPrefix(name, dir+"/"))
		}
		return nil
	}}})
	e := envelope()
	put(t, q, e, "x")
	shard := filepath.Dir(e.ID.path())
	synced = nil
	if err := q.Hold(e.ID); err != nil {
		t.Fatal(err)
	}
	if err := q.Release(e.ID); err != nil {
		t.Fatal(err)
	}
	want := "rename " + e.ID.path() + "|syncdir hold|syncdir " + shard + "|rename hold/" + string(e.ID) + "|syncdir " + shard + "|syncdir hold"
	if got := strings.Join(synced, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLog(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "x")
	at := time.UnixMicro(1764000000123456).UTC()
	notes := []Note{
		{Time: at, Rcpt: "bob@example.com", Event: "deferred", Status: "4.4.1", Host: "mx.example.net", Text: "connect: refused"},
		{Time: at.Add(time.Second), Event: "two words", Text: "line\r\n1764000000.000000 failed rcpt=x \x00=+é"},
		{Time: at, Event: "warned", Text: strings.Repeat("x", 5000)},
	}
	if n, err := q.ReadLog(e.ID); n != nil || err != nil {
		t.Error("of a message without one:", n, err)
	}
	if err := q.AppendLog(e.ID, notes[0]); err != nil {
		t.Fatal(err)
	}
	if err := q.AppendLog(e.ID, notes[1:]...); err != nil {
		t.Fatal(err)
	}
	notes[2].Text = notes[2].Text[:logText]
	got, err := q.ReadLog(e.ID)
	if err != nil || len(got) != len(notes) {
		t.Fatal(got, err)
	}
	for i := range notes {
		if got[i] != notes[i] {
			t.Errorf("%d: %+v", i, got[i])
		}
	}
	path := filepath.Join(q.path, "log", string(e.ID))
	b, err := os.ReadFile(path)
	if err != nil || bytes.Count(b, []byte{'\n'}) != 3 || bytes.ContainsAny(b, "\r\x00") {
		t.Errorf("%q %v", b, err)
	}
	if err := q.AppendLog(e.ID); err != nil {
		t.Error("nothing to add:", err)
	}
	if q.AppendLog(e.ID, Note{Time: at}) == nil || q.AppendLog(e.ID, Note{Event: "x"}) == nil || q.AppendLog("x", notes...) == nil {
		t.Error("a note without time, event or message was taken")
	}
	// What is no note is passed over.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("\n\nhello\n1764000000.123456\n1764000000.123456 \n1764000000.123456 a text=+0\n99999999999999999999.123456 x\n1764000000.123456 half a li")
	f.Close()
	if again, err := q.ReadLog(e.ID); len(again) != 3 || err != nil {
		t.Error(again, err)
	}
}

func TestLog_LongAndForeign(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "x")
	for i := range 600 {
		if err := q.AppendLog(e.ID, Note{Time: time.Unix(int64(i), 0), Event: "deferred", Text: strings.Repeat("x", 900)}); err != nil {
			t.Fatal(err)
		}
	}
	notes, err := q.ReadLog(e.ID)
	if err != nil || len(notes) < 250 || len(notes) > 300 || notes[len(notes)-1].Time.Unix() != 599 {
		t.Error(len(notes), err)
	}
	path := filepath.Join(q.path, "log", string(e.ID))
	os.Remove(path)
	os.Symlink("/etc/passwd", path)
	if _, err := q.ReadLog(e.ID); err == nil {
		t.Error("a symbolic link was followed")
	}
	if err := q.AppendLog(e.ID, notes[0]); err == nil {
		t.Error("a symbolic link was followed")
	}
	os.Remove(path)
	syscall.Mkfifo(path, 0o600)
	if _, err := q.ReadLog(e.ID); err == nil {
		t.Error("a FIFO was read")
	}
	if err := q.AppendLog(e.ID, notes[0]); err == nil {
		t.Error("a FIFO was written")
	}
	os.Remove(path)
}

// Appending keeps a time of the next attempt that the log holds.
func TestLog_KeepsItsTime(t *testing.T) {
	q := newQueue(t)
	e := envelope()
	put(t, q, e, "x")
	note := Note{Time: time.Now(), Event: "deferred"}
	if err := q.AppendLog(e.ID, note); err != nil {
		t.Fatal(err)
	}
	next := time.Now().Add(time.Hour)
	if err := q.setTime("log/"+string(e.ID), next); err != nil {
		t.Fatal(err)
	}
	if err := q.AppendLog(e.ID, note); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(q.path, "log", string(e.ID))); err != nil || !st.ModTime().Equal(next) {
		t.Error(st.ModTime(), err)
	}
}

// Check finds what it is for.
func TestCheck(t *testing.T) {
	q, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	good, held, bad, left := envelope(), envelope(), envelope(), envelope()
	for _, e := range []*Envelope{good, held, bad, left} {
		put(t, q, e, "x")
	}
	if p, err := q.Check(); len(p) != 0 || err != nil {
		t.Fatal(p, err)
	}
	file := func(p string) string { return filepath.Join(q.path, p) }
	if err := q.Hold(held.ID); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(file(bad.ID.path()), []byte("x"), 0)
	os.Chmod(file(left.ID.path()), writingMode)
	os.WriteFile(file("corrupt/x"), nil, 0o600)
	os.WriteFile(file("active/xyz"), nil, 0o600)
	os.WriteFile(file("active/0/.x"), nil, 0o600)
	os.WriteFile(file("log/"+string(NewID(time.Now()))), nil, 0o600)
	os.WriteFile(file("log/x"), nil, 0o600)
	os.WriteFile(file("log/"+string(held.ID)), nil, 0o600)
	os.WriteFile(file("hold/README"), nil, 0o600)
	wrong := "active/" + digits[(good.ID.shard()+1)%32:][:1] + "/" + string(good.ID)
	os.WriteFile(file(wrong), nil, 0o660)
	before := q.files(t)
	problems, err := q.Check()
	if err != nil {
		t.Error(err)
	}
	want := map[string]bool{bad.ID.path(): true, left.ID.path(): true, "corrupt/x": true, "active/xyz": true, "active/0/.x": true, "log/x": true, "hold/README": true, wrong: true}
	for _, p := range problems {
		if !want[p.Path] && !strings.HasPrefix(p.Path, "log/") {
			t.Error("too much:", p)
		}
		delete(want, p.Path)
	}
	if len(want) != 0 || len(problems) != 9 {
		t.Errorf("not found: %v; found %d: %v", want, len(problems), problems)
	}
	if after := q.files(t); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Error("Check changed something")
	}
}
