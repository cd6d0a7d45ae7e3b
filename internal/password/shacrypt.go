package password

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"
	"strings"
)

// SHA-crypt, from "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper, version 0.4 (2008), which numbers the steps.
//
//	$5$salt$hash    $5$rounds=N$salt$hash    $6$ likewise

const (
	shaDefault = 5000 // rounds where none are given
	shaSalt    = 16   // characters of salt, at most
)

type shaCrypt struct {
	id     string // "5" or "6"
	scheme string
	new    func() hash.Hash
	length int // of the encoded hash
}

var (
	sha256Crypt = shaCrypt{"5", "SHA256-CRYPT", sha256.New, 43}
	sha512Crypt = shaCrypt{"6", "SHA512-CRYPT", sha512.New, 86}
)

func parseSHACrypt(text string) (*stored, error) {
	c := sha256Crypt
	if text[1] == '6' {
		c = sha512Crypt
	}
	rounds := uint64(shaDefault)
	rest := text[3:]
	if r, ok := strings.CutPrefix(rest, "rounds="); ok {
		var digits string
		digits, rest, _ = strings.Cut(r, "$")
		// crypt(3) writes what it took: fewer than 1000 never stand in a hash that can match.
		if rounds, ok = number(digits); !ok || rounds < 1000 || rounds > maxRounds {
			return nil, fmt.Errorf("$%s$: the rounds are not within 1000 and %d", c.id, maxRounds)
		}
	}
	salt, want, ok := strings.Cut(rest, "$")
	if !ok || len(salt) > shaSalt || len(want) != c.length || !only(want, itoa64) {
		return nil, fmt.Errorf("$%s$: malformed", c.id)
	}
	return &stored{scheme: c.scheme, check: func(password string) bool {
		return subtle.ConstantTimeCompare(c.sum(password, salt, int(rounds)), []byte(want)) == 1
	}}, nil
}

// sum is the encoded hash.
func (c shaCrypt) sum(password, salt string, rounds int) []byte {
	p, s := []byte(password), []byte(salt)
	h := c.new()
	size := h.Size()
	digest := func(parts ...[]byte) []byte {
		h.Reset()
		for _, x := range parts {
			h.Write(x)
		}
		return h.Sum(nil)
	}

	b := digest(p, s, p) // 4 to 8

	h.Reset() // 1 to 3, 9 to 12
	h.Write(p)
	h.Write(s)
	h.Write(repeat(b, len(p)))
	for n := len(p); n > 0; n >>= 1 {
		if n&1 != 0 {
			h.Write(b)
		} else {
			h.Write(p)
		}
	}
	a := h.Sum(nil)

	h.Reset() // 13 to 16
	for range len(p) {
		h.Write(p)
	}
	pp := repeat(h.Sum(nil), len(p))

	h.Reset() // 17 to 20
	for range 16 + int(a[0]) {
		h.Write(s)
	}
	ss := repeat(h.Sum(nil), len(s))

	for i := range rounds { // 21
		h.Reset()
		if i&1 != 0 {
			h.Write(pp)
		} else {
			h.Write(a)
		}
		if i%3 != 0 {
			h.Write(ss)
		}
		if i%7 != 0 {
			h.Write(pp)
		}
		if i&1 != 0 {
			h.Write(a)
		} else {
			h.Write(pp)
		}
		a = h.Sum(a[:0])
	}

	// 22: three octets at a time, in an order that turns with each group.
	out := make([]byte, 0, c.length)
	x, y, z := 0, size/3, size/3*2
	for range size / 3 {
		out = encode24(out, a[x], a[y], a[z], 4)
		if size == sha512.Size {
			x, y, z = y+1, z+1, x+1
		} else {
			x, y, z = z+1, x+1, y+1
		}
	}
	if size == sha512.Size {
		return encode24(out, 0, 0, a[63], 2)
	}
	return encode24(out, 0, a[31], a[30], 3)
}

// encode24 appends the n low characters of 24 bits.
func encode24(out []byte, b2, b1, b0 byte, n int) []byte {
	w := uint(b2)<<16 | uint(b1)<<8 | uint(b0)
	for range n {
		out = append(out, itoa64[w&0x3f])
		w >>= 6
	}
	return out
}

// repeat returns n octets of b, over and over.
func repeat(b []byte, n int) []byte {
	out := make([]byte, 0, n+len(b))
	for len(out) < n {
		out = append(out, b...)
	}
	return out[:n]
}
