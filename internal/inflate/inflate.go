// Package inflate reads compressed octets (DEFLATE, RFC 1951) of a conversation: as far as they have come, and no further.
//
// Why not compress/flate? Its Reader holds back what it has until the block after it begins, and a client that flushes with zlib's Z_PARTIAL_FLUSH, as Thunderbird does, waits
// for the answer before that; and an error of its source ends it, where a deadline that passes is no end. It is the reader for files.
//
// A Reader costs 34 KiB, whatever it is sent, and makes of each octet at most 1,032.
package inflate

import "errors"

// ErrCorrupt means that this is not DEFLATE. Nothing can be read any more.
var ErrCorrupt = errors.New("inflate: corrupt input")

// ErrEnd means that the last block has ended.
var ErrEnd = errors.New("inflate: the end of the stream")

const (
	window  = 32 << 10
	maxBits = 15  // of a code
	maxLit  = 288 // literals and lengths
	maxDist = 32
	endOf   = 256 // the symbol for the end of a block
)

// stage is where in the stream a Reader is.
type stage uint8

const (
	header  stage = iota // before a block
	stored               // before the length of a stored block
	copying              // in a stored block
	sizes                // before the numbers of codes
	order                // in the lengths of the codes for lengths
	lengths              // in the lengths of codes
	codes                // in a compressed block
)

// Reader is the state of a stream. The zero value is the beginning. It is not safe for concurrent use.
type Reader struct {
	stage stage
	last  bool // this is the last block
	err   error

	bits  uint64 // of the input, the next one lowest
	count uint   // how many of them are valid

	left     int // to be copied: octets of a stored block, or of a match
	distance int // of the match

	lit, dist           int // numbers of codes in this block
	have, want          int // lengths of codes
	length              [maxLit + maxDist]uint8
	literals, distances code

	at      int // in history
	filled  bool
	history [window]byte
}

// code is a canonical Huffman code (section 3.2.2).
type code struct {
	count  [maxBits + 1]uint16 // codes of each length
	symbol [maxLit]uint16      // in the order of their codes
}

// Inflate makes as many octets of src as there is room for in dst, and says how many of both it has dealt with. It returns when dst is full or src is used up; what it has
// taken of src it keeps. The error is ErrEnd or ErrCorrupt, together with what came before it.
func (z *Reader) Inflate(dst, src []byte) (made, used int, err error) {
	for z.err == nil {
		for z.count <= 56 && used < len(src) {
			z.bits |= uint64(src[used]) << z.count
			z.count += 8
			used++
		}
		if z.left > 0 {
			n := z.copy(dst[made:], src, &used)
			if made += n; n == 0 {
				return made, used, nil
			}
			continue
		}
		var more bool
		if z.stage == codes {
			var n int
			n, more = z.decode(dst[made:])
			made += n
		} else {
			more = z.describe()
		}
		// Without more there were too few bits, of which another turn brings some, or no room.
		if !more && (made == len(dst) || used == len(src)) && z.err == nil {
			return made, used, nil
		}
	}
	return made, used, z.err
}

// take takes n bits, of which there are enough.
func (z *Reader) take(n uint) int {
	v := int(z.bits & (1<<n - 1))
	z.bits >>= n
	z.count -= n
	return v
}

func (z *Reader) corrupt() bool {
	z.err = ErrCorrupt
	return false
}

// put adds an octet to what can be referred to.
func (z *Reader) put(c byte) {
	z.history[z.at] = c
	if z.at++; z.at == window {
		z.at, z.filled = 0, true
	}
}

// copy goes on with a stored block, or with a match.
func (z *Reader) copy(dst, src []byte, used *int) (n int) {
	for n < len(dst) && z.left > 0 {
		var c byte
		switch {
		case z.stage == codes:
			c = z.history[(z.at-z.distance)&(window-1)]
		case z.count >= 8:
			c = byte(z.take(8))
		case *used < len(src):
			c = src[*used]
			*used++
		default:
			return n
		}
		z.put(c)
		dst[n] = c
		n++
		z.left--
	}
	if z.left == 0 && z.stage == copying {
		z.ended()
	}
	return n
}

// ended is after a block.
func (z *Reader) ended() {
	if z.stage = header; z.last {
		z.err = ErrEnd
	}
}

// describe reads one piece of what stands before the data of a block (section 3.2.3). False: it needs more bits, or is wrong.
func (z *Reader) describe() bool {
	switch z.stage {
	case header:
		if z.count < 3 {
			return false
		}
		z.last = z.take(1) == 1
		switch z.take(2) {
		case 0:
			z.stage = stored
		case 1:
			z.fixed()
		case 2:
			z.stage = sizes
		default:
			return z.corrupt()
		}
	case stored: // section 3.2.4
		skip := z.count % 8
		if z.count < skip+32 {
			return false
		}
		z.take(skip)
		n, not := z.take(16), z.take(16)
		if n^not != 0xffff {
			return z.corrupt()
		}
		if z.left, z.stage = n, copying; n == 0 {
			z.ended()
		}
	case sizes: // section 3.2.7
		if z.count < 14 {
			return false
		}
		z.lit, z.dist, z.want, z.have = z.take(5)+257, z.take(5)+1, z.take(4)+4, 0
		if z.lit > 286 || z.dist > 30 {
			return z.corrupt()
		}
		clear(z.length[:])
		z.stage = order
	case order:
		if z.count < 3 {
			return false
		}
		z.length["\x10\x11\x12\x00\x08\x07\x09\x06\x0a\x05\x0b\x04\x0c\x03\x0d\x02\x0e\x01\x0f"[z.have]] = uint8(z.take(3))
		if z.have++; z.have == z.want {
			if !z.literals.set(z.length[:19]) {
				return z.corrupt()
			}
			z.stage, z.have = lengths, 0
		}
	case lengths:
		return z.someLengths()
	}
	return true
}

// someLengths reads a length of a code, or of several.
func (z *Reader) someLengths() bool {
	symbol, n := z.literals.find(z.bits, z.count)
	if n == 0 {
		return symbol < 0 && z.corrupt()
	}
	value, times := uint8(symbol), 1
	if symbol >= 16 {
		extra := [...]uint{2, 3, 7}[symbol-16]
		if z.count < n+extra {
			return false
		}
		z.take(n)
		n, times, value = 0, [...]int{3, 3, 11}[symbol-16]+z.take(extra), 0
		if symbol == 16 {
			if z.have == 0 {
				return z.corrupt()
			}
			value = z.length[z.have-1]
		}
	}
	z.take(n)
	if z.have+times > z.lit+z.dist {
		return z.corrupt()
	}
	for range times {
		z.length[z.have] = value
		z.have++
	}
	if z.have < z.lit+z.dist {
		return true
	}
	if z.length[endOf] == 0 || !z.literals.set(z.length[:z.lit]) || !z.distances.set(z.length[z.lit:z.have]) {
		return z.corrupt()
	}
	z.stage = codes
	return true
}

// fixed are the codes of section 3.2.6.
func (z *Reader) fixed() {
	for i := range maxLit {
		switch {
		case i < 144, i >= 280:
			z.length[i] = 8
		case i < 256:
			z.length[i] = 9
		default:
			z.length[i] = 7
		}
	}
	for i := range maxDist {
		z.length[maxLit+i] = 5
	}
	z.literals.set(z.length[:maxLit])
	z.distances.set(z.length[maxLit:])
	z.stage = codes
}

// Section 3.2.5: the lengths and distances that symbols begin with.
var (
	lengthBase    = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra   = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBase  = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceExtra = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// decode makes literals, up to the next match, which it only notes. False: it needs more bits or room, or is wrong. A match has at most 15+5+15+13 bits: it is taken as a whole or
// not at all.
func (z *Reader) decode(dst []byte) (n int, more bool) {
	for {
		symbol, bits := z.literals.find(z.bits, z.count)
		if bits == 0 {
			return n, symbol < 0 && z.corrupt()
		}
		if symbol < endOf {
			if n == len(dst) {
				return n, false
			}
			z.take(bits)
			z.put(byte(symbol))
			dst[n] = byte(symbol)
			n++
			continue
		}
		if symbol == endOf {
			z.take(bits)
			z.ended()
			return n, z.err == nil
		}
		if symbol -= endOf + 1; symbol >= len(lengthBase) {
			return n, z.corrupt()
		}
		all := bits + uint(lengthExtra[symbol])
		if z.count < all {
			return n, false
		}
		d, dbits := z.distances.find(z.bits>>all, z.count-all)
		if dbits == 0 {
			return n, d < 0 && z.corrupt()
		}
		if d >= len(distanceBase) {
			return n, z.corrupt()
		}
		if z.count < all+dbits+uint(distanceExtra[d]) {
			return n, false
		}
		z.take(bits)
		length := int(lengthBase[symbol]) + z.take(uint(lengthExtra[symbol]))
		z.take(dbits)
		distance := int(distanceBase[d]) + z.take(uint(distanceExtra[d]))
		if distance > z.at && !z.filled {
			return n, z.corrupt()
		}
		z.left, z.distance = length, distance
		return n, true
	}
}

// set makes the code that has these lengths. False: there is none, or one that does not use all codes; but one code of one bit may stand alone, and none at all, which
// nothing then uses.
func (c *code) set(lengths []uint8) bool {
	*c = code{}
	for _, n := range lengths {
		c.count[n]++
	}
	c.count[0] = 0
	left, any := 1, 0
	var offset [maxBits + 2]uint16
	for n := 1; n <= maxBits; n++ {
		if left = left<<1 - int(c.count[n]); left < 0 {
			return false
		}
		any += int(c.count[n])
		offset[n+1] = offset[n] + c.count[n]
	}
	for symbol, n := range lengths {
		if n > 0 {
			c.symbol[offset[n]] = uint16(symbol)
			offset[n]++
		}
	}
	return left == 0 || any == 0 || any == 1 && c.count[1] == 1
}

// find is the symbol whose code comes next, and how many bits that has. 0 bits: too few have come; with the symbol -1: there is no such code.
//
// One bit after the other is slower than a table, and is fast enough for what people send to their mailboxes.
func (c *code) find(bits uint64, count uint) (symbol int, n uint) {
	value, first, index := 0, 0, 0
	for n = 1; n <= maxBits; n++ {
		if n > count {
			return 0, 0
		}
		value |= int(bits & 1)
		bits >>= 1
		k := int(c.count[n])
		if value-k < first {
			return int(c.symbol[index+value-first]), n
		}
		index += k
		first = (first + k) << 1
		value <<= 1
	}
	return -1, 0
}
