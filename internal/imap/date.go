package imap

import (
	"strconv"
	"strings"
	"time"
)

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// Date is a day without time and zone, as SEARCH compares.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// DateOf is the day of t in its own zone. RFC 9051 section 6.4.4: time and zone are disregarded.
func DateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date{y, m, d}
}

// Compare is negative when d is before e, positive when it is after.
func (d Date) Compare(e Date) int { return d.ordinal() - e.ordinal() }

func (d Date) ordinal() int { return d.Year<<9 | int(d.Month)<<5 | d.Day }

// Date reads date = date-text / DQUOTE date-text DQUOTE.
func (d *Decoder) Date() Date {
	quoted := d.Skip('"')
	day := d.fixedDigits(1, 2)
	date := d.monthAndYear(day)
	if quoted {
		d.Expect('"')
	}
	return date
}

// monthAndYear reads the rest of a date behind the day, and checks it.
func (d *Decoder) monthAndYear(day int) Date {
	d.Expect('-')
	date := Date{Day: day, Month: d.month()}
	d.Expect('-')
	date.Year = d.fixedDigits(4, 4)
	// A day that the month does not have becomes one of the next.
	if d.err == nil && DateOf(time.Date(date.Year, date.Month, date.Day, 0, 0, 0, 0, time.UTC)) != date {
		d.Fail("there is no such day")
	}
	return date
}

func (d *Decoder) month() time.Month {
	if d.More() && len(d.line)-d.pos >= 3 {
		for i := 0; i < len(months); i += 3 {
			if strings.EqualFold(months[i:i+3], string(d.line[d.pos:d.pos+3])) {
				d.pos += 3
				return time.Month(i/3 + 1)
			}
		}
	}
	d.Fail("not a date")
	return 1
}

// fixedDigits reads from least to most digits.
func (d *Decoder) fixedDigits(least, most int) int {
	n := 0
	for i := range most {
		c := d.peek()
		if !isDigit(c) {
			if i < least {
				d.Fail("not a date")
			}
			break
		}
		n = n*10 + int(c-'0')
		d.pos++
	}
	return n
}

// DateTime reads date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE.
func (d *Decoder) DateTime() time.Time {
	d.Expect('"')
	day := 0
	if d.Skip(' ') {
		day = d.fixedDigits(1, 1)
	} else {
		day = d.fixedDigits(2, 2)
	}
	date := d.monthAndYear(day)
	d.SP()
	hour := d.fixedDigits(2, 2)
	d.Expect(':')
	minute := d.fixedDigits(2, 2)
	d.Expect(':')
	sec := d.fixedDigits(2, 2)
	d.SP()
	sign := 1
	if d.Skip('-') {
		sign = -1
	} else {
		d.Expect('+')
	}
	zh := d.fixedDigits(2, 2)
	zm := d.fixedDigits(2, 2)
	d.Expect('"')
	if hour > 23 || minute > 59 || sec > 60 || zh > 23 || zm > 59 {
		d.Fail("there is no such time")
	}
	if d.err != nil {
		return time.Time{}
	}
	return time.Date(date.Year, date.Month, date.Day, hour, minute, sec, 0, time.FixedZone("", sign*(zh*3600+zm*60)))
}

// AppendDateTime appends a date-time, quoted, as INTERNALDATE has it: in the zone of t, to the minute. A year that is not of four digits is the nearest that is.
func AppendDateTime(dst []byte, t time.Time) []byte {
	_, offset := t.Zone()
	if offset %= 24 * 3600; offset%60 != 0 {
		offset -= offset % 60
		t = t.In(time.FixedZone("", offset))
	}
	year, month, day := t.Date()
	hour, minute, sec := t.Clock()
	year = min(max(0, year), 9999)
	dst = append(dst, '"')
	if day < 10 {
		dst = append(dst, ' ', '0'+byte(day))
	} else {
		dst = append2(dst, day)
	}
	dst = append(append(append(dst, '-'), months[3*month-3:3*month]...), '-')
	dst = append2(append2(dst, year/100), year%100)
	dst = append2(append(dst, ' '), hour)
	dst = append2(append(dst, ':'), minute)
	dst = append2(append(dst, ':'), sec)
	if offset < 0 {
		dst = append(dst, " -"...)
		offset = -offset
	} else {
		dst = append(dst, " +"...)
	}
	dst = append2(append2(dst, offset/3600), offset/60%60)
	return append(dst, '"')
}

func append2(dst []byte, n int) []byte { return append(dst, '0'+byte(n/10), '0'+byte(n%10)) }

// AppendNumber appends a number.
func AppendNumber(dst []byte, n uint64) []byte { return strconv.AppendUint(dst, n, 10) }
