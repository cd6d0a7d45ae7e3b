package mailbox

import (
	"context"
	"errors"

	"postamt/internal/maildir"
)

// Replace publishes a message in a mailbox, which may be this one, and removes an old one from this one; it returns the new one's UID. The quota has to have room for
// what the new one is larger. ErrValidity: as for Copy.
//
//	step                        after a crash
//	Stage and Publish, as there the old one, and when it is on disk the new one
//	Expunge                     both, or the new one alone
//
// So one of them always is there. When the old one cannot be removed the new one is taken away again, after an error as opposed to a crash. An old one
// that is gone already is ErrExpunged; of two who replace it at once, both may succeed, and both new ones are there.
func (b *Mailbox) Replace(ctx context.Context, validity, uid uint32, to *Mailbox, s *Staged) (new uint32, err error) {
	if _, ok := b.Message(uid); !ok {
		to.Discard(s)
		return 0, ErrExpunged
	}
	octets, messages := b.freed(uid, to)
	there, _, _, _ := to.Status() // before: if it is another one later, the new UID may not be removed by it
	uids, err := to.publishInstead(ctx, octets, messages, s)
	if err != nil {
		return 0, err
	}
	stayed, err := b.Expunge(validity, []uint32{uid})
	if len(stayed) > 0 {
		_, terr := to.Expunge(there, uids)
		return 0, errors.Join(err, terr)
	}
	return uids[0], err
}

// RoomInstead is Room in another mailbox for a message that replaces one of this.
func (b *Mailbox) RoomInstead(uid uint32, to *Mailbox, octets int64) error {
	freed, messages := b.freed(uid, to)
	_, err := to.room(octets-freed, 1-messages)
	return err
}

// freed is what the usage of another mailbox will be less when a message is removed from this one.
func (b *Mailbox) freed(uid uint32, to *Mailbox) (octets, messages int64) {
	if b.root.Name() != to.root.Name() || !maildir.Counted(b.folder) {
		return 0, 0
	}
	return b.octets([]uint32{uid})
}
