package queue

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Note is one line of a message's log.
type Note struct {
	Time   time.Time
	Rcpt   string // "" for the message as a whole
	Event  string // deferred, failed, warned ...; not empty
	Status string // RFC 3463 enhanced status code
	Host   string
	Text   string // cut to 1,000 bytes
}

// Events that queued writes behind the reasons of an attempt.
const (
	EventAttempt = "attempt" // sums up all attempts until now: their number, the time observed until then, and "warned"
	EventWarned  = "warned"  // the sender was told of the delay
	EventPaused  = "paused"  // a destination, the host, is to wait; since the last attempt, if no line of one follows
)

const (
	logTail = 256 << 10 // what ReadLog reads
	logText = 1000
)

// AppendLog adds lines to log/ID, with one write. It is not synced: it is for
// people and for the age of a message, which a crash may set back.
func (q *Queue) AppendLog(id ID, notes ...Note) error {
	if len(notes) == 0 {
		return nil
	}
	if err := q.appendLog(id, notes); err != nil {
		return fmt.Errorf("queue: log %s: %w", id, err)
	}
	return nil
}

func (q *Queue) appendLog(id ID, notes []Note) error {
	if !validID(string(id)) {
		return ErrNotExist
	}
	var b []byte
	for i := range notes {
		n := &notes[i]
		micros := n.Time.UnixMicro()
		if micros < 0 || micros >= maxMicros || n.Event == "" {
			return fmt.Errorf("note %d has no time or no event", i)
		}
		b = appendTime(b, micros)
		for _, f := range [...]struct{ key, value string }{
			{"", n.Event}, {"rcpt=", n.Rcpt}, {"status=", n.Status}, {"host=", n.Host}, {"text=", n.Text},
		} {
			if f.value != "" {
				b = append(append(b, ' '), f.key...)
				b = appendXtext(b, f.value[:min(len(f.value), logText)])
			}
		}
		b = append(b, '\n')
	}
	name := "log/" + string(id)
	f, err := q.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := fstat(f, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 {
		return errors.New("not an ordinary file")
	}
	if err := q.own(f, &st); err != nil {
		return err
	}
	if err := q.ops.Write(f, b); err != nil {
		return err
	}
	if next := mtime(&st); next.After(time.Now()) {
		// It keeps the time of the next attempt: see the package comment.
		return q.setTime(name, next)
	}
	return nil
}

// ReadLog returns the notes in the last 256 KiB of a message's log, oldest first.
// Lines that are not notes are passed over. No log is no notes.
func (q *Queue) ReadLog(id ID) ([]Note, error) {
	notes, err := q.readLog(id)
	if err != nil && !errors.Is(err, ErrNotExist) {
		return nil, fmt.Errorf("queue: read the log of %s: %w", id, err)
	}
	return notes, nil
}

func (q *Queue) readLog(id ID) ([]Note, error) {
	if !validID(string(id)) {
		return nil, ErrNotExist
	}
	fd, err := q.openFD("log/"+string(id), unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("not an ordinary file")
	}
	from := max(st.Size-logTail, 0)
	b := make([]byte, st.Size-from)
	n, err := readFD(fd, b, from)
	if err != nil {
		return nil, err
	}
	b = b[:n]
	if from > 0 {
		_, b, _ = bytes.Cut(b, []byte{'\n'}) // the first line may be the end of one
	}
	return parseLog(string(b)), nil
}

// readFD reads at off until p is full or the file ends.
func readFD(fd int, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(fd, p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}

func parseLog(s string) []Note {
	var notes []Note
	for {
		line, rest, ok := strings.Cut(s, "\n")
		if !ok {
			return notes // a line without an end is still being written, or never was
		}
		s = rest
		f := fields{rest: line}
		t, ok := parseTime(f.word())
		event, ok := f.text(ok)
		if !ok {
			continue
		}
		n := Note{Time: t, Event: event}
		for key, value, more := f.next(); more; key, value, more = f.next() {
			switch key {
			case "rcpt":
				n.Rcpt = value
			case "status":
				n.Status = value
			case "host":
				n.Host = value
			case "text":
				n.Text = value
			}
		}
		if !f.bad {
			notes = append(notes, n)
		}
	}
}
