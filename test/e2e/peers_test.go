package e2e

import (
	"strings"
	"testing"

	"postamt/test/peers"
	"postamt/test/stub"
	"postamt/test/suite"
)

// TestPeers relays between us and each of the others, encrypted in both directions: a client hands mail for us to the
// peer, and mail for the peer to us. We find Postfix by its MX record, Exim by a route.
func TestPeers(t *testing.T) {
	for _, test := range []struct {
		name     string
		start    func(testing.TB, peers.Config) *peers.Server
		byMX     bool
		received string // in the peer's Received field
	}{
		{"Postfix", peers.Postfix, true, "with ESMTPS"},
		{"Exim", peers.Exim, false, "with esmtps"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dns := stub.Start(t, "peer.test MX 10 mx.peer.test.\nmx.peer.test A 127.0.0.1\n")
			// The peer needs our address, and we need the peer's: it is found out first.
			ours, err := peers.FreeAddr()
			if err != nil {
				t.Fatal(err)
			}
			submit, err := peers.FreeAddr()
			if err != nil {
				t.Fatal(err)
			}
			t.Parallel()
			p := test.start(t, peers.Config{Domains: []string{"peer.test"}, Routes: map[string]string{"example.test": ours}, TLS: true})
			_, port, _ := strings.Cut(p.Addr, ":")
			c := suite.Config{DNS: dns.Addr, TLS: true, Settings: "smtpd_listen " + ours + "=mx " + submit + "=submission unix:smtpd.sock=local\n"}
			if test.byMX {
				c.Settings += "remote_port " + port + "\n"
			} else {
				c.Routes = "peer.test [127.0.0.1]:" + port + "\n"
			}
			s := serve(t, c)

			const body = "first\r\n.dot\r\n..two dots\r\n\r\n8 bits: \xe4\xf6\xfc\r\n"
			message := []byte("From: <alice@example.test>\r\nTo: <bob@peer.test>\r\nSubject: out\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.test>\r\n\r\n" + body)
			dial(t, s.Socket).send("<alice@example.test> BODY=8BITMIME", []string{"<bob@peer.test>"}, message)
			await(t, "a message at the peer", func() bool { return len(p.Delivered("bob")) > 0 })
			empty(t, s)
			out := texts(t, p.Delivered("bob"))
			if len(out) != 1 || !strings.HasSuffix(out[0], "\n\n"+string(unix([]byte(body)))) {
				t.Errorf("%d messages at the peer:\n%s", len(out), strings.Join(out, "\n"))
			}
			if !strings.Contains(out[0], test.received) {
				t.Errorf("not encrypted:\n%s", out[0])
			}

			dial(t, p.Addr).hand("<bob@peer.test> BODY=8BITMIME", []string{"<alice@example.test>"}, message)
			in := inbox(t, s, "alice", 1)[0]
			if !strings.HasSuffix(in, "\n\n"+string(unix([]byte(body)))) {
				t.Errorf("stored:\n%s", in)
			}
			if !strings.Contains(in, " with ESMTPS id ") || !strings.HasPrefix(in, "Return-Path: <bob@peer.test>\n") {
				t.Errorf("the header:\n%s", in)
			}

			// A user of ours who does not exist: refused to the peer, which reports it to its own user.
			if log := strings.Join(texts(t, []string{p.Log}), ""); strings.Contains(log, "TLS error") {
				t.Error("the peer met a TLS error")
			}
			before := len(p.Delivered("bob"))
			dial(t, p.Addr).hand("<bob@peer.test>", []string{"<nobody-here@example.test>"}, message)
			await(t, "the peer's report", func() bool { return len(p.Delivered("bob")) > before })
			// And one of theirs: our report.
			dial(t, s.Socket).send("<alice@example.test>", []string{"<nobody-here@peer.test>"}, note("a wrong name"))
			var report string
			for _, text := range inbox(t, s, "alice", 2) {
				if strings.Contains(text, "multipart/report") {
					report = text
				}
			}
			if r := parse(t, report); r.about("nobody-here@peer.test")["Action"] != "failed" {
				t.Errorf("reported %v", r.Recipients)
			}
			empty(t, s)
		})
	}
}
