package authwire

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
)

// A Ticket names a login that the client socket allowed. Whoever asked for the login hands it, with the connection to the person, to whoever acts
// for the user from then on, who collects it (UserClient.Collect) and so learns who that is from the server and not from the asker.
type Ticket struct {
	ServerPID uint32 // SPID of the server that allowed it
	ClientPID uint32 // CPID that the asker gave
	ID        uint32 // of the request
	Cookie    string // of the asker's connection, 32 hexadecimal digits
}

// Encode is the Ticket in one line, for whoever passes it on.
func (k Ticket) Encode() []byte {
	return fmt.Appendf(nil, "%d %d %d %s", k.ServerPID, k.ClientPID, k.ID, k.Cookie)
}

var errTicket = errors.New("not a ticket")

// DecodeTicket reads what Encode made.
func DecodeTicket(b []byte) (k Ticket, err error) {
	w := bytes.Split(b, []byte{' '})
	if len(w) != 4 || len(w[3]) == 0 {
		return k, errTicket
	}
	for i, n := range []*uint32{&k.ServerPID, &k.ClientPID, &k.ID} {
		id, ok := parseID(w[i])
		if !ok {
			return Ticket{}, errTicket
		}
		*n = id
	}
	k.Cookie = string(w[3])
	return k, nil
}

// A Login is what a Ticket stands for.
type Login struct {
	User    string
	Request *Request
	Fields  Fields // of the OK
}

// Tickets are the logins that were allowed and not yet collected. One is shared by the Server that allows and the UserServer that gives out. The
// zero value is ready. Safe for concurrent use.
type Tickets struct {
	mu       sync.Mutex
	sessions map[uint32][]*session // by client pid; two connections of one process have different cookies
}

func newCookie() string {
	var b [16]byte
	rand.Read(b[:]) // does not fail
	return hex.EncodeToString(b[:])
}

func (t *Tickets) add(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessions == nil {
		t.sessions = make(map[uint32][]*session)
	}
	t.sessions[s.pid] = append(t.sessions[s.pid], s)
}

func (t *Tickets) remove(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := t.sessions[s.pid]
	for i, x := range rest {
		if x == s {
			rest = append(rest[:i:i], rest[i+1:]...)
			break
		}
	}
	if len(rest) == 0 {
		delete(t.sessions, s.pid)
	} else {
		t.sessions[s.pid] = rest
	}
}

// Collect gives out a login, once. A login that is not ready, or was collected, cancelled or outlived, is ErrNotFound.
func (t *Tickets) Collect(k Ticket) (*Login, error) {
	t.mu.Lock()
	var s *session
	for _, x := range t.sessions[k.ClientPID] {
		// In constant time: 128 bits cannot be guessed, but they could be found digit by digit.
		if subtle.ConstantTimeCompare([]byte(x.cookie), []byte(k.Cookie)) == 1 {
			s = x
		}
	}
	t.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("collect login: %w", ErrNotFound)
	}
	return s.collect(k.ID)
}
