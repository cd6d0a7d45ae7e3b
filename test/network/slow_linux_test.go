package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/test/suite"
)

// R20, R04: hosts that answer a byte a second, hundreds of domains whose hosts do not answer, and one with 500 MX records
// of 20 addresses each. An attempt is bounded, so are the connections to one destination, and mail for others
// goes by all of them.
func TestR20_R04_SlowHosts(t *testing.T) {
	t.Parallel()
	const (
		slow    = 60  // messages for the tarpit
		window  = 5   // connections to a destination that has not answered yet
		silent  = 150 // domains without an answer
		start   = "destination_concurrency_start 5\n"
		records = 500
	)
	e := newEthernet(t)
	a, b := e.host("192.0.2.1/24"), e.host("192.0.2.2/24", "192.0.2.3/24")
	var zone strings.Builder
	zone.WriteString("good.test MX 10 mx.good.test.\nmx.good.test A 192.0.2.2\nslow.test MX 10 mx.slow.test.\nmx.slow.test A 192.0.2.3\n")
	for n := range silent {
		fmt.Fprintf(&zone, "silent%d.test MX 10 mx.silent%d.test.\nmx.silent%d.test A 198.18.0.%d\n", n, n, n, n+1)
	}
	for n := range records {
		fmt.Fprintf(&zone, "many.test MX 10 m%d.test.\n", n)
		for k := range 20 {
			fmt.Fprintf(&zone, "m%d.test A 198.19.%d.%d\n", n, n/10, n%10*20+k)
		}
	}
	a.names(zone.String())
	b.names("")
	a.run("ip", "route", "add", "198.18.0.0/15", "via", "192.0.2.2") // where it is dropped
	b.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "25", "!", "-d", "192.0.2.0/24", "-j", "DROP")
	b.run("ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo")
	a.run("iptables", "-A", "OUTPUT", "-d", "198.19.0.0/16", "-p", "tcp", "--syn") // only counts

	pit := tar(b.listen("192.0.2.3:25"))
	t.Cleanup(pit.drain)
	far := b.serve("192.0.2.2:25", suite.Config{Domain: "good.test"})
	s := a.serve("192.0.2.1:25", suite.Config{Domain: "ours.test",
		Settings: start + "remote_timeout_connect 1s\nremote_timeout_greeting 3s\nretry_min 1h\nwarn_after 0\n"})
	before := len(descriptors(t, s.Pid("queued")))

	for n := range slow {
		send(t, s, "bob@ours.test", "bob@slow.test", note(fmt.Sprintf("slow %d", n)))
	}
	await(t, "the tarpit to hold us", func() bool { return pit.now.Load() > 0 })
	send(t, s, "bob@ours.test", "bob@many.test", note("many"))
	for n := range silent {
		send(t, s, "bob@ours.test", fmt.Sprintf("bob@silent%d.test", n), note("silent"))
	}
	began := time.Now()
	const many = 10
	for n := range many {
		send(t, s, "bob@ours.test", "alice@good.test", note(fmt.Sprintf("good %d", n)))
	}
	if _, err := far.AwaitDelivered("alice", many, limit); err != nil {
		t.Fatal(err)
	}
	good := time.Since(began)
	log := s.Log("queued")
	t.Logf("good after %v; %d slow and %d silent were deferred by then", good, strings.Count(log, "@slow.test>"), strings.Count(log, "@silent"))
	if strings.Contains(log, ": deferred rcpt=<bob@many.test>") {
		t.Error("others were delivered only after the attempt at 500 hosts had ended")
	}
	for what, n := range map[string]int{"@slow.test>": slow, "@silent": silent, "@many.test>": 1} {
		await(t, fmt.Sprintf("%d deferrals of %s", n, what), func() bool {
			deferred := 0
			for line := range strings.Lines(s.Log("queued")) {
				if strings.Contains(line, ": deferred rcpt=<bob") && strings.Contains(line, what) {
					deferred++
				}
			}
			return deferred >= n
		})
	}
	t.Logf("all deferred after %v", time.Since(began))
	if most := pit.most.Load(); most > window {
		t.Errorf("%d connections to the tarpit at once, want at most %d", most, window)
	}
	// Five hosts, two addresses of each, and of each SYN perhaps one repetition within the second.
	var syns int
	for line := range strings.Lines(a.run("iptables", "-L", "OUTPUT", "-v", "-x", "-n")) {
		if strings.Contains(line, "198.19.0.0/16") {
			fmt.Sscan(line, &syns)
		}
	}
	if syns < 10 || syns > 20 {
		t.Errorf("%d SYN for the domain of 500 hosts, want 10 or a few more", syns)
	}
	if n := len(s.Delivered("bob")); n != 0 {
		t.Errorf("%d reports", n)
	}
	closed(t, s, before)
}

// A tarpit accepts everybody and says one byte of an endless greeting a second.
type tarpit struct {
	now, most atomic.Int64 // connections

	mu    sync.Mutex
	conns []net.Conn
}

func tar(l net.Listener) *tarpit {
	p := &tarpit{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, conn)
			p.mu.Unlock()
			p.most.Store(max(p.most.Load(), p.now.Add(1)))
			go func() {
				defer p.now.Add(-1)
				defer conn.Close()
				for {
					if _, err := conn.Write([]byte("2")); err != nil {
						return
					}
					conn.SetReadDeadline(time.Now().Add(time.Second))
					if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
						return
					}
				}
			}()
		}
	}()
	return p
}

// drain ends all connections.
func (p *tarpit) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.Close()
	}
}
