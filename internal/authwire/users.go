package authwire

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// Users knows who exists. UserServer asks one; UserClient is one. Its methods are called from many goroutines.
//
// A user's fields have Dovecot's names: uid, gid, home, mail, and so on. ErrNotFound, wrapped or not, says that there is no such user; every other error is
// a failure to find out.
type Users interface {
	// Lookup says whose mailbox it is and where it is.
	Lookup(ctx context.Context, q *Query) (User, error)

	// Pass says how the user would log in, without the password (Dovecot's passdb look-up: proxies use it).
	Pass(ctx context.Context, q *Query) (User, error)

	// List calls each for every user, in no order, until it returns an error.
	List(ctx context.Context, q *Query, each func(name string) error) error
}

// A Query is what USER, PASS, LIST and REQUEST say about the look-up.
type Query struct {
	User    string // in LIST a pattern with * and ?, or empty
	Service string // "lmtp", "smtp", ...; required

	LocalIP, RemoteIP     netip.Addr
	LocalPort, RemotePort uint16
	LocalName             string
	Session               string
	Extra                 Fields // parameters this package has no name for

	// Login is what the Ticket stood for, when the look-up collects one; User and Service are those of the login then.
	Login *Login
}

// A User is what a look-up found.
type User struct {
	Name   string // as the server spells it
	Fields Fields
}

func (q *Query) set(f Field) {
	switch f.Name {
	case "service", "protocol":
		q.Service = f.Value
	case "lip":
		setIP(&q.LocalIP, f.Value)
	case "rip":
		setIP(&q.RemoteIP, f.Value)
	case "lport":
		setPort(&q.LocalPort, f.Value)
	case "rport":
		setPort(&q.RemotePort, f.Value)
	case "local_name":
		q.LocalName = f.Value
	case "session":
		q.Session = f.Value
	default:
		q.Extra = append(q.Extra, f)
	}
}

func (q *Query) append(b []byte) []byte {
	b = appendField(b, "service", q.Service)
	b = appendText(b, "session", q.Session)
	b = appendText(b, "local_name", q.LocalName)
	b = appendIP(b, "lip", q.LocalIP)
	b = appendPort(b, "lport", q.LocalPort)
	b = appendIP(b, "rip", q.RemoteIP)
	b = appendPort(b, "rport", q.RemotePort)
	return q.Extra.append(b)
}

// parseQuery reads the words of USER and PASS (id, user, parameters), or of LIST (id, parameters).
func parseQuery(w [][]byte) (id uint32, q *Query, err error) {
	verb := string(w[0])
	needed := 3
	if verb == "LIST" {
		needed = 2
	}
	if len(w) < needed {
		return 0, nil, fmt.Errorf("%s with too few parameters: %w", verb, errProtocol)
	}
	id, ok := parseID(w[1])
	if !ok {
		return 0, nil, fmt.Errorf("%s without an id: %w", verb, errProtocol)
	}
	q = new(Query)
	if verb != "LIST" {
		q.User = unescape(w[2])
	}
	for _, f := range parseFields(w[needed:]) {
		if verb == "LIST" && f.Name == "user" {
			q.User = f.Value
			continue
		}
		q.set(f)
	}
	if q.Service == "" && verb != "LIST" {
		return 0, nil, fmt.Errorf("%s without service=: %w", verb, errProtocol)
	}
	return id, q, nil
}

// parseRequest reads the words of REQUEST: id, client pid, client's request id, cookie, parameters.
func parseRequest(w [][]byte) (id uint32, t Ticket, extra Fields, err error) {
	if len(w) < 5 {
		return 0, t, nil, fmt.Errorf("REQUEST with too few parameters: %w", errProtocol)
	}
	id, ok1 := parseID(w[1])
	pid, ok2 := parseID(w[2])
	request, ok3 := parseID(w[3])
	if !ok1 || !ok2 || !ok3 {
		return 0, t, nil, fmt.Errorf("REQUEST without numbers: %w", errProtocol)
	}
	return id, Ticket{ClientPID: pid, ID: request, Cookie: string(w[4])}, parseFields(w[5:]), nil
}

// plausible says whether there can be a user of that name. Dovecot's look-ups draw the line at what would break theirs; names with control characters only ever come from attacks.
func plausible(name string) bool {
	return name != "" && len(name) <= MaxUser && strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}
