package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"postamt/test/stub"
	"postamt/test/suite"
)

// TestR01_R02_R03_MX sends to domains of which the DNS says different things.
func TestR01_R02_R03_MX(t *testing.T) {
	k := sinkAt(t, "127.0.0.3")
	// Nobody listens there, and as a host of the loopback it refuses at once.
	if conn, err := net.Dial("tcp", "127.0.0.2:"+k.port()); err == nil {
		conn.Close()
		t.Skip("somebody listens on port " + k.port() + " of 127.0.0.2")
	}
	dns := stub.Start(t, `
pref.test     MX    10 dead.test.
pref.test     MX    20 good.test.
dead.test     A     127.0.0.2
good.test     A     127.0.0.3
afall.test    A     127.0.0.3
alias.test    CNAME afall.test.
noname.test   MX    10 missing.test.
noname.test   MX    20 good.test.
null.test     MX    0 .
nohost.test   MX    10 missing.test.
empty.test    TXT   "neither MX nor address"
down.test     A     127.0.0.2
broken.test   SERVFAIL
brokenmx.test MX    10 broken.test.
`)
	s := start(t, suite.Config{DNS: dns.Addr, Settings: "remote_port " + k.port() + "\n"})
	c := dial(t, s.Socket)

	delivered := []string{"pref.test", "afall.test", "alias.test", "noname.test"}
	for _, domain := range delivered {
		c.send("<alice@example.test>", []string{"<x@" + domain + ">"}, note(domain))
	}
	sent := map[string]bool{}
	for _, m := range k.await(t, len(delivered)) {
		sent[strings.Join(m.to, " ")] = true
	}
	for _, domain := range delivered {
		if !sent["x@"+domain] {
			t.Errorf("nothing came for %s, only %v", domain, sent)
		}
	}
	empty(t, s)
	inbox(t, s, "alice", 0)

	// R01 and R02: what fails for good.
	failed := map[string]string{"nxdomain.test": "5.1.2", "null.test": "5.1.10", "nohost.test": "5.4.4", "empty.test": "5."}
	for domain := range failed {
		c.send("<bob@example.test>", []string{"<x@" + domain + ">"}, note(domain))
	}
	for _, text := range inbox(t, s, "bob", len(failed)) {
		r := parse(t, text)
		if len(r.Recipients) != 1 {
			t.Fatalf("reported %v", r.Recipients)
		}
		_, domain, _ := strings.Cut(r.Recipients[0]["Final-Recipient"], "@")
		status := failed[domain]
		delete(failed, domain)
		if status == "" || !strings.HasPrefix(r.Recipients[0]["Status"], status) {
			t.Errorf("%s: reported %v, want %s", domain, r.Recipients[0], status)
		}
	}
	empty(t, s)

	// R01: what fails for now, above all SERVFAIL, never bounces.
	deferred := []string{"broken.test", "brokenmx.test", "down.test"}
	for _, domain := range deferred {
		c.send("<alice@example.test>", []string{"<x@" + domain + ">"}, note(domain))
	}
	for _, domain := range deferred {
		await(t, "a deferral of "+domain, func() bool {
			return strings.Contains(s.Log("queued"), fmt.Sprintf(": deferred rcpt=<x@%s>", domain))
		})
	}
	if n := len(s.Queued()); n != len(deferred) {
		t.Errorf("%d messages are queued, want %d", n, len(deferred))
	}
	inbox(t, s, "alice", 0)
}
