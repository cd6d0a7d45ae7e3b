package mailbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// tabulate visits messages and makes a new file, of all messages of which there are facts.
func (t *tabling) tabulate(uids []uint32) error {
	b := t.b
	b.mu.Lock()
	x := b.index.x
	w := b.columnsWriter(x)
	all := make([]uint32, 0, len(x.messages))
	next := 0
	for i := range x.messages {
		m := &x.messages[i]
		for next < len(uids) && uids[next] < m.uid {
			next++
		}
		if m.facts != 0 || next < len(uids) && uids[next] == m.uid {
			all = append(all, m.uid)
		}
	}
	b.mu.Unlock()
	if w == nil {
		return t.visit(nil, uids)
	}
	defer w.end()
	err := b.Facts(t.ctx, t.validity, all, func(uid uint32, facts []byte) error {
		t.make(facts, 1<<b.columns-1)
		if w.add(uid, t.values); len(w.uids) == blockRows || w.octets >= blockOctets {
			w.block(t)
		}
		for len(uids) > 0 && uids[0] < uid {
			uids = uids[1:]
		}
		if len(uids) > 0 && uids[0] == uid {
			t.ended = t.each(uid, t.values)
		}
		return t.ended
	})
	if err = t.failed(err); err == nil {
		w.block(t)
		w.publish()
	}
	return err
}

// columnsWriter makes a file.
type columnsWriter struct {
	b          *Mailbox
	f          *os.File
	err        error
	generation uint64
	uids       []uint32
	long       []bool
	octets     int // of text
	lengths    [maxColumns][]byte
	text       [maxColumns][]byte
	out        []byte
}

// columnsWriter begins one, which the mailbox has taken for made from then on; nil: another is at it, or it cannot be written. The mailbox is locked.
func (b *Mailbox) columnsWriter(x *index) *columnsWriter {
	dir := b.index.dir
	b.tabled.stale = false
	fd, err := unix.Openat(int(dir.Fd()), columnsTemp, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		b.columnsFail(&os.PathError{Op: "open", Path: dir.Name() + "/" + columnsTemp, Err: err})
		return nil
	}
	w := &columnsWriter{b: b, f: os.NewFile(uintptr(fd), dir.Name()+"/"+columnsTemp), generation: x.cache}
	// Who has it locked is at it. Of one that died the file is taken over, if it still has the name then.
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || !sameName(w.f, dir, columnsTemp) || unix.Ftruncate(fd, 0) != nil {
		w.f.Close()
		return nil
	}
	if w.err = b.ops.AdoptShared(w.f, dir); w.err == nil {
		w.err = b.ops.Write(w.f, columnsHead(x.cache, x.validity, b.form, b.columns))
	}
	return w
}

// columnsFail has no other file be made while the mailbox is open: the first error is reported, but for that of who may only read.
func (b *Mailbox) columnsFail(err error) {
	b.tabled.failed = true
	if !errors.Is(err, fs.ErrPermission) {
		b.report(fmt.Errorf("mailbox: %w", err))
	}
}

// add adds a row, without values if one is too long, and nothing after something could not be written.
func (w *columnsWriter) add(uid uint32, values [][]byte) {
	if w.err != nil {
		return
	}
	long := slices.ContainsFunc(values, func(v []byte) bool { return len(v) > maxValue })
	w.uids, w.long = append(w.uids, uid), append(w.long, long)
	for k, v := range values {
		if long {
			v = nil
		}
		w.lengths[k] = binary.LittleEndian.AppendUint16(w.lengths[k], uint16(len(v)))
		w.text[k] = append(w.text[k], v...)
		w.octets += len(v)
	}
}

// block writes the rows that were added.
func (w *columnsWriter) block(t *tabling) {
	if len(w.uids) == 0 || w.err != nil {
		return
	}
	t.find(nil, w.uids)
	columns := w.b.columns
	w.out = binary.LittleEndian.AppendUint32(append(w.out[:0], 0, 0, 0, 0), uint32(len(w.uids)))
	w.out = binary.LittleEndian.AppendUint32(w.out, w.uids[0])
	w.out = binary.LittleEndian.AppendUint32(w.out, w.uids[len(w.uids)-1])
	for k := range columns {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(len(w.lengths[k])+len(w.text[k])))
		w.out = binary.LittleEndian.AppendUint32(w.out, crc32.Update(crc32.Checksum(w.lengths[k], castagnoli()), castagnoli(), w.text[k]))
	}
	for i, uid := range w.uids {
		place := t.places[i]
		if w.long[i] || place == 0 || place == gone { // no place, so that nobody takes it for another's
			place = noPlace
		}
		w.out = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(w.out, uid), place)
	}
	binary.LittleEndian.PutUint32(w.out, crc32.Checksum(w.out[4:], castagnoli()))
	for k := range columns {
		w.out = append(append(w.out, w.lengths[k]...), w.text[k]...)
		w.lengths[k], w.text[k] = w.lengths[k][:0], w.text[k][:0]
	}
	w.uids, w.long, w.octets = w.uids[:0], w.long[:0], 0
	w.err = w.b.ops.Write(w.f, w.out)
}

// publish gives the file its name, if it is still of the cache that there is.
func (w *columnsWriter) publish() {
	b := w.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.index.x.cache != w.generation {
		return
	}
	if w.err == nil {
		w.err = b.ops.Rename(b.index.dir, columnsTemp, b.index.dir, columnsName)
	}
	if w.err != nil {
		b.columnsFail(w.err)
	}
	b.tabled.close()
}

// end removes what has not got its name.
func (w *columnsWriter) end() {
	if sameName(w.f, w.b.index.dir, columnsTemp) {
		w.b.ops.Unlink(w.b.index.dir, columnsTemp)
	}
	w.f.Close()
}
