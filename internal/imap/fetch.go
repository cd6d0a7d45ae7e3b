package imap

// FetchKind is what a fetch-att asks for.
type FetchKind uint8

const (
	FetchEnvelope FetchKind = iota + 1
	FetchFlags
	FetchInternalDate
	FetchSize          // RFC822.SIZE
	FetchBody          // BODY, without extension data
	FetchBodyStructure // BODYSTRUCTURE
	FetchUID
	FetchSection      // BODY[...], Peek or not
	FetchBinary       // BINARY[...] (RFC 3516)
	FetchBinarySize   // BINARY.SIZE[...]
	FetchRFC822       // RFC822 of revision 1
	FetchRFC822Header // RFC822.HEADER, which peeks
	FetchRFC822Text   // RFC822.TEXT
	FetchModSeq       // RFC 7162
	FetchEmailID      // RFC 8474
	FetchThreadID
	FetchSaveDate // RFC 8514
	FetchPreview  // RFC 8970, Lazy or not
)

var fetchWords = [...]string{
	FetchEnvelope: "ENVELOPE", FetchFlags: "FLAGS", FetchInternalDate: "INTERNALDATE", FetchSize: "RFC822.SIZE", FetchBody: "BODY",
	FetchBodyStructure: "BODYSTRUCTURE", FetchUID: "UID", FetchSection: "BODY", FetchBinary: "BINARY", FetchBinarySize: "BINARY.SIZE", FetchRFC822: "RFC822",
	FetchRFC822Header: "RFC822.HEADER", FetchRFC822Text: "RFC822.TEXT", FetchModSeq: "MODSEQ", FetchEmailID: "EMAILID", FetchThreadID: "THREADID",
	FetchSaveDate: "SAVEDATE", FetchPreview: "PREVIEW",
}

// FetchItem is one fetch-att.
type FetchItem struct {
	Kind    FetchKind
	Peek    bool // does not set \Seen: of FetchSection and FetchBinary; the others of which it could be asked are what they are
	Lazy    bool // of FetchPreview
	Section      // of FetchSection, FetchBinary, FetchBinarySize
}

// SetsSeen reports whether \Seen is set by fetching the item.
func (f *FetchItem) SetsSeen() bool {
	switch f.Kind {
	case FetchSection, FetchBinary:
		return !f.Peek
	case FetchRFC822, FetchRFC822Text:
		return true
	}
	return false
}

// Fetch is what FETCH and UID FETCH ask for.
type Fetch struct {
	Items        []FetchItem
	ChangedSince uint64        // RFC 7162; 0: not given
	Vanished     bool          // with ChangedSince only, and of UID FETCH only, which the caller checks
	Partial      *PartialRange // RFC 9394
}

// maxFetchItems bounds a FETCH: of sections there are as many as parts.
const maxFetchItems = 500

// Fetch reads what follows the set: "ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")" and [fetch-modifiers].
func (d *Decoder) Fetch() (f Fetch) {
	if d.Is('(') {
		f.Items = d.fetchList()
	} else {
		f.Items = d.fetchMacro()
	}
	if d.More() {
		d.SP().NonEmptyList(8, func() { d.fetchModifier(&f) })
		if f.Vanished && f.ChangedSince == 0 {
			d.Fail("VANISHED without CHANGEDSINCE") // RFC 7162 section 3.2.6
		}
	}
	return f
}

func (d *Decoder) fetchModifier(f *Fetch) {
	switch string(d.word()) {
	case "CHANGEDSINCE":
		f.ChangedSince = d.SP().ModSeq()
	case "VANISHED":
		f.Vanished = true
	case "PARTIAL":
		p := d.SP().PartialRange()
		f.Partial = &p
	default:
		d.Fail("unknown fetch modifier")
	}
}

func (d *Decoder) fetchList() []FetchItem {
	items := make([]FetchItem, 0, 8) // most programs ask for fewer
	d.NonEmptyList(maxFetchItems, func() { items = append(items, d.fetchItem(d.word())) })
	return items
}

func (d *Decoder) fetchMacro() []FetchItem {
	w := d.word()
	kinds := []FetchKind{FetchFlags, FetchInternalDate, FetchSize, FetchEnvelope, FetchBody}
	switch string(w) {
	case "FAST":
		kinds = kinds[:3]
	case "ALL":
		kinds = kinds[:4]
	case "FULL":
	default:
		return []FetchItem{d.fetchItem(w)}
	}
	items := make([]FetchItem, len(kinds))
	for i, k := range kinds {
		items[i].Kind = k
	}
	return items
}

// fetchItem reads what follows the word.
func (d *Decoder) fetchItem(w []byte) (f FetchItem) {
	switch string(w) {
	case "ENVELOPE":
		f.Kind = FetchEnvelope
	case "FLAGS":
		f.Kind = FetchFlags
	case "INTERNALDATE":
		f.Kind = FetchInternalDate
	case "RFC822.SIZE":
		f.Kind = FetchSize
	case "BODYSTRUCTURE":
		f.Kind = FetchBodyStructure
	case "UID":
		f.Kind = FetchUID
	case "RFC822":
		f.Kind = FetchRFC822
	case "RFC822.HEADER":
		f.Kind = FetchRFC822Header
	case "RFC822.TEXT":
		f.Kind = FetchRFC822Text
	case "MODSEQ":
		f.Kind = FetchModSeq
	case "EMAILID":
		f.Kind = FetchEmailID
	case "THREADID":
		f.Kind = FetchThreadID
	case "SAVEDATE":
		f.Kind = FetchSaveDate
	case "PREVIEW":
		f.Kind = FetchPreview
		// "PREVIEW (CHANGEDSINCE 1)" is a modifier of FETCH.
		f.Lazy = d.skipFold(" (LAZY)")
	case "BODY", "BODY.PEEK":
		f.Kind = FetchBody
		f.Peek = len(w) > len("BODY")
		if f.Peek || d.Is('[') {
			f.Kind = FetchSection
			f.Section = d.section(false)
			d.partial(&f.Section)
		}
	case "BINARY", "BINARY.PEEK":
		f.Kind = FetchBinary
		f.Peek = len(w) > len("BINARY")
		f.Section = d.section(true)
		d.partial(&f.Section)
	case "BINARY.SIZE":
		f.Kind = FetchBinarySize
		f.Section = d.section(true)
	default:
		d.Fail("unknown fetch item")
	}
	return f
}

// AppendFetchName appends the name of the item as a FETCH response has it: "BODY[1]<0>".
func AppendFetchName(dst []byte, f *FetchItem, m Mode) []byte {
	dst = append(dst, fetchWords[f.Kind]...)
	switch f.Kind {
	case FetchSection, FetchBinary, FetchBinarySize:
		dst = AppendSection(dst, &f.Section, m)
	}
	return dst
}
