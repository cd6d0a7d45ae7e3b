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
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return usage()
	}
	verb := map[string]func(*config.Config) (int, error){"list": list, "flush": flush}[flags.Arg(0)]
	if verb == nil {
		return usage()
	}
	c, err := config.Load(config.Path(*file))
	if err != nil {
		fmt.Fprintln(os.Stderr, "queuectl:", err)
		return exConfig
	}
	code, err := verb(c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "queuectl:", err)
	}
	return code
}

func usage() int {
	fmt.Fprintln(os.Stderr, "usage: queuectl [-C file] list | flush")
	return exUsage
}

// list prints a line for each message, as it finds them: a queue of any length needs no memory.
func list(c *config.Config) (int, error) {
	q, err := queue.Open(c.QueueDir, queue.Options{})
	if err != nil {
		return exOSErr, err
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

// lastNote is what was last noted about a message; a log that cannot be read says nothing.
func lastNote(q *queue.Queue, id queue.ID) queue.Note {
	notes, err := q.ReadLog(id)
	if err != nil || len(notes) == 0 {
		return queue.Note{}
	}
	return notes[len(notes)-1]
}

// flush makes everything due.
func flush(c *config.Config) (int, error) {
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
