package keyd

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// tickets makes keys of session tickets from secrets that change. Only derived keys leave the process: one for each user
// and service, so that whoever took smtpd over knows nothing of imapd's tickets.
//
// A ticket of TLS 1.2 holds the secret of its session, so its key is worth what all those sessions are. That is why the
// secrets come from nowhere, are on no disk, and are forgotten after three periods.
type tickets struct {
	mu      sync.Mutex
	secrets [][32]byte // the newest first
	born    time.Time  // of the newest
}

const (
	ticketPeriod  = 12 * time.Hour
	ticketPeriods = 3
)

// keys are the service's, the newest first.
func (t *tickets) keys(uid int, service string, now time.Time) ([]byte, error) {
	t.mu.Lock()
	// A clock that was put back makes one secret too many.
	if d := now.Sub(t.born); len(t.secrets) == 0 || d < 0 || d >= ticketPeriod {
		if d >= ticketPeriod*ticketPeriods {
			t.secrets = nil // nobody asked for so long; all are too old
		}
		var s [32]byte
		rand.Read(s[:])
		t.secrets = append([][32]byte{s}, t.secrets...)
		t.secrets = t.secrets[:min(len(t.secrets), ticketPeriods)]
		t.born = now
	}
	secrets := append([][32]byte(nil), t.secrets...)
	t.mu.Unlock()

	info := binary.BigEndian.AppendUint32([]byte("postamt tickets 1\x00"), uint32(uid))
	info = append(info, service...)
	var out []byte
	for _, s := range secrets {
		k, err := hkdf.Key(sha256.New, s[:], nil, string(info), 32)
		if err != nil {
			return nil, err
		}
		out = append(out, k...)
	}
	return out, nil
}
