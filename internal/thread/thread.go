// Package thread puts messages into an order or into threads: SORT and THREAD (RFC 5256, with SORT=DISPLAY of RFC 5957). It is pure: what is to be known of each message goes
// in, one message after the other in the order of the mailbox, and nothing of it is kept but numbers, hashes, and folded texts; an order or a Tree comes out.
//
//	New, Threader    THREAD: ORDEREDSUBJECT, REFERENCES, REFS
//	Tree             its answer, which may be as deep as there are messages
//	NewSorter, Sorter    SORT, and a part of the order (RFC 9394 PARTIAL)
//
// What a sent date is that is absent, what a base subject, which references a message has, is for the caller to say: internal/message knows. Texts are compared as
// match.AppendFold folds them.
//
// # REFS
//
// REFS (draft-ietf-morg-inthread section 4) is REFERENCES without its step 5, the subjects, and with threads ordered by the INTERNALDATE of the message in each that has come last; siblings
// stand by sent date, as in REFERENCES. What was sent by whoever counts for the end of the list cannot be of the future then. Dovecot orders threads by sent
// dates there too.
//
// # What RFC 5256 leaves open
//
//   - Step 3 prunes from the bottom: a dummy is left alone with one child, and gives it up, also where its other children were dummies without any.
//   - ORDEREDSUBJECT puts all messages without a subject into one thread, as its text says.
//   - A message that is its own reference, or twice the same, has no link from that: it would be a loop.
//
// Message ids and subjects are known by hashes of 128 bits under a key of the moment: nobody who writes messages can make two of them one.
//
// Time is n log n, for sorting, whatever the messages are: a chain of all of them, loops, one subject. It holds about 150 octets for each message, and 60
// for each id that is in no message.
package thread

import (
	"slices"

	"postamt/internal/match"
)

// Algorithm is one of THREAD.
type Algorithm byte

// The algorithms.
const (
	OrderedSubject Algorithm = iota
	References
	Refs
)

// Parse knows an algorithm by its name, in upper case.
func Parse(name string) (Algorithm, bool) {
	switch name {
	case "ORDEREDSUBJECT":
		return OrderedSubject, true
	case "REFERENCES":
		return References, true
	case "REFS":
		return Refs, true
	}
	return 0, false
}

// Threader takes the messages of a THREAD command, in the order of their sequence numbers, and threads them. For each: Add, Reference for each of its references in
// their order, Subject. It is for one goroutine and one Tree.
type Threader struct {
	algorithm Algorithm
	ids       []uint32
	dates     []row   // sent, in the order of numbers, which begin with 1; in the end sorted
	arrived   []int64 // Refs
	subjects  []sum   // not Refs
	replies   []bool  // References
	hash      hasher
	text      []byte

	forest forest
	nodes  []uint32 // of the messages
	last   uint32   // reference of the message that was added last
}

// New makes a Threader for about n messages.
func New(a Algorithm, n int) *Threader {
	t := &Threader{algorithm: a, ids: make([]uint32, 1, n+1), dates: make([]row, 0, n), hash: newHasher()}
	if a != OrderedSubject {
		t.forest = newForest(n)
		t.nodes = make([]uint32, 1, n+1)
	}
	if a == Refs {
		t.arrived = make([]int64, 1, n+1)
	} else {
		t.subjects = make([]sum, 1, n+1)
		t.replies = make([]bool, 1, n+1)
	}
	return t
}

// Add begins the next message. The id, not 0, is what the Tree has; sent is the sent date in seconds, or when there is none the INTERNALDATE; arrived is the INTERNALDATE; messageID is without
// its angle brackets, empty when there is none.
func (t *Threader) Add(id uint32, sent, arrived int64, messageID []byte) {
	t.finish()
	n := uint32(len(t.ids))
	t.ids = append(t.ids, id)
	t.dates = append(t.dates, row{ordered(sent), n})
	if t.algorithm == Refs {
		t.arrived = append(t.arrived, arrived)
	} else {
		t.subjects = append(t.subjects, sum{})
		t.replies = append(t.replies, false)
	}
	if t.algorithm != OrderedSubject {
		t.nodes = append(t.nodes, t.forest.message(n, t.hash.sum(messageID), len(messageID) > 0))
	}
}

// Reference adds a message id to the references of the message.
func (t *Threader) Reference(messageID []byte) {
	if t.algorithm == OrderedSubject || len(messageID) == 0 {
		return
	}
	v := t.forest.find(t.hash.sum(messageID))
	// Step 1 A: If a message already has a parent, don't change the existing link.
	if t.last != 0 && t.forest.nodes[v].parent == 0 {
		t.forest.link(t.last, v)
	}
	t.last = v
}

// finish is step 1 B for the message that was added last.
func (t *Threader) finish() {
	if len(t.nodes) < 2 {
		return
	}
	v := t.nodes[len(t.nodes)-1]
	if has := t.forest.nodes[v].parent; has != t.last {
		if has != 0 {
			t.forest.cut(v)
		}
		if t.last != 0 {
			t.forest.link(t.last, v)
		}
	}
	t.last = 0
}

// Subject is the base subject of the message, decoded, and whether it is of a reply or a forward.
func (t *Threader) Subject(base []byte, reply bool) {
	if t.algorithm == Refs || len(base) == 0 {
		return
	}
	t.text = match.AppendFold(t.text[:0], base)
	n := len(t.subjects) - 1
	t.subjects[n], t.replies[n] = t.hash.sum(t.text), reply
}

// Tree threads them.
func (t *Threader) Tree() *Tree {
	t.finish()
	sortRows(t.dates, make([]row, len(t.dates))) // RFC 5256 section 2.2: with one date, in the order of the mailbox
	if t.algorithm == OrderedSubject {
		return t.orderedSubject()
	}
	r := t.roots()
	if t.algorithm == References {
		t.mergeSubjects(r)
	}
	b := newBuilder(len(t.ids) + len(r.dummies))
	copy(b.ids, t.ids)
	if t.algorithm == Refs {
		t.refs(b, r)
		return b.Tree
	}
	// Step 6. Whatever comes first in its place is the earliest there: siblings, and the first children of dummies.
	for _, d := range t.dates {
		p := r.parent[d.n]
		if r.isDummy(p) {
			dummy := r.dummy(p)
			if dummy.merged != 0 {
				p = dummy.merged
				dummy = r.dummy(p)
			}
			if !dummy.placed {
				dummy.placed = true
				b.add(0, p)
			}
		}
		b.add(p, d.n)
	}
	return b.Tree
}

func (t *Threader) orderedSubject() *Tree {
	b := newBuilder(len(t.ids))
	copy(b.ids, t.ids)
	subjects := newTable(len(t.ids))
	first := make([]uint32, 1, len(t.ids))
	for _, d := range t.dates {
		i, new := subjects.find(t.subjects[d.n])
		if new {
			first = append(first, d.n)
			b.add(0, d.n)
		} else {
			b.add(first[i], d.n)
		}
	}
	return b.Tree
}

// roots is what is below the root. Messages are numbers up to messages, dummies those above.
type roots struct {
	messages uint32
	parent   []uint32 // of each message: a message, a dummy, 0
	dummies  []dummy
	order    []uint32 // by date, messages and dummies
}

type dummy struct {
	first    uint32 // child
	children int
	merged   uint32 // into this dummy
	placed   bool
}

func (r *roots) isDummy(x uint32) bool { return x > r.messages }
func (r *roots) dummy(x uint32) *dummy { return &r.dummies[x-r.messages-1] }
func (r *roots) add(first uint32) uint32 { // a dummy
	r.dummies = append(r.dummies, dummy{first: first})
	return r.messages + uint32(len(r.dummies))
}

// roots is step 2 to 4: the parent of each message is the nearest above it that is one, or the dummy above all, if there are more below that.
func (t *Threader) roots() *roots {
	r := &roots{messages: uint32(len(t.ids) - 1), parent: make([]uint32, len(t.ids))}
	t.forest.settle()
	for _, d := range t.dates {
		v := t.nodes[d.n]
		if t.forest.nodes[v].parent == 0 {
			r.order = append(r.order, d.n)
			continue
		}
		a := &t.forest.nodes[t.forest.anchor(v)]
		if a.message != 0 {
			r.parent[d.n] = a.message
			continue
		}
		if a.dummy == 0 {
			a.dummy = r.add(d.n)
			r.order = append(r.order, a.dummy)
		}
		r.parent[d.n] = a.dummy
		r.dummy(a.dummy).children++
	}
	for i, x := range r.order {
		// Step 3: Do not promote the children if doing so would make them children of the root, unless there is only one child.
		if r.isDummy(x) && r.dummy(x).children == 1 {
			first := r.dummy(x).first
			r.order[i], r.parent[first] = first, 0
		}
	}
	return r
}

// mergeSubjects is step 5.
func (t *Threader) mergeSubjects(r *roots) {
	lead := func(x uint32) uint32 {
		if r.isDummy(x) {
			return r.dummy(x).first
		}
		return x
	}
	sums := newTable(len(r.order))
	table := make([]uint32, 1, len(r.order)+1)
	at := make([]uint32, len(r.order)) // where in the table the subject of each is
	for i, x := range r.order {
		subject := t.subjects[lead(x)]
		if subject == (sum{}) {
			continue
		}
		n, new := sums.find(subject)
		at[i] = n
		if new {
			table = append(table, x)
		} else if in := table[n]; !r.isDummy(in) && (r.isDummy(x) || t.replies[in] && !t.replies[x]) {
			table[n] = x
		}
	}
	for i, x := range r.order {
		in := table[at[i]]
		switch {
		case at[i] == 0 || in == x:
		case r.isDummy(x): // so is what is in the table
			r.dummy(x).merged = in
		case r.isDummy(in), t.replies[x] && !t.replies[in]:
			r.parent[x] = in
		default:
			d := r.add(in)
			r.parent[in], r.parent[x] = d, d
			table[at[i]] = d
		}
	}
}

// refs builds the Tree of Refs.
func (t *Threader) refs(b *builder, r *roots) {
	top := make([]uint32, len(t.ids)) // of each message
	latest := make([]row, len(b.ids))
	for n := uint32(1); n <= r.messages; n++ {
		x := n
		for !r.isDummy(x) && top[x] == 0 && r.parent[x] != 0 {
			x = r.parent[x]
		}
		if !r.isDummy(x) && top[x] != 0 {
			x = top[x]
		}
		for y := n; y != x && top[y] == 0; y = r.parent[y] {
			top[y] = x
		}
		if d := (row{ordered(t.arrived[n]), n}); latest[x].n == 0 || d.compare(latest[x]) > 0 {
			latest[x] = d
		}
	}
	for _, d := range t.dates {
		if p := r.parent[d.n]; p != 0 {
			b.add(p, d.n)
		}
	}
	slices.SortFunc(r.order, func(x, y uint32) int { return latest[x].compare(latest[y]) })
	for _, x := range r.order {
		b.add(0, x)
	}
}
