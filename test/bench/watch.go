package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A watch counts messages as they appear in maildirs, without reading directories, which would cost
// the server on the same CPUs.
type watch struct{ fd int }

// watch starts to count what comes into new/ of each user.
func (s *server) watch() (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &watch{fd}
	for _, user := range s.users {
		// A message comes into new/ by rename or by link; a link is a creation.
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(s.maildir(user), "new"), unix.IN_MOVED_TO|unix.IN_CREATE); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *watch) close() { unix.Close(w.fd) }

// await returns when n messages have appeared since the watch began or await returned last.
func (w *watch) await(ctx context.Context, n int) error {
	buffer := make([]byte, 64<<10)
	deadline := time.Now().Add(300 * time.Second)
	for seen := 0; seen < n; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d messages within 300 s", seen, n)
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, 200)
		if err == unix.EINTR || err == nil && ready == 0 {
			continue
		}
		if err != nil {
			return err
		}
		length, err := unix.Read(w.fd, buffer)
		if err != nil {
			return err
		}
		for at := 0; at+unix.SizeofInotifyEvent <= length; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&buffer[at]))
			if event.Mask&unix.IN_Q_OVERFLOW != 0 {
				return errors.New("inotify: too many events at once")
			}
			seen++
			at += unix.SizeofInotifyEvent + int(event.Len)
		}
	}
	return nil
}
