package queue

import (
	"errors"
	"os"
	"testing"
	"time"
)

// What root does, the owner of the queue can go on with.
func TestRootsFilesAreTheOwners(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	const owner, group = 23001, 23003
	dir := t.TempDir()
	if err := os.Chown(dir, owner, group); err != nil {
		t.Fatal(err)
	}
	q := openTest(t, dir, Options{})
	e := envelope("b@example.com")
	put(t, q, e, "text")
	if err := os.Chown(dir+"/"+e.ID.path(), owner, group); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{q.Pause("example.net", "x"), q.GiveUp(e.ID, "why"), q.Requeue(e.ID, time.Now())} {
		if err != nil {
			t.Error(err)
		}
	}
	as(t, owner, group, func() {
		if list, err := q.Pauses(); err != nil || len(list) != 1 {
			t.Error(list, err)
		}
		if text, asked, err := q.GivenUp(e.ID); err != nil || !asked || text != "why" {
			t.Error(text, asked, err)
		}
		if err := q.AppendLog(e.ID, Note{Time: time.Now(), Event: "x"}); err != nil {
			t.Error(err)
		}
		if err := errors.Join(q.Resume("example.net"), q.Delete(e.ID)); err != nil {
			t.Error(err)
		}
	})
}
