package thread

import "hash/maphash"

// sum is what is known of a text: its hash. Zero stands for no text.
type sum struct{ a, b uint64 }

type hasher struct{ a, b maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

func (h *hasher) sum(text []byte) sum { return sum{maphash.Bytes(h.a, text), maphash.Bytes(h.b, text)} }

// table numbers sums, from 1. It is an open addressing hash.
type table struct {
	sums  []sum
	slots []slot
	used  int
}

// slot has a part of the hash, so that a sum that is another is mostly not looked at; n is 0 where nothing is.
type slot struct{ tag, n uint32 }

func newTable(n int) table {
	size := 64
	for size < 2*n {
		size *= 2
	}
	return table{sums: make([]sum, 1, n+1), slots: make([]slot, size)}
}

// find returns the number of a sum, which may be a new one.
func (t *table) find(s sum) (n uint32, new bool) {
	if 2*t.used >= len(t.slots) {
		t.grow()
	}
	tag, mask := uint32(s.b), uint32(len(t.slots)-1)
	for i := uint32(s.a) & mask; ; i = (i + 1) & mask {
		at := &t.slots[i]
		if at.n == 0 {
			*at = slot{tag, t.add(s)}
			t.used++
			return at.n, true
		}
		if at.tag == tag && t.sums[at.n] == s {
			return at.n, false
		}
	}
}

// add numbers a sum that will not be found.
func (t *table) add(s sum) uint32 {
	t.sums = append(t.sums, s)
	return uint32(len(t.sums) - 1)
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, 2*len(old))
	mask := uint32(len(t.slots) - 1)
	for _, s := range old {
		if s.n != 0 {
			i := uint32(t.sums[s.n].a) & mask
			for t.slots[i].n != 0 {
				i = (i + 1) & mask
			}
			t.slots[i] = s
		}
	}
}

// forest is step 1 of REFERENCES: messages and dummies, by the numbers of their ids, and links between them that make no loop.
//
// Is A a descendant of B? Going up from A takes as many steps as A is deep: a chain, and 100,000 messages with references to its end, would take minutes. So beside the links there is
// a link-cut tree (Sleator and Tarjan), which says what is at the top in logarithmic time. Real mail hardly ever asks it: what has no children
// is above nothing, and what has no parent is below nothing.
type forest struct {
	table
	nodes []node
}

type node struct {
	parent   uint32
	message  uint32 // 0: a dummy
	children bool   // there are or were some

	// The link-cut tree: a path of the forest is a splay tree by depth, and up is, at its root, the parent of the uppermost in the path. In the end, of dummies:
	// what anchor has found, and the number in roots.
	up          uint32
	left, right uint32
	dummy       uint32
}

func newForest(n int) forest {
	return forest{table: newTable(n + n/2), nodes: make([]node, 1, n+n/2+1)}
}

// find returns the node of an id.
func (f *forest) find(id sum) uint32 {
	v, new := f.table.find(id)
	if new {
		f.nodes = append(f.nodes, node{})
	}
	return v
}

// message returns the node for a message, with an id or without one.
func (f *forest) message(n uint32, id sum, has bool) uint32 {
	v := uint32(0)
	if has {
		v = f.find(id)
	}
	// If two or more messages have the same Message ID, then only use that Message ID in the first.
	if v == 0 || f.nodes[v].message != 0 {
		v = f.add(sum{})
		f.nodes = append(f.nodes, node{})
	}
	f.nodes[v].message = n
	return v
}

// link makes p the parent of v, which has none, unless that would be a loop.
func (f *forest) link(p, v uint32) {
	n := &f.nodes[v]
	if p == v || n.children && f.nodes[p].parent != 0 && f.top(p) == v {
		return
	}
	f.access(v)
	n.parent, n.up = p, p
	f.nodes[p].children = true
}

// cut takes v from its parent.
func (f *forest) cut(v uint32) {
	f.access(v)
	n := &f.nodes[v]
	f.nodes[n.left].up = 0
	n.left, n.parent = 0, 0
}

// top is what has no parent above v.
func (f *forest) top(v uint32) uint32 {
	f.access(v)
	for f.nodes[v].left != 0 {
		v = f.nodes[v].left
	}
	f.splay(v)
	return v
}

// access makes what is above v one path, and v the root of its splay tree.
func (f *forest) access(v uint32) {
	below := uint32(0)
	for x := v; x != 0; x = f.nodes[x].up {
		f.splay(x)
		f.nodes[x].right = below
		below = x
	}
	f.splay(v)
}

// inner reports whether x is not the root of its splay tree.
func (f *forest) inner(x uint32) bool {
	up := &f.nodes[f.nodes[x].up]
	return f.nodes[x].up != 0 && (up.left == x || up.right == x)
}

func (f *forest) splay(x uint32) {
	for f.inner(x) {
		p := f.nodes[x].up
		if f.inner(p) {
			g := f.nodes[p].up
			if (f.nodes[g].left == p) == (f.nodes[p].left == x) {
				f.rotate(p)
			} else {
				f.rotate(x)
			}
		}
		f.rotate(x)
	}
}

// rotate puts x above what it is below in its splay tree.
func (f *forest) rotate(x uint32) {
	p := f.nodes[x].up
	g := f.nodes[p].up
	if f.inner(p) {
		if f.nodes[g].left == p {
			f.nodes[g].left = x
		} else {
			f.nodes[g].right = x
		}
	}
	moved := uint32(0)
	if f.nodes[p].left == x {
		moved = f.nodes[x].right
		f.nodes[p].left, f.nodes[x].right = moved, p
	} else {
		moved = f.nodes[x].left
		f.nodes[p].right, f.nodes[x].left = moved, p
	}
	if moved != 0 {
		f.nodes[moved].up = p
	}
	f.nodes[p].up, f.nodes[x].up = x, g
}

// settle ends step 1: there will be no link and no cut.
func (f *forest) settle() {
	for i := range f.nodes {
		f.nodes[i].up = 0
	}
}

// anchor is the nearest node above v that is a message, or else the dummy above all. V has a parent. What was gone through once is not again.
func (f *forest) anchor(v uint32) uint32 {
	from := f.nodes[v].parent
	at := from
	for n := &f.nodes[at]; n.message == 0 && n.parent != 0 && n.up == 0; n = &f.nodes[at] {
		at = n.parent
	}
	found := at
	if f.nodes[at].message == 0 && f.nodes[at].up != 0 {
		found = f.nodes[at].up
	}
	for x := from; x != at; x = f.nodes[x].parent {
		f.nodes[x].up = found
	}
	return found
}
