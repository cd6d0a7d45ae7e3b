package imapd

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// compress has the session compressed from here, with zlib's habits: what is written is flushed.
func (c *speaker) compress() {
	c.t.Helper()
	c.say("z COMPRESS DEFLATE")
	c.until("z OK")
	w, err := flate.NewWriter(c.Conn, flate.DefaultCompression)
	if err != nil {
		c.t.Fatal(err)
	}
	c.r = bufio.NewReaderSize(flate.NewReader(c.r), 16)
	c.w = func(p []byte) (int, error) {
		n, err := w.Write(p)
		if err == nil {
			err = w.Flush()
		}
		return n, err
	}
}

// A compressed session that waits costs what compress says, whatever it was sent before. And it ends as others do.
func TestCompressedMemory(t *testing.T) {
	const n = 50
	used := func() uint64 {
		runtime.GC()
		runtime.GC() // pools keep what they have for one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	s, open := NewServer(testConfig()), newOpen(t)
	var cost [2]int64
	for k, compressed := range []bool{false, true} {
		var clients []*speaker
		before := used()
		for range n {
			c := speak(t.Context(), t, s, open)
			c.say("a SELECT INBOX")
			c.until("a OK")
			if compressed {
				c.say("z COMPRESS DEFLATE") // the client's own part is not counted
				c.until("z OK")
			}
			clients = append(clients, c)
		}
		cost[k] = int64(used()-before) / n
		if compressed {
			for _, c := range clients {
				c.Conn.Write([]byte{7})
			}
			for _, c := range clients {
				if b, _ := io.ReadAll(flate.NewReader(c.r)); !bytes.HasPrefix(b, []byte("* BYE this is not DEFLATE\r\n")) {
					t.Fatalf("%q", b)
				}
			}
		}
		runtime.KeepAlive(clients)
	}
	t.Logf("%d octets a session, %d more with compression", cost[0], cost[1]-cost[0])
	if more := cost[1] - cost[0]; more > 44<<10 {
		t.Errorf("%d octets for compression", more)
	}
}

// A line that is 30 KiB on the wire and 30 MiB without compression is as any line that is too long; a literal is refused by what it says of itself.
func TestDecompressionBomb(t *testing.T) {
	c := speak(t.Context(), t, NewServer(testConfig()), newOpen(t))
	c.compress()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c.w([]byte("a NOOP " + strings.Repeat("x", 30<<20) + "\r\n")) // not to its end
	}()
	c.until("* BYE [TOOBIG]")
	<-sent
	c = speak(t.Context(), t, NewServer(testConfig()), newOpen(t))
	c.compress()
	c.say("a APPEND INBOX {1000000000}")
	c.until("a NO [TOOBIG]")
}

// Deadlines and the end of the server reach who is compressed, and waits.
func TestCompressedWaits(t *testing.T) {
	conf := testConfig()
	for _, say := range []string{"b NOOP", "b IDLE"} {
		ctx, cancel := context.WithCancel(t.Context())
		c := speak(ctx, t, NewServer(conf), newOpen(t))
		c.compress()
		c.say(say)
		c.r.ReadString('\n')
		cancel()
		c.until("* BYE [UNAVAILABLE] the server stops")
	}
	conf.TimeoutIdle = 50 * time.Millisecond
	c := speak(t.Context(), t, NewServer(conf), newOpen(t))
	c.compress()
	c.until("* BYE idle for too long")
}
