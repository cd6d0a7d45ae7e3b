package maillog

import "time"

// Events of pop3d. A session begins with connect and tls, as those of smtpd do; it ends with disconnect if nobody logged in, else with maildrop.

// Maildrop is what a session with a maildrop was.
type Maildrop struct {
	Client    Client
	Why       string // quit, lost, timeout, limit, shutdown, in-use, changed, failed
	Error     error  // nil, or why it could not be opened, or went no further
	Messages  int    // when it began
	Retrieved int    // by RETR
	Tops      int    // by TOP
	Octets    int64  // of messages, sent
	Deleted   int    // removed
	Took      time.Duration
}

// Maildrop: a session with a maildrop has ended.
func (l *Logger) Maildrop(session string, m Maildrop) {
	if l == nil {
		return
	}
	l.begin(session, "maildrop").text("why", m.Why).client(m.Client).num("messages", int64(m.Messages)).
		num("retrieved", int64(m.Retrieved)).some("tops", m.Tops).num("octets", m.Octets).num("deleted", int64(m.Deleted)).
		dur("took", m.Took).err(m.Error).end()
}
