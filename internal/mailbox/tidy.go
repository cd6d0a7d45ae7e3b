package mailbox

import (
	"fmt"

	"postamt/internal/uidlist"
)

// spareLines of messages that are gone are no reason to write a list anew, and as many at its end stay: Dovecot gives a number first and shows the file then.
const spareLines = 100

// tidy drops the lines of messages that are gone when there are a third more lines than messages: a mailbox that is emptied every day would else keep the line of every
// message that was ever in it, and who opens it read them all. The list is locked and was read. What is no file in a reading during which nothing was renamed is
// gone; if others rename all the time it is left for another time.
func (b *Mailbox) tidy(tx *uidlist.Tx, messages int) error {
	if b.list.Entries()-b.spare <= messages+messages/3 {
		return nil
	}
	before, err := b.look()
	if err != nil || !before.quiet(b.local) {
		return err
	}
	files, err := b.files()
	if err != nil {
		return err
	}
	after, err := b.look()
	if err != nil || before.cur.modified != after.cur.modified || before.new.modified != after.new.modified {
		return err
	}
	there := newBases(len(files), func(i int, base string) bool { return baseOf(files[i].name) == base })
	for i, f := range files {
		if base := baseOf(f.name); base != "" && there.find(base) < 0 {
			there.add(base, i)
		}
	}
	next := b.list.Header().Next
	err = tx.Rewrite(func(e *uidlist.Entry) bool {
		return there.find(e.Name) >= 0 || uint64(e.UID)+uint64(b.spare) >= uint64(next)
	})
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	return nil
}
