package maillog

import (
	"strconv"
	"sync/atomic"
	"time"
)

// SessionIDs makes the ids of a program's sessions. Any goroutine may call it.
type SessionIDs struct{ last atomic.Int64 }

// Next is the time in microseconds, or one more than the last one, in base 36 behind the letter of the program: "s1h3...".
func (s *SessionIDs) Next(letter string) string {
	for {
		last := s.last.Load()
		id := max(last+1, time.Now().UnixMicro())
		if s.last.CompareAndSwap(last, id) {
			return letter + strconv.FormatInt(id, 36)
		}
	}
}
