package imap

import (
	"math"
	"strings"
)

// SearchOp is the kind of a search key.
type SearchOp uint8

const (
	SearchAll         SearchOp = iota
	SearchAnd                  // Keys: all of them
	SearchOr                   // Keys: any of them
	SearchFlag                 // Name: \Seen, or a keyword
	SearchSeq                  // Set, of message sequence numbers
	SearchUID                  // Set, of UIDs
	SearchHeader               // Name, Text: also BCC, CC, FROM, SUBJECT, TO
	SearchBody                 // Text
	SearchText                 // Text
	SearchBefore               // Date, of INTERNALDATE
	SearchOn                   //
	SearchSince                //
	SearchSentBefore           // Date, of the header
	SearchSentOn               //
	SearchSentSince            //
	SearchSavedBefore          // Date (RFC 8514)
	SearchSavedOn              //
	SearchSavedSince           //
	SearchSaveDateSupported
	SearchLarger   // Number, octets
	SearchSmaller  //
	SearchOlder    // Number, seconds (RFC 5032)
	SearchYounger  //
	SearchModSeq   // Number (RFC 7162)
	SearchEmailID  // Text (RFC 8474)
	SearchThreadID // Text
	SearchFilter   // Text (RFC 5466)
)

// SearchKey is a tree of search keys.
type SearchKey struct {
	Op     SearchOp
	Not    bool // what does not match; UNSEEN is SearchFlag \Seen with Not
	Fuzzy  bool // RFC 6203
	Keys   []SearchKey
	Name   string
	Text   string // in the charset of the program
	Number uint64
	Date   Date
	Set    NumSet
}

// Walk calls f for k and every key below it: to resolve sets, to decode texts.
func (k *SearchKey) Walk(f func(*SearchKey)) {
	f(k)
	for i := range k.Keys {
		k.Keys[i].Walk(f)
	}
}

// maxSearchKeys bounds a search program. Each message may be asked each of them.
const maxSearchKeys = 2000

// SearchProgram reads ["CHARSET" SP charset SP] search-key *(SP search-key), to the end. Charset is upper case, "" if there is none; the texts are in it.
func (d *Decoder) SearchProgram() (charset string, key SearchKey) {
	if d.skipFold("CHARSET ") {
		charset = d.Charset()
		d.SP()
	}
	return charset, d.SearchKeys()
}

// Charset reads charset = atom / quoted, upper case.
func (d *Decoder) Charset() string { return strings.ToUpper(d.AString()) }

// SearchKeys reads search-key *(SP search-key), to the end.
func (d *Decoder) SearchKeys() SearchKey {
	p := searchParser{d: d}
	and := SearchKey{Op: SearchAnd, Keys: []SearchKey{p.key()}}
	for d.More() {
		d.SP()
		and.Keys = append(and.Keys, p.key())
	}
	if len(and.Keys) == 1 {
		return and.Keys[0]
	}
	return and
}

type searchParser struct {
	d *Decoder
	n int // keys so far
}

// count counts a key, NOT, FUZZY and OR among them.
func (p *searchParser) count() {
	if p.n++; p.n > maxSearchKeys {
		p.d.Fail("too many search keys")
	}
}

// key reads one search-key. NOT and FUZZY in a row are no levels, nor are ORs in the right hand of each other: programs write long ones.
func (p *searchParser) key() (k SearchKey) {
	d := p.d
	var not, fuzzy bool
	var w []byte
prefixes:
	for {
		p.count()
		c := d.peek()
		if c == '(' || c == '*' || c == '$' || isDigit(c) || d.err != nil {
			w = nil
			break
		}
		switch w = d.word(); string(w) {
		case "NOT":
			not = !not
		case "FUZZY":
			fuzzy = true
		default:
			break prefixes
		}
		d.SP()
	}
	switch {
	case d.err != nil:
	case w != nil:
		k = p.named(w)
	case d.Is('('):
		k.Op = SearchAnd
		d.NonEmptyList(maxSearchKeys, func() { k.Keys = append(k.Keys, p.key()) })
	default:
		k.Op = SearchSeq
		k.Set = d.NumSet()
	}
	k.Not = k.Not != not
	k.Fuzzy = k.Fuzzy || fuzzy
	return k
}

// or reads what follows OR: "OR a OR b c" is any of three.
func (p *searchParser) or() []SearchKey {
	d := p.d
	if d.enter(); d.err != nil {
		return nil
	}
	keys := []SearchKey{p.keySP()}
	for d.err == nil && d.skipFold("OR ") {
		p.count()
		keys = append(keys, p.keySP())
	}
	keys = append(keys, p.key())
	d.depth--
	return keys
}

func (p *searchParser) keySP() SearchKey {
	k := p.key()
	p.d.SP()
	return k
}

func flagKey(name string, not bool) SearchKey {
	return SearchKey{Op: SearchFlag, Name: name, Not: not}
}

// named reads a key that begins with a word.
func (p *searchParser) named(w []byte) (k SearchKey) {
	d := p.d
	switch string(w) {
	case "ALL":
	case "ANSWERED":
		return flagKey(`\Answered`, false)
	case "DELETED":
		return flagKey(`\Deleted`, false)
	case "DRAFT":
		return flagKey(`\Draft`, false)
	case "FLAGGED":
		return flagKey(`\Flagged`, false)
	case "SEEN":
		return flagKey(`\Seen`, false)
	case "RECENT":
		return flagKey(`\Recent`, false)
	case "UNANSWERED":
		return flagKey(`\Answered`, true)
	case "UNDELETED":
		return flagKey(`\Deleted`, true)
	case "UNDRAFT":
		return flagKey(`\Draft`, true)
	case "UNFLAGGED":
		return flagKey(`\Flagged`, true)
	case "UNSEEN":
		return flagKey(`\Seen`, true)
	case "OLD": // RFC 3501 section 6.4.4: NOT RECENT
		return flagKey(`\Recent`, true)
	case "NEW": // RECENT UNSEEN
		return SearchKey{Op: SearchAnd, Keys: []SearchKey{flagKey(`\Recent`, false), flagKey(`\Seen`, true)}}
	case "KEYWORD":
		return flagKey(d.SP().Flag(), false)
	case "UNKEYWORD":
		return flagKey(d.SP().Flag(), true)
	case "OR":
		d.SP()
		return SearchKey{Op: SearchOr, Keys: p.or()}
	case "UID":
		return SearchKey{Op: SearchUID, Set: d.SP().NumSet()}
	case "UIDAFTER": // RFC 9738 section 3.2: unlike those of "n+1:*", its messages are above n
		n := d.SP().NZNumber()
		return SearchKey{Op: SearchUID, Set: between(uint64(n)+1, math.MaxUint32)}
	case "UIDBEFORE":
		return SearchKey{Op: SearchUID, Set: between(1, uint64(d.SP().NZNumber())-1)}
	case "HEADER":
		k = SearchKey{Op: SearchHeader, Name: d.SP().AString()}
		k.Text = d.SP().AString()
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		k = SearchKey{Op: SearchHeader, Name: string(w)}
		k.Text = d.SP().AString()
	case "BODY":
		return SearchKey{Op: SearchBody, Text: d.SP().AString()}
	case "TEXT":
		return SearchKey{Op: SearchText, Text: d.SP().AString()}
	case "LARGER":
		return SearchKey{Op: SearchLarger, Number: uint64(d.SP().Number64())}
	case "SMALLER":
		return SearchKey{Op: SearchSmaller, Number: uint64(d.SP().Number64())}
	case "OLDER":
		return SearchKey{Op: SearchOlder, Number: uint64(d.SP().NZNumber())}
	case "YOUNGER":
		return SearchKey{Op: SearchYounger, Number: uint64(d.SP().NZNumber())}
	case "EMAILID":
		return SearchKey{Op: SearchEmailID, Text: d.SP().Atom()}
	case "THREADID":
		return SearchKey{Op: SearchThreadID, Text: d.SP().Atom()}
	case "FILTER":
		return SearchKey{Op: SearchFilter, Text: d.SP().Atom()}
	case "SAVEDATESUPPORTED":
		k.Op = SearchSaveDateSupported
	case "MODSEQ":
		return SearchKey{Op: SearchModSeq, Number: p.modSeq()}
	default:
		if k.Op = dateOp(w); k.Op == SearchAll {
			d.Fail("unknown search key")
			return k
		}
		k.Date = d.SP().Date()
	}
	return k
}

// between is the numbers from first to last, none if first is the larger one.
func between(first, last uint64) (s NumSet) {
	if first <= last {
		s.Ranges = []NumRange{{uint32(first), uint32(last)}}
	}
	return s
}

func dateOp(w []byte) SearchOp {
	switch string(w) {
	case "BEFORE":
		return SearchBefore
	case "ON":
		return SearchOn
	case "SINCE":
		return SearchSince
	case "SENTBEFORE":
		return SearchSentBefore
	case "SENTON":
		return SearchSentOn
	case "SENTSINCE":
		return SearchSentSince
	case "SAVEDBEFORE":
		return SearchSavedBefore
	case "SAVEDON":
		return SearchSavedOn
	case "SAVEDSINCE":
		return SearchSavedSince
	}
	return SearchAll
}

// modSeq reads [SP entry-name SP entry-type-req] SP mod-sequence-valzer. RFC 7162 section 3.1.5: a server that keeps one mod-sequence for a message ignores the names.
func (p *searchParser) modSeq() uint64 {
	d := p.d
	if d.SP(); d.Is('"') {
		name := d.String()
		if len(name) < len("/flags/x") || !strings.EqualFold(name[:7], "/flags/") {
			d.Fail("unknown entry")
		}
		switch string(d.SP().word()) {
		case "PRIV", "SHARED", "ALL":
		default:
			d.Fail("unknown entry type")
		}
		d.SP()
	}
	return d.ModSeqOrZero()
}
