package thread

import "strconv"

// Tree is what THREAD answers: threads, which are trees of messages. It may be deeper than a stack: nothing here recurs.
type Tree struct {
	ids         []uint32 // by node; 0: a dummy. Node 0 is above all threads.
	child, next []uint32 // nodes; 0: there is none
}

// Token is an element of the form that RFC 5256 section 5 gives a tree: thread-list.
type Token byte

const (
	Open   Token = iota // "("
	Number              // of a message
	Close               // ")"
)

// Walk calls f for each token, in their order. The id is 0 where it is no Number. A Number that follows a Number is its child; an Open that follows one begins
// the first of its children, of which there are two at least; an Open that follows an Open is the first of those whose parent is not there.
func (t *Tree) Walk(f func(token Token, id uint32)) {
	var open []uint32 // what comes behind each list that has lists in it
	for n := t.child[0]; n != 0 || len(open) > 0; {
		if n == 0 {
			f(Close, 0)
			n, open = open[len(open)-1], open[:len(open)-1]
			continue
		}
		f(Open, 0)
		behind := t.next[n]
		for {
			if t.ids[n] != 0 {
				f(Number, t.ids[n])
			}
			n = t.child[n]
			if n == 0 || t.next[n] != 0 {
				break
			}
		}
		if n == 0 {
			f(Close, 0)
			n = behind
		} else {
			open = append(open, behind)
		}
	}
}

// AppendList appends all threads as THREAD answers them, without "THREAD" and the space behind it: "(2)(3 6 (4 23)(44 7 96))". Number is what a message is called.
func (t *Tree) AppendList(dst []byte, number func(id uint32) uint32) []byte {
	last := Open
	t.Walk(func(token Token, id uint32) {
		if last == Number && token != Close {
			dst = append(dst, ' ')
		}
		switch last = token; token {
		case Open:
			dst = append(dst, '(')
		case Number:
			dst = strconv.AppendUint(dst, uint64(number(id)), 10)
		case Close:
			dst = append(dst, ')')
		}
	})
	return dst
}

// builder makes a Tree of children that are added in the order in which they are to stand.
type builder struct {
	*Tree
	last []uint32 // child
}

func newBuilder(nodes int) *builder {
	return &builder{&Tree{make([]uint32, nodes), make([]uint32, nodes), make([]uint32, nodes)}, make([]uint32, nodes)}
}

func (b *builder) add(parent, n uint32) {
	if b.last[parent] == 0 {
		b.child[parent] = n
	} else {
		b.next[b.last[parent]] = n
	}
	b.last[parent] = n
}
