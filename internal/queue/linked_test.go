package queue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Q16: a crash of a file system without a journal brings back the names of removed messages, as names of others. Those
// others, for which somebody was told 250, are attempted all the same.
func TestQ16_NamesThatCameBack(t *testing.T) {
	q, told := damagedQueue(t)
	var real [2]*Envelope
	for i := range real {
		real[i] = envelope()
		if i == 1 {
			real[i].Origin = NewID(time.Now()) // a child's header is not quite the same
		}
		put(t, q, real[i], "x")
		for range 2 { // in whatever shard: before the right name and after it
			stale := filepath.Join(q.path, NewID(time.Now()).path())
			if err := os.Link(filepath.Join(q.path, real[i].ID.path()), stale); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Of the names of one nothing can be said before all have been seen.
	if err := q.Lock(); err != nil {
		t.Fatal(err)
	}
	var d *DamagedError
	if _, err := q.Message(real[0].ID); err == nil || errors.As(err, &d) || errors.Is(err, ErrNotExist) {
		t.Errorf("before the first scan: %v", err)
	}
	if got := scan(t, q); len(got) != 2 || got[real[0].ID].ID == "" || got[real[1].ID].ID == "" {
		t.Error(got)
	}
	if n := len(q.files(t)); n != 2 || len(q.names(t, "corrupt")) != 0 {
		t.Errorf("%d files in active, %d in corrupt", n, len(q.names(t, "corrupt")))
	}
	if len(*told) != 4 {
		t.Error(*told)
	}
	for _, e := range real {
		if got := text(t, get(t, q, e.ID)); got != "x" {
			t.Errorf("%q", got)
		}
	}
}

// Q05: a name outside the queue, or one in it that is right as well, is nobody's mistake but an attack.
func TestQ05_LinkedElsewhere(t *testing.T) {
	q, _ := damagedQueue(t)
	e := envelope()
	put(t, q, e, "x")
	path := filepath.Join(q.path, e.ID.path())
	if err := os.Link(path, filepath.Join(t.TempDir(), "mine")); err != nil {
		t.Fatal(err)
	}
	// A copy of its head leads nobody to remove what is another file.
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fake := filepath.Join(q.path, NewID(time.Now()).path())
	if err := os.WriteFile(fake, text, 0o660); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(fake, 0o660); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(fake, filepath.Join(t.TempDir(), "mine too")); err != nil {
		t.Fatal(err)
	}
	if got := scan(t, q); len(got) != 0 {
		t.Error(got)
	}
	if got := strings.Join(q.names(t, "corrupt"), " "); !strings.Contains(got, string(e.ID)) || !strings.Contains(got, filepath.Base(fake)) {
		t.Errorf("corrupt: %s", got)
	}
}
