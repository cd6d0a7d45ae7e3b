// Queuectl shows the queue and tells queued what to do with it. See queuectl(8).
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"postamt/internal/config"
	"postamt/internal/queue"
)

// Exit codes: sysexits(3).
const (
	exUsage       = 64
	exUnavailable = 69
	exOSErr       = 71
	exConfig      = 78
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("queuectl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	if err := flags.Parse(args); err != nil || flags.NArg() < 1 {
		return usage()
	}
	var verb func(*config.Config, []string) (int, error)
	switch name, ids := flags.Arg(0), flags.NArg() > 1; {
	case name == "list" && !ids:
		verb = list
	case name == "flush" && !ids:
		verb = flush
	case name == "hold" && ids:
		verb = hold
	case name == "release" && ids:
		verb = release
	default:
		return usage()
	}
	c, err := config.Load(config.Path(*file))
	if err != nil {
		fmt.Fprintln(os.Stderr, "queuectl:", err)
		return exConfig
	}
	code, err := verb(c, flags.Args()[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "queuectl:", err)
	}
	return code
}

func usage() int {
	fmt.Fprintln(os.Stderr, "usage: queuectl [-C file] list | flush | hold id ... | release id ...")
	return exUsage
}

// list prints a line for each message, as it finds them: a queue of any length needs no memory.
func list(c *config.Config, _ []string) (int, error) {
	q, err := queue.Open(c.QueueDir, queue.Options{})
	if err != nil {
		return exOSErr, c.Where(err)
	}
	defer q.Close()
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	var line []byte
	var written error
	err = q.List(func(l queue.Listed) bool {
		line = appendLine(line[:0], l, lastNote(q, l.ID))
		_, written = out.Write(line)
		return written == nil
	})
	if written == nil {
		written = out.Flush()
	}
	switch {
	case errors.Is(written, syscall.EPIPE): // head(1) has seen enough
	case written != nil:
		return exOSErr, fmt.Errorf("list: %w", written)
	}
	if err != nil {
		return exOSErr, fmt.Errorf("list: %w", err)
	}
	return 0, nil
}

// lastNote is what was last noted of a message that says why it is here; a log that cannot be read says nothing.
func lastNote(q *queue.Queue, id queue.ID) queue.Note {
	notes, _ := q.ReadLog(id)
	for _, n := range slices.Backward(notes) {
		if n.Event != queue.EventAttempt && n.Event != queue.EventWarned {
			return n
		}
	}
	return queue.Note{}
}

// flush makes everything due.
func flush(c *config.Config, _ []string) (int, error) {
	w, err := queue.NewWaker(filepath.Join(c.RunDir, "queued"))
	if err != nil {
		return exOSErr, err
	}
	defer w.Close()
	if err := w.Flush(); err != nil {
		return exUnavailable, err
	}
	return 0, nil
}

// hold keeps messages from being attempted.
func hold(c *config.Config, ids []string) (int, error) {
	return move(c, ids, (*queue.Queue).Hold, false)
}

// release puts held messages back, and has them attempted.
func release(c *config.Config, ids []string) (int, error) {
	return move(c, ids, (*queue.Queue).Release, true)
}

func move(c *config.Config, ids []string, to func(*queue.Queue, queue.ID) error, wake bool) (int, error) {
	q, err := queue.Open(c.QueueDir, queue.Options{})
	if err != nil {
		return exOSErr, c.Where(err)
	}
	defer q.Close()
	w, err := queue.NewWaker(filepath.Join(c.RunDir, "queued"))
	if err != nil {
		return exOSErr, err
	}
	defer w.Close()
	var errs []error
	code := 0
	for _, s := range ids {
		id, err := queue.ParseID(s)
		if err == nil {
			err = to(q, id)
		}
		if err != nil {
			errs = append(errs, err)
			if errors.Is(err, queue.ErrNotExist) {
				code = max(code, exUnavailable)
			} else {
				code = exOSErr
			}
			continue
		}
		if wake {
			w.Wake(id)
		}
	}
	return code, errors.Join(errs...)
}
