package pop3

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// Command is one command line: Keyword upper case, Args all that follows the one space behind it.
type Command struct{ Keyword, Args string }

// parseCommand divides a line. It may change it. RFC 1939 section 3: keywords are case-insensitive, a single space separates them from an argument.
func parseCommand(line []byte) Command {
	k, args, _ := bytes.Cut(line, []byte{' '})
	for i, c := range k {
		if 'a' <= c && c <= 'z' {
			k[i] = c - 'a' + 'A'
		}
	}
	return Command{keyword(k), string(args)}
}

// keyword is string(k), without an allocation for those that are sent once for each message.
func keyword(k []byte) string {
	switch string(k) {
	case "RETR":
		return "RETR"
	case "DELE":
		return "DELE"
	case "TOP":
		return "TOP"
	case "LIST":
		return "LIST"
	case "UIDL":
		return "UIDL"
	}
	return string(k)
}

// Words are the arguments of a command in which spaces only separate.
func (c Command) Words() []string {
	return strings.FieldsFunc(c.Args, func(r rune) bool { return r == ' ' })
}

// ErrNumber says that an argument is no number of the kind that is wanted.
var ErrNumber = errors.New("not a number")

// ParseNumber reads a message-number, or a number of lines: decimal digits, no sign, no zero in front of others, below 2^31.
func ParseNumber(s string) (int, error) {
	if s == "" || s[0] < '0' || s[0] > '9' || s[0] == '0' && len(s) > 1 {
		return 0, ErrNumber
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, ErrNumber
	}
	return int(n), nil
}
