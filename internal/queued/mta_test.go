package queued

import (
	"net/netip"
	"strings"
	"testing"

	"postamt/internal/remote"
	"postamt/internal/smtp"
)

// What a report says of the other side is a name that its reader can do something with: no port, and no path of ours.
func TestReportNamesTheOther(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		peer  remote.Endpoint
		local bool
		reply string
		want  string // in the report
	}{
		{remote.Endpoint{Name: "mx.example.net", Addr: at("192.0.2.1:25")}, false, "no such user", "Remote-MTA: dns; mx.example.net\n"},
		{remote.Endpoint{Name: "192.0.2.1", Addr: at("192.0.2.1:2525")}, false, "no such user", "Remote-MTA: dns; [192.0.2.1]\n"},
		{remote.Endpoint{Addr: at("[2001:db8::1]:25")}, false, "no such user", "Remote-MTA: dns; [IPv6:2001:db8::1]\n"},
		{remote.Endpoint{Socket: "/var/lib/secret.sock", LMTP: true}, false, "no such user", "Diagnostic-Code: x-postamt; 550 5.1.1 no such user\n"},
		{remote.Endpoint{Socket: "/var/lib/secret.sock", LMTP: true}, true, "connect to /var/lib/secret.sock: refused", "connect to the mailbox server: refused"},
		{remote.Endpoint{Name: "mx.example.net", Addr: at("192.0.2.1:25")}, true, "no connection", "Diagnostic-Code: x-postamt; 550 5.1.1 no connection\n"},
	} {
		o := newOffice(t)
		outcome := remote.Outcome{Kind: remote.Perm, Stage: remote.StageRcpt, Reply: smtp.NewReply(550, "5.1.1", c.reply), Peer: &c.peer, Local: c.local}
		o.courier.script = by(map[string]remote.Outcome{"x@elsewhere.example": outcome}, done)
		o.send(sender, "x@elsewhere.example")
		r := reports(o.courier.took())
		if len(r) != 1 {
			t.Fatalf("%v: %d reports", c.peer, len(r))
		}
		body := strings.ReplaceAll(r[0].body, "\r\n", "\n")
		if !strings.Contains(body, c.want) || strings.Contains(body, "secret") || strings.Contains(body, "]:25") {
			t.Errorf("%v: %q is not in\n%s", c.peer, c.want, body)
		}
		o.wantEmpty()
	}
}

// RFC 3464 section 2.3.6: what another host is said to have said when a message expires is what it did say. That it took too long is
// our word, in Status.
func TestExpiredInItsOwnWords(t *testing.T) {
	o := newOffice(t)
	peer := remote.Endpoint{Name: "mx.example.net", Addr: netip.MustParseAddrPort("192.0.2.1:25")}
	later := remote.Outcome{Kind: remote.Temp, Stage: remote.StageRcpt, Reply: smtp.NewReply(450, "4.2.1", "not today"), Peer: &peer}
	o.courier.script = by(map[string]remote.Outcome{"x@elsewhere.example": later}, done)
	id := o.send(sender, "x@elsewhere.example")
	for o.wait(id) {
	}
	r := reports(o.courier.took())
	body := strings.ReplaceAll(r[len(r)-1].body, "\r\n", "\n")
	for _, want := range []string{
		"in the time that it had", "mx.example.net said: 450 4.2.1 not today\n",
		"Action: failed\n", "Status: 4.4.7\n", "Diagnostic-Code: smtp; 450 4.2.1 not today\n",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in\n%s", want, body)
		}
	}
	o.wantEmpty()
}
