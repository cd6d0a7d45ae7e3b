package queued

import (
	"cmp"
	"container/heap"
	"slices"
	"sync"
	"time"

	"postamt/internal/queue"
)

// An entry is one waiting message: 32 bytes, and about 40 more for its place in entryHeap.at.
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
//
// It holds no more than limit. Of more, those that come latest are left out: another reading of the directory
// finds them when their time has come and most of what came before them is gone.
type index struct {
	limit int // 0: none

	mu     sync.Mutex
	heap   entryHeap
	wake   chan struct{} // capacity 1: the earliest entry may have changed
	beyond int64         // no entry that was left out since the last reading began comes before; 0: none was
	asked  bool          // a reading was asked for, and has not begun
}

func newIndex(limit int) *index {
	return &index{limit: limit, heap: entryHeap{at: make(map[[20]byte]int32)}, wake: make(chan struct{}, 1)}
}

// reading begins: it will tell of all that was left out.
func (x *index) reading() {
	x.mu.Lock()
	x.beyond, x.asked = 0, false
	x.mu.Unlock()
}

// lacks tells, once, that the directory should be read again for what was left out; elsewhere is how many that
// were taken out wait somewhere else.
func (x *index) lacks(now time.Time, elsewhere int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asked || x.beyond == 0 || x.beyond > now.UnixMicro() || len(x.heap.list)+elsewhere > x.limit/4 {
		return false
	}
	x.asked = true
	return true
}

// add sets the time of a message's next attempt. What was suspect stays so.
func (x *index) add(id queue.ID, next time.Time, suspect bool) {
	x.put(task{id: id, suspect: suspect}, next)
}

func (x *index) put(t task, next time.Time) {
	e := entry{next: micros(next), id: key(t.id), suspect: t.suspect, now: t.now}
	x.mu.Lock()
	first := x.set(e)
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
	first := x.set(e)
	x.mu.Unlock()
	if first {
		x.poke()
	}
}

// set puts an entry where it belongs, and tells that it is the first.
func (x *index) set(e entry) (first bool) {
	switch i, known := x.heap.at[e.id]; {
	case known:
		e.suspect = e.suspect || x.heap.list[i].suspect
		x.heap.list[i] = e
		heap.Fix(&x.heap, int(i))
	case x.beyond != 0 && e.next >= x.beyond:
		return false
	default:
		heap.Push(&x.heap, e)
		if x.limit > 0 && len(x.heap.list) > x.limit {
			x.shrink()
		}
	}
	return x.heap.list[0].id == e.id
}

// shrink leaves out the later half: so much at once that the sorting costs little for each.
func (x *index) shrink() {
	list := x.heap.list
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.next, b.next) }) // sorted is a heap
	keep := len(list) / 2
	x.beyond = list[keep].next
	for _, e := range list[keep:] {
		delete(x.heap.at, e.id)
	}
	x.heap.list = list[:keep]
	for i, e := range x.heap.list {
		x.heap.at[e.id] = int32(i)
	}
}

// take takes a message out, if it is in, and says whether it is suspect. What may have been left out is: an
// attempt that looks for what it may find costs little, a second copy cannot be taken back.
func (x *index) take(id queue.ID) (suspect bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, known := x.heap.at[key(id)]
	if !known {
		return x.beyond != 0
	}
	return heap.Remove(&x.heap, int(i)).(entry).suspect
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
	wait = time.Hour
	if x.beyond != 0 {
		wait = max(time.UnixMicro(x.beyond).Sub(now), time.Second) // lacks may know of more
	}
	if len(x.heap.list) == 0 {
		return task{}, false, wait
	}
	e := x.heap.list[0]
	if first := time.UnixMicro(e.next).Sub(now); first > 0 {
		return task{}, false, min(wait, first)
	}
	heap.Pop(&x.heap)
	return task{id: queue.ID(e.id[:]), suspect: e.suspect, now: e.now}, true, 0
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
