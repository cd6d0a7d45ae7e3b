package maillog

import (
	"net/netip"
	"time"
)

// Events of authd. etc/fail2ban reads auth-failed: user and client, in this order, are its interface.

// Auth is a login that was judged.
type Auth struct {
	Session   string // of the program that asks
	User      string // who it is said to be
	IP        netip.Addr
	Service   string // smtp, imap, pop3
	Mechanism string
	Reason    string        // of a refusal; what the client was not told
	Wait      time.Duration // how long the answer was kept back
}

// AuthOK: somebody has logged in.
func (l *Logger) AuthOK(a Auth) { l.auth("auth-ok", a) }

// AuthFailed: somebody has not.
func (l *Logger) AuthFailed(a Auth) { l.auth("auth-failed", a) }

func (l *Logger) auth(event string, a Auth) {
	if l == nil {
		return
	}
	l.begin(a.Session, event).addr("user", a.User).ip("client", a.IP).text("service", a.Service).text("mech", a.Mechanism).
		text("reason", a.Reason).dur("wait", a.Wait).end()
}
