package lineio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestEnded(t *testing.T) {
	for err, want := range map[error]bool{io.EOF: true, io.ErrUnexpectedEOF: true, fmt.Errorf("read: %w", syscall.ECONNRESET): true, syscall.EPIPE: true, nil: false, os.ErrDeadlineExceeded: false} {
		if Ended(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

// A wait ends soon after the server's end, also if the session sets a deadline of its own then; one that works is left alone; and nobody is after stop.
func TestIdle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	var idle Idle
	stop := idle.EndWith(ctx, ours)
	cancel()
	// It works: what comes is read.
	go theirs.Write([]byte("abc"))
	ours.SetReadDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 3)
	if _, err := io.ReadFull(ours, b); err != nil {
		t.Error(err)
	}
	for range 3 {
		idle.Set(true)
		ours.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := ours.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		idle.Set(false)
	}
	stop()
	idle.Set(true)
	ours.SetReadDeadline(time.Now().Add(time.Minute))
	go func() {
		time.Sleep(100 * time.Millisecond) // five times as long as it waits
		theirs.Write([]byte("d"))
	}()
	if _, err := io.ReadFull(ours, b[:1]); err != nil {
		t.Errorf("ended after stop: %v", err)
	}
}
