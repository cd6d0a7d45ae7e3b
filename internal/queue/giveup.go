package queue

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A wish that a message be given up is a file, bounce/ID, with the reason in it, or nothing. Only queued makes reports, so only queued fulfils
// it; it does not forget it before the message is gone:
//
//	bounce/ID   message    means                            after a crash
//	-           -          nothing was asked                nothing
//	there       active     to be given up at once           it still is
//	there       hold       to be taken out, and given up    likewise
//	there       nowhere    fulfilled, or it was delivered   the next reading removes the wish
//
// An id is never used twice, so a wish that a crash brings back concerns nobody.

// maxWish is how long a reason may be.
const maxWish = 1000

// GiveUp asks for it: text, or "" for the last reason. ErrNotExist: there is no such message in active or hold. It survives a power cut after
// SyncGiveUps. Then wake queued.
func (q *Queue) GiveUp(id ID, text string) error {
	err := q.giveUp(id, text)
	if err != nil {
		return fmt.Errorf("queue: give up %.40s: %w", id, err)
	}
	return nil
}

func (q *Queue) giveUp(id ID, text string) error {
	name, st, err := q.find(id)
	switch {
	case err != nil:
		return err
	case dirOf(name) == "corrupt":
		return fmt.Errorf("it is in corrupt: %w", ErrNotExist)
	case st.Mode&writingBit != 0:
		return ErrBusy
	}
	// Under another name first: queued must not read half a reason.
	temp := "bounce/." + string(id)
	f, err := q.open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = fstat(f, &st); err == nil {
		err = q.own(f, &st)
	}
	if err == nil && text != "" {
		if err = q.ops.Write(f, []byte(text[:min(len(text), maxWish)])); err == nil {
			err = q.ops.Sync(f)
		}
	}
	if err == nil {
		err = q.ops.Rename(q.dir, temp, q.dir, "bounce/"+string(id))
	}
	return err
}

// SyncGiveUps makes what was asked for permanent.
func (q *Queue) SyncGiveUps() error {
	if err := q.syncDir("bounce"); err != nil {
		return fmt.Errorf("queue: sync bounce: %w", err)
	}
	return nil
}

// GivenUp tells whether a message is to be given up, and why. An error says that nobody knows.
func (q *Queue) GivenUp(id ID) (text string, asked bool, err error) {
	name := "bounce/" + string(id)
	var st unix.Stat_t
	if err := q.lstat(name, &st); errors.Is(err, ErrNotExist) {
		return "", false, nil // of nearly all messages
	}
	f, err := q.open(name, unix.O_RDONLY, 0)
	if errors.Is(err, ErrNotExist) {
		return "", false, nil
	}
	var b []byte
	if err == nil {
		defer f.Close()
		b, err = io.ReadAll(io.LimitReader(f, maxWish))
	}
	if err != nil {
		return "", false, fmt.Errorf("queue: given up %s: %w", id, err)
	}
	return strings.TrimSpace(string(b)), true, nil
}

// GiveUps calls f for each message that somebody asked to be given up, until it returns false. Wishes without a message are removed.
func (q *Queue) GiveUps(f func(ID) bool) error {
	err := q.list("bounce", func(_ *unix.Stat_t, name string) bool {
		var st unix.Stat_t
		switch {
		case validID(name) && !q.nowhere(ID(name)):
			return f(ID(name))
		case validID(name):
			q.Forget(ID(name)) // if it cannot be removed, it does no harm
		case q.lstat("bounce/"+name, &st) == nil && time.Since(mtime(&st)) > time.Hour:
			q.ops.Unlink(q.dir, "bounce/"+name) // left by one who died while he wrote it
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("queue: read bounce: %w", err)
	}
	return nil
}

// Forget removes the wish. It is not synced: see above.
func (q *Queue) Forget(id ID) error {
	err := q.ops.Unlink(q.dir, "bounce/"+string(id))
	if err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("queue: forget to give up %s: %w", id, err)
	}
	return nil
}
