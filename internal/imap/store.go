package imap

// StoreOp is what STORE does with its flags.
type StoreOp uint8

const (
	StoreReplace StoreOp = iota // FLAGS
	StoreAdd                    // +FLAGS
	StoreRemove                 // -FLAGS
)

// Store is what STORE and UID STORE ask for.
type Store struct {
	Op     StoreOp
	Silent bool
	Flags  []string

	Conditional    bool   // UNCHANGEDSINCE was given (RFC 7162)
	UnchangedSince uint64 // and may be 0: no message was changed before that
}

// Store reads what follows the set: [store-modifiers SP] ["+" / "-"] "FLAGS" [".SILENT"] SP (flag-list / flag *(SP flag)).
func (d *Decoder) Store() (s Store) {
	if d.Is('(') {
		d.NonEmptyList(8, func() {
			if string(d.word()) != "UNCHANGEDSINCE" || s.Conditional {
				d.Fail("unknown store modifier")
			}
			s.Conditional = true
			s.UnchangedSince = d.SP().ModSeqOrZero()
		})
		d.SP()
	}
	switch {
	case d.Skip('+'):
		s.Op = StoreAdd
	case d.Skip('-'):
		s.Op = StoreRemove
	}
	switch string(d.word()) {
	case "FLAGS":
	case "FLAGS.SILENT":
		s.Silent = true
	default:
		d.Fail("unknown item to store")
	}
	if d.SP(); d.Is('(') {
		s.Flags = d.FlagList()
		return s
	}
	for n := 1; ; n++ {
		if n > maxFlags {
			d.Fail("too many flags")
		}
		s.Flags = append(s.Flags, d.Flag())
		if !d.Skip(' ') {
			return s
		}
	}
}
