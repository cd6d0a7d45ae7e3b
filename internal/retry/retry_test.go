package retry

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

const day = 24 * time.Hour

// The defaults of postamt.conf(5).
var policy = Policy{Min: 5 * time.Minute, Max: 4 * time.Hour, Warn: 4 * time.Hour, Expire: 5 * day}

var arrived = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestNext(t *testing.T) {
	for _, c := range []struct {
		attempts int
		jitter   float64
		want     time.Duration
	}{
		{-1, 0, 5 * time.Minute}, {0, 0, 5 * time.Minute}, {1, 0, 5 * time.Minute}, {2, 0, 10 * time.Minute}, {3, 0, 20 * time.Minute},
		{4, 0, 40 * time.Minute}, {5, 0, 80 * time.Minute}, {6, 0, 160 * time.Minute}, {7, 0, 4 * time.Hour}, {8, 0, 4 * time.Hour},
		{math.MaxInt, 0, 4 * time.Hour},
		{1, 1, 4 * time.Minute}, {1, 0.5, 4*time.Minute + 30*time.Second}, {7, 1, 192 * time.Minute},
		{1, -1, 5 * time.Minute}, {1, 7, 4 * time.Minute}, {1, math.NaN(), 5 * time.Minute}, {1, math.Inf(1), 4 * time.Minute},
	} {
		if got := policy.Next(c.attempts, c.jitter); got != c.want {
			t.Errorf("Next(%d, %v) = %v, want %v", c.attempts, c.jitter, got, c.want)
		}
	}
	huge := Policy{Min: 1, Max: math.MaxInt64}
	if got := huge.Next(100, 0); got != math.MaxInt64 {
		t.Errorf("no end of doubling: %v", got)
	}
	if got := (Policy{Min: 1, Max: 1}).Next(1, 1); got != 1 {
		t.Errorf("a delay of %v", got)
	}
}

// Q12, F15: what a jump of the clock does to the age.
func TestQ12_Observed(t *testing.T) {
	const year = 365 * day
	after := func(ds ...time.Duration) (l []time.Time) {
		at := arrived
		for _, d := range ds {
			at = at.Add(d)
			l = append(l, at)
		}
		return l
	}
	for _, c := range []struct {
		name     string
		attempts []time.Time
		now      time.Time
		want     time.Duration
	}{
		{"new", nil, arrived, 0},
		{"ordinary", after(time.Minute, 5*time.Minute), arrived.Add(10 * time.Minute), 10 * time.Minute},
		{"+10 years before the first attempt", nil, arrived.Add(10 * year), 8 * time.Hour},
		{"+10 years between attempts", after(time.Hour, 10*year), arrived.Add(10*year + 2*time.Hour), 10 * time.Hour},
		{"-1 day", after(time.Hour), arrived.Add(-day), time.Hour},
		{"-10 minutes, then on", after(time.Hour, -10*time.Minute, time.Hour), arrived.Add(110 * time.Minute), 2 * time.Hour},
		{"arrived in the future", nil, arrived.Add(-10 * year), 0},
		{"off for a month", after(time.Hour), arrived.Add(30 * day), 9 * time.Hour},
		{"before 1970 to after 2262", nil, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), 8 * time.Hour},
	} {
		if got := policy.Observed(arrived, c.attempts, c.now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := policy.Observed(time.Time{}, nil, arrived); got != 8*time.Hour {
		t.Errorf("from the zero time: %v", got)
	}
	if got := (Policy{Max: math.MaxInt64}).Observed(time.Time{}, []time.Time{arrived, {}, arrived}, arrived); got != math.MaxInt64 {
		t.Errorf("sums overflow: %v", got)
	}
}

// A queue of many ages, and the clock jumps: nothing expires that would not have.
func TestQ12_NoMassBounce(t *testing.T) {
	for _, jump := range []time.Duration{10 * 365 * day, -day, -10 * time.Minute, time.Hour, -365 * day} {
		for age := time.Duration(0); age < 4*day+16*time.Hour; age += 3 * time.Hour {
			var attempts []time.Time
			for d := time.Duration(0); d <= age; d += 3 * time.Hour {
				attempts = append(attempts, arrived.Add(d))
			}
			now := arrived.Add(age + jump)
			v := policy.Judge(len(attempts)+1, policy.Observed(arrived, attempts, now), true, 0)
			if v.Expired {
				t.Fatalf("age %v, jump %v: expired", age, jump)
			}
			if v.After <= 0 || v.After > policy.Max {
				t.Fatalf("age %v, jump %v: next attempt in %v", age, jump, v.After)
			}
		}
	}
}

func TestQ12_Due(t *testing.T) {
	now := arrived
	for _, c := range []struct {
		next time.Duration
		want bool
	}{
		{0, true}, {-time.Second, true}, {-10 * 365 * day, true},
		{time.Second, false}, {4 * time.Hour, false}, {4*time.Hour + time.Second, false},
		{4*time.Hour + 3*time.Second, true}, {10 * 365 * day, true}, // set before the clock was put back
	} {
		if got := policy.Due(now.Add(c.next), now); got != c.want {
			t.Errorf("due %v ahead: %v", c.next, got)
		}
	}
	if c := policy.Clamp(now.Add(time.Hour), now); !c.Equal(now.Add(time.Hour)) {
		t.Error(c)
	}
	if c := policy.Clamp(now.Add(day), now); !c.Equal(now) {
		t.Error(c)
	}
}

// live runs a message that always fails through its life. The clock may be put by jump(i) before attempt i.
func live(t *testing.T, p Policy, r *rand.Rand, jump func(i int) time.Duration) (attempts []time.Time, warned int, real time.Duration) {
	t.Helper()
	now := arrived
	for i := 1; ; i++ {
		if i > 10000 {
			t.Fatal("never expires")
		}
		now = now.Add(jump(i))
		v := p.Judge(i, p.Observed(arrived, attempts, now), warned > 0, r.Float64())
		attempts = append(attempts, now)
		if v.Expired {
			if v.Warn {
				t.Error("warned and expired at once")
			}
			return attempts, warned, real
		}
		if v.Warn {
			warned++
		}
		if v.After <= 0 || v.After > p.Max {
			t.Fatalf("attempt %d: next in %v", i, v.After)
		}
		now = now.Add(v.After)
		real += v.After
	}
}

// Q14: five days of 4xx. Retries of half an hour and more are typical, one warning at four hours, one bounce at five days.
func TestQ14_FiveDays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	starts := map[time.Duration]bool{}
	for range 100 {
		attempts, warned, real := live(t, policy, r, func(int) time.Duration { return 0 })
		if warned != 1 {
			t.Errorf("warned %d times", warned)
		}
		if real != policy.Expire {
			t.Errorf("expired after %v", real)
		}
		if n := len(attempts); n < 30 || n > 50 {
			t.Errorf("%d attempts", n)
		}
		long := 0
		for i := 1; i < len(attempts); i++ {
			if attempts[i].Sub(attempts[i-1]) >= 30*time.Minute {
				long++
			}
		}
		if long < len(attempts)*3/4 {
			t.Errorf("only %d of %d delays are half an hour", long, len(attempts))
		}
		starts[attempts[5].Sub(arrived)] = true
	}
	if len(starts) < 90 {
		t.Errorf("no jitter: %d different sixth attempts in 100", len(starts))
	}
}

// F15: whatever the clock does, a message lives at least as long as it was really tried for, less what the clock hid by
// going back, and it does end.
func TestF15_Jumps(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		jumped := 0
		_, warned, real := live(t, policy, r, func(int) time.Duration {
			if r.IntN(10) > 0 {
				return 0
			}
			jumped++
			return time.Duration(r.Int64N(int64(800*day))) - 400*day
		})
		// A jump ahead adds at most twice Max; one back hides at most the delay before it.
		if real < policy.Expire-time.Duration(jumped)*2*policy.Max {
			t.Errorf("expired after %v with %d jumps", real, jumped)
		}
		if real > policy.Expire+time.Duration(jumped)*policy.Max {
			t.Errorf("lived for %v with %d jumps", real, jumped)
		}
		if warned > 1 {
			t.Errorf("warned %d times", warned)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		age    time.Duration
		warned bool
		want   Verdict
	}{
		{0, false, Verdict{After: 4 * time.Hour}},
		{4*time.Hour - 1, false, Verdict{After: 4 * time.Hour}},
		{4 * time.Hour, false, Verdict{Warn: true, After: 4 * time.Hour}},
		{4 * time.Hour, true, Verdict{After: 4 * time.Hour}},
		{5*day - time.Minute, true, Verdict{After: time.Minute}}, // the last attempt is at the end, not before
		{5 * day, false, Verdict{Expired: true}},
		{50 * day, true, Verdict{Expired: true}},
	} {
		if got := policy.Judge(10, c.age, c.warned, 0); got != c.want {
			t.Errorf("age %v, warned %v: %+v, want %+v", c.age, c.warned, got, c.want)
		}
	}
	quiet := policy
	quiet.Warn = 0
	if v := quiet.Judge(10, day, false, 0); v.Warn {
		t.Error("warned though switched off")
	}
}
