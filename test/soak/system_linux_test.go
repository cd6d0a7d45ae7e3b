package soak

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/remote/smtptest"
	"postamt/test/peers"
	"postamt/test/stub"
	"postamt/test/suite"
)

// Accounts that are in no passwd file. Mailboxes belong to firstOwner and the ids above.
const (
	loginID    = 60501
	authID     = 60502
	keydID     = 60503
	smtpdID    = 60504
	queueID    = 60505
	firstOwner = 60511
)

const (
	sizeLimit  = 400_000 // message_size_limit
	rcptLimit  = 100     // recipient_limit
	retryMax   = 2       // seconds
	commandMax = 10      // seconds: smtpd_timeout_command, pop3d_timeout_login
)

// site is a whole system and the hosts around it.
type site struct {
	*suite.System
	t          testing.TB
	bin        string
	owners     int    // of the mailboxes of ordinary users
	pop3       string // pop3d's listeners
	pop3s      string
	tls        *tls.Config // of clients
	dns        *stub.Server
	sinks      []*smtptest.Server
	programs   []string
	working    context.Context // until it is over
	willing    atomic.Bool     // the other hosts take everything: what is left is to come to its end
	crowded    atomic.Bool     // nobody is to send for now
	asked      atomic.Int64
	workerIdle time.Duration
}

// newSite lays it out; sinks report to the ledger. Mailboxes are those of owners uids in turn, and of one more for each in rare.
func newSite(t testing.TB, l *ledger, users, rare []string, owners int, workerIdle time.Duration) *site {
	t.Helper()
	bin, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, bin: bin, owners: owners, programs: []string{"authd", "keyd", "deliver", "queued", "smtpd", "pop3d"}, workerIdle: workerIdle}
	plain := s.sink(l, nil)
	cert, key, err := peers.WriteCert(t.TempDir(), "tls.test")
	s.must(err)
	pair, err := tls.LoadX509KeyPair(cert, key)
	s.must(err)
	secure := s.sink(l, &tls.Config{Certificates: []tls.Certificate{pair}})
	s.dns = stub.Start(t, zone(true))
	for _, addr := range []*string{&s.pop3, &s.pop3s} {
		*addr, err = peers.FreeAddr()
		s.must(err)
	}
	settings := fmt.Sprintf("remote_port %d\nretry_min 1s\nretry_max %ds\nqueue_scan_interval 2s\nconnection_idle 1s\nworker_idle %ds\n", plain, retryMax, int(workerIdle.Seconds())) +
		fmt.Sprintf("pop3d_listen %s=pop3 %s=pop3s\nrelay_clients 127.0.0.0/8\nmessage_size_limit %d\nrecipient_limit %d\n", s.pop3, s.pop3s, sizeLimit, rcptLimit) +
		fmt.Sprintf("smtpd_timeout_command %ds\nsmtpd_timeout_data %[1]ds\npop3d_timeout_login %[1]ds\npop3d_timeout_idle %[1]ds\npop3d_client_limit 0\n", commandMax) +
		"smtpd_error_soft 7\nsmtpd_error_hard 8\nlogin_messages_hour 10000000\nauth_mechanisms PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256\n"
	settings += fmt.Sprintf("login_user %d:%[1]d\nauth_user %d:%[2]d\nkeyd_user %d:%[3]d\nsmtpd_user %d:%d\nqueue_user %[5]d:%[5]d\n", loginID, authID, keydID, smtpdID, queueID) +
		fmt.Sprintf("keyd_clients %d %d\nmin_uid 100\npasswords passwords\nstate_dir state\n", loginID, smtpdID)
	all := append(append([]string{}, users...), rare...)
	s.System, err = suite.New(suite.Config{
		Bin: bin, Users: all, Aliases: aliases(users), DNS: s.dns.Addr, TLS: true, Auth: true, Keyd: true, Settings: settings,
		Routes: fmt.Sprintf("sink.test [127.0.0.1]:%d\nlater.test [127.0.0.1]:%[1]d\ndrop.test [127.0.0.1]:%[1]d\nno.test [127.0.0.1]:%[1]d\ntls.test [127.0.0.1]:%d\n", plain, secure),
	})
	s.must(err)
	t.Cleanup(s.Remove)
	s.tls = &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	s.handOver(all, len(users))
	return s
}

// handOver gives files to those who need them, as an installation does.
func (s *site) handOver(all []string, users int) {
	s.t.Helper()
	var text, passwords strings.Builder
	for i, u := range all {
		uid := firstOwner + i%s.owners
		if i >= users {
			uid = firstOwner + s.owners + i - users
		}
		home := filepath.Join(s.Dir, "home", u)
		s.must(os.Chown(home, uid, uid))
		fmt.Fprintf(&text, "%s::%d:%d::%s\n", u, uid, uid, home)
		fmt.Fprintf(&passwords, "%s:{PLAIN}%[1]s\n", u)
	}
	s.must(os.WriteFile(s.Dir+"/users", []byte(text.String()), 0o644))
	s.must(os.WriteFile(s.Dir+"/passwords", []byte(passwords.String()), 0o640))
	for _, name := range []string{"", "/run", "/home"} {
		s.must(os.Chmod(s.Dir+name, 0o755))
	}
	for _, name := range []string{"/postamt.conf", "/users", "/aliases", "/routes", "/cert.pem"} {
		s.must(os.Chmod(s.Dir+name, 0o644))
	}
	for _, d := range []string{"state", "state/auth", "state/usage"} {
		s.must(os.Mkdir(s.Dir+"/"+d, 0o755))
	}
	s.must(errors.Join(os.Chown(s.Dir+"/passwords", 0, authID), os.Chmod(s.Dir+"/key.pem", 0o640), os.Chown(s.Dir+"/key.pem", 0, keydID), os.Chown(s.Queue, queueID, queueID),
		os.Chmod(s.Queue, 0o750), os.Chown(s.Dir+"/state/auth", authID, authID), os.Chown(s.Dir+"/state/usage", smtpdID, queueID)))
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// run starts all programs: queued first, whose are the directories of the queue.
func (s *site) run() {
	s.t.Helper()
	for _, name := range s.programs {
		if err := s.Launch(name); err != nil {
			s.t.Fatal(err)
		}
	}
}

// stop ends all programs.
func (s *site) stop() {
	s.t.Helper()
	for _, name := range s.programs {
		if err := s.Terminate(name); err != nil {
			s.t.Error(err)
		}
	}
}

// zone is what the name server says; in bad times it does not know where flaky.test is.
func zone(good bool) string {
	flaky := "flaky.test SERVFAIL\n"
	if good {
		flaky = "flaky.test MX 10 mx.flaky.test.\n"
	}
	return flaky + "mx.flaky.test A 127.0.0.1\n"
}

// sink starts a host that takes mail and returns its port. Of some domains it does not always want what there is.
func (s *site) sink(l *ledger, conf *tls.Config) int {
	offer := []string{"PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES"}
	if conf != nil {
		offer = append(offer, "STARTTLS", "CHUNKING")
	}
	k := smtptest.New(s.t, smtptest.Config{Discard: true, TLS: conf, Offer: offer, Took: func(m smtptest.Message) { l.arrived(m.Data) },
		Reply: func(conn int, verb, args string) string {
			rcpt := verb == "RCPT"
			switch {
			case rcpt && strings.Contains(args, "@no.test"):
				return "550 5.1.1 not here"
			case s.willing.Load():
			case rcpt && strings.Contains(args, "@later.test") && s.asked.Add(1)%3 > 0:
				return "451 4.2.1 not now"
			case verb == "EHLO" && rand.IntN(100) == 0, rcpt && strings.Contains(args, "@drop.test") && rand.IntN(3) == 0:
				return smtptest.Close
			case verb == "." && rand.IntN(200) == 0: // it has been taken, and nobody is told
				return smtptest.Close
			}
			return ""
		}})
	s.sinks = append(s.sinks, k)
	return int(k.Addr.Port())
}
