package imapd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// result is what a client knows of a search: UIDs, or numbers, in its order.
type result []uint32

func numbersOf(t testing.TB, set string) (list []uint32) {
	for _, r := range strings.Split(set, ",") {
		first, last, ok := strings.Cut(r, ":")
		if !ok {
			last = first
		}
		a, err1 := strconv.Atoi(first)
		b, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil {
			t.Fatalf("the set %q", set)
		}
		for ; a <= b; a++ {
			list = append(list, uint32(a))
		}
	}
	return list
}

// apply does what a response to the tag says, or what EXPUNGE does to numbers.
func (r *result) apply(t testing.TB, tag, line string) {
	if n, ok := strings.CutSuffix(strings.TrimPrefix(line, "* "), " EXPUNGE"); ok && tag == "n" {
		gone := numbersOf(t, n)[0]
		for i := range *r {
			switch {
			case (*r)[i] == gone:
				t.Fatalf("%d was not removed before it was expunged", gone)
			case (*r)[i] > gone:
				(*r)[i]--
			}
		}
	}
	_, what, ok := strings.Cut(line, `* ESEARCH (TAG "`+tag+`") `)
	if !ok {
		return
	}
	w := strings.Fields(strings.TrimPrefix(what, "UID "))
	for i := 1; i+1 < len(w); i += 2 {
		at := numbersOf(t, strings.Trim(w[i], "()"))[0]
		for _, n := range numbersOf(t, strings.Trim(w[i+1], "()")) {
			switch {
			case w[0] == "REMOVEFROM" && at == 0:
				k := slices.Index(*r, n)
				*r = slices.Delete(*r, k, k+1)
			case w[0] == "REMOVEFROM":
				if (*r)[at-1] != n {
					t.Fatalf("%q of %v", line, *r)
				}
				*r = slices.Delete(*r, int(at-1), int(at))
			case at == 0:
				*r = append(*r, n)
				slices.Sort(*r)
			default:
				*r = slices.Insert(*r, int(at-1), n)
				at++
			}
		}
	}
}

// A client who does what he is told has what a new search gives, whatever happens.
func TestContexts(t *testing.T) {
	s, open := NewServer(testConfig()), newOpen(t)
	a, b := speak(t.Context(), t, s, open), speak(t.Context(), t, s, open)
	for _, c := range []*speaker{a, b} {
		c.say("x SELECT INBOX")
		c.until("x OK")
	}
	searches := map[string]string{"s": "UID SORT RETURN (%s) (REVERSE SUBJECT ARRIVAL) UTF-8 UNFLAGGED", "u": "UID SEARCH RETURN (%s) UNFLAGGED", "n": "SEARCH RETURN (%s) UNFLAGGED"}
	known := map[string]*result{}
	for tag, search := range searches {
		a.say(tag + " " + fmt.Sprintf(search, "UPDATE COUNT"))
		a.until(tag + " OK")
		known[tag] = &result{}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		who := []*speaker{a, b}[r.IntN(2)]
		for range 1 + r.IntN(3) {
			switch r.IntN(6) {
			case 0, 1:
				who.say(fmt.Sprintf("x APPEND INBOX {12+}\r\nSubject: %c\r\n", 'a'+r.IntN(26)))
			case 2:
				who.say("x STORE 1:* +FLAGS.SILENT (\\Deleted)\r\nx STORE 2:* -FLAGS.SILENT (\\Deleted)\r\nx EXPUNGE")
			default:
				who.say(fmt.Sprintf("x UID STORE %d,%d %cFLAGS.SILENT (\\Flagged)", 1+r.IntN(40), 1+r.IntN(40), "+-"[r.IntN(2)]))
			}
		}
		who.say("y NOOP")
		lines := who.until("y OK")
		a.say("z NOOP")
		if who == b {
			lines = nil
		}
		for _, l := range append(lines, a.until("z OK")...) {
			for tag, k := range known {
				k.apply(t, tag, l)
			}
		}
		for tag, search := range searches {
			a.say("w " + fmt.Sprintf(search, "ALL"))
			for _, l := range a.until("w OK") {
				var want []uint32
				if _, set, ok := strings.Cut(l, " ALL "); ok {
					want = numbersOf(t, set)
				}
				if strings.Contains(l, "* ESEARCH (TAG \"w\")") && !slices.Equal(*known[tag], want) {
					t.Fatalf("%s: %v, and %v with a new search", tag, *known[tag], want)
				}
			}
		}
	}
	if len(*known["s"]) < 3 {
		t.Errorf("nothing much: %v", *known["s"])
	}
}
