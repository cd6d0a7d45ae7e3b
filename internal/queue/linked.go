package queue

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// linked are files of active that have more than one name.
//
// On a file system without a journal a crash can bring back the name of a message
// that was removed, while its inode is another message's by now: the check of the
// file system then makes it a second name of that one. To set both aside would
// lose a message that somebody was told 250 for. What is in the file says which
// of the names is right; the others are removed, when all have been seen. Until
// then an attempt at such a message has to wait: see unread.
type linked struct {
	names []linkedName
}

type linkedName struct {
	shard, name string
	dir         unix.Stat_t
}

// postpone takes a name that entry would find to be one of several.
func (l *linked) postpone(q *Queue, shard, name string, dir *unix.Stat_t) bool {
	const many = 100_000 // beyond that, somebody plays with us
	var st unix.Stat_t
	if !validID(name) || len(l.names) >= many || q.lstat(shard+"/"+name, &st) != nil ||
		st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink < 2 {
		return false
	}
	l.names = append(l.names, linkedName{shard, name, *dir})
	return true
}

// settle removes the names that came back, and tells f of what is left.
func (l *linked) settle(q *Queue, f func(Entry) bool) bool {
	for _, n := range l.names {
		q.dropStaleName(n.shard+"/"+n.name, ID(n.name))
	}
	for _, n := range l.names {
		if e, ok := q.entry(n.shard, n.name, &n.dir); ok && !f(e) {
			return false
		}
	}
	return true
}

// dropStaleName removes path if the file is a message with another id than its
// name, and has the right name too. The message loses nothing by it.
func (q *Queue) dropStaleName(path string, id ID) {
	f, err := q.open(path, unix.O_RDONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	var st, right unix.Stat_t
	if fstat(f, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	head := make([]byte, 256)
	n, _ := f.ReadAt(head, 0)
	of, ok := idOf(head[:n])
	if !ok || of == id || q.lstat(of.path(), &right) != nil || right.Dev != st.Dev || right.Ino != st.Ino {
		return
	}
	if err := q.ops.Unlink(q.dir, path); err != nil {
		q.tell(path, "a second name of "+string(of)+", and it cannot be removed: "+err.Error())
		return
	}
	q.shards[id.shard()].dirty.Store(true)
	if q.opt.Foreign != nil {
		q.opt.Foreign(path, "it was a second name of "+string(of)+", and is removed")
	}
}

// idOf finds the id in the first bytes of a message file.
func idOf(head []byte) (ID, bool) {
	first, rest, _ := bytes.Cut(head, []byte{'\n'})
	line, _, ended := bytes.Cut(rest, []byte{'\n'})
	id, ok := bytes.CutPrefix(line, []byte("id "))
	id, _, _ = bytes.Cut(id, []byte{' '}) // a child's origin follows
	if !ended || !ok || !bytes.HasPrefix(first, []byte(magic)) || !validID(string(id)) {
		return "", false
	}
	return ID(id), true
}

// unread tells that this is the queue's owner, who has not seen all of it yet.
func (q *Queue) unread() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lock != nil && !q.swept
}
