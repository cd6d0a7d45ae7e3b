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
