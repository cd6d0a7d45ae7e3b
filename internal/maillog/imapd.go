package maillog

import "time"

// Events of imapd. A session begins with connect and tls, as those of smtpd do; it ends with disconnect if nobody logged in, else with mailbox.

// Mailbox is what a session of a user was.
type Mailbox struct {
	Client   Client
	Why      string // logout, lost, timeout, limit, shutdown, failed, protocol, tls, deleted
	Error    error  // nil, or why the mailbox could not be opened, or the session went no further
	Commands int
	Took     time.Duration
}

// Mailbox: a session of a user has ended.
func (l *Logger) Mailbox(session string, m Mailbox) {
	if l == nil {
		return
	}
	l.begin(session, "mailbox").text("why", m.Why).client(m.Client).num("commands", int64(m.Commands)).dur("took", m.Took).err(m.Error).end()
}
