package maildir

import (
	"slices"
	"sync"
)

// attempts has two attempts to deliver one message to one maildir wait for each other. The second comes from a queued that was started anew while
// the first, of one that has died, is still under way: it would look for the message before the first has stored it, and store it again
// when the owner's mail program has moved the first copy out of the way of its name.
type attempts struct {
	mu       sync.Mutex
	underway map[string]chan struct{} // closed at the end
}

// begin waits for what is under way of the same message to the same maildirs. done ends what it begins.
func (a *attempts) begin(copies []*copyState, id string) (done func()) {
	keys := make([]string, 0, len(copies))
	for _, c := range copies {
		keys = append(keys, c.box.inbox.key+"\x00"+id)
	}
	// In one order, so that two which share several do not wait for each other; and each once, be it for several folders.
	slices.Sort(keys)
	keys = slices.Compact(keys)
	end := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range keys {
		for {
			other := a.underway[k]
			if other == nil {
				break
			}
			a.mu.Unlock()
			<-other
			a.mu.Lock()
		}
		if a.underway == nil {
			a.underway = make(map[string]chan struct{})
		}
		a.underway[k] = end
	}
	return func() {
		a.mu.Lock()
		for _, k := range keys {
			delete(a.underway, k)
		}
		a.mu.Unlock()
		close(end)
	}
}
