package imap

// ListOptions is a set of selection or return options of LIST (RFC 5258, RFC 6154, RFC 5819, RFC 8440, RFC 9590).
type ListOptions uint8

const (
	ListSubscribed     ListOptions = 1 << iota // selection and return
	ListRemote                                 // selection
	ListRecursiveMatch                         // selection
	ListSpecialUse                             // selection and return
	ListChildren                               // return
	ListMyRights                               // return
	ListStatus                                 // return
	ListMetadata                               // return
)

// List is what LIST asks for.
type List struct {
	Extended  bool // selection options, several patterns, or return options were given (RFC 5258 section 3)
	Select    ListOptions
	Reference string
	Patterns  []string
	Return    ListOptions
	Status    StatusItems // of ListStatus
	Metadata  []string    // of ListMetadata: entries
}

const maxPatterns = 500

// ListCommand reads [list-select-opts SP] mailbox SP mbox-or-pat [SP list-return-opts].
func (d *Decoder) ListCommand() (l List) {
	if d.Is('(') {
		l.Extended = true
		d.List(16, func() { l.Select |= d.listSelect() })
		// RFC 5258 section 3.1: RECURSIVEMATCH modifies another option, of which REMOTE is none, and SPECIAL-USE none either (RFC 6154 section 6).
		if l.Select&ListRecursiveMatch != 0 && l.Select&ListSubscribed == 0 {
			d.Fail("RECURSIVEMATCH alone")
		}
		d.SP()
	}
	l.Reference = d.pattern(d.AString())
	if d.SP(); d.Is('(') {
		l.Extended = true
		d.NonEmptyList(maxPatterns, func() { l.Patterns = append(l.Patterns, d.ListMailbox()) })
	} else {
		l.Patterns = []string{d.ListMailbox()}
	}
	if d.skipFold(" RETURN ") {
		l.Extended = true
		d.List(16, func() { d.listReturn(&l) })
	}
	return l
}

func (d *Decoder) listSelect() ListOptions {
	switch string(d.word()) {
	case "SUBSCRIBED":
		return ListSubscribed
	case "REMOTE":
		return ListRemote
	case "RECURSIVEMATCH":
		return ListRecursiveMatch
	case "SPECIAL-USE":
		return ListSpecialUse
	}
	d.Fail("unknown selection option")
	return 0
}

func (d *Decoder) listReturn(l *List) {
	switch string(d.word()) {
	case "SUBSCRIBED":
		l.Return |= ListSubscribed
	case "CHILDREN":
		l.Return |= ListChildren
	case "SPECIAL-USE":
		l.Return |= ListSpecialUse
	case "MYRIGHTS":
		l.Return |= ListMyRights
	case "STATUS":
		l.Return |= ListStatus
		l.Status = d.SP().StatusItems()
	case "METADATA":
		l.Return |= ListMetadata
		d.SP().NonEmptyList(maxEntries, func() { l.Metadata = append(l.Metadata, d.Entry()) })
	default:
		d.Fail("unknown return option")
	}
}

// StatusItems is a set of items of STATUS.
type StatusItems uint16

const (
	StatusMessages StatusItems = 1 << iota
	StatusRecent
	StatusUIDNext
	StatusUIDValidity
	StatusUnseen
	StatusDeleted        // RFC 9051
	StatusSize           // RFC 9051, RFC 8438
	StatusHighestModSeq  // RFC 7162
	StatusMailboxID      // RFC 8474
	StatusAppendLimit    // RFC 7889
	StatusDeletedStorage // RFC 9208
)

// StatusItems reads "(" status-att *(SP status-att) ")".
func (d *Decoder) StatusItems() (items StatusItems) {
	d.NonEmptyList(32, func() {
		switch string(d.word()) {
		case "MESSAGES":
			items |= StatusMessages
		case "RECENT":
			items |= StatusRecent
		case "UIDNEXT":
			items |= StatusUIDNext
		case "UIDVALIDITY":
			items |= StatusUIDValidity
		case "UNSEEN":
			items |= StatusUnseen
		case "DELETED":
			items |= StatusDeleted
		case "SIZE":
			items |= StatusSize
		case "HIGHESTMODSEQ":
			items |= StatusHighestModSeq
		case "MAILBOXID":
			items |= StatusMailboxID
		case "APPENDLIMIT":
			items |= StatusAppendLimit
		case "DELETED-STORAGE":
			items |= StatusDeletedStorage
		default:
			d.Fail("unknown status item")
		}
	})
	return items
}

// SelectParams are the parameters of SELECT and EXAMINE (RFC 7162).
type SelectParams struct {
	CondStore bool
	QResync   *QResync
}

// QResync is what a client knows of a mailbox.
type QResync struct {
	UIDValidity uint32
	ModSeq      uint64
	UIDs        NumSet // known; none: all
	// The messages Seqs had the UIDs MatchUIDs; both as they came, equally many numbers.
	Seqs, MatchUIDs NumSet
}

// SelectParams reads [SP "(" select-param *(SP select-param) ")"].
func (d *Decoder) SelectParams() (p SelectParams) {
	if !d.More() {
		return p
	}
	d.SP().NonEmptyList(8, func() {
		switch string(d.word()) {
		case "CONDSTORE":
			p.CondStore = true
		case "QRESYNC":
			if p.QResync != nil {
				d.Fail("QRESYNC is given twice")
			}
			p.QResync = d.SP().qresync()
		default:
			d.Fail("unknown select parameter")
		}
	})
	return p
}

// qresync reads "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")".
func (d *Decoder) qresync() *QResync {
	q := &QResync{UIDValidity: d.Expect('(').NZNumber()}
	q.ModSeq = d.SP().ModSeq()
	if d.Is(' ') {
		if d.SP(); !d.Is('(') {
			q.UIDs = d.UIDSet()
			if d.Is(' ') {
				d.SP().seqMatch(q)
			}
		} else {
			d.seqMatch(q)
		}
	}
	d.Expect(')')
	return q
}

func (d *Decoder) seqMatch(q *QResync) {
	q.Seqs = d.Expect('(').UIDSet()
	q.MatchUIDs = d.SP().UIDSet()
	d.Expect(')')
	// RFC 7162 section 3.2.5.2: in ascending order, one UID for each number.
	a, b := q.Seqs, q.MatchUIDs
	if d.err == nil && !(a.ascends() && b.ascends() && a.Count() == b.Count()) {
		d.Fail("numbers and UIDs do not match")
	}
}

// ascends reports whether the set as it came is plain.
func (s NumSet) ascends() bool {
	for i, r := range s.Ranges {
		if r.First > r.Last || i > 0 && r.First <= s.Ranges[i-1].Last {
			return false
		}
	}
	return true
}

// CreateParams reads [SP "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")"] of CREATE (RFC 6154): the special uses.
func (d *Decoder) CreateParams() (use []string) {
	if !d.More() {
		return nil
	}
	d.SP().NonEmptyList(8, func() {
		if string(d.word()) != "USE" || use != nil {
			d.Fail("unknown create parameter")
		}
		use = d.SP().FlagList()
	})
	return use
}
