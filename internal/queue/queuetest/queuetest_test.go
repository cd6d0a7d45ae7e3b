package queuetest

import (
	"os"
	"testing"
	"time"

	"postamt/internal/queue"
)

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Error(...any) { r.errors++ }
func (r *recorder) Helper()      {}

func TestCheck_FailsTheTest(t *testing.T) {
	q := New(t)
	r := &recorder{TB: t}
	Check(r, q)
	if r.errors != 0 {
		t.Error("an empty queue is reported")
	}
	path := q.Path() + "/log/" + string(queue.NewID(time.Now()))
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	Check(r, q)
	if r.errors != 1 {
		t.Error(r.errors, "errors")
	}
	os.Remove(path)
}
