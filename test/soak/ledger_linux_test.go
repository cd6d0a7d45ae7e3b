package soak

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// fate is what the client of a message knows of it.
type fate uint8

const (
	unsent       fate = iota // its end never left the client, or was none: nobody may have it
	unknown                  // the end went out, no reply came back: once, or not at all
	refused                  // a reply other than 250: nobody may have it
	acknowledged             // 250 was read: everybody must have it
)

// A plan is who gets a message, as its number has it.
type plan struct {
	from   string   // local user, who gets the report
	rcpts  []string // as they are said in RCPT
	boxes  []string // local users, each once
	away   int      // copies at the sinks, or more
	report bool     // and the sender is told that somebody could not be reached
}

// entry is what is known of one message: eight bytes, which is all the memory that a message costs the test.
type entry struct {
	fate   fate
	away   uint8
	copies [6]uint8 // in the order of plan.boxes, the report last
}

// A ledger has all messages by their numbers. What is in a message follows from its number. Its methods are safe for concurrent use.
type ledger struct {
	t     testing.TB
	seed  uint64
	users []string // whom plans choose from
	rare  []string // and now and then these, each alone

	mu      sync.Mutex
	entries []entry
	count   [acknowledged + 1]int
	again   int // copies that sinks have got once more
}

// aliases are lists that plans send to, of the first users.
func aliases(users []string) string {
	return fmt.Sprintf("team: %s, %s, %s\nabroad: %s, far@sink.test\n", users[0], users[1], users[2], users[3])
}

// begin returns the number of a new message.
func (l *ledger) begin() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{})
	l.count[unsent]++
	return len(l.entries) - 1
}

// settle says what became of it.
func (l *ledger) settle(number int, f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.entries[number]
	l.count[e.fate]--
	l.count[f]++
	e.fate = f
}

// taken is how many messages were acknowledged.
func (l *ledger) taken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[acknowledged]
}

// random is the chance that belongs to one message: the same whenever it is asked.
func (l *ledger) random(number int) *rand.Rand { return rand.New(rand.NewPCG(l.seed, uint64(number))) }

// plan is the envelope of a message.
func (l *ledger) plan(number int) plan {
	r := l.random(number)
	user := func() string { return l.users[r.IntN(len(l.users))] }
	p := plan{from: user()}
	away := func(domain string) {
		p.rcpts, p.away = append(p.rcpts, fmt.Sprintf("x%d@%s", number, domain)), p.away+1
	}
	switch n := r.IntN(100); {
	case n < 50:
		p.boxes = []string{user()}
		if len(l.rare) > 0 && r.IntN(4000) == 0 {
			p.boxes = []string{l.rare[r.IntN(len(l.rare))]}
		}
	case n < 60:
		for len(p.boxes) < 3 {
			if u := user(); !slices.Contains(p.boxes, u) {
				p.boxes = append(p.boxes, u)
			}
		}
	case n < 70:
		p.rcpts, p.boxes = []string{"team@example.test"}, l.users[:3]
		return p
	case n < 73: // the alias and a member of it
		p.rcpts, p.boxes = []string{"team@example.test", l.users[1] + "@example.test"}, l.users[:3]
		return p
	case n < 78:
		p.rcpts, p.boxes, p.away = []string{"abroad@example.test"}, l.users[3:4], 1
		return p
	case n < 86:
		away("sink.test")
	case n < 88:
		away("tls.test")
	case n < 90:
		away("later.test")
	case n < 92:
		away("drop.test")
	case n < 94: // by MX, when the name server likes
		away("flaky.test")
	case n < 96:
		p.boxes = []string{user()}
		away("sink.test")
	case n < 98: // refused by its host
		p.rcpts, p.report = []string{fmt.Sprintf("x%d@no.test", number)}, true
	default: // a domain that is none
		p.rcpts, p.report = []string{fmt.Sprintf("x%d@nxdomain.test", number)}, true
	}
	for _, u := range p.boxes {
		p.rcpts = append(p.rcpts, u+"@example.test")
	}
	return p
}

// text is the message, with CRLF. Most are small, some larger than what any of the programs keeps in memory. Some lines begin with dots.
func (l *ledger) text(number int) []byte {
	r := rand.New(rand.NewPCG(l.seed+1, uint64(number)))
	size := 200 + r.IntN(3000)
	if r.IntN(100) == 0 {
		size = 50<<10 + r.IntN(200<<10)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s@example.test>\r\nSubject: %s%09d\r\n\r\n", l.plan(number).from, mark, number)
	for line := 0; b.Len() < size; line++ {
		fmt.Fprintf(&b, "%.*s%d.%d %x\r\n", r.IntN(3), "..", number, line, r.Uint64())
	}
	return b.Bytes()
}

const mark = "soak-"

// identify returns the number of the message that ends text, which has CRLF, or that text is a report about; false: neither.
func (l *ledger) identify(text []byte) (number int, report, ok bool) {
	_, after, _ := bytes.Cut(text, []byte("\r\nSubject: "+mark))
	if len(after) < 9 {
		return 0, false, false
	}
	number, err := strconv.Atoi(string(after[:9]))
	l.mu.Lock()
	known := number >= 0 && number < len(l.entries)
	l.mu.Unlock()
	if err != nil || !known {
		return 0, false, false
	}
	head, _, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	if bytes.Contains(head, []byte("\r\nContent-Type: multipart/report")) {
		return number, true, bytes.Contains(text, []byte("\r\nAction: failed\r\n"))
	}
	return number, false, bytes.HasSuffix(text, append([]byte("\r\n"), l.text(number)...))
}

// stored counts a message that was found in a user's mailbox and removed from it.
func (l *ledger) stored(user string, text []byte) {
	number, report, ok := l.identify(text)
	if !ok {
		l.t.Errorf("%s has something that is not, or not all of, what was sent:\n%.2000q", user, text)
		return
	}
	p := l.plan(number)
	slot := slices.Index(p.boxes, user)
	if report {
		slot = len(p.boxes)
	}
	if slot < 0 || report && (!p.report || user != p.from) {
		l.t.Errorf("%s has %d, which was not sent there (report: %v)", user, number, report)
		return
	}
	l.mu.Lock()
	l.entries[number].copies[slot]++
	l.mu.Unlock()
}

// arrived counts a message that a sink has got.
func (l *ledger) arrived(text []byte) {
	number, report, ok := l.identify(text)
	if !ok || report {
		l.t.Errorf("a sink has something that is not, or not all of, what was sent:\n%.2000q", text)
		return
	}
	away := l.plan(number).away
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.entries[number]
	if e.away < 255 {
		e.away++
	}
	if int(e.away) > away {
		l.again++
	}
}

// verify compares what the clients know with what there was. It says the first that is wrong, and how many more.
func (l *ledger) verify() {
	l.t.Helper()
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	l.mu.Lock()
	entries := slices.Clone(l.entries)
	l.mu.Unlock()
	for number, e := range entries {
		p := l.plan(number)
		who := p.boxes
		if p.report {
			who = append(slices.Clone(who), "the report to "+p.from)
		}
		for i, user := range who {
			judge(fault, number, e.fate, user, int(e.copies[i]), 1, 1)
		}
		if p.away > 0 || e.away > 0 {
			judge(fault, number, e.fate, "the sink", int(e.away), p.away, 255)
		}
	}
	for i, f := range faults {
		if i == 20 {
			l.t.Errorf("and %d more", len(faults)-i)
			break
		}
		l.t.Error(f)
	}
}

// judge says whether n copies of a message in one place are right.
func judge(fault func(string, ...any), number int, f fate, where string, n, least, most int) {
	switch {
	case f == acknowledged && n < least:
		fault("LOST: %d was acknowledged, %s has %d of %d", number, where, n, least)
	case f != acknowledged && f != unknown && n > 0:
		fault("%s has %d of %d, whose sender was not told that it was taken (fate %d)", where, n, number, f)
	case n > most:
		fault("DUPLICATE: %s has %d of %d (fate %d)", where, n, number, f)
	}
}

func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d acknowledged, %d refused, %d without a reply, %d cut short, %d sent away once more",
		l.count[acknowledged], l.count[refused], l.count[unknown], l.count[unsent], l.again)
}
