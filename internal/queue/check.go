package queue

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Problem is something in the queue directory that should not be there, or not
// be so.
type Problem struct {
	Path string // below the queue directory
	What string
}

func (p Problem) String() string { return p.Path + ": " + p.What }

// Check looks at everything in the queue: every message parses and has the right
// sum, nothing is foreign, nothing is left over. It changes nothing and may run
// beside programs that work: what they are about to do is no problem. The error
// says that something could not be looked at.
func (q *Queue) Check() ([]Problem, error) {
	var c checker
	c.q = q
	c.list("active", func(dir *unix.Stat_t, name string) {
		if len(name) != 1 || shardIndex(name[0]) < 0 {
			c.report("active/"+name, "not a directory of messages")
		}
	})
	for i := range digits {
		shard := "active/" + digits[i:i+1]
		c.list(shard, func(dir *unix.Stat_t, name string) {
			if validID(name) && name[idLen-1] != digits[i] {
				c.report(shard+"/"+name, "not in its directory")
				return
			}
			c.message(shard+"/"+name, name, dir)
		})
	}
	c.list("hold", func(dir *unix.Stat_t, name string) {
		c.message("hold/"+name, name, &unix.Stat_t{}) // people's files: of any group
	})
	c.list("corrupt", func(dir *unix.Stat_t, name string) {
		c.report("corrupt/"+name, "it waits for somebody to look at it")
	})
	c.list("log", func(dir *unix.Stat_t, name string) { c.log(name) })
	return c.problems, c.err
}

type checker struct {
	q        *Queue
	problems []Problem
	err      error
}

func (c *checker) report(path, what string) {
	c.problems = append(c.problems, Problem{path, what})
}

func (c *checker) failed(err error) {
	if c.err == nil && err != nil {
		c.err = fmt.Errorf("queue: check: %w", err)
	}
}

func (c *checker) list(name string, f func(dir *unix.Stat_t, name string)) {
	c.failed(c.q.list(name, func(dir *unix.Stat_t, name string) bool {
		f(dir, name)
		return true
	}))
}

func (c *checker) message(path, name string, dir *unix.Stat_t) {
	var st unix.Stat_t
	err := c.q.lstat(path, &st)
	if err == nil {
		if what := foreign(name, &st, dir); what != "" {
			c.report(path, what)
			return
		}
		var m *Message
		if m, _, err = c.q.readAny(path, ID(name)); err == nil {
			m.Close()
		}
		if st.Mode&writingBit != 0 && !errors.Is(err, ErrNotExist) {
			c.writing(path)
			return
		}
	}
	var d *DamagedError
	switch {
	case err == nil, errors.Is(err, ErrNotExist): // delivered or held meanwhile
	case errors.As(err, &d):
		c.report(path, d.What)
	case errors.Is(err, ErrVersion):
		c.report(path, err.Error())
	default:
		c.failed(err)
	}
}

// writing looks at a file that was being written a moment ago: it still is, or it
// has been accepted or given up since, or nobody will ever finish it.
func (c *checker) writing(path string) {
	f, _, err := c.q.openRegular(path, "")
	if err != nil {
		return
	}
	defer f.Close()
	if flock(f) != nil {
		return
	}
	var st unix.Stat_t
	if fstat(f, &st) == nil && st.Nlink == 1 && st.Mode&writingBit != 0 {
		c.report(path, "left by a program that died while it wrote it")
	}
}

// log reports a log of a message that is nowhere. One may go while we look, so
// the log is looked for again, last.
func (c *checker) log(name string) {
	path := "log/" + name
	if !validID(name) {
		c.report(path, "its name is not a message id")
		return
	}
	var st unix.Stat_t
	if c.q.nowhere(ID(name)) && c.q.lstat(path, &st) == nil {
		c.report(path, "its message is gone")
	}
}
