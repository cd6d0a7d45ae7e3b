package mailbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"postamt/internal/uidlist"
)

// takeKeywords takes over the keywords that Courier has left in the folder. It is for one without a list of UIDs and without names of keywords, whose lock
// is held; the list is made after it. True: files have other names now.
//
//	step                                         after a crash
//	1 rename files to the letters they shall have  no list yet, so this is done again, and letters without a name mean nothing
//	2 sync cur/ (and new/)                         the same
//	3 write the names of the letters               all
func (b *Mailbox) takeKeywords(tx *uidlist.Tx) (renamed bool, err error) {
	if names, err := b.list.Keywords(); err != nil || names != (uidlist.Keywords{}) {
		return false, err
	}
	names, letters, ok, err := uidlist.CourierKeywords(b.dir)
	if err != nil || !ok {
		return false, err
	}
	touched := make(map[*os.File]bool)
	for try, missed := 0, true; missed; try++ {
		if try > maxTries {
			return renamed, errors.New("keywords of Courier: others rename the messages all the time")
		}
		missed = false
		files, err := b.files()
		if err != nil {
			return renamed, err
		}
		for _, file := range files {
			base, f, old := parseName(file.name)
			_, _, k := parseName(base + ":2," + letters[base])
			if k == old {
				continue
			}
			dir := b.cur
			if file.new {
				dir = b.new
			}
			err := b.moveName(dir, file.name, rename(file.name, f, k))
			if errors.Is(err, fs.ErrNotExist) {
				missed = true
				continue
			}
			if err != nil {
				return renamed, fmt.Errorf("keywords of Courier: %w", err)
			}
			renamed, touched[dir], touched[b.cur] = true, true, true
		}
	}
	for dir := range touched {
		if err := b.ops.SyncDir(dir); err != nil {
			return renamed, err
		}
	}
	return renamed, tx.SetKeywords(names)
}
