package lineio

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// Idle says whether a session waits for a command, and may be ended by its server. The zero value is of one that works.
type Idle struct{ waiting, over atomic.Bool }

// Set says that the session waits from now on, or works.
func (i *Idle) Set(waiting bool) { i.waiting.Store(waiting) }

// EndWith has the waits of the session on nc end with a timeout when ctx ends, until the function that it returns is called. It goes on until then: a session that sets
// its own deadline at the same moment would undo ours.
func (i *Idle) EndWith(ctx context.Context, nc net.Conn) (stop func()) {
	end := context.AfterFunc(ctx, func() {
		for !i.over.Load() {
			if i.waiting.Load() {
				nc.SetReadDeadline(time.Unix(1, 0))
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	return func() {
		end()
		i.over.Store(true)
	}
}
