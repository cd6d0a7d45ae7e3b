package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postamt/test/suite"
)

// S26: thousands of connections from one IPv4 address, from 1,000 addresses of one IPv6 /64, and from an ordinary client.
func TestS26_Flood(t *testing.T) {
	t.Parallel()
	const (
		atOnce, rate = 20, 60
		each         = 1000 // connections of each flood that are held, and then as many that are not
		addr4        = "192.0.2.1:25"
		addr6        = "[2001:db8::1]:25"
	)
	e := newEthernet(t)
	a := e.host("192.0.2.1/24", "2001:db8::1/64")
	a.names("")
	flood := e.host("192.0.2.66/24", "2001:db8::66/64")
	// The /64 is the flood's, every address of it, and sockets may be bound to those that no interface has by name.
	flood.run("ip", "-6", "route", "add", "local", "2001:db8:bad::/64", "dev", "lo")
	flood.sysctl("ipv6/ip_nonlocal_bind", "1")
	a.run("ip", "-6", "route", "add", "2001:db8:bad::/64", "via", "2001:db8::66")
	client := e.host("192.0.2.2/24", "2001:db8::2/64")
	s := a.serve(addr4+"=mx "+addr6, suite.Config{Domain: "ours.test",
		Settings: fmt.Sprintf("smtpd_client_limit %d\nsmtpd_client_rate %d\n", atOnce, rate)})

	// The other client's messages come while both floods run, one in each family by turns.
	var flooding atomic.Bool
	flooding.Store(true)
	served := make(chan error, 1)
	during := 0
	var slowest time.Duration
	go func() {
		var err error
		for n := 0; err == nil && flooding.Load() && n < rate; n++ {
			began := time.Now()
			if err = hand(client, []string{addr4, addr6}[n%2], fmt.Sprintf("message %d", n)); err == nil && flooding.Load() {
				during++
			}
			slowest = max(slowest, time.Since(began))
		}
		served <- err
	}()

	floods := []struct {
		name, addr string
		from       func(i int) string
		let        atomic.Int64 // got 220
		refused    atomic.Int64 // got 421
	}{
		{name: "one IPv4 address", addr: addr4, from: func(int) string { return "192.0.2.66" }},
		{name: "a /64", addr: addr6, from: func(i int) string {
			b := netip.MustParseAddr("2001:db8:bad::").As16()
			b[8], b[14], b[15] = byte(i%7), byte(i>>8), byte(i)
			return netip.AddrFrom16(b).String()
		}},
	}
	began := time.Now()
	var mu sync.Mutex
	var held []net.Conn
	for _, hold := range []bool{true, false} {
		var wg sync.WaitGroup
		for k := range floods {
			f := &floods[k]
			var next atomic.Int64
			for range 8 {
				wg.Go(func() {
					for i := int(next.Add(1)); i <= each; i = int(next.Add(1)) {
						conn, err := flood.dial(f.from(i), f.addr)
						if err != nil {
							t.Errorf("%s: connection %d: %v", f.name, i, err)
							return
						}
						line, err := greeting(conn)
						switch {
						case strings.HasPrefix(line, "220 "):
							f.let.Add(1)
						case strings.HasPrefix(line, "421 4.7.0 "):
							f.refused.Add(1)
						default:
							t.Errorf("%s: connection %d: %q, %v", f.name, i, line, err)
						}
						if !hold {
							conn.Close()
							continue
						}
						mu.Lock()
						held = append(held, conn)
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
		for _, conn := range held {
			conn.Close()
		}
		held = nil
	}
	flooding.Store(false)
	took := time.Since(began)
	if err := <-served; err != nil {
		t.Fatalf("another client was not served: %v", err)
	}
	if took > time.Minute {
		t.Skipf("the flood took %v: what a minute allows cannot be counted", took)
	}
	for k := range floods {
		f := &floods[k]
		// Without the limit on the number at once it were as many as the rate allows; without the rate, which the refused ones
		// use up, those who come when the first are gone were let in too.
		if f.let.Load() != atOnce || f.refused.Load() != 2*each-atOnce {
			t.Errorf("%s: %d let in and %d refused, want %d and %d", f.name, f.let.Load(), f.refused.Load(), atOnce, 2*each-atOnce)
		}
	}
	t.Logf("%d messages of another client during %v of floods, the slowest %v", during, took, slowest)
	if during == 0 {
		t.Error("nothing of another client came in during the floods")
	}
	if slowest > 5*time.Second {
		t.Errorf("a message of another client took %v", slowest)
	}
	if _, err := s.AwaitDelivered("alice", during, limit); err != nil {
		t.Error(err)
	}
	if n := strings.Count(s.Log("smtpd"), ": limit limit="); n == 0 || n > 70 {
		t.Errorf("%d lines of the log are about limits: none, or more than one a second", n)
	}
}

// hand gives alice a message from the host over the network.
func hand(h *host, addr, subject string) error {
	conn, err := h.dial("", addr)
	if err != nil {
		return err
	}
	c := smtp.NewClient(conn)
	defer c.Close()
	if err := c.SendMail("x@client.test", []string{"alice@ours.test"}, strings.NewReader(note(subject))); err != nil {
		return err
	}
	return c.Quit()
}
