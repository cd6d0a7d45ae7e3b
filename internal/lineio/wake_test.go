package lineio

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

func tcpPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if theirs, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// Each Wake ends a wait, whenever it comes, and bytes are not lost by it. Not even the deadline is.
func TestWake(t *testing.T) {
	a, b := net.Pipe() // a transport without a descriptor
	defer a.Close()
	defer b.Close()
	tcp, peer := tcpPair(t)
	for _, x := range []struct {
		name       string
		conn, peer net.Conn
	}{{"descriptor", tcp, peer}, {"other", a, b}} {
		t.Run(x.name, func(t *testing.T) {
			c := New(x.conn)
			c.SetReadTimeout(time.Minute)
			c.Wake()
			if err := c.Wait(); !errors.Is(err, ErrWoken) {
				t.Fatal("woken before it waits:", err)
			}
			const n = 2000
			begin := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for range begin {
					c.Wake()
				}
			})
			for range n {
				begin <- struct{}{}
				if err := c.Wait(); !errors.Is(err, ErrWoken) {
					t.Fatal(err)
				}
			}
			close(begin)
			wg.Wait()
			// What is left of the last one may end one more wait.
			go io.WriteString(x.peer, "DO")
			for c.Buffered() == 0 {
				if err := c.Wait(); err != nil && !errors.Is(err, ErrWoken) {
					t.Fatal(err)
				}
			}
			go func() {
				c.Wake()
				io.WriteString(x.peer, "NE\r\n")
			}()
			for {
				line, err := c.ReadLine(100)
				if errors.Is(err, ErrWoken) {
					continue
				}
				if string(line) != "DONE" || err != nil {
					t.Errorf("%q, %v", line, err)
				}
				break
			}
			c.SetReadTimeout(30 * time.Millisecond)
			var ne net.Error
			err := c.Wait()
			if errors.Is(err, ErrWoken) { // the bytes came before it
				err = c.Wait()
			}
			if errors.Is(err, ErrWoken) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Error("a timeout is", err)
			}
		})
	}
}

// A Wake that was cleared ends no wait: the deadline is again what was set.
func TestClearWake(t *testing.T) {
	ours, theirs := tcpPair(t)
	c := New(ours)
	c.SetReadTimeout(time.Minute)
	c.Wake()
	c.ClearWake()
	go io.WriteString(theirs, "x\r\n")
	if line, err := c.ReadLine(MaxLine); string(line) != "x" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
}
