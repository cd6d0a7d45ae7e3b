package queue

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// socketPath is short enough for the address of a socket, whatever TMPDIR.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pa")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "queued")
}

func listen(t *testing.T, path string) *Wakeups {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	l := NewWakeups(c)
	t.Cleanup(func() { l.Close() })
	return l
}

func waker(t *testing.T, path string) *Waker {
	t.Helper()
	w, err := NewWaker(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func receive(t *testing.T, l *Wakeups) Wakeup {
	t.Helper()
	l.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	w, err := l.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWake(t *testing.T) {
	path := socketPath(t)
	w := waker(t, path)
	id := NewID(time.Now())
	w.Wake(id) // nobody there
	if err := w.Flush(); err == nil {
		t.Error("nobody was told, without an error")
	}
	l := listen(t, path)
	// What was missed is asked for as a scan.
	w.Wake(id)
	if got := receive(t, l); got != (Wakeup{Scan: true}) {
		t.Errorf("%+v", got)
	}
	w.Wake(id)
	w.Scan()
	w.Flush()
	for _, want := range []Wakeup{{ID: id}, {Scan: true}, {Flush: true}} {
		if got := receive(t, l); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	// Each queued makes its own socket in the place of the last, and the waker finds it.
	l.Close()
	os.Remove(path)
	l = listen(t, path)
	w.Wake(id)
	if got := receive(t, l); got.ID != id && !got.Scan {
		t.Errorf("%+v", got)
	}
	l.Close()
	if _, err := l.Receive(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	w.Close()
	w.Close()
	w.Wake(id)
}

// A queued that does not read stops nobody.
func TestWake_NeverBlocks(t *testing.T) {
	path := socketPath(t)
	l := listen(t, path)
	w := waker(t, path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100_000 {
			w.Wake(NewID(time.Now()))
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("blocked")
	}
	if got := receive(t, l); got.ID == "" {
		t.Errorf("%+v", got)
	}
	if !w.missed.Load() {
		t.Error("nothing was missed of 100,000")
	}
	// With room again, the next wakeup asks for what was missed.
	for scan := false; !scan; {
		w.Wake(NewID(time.Now()))
		for i := 0; i < 2 && !scan; i++ {
			l.conn.SetReadDeadline(time.Now().Add(time.Second))
			got, err := l.Receive()
			if err != nil {
				break
			}
			scan = got.Scan
		}
	}
}

// Q21, of this socket: garbage is passed over.
func TestQ21_Garbage(t *testing.T) {
	path := socketPath(t)
	l := listen(t, path)
	c, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := NewID(time.Now())
	for _, s := range []string{"x", "SCAN", "scan\n", string(id) + "\n", string(id) + string(id), strings.Repeat("0", 10_000), "../../../etc/passwd0", "", string(id[:19])} {
		if _, err := c.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		w := waker(t, path)
		w.Wake(id)
		if got := receive(t, l); got != (Wakeup{ID: id}) {
			t.Errorf("%.30q: %+v", s, got)
		}
	}
}

func TestNewWaker_LongName(t *testing.T) {
	if _, err := NewWaker("/" + strings.Repeat("x", 200)); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
}
