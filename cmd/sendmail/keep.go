package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// keep appends a message to an mbox file, which it makes if there is none.
func keep(path, from string, now time.Time, message io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600) // a FIFO has nobody who reads
	if err != nil {
		return err
	}
	err = appendMbox(f, from, now, message)
	return errors.Join(err, f.Close())
}

func appendMbox(f *os.File, from string, now time.Time, message io.Reader) error {
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s is not a regular file", f.Name()))
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if from == "" {
		from = "MAILER-DAEMON"
	}
	w := bufio.NewWriterSize(f, 64<<10)
	fmt.Fprintf(w, "From %s %s\n", from, now.UTC().Format(time.ANSIC))
	r := bufio.NewReaderSize(message, 64<<10)
	for start := true; ; {
		line, err := r.ReadSlice('\n')
		if start && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
			w.WriteByte('>')
		}
		if start = err == nil; start {
			line = append(bytes.TrimSuffix(line, []byte("\r\n")), '\n')
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
	w.WriteByte('\n')
	if err := w.Flush(); err != nil {
		return err
	}
	return durable.Sync(f)
}
