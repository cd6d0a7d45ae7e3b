package mailbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// editing is a command that changes messages, with the mailbox and its index locked. What it knows may be older than what others did since:
// each step names the file that it was meant for, and fails when that has another name now. Then all is read anew and the step taken again.
type editing struct {
	*syncing
	validity uint32             // that the UIDs are of; 0: whatever there is
	touched  []*os.File         // directories to sync
	buried   bool               // tombstones are there
	twice    map[string][]twins // by their bases; nil: not looked for yet
	ahead    ahead
}

// ahead are names that were read in advance: a command on many messages asks for one after the other, as they lie in the index.
type ahead struct {
	of   *index
	from int64 // of text, in the names of the index
	text []byte
	next int64 // behind the name that was asked for last
}

const aheadOctets = 16 << 10

// name is names.get of x.
func (a *ahead) name(x *index, m *message) (string, error) {
	stored := &x.names
	if a.of != x {
		*a = ahead{of: x}
	}
	at, end := m.nameAt(), m.nameAt()+int64(m.nameLength())
	if at >= laterAt {
		return stored.get(m)
	}
	if at < a.from || end > a.from+int64(len(a.text)) {
		if at != a.next || end > stored.length {
			a.next = end
			return stored.get(m)
		}
		b := make([]byte, min(aheadOctets, stored.length-at))
		if _, err := stored.file.ReadAt(b, stored.start+at); err != nil {
			return "", err
		}
		a.from, a.text = at, b
	}
	a.next = end
	name := string(a.text[at-a.from : end-a.from])
	if !isName(name) {
		return "", errNotNames
	}
	return name, nil
}

func (e *editing) name(m *message) (string, error) { return e.ahead.name(e.x, m) }

// maxTries is how often one message may be renamed under us by others before we call it an error.
const maxTries = 20

// begin locks the index; the mailbox is locked.
func (b *Mailbox) begin() (*editing, func(), error) {
	unlock, err := b.index.lock()
	if err != nil {
		return nil, nil, err
	}
	if b.index.back || !b.index.good || b.index.x.validity == 0 {
		if err := b.syncLocked(false); err != nil {
			unlock()
			return nil, nil, err
		}
	}
	e := &editing{syncing: &syncing{b: b}}
	e.use()
	return e, unlock, nil
}

func (e *editing) use() {
	e.x = e.b.index.x
	e.modseq = max(e.x.highest+1, uint64(time.Now().UnixMicro()))
}

// edit runs one command on UIDs of a UIDVALIDITY, 0: of whatever it is.
func (b *Mailbox) edit(validity uint32, f func(*editing) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, unlock, err := b.begin()
	if err != nil {
		return err
	}
	defer unlock()
	e.validity = validity
	if err = e.valid(); err == nil {
		err = f(e)
	}
	return errors.Join(err, e.finish())
}

// fresh takes note of what others have done so far.
func (e *editing) fresh() error {
	if err := e.b.syncLocked(false); err != nil {
		return err
	}
	e.use()
	return nil
}

// again reads the directories, whatever their times say. What was changed so far is written first: others would read it in the wrong order.
func (e *editing) again() error {
	e.flush()
	if err := e.b.syncLocked(true); err != nil {
		return err
	}
	e.use()
	return nil
}

func (e *editing) flush() {
	e.x.compact()
	if len(e.frames) > 0 || !e.b.index.good {
		if err := e.b.index.write(e.b.ops, e.frames); err != nil {
			e.b.report(err)
		}
		e.b.news()
	}
	e.frames = nil
}

func (e *editing) touch(dirs ...*os.File) {
	for _, d := range dirs {
		if !slices.Contains(e.touched, d) {
			e.touched = append(e.touched, d)
		}
	}
}

// sync makes permanent what was done to the directories.
func (e *editing) sync() (err error) {
	for _, d := range e.touched {
		if serr := e.b.ops.SyncDir(d); serr != nil {
			err = errors.Join(err, fmt.Errorf("mailbox: %w", serr))
		}
	}
	e.touched = nil
	return err
}

// finish ends a command. That the index cannot be written is no error of it.
func (e *editing) finish() error {
	err := e.sync()
	e.flush()
	return err
}

// valid: the UIDs of the command mean what they meant.
func (e *editing) valid() error {
	if e.validity != 0 && e.validity != e.x.validity {
		return fmt.Errorf("mailbox: %w", ErrValidity)
	}
	return nil
}

// step does something to the file of a message, by its present name. ErrExpunged: there is none. do is called again after it found no file.
func (e *editing) step(uid uint32, do func(m message, dir *os.File, name string) error) error {
	for try := 0; ; try++ {
		if err := e.valid(); err != nil {
			return err
		}
		i, ok := e.x.find(uid)
		if !ok || e.x.messages[i].dead() {
			return ErrExpunged
		}
		m := e.x.messages[i]
		name, err := e.name(&m)
		if err == nil {
			if err = do(m, e.b.place(&m), name); err == nil {
				return nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if try == maxTries {
			return fmt.Errorf("mailbox: message %d: others rename it all the time: %w", uid, err)
		}
		if err := e.again(); err != nil {
			return err
		}
	}
}
