// Package match says whether a text contains a key, as IMAP's SEARCH asks (RFC 9051 section 6.4.4), and what two texts have in common that SORT and
// THREAD take for one (RFC 5256 section 7): whatever the case, and however Unicode writes it.
//
//	New, Key.In     a text in memory: a header field
//	Scanner         a text that comes in blocks: the body of a part, of any length
//	AppendFold      the form in which texts are compared, octet by octet
//
// # Folding
//
// RFC 5255 section 4.4 has SEARCH, SORT and THREAD compare by i;unicode-casemap (RFC 5051): every character becomes its titlecase, then that is taken apart (its decomposition
// of UnicodeData, canonical or compatible, until there is none), and the octets of that in UTF-8 are compared. So "Ａ" is "a", "ﾃ" is "テ", composed and decomposed
// "é" are one, and "e" is found in "é", of which it is the first character.
//
// AppendFold takes a text apart first (NFKD), puts combining marks into canonical order, and makes upper case of what there is then. What is one to RFC 5051 is one here too, and so is
// some of what it keeps apart:
//
//   - "ª" and "ﬁ" decompose to letters in lower case, which are no titlecase, so that "office" would not be in "oﬃce", which is how texts out of a PDF have it;
//   - "ᾳ" composed and decomposed have two titlecases;
//   - marks in an order that is not canonical: Vietnamese in windows-1258 is "ê" with a dot below, never "ệ". The price is that "ê" is not found in it, as it is
//     not in "ệ";
//   - the capitals of Georgian, and of "ß".
//
// No text loses a key by that but for the price named. Case does not depend on a language ("i" is "I" is "ı"), accents count where the key has them or goes on behind them, characters that nobody sees count, and so do
// spaces and line ends: a key is not found across a line end. More marks in a row than thirty are in order by thirties (UAX #15 section 13, Stream-Safe Text), so that a
// text can be folded in bounded memory and linear time.
//
// # What is no UTF-8
//
// An octet that is none of a character matches nothing, and what stands behind it is found. RFC 5255 section 4.6 would compare such a text as octets, all of it;
// then one broken character would hide the others. A key that is no UTF-8 is in no text.
package match

import (
	"bytes"
	"unicode/utf8"
)

// Key is what is searched for. It is safe for concurrent use.
type Key struct {
	fold  []byte
	never bool
}

// New makes a Key. The empty one is in every text.
func New(key string) *Key {
	return &Key{fold: AppendFold(nil, []byte(key)), never: !utf8.ValidString(key)}
}

// In reports whether the key is in a text. It does not allocate where the text is short.
func (k *Key) In(text []byte) bool {
	if len(text) > short {
		s := k.Scanner()
		return s.Scan(text) || s.Found()
	}
	var room [2 * short]byte
	return k.in(AppendFold(room[:0], text))
}

// InFolded is In of a text that AppendFold has folded.
func (k *Key) InFolded(folded []byte) bool { return k.in(folded) }

// short is a text that is folded on the stack.
const short = 256

func (k *Key) in(folded []byte) bool { return !k.never && bytes.Contains(folded, k.fold) }

// Scanner returns one for a text.
func (k *Key) Scanner() *Scanner {
	s := &Scanner{key: k}
	s.Reset()
	return s
}

// piece is how many octets are folded at once: they and what becomes of them stay in the processor's first cache.
const piece = 4 << 10

// Scanner looks for a key in a text that comes in blocks. It is for one goroutine.
type Scanner struct {
	key   *Key
	found bool
	out   []byte // what was folded and may be the beginning of the key
	f     folder
	part  [utf8.UTFMax]byte
	n     int // octets in part: the beginning of a character
}

// Reset makes it ready for another text.
func (s *Scanner) Reset() {
	s.found = len(s.key.fold) == 0 && !s.key.never
	s.out, s.f.n, s.n = s.out[:0], 0, 0
}

// Scan reads the next block, which may end anywhere, and reports whether the key was found by now: then there is no need to go on.
func (s *Scanner) Scan(block []byte) bool {
	if s.key.never || s.found {
		return s.found
	}
	for s.n > 0 && len(block) > 0 {
		s.part[s.n] = block[0]
		s.n, block = s.n+1, block[1:]
		if utf8.FullRune(s.part[:s.n]) {
			s.n = copy(s.part[:], s.part[s.fold(s.part[:s.n]):s.n])
		}
	}
	for len(block) > 0 && !s.found {
		n := s.fold(block[:min(len(block), piece)])
		if block = block[n:]; len(block) < utf8.UTFMax && !utf8.FullRune(block) {
			s.n = copy(s.part[:], block)
			break
		}
	}
	return s.found
}

// Found reports whether the key is in the text, which ends here: a mark that could still have followed does not.
func (s *Scanner) Found() bool {
	s.found = s.found || s.key.in(s.out)
	return s.found
}

// fold folds a piece and looks for the key where no mark to come can change anything. It returns the octets that it has read.
func (s *Scanner) fold(b []byte) int {
	if s.out == nil {
		s.out = make([]byte, 0, piece+len(s.key.fold)+piece/4)
	}
	out, n := s.f.fold(s.out, b, false)
	done := len(out) - s.f.marks()
	s.found = s.found || s.key.in(out[:done])
	s.out = out[:copy(out, out[max(done-len(s.key.fold)+1, 0):])]
	return n
}
