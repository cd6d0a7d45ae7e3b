package queue

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pause is a destination to which nothing is to be sent: a file pause/NAME with the text in it. NAME is the destination as xtext, with "/" and a
// dot at the beginning encoded too.
type Pause struct {
	Destination string // a domain in lower case, or a next hop as queued logs it
	Text        string // why, for people
	Since       time.Time
}

func pauseName(destination string) (string, error) {
	s := strings.ReplaceAll(string(appendXtext(nil, destination)), "/", "+2F")
	if strings.HasPrefix(s, ".") {
		s = "+2E" + s[1:]
	}
	if s == "" || len(s) > 200 {
		return "", fmt.Errorf("%.40q is no destination", destination)
	}
	return "pause/" + s, nil
}

// Pause makes a destination wait, durably, or says anew why it does.
func (q *Queue) Pause(destination, text string) error {
	name, err := pauseName(destination)
	if err == nil {
		uid, gid := q.owner()
		err = q.ops.WriteFileOwned(q.path+"/"+name, []byte(text[:min(len(text), maxWish)]), 0o600, uid, gid)
	}
	if err != nil {
		return fmt.Errorf("queue: pause: %w", err)
	}
	return nil
}

// Resume ends it, durably; ErrNotExist: it was not paused.
func (q *Queue) Resume(destination string) error {
	name, err := pauseName(destination)
	if err == nil {
		err = q.ops.Unlink(q.dir, name)
	}
	if err == nil {
		err = q.syncDir("pause")
	}
	if err != nil {
		return fmt.Errorf("queue: resume %s: %w", destination, err)
	}
	return nil
}

// Pauses are what waits, by name.
func (q *Queue) Pauses() ([]Pause, error) {
	var pauses []Pause
	var wrong error
	err := q.list("pause", func(_ *unix.Stat_t, name string) bool {
		destination, ok := parseXtext(name)
		if ok && !strings.HasPrefix(name, ".") {
			p := Pause{Destination: destination}
			if err := q.readPause(&p, "pause/"+name); err == nil {
				pauses = append(pauses, p)
			} else if !errors.Is(err, ErrNotExist) {
				wrong = err
			}
		}
		return wrong == nil
	})
	if err = errors.Join(err, wrong); err != nil {
		return nil, fmt.Errorf("queue: what is paused: %w", err)
	}
	slices.SortFunc(pauses, func(a, b Pause) int { return strings.Compare(a.Destination, b.Destination) })
	return pauses, nil
}

func (q *Queue) readPause(p *Pause, name string) error {
	f, err := q.open(name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := fstat(f, &st); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxWish))
	p.Text, p.Since = strings.TrimSpace(string(b)), mtime(&st)
	return err
}

// PausesAt is when the set of them was last changed, by the clock of the file system.
func (q *Queue) PausesAt() (time.Time, error) {
	var st unix.Stat_t
	if err := q.lstat("pause", &st); err != nil {
		return time.Time{}, fmt.Errorf("queue: what is paused: %w", err)
	}
	return mtime(&st), nil
}
