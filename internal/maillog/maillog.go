// Package maillog writes the log lines that maillog(5) documents: one function for each event, one line for each call.
//
//	smtpd: 0h2mc9x4rvk3t7w1qz8e: accepted from=<alice@example.org> size=4711 rcpts=2 client=192.0.2.7
//
// A line is the program, the id of the message (or of the session; "-" when there is none), the event, and values as
// key=value. Values are escaped so that no byte of a message, an address or another server's reply can start a line,
// end one, or look like a value of ours (promise P8):
//
//   - a value with a space in it, or an empty one, stands in double quotes, and inside the quotes there is no "=";
//   - '"', '\', control characters, bytes that are not UTF-8 and characters that do not print are written \xNN;
//   - addresses stand in < >; a value of more than 600 bytes is cut and ends in "...".
//
// Logging never holds mail up: an event is appended to a buffer in memory, and one goroutine at a time writes the
// buffer, a few milliseconds later, several lines in one system call. While the reader of the log does not take any
// (a full pipe, a dead syslog), up to 1 MiB waits; then lines are dropped, and a line "dropped" says how many when it
// goes on. Close writes what is left. A program that is killed loses the lines of its last few milliseconds.
package maillog

import (
	"io"
	"sync"
	"time"
)

const (
	delay = 4 * time.Millisecond // how long a line may wait for others
	// maxWait is how many bytes may wait for the reader: the lines of a message to a few thousand recipients, which come
	// all at once.
	maxWait  = 1 << 20
	maxSpare = 64 << 10 // of a buffer that is kept for the next lines
	maxWrite = 4096     // PIPE_BUF of Linux: so much goes into a pipe without being mixed with another program's lines
	maxValue = 600      // bytes of one value, as written
	maxLine  = 4000     // bytes of one line; below maxWrite
)

// Logger writes lines. It is safe for concurrent use. A nil *Logger writes nothing.
type Logger struct {
	w       io.Writer
	program string
	syslog  bool // one datagram a line, with a priority in front
	prefix  string

	mu       sync.Mutex
	buf      []byte // whole lines that wait
	spare    []byte // the other buffer, empty
	dropped  int    // lines since the last that could be written
	pending  bool   // the timer runs
	writing  bool   // a goroutine is in write
	flushing int    // callers of Flush: write everything
	closed   bool
	timer    *time.Timer
	finished sync.Cond // writing became false
}

// New returns a logger of the program that writes to w. A Write gets one or more whole lines.
func New(w io.Writer, program string) *Logger {
	l := &Logger{w: w, program: program, prefix: program + ": "}
	l.finished.L = &l.mu
	return l
}

// line is an event that is being appended to the buffer; the logger is locked from begin to end.
type line struct {
	l     *Logger
	start int
}

// begin locks the logger and starts a line.
func (l *Logger) begin(id, event string) line {
	l.mu.Lock()
	n := line{l, len(l.buf)}
	l.buf = append(l.buf, l.prefix...)
	if id == "" {
		l.buf = append(l.buf, '-')
	} else {
		l.buf = appendBare(l.buf, id)
	}
	l.buf = append(l.buf, ": "...)
	l.buf = append(l.buf, event...)
	return n
}

// end finishes the line and unlocks the logger.
func (n line) end() {
	l := n.l
	if len(l.buf)-n.start > maxLine {
		l.buf = append(l.buf[:n.start+maxLine-len(cut)], cut...)
	}
	l.buf = append(l.buf, '\n')
	switch {
	case l.closed, len(l.buf) > maxWait:
		l.buf = l.buf[:n.start]
		l.dropped++
	case l.writing:
		// The writer sees to it before it goes.
	case len(l.buf) >= maxWrite:
		l.writing = true
		go l.write()
	default:
		l.arm()
	}
	l.mu.Unlock()
}

// arm sees to it that what waits is written in a moment.
func (l *Logger) arm() {
	switch {
	case l.pending:
	case l.timer == nil:
		l.timer = time.AfterFunc(delay, l.tick)
	default:
		l.timer.Reset(delay)
	}
	l.pending = true
}

// tick is the timer's goroutine.
func (l *Logger) tick() {
	l.mu.Lock()
	l.pending = false
	if l.writing || len(l.buf) == 0 {
		l.mu.Unlock()
		return
	}
	l.writing = true
	l.mu.Unlock()
	l.write()
}

// write empties the buffer; the caller has set writing. Only here is w called, by one goroutine at a time.
func (l *Logger) write() {
	l.mu.Lock()
	for first := true; first || len(l.buf) >= maxWrite || l.flushing > 0 && len(l.buf) > 0; first = false {
		said := l.dropped
		if said > 0 {
			// Last: the lines that wait are older than those that were dropped.
			l.buf = append(l.buf, l.prefix...)
			l.buf = append(l.buf, "-: dropped lines="...)
			l.buf = appendInt(l.buf, int64(l.dropped))
			l.buf = append(l.buf, '\n')
			l.dropped = 0
		}
		b := l.buf
		l.buf, l.spare = l.spare[:0], nil
		l.mu.Unlock()
		lost, last := l.put(b)
		if said > 0 && last {
			lost += said - 1 // what the line would have said, but not the line
		}
		l.mu.Lock()
		if cap(b) <= maxSpare {
			l.spare = b
		}
		l.dropped += lost
		// A failing log is not tried again before there is something new to say: no spin.
		if lost > 0 && len(l.buf) == 0 {
			break
		}
	}
	l.writing = false
	if len(l.buf) > 0 {
		// Lines that came while the last were written wait for company as others do.
		l.arm()
	}
	l.finished.Broadcast()
	l.mu.Unlock()
}

// put writes lines, as many in one call as arrive unmixed. It returns how many could not be written, and whether the
// last was one of them.
func (l *Logger) put(b []byte) (lost int, last bool) {
	for len(b) > 0 {
		n := 0
		for n < len(b) {
			e := n + lineEnd(b[n:])
			if n > 0 && (l.syslog || e > maxWrite) {
				break
			}
			n = e
		}
		_, err := l.w.Write(b[:n])
		last = err != nil
		if err != nil {
			for _, c := range b[:n] {
				if c == '\n' {
					lost++
				}
			}
		}
		b = b[n:]
	}
	return lost, last
}

func lineEnd(b []byte) int {
	for i, c := range b {
		if c == '\n' {
			return i + 1
		}
	}
	return len(b)
}

// Flush waits until every line so far was written or dropped, but at most for wait.
func (l *Logger) Flush(wait time.Duration) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushing++
	defer func() { l.flushing-- }()
	if !l.writing {
		if len(l.buf) == 0 && l.dropped == 0 {
			return
		}
		l.writing = true
		go l.write()
	}
	late := false
	t := time.AfterFunc(wait, func() {
		l.mu.Lock()
		late = true
		l.finished.Broadcast()
		l.mu.Unlock()
	})
	for l.writing && !late {
		l.finished.Wait()
	}
	t.Stop()
}

// Close writes what waits, for at most a second if the reader does not take it, and drops what comes later.
// It does not close the writer.
func (l *Logger) Close() {
	if l == nil {
		return
	}
	l.Flush(time.Second)
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
}
