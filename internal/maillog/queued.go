package maillog

import "time"

// Events of queued. The id is the message's.

// Adopted: queued has taken charge of a message. Why is "new", "start" (found at the start) or "scan".
func (l *Logger) Adopted(id, from string, size int64, rcpts int, why string) {
	if l == nil {
		return
	}
	l.begin(id, "adopted").addr("from", from).num("size", size).num("rcpts", int64(rcpts)).text("why", why).end()
}

// Attempt is one attempt for one recipient.
type Attempt struct {
	Rcpt    string
	Target  string        // what of Rcpt is meant, if not its mailbox
	Orig    string        // the recipient that the sender named, if another (decoded ORCPT)
	Source  string        // what decided where it goes: "users:3", "routes:4", "mx"
	Via     string        // "mx.example.net[192.0.2.7]:25", "lmtp:deliver.sock"
	TLS     string        // version and cipher, or ""
	Status  string        // RFC 3463: "2.0.0"
	Reply   string        // the other side's words, or what went wrong
	Attempt int           // 1 is the first
	Age     time.Duration // since the message arrived
	Next    time.Duration // until the next attempt
}

func (n line) attempt(a Attempt) line {
	n = n.addr("rcpt", a.Rcpt)
	if a.Orig != "" && a.Orig != a.Rcpt {
		n = n.addr("orig", a.Orig)
	}
	return n.text("target", a.Target).text("source", a.Source).text("via", a.Via).text("tls", a.TLS).text("status", a.Status).some("attempt", a.Attempt).
		dur("age", a.Age).dur("next", a.Next).text("reply", a.Reply)
}

// Delivered: the next hop, or the mailbox, has the message.
func (l *Logger) Delivered(id string, a Attempt) {
	if l == nil {
		return
	}
	l.begin(id, "delivered").attempt(a).end()
}

// Deferred: not now; Next says when again.
func (l *Logger) Deferred(id string, a Attempt) {
	if l == nil {
		return
	}
	l.begin(id, "deferred").attempt(a).end()
}

// Failed: never; the sender is told unless he does not want it.
func (l *Logger) Failed(id string, a Attempt) {
	if l == nil {
		return
	}
	l.begin(id, "failed").attempt(a).end()
}

// Expired: deferred for so long that it has failed.
func (l *Logger) Expired(id string, a Attempt) {
	if l == nil {
		return
	}
	l.begin(id, "expired").attempt(a).end()
}

// Expanded: an alias became the recipients of child; how many.
func (l *Logger) Expanded(id, rcpt, child string, rcpts int, source string) {
	if l == nil {
		return
	}
	l.begin(id, "expanded").addr("rcpt", rcpt).text("child", child).num("rcpts", int64(rcpts)).text("source", source).end()
}

// Bounced: a report of failure went to the sender as message report.
func (l *Logger) Bounced(id, report, to string, rcpts int) {
	if l == nil {
		return
	}
	l.begin(id, "bounced").text("report", report).addr("to", to).num("rcpts", int64(rcpts)).end()
}

// Warned: a report of delay went to the sender as message report.
func (l *Logger) Warned(id, report, to string, rcpts int) {
	if l == nil {
		return
	}
	l.begin(id, "warned").text("report", report).addr("to", to).num("rcpts", int64(rcpts)).end()
}

// Confirmed: a report of success, which the sender had asked for, went to him as message report.
func (l *Logger) Confirmed(id, report, to string, rcpts int) {
	if l == nil {
		return
	}
	l.begin(id, "confirmed").text("report", report).addr("to", to).num("rcpts", int64(rcpts)).end()
}

// Discarded: thrown away on purpose: a discard route, a report that nobody can get.
func (l *Logger) Discarded(id, rcpt, why string) {
	if l == nil {
		return
	}
	l.begin(id, "discarded").addr("rcpt", rcpt).text("why", why).end()
}

// Removed: the message is finished and gone from the queue.
func (l *Logger) Removed(id string, age time.Duration) {
	if l == nil {
		return
	}
	l.begin(id, "removed").dur("age", age).end()
}

// Held: the message was moved to hold/. Released: back from there.
func (l *Logger) Held(id, why string) {
	if l == nil {
		return
	}
	l.begin(id, "held").text("why", why).end()
}

// Released: the message came back from hold/.
func (l *Logger) Released(id string) {
	if l == nil {
		return
	}
	l.begin(id, "released").end()
}

// Damaged: an entry of the queue failed its checks and was moved to corrupt/.
func (l *Logger) Damaged(id string, err error) {
	if l == nil {
		return
	}
	l.begin(id, "damaged").err(err).end()
}

// DestinationDead: nothing more is tried for the destination for retry.
func (l *Logger) DestinationDead(destination, reason string, waiting int, retry time.Duration) {
	if l == nil {
		return
	}
	l.begin("", "dead").text("destination", destination).num("waiting", int64(waiting)).dur("retry", retry).
		text("reason", reason).end()
}

// DestinationAlive: a dead destination has answered again, after down.
func (l *Logger) DestinationAlive(destination string, down time.Duration) {
	if l == nil {
		return
	}
	l.begin("", "alive").text("destination", destination).dur("down", down).end()
}

// DestinationPaused: nothing is sent to the destination until somebody resumes it.
func (l *Logger) DestinationPaused(destination, why string) {
	if l == nil {
		return
	}
	l.begin("", "paused").text("destination", destination).text("why", why).end()
}

// DestinationResumed: somebody has.
func (l *Logger) DestinationResumed(destination string) {
	if l == nil {
		return
	}
	l.begin("", "resumed").text("destination", destination).end()
}

// Events of deliver. The id is that of XQID, or the maildir name.

// Delivery is one message for one mailbox.
type Delivery struct {
	From   string
	Rcpt   string
	User   string
	Target string // a command or file, by name; "" a maildir
	Folder string // "" is INBOX
	Name   string // of the file in the maildir
	Size   int64
	Again  bool // found there already: an earlier attempt had stored it
	Status string
	Took   time.Duration
}

// Stored: the message is in the maildir, durably.
func (l *Logger) Stored(id string, d Delivery) {
	if l == nil {
		return
	}
	n := l.delivery(id, "stored", d)
	if d.Again {
		n = n.text("again", "yes")
	}
	n.end()
}

// NotStored: it is not; status says whether for now (4) or for good (5).
func (l *Logger) NotStored(id string, d Delivery, err error) {
	if l == nil {
		return
	}
	l.delivery(id, "not-stored", d).err(err).end()
}

func (l *Logger) delivery(id, event string, d Delivery) line {
	return l.begin(id, event).addr("rcpt", d.Rcpt).text("user", d.User).text("target", d.Target).text("folder", d.Folder).addr("from", d.From).
		num("size", d.Size).text("file", d.Name).text("status", d.Status).dur("took", d.Took)
}
