package message

import (
	"strings"
	"time"
)

// Date reads the value of a Date field, or of anything that was once written as one: RFC 5322 section 3.3 and 4.3, with the day of
// the week, seconds and zone or without them, asctime(3), ISO 8601, HTTP's old form. The zone is kept; without one, or with one that means
// nothing, it is UTC (RFC 5322 section 4.3: as -0000). False: there is no date in it, or a day that no month has.
func Date(value string) (time.Time, bool) {
	d := date{day: -1, year: -1, hour: -1}
	for s := skipSpace(value); s != ""; s = skipSpace(s) {
		n := 1
		switch c := s[0]; {
		case '0' <= c && c <= '9':
			n = d.number(s)
		case isLetter(c):
			for n < len(s) && isLetter(s[n]) {
				n++
			}
			d.word(s[:n])
		case (c == '+' || c == '-') && d.hour >= 0 && !d.zoned:
			n = d.offset(s)
		}
		if n < 0 {
			return time.Time{}, false
		}
		s = s[n:]
	}
	return d.time()
}

// date is what was found so far; -1 or 0 stand for nothing.
type date struct {
	day, month, year  int
	hour, minute, sec int
	nano              int
	zone              int // seconds east
	zoned             bool
}

// number reads what begins with a digit: a day, a year, a time, an ISO date. It returns its length, -1 when it can be nothing.
func (d *date) number(s string) int {
	v, n := digits(s)
	switch {
	case n == 8 && d.year < 0: // 20261128T101112
		d.year, d.month, d.day = v/10000, v/100%100, v%100
		return n
	case n == 6 && d.year >= 0 && d.hour < 0:
		d.hour, d.minute, d.sec = v/10000, v/100%100, v%100
		return n
	case n > 4:
		return -1
	case d.hour < 0 && n <= 2 && strings.HasPrefix(skipSpace(s[n:]), ":"):
		return d.clock(s, v, n, ':')
	case d.hour < 0 && n <= 2 && d.day >= 0 && isClock(s[n:]):
		return d.clock(s, v, n, '.')
	case n == 4 && d.year < 0 && n < len(s) && (s[n] == '-' || s[n] == '/'): // 2026-11-28
		month, k := digits(s[n+1:])
		if k < 1 || k > 2 || n+1+k >= len(s) || s[n+1+k] != s[n] {
			break
		}
		day, j := digits(s[n+k+2:])
		if j < 1 || j > 2 {
			break
		}
		d.year, d.month, d.day = v, month, day
		return n + k + j + 2
	case n <= 2 && d.day < 0:
		d.day = v
		return n
	case n == 4 && d.year >= 0 && d.hour < 0:
		d.hour, d.minute = v/100, v%100
		return n
	}
	if d.year < 0 {
		// RFC 5322 section 4.3: two digits are 1950 to 2049, three are years from 1900.
		switch d.year = v; {
		case n <= 2 && v < 50:
			d.year += 2000
		case n <= 3:
			d.year += 1900
		}
	}
	return n
}

// isClock: a point and two digits, as some write times.
func isClock(s string) bool {
	if !strings.HasPrefix(s, ".") {
		return false
	}
	_, n := digits(s[1:])
	return n == 2
}

// clock reads the rest of a time whose hour was read: ":" 2DIGIT [":" 2DIGIT ["." *DIGIT]], comments and white space around the
// colons (RFC 5322 section 4.3).
func (d *date) clock(s string, hour, n int, sep byte) int {
	next := func() (v, digit int) {
		rest := skipSpace(s[n:])
		if rest == "" || rest[0] != sep {
			return 0, 0
		}
		rest = skipSpace(rest[1:])
		v, digit = digits(rest)
		if digit > 0 {
			n = len(s) - len(rest) + digit
		}
		return v, digit
	}
	minute, digit := next()
	if digit < 1 || digit > 2 {
		return -1
	}
	d.hour, d.minute = hour, minute
	sec, digit := next()
	if digit == 0 {
		return n
	}
	if digit > 2 {
		return -1
	}
	d.sec = sec
	if n+1 < len(s) && (s[n] == '.' || s[n] == ',') {
		n++
		for unit := 100_000_000; n < len(s) && '0' <= s[n] && s[n] <= '9'; n++ {
			d.nano += unit * int(s[n]-'0')
			unit /= 10
		}
	}
	return n
}

// offset reads a zone: +hhmm, +hh:mm, +hmm, +hh.
func (d *date) offset(s string) int {
	v, n := digits(s[1:])
	if n == 0 {
		return 1
	}
	hours, minutes := v/100, v%100
	if n <= 2 {
		hours, minutes = v, 0
		if len(s) > n+1 && s[n+1] == ':' {
			m, k := digits(s[n+2:])
			if k == 2 {
				minutes = m
				n += 3
			}
		}
	}
	d.zoned = true
	// No zone is farther from Greenwich than a day; RFC 5322 section 3.3 wants minutes below 60.
	if n <= 5 && hours < 24 && minutes < 60 {
		d.zone = hours*3600 + minutes*60
		if s[0] == '-' {
			d.zone = -d.zone
		}
	}
	return n + 1
}

func (d *date) word(w string) {
	if m := month(w); m > 0 && d.month == 0 {
		d.month = m
		return
	}
	if d.hour < 0 {
		return // the day of the week, the T of ISO 8601
	}
	switch strings.ToUpper(w) {
	case "PM":
		if d.hour < 12 {
			d.hour += 12
		}
		return
	case "AM":
		if d.hour == 12 {
			d.hour = 0
		}
		return
	}
	if d.zoned {
		return
	}
	// RFC 5322 section 4.3. The military letters were used with both signs: they are UTC, as is what nobody knows.
	hours, ok := zoneHours(w)
	if ok {
		d.zone, d.zoned = hours*3600, true
	}
}

func zoneHours(name string) (int, bool) {
	switch strings.ToUpper(name) {
	case "UT", "UTC", "GMT", "Z", "WET":
		return 0, true
	case "EDT", "AST":
		return -4, true
	case "EST", "CDT":
		return -5, true
	case "CST", "MDT":
		return -6, true
	case "MST", "PDT":
		return -7, true
	case "PST":
		return -8, true
	case "BST", "CET", "MET", "MEZ":
		return 1, true
	case "CEST", "MEST", "MESZ", "EET":
		return 2, true
	case "EEST", "MSK":
		return 3, true
	case "JST", "KST":
		return 9, true
	}
	return 0, false
}

func month(w string) int {
	if len(w) < 3 {
		return 0
	}
	i := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(w[:3]))
	if i < 0 || i%3 != 0 {
		return 0
	}
	return i/3 + 1
}

func (d *date) time() (time.Time, bool) {
	if d.hour < 0 {
		d.hour = 0
	}
	if d.year < 0 || d.month < 1 || d.month > 12 || d.day < 1 || d.hour > 23 || d.minute > 59 || d.sec > 60 {
		return time.Time{}, false
	}
	zone := time.UTC
	if d.zone != 0 {
		zone = time.FixedZone("", d.zone)
	}
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.sec, d.nano, zone)
	if noon := time.Date(d.year, time.Month(d.month), d.day, 12, 0, 0, 0, time.UTC); noon.Day() != d.day {
		return time.Time{}, false
	}
	return t, true
}

// digits reads a number, and how many digits it has; of one with very many the value means nothing.
func digits(s string) (v, n int) {
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		if n < 9 {
			v = 10*v + int(s[n]-'0')
		}
		n++
	}
	return v, n
}

func isLetter(c byte) bool { return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' }
