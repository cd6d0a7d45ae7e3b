package mailbox

// change applies a change and appends it to frames.
func (x *index) change(frames []byte, kind byte, m message, name string) []byte {
	x.put(m, name)
	m.setName(0, len(name))
	return x.frame(frames, kind, append(m.append(nil), name...))
}

// learn replaces what is known of a message but for its name and flags.
func (x *index) learn(frames []byte, m message) []byte {
	if i, ok := x.find(m.uid); ok {
		k := &x.messages[i]
		k.size, k.wire, k.date, k.facts = m.size, m.wire, m.date, m.facts
	}
	return x.frame(frames, 'L', m.appendLearnt(nil))
}
