package pop3d

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"postamt/internal/maillog"
)

// Note is what the half before the login says to the half after it about a session. It is words for logs and for CAPA, and nothing
// is decided by it.
type Note struct {
	Session    string
	Client     maillog.Client // Login, too; who it is that a worker serves he knows from elsewhere
	Mechanisms string         // that the client could have logged in with: RFC 5034 section 3, CAPA goes on to announce them
}

var errNote = errors.New("pop3d: not a note")

// maxNote is what a note may have, to fit into a record between processes.
const maxNote = 300

// String is one line, without the user, for ParseNote. Mechanisms for which there is no room are left out.
func (n Note) String() string {
	c := n.Client
	s := n.Session + " " + strconv.Itoa(int(c.Port)) + " " + c.Proto + " " + c.Listener + " "
	if c.IP.IsValid() {
		s += c.IP.String()
	}
	m := n.Mechanisms
	if room := max(0, maxNote-len(s)-1); len(m) > room {
		m = m[:max(0, strings.LastIndexByte(m[:room+1], ' '))]
	}
	return s + " " + m
}

// ParseNote reads what String made, of a session of user.
func ParseNote(s, user string) (Note, error) {
	w := strings.SplitN(s, " ", 6)
	if len(w) != 6 {
		return Note{}, errNote
	}
	port, err := strconv.ParseUint(w[1], 10, 16)
	if err != nil {
		return Note{}, errNote
	}
	n := Note{Session: w[0], Client: maillog.Client{Port: uint16(port), Proto: w[2], Listener: w[3], Login: user}, Mechanisms: w[5]}
	if w[4] != "" {
		if n.Client.IP, err = netip.ParseAddr(w[4]); err != nil {
			return Note{}, errNote
		}
	}
	return n, nil
}
