package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A source is a load generator for what smtp-source cannot do: STARTTLS, many recipients in turn, and the time each message
// takes. Like smtp-source it does not pipeline.
type source struct {
	addr     string
	sessions int // at the same time
	messages int // in all
	each     int // messages a connection; 0: as many as there are
	size     int // bytes of a message
	tls      bool
	to       []string // recipients, in turn
}

// send delivers all messages and returns how long each took, from MAIL to the reply to the final dot, sorted. The first error
// ends it.
func (s source) send(ctx context.Context) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	body := message(s.size)
	for range s.sessions {
		wg.Go(func() {
			var took []time.Duration
			for ctx.Err() == nil && next.Load() < int64(s.messages) {
				var err error
				if took, err = s.connection(ctx, &next, body, took); err != nil {
					cancel(err)
				}
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	slices.Sort(all)
	return all, nil
}

// connection sends up to s.each messages through one connection.
func (s source) connection(ctx context.Context, next *atomic.Int64, body []byte, took []time.Duration) ([]time.Duration, error) {
	c, err := dial(ctx, s.addr)
	if err != nil {
		return took, err
	}
	defer func() { c.conn.Close() }()
	if err := c.command("250", "EHLO source.bench.test\r\n"); err != nil {
		return took, err
	}
	if s.tls {
		if err := c.startTLS(); err != nil {
			return took, err
		}
	}
	for sent := 0; s.each == 0 || sent < s.each; sent++ {
		i := next.Add(1) - 1
		if i >= int64(s.messages) || ctx.Err() != nil {
			break
		}
		start := time.Now()
		if err := c.command("250", "MAIL FROM:<sender@bench.test>\r\n"); err != nil {
			return took, err
		}
		if err := c.command("250", "RCPT TO:<"+s.to[int(i)%len(s.to)]+">\r\n"); err != nil {
			return took, err
		}
		if err := c.command("354", "DATA\r\n"); err != nil {
			return took, err
		}
		if _, err := c.conn.Write(body); err != nil {
			return took, err
		}
		if err := c.reply("250"); err != nil {
			return took, err
		}
		took = append(took, time.Since(start))
	}
	return took, c.command("221", "QUIT\r\n")
}

// A client is one SMTP connection.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

// patience is the longest that any step may take; a server that needs more fails the run.
const patience = 60 * time.Second

// dial connects and reads the banner.
func dial(ctx context.Context, addr string) (*client, error) {
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReaderSize(conn, 1024)}
	if err := c.reply("220"); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) startTLS() error {
	if err := c.command("220", "STARTTLS\r\n"); err != nil {
		return err
	}
	// No session cache: a full handshake each time. Self-signed: what is measured is the server.
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.conn, c.in = conn, bufio.NewReaderSize(conn, 1024)
	return c.command("250", "EHLO source.bench.test\r\n")
}

func (c *client) command(want, line string) error {
	if _, err := c.conn.Write([]byte(line)); err != nil {
		return err
	}
	if err := c.reply(want); err != nil {
		return fmt.Errorf("%.20q: %w", line, err)
	}
	return nil
}

// reply reads one reply, which may have several lines.
func (c *client) reply(want string) error {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || string(line[:3]) != want {
			return fmt.Errorf("want %s, got %q", want, line)
		}
		if line[3] != '-' {
			return nil
		}
	}
}

// message returns a message of about size bytes with its final dot, in lines of 80.
func message(size int) []byte {
	var b bytes.Buffer
	b.WriteString("From: <sender@bench.test>\r\nTo: <user@example.test>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@bench.test>\r\n\r\n")
	line := append(bytes.Repeat([]byte("X"), 78), '\r', '\n')
	for b.Len() < size {
		b.Write(line)
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}

// percentile returns the value that p of the sorted durations do not exceed, 0 < p <= 1.
func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p))]
}
