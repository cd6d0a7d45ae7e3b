package maillog

import "time"

// Events of every program.

// KV is a value of an event that has no function of its own.
type KV struct{ Key, Val string }

// Event writes a line of any event. It is for the state that USR1 asks for, and for what only one program knows; an event
// that scripts look for has a function of its own. Event and Key are written as they are: they are constants.
func (l *Logger) Event(id, event string, kv ...KV) {
	if l == nil {
		return
	}
	n := l.begin(id, event)
	for _, p := range kv {
		n.l.buf = appendValue(appendKey(n.l.buf, p.Key), p.Val)
	}
	n.end()
}

// Start: the program is ready to work. What says on what: listeners, directories.
func (l *Logger) Start(version, what string) {
	if l == nil {
		return
	}
	l.begin("", "start").text("version", version).text("on", what).end()
}

// Confined: what the program may do from now on: as user uid, by these means of the system, with what they leave it.
func (l *Logger) Confined(uid int, by, may string) {
	if l == nil {
		return
	}
	l.begin("", "confined").num("uid", int64(uid)).text("by", by).text("may", may).end()
}

// Stop: the program ends in order. Left is the number of sessions or attempts that did not end in time.
func (l *Logger) Stop(why string, left int) {
	if l == nil {
		return
	}
	l.begin("", "stop").text("why", why).num("left", int64(left)).end()
}

// Reload: the configuration, a table or a certificate was read anew. With an error the old one stays in use.
func (l *Logger) Reload(what string, err error) {
	if l == nil {
		return
	}
	l.begin("", "reload").text("what", what).err(err).end()
}

// Problem: something a person should know. Op says what was tried, in two or three words. A program that meets the same
// problem again and again says so at most once a minute; that is the caller's to see to.
func (l *Logger) Problem(id, op string, err error) {
	if l == nil {
		return
	}
	l.begin(id, "problem").text("op", op).err(err).end()
}

// Problems is a Problem for each of the errors that err was joined of: what is wrong with a configuration is said all at once.
func (l *Logger) Problems(op string, err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			l.Problems(op, e)
		}
		return
	}
	l.Problem("", op, err)
}

// Throttle lets one event a period through and counts the others, for events that a stranger can cause at will.
// The zero value is ready. Not safe for concurrent use.
type Throttle struct {
	last   time.Time
	missed int
}

// Allow reports whether the event may be logged now, and how many were not since the last one that was.
func (t *Throttle) Allow(now time.Time, period time.Duration) (missed int, ok bool) {
	if d := now.Sub(t.last); !t.last.IsZero() && d >= 0 && d < period {
		t.missed++
		return 0, false
	}
	missed = t.missed
	t.last, t.missed = now, 0
	return missed, true
}
