package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"postamt/internal/dotlock"
	"postamt/internal/durable"
)

// Who was answered when is a text file of lines
//
//	interval 3d
//	2026-11-29T10:00:00Z alice@a.example
//	never bob@b.example
//	never @c.example
//
// It is replaced as a whole, under FILE.lock: a crash leaves the old one or the new one. What is older than the interval goes at the next change, and
// so do the oldest of more than maxAnswered.
type database struct {
	interval string // "": the default
	answered []answer
	never    []string
}

type answer struct {
	at  time.Time
	who string
}

const (
	maxAnswered     = 10_000
	maxFile         = 8 << 20
	maxAddress      = 320
	defaultInterval = "7d"
	minInterval     = time.Hour // two responders that know nothing of each other's marks send no more than that
	forever         = time.Duration(1<<63 - 1)
	lockTime        = 30 * time.Second
)

// parseInterval reads a number of days, or with a letter behind it of another unit.
func parseInterval(s string) (time.Duration, error) {
	if s == "infinite" {
		return forever, nil
	}
	number, unit := s, 24*time.Hour
	if n := len(s) - 1; n > 0 {
		if i := strings.IndexByte("smhdw", s[n]); i >= 0 {
			number, unit = s[:n], []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}[i]
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("interval %q is neither a number of days, hours (h) or weeks (w) nor infinite", s)
	}
	if n >= uint64(forever/unit) {
		return forever, nil
	}
	return max(time.Duration(n)*unit, minInterval), nil
}

var errDatabase = errors.New("this is no list of who was answered; vacation -i makes one anew")

func read(path string) (*database, error) {
	d := &database{}
	b, err := readFile(path, maxFile+1)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is longer than %d octets", path, maxFile)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		word, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "interval":
			if _, err := parseInterval(rest); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
			d.interval = rest
		case "never":
			d.never = append(d.never, rest)
		default:
			at, err := time.Parse(time.RFC3339, word)
			if err != nil || !ok {
				return nil, fmt.Errorf("%s:%d: %w", path, n, errDatabase)
			}
			d.answered = append(d.answered, answer{at, rest})
		}
	}
	return d, nil
}

func (d *database) text() []byte {
	var b []byte
	if d.interval != "" {
		b = fmt.Appendf(b, "interval %s\n", d.interval)
	}
	for _, who := range d.never {
		b = fmt.Appendf(b, "never %s\n", who)
	}
	for _, a := range d.answered {
		b = fmt.Appendf(b, "%s %s\n", a.at.Format(time.RFC3339), a.who)
	}
	return b
}

// change changes the file by f, which says whether there is something to write. No other process does so meanwhile.
func change(path string, load func(string) (*database, error), f func(*database) bool) (err error) {
	dir, err := durable.OpenDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	lock, err := dotlock.Acquire(context.Background(), dir, filepath.Base(path), dotlock.Options{Stale: time.Minute, Timeout: lockTime})
	if err != nil {
		return err
	}
	defer lock.Unlock()
	d, err := load(path)
	if err != nil || !f(d) {
		return err
	}
	text := d.text()
	if len(text) > maxFile {
		return fmt.Errorf("%s would be longer than %d octets", path, maxFile)
	}
	if err := lock.Held(); err != nil {
		return err
	}
	return durable.WriteFile(path, text, 0o600)
}

// claim says whether who is to be answered now, and notes that he is, but for a dry run. interval "": the one of the file.
func claim(path, who string, now time.Time, interval string, dry bool) (due bool, err error) {
	note := func(d *database) bool {
		if interval == "" {
			interval = d.interval
		}
		if interval == "" {
			interval = defaultInterval
		}
		length, _ := parseInterval(interval) // was read before
		// A time to come is one of a clock that was wrong.
		d.answered = slices.DeleteFunc(d.answered, func(a answer) bool { return now.Sub(a.at) >= length || a.at.Sub(now) > length })
		_, domain, _ := strings.Cut(who[max(strings.LastIndexByte(who, '@'), 0):], "@")
		due = !slices.ContainsFunc(d.never, func(s string) bool { return strings.EqualFold(s, who) || strings.EqualFold(s, "@"+domain) }) &&
			!slices.ContainsFunc(d.answered, func(a answer) bool { return a.who == who })
		if !due {
			return false
		}
		d.answered = append(d.answered, answer{now, who})
		d.answered = d.answered[max(0, len(d.answered)-maxAnswered):]
		return true
	}
	if dry {
		d, err := read(path)
		if err == nil {
			note(d)
		}
		return due, err
	}
	err = change(path, read, note)
	return due, err
}

// release takes a claim back: the answer did not go out.
func release(path, who string, at time.Time) error {
	return change(path, read, func(d *database) bool {
		n := len(d.answered)
		d.answered = slices.DeleteFunc(d.answered, func(a answer) bool { return a.who == who && a.at.Equal(at) })
		return len(d.answered) < n
	})
}

// create makes the file empty, whatever is there.
func create(path, interval string) error {
	fresh := func(string) (*database, error) { return &database{interval: interval}, nil }
	return change(path, fresh, func(*database) bool { return true })
}

func list(w io.Writer, path string) error {
	d, err := read(path)
	if err == nil {
		_, err = w.Write(d.text())
	}
	return err
}

// exclude adds the addresses, and domains with an "@", that stand on lines.
func exclude(r io.Reader, path string) error {
	var more []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		who := strings.TrimSpace(lines.Text())
		if who == "" {
			continue
		}
		if len(who) > maxAddress || !strings.Contains(who, "@") || strings.ContainsFunc(who, func(r rune) bool { return r < ' ' }) {
			return fmt.Errorf("%.80q is neither an address nor @ and a domain", who)
		}
		more = append(more, who)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return change(path, read, func(d *database) bool {
		for _, who := range more {
			if !slices.Contains(d.never, who) {
				d.never = append(d.never, who)
			}
		}
		return true
	})
}
