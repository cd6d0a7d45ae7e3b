package queued

import (
	"container/heap"
	"sync"
	"time"

	"postamt/internal/queue"
)

// An entry is one waiting message: 32 bytes, and about 40 more for its place in entryHeap.at, so that a million
// deferred messages cost some seventy megabytes.
type entry struct {
	next    int64 // Unix microseconds
	id      [20]byte
	suspect bool
	now     bool // somebody wants it tried, whatever time its file bears
}

// index holds the ids of the messages that wait, each once, ordered by the time of their next attempt.
//
// It may name a message that is gone, or a time that no longer holds: whoever takes an entry opens the file and
// believes only that. So an index that is a little wrong costs an open, never a message. Safe for concurrent use.
type index struct {
	mu   sync.Mutex
	heap entryHeap
	wake chan struct{} // capacity 1: the earliest entry may have changed
}

func newIndex() *index {
	return &index{heap: entryHeap{at: make(map[[20]byte]int32)}, wake: make(chan struct{}, 1)}
}

// add sets the time of a message's next attempt. What was suspect stays so.
func (x *index) add(id queue.ID, next time.Time, suspect bool) {
	x.put(task{id: id, suspect: suspect}, next)
}

func (x *index) put(t task, next time.Time) {
	e := entry{next: micros(next), id: key(t.id), suspect: t.suspect, now: t.now}
	x.mu.Lock()
	x.set(e)
	first := x.heap.list[0].id == e.id
	x.mu.Unlock()
	if first {
		x.poke()
	}
}

// found tells of a file in the directory. If it bears another time than we know, it was touched by a person, or
// the time we know was not worth recording: then it is looked at once more.
func (x *index) found(id queue.ID, next time.Time) {
	e := entry{next: micros(next), id: key(id), suspect: true}
	x.mu.Lock()
	i, known := x.heap.at[e.id]
	if known && (x.heap.list[i].now || x.heap.list[i].next == e.next) {
		x.mu.Unlock()
		return
	}
	x.set(e)
	first := x.heap.list[0].id == e.id
	x.mu.Unlock()
	if first {
		x.poke()
	}
}

func (x *index) set(e entry) {
	i, known := x.heap.at[e.id]
	if !known {
		heap.Push(&x.heap, e)
		return
	}
	e.suspect = e.suspect || x.heap.list[i].suspect
	x.heap.list[i] = e
	heap.Fix(&x.heap, int(i))
}

// take takes a message out, if it is in, and says whether it is suspect.
func (x *index) take(id queue.ID) (suspect bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, known := x.heap.at[key(id)]
	return known && heap.Remove(&x.heap, int(i)).(entry).suspect
}

// hurry makes all that waits due.
func (x *index) hurry(now time.Time) {
	x.mu.Lock()
	for i := range x.heap.list {
		x.heap.list[i].next, x.heap.list[i].now = micros(now), true
	}
	x.mu.Unlock() // equal times are a heap in any order
	x.poke()
}

func (x *index) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// due takes the earliest entry whose time has come; otherwise it says how long until there may be one.
func (x *index) due(now time.Time) (t task, ok bool, wait time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.heap.list) == 0 {
		return task{}, false, time.Hour
	}
	e := x.heap.list[0]
	if wait = time.UnixMicro(e.next).Sub(now); wait > 0 {
		return task{}, false, wait
	}
	heap.Pop(&x.heap)
	return task{queue.ID(e.id[:]), e.suspect, e.now}, true, 0
}

func (x *index) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.heap.list)
}

func key(id queue.ID) (k [20]byte) {
	copy(k[:], id)
	return k
}

// micros rounds up: an entry must not come due before the time in its file.
func micros(t time.Time) int64 { return t.Add(time.Microsecond - time.Nanosecond).UnixMicro() }

// entryHeap is a heap that knows where each entry is.
type entryHeap struct {
	list []entry
	at   map[[20]byte]int32
}

func (h *entryHeap) Len() int           { return len(h.list) }
func (h *entryHeap) Less(i, j int) bool { return h.list[i].next < h.list[j].next }
func (h *entryHeap) Swap(i, j int) {
	l := h.list
	l[i], l[j] = l[j], l[i]
	h.at[l[i].id], h.at[l[j].id] = int32(i), int32(j)
}
func (h *entryHeap) Push(x any) {
	e := x.(entry)
	h.at[e.id] = int32(len(h.list))
	h.list = append(h.list, e)
}
func (h *entryHeap) Pop() any {
	last := len(h.list) - 1
	e := h.list[last]
	h.list = h.list[:last]
	delete(h.at, e.id)
	return e
}
