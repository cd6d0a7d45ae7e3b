package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// ID names a message: 20 characters of lower-case base32 (0-9, a-v), which sort
// as the time in them. The first 48 of the 100 bits are the time, in units of 16
// microseconds since 1970 (they last until the year 2112), the other 52 are
// random. Ids are never reused: a maildir may remember one for ever.
type ID string

const (
	idLen    = 20
	digits   = "0123456789abcdefghijklmnopqrstuv"
	idUnit   = 16 // microseconds
	restBits = 52
	restMask = 1<<restBits - 1
)

// NewID makes an id. It needs no state, so neither other processes nor a clock
// that is set back can make it return one a second time, but for a chance of one
// in 2^52 for two calls within the same 16 microseconds; Create notices that.
// The random bits are not secret: who may read a message is decided by modes.
func NewID(now time.Time) ID {
	return makeID(uint64(now.UnixMicro())/idUnit, rand.Uint64())
}

func makeID(t, rest uint64) ID {
	rest &= restMask
	hi, lo := t>>(64-restBits), t<<restBits|rest
	var b [idLen]byte
	for i := idLen - 1; i >= 0; i-- {
		b[i] = digits[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return ID(b[:])
}

// ParseID checks that s has the form of an id.
func ParseID(s string) (ID, error) {
	if !validID(s) {
		return "", fmt.Errorf("queue: %.40q is not a message id", s)
	}
	return ID(s), nil
}

func validID(s string) bool {
	if len(s) != idLen {
		return false
	}
	for i := range idLen {
		if shardIndex(s[i]) < 0 {
			return false
		}
	}
	return true
}

// shardIndex is the value of a base32 digit, or -1.
func shardIndex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'v':
		return int(c-'a') + 10
	}
	return -1
}

// Time is the time in the id, of which microseconds are a multiple of 16. It is
// the zero time if the id is not valid.
func (id ID) Time() time.Time {
	if !validID(string(id)) {
		return time.Time{}
	}
	return time.UnixMicro(int64(id.ticks()) * idUnit).UTC()
}

func (id ID) ticks() uint64 {
	var hi, lo uint64
	for i := range idLen {
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(shardIndex(id[i]))
	}
	return hi<<(64-restBits) | lo>>restBits
}

// Derive makes the id of a message that follows from this one: an expansion, a
// report. The same id and parts always give the same id, so that work which a
// crash has interrupted finds its own traces. It keeps the time; the rest is a
// hash, 52 bits of SHA-256.
func (id ID) Derive(parts ...string) ID {
	if !validID(string(id)) {
		return ""
	}
	b := append(make([]byte, 0, 256), id...)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return makeID(id.ticks(), binary.BigEndian.Uint64(sum[:]))
}

// path is where a message lives below the queue directory. It is split by the
// last character because many writers of one directory wait for each other.
func (id ID) path() string {
	return "active/" + string(id[idLen-1:]) + "/" + string(id)
}
