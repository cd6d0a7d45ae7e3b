package imapd

import (
	"errors"
	"slices"

	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// view is a mailbox as its client knows it: what he was told and nothing else. The message with the sequence number n is uids[n-1].
//
// What others do shows when news is told, which is only where RFC 9051 section 7.5.1 lets sequence numbers change; until then messages that are gone keep
// their numbers and have no data.
type view struct {
	box      *mailbox.Mailbox
	name     string
	readOnly bool
	rights   maildir.Rights // when it was selected (RFC 4314 section 5.1.1)
	validity uint32
	uids     []uint32          // shared with other sessions: to be appended to, but never changed
	gone     []uint32          // of uids, ascending: removed, and not told yet
	modseq   uint64            // all that happened up to it is in uids and gone, and was told or is in own
	agreed   uint64            // while some are gone: all that happened up to it was told
	own      map[uint32]uint64 // mod-sequences that were told already, of changes that this session has made
	made     []uint32          // messages that this session has put here, and not been told of
	recent   map[uint32]bool   // RFC 3501 section 2.3.2: no session was told of them before
}

// errValidity ends a session: its numbers mean other messages now.
var errValidity = errors.New("imapd: the UIDVALIDITY of the mailbox has changed")

// errFolder ends a session too: its mailbox was deleted, or has another name, which only who gave it knows (RFC 2180 section 3.3 and 3.4).
var errFolder = errors.New("imapd: the mailbox is gone")

// newView begins to look at a mailbox that was just opened and synced.
func newView(box *mailbox.Mailbox, name string, readOnly bool, rights maildir.Rights) *view {
	v := &view{box: box, name: name, readOnly: readOnly || rights&changeRights == 0, rights: rights}
	v.uids, v.validity, v.modseq = box.Snapshot()
	return v
}

// news is what a client is to be told.
type news struct {
	gone    []uint32          // sequence numbers for EXPUNGE, each as it is after those before; highest first
	vanish  []uint32          // the same messages as UIDs, ascending
	came    []uint32          // UIDs of messages that are new
	changed []mailbox.Message // flags, or mod-sequence
	touched []uint32          // UIDs of these, and of those that the session has changed itself
}

// sync finds out what has happened. Those that are gone are told only if the command may (expunge).
func (v *view) sync(expunge bool) (n news, err error) {
	if v.box.Gone() {
		return n, errFolder
	}
	if err := v.box.Sync(); err != nil {
		return n, err
	}
	ch, ok := v.box.Since(v.validity, v.modseq)
	if !ok {
		return n, errValidity
	}
	if len(v.gone) == 0 {
		v.agreed = v.modseq
	}
	v.modseq = ch.Highest
	for _, m := range ch.Messages {
		switch i, known := slices.BinarySearch(v.uids, m.UID); {
		case known:
			n.touched = append(n.touched, m.UID)
			if v.own[m.UID] != m.ModSeq {
				n.changed = append(n.changed, m)
			}
		case !known && i == len(v.uids):
			v.uids = append(v.uids, m.UID)
			n.came = append(n.came, m.UID)
		}
		// A UID below the highest that was missing comes back when a list of another program's was read anew. It can have no sequence number between
		// two others in this session; the next SELECT shows it.
	}
	clear(v.own)
	if ch.Whole {
		for _, uid := range ch.Gone {
			v.lose(uid)
		}
	} else {
		v.loseMissing()
	}
	if expunge && len(v.gone) > 0 {
		n.gone, n.vanish = v.expunge(v.gone), v.gone
		v.gone = nil
	}
	return n, nil
}

// lose notes that a message is gone.
func (v *view) lose(uid uint32) {
	if _, known := slices.BinarySearch(v.uids, uid); !known {
		return
	}
	if i, noted := slices.BinarySearch(v.gone, uid); !noted {
		v.gone = slices.Insert(v.gone, i, uid)
	}
}

// loseMissing is lose for all that are not in the mailbox.
func (v *view) loseMissing() {
	there, _, _ := v.box.Snapshot()
	i := 0
	for _, uid := range v.uids {
		for i < len(there) && there[i] < uid {
			i++
		}
		if i == len(there) || there[i] != uid {
			v.lose(uid)
		}
	}
}

// expunge takes messages out, and returns their sequence numbers from the highest down: so each is right when the client comes to it.
func (v *view) expunge(uids []uint32) (numbers []uint32) {
	numbers = make([]uint32, 0, len(uids))
	kept, k := make([]uint32, 0, len(v.uids)-len(uids)), 0
	for i, uid := range v.uids {
		if k < len(uids) && uids[k] == uid {
			numbers = append(numbers, uint32(i+1))
			delete(v.recent, uid)
			k++
			continue
		}
		kept = append(kept, uid)
	}
	v.uids = kept
	slices.Reverse(numbers)
	return numbers
}

// number is the sequence number of a UID, 0 if it has none.
func (v *view) number(uid uint32) uint32 {
	// Where no message has been removed it is as far from the first as its UID is.
	if len(v.uids) > 0 && uid >= v.uids[0] {
		if i := uint64(uid - v.uids[0]); i < uint64(len(v.uids)) && v.uids[i] == uid {
			return uint32(i + 1)
		}
	}
	if i, ok := slices.BinarySearch(v.uids, uid); ok {
		return uint32(i + 1)
	}
	return 0
}

// guessed notes changes that this session has made and is not to tell. The client knows what the flags are now if he knew them before: RFC 9051 section 6.4.6 wants those told
// that others had changed in the meantime.
func (v *view) guessed(changed []mailbox.Message) {
	for i, m := range changed {
		if m.Before <= v.modseq {
			v.told(changed[i : i+1])
		}
	}
}

// told notes changes that this session has made and told its client of.
func (v *view) told(changed []mailbox.Message) {
	if v.own == nil {
		v.own = make(map[uint32]uint64, len(changed))
	}
	for _, m := range changed {
		v.own[m.UID] = m.ModSeq
	}
}
