package access

import (
	"errors"
	"strconv"
	"strings"

	"postamt/internal/maildir"
)

// Place is a mailbox as a worker gets to know it.
type Place struct {
	Path  string
	Quota maildir.Quota // that the users file or the configuration gives it, as deliver has it; zero: neither does
}

var errPlace = errors.New("access: the monitor speaks another version")

// encode makes the value that the monitor gives a worker for a name. No path has a NUL.
func (p Place) encode() string {
	return p.Path + "\x00" + strconv.FormatInt(p.Quota.Bytes, 10) + "\x00" + strconv.FormatInt(p.Quota.Messages, 10)
}

func parsePlace(value string) (p Place, err error) {
	f := strings.Split(value, "\x00")
	if len(f) != 3 {
		return p, errPlace
	}
	octets, err1 := strconv.ParseInt(f[1], 10, 64)
	messages, err2 := strconv.ParseInt(f[2], 10, 64)
	if err1 != nil || err2 != nil {
		return p, errPlace
	}
	return Place{f[0], maildir.Quota{Bytes: octets, Messages: messages}}, nil
}
