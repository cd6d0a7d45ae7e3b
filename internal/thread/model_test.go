package thread

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// message is what THREAD knows of one.
type message struct {
	id            uint32
	sent, arrived int64
	messageID     string
	references    []string
	base          string
	reply         bool
}

func threader(a Algorithm, all []message) *Threader {
	t := New(a, len(all))
	for _, m := range all {
		t.Add(m.id, m.sent, m.arrived, []byte(m.messageID))
		for _, r := range m.references {
			t.Reference([]byte(r))
		}
		t.Subject([]byte(m.base), m.reply)
	}
	return t
}

func threads(a Algorithm, all []message) string {
	return string(threader(a, all).Tree().AppendList(nil, itself))
}

// node is the model's: with pointers, and as slow as the words of RFC 5256.
type modelNode struct {
	m        *message // nil: a dummy
	n        int      // its number
	parent   *modelNode
	children []*modelNode
}

func (v *modelNode) under(p *modelNode) bool {
	for ; v != nil; v = v.parent {
		if v == p {
			return true
		}
	}
	return false
}

func (v *modelNode) link(p *modelNode) {
	if !p.under(v) {
		v.parent = p
		p.children = append(p.children, v)
	}
}

func (v *modelNode) cut() {
	p := v.parent
	p.children = slices.DeleteFunc(p.children, func(c *modelNode) bool { return c == v })
	v.parent = nil
}

// lead is the message itself, or the first child of a dummy.
func (v *modelNode) lead() *modelNode {
	if v.m == nil {
		return v.children[0]
	}
	return v
}

func byDate(a, b *modelNode) int {
	a, b = a.lead(), b.lead()
	if a.m.sent != b.m.sent {
		if a.m.sent < b.m.sent {
			return -1
		}
		return 1
	}
	return a.n - b.n
}

// model is THREAD.
func model(a Algorithm, all []message) string {
	if a == OrderedSubject {
		return modelOrderedSubject(all)
	}
	// (1)
	ids := make(map[string]*modelNode)
	var nodes []*modelNode
	own := make([]*modelNode, len(all))
	dummy := func(id string) *modelNode {
		if ids[id] == nil {
			ids[id] = &modelNode{}
			nodes = append(nodes, ids[id])
		}
		return ids[id]
	}
	for i := range all {
		m := &all[i]
		id := m.messageID
		if id == "" || slices.ContainsFunc(all[:i], func(o message) bool { return o.messageID == id }) {
			id = fmt.Sprint("unique ", i)
		}
		own[i] = dummy(id)
		own[i].m, own[i].n = m, i
		var last *modelNode
		for _, r := range m.references {
			v := dummy(r)
			if last != nil && v.parent == nil {
				v.link(last)
			}
			last = v
		}
		if own[i].parent != nil {
			own[i].cut()
		}
		if last != nil {
			own[i].link(last)
		}
	}
	// (2)
	root := &modelNode{}
	for _, v := range nodes {
		if v.parent == nil {
			root.children = append(root.children, v)
		}
	}
	// (3)
	var prune func(v *modelNode)
	prune = func(v *modelNode) {
		var left []*modelNode
		for _, c := range v.children {
			prune(c)
			switch {
			case c.m != nil:
				left = append(left, c)
			case len(c.children) == 0:
			case v == root && len(c.children) > 1:
				left = append(left, c)
			default:
				left = append(left, c.children...)
			}
		}
		v.children = left
	}
	prune(root)
	// (4) and (6): sorting all sets at any time does no harm.
	var sort func(v *modelNode)
	sort = func(v *modelNode) {
		for _, c := range v.children {
			sort(c)
		}
		slices.SortFunc(v.children, byDate)
	}
	sort(root)
	if a == References {
		modelSubjects(root)
		sort(root)
	} else {
		var latest func(v *modelNode) *modelNode
		latest = func(v *modelNode) (last *modelNode) {
			if v.m != nil {
				last = v
			}
			for _, c := range v.children {
				if l := latest(c); last == nil || l.m.arrived > last.m.arrived || l.m.arrived == last.m.arrived && l.n > last.n {
					last = l
				}
			}
			return last
		}
		slices.SortFunc(root.children, func(v, w *modelNode) int {
			a, b := latest(v), latest(w)
			if a.m.arrived != b.m.arrived {
				if a.m.arrived < b.m.arrived {
					return -1
				}
				return 1
			}
			return a.n - b.n
		})
	}
	return list(root.children)
}

// modelSubjects is step (5).
func modelSubjects(root *modelNode) {
	subject := func(v *modelNode) string { return strings.ToUpper(norm.NFKD.String(v.lead().m.base)) }
	table := make(map[string]*modelNode)
	for _, v := range root.children {
		s := subject(v)
		if s == "" {
			continue
		}
		in := table[s]
		if in == nil || in.m != nil && (v.m == nil || in.m.reply && !v.m.reply) {
			table[s] = v
		}
	}
	remove := func(v *modelNode) {
		root.children = slices.DeleteFunc(root.children, func(c *modelNode) bool { return c == v })
	}
	for _, v := range slices.Clone(root.children) {
		s := subject(v)
		if s == "" {
			continue
		}
		in := table[s]
		switch {
		case in == v:
		case v.m == nil && in.m == nil:
			in.children = append(in.children, v.children...)
			remove(v)
		case in.m == nil, v.m != nil && v.m.reply && !in.m.reply:
			in.children = append(in.children, v)
			remove(v)
		default:
			remove(v)
			remove(in)
			table[s] = &modelNode{children: []*modelNode{in, v}}
			root.children = append(root.children, table[s])
		}
	}
}

func modelOrderedSubject(all []message) string {
	var nodes []*modelNode
	for i := range all {
		nodes = append(nodes, &modelNode{m: &all[i], n: i})
	}
	slices.SortFunc(nodes, byDate)
	var roots []*modelNode
	for _, v := range nodes {
		i := slices.IndexFunc(roots, func(r *modelNode) bool {
			return strings.ToUpper(norm.NFKD.String(r.m.base)) == strings.ToUpper(norm.NFKD.String(v.m.base))
		})
		if i < 0 {
			roots = append(roots, v)
		} else {
			roots[i].children = append(roots[i].children, v)
		}
	}
	return list(roots)
}

// list writes thread-lists.
func list(nodes []*modelNode) string {
	s := ""
	for _, v := range nodes {
		s += "(" + strings.TrimSpace(members(v)) + ")"
	}
	return s
}

func members(v *modelNode) string {
	s := ""
	if v.m != nil {
		s = fmt.Sprint(" ", v.m.id)
	}
	switch len(v.children) {
	case 0:
		return s
	case 1:
		return s + members(v.children[0])
	}
	return s + " " + list(v.children)
}

func itself(id uint32) uint32 { return id }
