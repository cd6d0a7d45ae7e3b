package match

import (
	"encoding/binary"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// AppendFold appends the folded text: two texts are one if they are the same folded, and octets order them nearly as RFC 5051 does.
func AppendFold(dst, text []byte) []byte {
	var f folder
	dst, _ = f.fold(dst, text, true)
	return dst
}

// MaxSort is how many octets of a text count for an order: what is the same up to there, folded, is the same.
const MaxSort = 1 << 10

// AppendSort appends what counts of a text for an order, folded.
func AppendSort(dst, text []byte) []byte {
	at := len(dst)
	dst = AppendFold(dst, text[:min(len(text), MaxSort)])
	return dst[:min(len(dst), at+MaxSort)]
}

const (
	maxMarks = 30
	broken   = 0xff // stands for an octet that is no UTF-8. No key has it.
)

// folder folds a text that comes in blocks. Its methods append to what they have appended before: marks at the end of that may be followed by some that belong before them.
type folder struct {
	n    int // marks at the end
	mark [maxMarks]struct{ class, size uint8 }
}

// marks is how many octets the marks at the end have.
func (f *folder) marks() (octets int) {
	for _, m := range f.mark[:f.n] {
		octets += int(m.size)
	}
	return octets
}

// fold folds b and returns how many octets of it: all, or, if it is not the end of the text, all but the beginning of a character.
func (f *folder) fold(out, b []byte, end bool) ([]byte, int) {
	var known *[1 << 11]folded
	i, n := 0, 0
	for i < len(b) {
		switch c := b[i]; {
		case c < utf8.RuneSelf:
			f.n = 0
			out, n = ascii(out, b[i:])
			i += n
			continue
		case 0xc2 <= c && c < 0xe0 && i+1 < len(b) && b[i+1]&0xc0 == 0x80:
			if known == nil {
				known = table()
			}
			if k := &known[int(c&0x1f)<<6|int(b[i+1]&0x3f)]; k.n > 0 {
				out = append(out, k.to[:k.n]...)
				f.n = 0
				if k.class > 0 {
					f.mark[0].class, f.mark[0].size, f.n = k.class, 2, 1
				}
				i += 2
				continue
			}
		}
		if out, n = f.char(out, b[i:], end); n == 0 {
			break
		}
		i += n
	}
	return out, i
}

// folded is what becomes of a character of two octets, nearly all there are beside ASCII and ideographs.
type folded struct {
	to    [6]byte
	n     uint8 // octets; 0: it is a mark, or has more than one
	class uint8 // of the mark at the end, which has two octets; 0: there is none
}

// table has them all. It is made when the first is met, for 0.2 ms, rather than when a program starts.
var table = sync.OnceValue(func() *[1 << 11]folded {
	var all [1 << 11]folded
	for r := rune(utf8.RuneSelf); int(r) < len(all); r++ {
		var f folder
		out, _ := f.char(nil, []byte(string(r)), true)
		if k := &all[r]; f.n == 0 || f.n == 1 && f.marks() == 2 && len(out) > 2 {
			k.n = uint8(copy(k.to[:], out))
			if f.n == 1 {
				k.class = f.mark[0].class
			}
		}
	}
	return &all
})

// ascii folds what of b is ASCII, at least one octet, and returns how many that are.
func ascii(out, b []byte) ([]byte, int) {
	const (
		each = 0x0101010101010101
		high = 0x80 * each
	)
	out = slices.Grow(out, len(b))
	to := out[len(out) : len(out)+len(b)]
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if w&high != 0 {
			break
		}
		lower := (w + (0x80-'a')*each) &^ (w + (0x80-'z'-1)*each) & high
		binary.LittleEndian.PutUint64(to[i:], w-lower>>2)
	}
	for ; i < len(b) && b[i] < utf8.RuneSelf; i++ {
		c := b[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		to[i] = c
	}
	return out[:len(out)+i], i
}

// char folds the character with which b begins and returns its octets; 0: it is not all there.
func (f *folder) char(out, b []byte, end bool) ([]byte, int) {
	r, n := utf8.DecodeRune(b)
	switch {
	case r == utf8.RuneError && n == 1:
		if !end && !utf8.FullRune(b) {
			return out, 0
		}
		f.n = 0
		return append(out, broken), n
	case 0x4e00 <= r && r <= 0x9fff: // CJK ideographs are what they are
		f.n = 0
		return append(out, b[:n]...), n
	case 0xac00 <= r && r <= 0xd7a3:
		f.n = 0
		return hangul(out, r-0xac00), n
	}
	p := norm.NFKD.Properties(b[:n])
	d := p.Decomposition()
	if d == nil {
		return f.put(out, r, p.CCC()), n
	}
	for len(d) > 0 {
		r, n := utf8.DecodeRune(d)
		class := uint8(0)
		if r >= 0x300 { // no mark is before
			class = norm.NFKD.Properties(d[:n]).CCC()
		}
		out = f.put(out, r, class)
		d = d[n:]
	}
	return out, n
}

// hangul takes a syllable apart (Unicode section 3.12).
func hangul(out []byte, s rune) []byte {
	const vowels, finals = 21, 28
	out = utf8.AppendRune(out, 0x1100+s/(vowels*finals))
	out = utf8.AppendRune(out, 0x1161+s%(vowels*finals)/finals)
	if s %= finals; s > 0 {
		out = utf8.AppendRune(out, 0x11a7+s)
	}
	return out
}

// put appends a character that has no decomposition, or, if it is a mark, puts it behind those of its class and before those of a higher one.
func (f *folder) put(out []byte, r rune, class uint8) []byte {
	at := len(out)
	switch {
	case 0x2e80 <= r && r < 0xa640: // nothing has a case there
	case r == 'ẞ':
		r = 'ß' // which has no upper case for unicode.ToUpper
	default:
		r = unicode.ToUpper(r)
	}
	out = utf8.AppendRune(out, r)
	if class == 0 {
		f.n = 0
		return out
	}
	if f.n == maxMarks {
		f.n = 0
	}
	i, before := f.n, at
	for ; i > 0 && f.mark[i-1].class > class; i-- {
		before -= int(f.mark[i-1].size)
	}
	size := len(out) - at
	copy(f.mark[i+1:], f.mark[i:f.n])
	f.mark[i].class, f.mark[i].size = class, uint8(size)
	f.n++
	if before < at {
		var r [utf8.UTFMax]byte
		copy(r[:], out[at:])
		copy(out[before+size:], out[before:at])
		copy(out[before:], r[:size])
	}
	return out
}
