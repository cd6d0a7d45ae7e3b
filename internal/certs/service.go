package certs

import (
	"crypto/tls"
	"sync/atomic"
	"time"
)

// Service is TLS for one service: "smtpd.submission", "imapd". Its session tickets are its own.
type Service struct {
	set  *Set
	name string
	conf *tls.Config
	next atomic.Int64 // unix nanoseconds of the next question for keys of tickets
}

// ticketsEvery is how long keys of tickets are used before the Keyring is asked for newer ones. It keeps each for a day
// and more, so what other processes made meanwhile is known after this time.
const ticketsEvery = 10 * time.Minute

// ticketsRetry is the time to the next question after one that failed.
const ticketsRetry = 10 * time.Second

// Service makes one. min is the lowest version of TLS (tls.VersionTLS12). protocols are the names that the service goes
// by in ALPN, none where nothing is registered: a client that offers names, but none of these, is refused with
// no_application_protocol (RFC 7301 section 3.2), so that a browser whose connection somebody led to us gets nowhere
// (ALPACA). One that offers nothing is served.
//
// Session tickets are for this process, with keys that change daily (crypto/tls); with a Keyring they are for every
// process of this service that runs as our user.
func (s *Set) Service(name string, min uint16, protocols ...string) *Service {
	return &Service{set: s, name: name, conf: &tls.Config{MinVersion: min, GetCertificate: s.certificate, NextProtos: protocols}}
}

// Config is the configuration that all handshakes of the service share.
func (v *Service) Config() *tls.Config { return v.conf }

// Begin is called before a handshake: it says why that would fail for the want of a key, and sees to the keys of tickets.
func (v *Service) Begin() error {
	if err := v.set.Ready(); err != nil {
		return err
	}
	if v.set.ring != nil {
		v.tickets()
	}
	return nil
}

// tickets asks for keys if it is time. Without them tickets are for this process only, which costs clients a little.
func (v *Service) tickets() {
	now := v.set.now().UnixNano()
	next := v.next.Load()
	if d := next - now; d > 0 && d <= int64(ticketsEvery) {
		return
	}
	if !v.next.CompareAndSwap(next, now+int64(ticketsEvery)) {
		return
	}
	keys, err := v.set.ring.Tickets(v.name)
	if err != nil || len(keys) == 0 {
		v.next.Store(now + int64(ticketsRetry))
		return
	}
	v.conf.SetSessionTicketKeys(keys)
}
