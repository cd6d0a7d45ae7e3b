package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// fullFor is how long a mailbox is taken for full after the last message that did not fit. Then one message is accepted to see.
const fullFor = time.Hour

// fullRoom is what smtpd and deliver add to the size that a client declares.
const fullRoom = 1 << 10

// NoteFull notes that a message of so many octets did not fit into a mailbox, named by the key of its address.
//
// The note is an empty file full/NAME: its size is the smallest that did not fit, its time that of the last one. It is a memory and no fact: who
// loses it accepts a message more. So it is not synced, and nobody minds what a crash leaves.
func (q *Queue) NoteFull(mailbox string, size int64, now time.Time) error {
	if old, fresh := q.Full(mailbox, now); fresh {
		size = min(size, old)
	}
	f, err := q.open(fullName(mailbox), unix.O_WRONLY|unix.O_CREAT, 0o600)
	if err == nil {
		defer f.Close()
		err = f.Truncate(size)
	}
	if err == nil {
		t := unix.NsecToTimeval(now.UnixNano())
		err = unix.Futimes(int(f.Fd()), []unix.Timeval{t, t})
	}
	if err != nil {
		return fmt.Errorf("queue: note that %s is full: %w", mailbox, err)
	}
	return nil
}

// NoteRoom notes that a message of so many octets did fit.
func (q *Queue) NoteRoom(mailbox string, size int64) {
	var st unix.Stat_t
	if name := fullName(mailbox); q.lstat(name, &st) == nil && size >= st.Size {
		unix.Unlinkat(int(q.dir.Fd()), name, 0)
	}
}

// Room says whether a message for which a client declared a size may fit into a mailbox. Of those that declare none it can be said only
// where nothing fits.
func (q *Queue) Room(mailbox string, declared int64, now time.Time) bool {
	size, fresh := q.Full(mailbox, now)
	return !fresh || declared+fullRoom < size
}

// Full is the size of the smallest message that did not fit into a mailbox of late; fresh false: all did.
func (q *Queue) Full(mailbox string, now time.Time) (size int64, fresh bool) {
	var st unix.Stat_t
	if q.lstat(fullName(mailbox), &st) != nil {
		return 0, false
	}
	age := now.Sub(time.Unix(st.Mtim.Unix()))
	return st.Size, age < fullFor && age > -fullFor
}

// dropFull removes the notes that say nothing any more.
func (q *Queue) dropFull(now time.Time) error {
	return q.list("full", func(_ *unix.Stat_t, name string) bool {
		var st unix.Stat_t
		if q.lstat("full/"+name, &st) == nil && now.Sub(time.Unix(st.Mtim.Unix())).Abs() >= fullFor {
			unix.Unlinkat(int(q.dir.Fd()), "full/"+name, 0)
		}
		return true
	})
}

// fullName is the same length for every mailbox, and no path whatever its name.
func fullName(mailbox string) string {
	sum := sha256.Sum256([]byte(mailbox))
	return "full/" + hex.EncodeToString(sum[:16])
}
