package network

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postamt/test/suite"
)

// R21: each destination is broken in its own way. What can be delivered is, within bounded time and while the others
// wait; what cannot is deferred, and delivered once the network is repaired. No descriptor is left behind.
func TestR21_BrokenNetwork(t *testing.T) {
	t.Parallel()
	e := newEthernet(t)
	a := e.host("192.0.2.1/24", "2001:db8::1/64")
	b := e.host("2001:db8::2/64")

	const (
		arrives = iota // in spite of the fault
		waits          // is deferred
		either
	)
	faults := []struct {
		name, addr string
		outcome    int
		rules      []string // of the firewall of the other side, $ is the address
		log        string   // in the reason for the deferral
	}{
		{name: "good", addr: "192.0.2.20"},
		{name: "six", addr: "192.0.2.21", rules: []string{"ip6tables -A INPUT -p tcp --dport 25 -j DROP"}},
		{name: "lossy", addr: "192.0.2.22", rules: []string{
			"iptables -A INPUT -d $ -m statistic --mode random --probability 0.3 -j DROP"}},
		// About every eighth segment of a connection that is made is answered by a reset, so that sessions end anywhere.
		{name: "cut", addr: "192.0.2.23", outcome: either, rules: []string{
			"iptables -A INPUT -d $ -p tcp --dport 25 ! --syn -m statistic --mode random --probability 0.12 -j REJECT --reject-with tcp-reset"}},
		{name: "reset", addr: "192.0.2.24", outcome: waits, log: "connection refused", rules: []string{
			"iptables -A INPUT -d $ -p tcp --dport 25 -j REJECT --reject-with tcp-reset"}},
		{name: "icmp", addr: "192.0.2.25", outcome: waits, log: "no route to host", rules: []string{
			"iptables -A INPUT -d $ -p tcp --dport 25 -j REJECT --reject-with icmp-host-unreachable"}},
		{name: "filtered", addr: "192.0.2.26", outcome: waits, log: "timed out", rules: []string{
			"iptables -A INPUT -d $ -p tcp --dport 25 -j DROP"}},
		{name: "nobody", addr: "192.0.2.27", outcome: waits},
		{name: "unreachable", addr: "198.51.100.1", outcome: waits, log: "no route to host"},
		{name: "noroute", addr: "203.0.113.1", outcome: waits, log: "network is unreachable"},
	}
	var zone, domains strings.Builder
	for _, f := range faults {
		fmt.Fprintf(&zone, "%s.test MX 10 mx.%s.test.\nmx.%s.test A %s\n", f.name, f.name, f.name, f.addr)
		fmt.Fprintf(&domains, " %s.test", f.name)
		if f.addr != "192.0.2.27" {
			b.address(f.addr + "/24")
		}
		for _, r := range f.rules {
			rule := strings.Fields(strings.ReplaceAll(r, "$", f.addr))
			b.run(rule[0], rule[1:]...)
		}
	}
	a.names(zone.String() + "mx.six.test AAAA 2001:db8::2\n")
	b.names("")
	a.run("ip", "route", "add", "unreachable", "198.51.100.0/24")

	s := a.serve("192.0.2.1:25", suite.Config{Domain: "ours.test",
		Settings: "remote_timeout_connect 5s\nremote_timeout_greeting 15s\nremote_timeout_command 15s\nremote_timeout_data 15s\nretry_min 1s\nretry_max 2s\nconnection_idle 1s\nwarn_after 0\n"})
	// A reset made by the firewall is for the client: the server waits for the rest of the message.
	far := b.serve("0.0.0.0:25=mx [::]:25", suite.Config{Domain: "good.test",
		Settings: "local_domains" + domains.String() + "\nsmtpd_timeout_command 10s\nsmtpd_timeout_data 10s\n"})
	before := len(descriptors(t, s.Pid("queued")))

	const many = 10
	bulk := strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 1400) // 100 kB
	began := time.Now()
	for _, f := range faults {
		if f.name != "good" {
			send(t, s, "bob@ours.test", "bob@"+f.name+".test", note(f.name)+bulk)
		}
	}
	for n := range many {
		send(t, s, "bob@ours.test", "alice@good.test", note(fmt.Sprintf("good %d", n)))
	}
	if _, err := far.AwaitDelivered("alice", many, limit); err != nil {
		t.Fatal(err)
	}
	t.Logf("good after %v", time.Since(began))
	deferred := func(name string) string {
		_, line, _ := strings.Cut(s.Log("queued"), ": deferred rcpt=<bob@"+name+".test>")
		line, _, _ = strings.Cut(line, "\n")
		return line
	}
	if deferred("filtered") != "" {
		t.Error("others were delivered only after one had timed out")
	}
	for _, f := range faults[1:] {
		await(t, f.name, func() bool {
			arrived := subjects(t, far, "bob")[f.name] > 0
			waiting := deferred(f.name) != ""
			return f.outcome == waits && waiting || f.outcome == arrives && arrived || f.outcome == either && (arrived || waiting)
		})
		t.Logf("%s: after %v at most", f.name, time.Since(began))
		if line := deferred(f.name); f.outcome == waits && !strings.Contains(line, f.log) {
			t.Errorf("%s: deferred for%s, want %q", f.name, line, f.log)
		}
	}
	if deferred("six") != "" {
		t.Error("IPv4 is tried only after a deferral")
	}

	t.Logf("what the firewall of the other side did:\n%s", b.run("iptables", "-L", "INPUT", "-v", "-x", "-n"))

	// Repaired.
	for _, tables := range []string{"iptables", "ip6tables"} {
		b.run(tables, "-F")
	}
	a.run("ip", "route", "del", "unreachable", "198.51.100.0/24")
	a.run("ip", "route", "add", "198.51.100.0/24", "dev", "eth0")
	a.run("ip", "route", "add", "203.0.113.0/24", "dev", "eth0")
	b.address("192.0.2.27/24")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitEmpty(limit); err != nil {
		t.Fatal(err)
	}
	if err := far.AwaitEmpty(limit); err != nil {
		t.Fatal(err)
	}
	got := subjects(t, far, "bob")
	for _, f := range faults[1:] {
		// A connection that breaks between the last dot and the reply leaves a doubt, and then the message is sent again.
		if n := got[f.name]; n != 1 && !(n > 1 && (f.outcome == either || f.name == "lossy")) {
			t.Errorf("%s: %d messages", f.name, n)
		}
	}
	for _, path := range far.Delivered("bob") {
		if text := read(t, path); !strings.HasSuffix(text, strings.ReplaceAll(bulk, "\r\n", "\n")) {
			t.Errorf("%s: %d octets, not what was sent", path, len(text))
		}
	}
	if n := len(far.Delivered("alice")); n != many {
		t.Errorf("good: %d messages, want %d", n, many)
	}
	if n := len(s.Delivered("bob")); n != 0 {
		t.Errorf("the sender has %d reports of a fault that passed", n)
	}
	closed(t, s, before)
}

// R21: four source ports, and twenty connections wanted. What finds none is deferred and comes later, once each.
func TestR21_SourcePorts(t *testing.T) {
	t.Parallel()
	const many = 60
	e := newEthernet(t)
	a, b := e.host("192.0.2.1/24"), e.host("192.0.2.2/24")
	a.names("far.test MX 10 mx.far.test.\nmx.far.test A 192.0.2.2\n")
	b.names("")
	a.sysctl("ipv4/ip_local_port_range", "40000 40003")
	// As long as nobody answers, a connection that is wanted has its port.
	b.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "25", "-j", "DROP")
	far := b.serve("192.0.2.2:25", suite.Config{Domain: "far.test"})
	s := a.serve("192.0.2.1:25", suite.Config{Domain: "ours.test",
		Settings: "destination_concurrency_start 20\nretry_min 1s\nretry_max 1s\nconnection_idle 2s\nwarn_after 0\n"})
	before := len(descriptors(t, s.Pid("queued")))
	for n := range many {
		send(t, s, "bob@ours.test", "bob@far.test", note(fmt.Sprintf("note %d", n)))
	}
	await(t, "a connection that finds no source port", func() bool {
		return strings.Contains(s.Log("queued"), "cannot assign requested address")
	})
	b.run("iptables", "-F")
	if err := s.AwaitEmpty(limit); err != nil {
		t.Fatal(err)
	}
	if err := far.AwaitEmpty(limit); err != nil {
		t.Fatal(err)
	}
	got := subjects(t, far, "bob")
	for n := range many {
		if k := got[fmt.Sprintf("note %d", n)]; k != 1 {
			t.Errorf("note %d came %d times", n, k)
		}
	}
	closed(t, s, before)
}
