package queued

import (
	"container/heap"
	"sort"
	"sync"
	"time"

	"postamt/internal/queue"
)

// An entry is one waiting message: 40 bytes, so that a million deferred messages cost forty megabytes and no more.
type entry struct {
	next    int64 // Unix seconds
	id      [20]byte
	suspect bool
}

// index holds the ids of the messages that wait, ordered by the time of their next attempt.
//
// It may name a message twice, or one that is gone: whoever takes an entry opens the file and believes
// only that. So an index that is a little wrong costs an open, never a message. Safe for concurrent use.
type index struct {
	mu   sync.Mutex
	heap entryHeap
	wake chan struct{} // capacity 1: the earliest entry may have changed
}

func newIndex() *index { return &index{wake: make(chan struct{}, 1)} }

func (x *index) add(id queue.ID, next time.Time, suspect bool) {
	e := entry{next: next.Unix(), suspect: suspect}
	copy(e.id[:], id)
	x.mu.Lock()
	heap.Push(&x.heap, e)
	first := x.heap[0] == e
	x.mu.Unlock()
	if first {
		x.poke()
	}
}

func (x *index) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// due takes the earliest entry whose time has come; otherwise it says how long until there may be one.
// horizon is the longest that any message may wait: an entry further away was written by a clock that
// has since been set back, and is due (faults.md Q12).
func (x *index) due(now time.Time, horizon time.Duration) (id queue.ID, suspect, ok bool, wait time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.heap) == 0 {
		return "", false, false, horizon
	}
	e := x.heap[0]
	wait = time.Unix(e.next, 0).Sub(now)
	if wait > 0 && wait <= horizon {
		return "", false, false, wait
	}
	heap.Pop(&x.heap)
	return queue.ID(e.id[:]), e.suspect, true, 0
}

func (x *index) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.heap)
}

// known is a sorted copy of what the index holds, for one reading of the directory.
func (x *index) known() knownEntries {
	x.mu.Lock()
	k := append(knownEntries(nil), x.heap...)
	x.mu.Unlock()
	sort.Slice(k, func(i, j int) bool { return string(k[i].id[:]) < string(k[j].id[:]) })
	return k
}

type knownEntries []entry

// has says whether id waits with that time already. An id whose file bears another time was touched by a person.
func (k knownEntries) has(id queue.ID, next time.Time) bool {
	i := sort.Search(len(k), func(i int) bool { return string(k[i].id[:]) >= string(id) })
	for ; i < len(k) && string(k[i].id[:]) == string(id); i++ {
		if k[i].next == next.Unix() {
			return true
		}
	}
	return false
}

type entryHeap []entry

func (h entryHeap) Len() int           { return len(h) }
func (h entryHeap) Less(i, j int) bool { return h[i].next < h[j].next }
func (h entryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *entryHeap) Push(x any)        { *h = append(*h, x.(entry)) }
func (h *entryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
