package trail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	maxEvents = 500_000 // of one story; the log of a message to some hundred thousand recipients
	lookBack  = 4096    // lines that are remembered for messages that turn out to be meant
	maxLine   = 64 << 10
)

// Story is what is known of one or more messages and of what became of them. Not safe for concurrent use.
//
// Ids come to be meant in these ways, by the lines of queued that name them:
//
//	asked for, or with the Message-ID   wanted: all its lines
//	child= and report= of those         wanted
//	one of which a wanted one is that   above: what it is, and how that came of it; not what else came of it
//
// Of these only the second is always in front of the lines that it concerns; after the others Missed says that a second reading will find more.
type Story struct {
	messageID string
	asked     map[string]bool // of those wanted, the ones that nothing else has led to
	wanted    map[string]bool
	above     map[string]bool
	parents   map[string]string // of children
	reports   map[string]bool
	files     map[string]*File
	looked    bool

	events []Line
	logs   int // read
	missed bool
	full   bool

	recent [][]byte // the lines before that have an id, as a ring
	next   int
}

// New asks for messages by their ids, or by a Message-ID; "" is none.
func New(messageID string, ids ...string) *Story {
	s := &Story{messageID: bare(messageID), asked: make(map[string]bool), wanted: make(map[string]bool), above: make(map[string]bool), parents: make(map[string]string), reports: make(map[string]bool), files: make(map[string]*File)}
	for _, id := range ids {
		s.Ask(id)
	}
	return s
}

func bare(messageID string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(messageID), "<"), ">")
}

// IsMessageID tells whether a message has the one that was asked for. Logs cut long ones.
func (s *Story) IsMessageID(v string) bool {
	v = bare(v)
	if begin, cut := strings.CutSuffix(v, "..."); cut && len(begin) > 500 {
		return s.messageID != "" && strings.HasPrefix(s.messageID, begin)
	}
	return s.messageID != "" && v == s.messageID
}

// Ask asks for one more message.
func (s *Story) Ask(id string) { s.asked[id], s.wanted[id] = true, true }

// Want has what came of a message told too. report: it is about a message that is meant.
func (s *Story) Want(id, parent string, report bool) {
	if id == "" || id == "-" {
		return
	}
	if report {
		s.reports[id] = true
	} else {
		s.parents[id] = parent
	}
	s.wanted[id] = true
}

// Wants tells whether a message is meant.
func (s *Story) Wants(id string) bool { return s.wanted[id] }

// Known tells whether there is anything to tell.
func (s *Story) Known() bool { return len(s.events)+len(s.files) > 0 }

// Missed tells that of some message there may be lines in front of those that were read; after Again the logs are read once more.
func (s *Story) Missed() bool { return s.missed }

// Cut tells that there were more events than are kept.
func (s *Story) Cut() bool { return s.full }

// Again forgets the events of the logs, not the ids.
func (s *Story) Again() {
	s.events, s.logs, s.missed, s.full, s.recent, s.next = nil, 0, false, false, nil, 0
}

// Read takes what concerns the messages out of a log. Its lines are not held; one of more than 64 KiB is passed over.
func (s *Story) Read(r io.Reader, p *Parser) error {
	defer func() { s.logs++ }()
	in := bufio.NewReaderSize(r, maxLine)
	for {
		b, err := in.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			for err == bufio.ErrBufferFull {
				_, err = in.ReadSlice('\n')
			}
			b = nil
		}
		if len(b) > 0 {
			s.line(bytes.TrimRight(b, "\r\n"), p)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// idLength is that of a queue id.
const idLength = 20

// line looks at one line. Nearly all are none of those that are meant: they are not parsed.
func (s *Story) line(b []byte, p *Parser) {
	rest := b
	for range 6 { // a time and a tag have colons too
		i := bytes.Index(rest, []byte(": "))
		if i < 0 {
			return
		}
		rest = rest[i+2:]
		if len(rest) < idLength+3 || rest[idLength] != ':' || rest[idLength+1] != ' ' {
			continue
		}
		id := rest[:idLength]
		if s.wanted[string(id)] || s.above[string(id)] || s.leads(rest[idLength+2:]) {
			if l, ok := p.Parse(string(b)); ok {
				s.take(l, p)
			}
		}
		s.remember(b)
		return
	}
}

func (s *Story) remember(b []byte) {
	if len(s.recent) < lookBack {
		s.recent = append(s.recent, bytes.Clone(b))
		return
	}
	s.recent[s.next] = append(s.recent[s.next][:0], b...)
	s.next = (s.next + 1) % lookBack
}

// leads tells that an event may name a message that is meant.
func (s *Story) leads(event []byte) bool {
	switch event[0] {
	case 'e', 'b', 'w', 'c': // expanded, bounced, warned, confirmed
		for _, key := range [...]string{" child=", " report="} {
			if i := bytes.Index(event, []byte(key)); i >= 0 {
				id := event[i+len(key):]
				id = id[:min(len(id), idLength)]
				return s.wanted[string(id)] || s.above[string(id)]
			}
		}
	case 'a':
		return s.messageID != "" && bytes.HasPrefix(event, []byte("accepted ")) && bytes.Contains(event, []byte(" message-id="))
	}
	return false
}

// take keeps a line, and learns of other messages by it.
func (s *Story) take(l Line, p *Parser) {
	child, report := "", ""
	if l.Program == "queued" {
		switch l.Event {
		case "expanded":
			child = l.Get("child")
		case "bounced", "warned", "confirmed":
			report = l.Get("report")
		}
	}
	switch {
	case s.wanted[l.ID]:
		for _, id := range [...]string{child, report} {
			if id != "" && !s.wanted[id] && s.logs > 0 {
				s.missed = true // the log before may be a later one
			}
		}
		s.Want(child, l.ID, false)
		s.Want(report, l.ID, true)
	case child != "" && (s.wanted[child] || s.above[child]):
		s.parents[child] = l.ID
		s.rise(l.ID, p)
	case report != "" && (s.wanted[report] || s.above[report]):
		s.reports[report] = true
		s.rise(l.ID, p)
	case s.above[l.ID]:
		if child != "" || report != "" {
			return // what else came of it
		}
	case l.Program == "smtpd" && l.Event == "accepted" && s.IsMessageID(l.Get("message-id")):
		s.Ask(l.ID)
		s.earlier(l.ID, p)
	default:
		return
	}
	s.keep(l)
}

func (s *Story) keep(l Line) {
	if len(s.events) >= maxEvents {
		s.full = true
		return
	}
	s.events = append(s.events, l)
}

// rise adds a message of which one that is meant has come.
func (s *Story) rise(id string, p *Parser) {
	if !s.above[id] {
		s.above[id] = true
		s.earlier(id, p)
	}
}

// earlier takes the lines about a message that are remembered.
func (s *Story) earlier(id string, p *Parser) {
	s.missed = true
	for i := range s.recent {
		line := s.recent[(s.next+i)%len(s.recent)]
		if !bytes.Contains(line, []byte(id)) {
			continue
		}
		if l, ok := p.Parse(string(line)); ok && l.ID == id {
			s.take(l, p)
		}
	}
}

// File is a message that is in the queue.
type File struct {
	ID, Origin, About string // Origin and About as in its envelope; "" if they say nothing
	Next              time.Time
	Held, Corrupt     bool
	Rcpts             []Rcpt
	Notes             []Line // of its log, and its arrival; of the program "queue"
}

// Rcpt is a recipient in a File; State is '-', 'D', 'F' or 'X'.
type Rcpt struct {
	Addr, Target string
	State        byte
}

// Looked says that all messages of the queue that are meant were added: others are not there any more.
func (s *Story) Looked() { s.looked = true }

// Add adds a message that is in the queue and is meant.
func (s *Story) Add(f *File) {
	s.files[f.ID] = f
	if f.Origin != "" && f.Origin != f.ID && s.parents[f.ID] == "" && !s.wanted[f.Origin] {
		s.above[f.Origin] = true
		s.parents[f.ID] = f.Origin
	}
}

// Events are in the order of time; those without one stand behind what was in front of them.
func (s *Story) Events() []Line {
	rcpts := make(map[string]bool) // of what is wanted
	logged := make(map[string][]time.Time)
	for i := range s.events {
		l := &s.events[i]
		if l.Program == "queued" && s.wanted[l.ID] {
			rcpts[l.Get("rcpt")] = true
		}
		k := l.ID + " " + l.Event
		logged[k] = append(logged[k], l.Time)
	}
	var all []Line
	for _, l := range s.events {
		if rcpt := l.Get("rcpt"); s.above[l.ID] && !s.wanted[l.ID] && l.Event != "expanded" && rcpt != "" && !rcpts[rcpt] {
			continue // of its other recipients
		}
		all = append(all, l)
	}
	for _, f := range s.files {
		for _, l := range f.Notes {
			event := l.Event
			if event == "arrived" {
				event = "accepted"
			}
			if !slices.ContainsFunc(logged[l.ID+" "+event], func(t time.Time) bool { return t.Sub(l.Time).Abs() < 2*time.Minute }) {
				all = append(all, l)
			}
		}
	}
	var last time.Time
	at := make([]time.Time, len(all))
	for i := range all {
		if !all[i].Time.IsZero() {
			last = all[i].Time
		}
		at[i] = last
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return at[a].Compare(at[b]) })
	sorted := make([]Line, len(all))
	for i, k := range order {
		sorted[i] = all[k]
	}
	return sorted
}

// Has tells whether Add was told of a message.
func (s *Story) Has(id string) bool { return s.files[id] != nil }

// Searches tells whether messages are asked for by their Message-ID.
func (s *Story) Searches() bool { return s.messageID != "" }

// Asked are the ids that were asked for, in no order.
func (s *Story) Asked() []string { return slices.Collect(maps.Keys(s.asked)) }
