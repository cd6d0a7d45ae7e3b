package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Message is an accepted message, opened and verified. Its methods may be called
// from several goroutines; Close only when the others have returned.
type Message struct {
	Envelope Envelope
	Size     int64     // of the message proper
	Next     time.Time // the next attempt, as it was when the message was opened

	q      *Queue
	f      *os.File
	data   []byte // the header, and after it the message proper if that is small
	header        // with the offsets of the states in data

	mu     sync.Mutex // for what Mark changes: states in data and Envelope
	broken bool       // a sync failed
}

// Message opens and verifies one accepted message. ErrNotExist: it is delivered,
// held or deleted. ErrBusy: not accepted yet. *DamagedError: it was moved to
// corrupt. ErrVersion: it stays where it is. Any other error may pass.
//
// Up to 64 KiB of the message are kept in memory, of a longer one the envelope.
func (q *Queue) Message(id ID) (*Message, error) {
	if !validID(string(id)) {
		return nil, fmt.Errorf("queue: message %.40q: %w", string(id), ErrNotExist)
	}
	m, st, err := q.read(id.path(), id)
	if err == nil || st.Mode&writingBit == 0 {
		return m, q.judge(id, id.path(), err)
	}
	// One that a crash left and that could be adopted but not be made 0660, since
	// another user owns it; or one whose writer lives.
	if adopted, err := q.Recover(id); err != nil {
		return nil, err
	} else if !adopted {
		return nil, fmt.Errorf("queue: message %s: %w", id, ErrNotExist)
	}
	m, _, err = q.readAny(id.path(), id)
	return m, q.judge(id, id.path(), err)
}

// judge turns the error of reading a file into one for the caller, and moves a
// damaged file out of the way.
func (q *Queue) judge(id ID, name string, err error) error {
	if err == nil {
		return nil
	}
	var d *DamagedError
	if errors.As(err, &d) {
		d.Moved = q.setAside(name, d.What)
		return err
	}
	return fmt.Errorf("queue: message %s: %w", id, err)
}

// read is readAny of a file that has been accepted. Of others it returns ErrBusy
// and their state.
func (q *Queue) read(name string, id ID) (*Message, unix.Stat_t, error) {
	f, st, err := q.openRegular(name, id)
	if err == nil && st.Mode&writingBit != 0 {
		f.Close()
		err = ErrBusy
	}
	if err != nil {
		return nil, st, err
	}
	m, err := q.verify(f, &st, id)
	return m, st, err
}

func (q *Queue) readAny(name string, id ID) (*Message, unix.Stat_t, error) {
	f, st, err := q.openRegular(name, id)
	if err != nil {
		return nil, st, err
	}
	m, err := q.verify(f, &st, id)
	return m, st, err
}

// openRegular opens a file for reading and marking, or for reading alone where
// no more is allowed.
func (q *Queue) openRegular(name string, id ID) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := q.open(name, unix.O_RDWR, 0)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
		f, err = q.open(name, unix.O_RDONLY, 0)
	}
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EMLINK):
		return nil, st, &DamagedError{ID: id, What: "not an ordinary file"}
	case err != nil:
		return nil, st, err
	}
	if err := fstat(f, &st); err != nil {
		f.Close()
		return nil, st, err
	}
	what := ""
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		what = "not an ordinary file"
	case st.Nlink > 1 && q.unread():
		f.Close()
		return nil, st, errLinked
	case st.Nlink > 1:
		// Whoever made the link could change the message under our hands.
		what = "it has another name somewhere"
	}
	if what != "" {
		f.Close()
		return nil, st, &DamagedError{ID: id, What: what}
	}
	return f, st, nil
}

// verify reads f once. It takes f over, and closes it unless it is all right.
func (q *Queue) verify(f *os.File, st *unix.Stat_t, id ID) (*Message, error) {
	s := q.getScratch()
	defer q.putScratch(s)
	m, err := q.parse(s, f, st.Size)
	if err == nil && m.Envelope.ID != id {
		err = &DamagedError{What: fmt.Sprintf("it is message %s", m.Envelope.ID)}
	}
	if err == nil {
		m.q, m.f = q, f
		m.Next = q.next(id, st)
		return m, nil
	}
	f.Close()
	var d *DamagedError
	if errors.As(err, &d) {
		d.ID = id
	}
	return nil, err
}

// parse reads and verifies a file of the given size.
func (q *Queue) parse(s *scratch, f *os.File, size int64) (*Message, error) {
	first := int(min(size, small))
	data := make([]byte, first)
	if err := readAt(f, data, 0); err != nil {
		return nil, err
	}
	stop := bytes.Index(data, []byte("\n\n"))
	for stop < 0 && int64(len(data)) < size && len(data) < maxHeader {
		// A long envelope: as much again, so that the header is read once.
		from := len(data)
		data = append(data, make([]byte, min(int64(from), size-int64(from)))...)
		if err := readAt(f, data[from:], int64(from)); err != nil {
			return nil, err
		}
		if stop = bytes.Index(data[from-1:], []byte("\n\n")); stop >= 0 {
			stop += from - 1
		}
	}
	if stop < 0 {
		if v := laterVersion(data); v != nil {
			return nil, v
		}
		return nil, &DamagedError{What: "its header has no end", unfinished: true}
	}
	p, err := parseHeader(data[:stop+2])
	switch {
	case errors.Is(err, ErrVersion):
		return nil, err
	case err != nil:
		return nil, &DamagedError{What: err.Error(), unfinished: err == errUnfinished}
	case size != int64(p.end)+p.length:
		return nil, &DamagedError{
			What:       fmt.Sprintf("it has %d bytes after the header, not %d", size-int64(p.end), p.length),
			unfinished: size < int64(p.end)+p.length,
		}
	}

	p.sumHeader(s.sum, data)
	s.sum.Write(data[p.end:])
	if at := int64(len(data)); at < size {
		block := append(s.buf[:0], make([]byte, small)...)
		s.buf = block
		for ; at < size; at += int64(len(block)) {
			block = block[:min(int64(len(block)), size-at)]
			if err := readAt(f, block, at); err != nil {
				return nil, err
			}
			s.sum.Write(block)
		}
		data = bytes.Clone(data[:p.end])
	}
	line := []byte(lenLine)
	finishSum(s.sum, line, p.length)
	if string(line[sumOffset:sumOffset+sumWidth]) != p.sum {
		return nil, &DamagedError{What: "its sum is wrong"}
	}
	return &Message{Envelope: p.env, Size: p.length, data: data, header: p.header}, nil
}

// laterVersion looks at the first line of what may not have a header as we know it.
func laterVersion(data []byte) error {
	line, _, ok := bytes.Cut(data[:min(len(data), 64)], []byte{'\n'})
	if !ok || !bytes.HasPrefix(line, []byte(magic)) {
		return nil
	}
	if v, ok := parseDigits(string(line[len(magic):])); ok && v > 1 {
		return &versionError{v}
	}
	return nil
}

// readAt fills p. A file that ends too early has been cut meanwhile.
func readAt(f *os.File, p []byte, off int64) error {
	_, err := f.ReadAt(p, off)
	if err == io.EOF {
		return &DamagedError{What: "it became shorter while it was read", unfinished: true}
	}
	return err
}

// Reader reads the message from its first byte. Independent readers may run at
// once.
func (m *Message) Reader() io.Reader {
	if m.inMemory() {
		return bytes.NewReader(m.data[m.end:])
	}
	return io.NewSectionReader(m.f, int64(m.end), m.Size)
}

// ReadAt is io.ReaderAt, with offsets from the message's first byte.
func (m *Message) ReadAt(p []byte, off int64) (int, error) {
	if m.inMemory() {
		return bytes.NewReader(m.data[m.end:]).ReadAt(p, off)
	}
	return io.NewSectionReader(m.f, int64(m.end), m.Size).ReadAt(p, off)
}

func (m *Message) inMemory() bool { return int64(len(m.data)-m.end) == m.Size }

// Mark records new states of recipients, by index: in Envelope and in the file.
// Many are one write where they are close together. With sync they survive a
// power cut when it returns nil. Marks set the file's mtime, so Defer comes after
// them. After an error the states in Envelope are those that the file should be
// taken to have; after a failed sync every later Mark with sync fails as well,
// since its success would mean nothing: open the message again later.
func (m *Message) Mark(states map[int]byte, sync bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.mark(states, sync); err != nil {
		return fmt.Errorf("queue: mark %s: %w", m.Envelope.ID, err)
	}
	return nil
}

func (m *Message) mark(states map[int]byte, sync bool) error {
	changed := make([]int, 0, len(states))
	for i, s := range states {
		if i < 0 || i >= len(m.Envelope.Rcpts) || !validState(s) {
			return fmt.Errorf("recipient %d, state %q: no such thing", i, s)
		}
		if m.data[m.states[i]] != s {
			changed = append(changed, i)
		}
	}
	slices.Sort(changed)
	for len(changed) > 0 {
		// What lies between two state bytes never changes, so that writing it again
		// is harmless whatever part of the write a crash leaves.
		first := m.states[changed[0]]
		n := 1
		for n < len(changed) && m.states[changed[n]]-first < small {
			n++
		}
		last := m.states[changed[n-1]]
		region := bytes.Clone(m.data[first : last+1])
		for _, i := range changed[:n] {
			region[m.states[i]-first] = states[i]
		}
		if err := m.q.ops.WriteAt(m.f, region, int64(first)); err != nil {
			return err
		}
		for _, i := range changed[:n] {
			m.data[m.states[i]] = states[i]
			m.Envelope.Rcpts[i].State = states[i]
		}
		changed = changed[n:]
	}
	if !sync {
		return nil
	}
	if m.broken {
		return errBroken
	}
	if err := m.q.ops.Datasync(m.f); err != nil {
		m.broken = true
		return err
	}
	return nil
}

// Defer sets the time of the next attempt. It is not synced: a crash at worst
// brings the attempt forward. A message that is gone from active is left alone.
func (m *Message) Defer(next time.Time) error {
	id := m.Envelope.ID
	err := m.q.setTime(id.path(), next)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		// Only its owner may set a file's times; log/ID is ours.
		var f *os.File
		if f, err = m.q.open("log/"+string(id), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o600); err == nil {
			f.Close()
			err = m.q.setTime("log/"+string(id), next)
		}
	}
	if err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("queue: defer %s: %w", id, err)
	}
	return nil
}

func (q *Queue) setTime(name string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err == nil {
		times := []unix.Timespec{ts, ts}
		err = unix.UtimesNanoAt(int(q.dir.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return &os.PathError{Op: "set the time of", Path: q.path + "/" + name, Err: err}
	}
	return nil
}

// next is the time of a message's next attempt, from its state and that of its
// log: see the package comment.
func (q *Queue) next(id ID, st *unix.Stat_t) time.Time {
	t := mtime(st)
	if st.Uid != q.uid {
		var log unix.Stat_t
		if q.lstat("log/"+string(id), &log) == nil && mtime(&log).After(t) {
			return mtime(&log)
		}
	}
	return t
}

func mtime(st *unix.Stat_t) time.Time { return time.Unix(st.Mtim.Unix()).UTC() }

// Remove deletes the message and its log. states are marks that have not been
// made (nil: none); they are written only if the name is gone, because somebody
// moved the message to hold meanwhile, so that the held copy knows. The deletion
// survives a power cut after SyncRemovals.
func (m *Message) Remove(states map[int]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.Envelope.ID
	err := m.q.ops.Unlink(m.q.dir, id.path())
	if errors.Is(err, ErrNotExist) {
		var st unix.Stat_t
		if err = fstat(m.f, &st); err == nil && st.Nlink > 0 {
			if err = m.mark(states, true); err == nil {
				return nil
			}
		}
	}
	if err != nil {
		return fmt.Errorf("queue: remove %s: %w", id, err)
	}
	m.q.shards[id.shard()].dirty.Store(true)
	return m.q.removeLog(id)
}

func (q *Queue) removeLog(id ID) error {
	err := q.ops.Unlink(q.dir, "log/"+string(id))
	if err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("queue: remove the log of %s: %w", id, err)
	}
	return nil
}

// SyncRemovals makes the Removes that have returned permanent, each directory
// with one sync. A removal that is lost brings the message back: its local
// recipients are then found to have it, remote ones get it twice.
//
// The directories are synced at the same time, which a file system makes into a
// few writes; one after the other they took seconds on a slow disk, in which a
// crash would have sent all that mail again.
func (q *Queue) SyncRemovals() error {
	// Whoever comes while others sync waits for them: what he removed may be in their hands.
	q.removals.Lock()
	defer q.removals.Unlock()
	var errs [len(q.shards) + 1]error
	var wg sync.WaitGroup
	if q.asideDirty.Swap(false) {
		wg.Go(func() {
			if errs[len(q.shards)] = errors.Join(q.syncDir("hold"), q.syncDir("corrupt")); errs[len(q.shards)] != nil {
				q.asideDirty.Store(true)
			}
		})
	}
	for i := range q.shards {
		if !q.shards[i].dirty.Swap(false) {
			continue
		}
		wg.Go(func() {
			if errs[i] = q.syncShard(i); errs[i] != nil {
				q.shards[i].dirty.Store(true)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("queue: sync removals: %w", err)
		}
	}
	return nil
}

// Close closes the file. What Reader returned is of no use any more.
func (m *Message) Close() error { return m.f.Close() }
