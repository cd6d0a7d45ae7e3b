package monitor

import (
	"bytes"
	"encoding/binary"
	"errors"
)

const (
	version     = 1
	requestSize = 576
	orderSize   = 2048

	nameAt, nameSize     = 16, 384
	ticketAt, ticketSize = 400, 128
	requestEnd           = ticketAt + ticketSize
	valueAt              = 16

	// MaxName, MaxTicket and MaxValue are the most that fits.
	MaxName   = nameSize
	MaxTicket = ticketSize
	MaxValue  = orderSize - valueAt
)

// Kinds of requests and orders.
const (
	kindReady   = 'R'
	kindAlive   = 'V'
	kindTaken   = 'T'
	kindKept    = 'K'
	kindWho     = 'W'
	kindConnect = 'C'
	kindHand    = 'H'
	kindDial    = 'D'
	kindMailbox = 'M'
	kindLeave   = 'L'

	kindAnswer        = 'A'
	kindConfiguration = 'F'
	kindSession       = 'S'
	kindHurry         = 'X'
	kindStop          = 'Q'
	kindGo            = 'G'
)

// status of an answer.
type status byte

const (
	statusOK      status = iota
	statusRefused        // the value says why, in the program's words
	statusFailed         // for now; the log says why
	statusFull           // no room for another worker at this moment
)

type request struct {
	kind   byte
	serial uint32
	name   string
	ticket []byte
}

type order struct {
	kind   byte
	status status
	serial uint32
	uid    uint32
	value  string
}

var errRecord = errors.New("monitor: a record that is none")

func (r *request) encode() ([]byte, error) {
	if len(r.name) > nameSize || len(r.ticket) > ticketSize {
		return nil, errors.New("monitor: a name or ticket that is too long")
	}
	b := make([]byte, requestSize)
	b[0], b[1] = version, r.kind
	binary.LittleEndian.PutUint16(b[2:], uint16(len(r.name)))
	binary.LittleEndian.PutUint32(b[4:], r.serial)
	binary.LittleEndian.PutUint16(b[8:], uint16(len(r.ticket)))
	copy(b[nameAt:], r.name)
	copy(b[ticketAt:], r.ticket)
	return b, nil
}

// decodeRequest reads what a child sent. Anything but what encode makes is an error: a child of ours has no other way to speak.
func decodeRequest(b []byte) (request, error) {
	if len(b) != requestSize || b[0] != version || !zero(b[10:nameAt]) || !zero(b[requestEnd:]) {
		return request{}, errRecord
	}
	n, t := int(binary.LittleEndian.Uint16(b[2:])), int(binary.LittleEndian.Uint16(b[8:]))
	if n > nameSize || t > ticketSize || !zero(b[nameAt+n:ticketAt]) || !zero(b[ticketAt+t:requestEnd]) {
		return request{}, errRecord
	}
	r := request{kind: b[1], serial: binary.LittleEndian.Uint32(b[4:]), name: string(b[nameAt : nameAt+n])}
	if t > 0 {
		r.ticket = bytes.Clone(b[ticketAt : ticketAt+t])
	}
	return r, nil
}

func (o *order) encode() ([]byte, error) {
	if len(o.value) > MaxValue {
		return nil, errors.New("monitor: a value that is too long")
	}
	b := make([]byte, orderSize)
	b[0], b[1], b[2] = version, o.kind, byte(o.status)
	binary.LittleEndian.PutUint32(b[4:], o.serial)
	binary.LittleEndian.PutUint32(b[8:], o.uid)
	binary.LittleEndian.PutUint16(b[12:], uint16(len(o.value)))
	copy(b[valueAt:], o.value)
	return b, nil
}

func decodeOrder(b []byte) (order, error) {
	if len(b) != orderSize || b[0] != version {
		return order{}, errRecord
	}
	n := int(binary.LittleEndian.Uint16(b[12:]))
	if n > MaxValue {
		return order{}, errRecord
	}
	return order{kind: b[1], status: status(b[2]), serial: binary.LittleEndian.Uint32(b[4:]),
		uid: binary.LittleEndian.Uint32(b[8:]), value: string(b[valueAt : valueAt+n])}, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
