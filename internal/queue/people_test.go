package queue

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLookFindsAMessageWhereverItIs(t *testing.T) {
	q := openTest(t, t.TempDir(), Options{})
	e := envelope("b@example.com")
	put(t, q, e, "text")
	places := []struct {
		name          string
		held, corrupt bool
	}{{e.ID.path(), false, false}, {"hold/" + string(e.ID), true, false}, {"corrupt/" + string(e.ID), false, true}}
	at := places[0].name
	for _, p := range places {
		if err := os.Rename(q.path+"/"+at, q.path+"/"+p.name); err != nil {
			t.Fatal(err)
		}
		at = p.name
		l, err := q.Look(e.ID)
		if err != nil || l.Held != p.held || l.Corrupt != p.corrupt || l.Envelope.ID != e.ID {
			t.Errorf("%s: %+v %v", p.name, l, err)
		}
		var b bytes.Buffer
		if err := q.Copy(&b, e.ID); err != nil || b.String() != "text" {
			t.Errorf("%s: %q %v", p.name, b.String(), err)
		}
	}
	if err := q.Delete(e.ID); err != nil {
		t.Error(err)
	}
	for _, err := range []error{q.Delete(e.ID), q.Copy(&bytes.Buffer{}, e.ID), q.Requeue(e.ID, time.Now()), q.Due(e.ID, time.Now()), q.GiveUp(e.ID, ""), q.Delete("x")} {
		if !errors.Is(err, ErrNotExist) {
			t.Errorf("of a message that is gone: %v", err)
		}
	}
}

func TestWhatIsBeingWrittenIsLeftAlone(t *testing.T) {
	q := openTest(t, t.TempDir(), Options{})
	e := envelope("b@example.com")
	w, err := q.Create(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{q.Delete(e.ID), q.Requeue(e.ID, time.Now()), q.GiveUp(e.ID, ""), q.Copy(&bytes.Buffer{}, e.ID)} {
		if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrNotExist) {
			t.Error(err)
		}
	}
	w.Write([]byte("text"))
	if err := w.Commit(); err != nil {
		t.Error(err)
	}
}

func TestRequeueTakesOnlyWhatIsWhole(t *testing.T) {
	q := openTest(t, t.TempDir(), Options{})
	e := envelope("b@example.com")
	put(t, q, e, "text")
	corrupt := q.path + "/corrupt/" + string(e.ID)
	if err := os.Rename(q.path+"/"+e.ID.path(), corrupt); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(corrupt)
	if err != nil {
		t.Fatal(err)
	}
	var d *DamagedError
	if err := os.WriteFile(corrupt, bytes.Replace(good, []byte("text"), []byte("test"), 1), 0o660); err != nil {
		t.Fatal(err)
	}
	if err := q.Requeue(e.ID, time.Now()); !errors.As(err, &d) {
		t.Errorf("a wrong sum: %v", err)
	}
	if err := os.WriteFile(corrupt, good, 0o660); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(corrupt, q.path+"/corrupt/other"); err != nil {
		t.Fatal(err)
	}
	if err := q.Requeue(e.ID, time.Now()); !errors.As(err, &d) {
		t.Errorf("another name: %v", err)
	}
	os.Remove(q.path + "/corrupt/other")
	if err := q.Requeue(e.ID, time.Now()); err != nil {
		t.Error(err)
	}
	m, err := q.Message(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}

// Q18: people delete, hold, release and give up a message while it is attempted, again and again. In the end it is gone, with all that
// belonged to it, or whole in one place.
func TestQ18_PeopleAndAttemptsRace(t *testing.T) {
	q := openTest(t, t.TempDir(), Options{})
	if err := q.Lock(); err != nil {
		t.Fatal(err)
	}
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	for round := range rounds {
		e := envelope("b@example.com", "c@example.com")
		put(t, q, e, "text")
		var wg sync.WaitGroup
		deleted := round%2 == 0
		wg.Go(func() { // as queued attempts
			for range 3 {
				m, err := q.Message(e.ID)
				if errors.Is(err, ErrNotExist) {
					if err := q.ForgetLog(e.ID); err != nil {
						t.Error(err)
					}
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				m.Mark(map[int]byte{0: Done}, false)
				if rand.IntN(3) == 0 {
					err = m.Remove(map[int]byte{1: Done})
				} else if !m.Gone() {
					err = errors.Join(q.AppendLog(e.ID, Note{Time: time.Now(), Event: "deferred"}), m.Defer(time.Now()))
					if m.Gone() {
						err = errors.Join(err, q.ForgetLog(e.ID))
					}
				}
				if err != nil {
					t.Error(err)
				}
				m.Close()
			}
		})
		wg.Go(func() {
			for range 3 {
				for _, err := range []error{q.Hold(e.ID), q.Release(e.ID), q.GiveUp(e.ID, "x")} {
					if err != nil && !errors.Is(err, ErrNotExist) {
						t.Error(err)
					}
				}
			}
		})
		if deleted {
			wg.Go(func() {
				if err := q.Delete(e.ID); err != nil && !errors.Is(err, ErrNotExist) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, err := q.Look(e.ID); deleted && !errors.Is(err, ErrNotExist) {
			// It was moved at each of Delete's looks; then it says so, and once more is enough.
			if err := q.Delete(e.ID); err != nil {
				t.Error(err)
			}
		}
		q.GiveUps(func(id ID) bool { return true })
		problems, err := q.Check()
		if err != nil || len(problems) > 0 {
			t.Fatalf("round %d: %v %v", round, problems, err)
		}
		if _, err := q.Look(e.ID); errors.Is(err, ErrNotExist) {
			if left, _ := os.ReadDir(q.path + "/bounce"); len(left) > 0 {
				t.Fatalf("round %d: left in bounce: %v", round, left)
			}
		} else {
			q.Delete(e.ID)
		}
	}
}

func TestPauseNames(t *testing.T) {
	q := openTest(t, t.TempDir(), Options{})
	names := []string{"example.net", "lmtp:unix:/run/x y", "[192.0.2.7]:25", "..", ".hidden", "a+b", "é.example", "mx.example:2525"}
	for _, n := range names {
		if err := q.Pause(n, "why "+n+"\n"); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(q.path+"/pause/by.hand", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := q.Pauses()
	if err != nil || len(list) != len(names)+1 {
		t.Errorf("%v %v", list, err)
	}
	for _, p := range list {
		if want := "why " + p.Destination; p.Destination != "by.hand" && p.Text != want {
			t.Errorf("%+v", p)
		}
		if err := q.Resume(p.Destination); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []string{"", strings.Repeat("x", 300)} {
		if err := q.Pause(n, ""); err == nil {
			t.Errorf("%.10q was paused", n)
		}
	}
	if err := q.Resume("example.net"); !errors.Is(err, ErrNotExist) {
		t.Error(err)
	}
	if left, err := os.ReadDir(q.path + "/pause"); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}
