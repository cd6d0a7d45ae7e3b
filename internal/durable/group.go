package durable

import (
	"os"
	"sync"
)

// Group shares one directory sync among all that wait for it at a time. The
// first to come syncs; those who come meanwhile wait for the sync after, which
// one of them does for all. A sync that is already running is of no use to a
// newcomer: it may have passed over the newcomer's entry.
//
// The zero Group is ready. There is one for each directory; it must not be
// copied.
type Group struct {
	Ops *Ops // nil for the real thing

	mu      sync.Mutex
	idle    sync.Cond
	running bool
	next    *round
}

// A round is one sync that is still to begin or under way, and its result.
type round struct {
	done chan struct{}
	err  error
}

// Sync returns when a SyncDir of dir that began after the call has ended, with
// its error. All callers of a Group must give the same directory.
func (g *Group) Sync(dir *os.File) error {
	return g.do(func() error { return g.Ops.SyncDir(dir) })
}

// Syncfs is Sync for the whole file system that f is on. A Group is used for one
// of the two.
func (g *Group) Syncfs(f *os.File) error {
	return g.do(func() error { return g.Ops.Syncfs(f) })
}

func (g *Group) do(sync func() error) error {
	g.mu.Lock()
	if r := g.next; r != nil {
		g.mu.Unlock()
		<-r.done
		return r.err
	}
	r := &round{done: make(chan struct{})}
	g.next = r
	g.idle.L = &g.mu
	for g.running {
		g.idle.Wait() // only the leader of the next round waits here
	}
	g.next, g.running = nil, true
	g.mu.Unlock()

	r.err = sync()
	close(r.done)

	g.mu.Lock()
	g.running = false
	g.idle.Signal()
	g.mu.Unlock()
	return r.err
}
