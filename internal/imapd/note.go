package imapd

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"postamt/internal/maillog"
)

// Note is what the half before the login says to the half after it about a session. It is words for logs and for the answer to the login, and nothing
// else is decided by it.
type Note struct {
	Session string
	Client  maillog.Client // Proto says whether there is TLS. Login, too; who it is that a worker serves he knows from elsewhere
	Tag     string         // of the command that logged the client in, to be answered; "": he has logged in elsewhere, and is greeted with PREAUTH
	Again   bool           // UNAUTHENTICATE leads back to that half; no other process is told so
}

var errNote = errors.New("imapd: not a note")

// String is one line, without the user and Again, for ParseNote. It always fits into a record between processes: the wire bounds tags to 64 octets.
func (n Note) String() string {
	c := n.Client
	s := n.Session + " " + strconv.Itoa(int(c.Port)) + " " + c.Proto + " " + c.Listener + " " + n.Tag + " "
	if c.IP.IsValid() {
		s += c.IP.String()
	}
	return s
}

// ParseNote reads what String made, of a session of user.
func ParseNote(s, user string) (Note, error) {
	w := strings.Split(s, " ")
	if len(w) != 6 || w[4] == "" {
		return Note{}, errNote
	}
	port, err := strconv.ParseUint(w[1], 10, 16)
	if err != nil {
		return Note{}, errNote
	}
	n := Note{Session: w[0], Client: maillog.Client{Port: uint16(port), Proto: w[2], Listener: w[3], Login: user}, Tag: w[4]}
	if w[5] != "" {
		if n.Client.IP, err = netip.ParseAddr(w[5]); err != nil {
			return Note{}, errNote
		}
	}
	return n, nil
}
