// Package watch tells that a directory has changed, whichever process did it: an entry made, renamed or removed, or the directory itself moved.
// It says that, not what: who is told looks at the directory again.
//
//	Linux         inotify: one descriptor for a Watcher, one inotify watch for a directory
//	BSD, macOS    kqueue: one descriptor for each directory, and a thread that waits
//	elsewhere     New fails with errors.ErrUnsupported
//
// Both are scarce: on Linux a user has fs.inotify.max_user_instances (128) and max_user_watches, on others there are descriptors. So an error of New or
// Add is an ordinary result, after which the caller looks from time to time. It looks from time to time anyway, if rarely, because these are not seen:
//
//   - what another host does on a network file system;
//   - on Linux, that the directory is removed while somebody has it open: the kernel ends the watch with the last descriptor. What was removed from it
//     before is seen;
//   - that a directory above it is moved or removed. Who wants to know watches that one too.
//
// Calls are few. The first change of a directory calls at once; what changes within Interval after a call is told by one more call at its end. So
// there are at most 1/Interval calls a second for one directory, and always one that begins after the last change. The end of a watch calls at once.
//
// All calls are made by one goroutine, so none runs at the same time as another, and one that blocks stops them all: changed is to
// mark, and to send on a channel where it need not wait; the directory is read by somebody else.
package watch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Interval is the time between two calls for one directory.
const Interval = 5 * time.Millisecond

// Watcher watches directories. It is safe for concurrent use.
type Watcher struct {
	source  *source
	done    chan struct{} // closed when there are no more calls
	cooling []*directory  // called less than Interval ago, the oldest first; only for run

	mu   sync.Mutex
	dirs map[int]*directory // that have not ended, by the number that the system gives them
	err  error              // why there are no more of them
}

// directory is what the system watches once, for all who do.
type directory struct {
	id      int
	watches []*Watch // guarded by Watcher.mu

	// Only for run.
	changed bool // since the last call
	cooling bool
	until   time.Time // when it is no longer cooling
}

// Watch is one directory that somebody watches.
type Watch struct {
	watcher *Watcher
	dir     *directory
	changed func()
	ended   atomic.Bool

	mu     sync.Mutex // held for a call
	closed bool
}

// event is what a source has seen.
type event struct {
	id    int  // of a directory, or everything
	ended bool // there will be no more
}

const everything = -1

// New makes a Watcher, of which a process needs one.
func New() (*Watcher, error) {
	s, err := open()
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w := &Watcher{source: s, done: make(chan struct{}), dirs: map[int]*directory{}}
	go w.run()
	return w, nil
}

// Add watches an open directory, until Watch.Close; the directory may be closed and watched again. Every change that begins after Add has
// returned is told. One that came before is the caller's to find: who reads the directory first and adds it then can miss one between the two
// for ever, so add first. A call may come before Add returns.
func (w *Watcher) Add(dir *os.File, changed func()) (*Watch, error) {
	w.mu.Lock() // also for the system calls: what it gives is not to be removed by another's Close before it is in dirs
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, fmt.Errorf("watch: %s: %w", dir.Name(), w.err)
	}
	id, err := w.source.add(dir)
	if err != nil {
		return nil, fmt.Errorf("watch: %s: %w", dir.Name(), err)
	}
	d := w.dirs[id]
	if d == nil {
		d = &directory{id: id}
		w.dirs[id] = d
	}
	c := &Watch{watcher: w, dir: d, changed: changed}
	d.watches = append(d.watches, c)
	return c, nil
}

// Ended says that no change will be told any more: the directory was removed or unmounted, or the Watcher is closed or has failed. changed is called
// after it has become true. The caller opens what is there now and adds that, or looks from time to time.
func (c *Watch) Ended() bool { return c.ended.Load() }

// Close ends a watch. After it has returned there is no call, so it waits for one that is running. This is why it must not be called by changed, or
// with a lock held that changed waits for: it would wait for itself. The alternative, not to wait, would be a call that comes now and then after what it
// marks is gone: a deadlock that shows in the first test is better, and a changed that takes no lock has none.
func (c *Watch) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	w, d := c.watcher, c.dir
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.Index(d.watches, c)
	if at < 0 {
		return // closed before
	}
	d.watches = slices.Delete(d.watches, at, at+1)
	if len(d.watches) == 0 && w.dirs[d.id] == d {
		delete(w.dirs, d.id)
		w.source.remove(d.id)
	}
}

// Close ends all watches and tells them so. As with Watch.Close there is no call after it, and it must not be called by one. Watches may be closed
// before or after.
func (w *Watcher) Close() {
	w.mu.Lock()
	first := !errors.Is(w.err, os.ErrClosed)
	w.err = os.ErrClosed
	w.mu.Unlock()
	if first {
		w.source.stop()
	}
	<-w.done
}

// run makes the calls.
func (w *Watcher) run() {
	defer close(w.done)
	var calls []*Watch
	for {
		var until time.Time
		if len(w.cooling) > 0 {
			until = w.cooling[0].until
		}
		events, err := w.source.wait(until)
		if err != nil {
			for _, c := range w.end(err) {
				c.call()
			}
			return
		}
		calls = w.due(events, time.Now(), calls[:0])
		for _, c := range calls {
			c.call()
		}
		clear(calls) // of watches that may be closed by now
	}
}

func (c *Watch) call() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.changed()
	}
}

// due notes events and appends to calls those watches that are to be called now.
func (w *Watcher) due(events []event, now time.Time, calls []*Watch) []*Watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	call := func(d *directory) {
		calls = append(calls, d.watches...)
		d.changed, d.cooling, d.until = false, true, now.Add(Interval)
		w.cooling = append(w.cooling, d)
	}
	for len(w.cooling) > 0 && !now.Before(w.cooling[0].until) {
		d := w.cooling[0]
		w.cooling[0], w.cooling = nil, w.cooling[1:]
		if d.cooling = false; d.changed {
			call(d)
		}
	}
	for _, e := range events {
		switch d := w.dirs[e.id]; {
		case e.id == everything:
			for _, d := range w.dirs {
				if d.changed = true; !d.cooling {
					call(d)
				}
			}
		case d == nil: // closed before it was read
		case e.ended:
			w.ended(d)
			d.changed = false
			calls = append(calls, d.watches...)
		default:
			if d.changed = true; !d.cooling {
				call(d)
			}
		}
	}
	return calls
}

// ended is called with mu held.
func (w *Watcher) ended(d *directory) {
	delete(w.dirs, d.id)
	w.source.remove(d.id)
	for _, c := range d.watches {
		c.ended.Store(true)
	}
}

// end is the end of everything: it returns whom to tell.
func (w *Watcher) end(err error) (calls []*Watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	for _, d := range w.dirs {
		w.ended(d)
		calls = append(calls, d.watches...)
	}
	w.source.close()
	return calls
}
