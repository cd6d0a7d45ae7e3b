package queue

import "golang.org/x/sys/unix"

// Gone tells that the message has no name any more: somebody deleted its file.
func (m *Message) Gone() bool {
	var st unix.Stat_t
	return fstat(m.f, &st) == nil && st.Nlink == 0
}

// ForgetLog removes the log of a message that is gone, and leaves that of any
// other alone. Who deletes a message by hand leaves it behind.
func (q *Queue) ForgetLog(id ID) error {
	if !validID(string(id)) || !q.nowhere(id) {
		return nil
	}
	return q.removeLog(id)
}
