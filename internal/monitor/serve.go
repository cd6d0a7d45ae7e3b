package monitor

import (
	"context"
	"time"
)

// Serve runs the sessions of a worker, each in a goroutine, until there has been none for idle and the monitor lets it go, or it is
// told to stop; then it waits for those under way, at most for grace, and returns how many are left. The context of a session ends
// when it is to finish.
func (l *Link) Serve(idle, grace time.Duration, session func(context.Context, Session)) (left int) {
	served, active := uint32(0), 0
	over := make(chan struct{})
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for l.stop.Err() == nil {
		select {
		case s := <-l.sessions:
			served++
			active++
			timer.Stop()
			go func() {
				defer func() { over <- struct{}{} }()
				defer s.Conn.Close()
				session(l.stop, s)
			}()
		case <-over:
			if active--; active == 0 {
				timer.Reset(idle)
			}
		case <-l.hurry:
			idle = 0
			if active == 0 {
				timer.Reset(0)
			}
		case <-timer.C:
			if active == 0 {
				// "go" ends the context. If a connection is under way to us instead, it comes next, and the timer runs again after it.
				l.leave(served)
			}
		case <-l.stop.Done():
		}
	}
	end := time.NewTimer(grace)
	defer end.Stop()
	for active > 0 {
		select {
		case <-over:
			active--
		case <-end.C:
			return active
		}
	}
	return 0
}

func (l *Link) leave(served uint32) {
	if b, err := (&request{kind: kindLeave, serial: served}).encode(); err == nil {
		l.sock.send(b, nil)
	}
}
