package authd

import (
	"context"
	"sync"
)

// gate lets so many computations run at once, and so much memory be used for them: argon2 and yescrypt take theirs by the
// megabyte, and a thousand clients may ask at the same moment. The others wait in line, first come first served.
type gate struct {
	mu      sync.Mutex
	places  int
	memory  int64
	running int
	used    int64
	line    []*waiting
	entered func(octets int64) // for tests: somebody wants a place
}

type waiting struct {
	octets int64
	begin  chan struct{} // closed when it may begin
}

func newGate(places int, memory int64) *gate {
	return &gate{places: max(places, 1), memory: memory}
}

// enter waits for a place. The error is ctx's.
func (g *gate) enter(ctx context.Context, octets int64) (leave func(), err error) {
	if g.entered != nil {
		g.entered(octets)
	}
	w := &waiting{octets, make(chan struct{})}
	g.mu.Lock()
	g.line = append(g.line, w)
	g.admit()
	g.mu.Unlock()
	leave = func() {
		g.mu.Lock()
		g.running--
		g.used -= octets
		g.admit()
		g.mu.Unlock()
	}
	select {
	case <-w.begin:
		return leave, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	for i, x := range g.line {
		if x == w {
			g.line = append(g.line[:i], g.line[i+1:]...)
			g.admit() // who stood behind may need less
			g.mu.Unlock()
			return nil, ctx.Err()
		}
	}
	g.mu.Unlock()
	leave() // it was let in at the same moment
	return nil, ctx.Err()
}

// admit lets in who is first in line, as long as there is room. What needs more than there is runs alone. The caller
// holds the mutex.
func (g *gate) admit() {
	for len(g.line) > 0 && g.running < g.places {
		w := g.line[0]
		if g.running > 0 && g.memory > 0 && g.used+w.octets > g.memory {
			return
		}
		g.line = g.line[1:]
		g.running++
		g.used += w.octets
		close(w.begin)
	}
}
