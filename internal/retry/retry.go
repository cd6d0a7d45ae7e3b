// Package retry decides when a message that could not be delivered is tried again, when its sender is warned, and when it
// is given up. It is pure: times go in, a verdict comes out; it reads no clock and no file.
//
// The wall clock is not to be believed. A machine whose clock jumps ahead by ten years must not bounce its whole
// queue, and one whose clock was put back must not leave mail lying for years (Q12, F15). So:
//
//   - the age of a message is what was observed of it: the sum of the gaps between arrival, the attempts and now, each gap counting
//     at most 2*Max, and a negative one as 0. A message of which an age of five days was observed was tried all
//     through five days. The price: a machine that was off for a week has aged its mail by 2*Max only;
//   - the next attempt is never more than Max away, whatever a time in the queue says.
package retry

import "time"

// Policy says how patient we are. Min and Max are more than 0 and Min is at most Max.
type Policy struct {
	Min    time.Duration // before the second attempt
	Max    time.Duration // between attempts, at most
	Warn   time.Duration // age at which the sender is warned, once; 0 never
	Expire time.Duration // age at which the message is given up
}

// spread is the part of a delay that chance decides: messages that failed together are not tried together again.
const spread = 0.2

// Next is the delay after the given number of failed attempts (1 or more): Min doubled after each, up to Max, less up to a
// fifth. jitter is a random number from 0 (the whole delay) to 1; what is outside counts as the nearer end.
// The result is more than 0 and at most Max.
func (p Policy) Next(attempts int, jitter float64) time.Duration {
	d := p.Min
	for i := 1; i < attempts && d < p.Max; i++ {
		if d > p.Max/2 {
			d = p.Max
		} else {
			d *= 2
		}
	}
	d = min(d, p.Max)
	// Chance only shortens: Max is a promise. NaN fails both comparisons and counts as 0.
	if jitter > 0 {
		d -= time.Duration(float64(d) * spread * min(jitter, 1))
	}
	return max(d, 1)
}

// Observed is the age of a message as it was seen: from arrival over its attempts, in the order in which they were made, to
// now. Attempts may be incomplete (a bounded log): a missing one can only make the message younger.
func (p Policy) Observed(arrived time.Time, attempts []time.Time, now time.Time) time.Duration {
	age, last := time.Duration(0), arrived
	for _, t := range attempts {
		age = add(age, p.gap(last, t))
		last = t
	}
	return add(age, p.gap(last, now))
}

// gap is the time from a to b as far as it is believed.
func (p Policy) gap(a, b time.Time) time.Duration {
	// Round(0): comparing by the wall clock, always. A time from the queue has no other, and a mixture of both depends
	// on whether the process was restarted. Sub saturates.
	d := b.Round(0).Sub(a.Round(0))
	most := 2 * p.Max
	if most < p.Max {
		most = 1<<63 - 1
	}
	return min(max(d, 0), most)
}

func add(a, b time.Duration) time.Duration {
	if s := a + b; s >= a {
		return s
	}
	return 1<<63 - 1
}

// Verdict is what becomes of a recipient after a temporary failure.
type Verdict struct {
	Expired bool          // give up: the failure is permanent
	Warn    bool          // warn the sender now; he was not
	After   time.Duration // else: the next attempt; more than 0, at most Max
}

// Judge decides after an attempt has failed: attempts counts it, age is that of Observed, warned says whether the
// sender was warned before, jitter is as in Next.
//
// The last attempt is made when the message expires, not up to Max before: the delay is cut to end there.
func (p Policy) Judge(attempts int, age time.Duration, warned bool, jitter float64) Verdict {
	if age >= p.Expire {
		return Verdict{Expired: true}
	}
	return Verdict{
		Warn:  p.Warn > 0 && !warned && age >= p.Warn,
		After: min(p.Next(attempts, jitter), p.Expire-age),
	}
}

// Due reports whether an attempt set for next is to be made at now. One set for more than Max ahead (and a little, for
// the spread of clocks and file systems) was set by a clock that has been put back since: it is due.
func (p Policy) Due(next, now time.Time) bool {
	return !p.Clamp(next, now).After(now)
}

// Clamp is next if that can be believed, else now.
func (p Policy) Clamp(next, now time.Time) time.Time {
	const slack = 2 * time.Second // a file system may round a time up
	if next.Sub(now) > p.Max+min(slack, p.Max) {
		return now
	}
	return next
}
