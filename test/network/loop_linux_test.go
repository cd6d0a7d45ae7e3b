package network

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"postamt/test/suite"
)

// R23: two hosts of ours forward to each other, by an alias on each and the MX records.
func TestR23_ForwardingLoop(t *testing.T) {
	t.Parallel()
	e := newEthernet(t)
	const zone = `
ours.test       MX  10 mx.ours.test.
mx.ours.test    A   192.0.2.1
theirs.test     MX  10 mx.theirs.test.
mx.theirs.test  A   192.0.2.2
`
	a, b := e.host("192.0.2.1/24"), e.host("192.0.2.2/24")
	a.names(zone)
	b.names(zone)
	const hops = 20
	ours := a.serve("192.0.2.1:25", suite.Config{Domain: "ours.test", Aliases: "round: round@theirs.test\n", Settings: "smtpd_hops 20\n"})
	theirs := b.serve("192.0.2.2:25", suite.Config{Domain: "theirs.test", Aliases: "round: round@ours.test\n", Settings: "smtpd_hops 20\n"})

	text := note("round and round") + strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 1400) // 100 kB
	send(t, ours, "alice@ours.test", "round@ours.test", text)
	if _, err := ours.AwaitDelivered("alice", 1, limit); err != nil {
		t.Fatal(err)
	}
	// Nobody is told when the sender is nobody; and postmaster, who has no mailbox here, gets no loop of his own.
	send(t, ours, "", "round@ours.test", text)
	stopped := func() int {
		return strings.Count(ours.Log("smtpd")+theirs.Log("smtpd"), `"554 5.4.6 mail loop"`)
	}
	await(t, "the end of two loops", func() bool { return stopped() >= 2 })
	for _, s := range []*suite.System{ours, theirs} {
		if err := s.AwaitEmpty(limit); err != nil {
			t.Fatal(err)
		}
	}

	if n := stopped(); n != 2 {
		t.Errorf("stopped %d times, want once for each message", n)
	}
	accepted := strings.Count(ours.Log("smtpd")+theirs.Log("smtpd"), ": accepted ")
	if want := 2 * (hops + 1); accepted != want {
		t.Errorf("accepted %d times, want %d", accepted, want)
	}
	found := ours.Delivered("alice")
	if len(found) != 1 {
		t.Fatalf("the sender has %d reports, want 1", len(found))
	}
	report, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"multipart/report", "5.4.6"} {
		if !bytes.Contains(report, []byte(want)) {
			t.Errorf("no %q in the report", want)
		}
	}
	if most := len(text) + hops*400 + 5000; len(report) > most {
		t.Errorf("the report has %d octets, want at most %d", len(report), most)
	}
	for _, s := range []*suite.System{ours, theirs} {
		for _, user := range []string{"alice", "bob"} {
			if n := len(s.Delivered(user)); n != 0 && !(s == ours && user == "alice") {
				t.Errorf("%s of %s has %d messages", user, s.Domain, n)
			}
		}
	}
}
