// Package queuetest makes queues for tests.
package queuetest

import (
	"testing"

	"postamt/internal/queue"
)

// New opens a new queue in a temporary directory. When the test ends, Check must
// find nothing wrong in it.
func New(t testing.TB) *queue.Queue {
	t.Helper()
	return Open(t, t.TempDir(), queue.Options{})
}

// Open opens the queue in dir, and checks it when the test ends.
func Open(t testing.TB, dir string, o queue.Options) *queue.Queue {
	t.Helper()
	q, err := queue.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		Check(t, q)
		q.Close()
	})
	return q
}

// Check fails the test for everything that is wrong in q.
func Check(t testing.TB, q *queue.Queue) {
	t.Helper()
	problems, err := q.Check()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Error("queue:", p)
	}
}
