package thread

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"postamt/internal/match"
)

// The values of a message, by key.
type values struct {
	id      uint32
	numbers map[Key]int64
	texts   map[Key]string
}

func sorter(criteria []Criterion, all []values) *Sorter {
	s := NewSorter(criteria, len(all))
	for _, v := range all {
		s.Add(v.id)
		for _, c := range criteria {
			if c.Key.IsText() {
				s.Text([]byte(v.texts[c.Key]))
			} else {
				s.Number(v.numbers[c.Key])
			}
		}
	}
	return s
}

// sortSlowly is SORT by the words of RFC 5256: one criterion after the other, from the last to the first.
func sortSlowly(criteria []Criterion, all []values) (ids []uint32) {
	all = slices.Clone(all)
	for _, c := range slices.Backward(criteria) {
		slices.SortStableFunc(all, func(a, b values) int {
			d := cmp.Compare(a.numbers[c.Key], b.numbers[c.Key])
			if c.Key.IsText() {
				d = strings.Compare(strings.ToUpper(norm.NFKD.String(a.texts[c.Key])), strings.ToUpper(norm.NFKD.String(b.texts[c.Key])))
			}
			if c.Reverse {
				d = -d
			}
			return d
		})
	}
	for _, v := range all {
		ids = append(ids, v.id)
	}
	return ids
}

func TestSortModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		criteria := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Criterion {
			return Criterion{Key(rapid.IntRange(0, int(DisplayTo)).Draw(t, "key")), rapid.Bool().Draw(t, "reverse")}
		}), 0, 4).Draw(t, "criteria")
		n := rapid.IntRange(0, 60).Draw(t, "messages")
		var all []values
		for i := range n {
			v := values{uint32(i + 1), map[Key]int64{}, map[Key]string{}}
			for k := Arrival; k <= DisplayTo; k++ {
				v.numbers[k] = rapid.SampledFrom([]int64{-1 << 63, -1, 0, 1, 1<<63 - 1}).Draw(t, "number")
				v.texts[k] = rapid.SampledFrom([]string{"", "", "a", "A", "á", "a\u0301", "a\x00", "b", "a long subject", "A long subject", "a long subjecT!", "Ａ", "漢", "\U0001f389"}).Draw(t, "text")
			}
			all = append(all, v)
		}
		want := sortSlowly(criteria, all)
		s := sorter(criteria, all)
		if got := s.Sorted(); !slices.Equal(got, want) && n > 0 {
			t.Fatalf("%v: %v, want %v", criteria, got, want)
		}
		from, to := rapid.IntRange(-2, n+2).Draw(t, "from"), rapid.IntRange(-2, n+2).Draw(t, "to")
		part := want[min(max(from, 0), n):]
		part = part[:min(max(to-max(from, 0), 0), len(part))]
		if got := s.Range(from, to); !slices.Equal(got, part) {
			t.Fatalf("%v: from %d to %d: %v, want %v", criteria, from, to, got, part)
		}
	})
}

// RFC 5256, SORT: REVERSE SUBJECT is not the reverse of SUBJECT.
func TestReverse(t *testing.T) {
	var all []values
	for i, s := range []string{"b", "a", "b", "a"} {
		all = append(all, values{id: uint32(i + 1), texts: map[Key]string{Subject: s}})
	}
	if got := sorter([]Criterion{{Subject, false}}, all).Sorted(); !slices.Equal(got, []uint32{2, 4, 1, 3}) {
		t.Error(got)
	}
	if got := sorter([]Criterion{{Subject, true}}, all).Sorted(); !slices.Equal(got, []uint32{1, 3, 2, 4}) {
		t.Error(got)
	}
}

func TestLongTexts(t *testing.T) {
	s := NewSorter([]Criterion{{Subject, false}}, 0)
	for i, last := range []string{"b", "a"} {
		s.Add(uint32(i + 1))
		s.Text([]byte(strings.Repeat("x", match.MaxSort-1) + last))
	}
	for i, last := range []string{"b", "a"} {
		s.Add(uint32(i + 3))
		s.Text([]byte(strings.Repeat("é", match.MaxSort) + last))
	}
	if got := s.Sorted(); !slices.Equal(got, []uint32{3, 4, 2, 1}) {
		t.Error(got)
	}
}

// A part of an order that is made to be hard to select from is not slow.
func TestRangeOfHostileOrders(t *testing.T) {
	const n = 200_000
	for name, date := range map[string]func(i int) int64{
		"same": func(int) int64 { return 1 }, "rising": func(i int) int64 { return int64(i) }, "falling": func(i int) int64 { return int64(-i) },
		"organ pipe": func(i int) int64 { return int64(min(i, n-i)) }, "two": func(i int) int64 { return int64(i % 2) },
	} {
		s := NewSorter([]Criterion{{Date, false}}, n)
		for i := range n {
			s.Add(uint32(i + 1))
			s.Number(date(i))
		}
		want := s.Sorted()
		for _, at := range []int{0, n / 2, n - 50} {
			if got := s.Range(at, at+50); !slices.Equal(got, want[at:at+50]) {
				t.Errorf("%s: from %d: %v, want %v", name, at, got, want[at:at+50])
			}
		}
	}
}

func TestParse(t *testing.T) {
	for k := Arrival; k <= DisplayTo; k++ {
		name := []string{"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"}[k]
		if got, ok := ParseKey(name); got != k || !ok {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
	if _, ok := ParseKey("BCC"); ok {
		t.Error("BCC is none")
	}
	for i, name := range []string{"ORDEREDSUBJECT", "REFERENCES", "REFS"} {
		if got, ok := Parse(name); got != Algorithm(i) || !ok {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
	if _, ok := Parse("JWZ"); ok {
		t.Error("JWZ is none")
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("a"), []byte("á"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s := NewSorter([]Criterion{{Subject, false}}, 2)
		for i, v := range [][]byte{b, a} {
			s.Add(uint32(i))
			s.Text(v)
		}
		if got := s.Sorted(); got[0] == 1 && bytes.Equal(a, b) {
			t.Error("equal texts change their places")
		}
	})
}

const many = 100_000

func BenchmarkSort(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	subjects := make([]string, many)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("%s %s: Meeting about the %s of item %d", []string{"Project", "Build", "Report"}[r.IntN(3)], []string{"failed", "status", "draft"}[r.IntN(3)], []string{"budget", "plan", "naïve idea"}[r.IntN(3)], r.IntN(many/3))
	}
	for _, c := range []struct {
		name     string
		criteria []Criterion
		to       int
	}{
		{"Date", []Criterion{{Date, false}}, many},
		{"ReverseDate", []Criterion{{Date, true}}, many},
		{"Subject", []Criterion{{Subject, false}}, many},
		{"SubjectDate", []Criterion{{Subject, false}, {Date, false}}, many},
		{"Date,50", []Criterion{{Date, true}}, 50},
		{"Subject,50", []Criterion{{Subject, false}}, 50},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := rand.New(rand.NewPCG(3, 4))
				s := NewSorter(c.criteria, many)
				for i := range many {
					s.Add(uint32(i + 1))
					for _, c := range c.criteria {
						if c.Key == Date {
							s.Number(1_700_000_000 + int64(r.IntN(100_000_000)))
						} else {
							s.Text([]byte(subjects[i]))
						}
					}
				}
				s.Range(0, c.to)
			}
		})
	}
}
