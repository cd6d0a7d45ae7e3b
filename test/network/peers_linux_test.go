package network

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postamt/test/peers"
	"postamt/test/suite"
)

// TestPeersByMX has Postfix, Exim and us in one network, each on port 25 of a host, each finding the others by their MX records and
// nothing else, each message encrypted.
func TestPeersByMX(t *testing.T) {
	t.Parallel()
	const zone = `
ours.test         MX  10 mx.ours.test.
mx.ours.test      A   192.0.2.1
postfix.test      MX  5  gone.postfix.test.
postfix.test      MX  10 mx.postfix.test.
mx.postfix.test   A   192.0.2.2
exim.test         MX  5  gone.exim.test.
exim.test         MX  10 mx.exim.test.
mx.exim.test      A   192.0.2.3
`
	e := newEthernet(t)
	a := e.host("192.0.2.1/24")
	a.names(zone)
	s := a.serve("192.0.2.1:25", suite.Config{Domain: "ours.test", TLS: true})

	for _, peer := range []struct {
		name, addr string
		start      func(testing.TB, peers.Config) *peers.Server
		received   string // in the peer's Received field
	}{
		{"postfix", "192.0.2.2", peers.Postfix, "with ESMTPS"},
		{"exim", "192.0.2.3", peers.Exim, "with esmtps"},
	} {
		t.Run(peer.name, func(t *testing.T) {
			h := e.host(peer.addr + "/24")
			h.names(zone)
			h.sysctl("ipv4/ip_unprivileged_port_start", "25") // our Exim has no root
			var p *peers.Server
			h.in(func() {
				p = peer.start(t, peers.Config{Addr: peer.addr + ":25", Hostname: "mx." + peer.name + ".test", Domains: []string{peer.name + ".test"}, MX: true, TLS: true})
			})

			send(t, s, "alice@ours.test", "bob@"+peer.name+".test", note("to "+peer.name))
			await(t, "a message at the peer", func() bool { return len(p.Delivered("bob")) > 0 })
			if text := read(t, p.Delivered("bob")[0]); !strings.Contains(text, peer.received) || !strings.Contains(text, "This is to "+peer.name) {
				t.Errorf("not encrypted, or not ours:\n%s", text)
			}

			subject := "from " + peer.name
			relay(t, h, p.Addr, "bob@"+peer.name+".test", "alice@ours.test", note(subject))
			await(t, "a message from the peer", func() bool { return subjects(t, s, "alice")[subject] > 0 })
			for _, path := range s.Delivered("alice") {
				text := read(t, path)
				if strings.Contains(text, "Subject: "+subject) &&
					!strings.Contains(text, fmt.Sprintf("Received: from mx.%s.test (unknown [%s])", peer.name, peer.addr)) || !strings.Contains(text, " with ESMTPS id ") {
					t.Errorf("not encrypted, or not from the peer's host:\n%s", text)
				}
			}
			if err := s.AwaitEmpty(limit); err != nil {
				t.Error(err)
			}
		})
	}
}

// relay hands a message to a server from its own host.
func relay(t *testing.T, h *host, addr, from, to, text string) {
	t.Helper()
	var conn net.Conn
	conn, err := h.dial("", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := smtp.NewClient(conn)
	defer c.Close()
	if err := c.SendMail(from, []string{to}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
