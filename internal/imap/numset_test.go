package imap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func set(t testing.TB, s string) NumSet {
	n, ok := ParseNumSet([]byte(s))
	if !ok {
		t.Fatalf("%q", s)
	}
	return n
}

func TestNumSet(t *testing.T) {
	for _, x := range []struct {
		in   string
		last uint32
		want string
	}{
		{"2,4:7,9,12:*", 15, "2,4:7,9,12:15"}, // RFC 9051 section 9
		{"*:4,5:7", 10, "4:10"},
		{"3291:*", 100, "100:3291"},
		{"4:2", 9, "2:4"},
		{"1:4294967295", 3, "1:4294967295"},
		{"4294967295:1", 3, "1:4294967295"},
		{"*", 7, "7"},
		{"*:*", 7, "7"},
		{"*:1", 7, "1:7"},
		{"1,2,3,5,4", 7, "1:5"},
		{"5,4,3,2,1", 7, "1:5"},
		{"5:7,6,1:9", 7, "1:9"},
		{"1,3,2", 7, "1:3"},
		{"4294967295,1", 7, "1,4294967295"},
		{"4294967294,4294967295,4294967295", 7, "4294967294:4294967295"},
		{"*,1", 0, "1"},
		{"1:*", 0, ""},
	} {
		s := set(t, x.in)
		s.Resolve(x.last)
		if got := string(AppendNumSet(nil, s)); got != x.want || !s.ascends() || s.Dynamic() {
			t.Errorf("%s of %d: %q, want %q", x.in, x.last, got, x.want)
		}
	}
	// Nothing is lost of what a set was as it came.
	for _, s := range []string{"1", "4:2", "*:4,5:7", "3:*,9", "7,1"} {
		if got := string(AppendNumSet(nil, set(t, s))); got != s {
			t.Errorf("%q is %q", s, got)
		}
	}
}

// I05: what is no set is none.
func TestI05_Syntax(t *testing.T) {
	for _, s := range []string{"", "0", "1:", ":1", ",", "1,", ",1", "1,,2", "1:2:3", "01", "1:0", "0:1", "4294967296", "99999999999999999999", "-1", "1-2", "1.2", "a", "**", "1*", "$,1", "1 ,2",
		"١"} {
		if n, ok := ParseNumSet([]byte(s)); ok {
			t.Errorf("%q is %v", s, n)
		}
		d := arguments(t, s, 0)
		d.NumSet()
		mustBad(t, s, d)
	}
	if d := arguments(t, "$", 0); !d.NumSet().Saved || d.End() != nil {
		t.Error("$")
	}
	for _, s := range []string{"*", "1:*", "$", "*:2"} {
		d := arguments(t, s, 0)
		d.UIDSet()
		mustBad(t, s, d)
	}
}

func TestWithin(t *testing.T) {
	for _, x := range []struct {
		s    string
		last uint32
		want bool
	}{{"1:3", 3, true}, {"1:4", 3, false}, {"4", 3, false}, {"4:1", 3, false}, {"*", 3, true}, {"*:1", 1, true}, {"*", 0, false}, {"1", 0, false}, {"1:4294967295", 3, false}} {
		if got := set(t, x.s).Within(x.last); got != x.want {
			t.Errorf("%s within %d: %v", x.s, x.last, got)
		}
	}
	if !(NumSet{}).Within(0) {
		t.Error("nothing is within 0")
	}
}

// Every operation on a set agrees with the one on a list of numbers.
func TestNumSet_Model(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 20_000 {
		last := uint32(r.IntN(30))
		num := func() string {
			if r.IntN(6) == 0 {
				return "*"
			}
			return strconv.Itoa(r.IntN(40) + 1)
		}
		var text []string
		in := map[uint32]bool{}
		for range r.IntN(6) + 1 {
			a, b := num(), ""
			text = append(text, a)
			if r.IntN(2) == 0 {
				b = num()
				text[len(text)-1] += ":" + b
			} else {
				b = a
			}
			if last == 0 && (a == "*" || b == "*") {
				continue
			}
			value := func(s string) uint32 {
				n, _ := strconv.Atoi(s)
				if s == "*" {
					return last
				}
				return uint32(n)
			}
			for n := min(value(a), value(b)); n <= max(value(a), value(b)); n++ {
				in[n] = true
			}
		}
		s := set(t, strings.Join(text, ","))
		s.Resolve(last)
		if !s.ascends() || s.Count() != len(in) {
			t.Fatalf("%v of %d: %v", text, last, s)
		}
		var uids, want, got []uint32
		for n := uint32(1); n <= 45; n++ {
			if s.Contains(n) != in[n] {
				t.Fatalf("%v of %d: %d", text, last, n)
			}
			if s.Clip(20).Contains(n) != (in[n] && n <= 20) {
				t.Fatalf("%v of %d: %d, clipped", text, last, n)
			}
			if r.IntN(2) == 0 {
				uids = append(uids, n)
				if in[n] {
					want = append(want, n)
				}
			}
		}
		end := 0
		s.Places(uids, func(from, to int) {
			if from < end || to <= from {
				t.Fatalf("places %d:%d after %d", from, to, end)
			}
			end = to
			got = append(got, uids[from:to]...)
		})
		if !slices.Equal(got, want) {
			t.Fatalf("%v of %d in %v: %v, want %v", text, last, uids, got, want)
		}
		if again := set(t, "1,"+string(AppendNumbers(nil, append([]uint32{3}, want...)))); again.Ranges[0].First != 1 {
			t.Fatal("printed wrong")
		}
		if len(want) > 0 {
			again := set(t, string(AppendNumbers(nil, want)))
			if again.Resolve(0); !slices.Equal(again.Ranges, SetOf(want).Ranges) {
				t.Fatalf("%v is %v", want, again)
			}
		}
	}
}

// I05: the cost of a set is that of its text and of the messages, whatever its numbers are.
func TestI05_Budget(t *testing.T) {
	uids := make([]uint32, 100_000)
	for i := range uids {
		uids[i] = uint32(i)*3 + 7
	}
	var singles, random []byte
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 100_000 {
		singles = append(strconv.AppendInt(singles, int64(i*2+1), 10), ',')
		random = append(strconv.AppendInt(random, r.Int64N(1<<32-1)+1, 10), ',')
	}
	for _, x := range []struct {
		text  []byte
		times int
	}{{singles[:len(singles)-1], 1}, {random[:len(random)-1], 1}, {[]byte("1:4294967295"), 1000}, {[]byte("4294967295:1,*:1"), 1000}} {
		began := time.Now()
		for range x.times {
			s, ok := ParseNumSet(x.text)
			s.Resolve(uids[len(uids)-1])
			found := 0
			s.Places(uids, func(from, to int) { found += to - from })
			if !ok || found == 0 {
				t.Fatalf("%.20q: %d found", x.text, found)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%.20q: %v", x.text, took)
		}
	}
	if n := testing.AllocsPerRun(10, func() { ParseNumSet([]byte("1:4294967295")) }); n > 2 {
		t.Errorf("%v allocations", n)
	}
}

func TestPartialRange(t *testing.T) {
	for _, x := range []struct {
		in, want string
		n        int
		from, to int
	}{
		{"1:500", "1:500", 1000, 0, 500}, {"500:1", "1:500", 100, 0, 100}, {"-1:-100", "-1:-100", 1000, 900, 1000}, {"-100:-1", "-1:-100", 30, 0, 30},
		{"23500:24000", "23500:24000", 7, 7, 7}, {"-23500:-24000", "-23500:-24000", 7, 0, 0}, {"1:4294967295", "1:4294967295", 7, 0, 7},
	} {
		d := arguments(t, x.in, 0)
		p := d.PartialRange()
		from, to := p.Of(x.n)
		if got := string(AppendPartialRange(nil, p)); got != x.want || d.End() != nil || from != x.from || to != x.to {
			t.Errorf("%s: %s, %d:%d, %v", x.in, got, from, to, d.Err())
		}
	}
	for _, s := range []string{"", "1", "1:", "0:1", "-1:2", "1:-2", "1:*", "-:-", "1:4294967296"} {
		d := arguments(t, s, 0)
		d.PartialRange()
		mustBad(t, s, d)
	}
}

func BenchmarkPlaces(b *testing.B) {
	uids := make([]uint32, 100_000)
	for i := range uids {
		uids[i] = uint32(i) * 2
	}
	for _, every := range []int{3, 300} {
		var nums []uint32
		for i := 0; i < len(uids); i += every {
			nums = append(nums, uids[i])
		}
		s := SetOf(nums)
		b.Run(fmt.Sprint(len(nums)), func(b *testing.B) {
			for b.Loop() {
				s.Places(uids, func(from, to int) {})
			}
		})
	}
}
