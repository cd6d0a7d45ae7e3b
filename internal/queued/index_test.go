package queued

import (
	"math/rand/v2"
	"testing"
	"time"

	"postamt/internal/queue"
)

// The index and a plain map agree, whatever is done.
func TestIndexModel(t *testing.T) {
	type want struct {
		next    time.Time
		suspect bool
		now     bool
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	base := time.Unix(1_800_000_000, 0)
	ids := make([]queue.ID, 50)
	for i := range ids {
		ids[i] = queue.NewID(base)
	}
	x, model := newIndex(0), map[queue.ID]want{}
	for range 100_000 {
		id := ids[rnd.IntN(len(ids))]
		at := base.Add(time.Duration(rnd.IntN(1000)) * time.Second)
		switch old, known := model[id]; rnd.IntN(100) {
		default:
			suspect := rnd.IntN(2) == 0
			x.add(id, at, suspect)
			model[id] = want{at, suspect || old.suspect, false}
		case 0:
			x.hurry(base)
			for k, w := range model {
				model[k] = want{base, w.suspect, true}
			}
		case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
			x.found(id, at)
			if !known || !old.now && !old.next.Equal(at) {
				model[id] = want{at, true, false}
			}
		case 11, 12, 13, 14, 15:
			if got := x.take(id); got != old.suspect {
				t.Fatalf("take: %v, want %v", got, old.suspect)
			}
			delete(model, id)
		case 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30:
			now := base.Add(time.Duration(rnd.IntN(400)) * time.Second)
			got, ok, wait := x.due(now)
			var first time.Time
			for _, w := range model {
				if first.IsZero() || w.next.Before(first) {
					first = w.next
				}
			}
			if ok != (len(model) > 0 && !first.After(now)) {
				t.Fatalf("due %v at %v, the first is at %v", ok, now, first)
			}
			if !ok {
				if len(model) > 0 && wait != first.Sub(now) {
					t.Fatalf("wait %v, want %v", wait, first.Sub(now))
				}
				continue
			}
			if w := model[got.id]; !w.next.Equal(first) || w.suspect != got.suspect || w.now != got.now {
				t.Fatalf("due %+v, want %+v", got, w)
			}
			delete(model, got.id)
		}
		if x.len() != len(model) {
			t.Fatalf("%d entries, want %d", x.len(), len(model))
		}
	}
}

func BenchmarkIndex(b *testing.B) {
	x := newIndex(0)
	base := time.Unix(1_800_000_000, 0)
	for i := range 100_000 {
		x.add(queue.NewID(base), base.Add(time.Duration(i)*time.Second), false)
	}
	b.ResetTimer()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		t, _, _ := x.due(base.Add(time.Hour * 1e5))
		x.add(t.id, base.Add(time.Duration(100_000+i)*time.Second), false)
	}
}

// Q08: an index with room for a tenth of what waits gives out all of it, in order, with the help of readings when it asks.
func TestQ08_IndexWithALimit(t *testing.T) {
	const limit = 100
	rnd := rand.New(rand.NewPCG(3, 4))
	base := time.Unix(1_800_000_000, 0)
	x, directory := newIndex(limit), map[queue.ID]time.Time{}
	for range 10 * limit {
		directory[queue.NewID(base)] = base.Add(time.Duration(rnd.IntN(1000)) * time.Second)
	}
	readings := 0
	read := func() {
		readings++
		x.reading()
		for id, next := range directory { // in any order
			x.found(id, next)
			if x.len() > limit {
				t.Fatalf("%d entries", x.len())
			}
		}
	}
	read()
	last := base
	for now := base; len(directory) > 0; {
		got, ok, wait := x.due(now)
		switch next := directory[got.id]; {
		case ok && (next.Before(last) || next.After(now)):
			t.Fatalf("%v after the start comes one of %v, after one of %v", now.Sub(base), next.Sub(base), last.Sub(base))
		case ok:
			last = next
			delete(directory, got.id)
			if rnd.IntN(3) == 0 { // an attempt that failed
				directory[got.id] = now.Add(time.Duration(100+rnd.IntN(100)) * time.Second)
				if now.Sub(base) > time.Hour {
					delete(directory, got.id)
				} else {
					x.put(got, directory[got.id])
				}
			}
		case x.lacks(now, 0):
			if x.lacks(now, 0) {
				t.Fatal("asked for twice")
			}
			read()
		case wait <= 0 || wait == time.Hour:
			t.Fatalf("%d wait, and it waits for %v", len(directory), wait)
		default:
			now = now.Add(wait)
			last = base // what was deferred meanwhile comes when it comes
		}
	}
	// Each brings half of what there is room for.
	if readings < 10 || readings > 100 {
		t.Errorf("%d readings", readings)
	}
	if x.len() != 0 {
		t.Errorf("%d entries are left", x.len())
	}
}
