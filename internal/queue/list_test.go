package queue

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// listAll is what List shows, by id.
func listAll(t *testing.T, q *Queue) map[ID]Listed {
	t.Helper()
	all := map[ID]Listed{}
	if err := q.List(func(l Listed) bool { all[l.ID] = l; return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

func putListed(t *testing.T, q *Queue, rcpts int) *Envelope {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	e := &Envelope{ID: NewID(now), Arrived: now, From: "alice@example.org"}
	for i := range rcpts {
		e.Rcpts = append(e.Rcpts, Rcpt{Addr: fmt.Sprintf("user%d@example.net", i)})
	}
	w, err := q.Create(e)
	if err == nil {
		_, err = w.Write([]byte("Subject: x\r\n\r\n- rcpt nobody@example.com\n\n"))
	}
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestListShowsActiveAndHeldMessages(t *testing.T) {
	q := newQueue(t)
	short, long := putListed(t, q, 1), putListed(t, q, 5000) // 5,000 recipients are many times the first read
	held := putListed(t, q, 2)
	if err := os.Rename(q.path+"/"+held.ID.path(), q.path+"/hold/"+string(held.ID)); err != nil {
		t.Fatal(err)
	}
	all := listAll(t, q)
	for _, e := range []*Envelope{short, long, held} {
		l := all[e.ID]
		if l.Err != nil || len(l.Envelope.Rcpts) != len(e.Rcpts) || l.Envelope.From != e.From || l.Held != (e == held) {
			t.Errorf("%s with %d recipients: %d recipients, held %v, error %v", e.ID, len(e.Rcpts), len(l.Envelope.Rcpts), l.Held, l.Err)
		}
		if l.Size < 100 || time.Since(l.Next) > time.Minute {
			t.Errorf("%s: size %d, next %v", e.ID, l.Size, l.Next)
		}
	}
	if len(all) != 3 {
		t.Errorf("%d messages listed, not 3", len(all))
	}
}

func TestListPassesOverWhatIsBeingWritten(t *testing.T) {
	q := newQueue(t)
	now := time.Now()
	w, err := q.Create(&Envelope{ID: NewID(now), Arrived: now, Rcpts: []Rcpt{{Addr: "a@example.org"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(make([]byte, 2*small)); err != nil { // more than is kept in memory: the file is there
		t.Fatal(err)
	}
	if all := listAll(t, q); len(all) != 0 {
		t.Errorf("listed: %v", all)
	}
}

// Q02, Q05: damage is shown and moved nowhere, since List only looks.
func TestListTellsOfDamageAndChangesNothing(t *testing.T) {
	q := newQueue(t)
	e := putListed(t, q, 1)
	path := q.path + "/" + e.ID.path()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 10_000)), 0o660); err != nil {
		t.Fatal(err)
	}
	var d *DamagedError
	if l := listAll(t, q)[e.ID]; !errors.As(l.Err, &d) {
		t.Errorf("error %v", l.Err)
	}
	if err := os.WriteFile(path, whole, 0o660); err != nil { // still there, or Check would not be content
		t.Fatal(err)
	}
	if l := listAll(t, q)[e.ID]; l.Err != nil {
		t.Error(l.Err)
	}
}

func TestListStopsWhenTold(t *testing.T) {
	q := newQueue(t)
	for range 40 {
		putListed(t, q, 1)
	}
	n := 0
	if err := q.List(func(Listed) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("%d calls, %v", n, err)
	}
}
