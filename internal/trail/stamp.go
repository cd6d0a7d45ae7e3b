package trail

import (
	"strconv"
	"strings"
	"time"
)

// stamp reads the time in front of a line and what goes with it, and returns the rest.
//
//	Nov 29 10:07:15                      syslogd, rsyslog, journalctl -o short; with .ffffff of short-precise
//	2026-11-29T10:07:15.123456+00:00     rsyslog; +0000 of journalctl -o short-iso; svlogd -ttt without a zone, in UTC
//	2026-11-29_10:07:15.12345            svlogd -tt, in UTC
//	2026-11-29 10:07:15.123456789        s6-log T, local
//	@400000006931a3f9...                 TAI64N: s6-log t, svlogd -t, multilog
//	1764410835.123456                    journalctl -o short-unix
//	<22>                                 before any of them
func (p *Parser) stamp(s string) (time.Time, string) {
	if strings.HasPrefix(s, "<") {
		if i := strings.IndexByte(s, '>'); i > 1 && i < 5 && strings.Trim(s[1:i], "0123456789") == "" {
			s = s[i+1:]
		}
	}
	var none time.Time
	p.label = false
	switch {
	case len(s) < 16:
	case s[0] == '@':
		if word, rest, _ := strings.Cut(s, " "); len(word) == 25 {
			if t, ok := tai64n(word[1:]); ok {
				p.label = true
				return t, strings.TrimLeft(rest, " ")
			}
		}
	case len(s) > 19 && s[4] == '-' && s[7] == '-' && (s[10] == 'T' || s[10] == '_' || s[10] == ' '):
		return p.full(s)
	case s[3] == ' ' && s[6] == ' ' && s[9] == ':' && s[12] == ':':
		if t, err := time.ParseInLocation(time.Stamp, s[:15], p.local()); err == nil {
			d, rest := fraction(s[15:])
			return p.year(t).Add(d), strings.TrimLeft(rest, " ")
		}
	case s[0] >= '1' && s[0] <= '9':
		word, rest, _ := strings.Cut(s, " ")
		whole, part, _ := strings.Cut(word, ".")
		if n, err := strconv.ParseInt(whole, 10, 64); err == nil && len(whole) > 8 && len(whole) < 12 {
			d, left := fraction("." + part)
			if part == "" || left == "" {
				return time.Unix(n, 0).Add(d).UTC(), strings.TrimLeft(rest, " ")
			}
		}
	}
	return none, s
}

func (p *Parser) local() *time.Location {
	if p.Local == nil {
		return time.Local
	}
	return p.Local
}

// full reads a stamp that has a year.
func (p *Parser) full(s string) (time.Time, string) {
	var none time.Time
	zone := p.local()
	if s[10] != ' ' {
		zone = time.UTC // svlogd; others name it
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05", s[:10]+" "+s[11:19], zone)
	if err != nil {
		return none, s
	}
	d, rest := fraction(s[19:])
	t = t.Add(d)
	word, after, _ := strings.Cut(rest, " ")
	switch {
	case word == "" || word == "Z":
	case word[0] == '+' || word[0] == '-':
		at, err := time.Parse("-0700", strings.Replace(word, ":", "", 1))
		if err != nil {
			return none, s
		}
		_, offset := at.Zone()
		_, was := t.Zone()
		t = t.Add(time.Duration(was-offset) * time.Second)
	default:
		return none, s
	}
	return t.UTC(), strings.TrimLeft(after, " ")
}

// fraction reads ".123456" at the beginning of s; s without one is as it was.
func fraction(s string) (time.Duration, string) {
	if !strings.HasPrefix(s, ".") && !strings.HasPrefix(s, ",") {
		return 0, s
	}
	n, unit := time.Duration(0), time.Second
	i := 1
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		if unit >= 10 {
			unit /= 10
			n += time.Duration(s[i]-'0') * unit
		}
	}
	return n, s[i:]
}

// year puts a time of no year into the twelve months before tomorrow.
func (p *Parser) year(t time.Time) time.Time {
	y := p.Now.In(t.Location()).Year()
	at := func(y int) time.Time {
		return time.Date(y, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, t.Location())
	}
	if this := at(y); !this.After(p.Now.Add(24 * time.Hour)) {
		return this.UTC()
	}
	return at(y - 1).UTC()
}

// ahead is by how much labels of TAI64N are taken to be ahead of UTC. s6-log writes TAI, which has been 37 seconds ahead since 2017; svlogd and multilog know of no leap
// seconds, and add 10. A label does not say whose it is, but an id says when it was made: a line about it that would come before is of the latter.
const ahead = 37 * time.Second

// tai64n reads 24 hexadecimal digits.
func tai64n(s string) (time.Time, bool) {
	secs, err := strconv.ParseUint(s[:16], 16, 64)
	nanos, err2 := strconv.ParseUint(s[16:], 16, 32)
	if err != nil || err2 != nil || secs < 1<<62 || nanos >= 1e9 {
		return time.Time{}, false
	}
	return time.Unix(int64(secs-1<<62), int64(nanos)).UTC(), true
}

// leap takes from a label what it is ahead.
func (p *Parser) leap(l *Line) {
	t := l.Time
	l.Time = t.Add(-ahead)
	if p.Born == nil || p.civil {
		// as it is known to be
	} else if born, ok := p.Born(l.ID); ok && l.Time.Before(born.Add(-time.Second)) {
		p.civil = true
	}
	if p.civil {
		l.Time = t.Add(-10 * time.Second)
	}
}
