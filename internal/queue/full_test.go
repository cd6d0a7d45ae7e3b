package queue

import (
	"os"
	"testing"
	"time"
)

func TestFullMailboxes(t *testing.T) {
	q := newQueue(t)
	const box = "alice@example.org/../../x"
	now := time.Now()
	room := func(size int64, at time.Time, want bool) {
		t.Helper()
		if got := q.Room(box, size, at); got != want {
			t.Errorf("room for %d: %v", size, got)
		}
	}
	full := func(size int64, at time.Time) {
		t.Helper()
		if err := q.NoteFull(box, size, at); err != nil {
			t.Fatal(err)
		}
	}
	room(1<<40, now, true)
	full(50_000, now)
	full(90_000, now) // says nothing new about what is smaller
	room(50_000, now, false)
	room(49_500, now, false) // with our fields above it
	room(40_000, now, true)
	room(0, now, true) // not declared
	if !q.Room("bob", 50_000, now) {
		t.Error("another's mailbox")
	}
	q.NoteRoom(box, 40_000)
	room(50_000, now, false)
	full(500, now)
	room(0, now, false) // nothing fits
	q.NoteRoom(box, 60_000)
	room(1<<40, now, true)

	// A note holds for an hour, also when the clock was wrong.
	full(50_000, now)
	room(50_000, now.Add(fullFor-time.Second), false)
	later := now.Add(fullFor + time.Second)
	room(50_000, later, true)
	room(50_000, now.Add(-fullFor-time.Second), true)
	full(70_000, later)
	room(60_000, later, true)

	// The owner of the queue throws old ones away.
	full(50_000, now.Add(-2*fullFor))
	if err := q.NoteFull("bob", 50_000, now); err != nil {
		t.Fatal(err)
	}
	if err := q.Lock(); err != nil {
		t.Fatal(err)
	}
	q.Scan(func(Entry) bool { return true })
	if l, err := os.ReadDir(q.Path() + "/full"); err != nil || len(l) != 1 {
		t.Errorf("%d notes, %v", len(l), err)
	}
}
